"""Callbacks: what happens at the hooks of the training algorithm."""

from framework.callbacks.base import HOOKS, Callback, on

__all__ = ["HOOKS", "Callback", "on"]
