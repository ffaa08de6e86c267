"""fit_many: each model becomes what a fit of its own makes of it, up to rounding."""

import re
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold

from framework import (
    GRU,
    L2,
    Accuracy,
    Activation,
    AdamOptimizer,
    AdamWOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Checkpoint,
    CosineSchedule,
    CrossEntropy,
    CSVLog,
    DataError,
    Dense,
    DivergedError,
    Dropout,
    EarlyStopping,
    Embedding,
    Flatten,
    HalfSquaredError,
    Layer,
    Loss,
    MaxPool,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    MultiHeadAttention,
    Neuron,
    Preprocess,
    ReLU,
    Reshape,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
    Trainer,
    loop,
    on,
)
from framework.backends.arithmetic import flushes
from framework.backends.native.machine import processor
from framework.formulas import RootMeanSquaredError, TopK
from framework.models import Bidirectional, Conv1D, ConvTranspose1D, GroupNorm, RMSNorm
from framework.training import DataParallel, JSONLog
from framework.training.engines.native.many import ManySteps

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(70, 5))  # in batches of 16 the last one has 6 rows
NUMBERS = RNG.normal(size=(70, 2))
CLASSES = (X[:, 0] * X[:, 1] > 0).astype(int)
PLAIN = SGDOptimizer(learning_rate=0.1)


def network(seed, hidden=None, output=None, dtype="float64"):
    hidden = hidden or Tanh()
    return Sequential(
        Dense(5, 7, hidden, seed=seed, dtype=dtype),
        Dense(7, 3, hidden, seed=seed, dtype=dtype),
        Dense(3, 2, output, seed=seed, dtype=dtype) if output else Dense(3, 2, seed=seed, dtype=dtype),
    )


def classifier(seed):
    return network(seed, output=Softmax())


def neuron(seed):
    return Neuron(5, Sigmoid(), seed=seed)


def trainer_of(loss, optimizer=PLAIN, **settings):
    return Trainer(loss=loss, optimizer=optimizer, engine="compiled", **{"batch_size": 16} | settings)


def alone(trainer, models, data, optimizers=None, seeds=None, validation=None):
    """Train copies of the models one after another, and return their runs."""
    runs = []
    for place, model in enumerate(models):
        changes = {} if optimizers is None else {"optimizer": optimizers[place]}
        changes |= {} if seeds is None else {"seed": seeds[place]}
        runs.append(trainer.replace(**changes).fit(model.copy(), data, validation))
        assert runs[-1].engine == "compiled"
    return runs


def require_equal(runs, expected, tolerance=1e-14):
    for run, one in zip(runs, expected, strict=True):
        weights = one.model.parameters.vector
        assert run.engine == "compiled"
        np.testing.assert_allclose(run.model.parameters.vector, weights, rtol=0, atol=tolerance * np.abs(weights).max())
        assert (run.epoch, run.step, run.stop_reason) == (one.epoch, one.step, one.stop_reason)
        assert run.consistent
        for row, other in zip(run.history.rows, one.history.rows, strict=True):
            assert row.keys() == other.keys()
            for key in row.keys() - {"seconds"}:
                assert row[key] == pytest.approx(other[key], rel=10 * tolerance)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("make", "loss", "y"),
    [
        (classifier, CrossEntropy(), CLASSES),
        (network, MeanSquaredError(), NUMBERS),
        (neuron, BinaryCrossEntropy(), CLASSES.astype(float)),
        (lambda seed: network(seed, ReLU()), HalfSquaredError(), NUMBERS),
        (lambda seed: network(seed, Softmax()), MeanSquaredError(), NUMBERS),
    ],
    ids=["classes", "numbers", "neuron", "relu", "softmax within"],
)
@pytest.mark.parametrize("own_orders", [False, True])
def test_each_model_is_that_of_a_fit_of_its_own(make, loss, y, own_orders):
    models = [make(seed) for seed in range(11)]
    rates = [SGDOptimizer(learning_rate=0.01 * (place + 1)) for place in range(11)]
    seeds = [*range(11)] if own_orders else None
    trainer = trainer_of(loss)
    expected = alone(trainer, models, (X, y), rates, seeds)
    require_equal(trainer.fit_many(models, (X, y), optimizers=rates, seeds=seeds), expected)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    "optimizers",
    [
        [SGDOptimizer(learning_rate=0.1, momentum=momentum) for momentum in (0.0, 0.5, 0.9)],
        [AdamOptimizer(learning_rate=0.01, beta1=beta, beta2=0.99) for beta in (0.8, 0.9, 0.99)],
        [AdamWOptimizer(learning_rate=0.01, weight_decay=decay) for decay in (0.1, 0.01, 0.3)],
        [SGDOptimizer(learning_rate=CosineSchedule(initial=rate, length=20)) for rate in (0.1, 0.2, 0.3)],
    ],
    ids=["momentum", "Adam", "decay", "schedule"],
)
def test_each_model_has_its_own_numbers_of_the_optimizer(optimizers):
    models, trainer = [classifier(seed) for seed in range(3)], trainer_of(CrossEntropy(), optimizers[0], epochs=2)
    expected = alone(trainer, models, (X, CLASSES), optimizers)
    require_equal(trainer.fit_many(models, (X, CLASSES), optimizers=optimizers), expected, 1e-12)


