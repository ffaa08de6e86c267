"""Training: the loop, what it checks first, how it ends, and how it resumes."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
