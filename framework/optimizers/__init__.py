"""Optimizers: how a gradient becomes a change of the parameters."""

from framework.optimizers.adam import AdamOptimizer, AdamWOptimizer, NAdamOptimizer
from framework.optimizers.adaptive import AdadeltaOptimizer, AdagradOptimizer, RMSPropOptimizer
from framework.optimizers.base import Optimizer
from framework.optimizers.bound import BoundOptimizer
from framework.optimizers.lion import LionOptimizer
from framework.optimizers.sgd import SGDOptimizer

__all__ = [
    "AdadeltaOptimizer",
    "AdagradOptimizer",
    "AdamOptimizer",
    "AdamWOptimizer",
    "BoundOptimizer",
    "LionOptimizer",
    "NAdamOptimizer",
    "Optimizer",
    "RMSPropOptimizer",
    "SGDOptimizer",
]