def test_float32_regularizers_and_frozen_layers_are_those_of_a_fit():
    models = [network(seed, dtype="float32") for seed in range(20)]
    for model in models:
        model.parameters.freeze("1.*")
    trainer = trainer_of(MeanSquaredError(), regularizers=[L2(strength=0.01)])
    data = X.astype("float32"), NUMBERS.astype("float32")
    require_equal(trainer.fit_many([model.copy() for model in models], data), alone(trainer, models, data), 1e-6)


def shared_scan(x):
    """A loop that reads the rows alone, which several models share."""
    factor = 2.0 * np.tanh(x[:, :1])

    def step(state, entry):
        return 0.5 * state + np.sin(entry) * factor, state + entry

    return loop(step, 0.0 * x[:, :1], x.reshape(-1, 5, 1))[1].reshape(-1, 5)


def in_order(x, w):
    """Look elements up by orders that each model has of its own, also in an array that all share."""
    shared = np.asarray(np.linspace(-1.0, 1.0, 7), like=x)
    return np.sort(x * w) + shared[np.argsort(x)] - np.median(x, axis=1, keepdims=True)


LAYERS = {
    "a recurrence of the rows alone": lambda: [Layer.of(shared_scan)],
    "batch norm": lambda: [Dense(5, 7), BatchNorm(7), Tanh()],
    "dropout": lambda: [Dense(5, 7, Tanh()), Dropout(0.4)],
    "recurrence": lambda: [Reshape((5, 1)), GRU(units=7)],
    "attention": lambda: [Reshape((5, 1)), Dense(units=4), MultiHeadAttention(heads=2), Flatten()],
    "convolution": lambda: [Reshape((1, 5)), Conv1D(filters=3, kernel=2), Flatten()],
    "two convolutions": lambda: [
        *(Reshape((1, 5)), Conv1D(filters=3, kernel=2)),
        *(MaxPool(window=2), Conv1D(filters=2, kernel=2), Flatten()),
    ],
    "groups of channels": lambda: [
        *(Reshape((1, 5)), Conv1D(filters=4, kernel=3, padding="causal"), GroupNorm(2)),
        *(Conv1D(filters=4, kernel=2, groups=4), RMSNorm(), Flatten()),
    ],
    "transposed": lambda: [Reshape((1, 5)), ConvTranspose1D(filters=2, kernel=3, stride=2), Flatten()],
    "both directions": lambda: [Reshape((5, 1)), Bidirectional(GRU(3))],
    "written by hand": lambda: [Dense(5, 5), Doubled(units=5), Tanh()],
    "orders": lambda: [Dense(5, 7), Layer.of(in_order, shapes={"w": (7,)})],
    "a user's": lambda: [Layer.of(lambda x, w: np.einsum("ni,ijk->nj", x, w) * x[:, :1], shapes={"w": (5, 7, 2)})],
}
"""Layers before the last one, of samples of 5 numbers."""


@pytest.mark.parametrize("own_orders", [False, True])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_all_layers_are_trained(layers, own_orders):
    models = [Sequential(*layers(), Dense(units=2, activation=Softmax()), seed=seed) for seed in range(3)]
    seeds, trainer = [0, 1, 2] if own_orders else None, trainer_of(CrossEntropy(), epochs=2)
    expected = alone(trainer, models, (X, CLASSES), seeds=seeds)
    require_equal(trainer.fit_many(models, (X, CLASSES), seeds=seeds), expected, 1e-11)


class Doubled(Layer):
    """A layer whose passes Python runs."""

    units: int

    def apply(self, x, values, record):
        return 2 * x

    def apply_backward(self, gradient, values, record, gradients):
        return 2 * gradient

    def infer_shape(self, shape, settle=False):
        return shape


class CountedError(MeanSquaredError):
    """A loss whose ``count`` a kernel does not know."""

    def count(self, shape, weight=None):
        return super().count(shape, weight)


