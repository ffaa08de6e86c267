"""Divergence: training stops before the update, keeps everything, and says which step, layer and rows it was."""

import copy
import warnings

import numpy as np
import pytest

from framework import (
    L2,
    Activation,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    DivergedError,
    Dropout,
    EarlyStopping,
    Embedding,
    Flatten,
    Identity,
    MeanAbsoluteError,
    MeanSquaredError,
    Neuron,
    ReduceOnPlateau,
    ReLU,
    Residual,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    data,
    divergence,
    on,
)
from framework.data import prepare

ROWS = 11
X = np.random.default_rng(0).uniform(0.5, 1.0, size=(ROWS, 3))
Y = X.sum(axis=1)
SPIKE = 7
"""The row whose first input is so large that Spike gives no number for it."""
SPIKED = X.copy()
SPIKED[SPIKE, 0] = 1e6
KEPT = "the model keeps its last finite weights (error.run)"
AGAIN = "from these weights the step fails again: go on from earlier ones, or begin anew, with a lower rate"


class Spike(Activation):
    """The identity, but no number above 1000."""

    check = "off"

    def __call__(self, h):
        return np.where(h > 1000, np.nan, h)

    def derivative(self, h):
        return np.ones_like(h)


class Cliff(Activation):
    """The identity, with a slope that is not finite above 1000."""

    check = "off"

    def __call__(self, h):
        return 1.0 * h

    def derivative(self, h):
        return np.where(h > 1000, np.inf, 1.0)


