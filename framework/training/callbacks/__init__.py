"""Callbacks: what happens at the hooks of the training algorithm."""

from framework.training.callbacks.base import HOOKS, Callback, on

__all__ = ["HOOKS", "Callback", "on"]