def test_numpy_trains_the_models_that_have_no_kernel():
    models = [network(seed) for seed in range(2)]
    copies, trainer = [model.copy() for model in models], trainer_of(CountedError(), epochs=2)
    with pytest.warns(UserWarning, match=r"falling back to NumPy: CountedError\.count replaces that of its base class"):
        runs = trainer.fit_many(models, (X, NUMBERS))
    for run, model in zip(runs, copies, strict=True):
        trainer.replace(engine="numpy").fit(model, (X, NUMBERS))
        assert run.engine == "numpy"
        np.testing.assert_array_equal(run.model.parameters.vector, model.parameters.vector)


def test_an_embedding_takes_ids_in_one_order_and_in_several():
    ids, models = (
        RNG.integers(0, 9, size=(70, 3)),
        [Sequential(Embedding(9, 4), Flatten(), Dense(12, 2), seed=s) for s in range(3)],
    )
    trainer = trainer_of(MeanSquaredError(), epochs=2)
    for seeds in (None, [0, 1, 2]):
        copies = [model.copy() for model in models]
        expected = alone(trainer, copies, (ids, NUMBERS), seeds=seeds)
        require_equal(trainer.fit_many(copies, (ids, NUMBERS), seeds=seeds), expected, 1e-12)


@pytest.mark.parametrize("own_orders", [False, True])
def test_weights_of_rows_count(own_orders):
    weights = np.where(np.arange(70) % 7 < 3, 0.0, RNG.uniform(0.5, 2.0, size=70))
    weights[:32] = 0.0  # without shuffling, two batches are skipped
    models, seeds = [classifier(seed) for seed in range(3)], [0, 1, 2] if own_orders else None
    trainer = trainer_of(CrossEntropy(), epochs=2, shuffle=own_orders)
    expected = alone(trainer, models, (X, CLASSES, weights), seeds=seeds)
    require_equal(trainer.fit_many(models, (X, CLASSES, weights), seeds=seeds), expected, 1e-12)


@pytest.fixture
def blocks(monkeypatch):
    """The blocks of models that took steps in one kernel: how many models, and whether the kernel made the steps."""
    blocks, advance = [], ManySteps.advance

    def noted(self, block):
        blocks.append((len(block), advance(self, block)))
        return blocks[-1][1]

    monkeypatch.setattr(ManySteps, "advance", noted)
    return blocks


def test_a_vector_holds_as_many_models_as_it_has_numbers(blocks):
    lanes = processor().registers.lanes("double")
    trainer_of(CrossEntropy()).fit_many([classifier(seed) for seed in range(lanes + 3)], (X, CLASSES))
    assert {*blocks} == {(lanes, True), (3, True)}


def test_models_that_sort_are_trained_at_once(blocks):
    models = [Sequential(*LAYERS["orders"](), Dense(7, 2, Softmax()), seed=seed) for seed in range(3)]
    trainer_of(CrossEntropy()).fit_many(models, (X, CLASSES))
    assert {*blocks} == {(3, True)}


def test_a_second_run_gives_the_same_bits():
    lanes = processor().registers.lanes("double")
    trainer, seeds = trainer_of(CrossEntropy(), epochs=3), [*range(lanes + 1)]
    runs = [trainer.fit_many([classifier(seed) for seed in seeds], (X, CLASSES), seeds=seeds) for _ in range(2)]
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first.model.parameters.vector, second.model.parameters.vector)


def test_the_columns_of_each_model_are_checked():
    table = pd.DataFrame(X, columns=[*"abcde"])
    fitted = trainer_of(CrossEntropy()).fit(classifier(1), (table, CLASSES)).model
    with pytest.raises(DataError, match="must have the columns of fit, in that order: a, b, c, d, e; got e, d"):
        trainer_of(CrossEntropy()).fit_many([classifier(0), fitted], (table[[*"edcba"]], CLASSES))


def test_a_hook_can_stop_a_model_within_an_epoch():
    @on("batch_end")
    def stop(run):
        if run.step == 2 and run.seed == 1:
            run.stop("enough")

    runs = trainer_of(CrossEntropy(), callbacks=[stop]).fit_many(
        [classifier(0), classifier(1)], (X, CLASSES), seeds=[0, 1]
    )
    assert [run.step for run in runs] == [5, 2]
    assert [run.stop_reason for run in runs] == [None, "enough"]


