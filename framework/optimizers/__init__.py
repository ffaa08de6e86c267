"""Optimizers: how a gradient becomes a change of the parameters."""

from framework.optimizers.base import Optimizer
from framework.optimizers.bound import BoundOptimizer

__all__ = ["BoundOptimizer", "Optimizer"]
