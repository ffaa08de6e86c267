"""Random models, losses, optimizers and data: kernels train as the NumPy engine does.

Most kernels are compiled without LLVM's passes, which take most of the time. Some are also read as Python, where an
index beyond an array is an error.

In float32 both engines are compared with the same training in float64. Every operation rounds by at most half a
unit in the last place, and the training magnifies these errors: by 1 in most cases, by 500 where a layer divides by a
small deviation. The error of the NumPy engine measures this factor. It may be small by chance, but the last rounding of
a stored number is there in any case. So the kernel is allowed 8 times the sum of both.
"""

import numpy as np
import pytest
from kernels_of import in_python, without_passes  # noqa: F401 (fixtures)

from framework import (
    L2,
    Accuracy,
    Activation,
    AdamWOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Dropout,
    Embedding,
    Heads,
    Huber,
    Join,
    Layer,
    LayerNorm,
    MeanSquaredError,
    Neuron,
    Residual,
    RowLoss,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    Trainer,
)
from framework.base.trees import map_leaves
from framework.formulas import OutputLosses, Swish
from framework.models import L1
from framework.training import RMSPropOptimizer

pytest.importorskip("llvmlite")


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


class Whitened(Layer):
    """A layer with a mean of the batch and one of the row, a parameter and random numbers."""

    mixes_rows = True
    units: int

    @property
    def input_shape(self):
        return (self.units,)

    def shape_after(self, shape):
        return shape

    def shapes(self):
        return {"gain": (self.units,)}

    def draws(self, shape):
        return {"noise": shape}

    def formula(self, x, gain, noise):
        centred = x - x.mean(axis=0) - 0.5 * x.mean(axis=1, keepdims=True)
        return (1.0 + gain) * centred + 0.1 * (centred * noise)


class Case:
    """A random training. Data and first weights are the same in both dtypes: numbers of float32."""

    def __init__(self, seed, dtype="float64"):
        self.rng = np.random.default_rng(seed)
        self.rows, self.size = int(self.pick(8, 12, 20)), int(self.pick(1, 4, 4, 4, 32))
        self.wide, self.mixes = int(self.pick(1, 2, 3)), False
        trunk, x, width = self.inputs()
        layers = [trunk] if trunk is not None else []
        for _ in range(int(self.pick(0, 1, 2, 3))):
            layer, width = self.layer(width)
            layers.append(layer)
        out, self.loss, y, self.metrics = self.output(width)
        self.model = Sequential(*layers, out)
        weight = self.pick(
            None, self.rng.random(self.rows), self.rng.random(self.rows) * (self.rng.random(self.rows) > 0.3)
        )
        self.data = (x, y) if weight is None else (x, y, weight)
        self.data = tuple(map_leaves(rounded, part) for part in self.data)
        single = self.model.in_dtype("float32")
        if dtype == "float32":
            self.model = single
        elif self.model.settled:
            self.model.parameters.vector[...] = single.parameters.vector
        if self.model.settled and self.rng.random() < 0.2:
            self.model.parameters.freeze(self.pick(*self.model.parameters))
        self.size = max(self.size, 4) if self.mixes else self.size

    def pick(self, *choices):
        return choices[self.rng.integers(len(choices))]

    def inputs(self):
        if self.rng.random() < 0.7:
            return None, self.rng.normal(size=(self.rows, self.wide)), self.wide
        x = {"numbers": self.rng.normal(size=(self.rows, 2)), "city": self.rng.integers(0, 3, self.rows)}
        x["age"] = self.rng.normal(size=self.rows)
        branch = self.pick(None, Dense(units=2, activation=Tanh()), Sequential(Dense(units=1), Softplus()))
        width = 2 + 3 + (1 if branch is None else 2 if isinstance(branch, Dense) else 1)
        numbers = self.pick(None, LayerNorm(2), Residual(Dense(2, 2)))
        return Join(numbers=numbers, city=Embedding(3, 3), age=branch), x, width

    def activation(self, width):
        rows = (Softmax(), Standardized()) if width > 1 else ()
        return self.pick(Tanh(), Sigmoid(), Swish(beta=1.3), Softplus(), *rows)

    def layer(self, width):
        units = int(self.pick(1, 2, 5))
        kind = self.rng.integers(9)
        if kind < 4 or width == 1:
            return Dense(width, units, self.activation(units)), units
        if kind == 4:
            return Dense(width, units), units
        self.mixes = self.mixes or kind in (5, 6)
        block = Sequential(Dense(width, width, Tanh()), self.pick(LayerNorm(width), Tanh(), Dropout(0.3)))
        made = {
            5: BatchNorm(width),
            6: Whitened(units=width),
            7: Residual(block),
            8: self.pick(LayerNorm(width), Dropout(0.4), Sequential(self.activation(width)), Residual(Tanh())),
        }
        return made[int(kind)], width

    def output(self, width):
        kind = self.rng.integers(5)
        if kind == 0:
            return Neuron(width, Sigmoid()), BinaryCrossEntropy(), self.rng.random(self.rows) > 0.5, []
        if kind == 1:
            loss = CrossEntropy(label_smoothing=self.pick(0.0, 0.1))
            return Dense(width, 3, Softmax()), loss, self.rng.integers(0, 3, self.rows), [Accuracy()]
        units = int(self.pick(1, 2, 4))
        y = self.rng.normal(size=(self.rows, units))
        if kind == 2:
            losses = (MeanSquaredError(), Huber(delta=0.5), *((Distance(),) if units > 1 else ()))
            return Dense(width, units, self.activation(units)), self.pick(*losses), y, [MeanSquaredError()]
        if kind == 3 and units > 1:
            ends = self.pick(LayerNorm(units), Dropout(0.2), Softmax(), Residual(Dense(units, units)))
            return Sequential(Dense(width, units), ends), MeanSquaredError(), y, []
        heads = Heads(a=Neuron(width), b=Sequential(self.pick(Tanh(), Softplus()), Dense(width, units, Tanh())))
        loss = OutputLosses(a=MeanSquaredError(), b=Huber(), weights={"a": 0.3, "b": 2.0})
        return heads, loss, {"a": self.rng.normal(size=self.rows), "b": y}, []

    def run(self, engine):
        optimizers = (
            SGDOptimizer(learning_rate=0.02),
            SGDOptimizer(learning_rate=CosineSchedule(initial=0.02, length=9)),
            SGDOptimizer(learning_rate=0.02, momentum=0.8, nesterov=True, clip_value=0.05),
            AdamWOptimizer(learning_rate=0.003, epsilon=1e-3, clip_norm=0.3),
            RMSPropOptimizer(learning_rate=0.003, epsilon=1e-3),
        )
        penalties = ([], [], [L2(strength=0.1)], [L2(strength=0.1, parameters="*"), L1(strength=0.01)])
        trainer = Trainer(
            loss=self.loss,
            optimizer=optimizers[self.rng.integers(len(optimizers))],
            regularizers=penalties[self.rng.integers(len(penalties))],
            metrics=self.metrics,
            shuffle=bool(self.rng.random() < 0.5),
            batch_size=self.size,
            epochs=2,
            engine=engine,
        )
        return trainer.fit(self.model, self.data)