def test_a_hook_at_the_end_of_an_epoch_has_the_last_batch():
    seen = []
    trainer = trainer_of(
        CrossEntropy(), shuffle=False, callbacks=[on("epoch_end")(lambda run: seen.append(run.current))]
    )
    trainer.fit_many([classifier(0), classifier(1)], (X, CLASSES))
    for x, y, weight in seen:
        np.testing.assert_array_equal(x, X[64:])
        np.testing.assert_array_equal(y, CLASSES[64:])
        assert weight is None


def test_models_of_several_architectures_and_optimizers_are_trained_together():
    def models():
        return [classifier(0), Sequential(Dense(5, 4, ReLU(), seed=1), Dense(4, 2, Softmax(), seed=1)), classifier(2)]

    optimizers = [PLAIN, PLAIN, AdamOptimizer(learning_rate=0.01)]
    trainer = trainer_of(CrossEntropy(), epochs=2)
    expected = alone(trainer, models(), (X, CLASSES), optimizers)
    require_equal(trainer.fit_many(models(), (X, CLASSES), optimizers=optimizers), expected, 1e-12)


@pytest.mark.parametrize("limits", ["clip_norm", "clip_value", "clip_norm clip_value"])
def test_the_gradients_of_each_model_are_clipped_by_its_own_limits(limits, blocks):
    models = [classifier(seed) for seed in range(3)]
    optimizers = [SGDOptimizer(learning_rate=0.3, **dict.fromkeys(limits.split(), 0.01 * k)) for k in (1, 2, 3)]
    trainer = trainer_of(CrossEntropy(), epochs=2)
    expected = alone(trainer, models, (X, CLASSES), optimizers)
    unclipped = alone(trainer, models, (X, CLASSES), [SGDOptimizer(learning_rate=0.3)] * 3)
    assert all(
        abs(a.history[-1]["loss"] - b.history[-1]["loss"]) > 1e-3 for a, b in zip(expected, unclipped, strict=True)
    )
    require_equal(trainer.fit_many(models, (X, CLASSES), optimizers=optimizers), expected, 1e-12)
    assert {*blocks} == {(3, True)}


def test_each_model_is_checked_with_the_data():
    with pytest.raises(ShapeError, match=r"\(6,\)|6"):
        trainer_of(CrossEntropy()).fit_many([classifier(0), Sequential(Dense(6, 2, Softmax()))], (X, CLASSES))


TABLE = pd.DataFrame(X, columns=[*"abcde"]).assign(a=3.0 * X[:, 0] + 1.0, y=NUMBERS[:, 0])
STANDARDIZED = Preprocess(columns={name: [Standardize()] for name in "abcde"}, target={"y": [Standardize()]})


@pytest.mark.parametrize("validation", [None, 0.3])
@pytest.mark.parametrize("kept", [False, True])
def test_a_preprocess_is_learnt_or_kept(validation, kept):
    trainer, seeds = trainer_of(MeanSquaredError(), epochs=2, preprocess=STANDARDIZED), [0, 1, 2]
    models = [Sequential(Dense(units=7, activation=Tanh()), Dense(units=1), seed=seed) for seed in seeds]
    if kept:
        models = [trainer.replace(seed=seed).fit(model, (TABLE, "y")).model for seed, model in enumerate(models)]
    expected = alone(trainer, models, (TABLE, "y"), seeds=seeds, validation=validation)
    runs = trainer.fit_many(models, (TABLE, "y"), validation, seeds=seeds)
    require_equal(runs, expected, 1e-12)
    for run, one in zip(runs, expected, strict=True):
        np.testing.assert_allclose(run.model.predict(TABLE), one.model.predict(TABLE), rtol=1e-9)


def test_a_preprocess_is_taken_back_where_the_data_of_another_model_is_refused():
    models = [Sequential(Dense(units=1)), Sequential(Dense(6, 1))]
    with pytest.raises(ShapeError):
        trainer_of(MeanSquaredError(), preprocess=STANDARDIZED).fit_many(models, (TABLE, "y"))
    assert [model.preprocess for model in models] == [None, None]
    assert models[0].input_shape == (None,)


