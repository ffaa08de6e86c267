"""
A competition of activations, one of them your own
==================================================

A network learns the sum of a wave and a slope with six activations: four of the package, and two that are written here,
each in one line. All start from the same three seeds and make the same number of steps.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import (
    GELU,
    Activation,
    AdamOptimizer,
    Dense,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    Tanh,
    Trainer,
    show,
)
from framework.formulas import SiLU
from framework.views import plots


class Snake(Activation):
    """f(h) = h + sin^2(h)."""

    def __call__(self, h):
        return h + np.sin(h) ** 2


class Bump(Activation):
    """f(h) = h exp(-h^2 / 2)."""

    def __call__(self, h):
        return h * np.exp(-(h**2) / 2)


print(show(Snake()), show(Bump()), sep="\n\n")

# %%
# The derivatives were derived from the formulas:

figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
Snake().plot(axis=axes[0])
Bump().plot(axis=axes[1])

# %%
# The training has 300 noisy points. The error is the distance from the true curve, between its points and to the right
# of them.

rng = np.random.default_rng(0)
x = rng.uniform(-4, 4, size=(300, 1))
inside, beyond = np.linspace(-4, 4, 200)[:, None], np.linspace(4, 6, 50)[:, None]


def curve(x):
    """Return the true curve."""
    return np.sin(2 * x[:, 0]) + 0.3 * x[:, 0]


y = curve(x) + 0.1 * rng.normal(size=300)
trainer = Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=100)
runs = {}
print("activation  inside  beyond    (three seeds)")
for activation in (ReLU(), Tanh(), GELU(), SiLU(), Snake(), Bump()):
    errors = []
    for seed in range(3):
        model = Sequential(Dense(1, 32, activation), Dense(32, 32, activation), Neuron(32), seed=seed)
        runs[type(activation).__name__] = trainer.fit(model, (x, y))
        errors.append([np.sqrt(np.mean((model(at) - curve(at)) ** 2)) for at in (inside, beyond)])
    means = np.mean(errors, axis=0)
    print(f"{type(activation).__name__:10}  {means[0]:.3f}   {means[1]:.3f}", np.round(errors, 2).tolist())

# %%
# The losses of the last seed:

plots.compare_runs(runs, "loss").set_yscale("log")

# %%
# A winner on this curve is a winner on this curve. A periodic unit fits a periodic target, and three seeds are few.
