"""Experiments: data, model and training in one file, and a folder for each run of it."""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
