"""The compiled engine computes the gradients and sums of shards; the NumPy engine is the oracle."""

import numpy as np
import parallel_pieces as pieces
import pytest
from compiled_pieces import Branched, Group

from framework import (
    L2,
    Accuracy,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    DivergedError,
    Dropout,
    Embedding,
    Heads,
    Join,
    Layer,
    LayerNorm,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    on,
)
from framework.base import UsageError
from framework.formulas import OutputLosses, OutputMetric
from framework.models import Input
from framework.training import DataParallel
from framework.training.engines.base import Engine

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")

ROWS = 37
X = pieces.X[:ROWS]
CLASSES = pieces.CLASSES[:ROWS]
WEIGHTS = np.where(np.arange(ROWS) < 10, 0.0, pieces.WEIGHTS[:ROWS])  # the first two of eight shards have no weight
MODELS = {
    "dropout": (CrossEntropy(), lambda: pieces.network("float64"), X, CLASSES),
    "layer_norm": (
        MeanAbsoluteError(),
        lambda: Sequential(Dense(12, 5, Tanh()), LayerNorm(5), Dropout(0.5), Dense(5, 2)),
        X,
        X[:, :2],
    ),
    "neuron": (BinaryCrossEntropy(), lambda: Neuron(12, Sigmoid()), X, (X[:, 0] > 0).astype(float)),
    "embedding": (
        MeanSquaredError(),
        lambda: Sequential(Join(id=Embedding(3, 4), row=Input(12)), Dense(16, 6, ReLU()), Dense(6, 1)),
        {"id": CLASSES, "row": X},
        X[:, :1],
    ),
    "heads": (
        OutputLosses(kind=CrossEntropy(), size=MeanSquaredError(), weights={"size": 0.2}),
        lambda: Sequential(Dense(12, 8, Tanh()), Heads(kind=Dense(8, 3, Softmax()), size=Dense(8, 2))),
        X,
        {"kind": CLASSES, "size": X[:, :2]},
    ),
}


@pytest.fixture
def kernels_alone(monkeypatch):
    """Let the NumPy engine compute no gradient while ``engine="compiled"`` trains."""
    compute = Engine.fill

    def refused(self, *arguments, **named):
        assert type(self) is Engine, "NumPy computed a shard"
        return compute(self, *arguments, **named)

    monkeypatch.setattr(Engine, "fill", refused)


def both(model, loss, data, **settings):
    """Return the runs of both engines, which train copies of a model."""
    trainer = pieces.trainer(**{"loss": loss, "optimizer": SGDOptimizer(learning_rate=0.1)} | settings)
    return [trainer.replace(engine=engine).fit(model.copy(), data) for engine in ("numpy", "compiled")]


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("kernels_alone")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shards", [1, 8, 64])
@pytest.mark.parametrize("name", MODELS)
def test_two_steps_are_those_of_numpy(name, shards, weighted):
    """The first step computes the shards one by one, the second one at once, if each has rows."""
    loss, model, x, y = MODELS[name]
    settings = {"epochs": 2, "batch_size": ROWS, "strategy": DataParallel(shards=shards)}
    data = (x, y, WEIGHTS) if weighted else (x, y)
    plain, made = both(model(), loss, data, regularizers=[L2(strength=0.1)], **settings)
    assert (made.engine, made.step) == ("compiled", 2)
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-12)
    np.testing.assert_allclose(made.model.parameters.gradient, plain.model.parameters.gradient, rtol=0, atol=1e-12)
    for before, after in zip(plain.history, made.history, strict=True):
        for key, value in before.items():
            if key != "seconds":
                assert after[key] == pytest.approx(value, rel=1e-12), key


