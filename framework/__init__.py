"""An object-oriented training framework on NumPy: write the formula once; the framework does the rest.

Example:
    >>> from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, Trainer
    >>> x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 1]
    >>> neuron = Neuron(2, Sigmoid())
    >>> trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=200)
    >>> run = trainer.fit(neuron, (x, y))
    >>> [float(p) > 0.5 for p in trainer.predict(neuron, x)]
    [False, True, True, True]
"""

from framework.base.lazy import attach as _attach

__getattr__, __dir__, __all__ = _attach(__name__)
