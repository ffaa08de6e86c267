"""Optimizers: how a gradient becomes a change of the parameters."""

from framework.optimizers.base import Optimizer, SGDOptimizer

__all__ = ["Optimizer", "SGDOptimizer"]
