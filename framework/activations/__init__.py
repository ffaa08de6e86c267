"""Activations: what turns a unit's weighted sum h into its output a = f(h)."""

from framework.activations.base import Activation, RowActivation
from framework.activations.basic import Identity, ReLU, Sigmoid, Softmax, Tanh

__all__ = ["Activation", "Identity", "ReLU", "RowActivation", "Sigmoid", "Softmax", "Tanh"]
