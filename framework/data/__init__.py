"""Data: arrays or a Dataset, checked, and given as batches."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
