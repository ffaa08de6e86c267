"""Models: a neuron, layers of every kind, and layers in sequence.

docs/models.md says how to load the weights of PyTorch's layers.
"""

from framework.models.base import Model
from framework.models.composite import Composite
from framework.models.layer import Layer

__all__ = ["Composite", "Layer", "Model"]
