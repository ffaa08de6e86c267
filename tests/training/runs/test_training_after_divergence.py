"""After a divergence: hooks, penalties, going on, examinations that fail, and which rows a batch holds."""

import numpy as np
import pytest
from divergence_pieces import (
    AGAIN,
    KEPT,
    SPIKED,
    Cliff,
    Rows,
    Spike,
    X,
    Y,
    diverge,
    network,
    ones,
    pair,
    recipe,
    state_of,
)
from left_out import hooks_differ

from framework import (
    L2,
    AdamOptimizer,
    BatchNorm,
    Dense,
    DivergedError,
    Dropout,
    EarlyStopping,
    Embedding,
    Flatten,
    Layer,
    MeanAbsoluteError,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    Stream,
    on,
)
from framework.data import blocks
from framework.data.pieces import Position
from framework.models.rows import prepare
from framework.training import ReduceOnPlateau
from framework.training.runs import divergence


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
@hooks_differ
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


class Moody(Layer):
    """Gives NaN in the step, which is made again by hand for the error of its loss; an error at every later call."""

    check = "off"

    def apply(self, x, values, record):
        CALLS.append(x)
        if len(CALLS) > 2:
            raise OSError("not thrice")
        return x * np.nan

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


CALLS = []


def test_an_examination_that_fails_leaves_the_error_as_it_is():
    CALLS.clear()
    error = diverge(recipe(), Sequential(Dense(3, 1), Moody()), (X, Y))
    assert str(error).startswith("MeanSquaredError: the loss is not finite")
    assert error.__notes__ == [
        "in epoch 1, step 1: the batch could not be examined further: OSError: not thrice",
        KEPT,
    ]


def test_what_was_found_before_the_examination_failed_is_told(monkeypatch):
    def broken(*_arguments):
        raise ValueError("broken")

    monkeypatch.setattr(divergence, "_causes", broken)
    error = diverge(recipe(), network(Spike()), (SPIKED, Y))
    assert error.__notes__[0].endswith("the loss is nan")
    assert error.__notes__[1:] == ["the batch could not be examined further: ValueError: broken", KEPT]


def test_the_examination_changes_nothing_in_the_model():
    seen = []
    model = Sequential(Dense(3, 4), BatchNorm(4), Dropout(0.5), Dense(4, 1, Cliff()))
    model.layers[3].weights = np.full((4, 1), 1e6)

    @on("gradients")
    def look(run):
        seen.append((state_of(run), model.parameters.gradient.tobytes()))

    error = diverge(recipe(loss=MeanAbsoluteError(), callbacks=[look]), model, (X, Y))
    vector, memory, _, rows, counters = seen[-1][0]
    after = state_of(error.run)
    assert (after[0], after[1], after[3], after[4]) == (vector, memory, rows, counters)
    assert model.parameters.gradient.tobytes() == seen[-1][1]


def test_ids_have_no_gradient_but_their_rows_are_found():
    ids = np.arange(8.0).reshape(4, 2)
    model = Sequential(Embedding(8, 2), Flatten((2, 2)), ones(4, 1, Spike()))
    model.parameters["0.weights"][5] = 1e9
    error = diverge(recipe(), model, (ids, np.zeros(4)))
    assert error.__notes__[1] == "layer 2 Dense(Spike) gives nan in 1 of 4 rows: row 2 of the data"


def streamed(x, y):
    """A stream of small batches, whose number of rows is not known before its end."""
    return Stream(
        lambda _epoch: [(x[start : start + 3], y[start : start + 3]) for start in range(0, len(y), 3)], window=10
    )


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("rows", [1, 40, 53])
@pytest.mark.parametrize("size", [1, 7, 12, 100])
@pytest.mark.parametrize("form", [pair, Rows, streamed])
def test_rows_of_a_batch_are_those_that_the_batch_holds(monkeypatch, shuffle, rows, size, form):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 4)
    monkeypatch.setattr(blocks, "WINDOW_NUMBERS", 12)
    monkeypatch.setattr(blocks, "WINDOW_BLOCKS", 3)
    numbers = np.arange(float(rows))
    source = prepare(form(numbers[:, None], numbers), Neuron(1), (MeanSquaredError(),), "fit")
    order = (3, 1) if shuffle else None
    found = []
    for place, (x, _, _) in enumerate(source.cut_batches(size, 0, order)):
        found.append(source.rows_of(Position(size, place * size, order)))
        assert np.array_equal(found[-1], x[:, 0])
    assert sorted(np.concatenate(found)) == list(range(rows))
    assert (np.concatenate(found).tolist() == list(range(rows))) == (not shuffle or rows == 1)
