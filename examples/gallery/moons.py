"""
Two moons: how many hidden units?
=================================

Two crescents that reach into each other, with noise. The same training with one, four and thirty-two hidden units, and
what each makes of the plane.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    Neuron,
    Sequential,
    Sigmoid,
    Tanh,
    Trainer,
    split,
)
from framework.views import plots

rng = np.random.default_rng(0)
angle, y = rng.uniform(0, np.pi, 600), np.arange(600) % 2
x = np.where(y[:, None] == 0, np.c_[np.cos(angle), np.sin(angle)], np.c_[1 - np.cos(angle), 0.5 - np.sin(angle)])
x += 0.2 * rng.normal(size=x.shape)
train, test = split((x, y), 0.5, seed=0, stratify=True)

trainer = Trainer(
    loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.02), epochs=100, metrics=[Accuracy()]
)
figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
for axis, units in zip(axes, (1, 4, 32), strict=True):
    model = Sequential(Dense(2, units, Tanh()), Neuron(units, Sigmoid()))
    run = trainer.fit(model, train, validation=test)
    plots.decision_boundary(model, test, axis=axis)
    last = run.history[-1]
    axis.set_xlabel(f"{units} units: {last['accuracy']:.3f}, on new points {last['val_accuracy']:.3f}")

# %%
# The points are those that were held out. One unit draws a line. Four could bend it, and have hardly begun to after 100
# epochs. Thirty-two follow the crescents: more units also learn faster, as some of them start in a useful place. The
# moons overlap, as the noise has a standard deviation of 0.2, so no model reaches 1 on new points.
