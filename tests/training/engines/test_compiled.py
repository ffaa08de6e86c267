"""The compiled engine gives the NumPy engine's weights: every formula of the catalogue, found by itself."""

import re
from pathlib import Path

import numpy as np
import pytest
from catalogue import catalogue

import framework.formulas
from framework import (
    L2,
    Accuracy,
    Activation,
    AdamOptimizer,
    BinaryCrossEntropy,
    CosineSchedule,
    CrossEntropy,
    Dense,
    HalfSquaredError,
    Identity,
    Layer,
    Loss,
    MeanSquaredError,
    Neuron,
    Optimizer,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    Trainer,
)
from framework.formulas import Focal, MultiQuantile, OutputLosses, Poisson, Sine, Sort, Swish
from framework.graph.operations import OPERATIONS
from framework.training import RMSPropOptimizer

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(76, 3))  # in batches of 8 the last one has 4 rows
NUMBERS = RNG.normal(size=(76, 2))
CLASSES = RNG.integers(0, 3, 76)
DISTRIBUTIONS = RNG.dirichlet(np.ones(3), 76)
WEIGHTS = RNG.random(76) * (RNG.random(76) > 0.3)
IDENTITY = Identity()
PLAIN = SGDOptimizer(learning_rate=0.05)


PAGE = (Path(__file__).parents[3] / "docs" / "compiled.md").read_text(encoding="utf-8")


def promised(kind):
    """The number of epochs after which the page says that the engines agree."""
    return int(re.search(rf"every {kind}\b.*?after (\d+)", PAGE, re.DOTALL)[1])


def both(make, loss, optimizer, data, **settings):
    """Train twins with both engines for 1,000 steps or so."""
    settings = {"batch_size": 8, "epochs": 100} | settings
    runs = []
    for engine in ("numpy", "compiled"):
        trainer = Trainer(loss=loss, optimizer=optimizer, engine=engine, **settings)
        runs.append(trainer.fit(make(), data))
        assert runs[-1].engine == engine
    return runs


def require_agreement(runs, tolerance=1e-10):
    expected, found = (run.model.parameters.vector for run in runs)
    scale = np.abs(expected).max()
    assert np.abs(found - expected).max() <= tolerance * scale
    assert runs[0].step == runs[1].step
    for one, other in zip(*(run.history.rows for run in runs), strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            assert other[key] == pytest.approx(one[key], rel=10 * tolerance, abs=1e-12)


def network(activation, output=IDENTITY, dtype="float64"):
    return Sequential(Dense(3, 4, activation, dtype=dtype), Dense(4, 2, output, dtype=dtype))


CHAINS = [catalogue(Activation)[start::6] for start in range(6)]
"""Several activations share a kernel, because one takes seconds to compile."""


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(cls.__name__ for cls in chain))
def test_every_activation(chain):
    sizes = [3, *[4] * len(chain)]
    model = Sequential(*(Dense(*sizes[place : place + 2], cls(), seed=place) for place, cls in enumerate(chain)))
    model.parameters.vector *= 2.0  # beyond every kink
    start = model.copy()
    rate = 1e-5 if Sine in chain else 0.02  # a fast sine's path is chaotic
    optimizer = SGDOptimizer(learning_rate=rate, momentum=0.5)
    runs = both(model.copy, HalfSquaredError(), optimizer, (X, np.tile(NUMBERS, 2)), epochs=20)
    require_agreement(runs)
    assert runs[0].epoch == promised("activation")
    for before, after in zip(start.layers, runs[1].model.layers, strict=True):
        assert np.abs(after.weights - before.weights).max() > min(1e-4, rate)


def problem(loss):
    """A model and targets that a loss has a meaning for."""
    first = np.abs(NUMBERS[:, 0])
    if loss.by_row:
        return Dense(3, 3, Sort() if isinstance(loss, MultiQuantile) else Softmax()), DISTRIBUTIONS
    if isinstance(loss, BinaryCrossEntropy | Focal):
        return Neuron(3, Sigmoid()), (first > 0.5).astype(float)
    if "Hinge" in type(loss).__name__:
        return Neuron(3), np.where(first > 0.5, 1.0, -1.0)
    return Neuron(3, Softplus() if isinstance(loss, Poisson) else Identity()), first


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    "cls", [cls for cls in catalogue(Loss) if cls is not OutputLosses], ids=lambda cls: cls.__name__
)
def test_every_loss(cls):
    model, y = problem(cls())
    runs = both(model.copy, cls(), PLAIN, (X, y, WEIGHTS))
    require_agreement(runs)
    assert runs[0].epoch == promised("loss")


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("cls", catalogue(Optimizer), ids=lambda cls: cls.__name__)
def test_every_optimizer(cls):
    runs = both(lambda: Dense(3, 2, Tanh()), HalfSquaredError(), cls(learning_rate=0.01), (X, NUMBERS))
    require_agreement(runs)
    assert runs[0].epoch == promised("optimizer")