@pytest.mark.usefixtures("kernels_alone")
def test_metrics_and_further_steps_are_those_of_numpy():
    loss, model, x, y = MODELS["heads"]
    settings = {"batch_size": 10, "metrics": [OutputMetric("kind", Accuracy())], "accumulate": 2}
    plain, made = both(model(), loss, (x, y), optimizer=AdamOptimizer(learning_rate=0.01), **settings)
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=1e-10)
    for before, after in zip(plain.history, made.history, strict=True):
        for key in ("loss", "kind_loss", "size_loss", "kind_accuracy"):
            assert after[key] == pytest.approx(before[key], rel=1e-10)


@pytest.mark.usefixtures("kernels_alone")
def test_a_callback_may_change_the_gradient():
    @on("gradients")
    def halve(run):
        run.model.parameters.gradient *= 0.5

    loss, model, x, y = MODELS["dropout"]
    plain, made = both(model(), loss, (x, y), callbacks=[halve], epochs=1, batch_size=ROWS)
    assert made.engine == "compiled"
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-12)


class Largest(Metric):
    """The mean of the largest target of each row, whose sum depends on the rows."""

    def sums(self, prediction, target, weight=None):
        return float(np.sum(np.max(target - prediction, axis=1))), float(len(target))

    def result(self, total, count):
        return total / count


@pytest.mark.usefixtures("kernels_alone")
def test_kernels_compute_gradients_for_any_optimizer_and_regularizer():
    loss, model, x, y = MODELS["dropout"]
    settings = {"optimizer": Branched(learning_rate=0.1), "regularizers": [Group(strength=0.1)], "batch_size": 10}
    plain, made = both(model(), loss, (x, y), **settings)
    assert made.engine == "compiled"
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("kernels_alone")
def test_frozen_parameters_stay():
    loss, model, x, y = MODELS["dropout"]
    network = model()
    network.parameters.freeze("0.*")
    plain, made = both(network, loss, (x, y), epochs=1, batch_size=ROWS)
    name = "0.weights"
    np.testing.assert_array_equal(made.model.parameters.views[name], network.parameters.views[name])
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-12)


def test_a_resumed_run_has_the_bits_of_one_trained_at_once():
    trainer, data = pieces.trainer(engine="compiled"), (pieces.X, pieces.CLASSES)
    model = pieces.network()
    whole = trainer.fit(model.copy(), data)
    first = trainer.replace(epochs=1).fit(model, data)
    assert pieces.digest(trainer.resume(first, data, epochs=2)) == pieces.digest(whole)


def test_numpy_computes_a_shard_that_may_not_be_finite():
    x = np.ones((64, 1))
    x[63] = 1e200
    model = Sequential(Dense.from_weights([[1.0]]))
    said = []
    for engine in ("numpy", "compiled"):
        with pytest.raises(DivergedError) as raised:
            pieces.trainer(loss=MeanSquaredError(), batch_size=64, engine=engine).fit(model.copy(), (x, np.ones(64)))
        said.append([str(raised.value), raised.value.run.step, *raised.value.__notes__])
    assert said[0] == said[1]


class BothWays(Layer):
    """Adds up over rows and over the numbers of a row, by turns."""

    mixes_rows = True

    def formula(self, x):
        x = x - x.mean(axis=0) * x.mean(axis=1, keepdims=True)
        spread = np.sqrt(np.square(x).sum(axis=1, keepdims=True) + 1.0)
        return x / spread - (x / spread).var(axis=0) * spread


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("kernels_alone")
@pytest.mark.parametrize("size", [ROWS, 10, 3])
@pytest.mark.parametrize("shards", [1, 8])
@pytest.mark.parametrize(
    "model",
    [
        pieces.normalized,
        pieces.balanced,
        lambda: Sequential(Dense(12, 1), BatchNorm(1), Dense(1, 3, Softmax())),
        lambda: Sequential(Dense(12, 4), BatchNorm(4), Dense(4, 3), pieces.Balanced(units=3), Softmax()),
        lambda: Sequential(Dense(12, 4), BothWays(), Dense(4, 3, Softmax())),
    ],
    ids=["normalized", "balanced", "one unit", "before the loss", "both ways"],
)
def test_layers_that_mix_rows_train_in_phases(model, shards, size):
    rows = ROWS - 1 if size == 3 else ROWS  # BatchNorm needs two rows
    settings = {"epochs": 2, "batch_size": size, "strategy": DataParallel(shards=shards), "metrics": [Accuracy()]}
    plain, made = both(model(), CrossEntropy(), (X[:rows], CLASSES[:rows], WEIGHTS[:rows]), **settings)
    assert made.engine == "compiled"
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-10)
    for name, buffer in plain.model.buffers.items():
        np.testing.assert_allclose(made.model.buffers[name], buffer, rtol=1e-12, atol=1e-12)
    for key in ("loss", "accuracy"):
        assert made.history[-1][key] == pytest.approx(plain.history[-1][key], rel=1e-10)