def test_hooks_within_steps_and_after_them_act_in_each_step():
    seen = []
    hooks = [
        on("gradients")(lambda run: seen.append(("gradients", run.seed))),
        on("batch_end")(seen.append),
    ]
    models, seeds = [classifier(seed) for seed in range(2)], [0, 1]
    trainer = trainer_of(CrossEntropy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy makes the updates
        expected = alone(trainer, models, (X, CLASSES), seeds=seeds)
        runs = trainer.replace(callbacks=hooks).fit_many(models, (X, CLASSES), seeds=seeds)
    require_equal(runs, expected, 1e-12)
    assert seen.count(("gradients", 1)) == seen.count(runs[1]) == 5


def test_one_row_in_a_batch_and_rows_in_order():
    models, trainer = [network(seed) for seed in range(2)], trainer_of(MeanSquaredError(), batch_size=1, shuffle=False)
    expected = alone(trainer, models, (X, NUMBERS))
    require_equal(trainer.fit_many(models, (X, NUMBERS)), expected, 1e-13)


def test_splits_train_each_model_on_its_rows_and_validate_on_the_others():
    models, splits = [classifier(seed) for seed in range(4)], [*KFold(4).split(X)]  # 52, 52, 53 and 53 rows
    trainer = trainer_of(CrossEntropy(), epochs=3)
    expected = [
        trainer.fit(model.copy(), (X[rows], CLASSES[rows]), (X[others], CLASSES[others]))
        for model, (rows, others) in zip(models, splits, strict=True)
    ]
    runs = trainer.fit_many(models, (X, CLASSES), splits=splits)
    require_equal(runs, expected, 1e-13)
    assert all("val_loss" in run.history[-1] for run in runs)


def test_splits_of_data_of_other_lengths_are_refused():
    with pytest.raises(ShapeError, match="same number of rows"):
        trainer_of(CrossEntropy()).fit_many([classifier(0)], (X, CLASSES[:60]), splits=[(range(20), range(20, 30))])


def test_splits_of_a_table_keep_its_columns():
    model, table = classifier(0), pd.DataFrame(X, columns=[*"abcde"]).assign(label=CLASSES)
    splits = [(range(20), range(20, 30))]
    run = trainer_of(CrossEntropy()).fit_many([model], (table, "label"), splits=splits)[0]
    assert model.columns == (*"abcde",)
    other = trainer_of(CrossEntropy()).fit_many([classifier(0)], (X, CLASSES), splits=splits)[0]
    np.testing.assert_array_equal(run.model.parameters.vector, other.model.parameters.vector)


def test_a_held_out_part_is_drawn_by_the_seed_of_each_model():
    models, seeds, trainer = [classifier(seed) for seed in range(3)], [0, 5, 5], trainer_of(CrossEntropy(), epochs=2)
    expected = alone(trainer, models, (X, CLASSES), seeds=seeds, validation=0.3)
    require_equal(trainer.fit_many(models, (X, CLASSES), 0.3, seeds=seeds), expected, 1e-12)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("make", "loss", "y", "metrics"),
    [
        (classifier, CrossEntropy(), CLASSES, [Accuracy(), TopK(k=1)]),
        (network, MeanSquaredError(), NUMBERS, [RootMeanSquaredError(), MeanAbsoluteError()]),
        (neuron, BinaryCrossEntropy(), CLASSES.astype(float), [Accuracy()]),
    ],
    ids=["classes", "numbers", "neuron"],
)
@pytest.mark.parametrize("own_orders", [False, True])
def test_metrics_are_those_of_a_fit(make, loss, y, metrics, own_orders):
    models, seeds = [make(seed) for seed in range(3)], [0, 1, 2] if own_orders else None
    trainer = trainer_of(loss, metrics=metrics, epochs=2)
    expected = alone(trainer, models, (X, y), seeds=seeds, validation=(X, y))
    require_equal(trainer.fit_many(models, (X, y), (X, y), seeds=seeds), expected, 1e-12)


def test_an_error_of_a_metric_is_raised_in_its_step():
    class Fails(Metric):
        def sums(self, prediction, target, weight=None):
            if len(target) < 16:
                raise RuntimeError("in the metric")
            return (1.0,)

        def result(self, *sums):
            return sums[0]

    with pytest.raises(RuntimeError, match="in the metric") as caught:
        trainer_of(CrossEntropy(), metrics=[Fails()]).fit_many([classifier(0), classifier(1)], (X, CLASSES))
    assert caught.value.runs[0].step == 4
    assert all(run.consistent for run in caught.value.runs)


def test_a_model_stops_alone_and_keeps_its_weights():
    models, rates = [classifier(seed) for seed in range(10)], [SGDOptimizer(learning_rate=2.0**-k) for k in range(10)]
    stopping = EarlyStopping(monitor="val_loss", patience=1, min_delta=1e-3)
    trainer = trainer_of(CrossEntropy(), epochs=12, callbacks=[stopping])
    data, validation = (X[:50], CLASSES[:50]), (X[50:], CLASSES[50:])
    expected = alone(trainer, models, data, rates, validation=validation)
    assert len({run.epoch for run in expected}) > 1
    require_equal(trainer.fit_many(models, data, validation, optimizers=rates), expected, 1e-12)


