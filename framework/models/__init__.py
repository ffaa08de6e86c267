"""Models: a neuron, a layer of units, and layers in sequence."""

from framework.models.affine import Dense, Neuron
from framework.models.base import Model
from framework.models.layer import Layer
from framework.models.sequential import Sequential

__all__ = ["Dense", "Layer", "Model", "Neuron", "Sequential"]
