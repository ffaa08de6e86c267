"""Callbacks: what happens beside the training algorithm, at its hooks."""

from framework.callbacks.base import HOOKS, Callback, on

__all__ = ["HOOKS", "Callback", "on"]
