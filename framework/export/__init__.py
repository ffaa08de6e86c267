"""Export: a trained model for programs that do not have this package; weights and networks from some of them."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
