"""Callbacks: what happens beside the training algorithm, at its hooks."""

from framework.callbacks.base import HOOKS, Callback, on
from framework.callbacks.plateau import ReduceOnPlateau
from framework.callbacks.reporting import CSVLog, ProgressBar
from framework.callbacks.stopping import EarlyStopping, StopOnConvergence

__all__ = ["HOOKS", "CSVLog", "Callback", "EarlyStopping", "ProgressBar", "ReduceOnPlateau", "StopOnConvergence", "on"]
