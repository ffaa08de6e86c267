"""Callbacks: what happens beside the training algorithm, at its hooks."""

from framework.callbacks.base import HOOKS, Callback, on
from framework.callbacks.plateau import ReduceOnPlateau
from framework.callbacks.reporting import CSVLog, ProgressBar
from framework.callbacks.saving import Checkpoint
from framework.callbacks.stopping import EarlyStopping, StopOnConvergence

__all__ = [
    "HOOKS",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "ProgressBar",
    "ReduceOnPlateau",
    "StopOnConvergence",
    "on",
]
