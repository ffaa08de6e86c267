"""Base: what any package needs: errors, settings, arrays and trees of them, files, random streams."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
