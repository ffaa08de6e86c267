"""Models: a neuron, layers of every kind, and layers in sequence.

docs/models.md says how to load the weights of PyTorch's layers.
"""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
