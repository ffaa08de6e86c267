"""Activations: what turns a unit's weighted sum h into its output a = f(h)."""

from framework.formulas.activations.base import Activation

__all__ = ["Activation"]
