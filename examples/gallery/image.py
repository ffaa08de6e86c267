"""
A network that is an image
==========================

The network maps the coordinates of a point to its brightness, and learns one picture: a part of the Mandelbrot set, 64
by 64 points. Units that are sines learn fine detail that rectifiers blur (Sitzmann et al., 2020). As a function of the
plane, the network can be drawn at any resolution.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import AdamOptimizer, CosineSchedule, Dense, MeanSquaredError, Neuron, ReLU, Sequential, Trainer
from framework.formulas import Sine
from framework.models import Uniform
from framework.views import plots


def picture(size):
    """Return the picture, from 0 to 1: how fast a point leaves under z <- z^2 + c."""
    c = np.linspace(-0.2, 0.4, size)[None, :] + 1j * np.linspace(0.6, 1.1, size)[:, None]
    z, steps = np.zeros_like(c), np.zeros(c.shape)
    for _ in range(40):
        inside = abs(z) < 2
        z[inside] = z[inside] ** 2 + c[inside]
        steps += inside
    return np.log(steps) / np.log(40)


def points(size):
    """Return the coordinates of all points, from -1 to 1."""
    return np.stack(np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size)), axis=-1).reshape(-1, 2)


x, y = points(64), picture(64).ravel()
trainer = Trainer(
    loss=MeanSquaredError(),
    optimizer=AdamOptimizer(learning_rate=CosineSchedule(initial=0.003)),
    epochs=60,
    batch_size=256,
)

# %%
# The weights of the sines start as in the paper's section 3.2: so that each layer's sums spread over a few periods.


def layer(inputs, units, frequency, bound):
    """Return a layer of sines."""
    return Dense(inputs, units, Sine(frequency=frequency), initializer=Uniform(low=-bound, high=bound))


networks = {
    "ReLU": Sequential(Dense(2, 64, ReLU()), Dense(64, 64, ReLU()), Neuron(64)),
    "Sine": Sequential(layer(2, 64, 15.0, 1 / 2), layer(64, 64, 15.0, np.sqrt(6 / 64) / 15), Neuron(64)),
}
runs = {name: trainer.fit(model, (x, y)) for name, model in networks.items()}
plots.compare_runs(runs, "loss").set_yscale("log")

# %%
# The picture, and both networks on the same points:

# sphinx_gallery_thumbnail_number = 2
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for axis, (name, values) in zip(
    axes, {"picture": y, **{name: run.model(x) for name, run in runs.items()}}.items(), strict=True
):
    axis.imshow(values.reshape(64, 64), cmap="gray", vmin=0, vmax=1)
    axis.axis("off")
    noise = np.mean((values - y) ** 2)
    axis.set_title(name if noise == 0 else f"{name}: {-10 * np.log10(noise):.1f} dB")

# %%
# Decibels are those of the peak signal-to-noise ratio. At four times the resolution the network fills in what it was
# never shown; the true picture is on the left.

figure, axes = plt.subplots(1, 2, figsize=(9, 4.5), layout="constrained")
for axis, values in zip(axes, (picture(256), runs["Sine"].model(points(256)).reshape(256, 256)), strict=True):
    axis.imshow(values, cmap="gray", vmin=0, vmax=1)
    axis.axis("off")