def test_a_stop_before_an_epoch_ends_training_at_once():
    @on("epoch_begin")
    def stop(run):
        if (run.epoch, run.seed) == (1, 2):
            run.stop("enough")

    models, seeds = [classifier(seed) for seed in range(3)], [1, 2, 3]
    trainer = trainer_of(CrossEntropy(), epochs=3, callbacks=[stop])
    expected = alone(trainer, models, (X, CLASSES), seeds=seeds)
    assert [run.epoch for run in expected] == [3, 1, 3]
    require_equal(trainer.fit_many(models, (X, CLASSES), seeds=seeds), expected, 1e-12)


@pytest.mark.parametrize("changes", [{"clip_norm": 0.01}, {"rate_factors": (("0.*", 0.1),)}], ids=["clip", "factors"])
def test_settings_that_a_hook_assigns_hold_for_its_model_alone(changes):
    @on("epoch_end")
    def assign(run):
        if run.seed == 2:
            run.optimizer.recipe = run.optimizer.recipe.replace(**changes)

    models, seeds = [classifier(seed) for seed in range(3)], [1, 2, 3]
    trainer = trainer_of(CrossEntropy(), epochs=2, callbacks=[assign])
    expected = alone(trainer, models, (X, CLASSES), seeds=seeds)
    require_equal(trainer.fit_many(models, (X, CLASSES), seeds=seeds), expected, 1e-12)


def test_an_error_when_training_begins_ends_each_callback_once():
    ended = []

    @on("train_begin")
    def fails(_run):
        raise ValueError("at the start")

    trainer = trainer_of(CrossEntropy(), callbacks=[on("train_end")(ended.append), fails])
    with pytest.raises(ValueError, match="at the start") as caught:
        trainer.fit_many([classifier(0), classifier(1)], (X, CLASSES))
    assert ended == [caught.value.run]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("hook", ["train_begin", "epoch_begin", "epoch_end", "train_end"])
def test_a_hook_that_finds_a_divergence_ends_its_model_alone(hook):
    @on(hook)
    def finds(run):
        if run.seed == 2:
            raise DivergedError("found by a hook")

    models, seeds = [classifier(seed) for seed in range(3)], [1, 2, 3]
    trainer = trainer_of(CrossEntropy(), epochs=2)
    expected = alone(trainer, models, (X, CLASSES), seeds=seeds)
    with pytest.raises(DivergedError, match="found by a hook") as caught:
        trainer.replace(callbacks=[finds]).fit_many(models, (X, CLASSES), seeds=seeds)
    notes = caught.value.__notes__
    assert len(notes) == len(set(notes))
    runs = caught.value.runs
    require_equal([runs[0], runs[2]], [expected[0], expected[2]], 1e-12)


@pytest.mark.skipif(not flushes(wanted=True), reason="the platform has no such mode")
def test_hooks_keep_subnormal_numbers_where_another_model_of_the_block_diverges():
    kept = []
    hook = on("train_end")(lambda run: kept.append(bool(np.float64(1e-310) * (run.seed + 0.5) > 0)))
    rates = [SGDOptimizer(learning_rate=rate) for rate in (0.01, 1e300, 0.02)]
    with pytest.raises(DivergedError):
        trainer_of(MeanSquaredError(), callbacks=[hook], epochs=2).fit_many(
            [network(seed) for seed in range(3)], (X, NUMBERS), optimizers=rates
        )
    assert kept == [True] * 3


FACTOR = 1.0


class Scaled(Loss):
    """A loss that reads a global."""

    def value(self, prediction, target):
        return FACTOR * (prediction - target) ** 2


class ScaledTanh(Activation):
    """An activation that reads a global."""

    def __call__(self, h):
        return FACTOR * np.tanh(h)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("many", [False, True], ids=["fit", "fit_many"])
def test_a_further_fit_computes_with_the_new_value_of_a_global(monkeypatch, many):
    def weights():
        train = trainer.fit_many if many else lambda models, data: trainer.fit(models[0], data)
        for value in (1.0, 2.0):
            monkeypatch.setitem(globals(), "FACTOR", value)
            start = model.parameters.vector.copy()
            train([model], (X, NUMBERS))
        return start, model.parameters.vector

    trainer, model = trainer_of(Scaled(), SGDOptimizer(learning_rate=0.01)), network(0, ScaledTanh())
    start, found = weights()
    fresh = network(0, ScaledTanh())  # made with the new value
    fresh.parameters.vector[:] = start
    trainer.replace(loss=Scaled()).fit(fresh, (X, NUMBERS))
    np.testing.assert_allclose(found, fresh.parameters.vector, rtol=1e-12)


