"""The compiled engine trains models of several inputs and outputs as the NumPy engine does."""

import numpy as np
import pytest

from framework import (
    Accuracy,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    Dropout,
    Embedding,
    HalfSquaredError,
    Heads,
    Join,
    Layer,
    LayerNorm,
    MeanSquaredError,
    Neuron,
    ReLU,
    Residual,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
)
from framework.formulas import OutputLosses, OutputMetric

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")
RNG = np.random.default_rng(0)
ROWS = 76  # in batches of 8 the last one has 4 rows
X = {"numbers": RNG.normal(size=(ROWS, 3)), "city": RNG.integers(0, 5, ROWS), "age": RNG.normal(size=ROWS)}
Y = {"late": RNG.integers(0, 2, ROWS), "more": {"kind": RNG.integers(0, 3, ROWS)}}
WEIGHTS = RNG.random(ROWS) * (RNG.random(ROWS) > 0.3)


def wide():
    """A branch with a layer of its own, an embedding, and two outputs that read both."""
    trunk = Join(numbers=None, city=Embedding(5, 2), age=Dense(units=2, activation=Tanh()))
    return Sequential(trunk, Heads(late=Neuron(7, Sigmoid()), more=Heads(kind=Sequential(Dense(units=3), Softmax()))))


def deep():
    """A layer between the inputs and two outputs of one number each."""
    heads = Heads(late=Neuron(2, Sigmoid()), price=Neuron(2))
    return Sequential(Join(numbers=None, city=Embedding(5, 2), age=None), Dense(units=2, activation=Tanh()), heads)


def both(make, data, **settings):
    runs = []
    for engine in ("numpy", "compiled"):
        runs.append(Trainer(epochs=5, engine=engine, **settings).fit(make(), data))
        assert runs[-1].engine == engine
    return runs


def require_agreement(runs, tolerance=1e-10):
    expected, found = (run.model.parameters.vector for run in runs)
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    for one, other in zip(*(run.history.rows for run in runs), strict=True):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            assert other[key] == pytest.approx(one[key], rel=10 * tolerance, abs=1e-12), key


def first():
    """A layer of one unit and one of several that write the first columns of what others write too."""
    trunk = Join(age=Dense(units=1, activation=Tanh()), numbers=None, city=Embedding(5, 2))
    other = Join(numbers=Dense(units=4, activation=ReLU()), city=Embedding(5, 2), age=Dense(units=1))
    return [Sequential(each, Dense(units=2, activation=Tanh())) for each in (trunk, other)]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("place", [0, 1])
def test_a_layer_may_write_the_first_columns_of_a_join(place):
    require_agreement(
        both(
            lambda: first()[place],
            (X, X["numbers"][:, :2]),
            loss=MeanSquaredError(),
            optimizer=SGDOptimizer(learning_rate=0.1),
            batch_size=8,
        )
    )


def test_batches_with_weights_and_metrics():
    inner = OutputLosses(kind=CrossEntropy(), weights={"kind": 0.5})
    loss = OutputLosses(more=inner, late=BinaryCrossEntropy(), weights={"late": 0.3, "more": 2.0})
    metrics = [OutputMetric("late", Accuracy()), OutputMetric("more", OutputMetric("kind", Accuracy()))]
    optimizer = AdamOptimizer(learning_rate=0.01)
    require_agreement(both(wide, (X, Y, WEIGHTS), loss=loss, optimizer=optimizer, batch_size=8, metrics=metrics))


def test_single_rows_a_frozen_branch_and_a_resume():
    data = (X, {"price": X["age"], "late": Y["late"]})
    loss = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"price": 0.3})
    settings = {"loss": loss, "optimizer": SGDOptimizer(learning_rate=0.05), "batch_size": 1}
    require_agreement(both(deep, data, **settings))
    trainer = Trainer(engine="compiled", epochs=2, **settings)
    straight, stopped = deep(), deep()
    expected = trainer.fit(straight, data, epochs=4)
    run = trainer.resume(trainer.fit(stopped, data), data, epochs=2)
    np.testing.assert_array_equal(stopped.parameters.vector, straight.parameters.vector)
    for one, other in zip(run.history.rows, expected.history.rows, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    straight.parameters.freeze("0.city.*", "2.late.*")
    kept = straight.parameters["0.city.weights"].copy()
    trainer.fit(straight, data)
    np.testing.assert_array_equal(straight.parameters["0.city.weights"], kept)


class Mixed(Layer):
    """A layer with a matrix product in its formula."""

    @property
    def input_shape(self):
        return (3,)

    def shapes(self):
        return {"weights": (3, 3)}

    def formula(self, x, weights):
        return x @ weights


class Longer(Layer):
    """A layer that gives longer rows."""

    @property
    def input_shape(self):
        return (3,)

    def formula(self, x):
        return np.concatenate([x, x], axis=-1)


@pytest.mark.parametrize("layer", [Mixed(), Longer()])
def test_own_layers_with_products_and_longer_rows_in_branches(layer):
    model = Sequential(Join(numbers=layer, city=Embedding(5, 2), age=None), Dense(units=1))
    settings = {"loss": HalfSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.05)}
    require_agreement(both(model.copy, (X, np.ones(ROWS)), **settings))


def layered():
    """Layers of each kind in the branches, and heads that share what an activation must not change."""
    trunk = Join(
        numbers=Residual(BatchNorm(3), Dense(3, 3)), city=Embedding(5, 2), age=Sequential(Dense(units=2), ReLU())
    )
    first = Sequential(Dropout(rate=0.3), Tanh(), Dense(units=1), Sigmoid())
    return Sequential(trunk, Residual(Dense(7, 7, Tanh()), LayerNorm(7)), Heads(late=first, more=Tanh()))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_layers_of_each_kind_in_branches(weight):
    data = (X, {"late": Y["late"][:, None], "more": RNG.normal(size=(ROWS, 7))}, weight)
    loss = OutputLosses(late=BinaryCrossEntropy(), more=MeanSquaredError())
    metrics = [OutputMetric("more", MeanSquaredError())]
    settings = {"optimizer": SGDOptimizer(learning_rate=0.05), "batch_size": 8, "metrics": metrics}
    require_agreement(both(layered, data if weight is not None else data[:2], loss=loss, **settings))


def test_several_ids_a_row():
    x = {"city": RNG.integers(0, 5, (ROWS, 2)), "tag": RNG.integers(0, 2, (ROWS, 2))}
    model = Sequential(Join(city=Embedding(5, 2), tag=Embedding(2, 1)), Dense(units=1))
    settings = {"loss": HalfSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.05)}
    require_agreement(both(model.copy, (x, np.ones((ROWS, 2, 1))), **settings))
