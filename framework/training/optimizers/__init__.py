"""Optimizers: how a gradient becomes a change of the parameters."""

from framework.training.optimizers.base import BoundOptimizer, Optimizer

__all__ = ["BoundOptimizer", "Optimizer"]