def test_hooks_are_called_with_each_run():
    found = []
    hooks = [on(hook)(lambda run, hook=hook: found.append((hook, run))) for hook in ("train_begin", "epoch_end")]
    trainer = trainer_of(CrossEntropy(), epochs=2, callbacks=hooks)
    runs = trainer.fit_many([classifier(seed) for seed in range(3)], (X, CLASSES))
    for run in runs:
        assert [hook for hook, given in found if given is run] == ["train_begin", "epoch_end", "epoch_end"]


def test_a_model_that_diverges_ends_alone_and_its_error_is_raised_at_the_end():
    models = [network(seed) for seed in range(10)]
    rates = [SGDOptimizer(learning_rate={3: 1e30, 7: 1e160}.get(place, 0.01)) for place in range(10)]
    trainer, start = trainer_of(MeanSquaredError(), epochs=3), [model.copy() for model in models]
    with pytest.raises(DivergedError) as caught:
        trainer.fit_many(models, (X, NUMBERS), optimizers=rates)
    runs = caught.value.runs
    assert [place for place, run in enumerate(runs) if run.error is not None] == [3, 7]
    assert any("3, 7" in note for note in caught.value.__notes__)
    assert all(run.consistent and np.isfinite(run.model.parameters.vector).all() for run in runs)
    good = [place for place in range(10) if place not in (3, 7)]
    expected = alone(trainer, [start[place] for place in good], (X, NUMBERS), [rates[place] for place in good])
    require_equal([runs[place] for place in good], expected, 1e-12)
    for place in (3, 7):
        with pytest.raises(DivergedError) as one:
            trainer.replace(optimizer=rates[place]).fit(start[place], (X, NUMBERS))
        assert (one.value.run.epoch, one.value.run.step) == (runs[place].epoch, runs[place].step)


def test_an_error_of_a_callback_leaves_all_runs_consistent_and_they_can_be_resumed():
    failures = []

    @on("epoch_end")
    def fails(run):
        if run.epoch == 2 and run.seed == 1 and failures:
            raise failures.pop()

    models, seeds = [classifier(seed) for seed in range(3)], [0, 1, 2]
    trainer = trainer_of(CrossEntropy(), epochs=4, callbacks=[fails])
    expected = alone(trainer.replace(callbacks=()), models, (X, CLASSES), seeds=seeds)
    failures.append(RuntimeError("in the hook"))
    with pytest.raises(RuntimeError, match="in the hook") as caught:
        trainer.fit_many(models, (X, CLASSES), seeds=seeds)
    runs = caught.value.runs
    assert [run.model for run in runs] == models
    assert all(run.consistent and not run.active for run in runs)
    for run in runs:
        trainer.replace(seed=run.seed).resume(run, (X, CLASSES))
    require_equal(runs, expected, 1e-12)


@pytest.mark.parametrize("hook", ["train_begin", "epoch_begin", "epoch_end", "train_end"])
def test_an_error_of_a_hook_has_the_run_that_it_was_called_with(hook):
    @on(hook)
    def fails(run):
        if run.seed == 1:
            raise RuntimeError("in the hook")

    trainer = trainer_of(CrossEntropy(), callbacks=[fails])
    with pytest.raises(RuntimeError, match="in the hook") as caught:
        trainer.fit_many([classifier(seed) for seed in range(3)], (X, CLASSES), seeds=[0, 1, 2])
    assert caught.value.run is caught.value.runs[1]


