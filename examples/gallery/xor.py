"""
XOR: what one neuron cannot do
==============================

XOR is true where exactly one of two inputs is. No straight line separates its cases, so a single neuron, which draws a
straight line, must fail. Four hidden units are enough.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import BinaryCrossEntropy, Dense, Neuron, Sequential, SGDOptimizer, Sigmoid, Tanh, Trainer
from framework.views import plots

x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = np.array([0, 1, 1, 0])

neuron = Neuron(2, Sigmoid())
network = Sequential(Dense(2, 4, Tanh()), Neuron(4, Sigmoid()))
trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=500)
runs = {"one neuron": trainer.fit(neuron, (x, y)), "four hidden units": trainer.fit(network, (x, y))}

for name, run in runs.items():
    print(f"{name}: {run.model(x).round(2)}")

# %%
# The neuron answers 0.5 to everything, the least bad it can do. Its loss stays at log 2 = 0.69, that of a coin.

plots.compare_runs(runs, "loss")
# sphinx_gallery_thumbnail_number = 2

# %%
# Left, the neuron. Right, the network, whose hidden units bend the boundary around the two true cases.

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axis, (name, run) in zip(axes, runs.items(), strict=True):
    plots.decision_boundary(run.model, (x, y), span=((-0.5, 1.5), (-0.5, 1.5)), axis=axis)
    axis.set_xlabel(name)
