"""
XOR
===

The smallest problem that one neuron cannot solve.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import BinaryCrossEntropy, Dense, Neuron, Sequential, SGDOptimizer, Sigmoid, Tanh, Trainer

x, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])
model = Sequential(Dense(2, 4, Tanh()), Neuron(4, Sigmoid()))
run = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=500).fit(model, (x, y))
plt.plot(run.history["loss"])
