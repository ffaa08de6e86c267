"""Formulas: activations, losses, metrics and schedules, each written once in NumPy, and the checks of derivatives."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
