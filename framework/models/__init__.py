"""Models: a neuron, layers of every kind, and layers in sequence.

docs/models.md says how to load the weights of PyTorch's layers.
"""

from framework.models.affine import Dense, Neuron
from framework.models.attention import MultiHeadAttention, PositionalEncoding
from framework.models.base import Model
from framework.models.composite import Composite
from framework.models.convolution import Conv1D, Conv2D
from framework.models.dropout import Dropout
from framework.models.embedding import Embedding
from framework.models.layer import Layer
from framework.models.normalization import BatchNorm, LayerNorm
from framework.models.pooling import AveragePool, GlobalAverage, MaxPool
from framework.models.quadratic import RBF, Bilinear
from framework.models.recurrent import GRU, LSTM, SimpleRNN
from framework.models.residual import Residual
from framework.models.sequential import Sequential
from framework.models.shaping import Flatten, Permute, Reshape

__all__ = [
    "GRU",
    "LSTM",
    "RBF",
    "AveragePool",
    "BatchNorm",
    "Bilinear",
    "Composite",
    "Conv1D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Embedding",
    "Flatten",
    "GlobalAverage",
    "Layer",
    "LayerNorm",
    "MaxPool",
    "Model",
    "MultiHeadAttention",
    "Neuron",
    "Permute",
    "PositionalEncoding",
    "Reshape",
    "Residual",
    "Sequential",
    "SimpleRNN",
]