def every_operation(h):
    """Add up every elementwise operation of the table, each where it has a value and a slope."""
    total = h
    for name, row in OPERATIONS.items():
        if row.elementwise and row.lowered is None:
            u = 0.5 + 0.3 * np.tanh(h) + (name == "arccosh")
            arguments = (u, 0.4 + 0.2 * np.tanh(h))[: len(row.rules)]
            if name == "where":
                total = total + np.where(u > 0.5, u, h)
            elif name in ("invert", "bitwise_and", "bitwise_or"):
                total = total + np.where(getattr(np, name)(*(one > 0.4 for one in arguments)), u, h)
            else:
                result = (getattr(framework.formulas, name, None) or getattr(np, name))(*arguments)
                total = total + (np.where(result, u, h) if row.kind == "b" else 0.1 * result)
    return 0.1 * total


@pytest.mark.share(1 / 3)
def test_every_elementwise_operation():
    require_agreement(both(lambda: network(Activation.of(every_operation)), HalfSquaredError(), PLAIN, (X, NUMBERS)))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    "optimizer",
    [
        SGDOptimizer(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        SGDOptimizer(learning_rate=CosineSchedule(initial=0.1, length=500), momentum=0.5),
        RMSPropOptimizer(centered=True, momentum=0.5, weight_decay=0.1),
        AdamOptimizer(clip_norm=0.1, clip_value=0.05),
    ],
    ids=["nesterov", "schedule", "centered", "clipped"],
)
def test_settings_of_optimizers(optimizer):
    require_agreement(both(lambda: Dense(3, 2, Tanh()), HalfSquaredError(), optimizer, (X, NUMBERS)))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("batch_size", [1, 8, 1000])
@pytest.mark.parametrize(
    ("model", "loss", "y"),
    [
        (Neuron(3, Sigmoid()), BinaryCrossEntropy(), CLASSES > 0),
        (network(ReLU(), Softmax()), CrossEntropy(), np.minimum(CLASSES, 1)),
        (Sequential(Dense(3, 5, Swish(beta=1.7)), Dense(5, 1, Tanh()), Dense(1, 2)), MeanSquaredError(), NUMBERS),
    ],
    ids=["neuron", "classes", "deep"],
)
def test_batches_of_any_size(model, loss, y, batch_size):
    settings = {"batch_size": batch_size, "epochs": 13, "metrics": [Accuracy()] if loss.by_row else []}
    require_agreement(both(model.copy, loss, PLAIN, (X, y), **settings))
    require_agreement(both(model.copy, loss, PLAIN, (X, y), **settings, shuffle=False))


def test_weights_and_metrics():
    metrics = [Accuracy(), HalfSquaredError(), CrossEntropy()]
    weights = WEIGHTS.copy()
    weights[8:16] = 0.0  # without shuffling, the second batch makes no step
    y = np.eye(2)[np.minimum(CLASSES, 1)]
    for shuffle in (False, True):
        settings = {"metrics": metrics[:2], "shuffle": shuffle, "epochs": 20}
        require_agreement(both(lambda: network(Tanh(), Softmax()), CrossEntropy(), PLAIN, (X, y, weights), **settings))


def test_frozen_parameters_stay():
    def make():
        model = network(Tanh())
        model.parameters.freeze("0.bias", "1.weights")
        return model

    runs = both(make, HalfSquaredError(), AdamOptimizer(weight_decay=0.1), (X, NUMBERS))
    require_agreement(runs)
    assert (runs[1].model.parameters["0.bias"] == 0.0).all()

    def make_one():
        layer = Dense(3, 2, Tanh())
        layer.parameters.freeze("bias")
        return layer

    require_agreement(both(make_one, HalfSquaredError(), PLAIN, (X, NUMBERS)))


