"""Engines: what makes the steps of a run, and how the gradients of several workers become one."""

from framework.engines.base import Engine, Strategy

__all__ = ["Engine", "Strategy"]