@pytest.mark.usefixtures("kernels_alone")
@pytest.mark.parametrize(("size", "parts"), [(10, 2), (3, 9)])
def test_each_part_of_an_accumulated_batch_is_mixed_by_itself(size, parts):
    data = (X[: ROWS - 1], CLASSES[: ROWS - 1], WEIGHTS[: ROWS - 1])
    plain, made = both(pieces.normalized(), CrossEntropy(), data, batch_size=size, accumulate=parts, epochs=2)
    assert made.engine == "compiled"
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-10)
    for name, buffer in plain.model.buffers.items():
        np.testing.assert_allclose(made.model.buffers[name], buffer, rtol=1e-12, atol=1e-12)
    assert made.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=1e-10)


@pytest.mark.usefixtures("kernels_alone")
def test_frozen_parameters_stay_where_rows_are_mixed():
    model = pieces.normalized()
    model.parameters.freeze("0.*")
    plain, made = both(model, CrossEntropy(), (X, CLASSES), epochs=2, batch_size=10)
    np.testing.assert_array_equal(made.model.parameters.views["0.scale"], model.parameters.views["0.scale"])
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-10)


def test_numpy_names_the_row_that_diverges_where_rows_are_mixed():
    x = np.ones((64, 2))
    x[:, 1] = np.arange(64)
    said = []
    for engine in ("numpy", "compiled"):
        model = Sequential(Dense.from_weights(np.eye(2)), BatchNorm(2), Dense(2, 1))
        model.parameters.views["2.bias"][...] = 1e200
        with pytest.raises(DivergedError) as raised:
            pieces.trainer(loss=MeanSquaredError(), batch_size=64, engine=engine).fit(model, (x, np.ones((64, 1))))
        said.append([str(raised.value), raised.value.run.step, *raised.value.__notes__])
        assert not model.buffers["1.running_mean"].any()
    assert said[0] == said[1]


def test_a_metric_that_fails_in_one_shard_stops_the_run():
    class Failing(Metric):
        def sums(self, prediction, target, weight=None):
            if (target == 7.0).any():
                raise ValueError("seven")
            return (1.0,)

        def result(self, *sums):
            return sums[0]

    y = np.zeros((64, 1))
    y[40] = 7.0
    model = Sequential(Dense(12, 4), BatchNorm(4), Dense(4, 1))
    trainer = pieces.trainer(loss=MeanSquaredError(), metrics=[Failing()], batch_size=64, engine="compiled")
    with pytest.raises(UsageError, match="seven"):
        trainer.fit(model, (pieces.X[:64], y))


def test_random_layers_with_accumulate_are_those_of_numpy():
    settings = {"batch_size": 3, "accumulate": 9, "epochs": 1}
    plain, made = both(pieces.network(), CrossEntropy(), (pieces.X, pieces.CLASSES), **settings)
    assert made.engine == "compiled"
    np.testing.assert_allclose(made.model.parameters.vector, plain.model.parameters.vector, rtol=0, atol=1e-6)
