"""Kernels of networks of any make against the NumPy engine."""

import numpy as np
import pytest
from compiled_pieces import own_cache  # noqa: F401 (a fixture)

from framework import (
    Accuracy,
    Activation,
    AdamWOptimizer,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Huber,
    MeanSquaredError,
    Optimizer,
    ReLU,
    RowLoss,
    Sequential,
    SGDOptimizer,
    Softmax,
    Softplus,
    Swish,
    Tanh,
    Trainer,
)

pytest.importorskip("llvmlite")


class Bent(Activation):
    """A formula with kinks and a choice."""

    place: float = 0.7

    def __call__(self, h):
        return np.where(h > self.place, np.log1p(np.abs(h)), 0.3 * np.minimum(h, 0.3) ** 2)


class Standardized(Activation):
    """A formula with two means of a row."""

    def __call__(self, h):
        centered = h - np.mean(h, axis=-1, keepdims=True)
        return centered / np.sqrt(np.mean(centered * centered, axis=-1, keepdims=True) + 0.1)


class Distance(RowLoss):
    """A loss of a row with a sum and a maximum."""

    def value(self, prediction, target):
        difference = prediction - target
        return np.sqrt(np.sum(difference * difference, axis=-1) + 1.0) + 0.1 * np.max(difference, axis=-1)


class Largest(Optimizer):
    """An update with a choice by the step and three memories."""

    memory = ("size", "mean", "before")

    def update(self, values, gradients, rate, step, size, mean, before):
        size[...] = np.maximum(0.9 * size, np.abs(gradients))
        mean += 0.1 * (gradients - mean)
        np.copyto(before, values)
        values -= np.where(step < 20, rate, 0.5 * rate) * mean / (size + 1e-3) * (1.0 + 0.1 * np.sign(before))


@pytest.mark.many
@pytest.mark.parametrize("seed", range(4))
def test_networks_of_any_make_train_as_by_numpy(seed):
    rng = np.random.default_rng(seed)

    def pick(*choices):
        return choices[rng.integers(len(choices))]

    depth, rows = int(pick(1, 2, 3)), int(pick(9, 33, 50))
    widths = [int(pick(1, 2, 5, 17)) for _ in range(depth)] + [int(pick(2, 3))]
    choices = Tanh(), Swish(beta=1.3), Softplus(), ReLU(), Bent(), Softmax(), Standardized()
    activations = [pick(*choices[: None if width > 1 else 5]) for width in widths[1:]]
    loss = pick(MeanSquaredError(), Huber(delta=0.5), Distance(), CrossEntropy(label_smoothing=0.1))
    x, y, weight = rng.normal(size=(rows, widths[0])), rng.normal(size=(rows, widths[-1])), rng.random(rows)
    metrics = []
    if isinstance(loss, CrossEntropy):
        activations[-1], y, metrics = Softmax(), rng.integers(0, widths[-1], rows), [Accuracy()]
    optimizer = pick(
        SGDOptimizer(learning_rate=CosineSchedule(initial=0.02, length=9)),
        SGDOptimizer(learning_rate=0.02, momentum=0.8, nesterov=True, clip_value=0.05),
        AdamWOptimizer(learning_rate=0.003, clip_norm=0.3),
        Largest(learning_rate=0.003),
    )
    model = Sequential(
        *(Dense(*pair, activation) for *pair, activation in zip(widths, widths[1:], activations, strict=False))
    )
    if rng.random() < 0.3:
        model.parameters.freeze("0.bias")
    settings = {"batch_size": int(pick(1, 4, 64)), "epochs": 3, "shuffle": bool(pick(True, False)), "metrics": metrics}
    data = pick((x, y), (x, y, weight))
    runs = [
        Trainer(loss=loss, optimizer=optimizer, engine=engine, **settings).fit(model.copy(), data)
        for engine in ("numpy", "compiled")
    ]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    expected, found = (run.model.parameters.vector for run in runs)
    assert np.abs(found - expected).max() <= 1e-10 * np.abs(expected).max()
    for key in runs[0].history.rows[0].keys() - {"seconds"}:
        assert runs[1].history.column(key) == pytest.approx(runs[0].history.column(key), rel=1e-9)
