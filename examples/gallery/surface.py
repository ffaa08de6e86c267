"""
The surface that descent goes down
==================================

A neuron of two weights has a loss that can be drawn: a value for each pair of weights. Three optimizers start at the
same place. The same is then done for two directions in the space of a whole network.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Tanh,
    Trainer,
    on,
)
from framework.data import load_breast_cancer
from framework.views import plots

x, y = load_breast_cancer()
x, y = x[::4, [0, 1]], y[::4]
x = (x - x.mean(axis=0)) / x.std(axis=0) * [3.0, 0.5]  # one column is six times as wide as the other
loss = BinaryCrossEntropy()

optimizers = {
    "gradient descent": SGDOptimizer(learning_rate=0.3),
    "with momentum": SGDOptimizer(learning_rate=0.1, momentum=0.8),
    "Adam": AdamOptimizer(learning_rate=0.2),
}
path = []


@on("epoch_end")  # all rows are one batch, so an epoch is a step
def record(run):
    """Keep the weights."""
    path.append(run.model.parameters.vector.copy())


figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained")
for axis, (name, optimizer) in zip(axes, optimizers.items(), strict=True):
    neuron = Neuron.from_weights([2.0, 3.0], activation=Sigmoid(), train_bias=False)
    path[:] = [neuron.parameters.vector.copy()]
    trainer = Trainer(loss=loss, optimizer=optimizer, epochs=60, batch_size=len(y), callbacks=[record])
    run = trainer.fit(neuron, (x, y))
    plots.loss_surface(neuron, loss, (x, y), np.array(path)[:, :2], span=((-7, 3), (-6, 4)), axis=axis)
    axis.set_xlabel(f"{name}: {run.history[-1]['loss']:.3f} after 60 steps")

# %%
# Because one column is wider, the surface is a valley with steep sides. Gradient descent falls into it and then creeps
# along its floor. With momentum it runs past the floor, turns, and is hardly further after 60 steps. Adam divides the
# step of each weight by the size of its gradients, so it makes as much way along the valley as across it.
#
# A network
# ---------
#
# A network has 49 weights. Two of them can be drawn while the others stay as they were learnt:

rng = np.random.default_rng(0)
points = rng.uniform(-2, 2, size=(200, 1))
target = np.sin(2 * points[:, 0])
network = Sequential(Dense(1, 16, Tanh()), Neuron(16))
path[:] = []
trainer = Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.02), epochs=60, callbacks=[record])
run = trainer.fit(network, (points, target))
moved = np.argsort(-np.ptp(np.array(path), axis=0))[:2]
plots.loss_surface(network, MeanSquaredError(), (points, target), np.array(path), places=tuple(map(int, moved)))

# %%
# These are the two numbers that moved most. The contours are those of the learnt network, so only the end of the path
# lies on the surface that is drawn: earlier, the other weights were different.
