"""
Two spirals: depth and the choice of the activation
===================================================

Two arms wound around each other one and a half times. The same network learns them with three activations, which makes
the difference between half of the points and all of them.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    Neuron,
    ReLU,
    Sequential,
    Sigmoid,
    Tanh,
    Trainer,
)
from framework.formulas import Sine
from framework.views import plots

rng = np.random.default_rng(0)
turn, y = np.sqrt(rng.uniform(size=400)) * 3 * np.pi, np.arange(400) % 2
side = np.where(y == 0, 1.0, -1.0)
x = (side * turn * np.array([np.cos(turn), np.sin(turn)]) / (3 * np.pi)).T + 0.02 * rng.normal(size=(400, 2))

trainer = Trainer(
    loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=150, metrics=[Accuracy()]
)
runs = {}
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for axis, activation in zip(axes, (ReLU(), Tanh(), Sine(frequency=3.0)), strict=True):
    model = Sequential(Dense(2, 24, activation), Dense(24, 24, activation), Neuron(24, Sigmoid()))
    run = runs[str(activation)] = trainer.fit(model, (x, y))
    plots.decision_boundary(model, (x, y), span=((-1.2, 1.2), (-1.2, 1.2)), axis=axis)
    axis.set_xlabel(f"{activation}: {run.history[-1]['accuracy']:.3f}")

# %%
# The losses of the three on the points that they are trained on:

axis = plots.compare_runs(runs, "loss")
axis.set_yscale("log")

# %%
# ``Tanh`` has not begun to follow the arms after 150 epochs. ``ReLU`` and ``Sine`` have all points right. But these are
# the points of the training. A model that follows both arms knows nothing about the plane beyond them, where the three
# disagree.
