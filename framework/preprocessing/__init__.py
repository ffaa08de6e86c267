"""Preprocessing: a table's columns as numbers that a model takes, as learnt from the training data."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
