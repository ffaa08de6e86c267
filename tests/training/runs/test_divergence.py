"""Divergence: training stops before the update, keeps everything, and says which step, layer and rows it was."""

import copy
import warnings

import numpy as np
import pytest
from divergence_pieces import (
    AGAIN,
    KEPT,
    ROWS,
    SPIKE,
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
    weighted,
)

from framework import (
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    DivergedError,
    Dropout,
    Flatten,
    Heads,
    MeanAbsoluteError,
    MeanSquaredError,
    Model,
    Neuron,
    ReLU,
    Residual,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    on,
)
from framework.formulas import OutputLosses
from framework.models import Composite


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
    assert all(np.isfinite(array).all() for array in run.optimizer.memory.values())
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
def test_a_preactivation_that_overflows_is_found_behind_a_loss_of_it(model, loss, y, place):
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
    assert error.__notes__[1].startswith(f"{place} returns a gradient of inf")
    assert error.__notes__[1].endswith(f"rows: row {SPIKE} of the data")
    assert error.__notes__[2:] == [KEPT, AGAIN]
    assert state_of(error.run) == states[-1]


class Twice(Composite):
    """body(x) + body(2 x): one child with two calls, whose gradients are derived."""

    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        return self.forward_child("body", x, record) + self.forward_child("body", 2.0 * x, record)


class Rooted(Twice):
    """body(sqrt(1000 - x)): what is no number is made before the child is called."""

    def apply(self, x, values, record):
        return self.forward_child("body", np.sqrt(1000.0 - x), record)


@pytest.mark.parametrize(
    ("layer", "line"),
    [
        (lambda: Twice(body=ones(3, 3, Spike())), "layer 1.body Dense(Spike) gives nan"),
        (lambda: Twice(body=ones(3, 3, Cliff())), "layer 1.body Dense(Cliff) returns a gradient of inf"),
        (lambda: Rooted(body=ones(3, 3)), "layer 1 Rooted gives nan"),
        (lambda: Residual(Twice(body=ones(3, 3, Cliff()))), "layer 1.block.0.body Dense(Cliff) returns a gradient"),
    ],
)
def test_the_layer_is_named_inside_a_composite(layer, line):
    model = Sequential(Flatten((3,)), layer(), ones(3, 1))
    error = diverge(recipe(loss=MeanAbsoluteError()), model, (SPIKED, Y))
    assert error.__notes__[1].startswith(line)
    assert error.__notes__[1].endswith(f"rows: row {SPIKE} of the data")


@pytest.mark.parametrize("names", [("price", "late"), ("late", "price")])
def test_the_output_whose_gradient_is_not_finite_is_named_among_several(names):
    heads = Heads(**{name: ones(3, 1, Cliff() if name == "price" else None) for name in names})
    loss = OutputLosses(**{name: MeanAbsoluteError() for name in names})
    error = diverge(recipe(loss=loss), Sequential(ones(3, 3), heads), (SPIKED, dict.fromkeys(names, Y)))
    assert error.__notes__[1].startswith("layer 1.price Dense(Cliff) returns a gradient of inf in 1 of ")
    assert error.__notes__[1].endswith(f"rows: row {SPIKE} of the data")


def test_an_output_without_a_weight_is_not_blamed():
    heads = Heads(price=ones(3, 1), late=ones(3, 1))
    y = {"price": np.where(np.arange(ROWS) == 5, 1e200, Y), "late": np.full(ROWS, 1e200)}
    loss = OutputLosses(price=MeanSquaredError(), late=MeanSquaredError(), weights={"late": 0.0})
    error = diverge(recipe(loss=loss), Sequential(ones(3, 3), heads), (X, y))
    assert error.__notes__[1].startswith(
        "every layer's output is finite, but the loss of output 'price' is inf in 1 of "
    )
    assert error.__notes__[1].endswith("rows: row 5 of the data")


class PoisonedError(MeanSquaredError):
    """A mean squared error whose own backward spoils a gradient."""

    def backward(self, model, target, weight=None, **options):
        loss = super().backward(model, target, weight, **options)
        model.parameters.gradients["bias"][...] = np.nan
        return loss


def test_a_backward_that_the_loss_writes_is_blamed_for_its_gradient():
    error = diverge(recipe(loss=PoisonedError()), Neuron(3), (X, Y))
    assert error.__notes__[1:] == [
        "the loss is finite, but PoisonedError.backward gives bias a gradient that is not",
        KEPT,
        AGAIN,
    ]


def test_an_examined_buffer_that_is_not_finite_is_left_to_its_error():
    error = diverge(recipe(), Sequential(BatchNorm(3), ones(3, 1)), (1e200 * X, Y))
    assert "the new value of buffer 'running_variance' is not finite" in str(error)
    assert error.__notes__ == ["in epoch 1, step 1", KEPT]


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