def test_float32_stays_float32_and_reaches_the_same_loss():
    runs = both(lambda: network(Swish(beta=0.7), Softmax(), "float32"), CrossEntropy(), PLAIN, (X, CLASSES > 0))
    assert runs[1].model.parameters.vector.dtype == np.float32
    one, other = (run.history[-1]["loss"] for run in runs)
    assert other == pytest.approx(one, rel=1e-4)


class Bump(Activation):
    """A user's activation with a setting and no derivative."""

    width: float = 0.7

    def __call__(self, h):
        return h * np.exp(-np.abs(h) / self.width) + np.log1p(np.exp(-np.abs(h)))


class Warped(Loss):
    """A user's loss without a slope."""

    power: float = 1.5

    def value(self, prediction, target):
        return np.abs(prediction - target) ** self.power


class Sharp(Activation):
    """A user's activation over a row, without backward."""

    def __call__(self, h):
        powers = np.exp(2.5 * (h - np.max(h, axis=-1, keepdims=True)))
        return powers / np.sum(powers, axis=-1, keepdims=True)


class Signed(Optimizer):
    """A user's optimizer, written in several styles."""

    decay: float = 0.9
    memory = ("mean", "count")

    def update(self, values, gradients, rate, step, mean, count):
        mean[:] = self.decay * mean + (1 - self.decay) * gradients
        np.add(count, np.where(gradients > 0, 1.0, 0.0), out=count)
        direction = mean.copy()
        direction /= 1 - self.decay**step
        values -= rate * np.sign(direction) / np.sqrt(1.0 + count)


def test_own_formulas():
    require_agreement(both(lambda: network(Bump()), Warped(), Signed(learning_rate=0.01), (X, NUMBERS)))
    require_agreement(both(lambda: network(Sharp(), Sharp()), MeanSquaredError(), PLAIN, (X, NUMBERS)))


class Sawtooth(Activation):
    """A user's activation whose truths are added and whose sign alternates."""

    def __call__(self, h):
        return 0.5 * h * ((h > 0) + (h > 0.5)) + 0.1 * h * (-1.0) ** np.floor(h)


class Alternating(Optimizer):
    """A user's optimizer with masks, an alternating sign, an infinite bound and names as in the source of a kernel."""

    memory = ("m", "m_i")

    def update(self, values, gradients, rate, step, m, m_i):
        np.copyto(m, gradients, where=gradients * values > 0)
        m_i += (gradients > 0) + (values > 0)
        values -= np.minimum(np.inf, rate / step) * (1.0 + 0.5 * (-1.0) ** step) * m / (1.0 + np.sqrt(m_i))


def test_truths_signs_masks_and_infinite_bounds_mean_what_they_mean_in_numpy():
    data, optimizer = (X, NUMBERS), Alternating(learning_rate=0.5)
    require_agreement(both(lambda: network(Sawtooth()), HalfSquaredError(), optimizer, data, epochs=5))


def test_a_parameter_may_be_called_count():
    def make():
        return Layer.of(lambda x, count, w: count * (x @ w), shapes={"count": (), "w": (3, 2)})

    require_agreement(both(make, MeanSquaredError(), PLAIN, (X, NUMBERS), epochs=5))


class Squared(Optimizer):
    """A user's optimizer without a rate."""

    def update(self, values, gradients, rate, step):
        values -= gradients * gradients


def test_a_product_of_gradients_is_not_the_step_of_plain_descent():
    data = X, 0.1 * NUMBERS
    require_agreement(both(lambda: network(Tanh()), MeanSquaredError(), Squared(learning_rate=1.0), data, epochs=2))


@pytest.mark.parametrize("parameters", ["b", "u", "*"])
def test_a_penalty_of_a_matrix_whose_gradient_is_a_factor_of_another(parameters):
    def make():
        shapes = {"u": (3, 4), "v": (4, 2), "b": (3, 2)}
        return Layer.of(lambda x, u, v, b: x @ (np.tanh(u) @ v + b), shapes=shapes)

    penalties = [L2(strength=0.3, parameters=parameters)]
    require_agreement(both(make, MeanSquaredError(), PLAIN, (X, NUMBERS), epochs=5, regularizers=penalties))
