"""Engines make the steps of a run; a strategy combines the gradients of several workers."""

from framework.engines.base import Engine, Strategy

__all__ = ["Engine", "Strategy"]