def test_ctrl_c_ends_all_runs_between_steps():
    @on("epoch_end")
    def interrupt(run):
        if run.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    trainer = trainer_of(CrossEntropy(), epochs=9, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit_many([classifier(seed) for seed in range(1)], (X, CLASSES))
    assert signal.getsignal(signal.SIGINT) is handler
    for run in caught.value.runs:
        assert run.consistent
        assert (run.epoch, run.stop_reason) == (2, "interrupted by Ctrl-C")


def test_other_engines_train_one_model_after_another():
    models, rates = [classifier(seed) for seed in range(3)], [SGDOptimizer(learning_rate=0.1 * k) for k in (1, 2, 3)]
    trainer = Trainer(loss=CrossEntropy(), optimizer=PLAIN, metrics=[Accuracy()], batch_size=16)
    copies = [model.copy() for model in models]
    runs = trainer.fit_many(models, (X, CLASSES), optimizers=rates)
    for run, model, optimizer in zip(runs, copies, rates, strict=True):
        trainer.replace(optimizer=optimizer).fit(model, (X, CLASSES))
        assert run.engine == "numpy"
        np.testing.assert_array_equal(run.model.parameters.vector, model.parameters.vector)


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"callbacks": [CSVLog(path="log.csv")]}, {}, "CSVLog writes about one run.*; write a loop over fit"),
        ({"strategy": DataParallel(shards=2)}, {}, "strategy"),
        ({}, {"optimizers": [PLAIN]}, "'optimizers' must have one for each of the 2 models; got 1"),
        ({}, {"optimizers": [PLAIN, 0.1]}, "argument 'optimizers', number 1, must be of class Optimizer; got 0.1"),
        ({}, {"optimizers": [PLAIN.bind(classifier(0)), PLAIN]}, "number 0, must not be bound to a model"),
        ({}, {"seeds": [0, -1]}, "fit_many: argument 'seeds', number 1, must be .*; got -1"),
        ({}, {"seeds": [0]}, "'seeds'"),
        ({}, {"splits": [1, 2]}, "'splits'"),
        ({}, {"splits": [*KFold(2).split(X)], "validation": (X, CLASSES)}, "splits"),
        ({}, {"optimizers": PLAIN}, "'optimizers' must have one for each of the 2 models; got 1"),
        ({}, {"splits": [([], [0]), ([0], [1])]}, "'splits'"),
        ({}, {"splits": [([0], [70]), ([0], [1])]}, "'splits'.*number 0 is not: index 70"),
        ({}, {"models": []}, "'models'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_changes(settings, given, message):
    given = {"models": [classifier(0), classifier(1)], "data": (X, CLASSES)} | given
    before = [model.parameters.vector.copy() for model in given["models"]]
    with pytest.raises(SettingsError, match=message):
        trainer_of(CrossEntropy(), **settings).fit_many(**given)
    for model, vector in zip(given["models"], before, strict=True):
        np.testing.assert_array_equal(model.parameters.vector, vector)


@pytest.mark.parametrize("engine", ["numpy", "auto", "compiled"])
@pytest.mark.parametrize("callback", [CSVLog(path="log.csv"), JSONLog(path="log.jsonl"), Checkpoint(folder="saved")])
def test_every_engine_refuses_a_callback_that_all_models_would_write_by(engine, callback, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = [classifier(0), classifier(1)]
    before = [model.parameters.vector.copy() for model in models]
    trainer = trainer_of(CrossEntropy(), callbacks=[callback]).replace(engine=engine)
    with pytest.raises(SettingsError, match=f"{type(callback).__name__} writes about one run.*; write a loop over fit"):
        trainer.fit_many(models, (X, CLASSES))
    for model, vector in zip(models, before, strict=True):
        np.testing.assert_array_equal(model.parameters.vector, vector)
    assert list(tmp_path.iterdir()) == []


def test_a_data_error_of_one_split_leaves_all_models_as_they_were():
    models = [Sequential(Dense(units=4, activation=Tanh()), Dense(units=2, activation=Softmax())) for _ in range(2)]
    x = X.copy()
    x[60, 0] = np.nan
    before = [repr(model) for model in models]
    with pytest.raises(DataError, match="finite"):
        trainer_of(CrossEntropy()).fit_many(
            models, (x, CLASSES), splits=[(range(20), range(40)), (range(70), range(9))]
        )
    assert [repr(model) for model in models] == before
    assert [model.input_shape for model in models] == [(None,)] * 2


@pytest.mark.parametrize(
    ("data", "call"),
    [(X, "(x, y)"), (pd.DataFrame(X), "(table, 'target')"), (lambda _: [(X, CLASSES)], "Stream(<lambda>)")],
    ids=["array", "table", "function"],
)
def test_data_of_another_form_is_refused_with_the_call_to_write(data, call):
    with pytest.raises(DataError, match=re.escape(f"write fit_many(models, {call})")):
        trainer_of(CrossEntropy()).fit_many([classifier(0)], data)


@pytest.mark.parametrize("model", [classifier(0), neuron(0)], ids=["network", "neuron"])
def test_one_model_without_a_list_is_refused_as_such(model):
    with pytest.raises(SettingsError, match=f"must be a list of models; got {type(model).__name__}"):
        trainer_of(CrossEntropy()).fit_many(model, (X, CLASSES))


def test_one_model_twice_is_refused():
    model = classifier(0)
    with pytest.raises(SettingsError, match=r"model\.copy"):
        trainer_of(CrossEntropy()).fit_many([model, model], (X, CLASSES))
