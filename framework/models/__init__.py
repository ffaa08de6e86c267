"""Models: a neuron, layers of units, and layers in sequence."""

from framework.models.affine import Dense, Neuron
from framework.models.base import Model
from framework.models.dropout import Dropout
from framework.models.embedding import Embedding
from framework.models.flatten import Flatten
from framework.models.layer import Layer
from framework.models.normalization import BatchNorm, LayerNorm
from framework.models.residual import Residual
from framework.models.sequential import Sequential

__all__ = [
    "BatchNorm",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "Layer",
    "LayerNorm",
    "Model",
    "Neuron",
    "Residual",
    "Sequential",
]