def rounded(array):
    """Return the numbers of an array rounded to float32."""
    return array.astype(np.float32).astype(float) if array.dtype == float else array


def require_agreement(seed):
    runs = [Case(seed).run(engine) for engine in ("numpy", "compiled")]
    assert [run.engine for run in runs] == ["numpy", "compiled"], seed
    expected, found = (run.model.parameters.vector for run in runs)
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max(), seed
    for name, value in runs[0].model.buffers.items():
        np.testing.assert_allclose(runs[1].model.buffers[name], value, rtol=1e-8, atol=1e-12)
    for key in runs[0].history.rows[0].keys() - {"seconds"}:
        assert runs[1].history.column(key) == pytest.approx(runs[0].history.column(key), rel=1e-8), (seed, key)


def require_float32(seed):
    exact = Case(seed).run("numpy")
    runs = [Case(seed, "float32").run(engine) for engine in ("numpy", "compiled")]
    assert [run.engine for run in runs] == ["numpy", "compiled"], seed
    for name, of in RESULTS.items():
        truth, (error, found) = of(exact), (np.abs(of(run).astype(float) - of(exact)).max(initial=0.0) for run in runs)
        assert found <= 8 * (error + 2.0**-24 * max(1.0, np.abs(truth).max(initial=0.0))), (seed, name)


RESULTS = {
    "weights": lambda run: run.model.parameters.vector,
    "buffers": lambda run: np.concatenate([np.zeros(0), *(part.reshape(-1) for part in run.model.buffers.values())]),
    "loss": lambda run: np.array(run.history.column("loss")),
}


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("without_passes")
@pytest.mark.parametrize("start", range(0, 300, 10))
def test_kernels_train_as_numpy_does(start):
    for seed in range(start, start + 10):
        require_agreement(seed)


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("without_passes")
@pytest.mark.parametrize("start", range(0, 120, 10))
def test_kernels_of_float32_round_as_numpy_does(start):
    for seed in range(start, start + 10):
        require_float32(seed)


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("in_python")
@pytest.mark.parametrize("start", range(2000, 2060, 10))
def test_kernels_read_as_python_stay_within_their_arrays_and_train_as_numpy_does(start):
    for seed in range(start, start + 10):
        require_agreement(seed)


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_kernels_with_all_passes_train_as_numpy_does(seed):
    require_agreement(seed)


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_kernels_of_float32_with_all_passes_round_as_numpy_does(seed):
    require_float32(seed)