class Rows:
    """Arrays read through the two methods of a Dataset."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def read(self, start, stop):
        return self.x[start:stop], self.y[start:stop]


def pair(x, y):
    return x, y


def weighted(x, y):
    return x, y, np.ones(len(x))


def ones(inputs, units, activation=None, dtype="float64"):
    weights = np.ones((inputs, units)) / inputs
    return Dense.from_weights(weights, activation=activation or Identity(), dtype=dtype)


def network(activation, *layers, dtype="float64"):
    first = ones(3, 4, Tanh(), dtype) if layers else ones(3, 3, dtype=dtype)
    return Sequential(first, *layers, ones(first.units, 2, activation, dtype), ones(2, 1, dtype=dtype))


def recipe(**settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01), "epochs": 3, "batch_size": 4}
    return Trainer(**default | settings)


def diverge(trainer, model, *data, **options):
    """Return the error that ends training, after a look at what must always hold."""
    with pytest.raises(DivergedError) as caught:
        trainer.fit(model, *data, **options)
    run = caught.value.run
    assert run.consistent
    assert run.model is model
    assert all(np.isfinite(row["loss"]) for row in run.history)
    return caught.value


def state_of(run):
    """Everything that a step which is not made must leave as it is, bit for bit."""
    memory = {name: array.tobytes() for name, array in run.optimizer.binding.memory.items()}
    buffers = {name: array.tobytes() for name, array in run.model.buffers.items()}
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
    counters = (run.epoch, run.step, run.batch, run.optimizer.steps, copy.deepcopy(run.sums), run.optimizer.rate())
    return run.model.parameters.vector.tobytes(), memory, buffers, rows, counters


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("form", [pair, Rows, weighted])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_layer_and_the_row_are_named(shuffle, form, dtype):
    error = diverge(recipe(shuffle=shuffle), network(Spike(), dtype=dtype), form(SPIKED, Y))
    run = error.run
    rows = 4 if run.step < 2 else 3  # the epoch's last batch is smaller
    assert error.__notes__ == [
        f"in epoch 1, step {run.step + 1}: the loss is nan",
        f"layer 1 Dense(Spike) gives nan in 1 of {rows} rows: row {SPIKE} of the data",
        KEPT,
        AGAIN,
    ]


def test_the_last_smaller_batch_and_a_later_epoch_are_counted_right():
    x = X.copy()
    x[10, 0] = 1e6

    @on("batch_end")
    def calm(run):  # the weights of the first layer let the spike through in the second epoch only
        run.model.layers[0].weights = np.zeros((3, 3)) if run.step < 5 else np.ones((3, 3))

    model = network(Spike())
    model.layers[0].weights = np.zeros((3, 3))
    error = diverge(recipe(shuffle=False, callbacks=[calm]), model, (x, Y))
    assert error.__notes__[:2] == [
        "in epoch 2, step 6: the loss is nan",
        "layer 1 Dense(Spike) gives nan in 1 of 3 rows: row 10 of the data",
    ]
    assert len(error.run.history) == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_row_is_found_after_a_resume_in_mid_epoch_too(seed):
    trainer = recipe(seed=seed)
    stop = on("batch_end")(lambda run: run.stop("after one step"))
    run = trainer.replace(callbacks=[stop]).fit(network(Spike()), (X, Y))
    for row in range(ROWS):  # those of the first step come in the next epoch
        x = X.copy()
        x[row, 0] = 1e6
        with pytest.raises(DivergedError) as caught, warnings.catch_warnings(action="ignore"):  # it is other data
            trainer.resume(copy.deepcopy(run), (x, Y))
        assert caught.value.__notes__[1].endswith(f"rows: row {row} of the data")


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (lambda: Neuron.from_weights(np.ones(3), activation=Spike()), "Neuron(Spike)"),
        (lambda: ones(3, 1, Spike()), "Dense(Spike)"),
        (lambda: Sequential(ones(3, 2), Sequential(ones(2, 2, Spike()), ones(2, 1))), "layer 1.0 Dense(Spike)"),
        (
            lambda: Sequential(ones(3, 2), Residual(ones(2, 2), ones(2, 2, Spike())), ones(2, 1)),
            "layer 1.block.1 Dense(Spike)",
        ),
        (lambda: Sequential(Residual(ones(3, 3, Spike())), Dropout(0.5), ones(3, 1)), "layer 0.block.0 Dense(Spike)"),
        (lambda: Sequential(Flatten((3,)), Residual(ones(3, 3, Spike())), ones(3, 1)), "layer 1.block.0 Dense(Spike)"),
    ],
)
def test_the_layer_is_named_wherever_it_is(model, place):
    error = diverge(recipe(), model(), (SPIKED, Y))
    assert error.__notes__[1].startswith(f"{place} gives nan in 1 of ")
    assert error.__notes__[1].endswith(f"rows: row {SPIKE} of the data")


def test_a_sum_that_overflows_in_a_residual_is_the_residuals():
    x = np.array([[1.0], [1.5e308], [1.0]])
    error = diverge(recipe(shuffle=False), Sequential(Residual(ones(1, 1)), ones(1, 1)), (x, np.zeros(3)))
    assert error.__notes__[1] == "layer 0 Residual gives inf in 1 of 3 rows: row 1 of the data"


@pytest.mark.parametrize("optimizer", [SGDOptimizer, AdamOptimizer])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_rate_far_too_large_stops_with_finite_weights(optimizer, dtype):
    model = Sequential(Dense(3, 8, ReLU(), dtype=dtype), Dense(8, 8, ReLU(), dtype=dtype), Dense(8, 1, dtype=dtype))
    states = []
    watch = on("batch_end")(lambda run: states.append(state_of(run)))
    # Adam moves each weight by about the rate in a step, so it takes more for the loss to overflow.
    rate = 1e6 if optimizer is SGDOptimizer else 1e80 if dtype == "float64" else 1e20
    trainer = recipe(optimizer=optimizer(learning_rate=rate), epochs=1000, batch_size=ROWS, callbacks=[watch])
    error = diverge(trainer, model, (X, Y))
    run = error.run
    before = states[-1]
    assert np.isfinite(model.parameters.vector).all()
    assert state_of(run)[0] == before[0]
    assert state_of(run)[1] == before[1]
    assert all(np.isfinite(array).all() for array in run.optimizer.binding.memory.values())
    assert error.__notes__[0].startswith(f"in epoch {run.epoch + 1}, step {run.step + 1}: the loss is ")
    assert error.__notes__[1].endswith(" of the data")
    assert KEPT in error.__notes__


def test_adam_at_a_rate_of_a_million_never_leaves_finite_numbers():
    """Its steps are bounded by the rate, so it does badly rather than diverge."""
    model = Sequential(Dense(3, 8, ReLU()), Dense(8, 1))
    run = recipe(optimizer=AdamOptimizer(learning_rate=1e6), epochs=20).fit(model, (X, Y))
    assert np.isfinite(model.parameters.vector).all()
    assert all(np.isfinite(row["loss"]) for row in run.history)


def test_weights_that_are_not_finite_already_are_said_to_be():
    error = diverge(recipe(optimizer=SGDOptimizer(learning_rate=1e308)), Neuron(3), (1e2 * X, Y))
    assert error.__notes__ == [
        "in epoch 1, step 2: the loss is inf",
        "the step before has already made weights, bias not finite: the rate is far too large",
    ]


@pytest.mark.parametrize("stopped", [False, True])
def test_an_update_with_no_loss_after_it_is_found_at_the_end(stopped):
    seen = []
    saver = on("epoch_end")(lambda run: seen.append(run.epoch))
    end = on("train_end")(lambda run: seen.append(type(run.error)))
    stop = on("batch_end")(lambda run: run.stop("in mid-epoch") if stopped else None)
    trainer = recipe(optimizer=SGDOptimizer(learning_rate=1e308), batch_size=6 if stopped else ROWS)
    error = diverge(trainer.replace(callbacks=[saver, end, stop]), Neuron(3), (1e2 * X, Y), epochs=1)
    assert str(error) == "the last update made weights that are not finite. Lower the learning rate"
    assert error.__notes__ == [
        "in epoch 1, step 2",
        "the step before has already made weights, bias not finite: the rate is far too large",
    ]
    assert seen == [DivergedError]


def test_weights_that_were_never_finite_are_said_to_be():
    model = Sequential(Dense(3, 2), Dense(2, 1))
    model.parameters["1.bias"][0] = np.inf
    error = diverge(recipe(), model, (X, Y))
    assert error.__notes__[1:] == ["1.bias held numbers that are not finite before the first step"]


@pytest.mark.parametrize("form", [pair, Rows])
def test_an_overflow_in_the_loss_alone_names_the_row(form):
    y = Y.copy()
    y[5] = 1e200
    error = diverge(recipe(), Neuron(3), form(X, y))
    assert error.__notes__[0].endswith("the loss is inf")
    assert error.__notes__[1].startswith("every layer's output is finite, but the loss is inf in 1 of ")
    assert error.__notes__[1].endswith("rows: row 5 of the data")


def test_an_overflow_in_the_sum_of_the_losses_names_the_largest():
    y = np.full(ROWS, 1e154)
    y[2] = 1.2e154
    error = diverge(recipe(batch_size=ROWS), Neuron(3), (X, y))
    assert error.__notes__[1] == (
        "each row's loss is finite, but their sum is not; the largest loss is 1.44e+308, in row 2 of the data"
    )


def test_many_rows_are_counted_rather_than_listed():
    error = diverge(recipe(shuffle=False, batch_size=ROWS), Neuron(3), (X, np.full(ROWS, 1e200)))
    assert error.__notes__[1].endswith(f"inf in {ROWS} of {ROWS} rows: rows 0, 1, 2, 3, 4 and 6 more of the data")


@pytest.mark.parametrize(
    ("model", "loss", "y", "place"),
    [
        (
            lambda w: Neuron.from_weights(w, activation=Sigmoid()),
            BinaryCrossEntropy(),
            np.ones(ROWS),
            "Neuron(Sigmoid)",
        ),
        (
            lambda w: Sequential(ones(3, 3), Dense.from_weights(np.outer(w, [1, -1]), activation=Softmax())),
            CrossEntropy(),
            np.zeros(ROWS, int),
            "layer 1 Dense(Softmax)",
        ),
    ],
)
def test_a_preactivation_that_overflows_is_found_behind_the_fused_loss(model, loss, y, place):
    x = X.copy()
    x[SPIKE] *= 1e3
    error = diverge(recipe(loss=loss, shuffle=False), model(np.full(3, 1e307)), (x, y))
    assert error.__notes__[1].startswith(place)
    assert error.__notes__[1].endswith(f"in 1 of 4 rows: row {SPIKE} of the data")


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (lambda: network(Cliff()), "layer 1 Dense(Cliff)"),
        (lambda: Sequential(ones(3, 1, Cliff())), "layer 0 Dense(Cliff)"),
        (lambda: Neuron.from_weights(np.ones(3), activation=Cliff()), "Neuron(Cliff)"),
        (lambda: Sequential(ones(3, 3), Residual(ones(3, 3, Cliff())), ones(3, 1)), "layer 1.block.0 Dense(Cliff)"),
    ],
)
@pytest.mark.parametrize("optimizer", [SGDOptimizer, AdamOptimizer])
def test_a_gradient_that_is_not_finite_while_the_loss_is_names_layer_and_row(model, place, optimizer):
    model, states = model(), []
    watch = on("gradients")(lambda run: states.append(state_of(run)))
    trainer = recipe(loss=MeanAbsoluteError(), optimizer=optimizer(learning_rate=0.01), callbacks=[watch])
    error = diverge(trainer, model, (SPIKED, Y))
    assert str(error).startswith("the gradient of ")
    assert float(error.__notes__[0].rpartition(" ")[2]) < 1e6
    assert error.__notes__[1].startswith(f"{place} hands back a gradient of inf")
    assert error.__notes__[1].endswith(f"rows: row {SPIKE} of the data")
    assert error.__notes__[2:] == [KEPT, AGAIN]
    assert state_of(error.run) == states[-1]


def test_a_gradient_that_overflows_in_a_product_names_layer_and_parameter():
    x = X.copy()
    x[SPIKE] = 1e200
    y = np.where(np.arange(ROWS) == SPIKE, 1e120, Y)
    model = Neuron.from_weights([0.0, 0.0, 0.0])
    error = diverge(recipe(batch_size=ROWS), model, (x, y))
    assert error.__notes__[1] == (
        "Neuron(Identity) makes of finite numbers a gradient that is not, that of weights; "
        f"the largest loss is 1e+240, in row {SPIKE} of the data"
    )


def test_a_gradient_that_is_not_finite_but_frozen_stops_nothing():
    model = Sequential(ones(3, 2), ones(2, 2, Cliff()), ones(2, 1))
    model.parameters.freeze("0.weights", "0.bias", "1.weights", "1.bias")
    assert recipe(loss=MeanAbsoluteError()).fit(model, (SPIKED, Y)).epoch == 3


class Poison:
    """A hook that makes one gradient NaN, once."""

    def __init__(self, step):
        self.step = step

    def __call__(self, run):
        if run.step == self.step:
            run.model.parameters.gradients["0.bias"][0] = np.nan


def normalized():
    return Sequential(Dense(3, 4), BatchNorm(4), Dense(4, 1), seed=1)


@pytest.mark.parametrize(
    "optimizer", [SGDOptimizer(learning_rate=0.01, momentum=0.9), AdamOptimizer(learning_rate=0.01)]
)
@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_hook_that_writes_nan_is_told_from_the_loss_and_costs_one_step_only(optimizer, step):
    states = []
    watch = on("batch_begin")(lambda run: states.append(state_of(run)))
    trainer = recipe(optimizer=optimizer)
    poisoned = trainer.replace(callbacks=[watch, on("gradients")(Poison(step))])
    error = diverge(poisoned, normalized(), (X, Y))
    assert error.run.step == step
    assert str(error).startswith("the gradient of 0.bias is not finite")
    assert error.__notes__[1:] == [
        "the loss gives 0.bias a finite gradient, which a regularizer or an on_gradients hook changed",
        KEPT,
    ]
    assert state_of(error.run) == states[-1]  # the buffers of BatchNorm too
    run = trainer.resume(error.run, (X, Y))
    assert state_of(run) == state_of(trainer.fit(normalized(), (X, Y)))


def test_a_square_that_overflows_goes_on_once_the_gradient_is_clipped():
    neuron = Neuron.from_weights(np.ones(3), dtype="float32")
    trainer = recipe(loss=MeanAbsoluteError(), optimizer=AdamOptimizer(learning_rate=0.1))
    x = 1e20 * X
    error = diverge(trainer, neuron, (x, Y))
    assert "squares the gradient" in str(error)
    assert error.__notes__[1].startswith("loss and gradient are finite; the largest gradient is ")
    assert ", of weights; the largest loss is " in error.__notes__[1]
    assert error.__notes__[2:] == [KEPT]
    error.run.optimizer.clip_norm = 1.0
    assert trainer.resume(error.run, (x, Y)).epoch == 3


def test_a_penalty_that_overflows_is_told():
    neuron = Neuron.from_weights([1e200, 1.0, 1.0])
    error = diverge(recipe(loss=MeanAbsoluteError(), regularizers=[L2(strength=0.1)]), neuron, (X, Y))
    assert str(error).startswith("L2: the penalty is not finite")
    assert error.__notes__[1].startswith("loss and gradient are finite; ")
    assert neuron.weights[0] == 1e200


def test_training_goes_on_from_earlier_weights_at_a_lower_rate():
    model = Neuron.from_weights([0.1, 0.2, 0.3])
    start = model.parameters.vector.copy()
    trainer = recipe(optimizer=SGDOptimizer(learning_rate=1e6), epochs=200)
    run = diverge(trainer, model, (X, Y)).run
    step, kept = run.step, model.parameters.vector.tobytes()
    run.optimizer.learning_rate = 0.01
    with pytest.raises(DivergedError) as caught:  # the weights that are kept are finite, but their loss is not
        trainer.resume(run, (X, Y))
    assert caught.value.__notes__[-1] == AGAIN
    assert (run.step, model.parameters.vector.tobytes()) == (step, kept)
    model.parameters.vector[:] = start
    assert trainer.resume(run, (X, Y)) is run
    assert run.epoch == 200
    assert run.history[-1]["loss"] < 0.1


def test_nothing_that_is_not_finite_is_ever_the_best():
    nan_at = {2: np.nan, 3: np.inf, 5: -np.inf}
    stopping = EarlyStopping(monitor="val_loss", patience=4, restore_best=True)
    plateau = ReduceOnPlateau(monitor="val_loss", patience=50)

    @on("epoch_end")
    def spoil(run):  # as an overflow in validation would
        if run.epoch in nan_at:
            run.history.rows[-1]["val_loss"] = nan_at[run.epoch]

    seen = []

    @on("epoch_end")
    def look(run):
        seen.append((run.memory(stopping).get("best"), run.memory(plateau).get("best"), run.history[-1]["val_loss"]))

    recipe(epochs=6, callbacks=[spoil, stopping, plateau, look]).fit(Neuron(3), (X, Y), (X, Y))
    assert all(np.isfinite(best) and best == other for best, other, _ in seen)


def test_a_validation_loss_that_is_not_finite_is_recorded_as_it_is():
    far = np.full((2, 3), 1e200)
    stopping = EarlyStopping(patience=3)
    run = recipe(epochs=9, callbacks=[stopping]).fit(Neuron.from_weights(np.ones(3)), (X, Y), (far, np.zeros(2)))
    assert run.history.column("val_loss") == [np.inf] * 3
    assert run.stop_reason == "EarlyStopping: val_loss was never finite; no improvement in 3 epochs"
    run = recipe(epochs=1).fit(network(Spike()), (X, Y), (SPIKED, Y))
    assert np.isnan(run.history[0]["val_loss"])
    assert np.isfinite(run.history[0]["loss"])


def test_an_error_after_the_step_or_from_another_fit_does_not_examine_this_batch():
    @on("batch_end")
    def late(_run):
        raise DivergedError("a check of my own")

    error = diverge(recipe(callbacks=[late]), Neuron(3), (X, Y))
    assert error.__notes__[1:] == ["in epoch 1, step 2", KEPT]

    @on("batch_begin")
    def inner(_run):
        recipe().fit(network(Spike()), (SPIKED, Y))

    error = diverge(recipe(callbacks=[inner]), Neuron(3), (X, Y))
    assert error.__notes__[-2:] == ["in epoch 1, step 1", KEPT]
    assert isinstance(error.run.model, Neuron)


def test_an_own_divergence_in_a_step_is_examined_like_any():
    @on("gradients")
    def strict(_run):
        raise DivergedError("too large for me")

    error = diverge(recipe(callbacks=[strict]), Neuron(3), (X, Y))
    assert error.__notes__[1].startswith("in epoch 1, step 1: the loss is ")
    assert error.__notes__[2].startswith("loss and gradient are finite")


class Moody(Activation):
    """Gives NaN at its first call in training, and an error at every later one."""

    check = "off"

    def __call__(self, h):
        CALLS.append(h)
        if len(CALLS) > 1:
            raise OSError("not twice")
        return h * np.nan

    def derivative(self, h):
        return np.ones_like(h)


CALLS = []


def test_an_examination_that_fails_leaves_the_error_as_it_is():
    CALLS.clear()
    error = diverge(recipe(), ones(3, 1, Moody()), (X, Y))
    assert str(error).startswith("MeanSquaredError: the loss is not finite")
    assert error.__notes__ == [
        "in epoch 1, step 1: the batch could not be examined further: OSError: not twice",
        KEPT,
    ]


def test_what_was_found_before_the_examination_failed_is_told(monkeypatch):
    def broken(*_arguments):
        raise ValueError("broken")

    monkeypatch.setattr(divergence, "_cause", broken)
    error = diverge(recipe(), network(Spike()), (SPIKED, Y))
    assert error.__notes__[0].endswith("the loss is nan")
    assert error.__notes__[1:] == ["the batch could not be examined further: ValueError: broken", KEPT]


def test_the_examination_changes_nothing_in_the_model():
    seen = []
    model = Sequential(Dense(3, 4), BatchNorm(4), Dropout(0.5), Dense(4, 1, Cliff()))
    model.layers[3].weights = np.full((4, 1), 1e6)

    @on("gradients")
    def look(run):
        seen.append((state_of(run), model.parameters.gradient.tobytes(), model._built().record.output.tobytes()))

    error = diverge(recipe(loss=MeanAbsoluteError(), callbacks=[look]), model, (X, Y))
    vector, memory, _, rows, counters = seen[-1][0]
    after = state_of(error.run)
    assert (after[0], after[1], after[3], after[4]) == (vector, memory, rows, counters)
    assert model.parameters.gradient.tobytes() == seen[-1][1]
    assert model._built().record.output.tobytes() == seen[-1][2]


def test_ids_have_no_gradient_but_their_rows_are_found():
    ids = np.arange(8.0).reshape(4, 2)
    model = Sequential(Embedding(8, 2), Flatten((2, 2)), ones(4, 1, Spike()))
    model.parameters["0.weights"][5] = 1e9
    error = diverge(recipe(), model, (ids, np.zeros(4)))
    assert error.__notes__[1] == "layer 2 Dense(Spike) gives nan in 1 of 4 rows: row 2 of the data"


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("rows", [1, 40, 53])
@pytest.mark.parametrize("size", [1, 7, 12, 100])
@pytest.mark.parametrize("form", [pair, Rows])
def test_rows_of_a_batch_are_those_that_the_batch_holds(monkeypatch, shuffle, rows, size, form):
    monkeypatch.setattr(data, "BLOCK_ROWS", 4)
    monkeypatch.setattr(data, "WINDOW_BLOCKS", 3)
    numbers = np.arange(float(rows))
    source = prepare(form(numbers[:, None], numbers), Neuron(1), (MeanSquaredError(),), "fit")
    order = (3, 1) if shuffle else None
    found = []
    for place, (x, _, _) in enumerate(source.batches(size, 0, order)):
        found.append(source.rows_of(size, place * size, order))
        assert np.array_equal(found[-1], x[:, 0])
    assert sorted(np.concatenate(found)) == list(range(rows))
    assert (np.concatenate(found).tolist() == list(range(rows))) == (not shuffle or rows == 1)
