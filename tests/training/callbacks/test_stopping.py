"""Callbacks that stop training early."""

import math

import numpy as np
import pytest

from framework import EarlyStopping, MeanSquaredError, Neuron, SGDOptimizer, Trainer, on
from framework.training import StopOnConvergence

X, Y = np.arange(5.0)[:, None], np.arange(5.0)


def recipe(*callbacks, **settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01), "batch_size": 2}
    return Trainer(**default | settings, callbacks=callbacks)


def scripted(callback, values):
    """Train with these numbers as each epoch's loss and seconds, None for NaN, for as long as the callback lets it."""

    @on("epoch_end")
    def script(run):
        value = values[run.epoch - 1]
        value = math.nan if value is None else value
        run.history[-1].update(loss=value, seconds=value)  # of which one may be judged by its greatest value

    return recipe(script, callback, epochs=len(values)).fit(Neuron(1), (X, Y))


@pytest.mark.parametrize(
    ("settings", "values", "last", "best"),
    [
        ({}, [3, 2, 1, 1, 1, 1], 5, 3),
        ({}, [3, 2, 2, 1, 1, 0, 0, 0, 0], 8, 6),
        ({"mode": "max"}, [1, 2, 3, 2, 2, 9], 5, 3),
        ({"min_delta": 0.5}, [3, 2, 1.6, 1.5, 9], 4, 2),
        ({"min_delta": 0.5}, [3, 2, 1.6, 1.4, 1.3, 1.2], 6, 4),
        ({"mode": "max", "min_delta": 0.5}, [1, 2, 2.5, 2.4, 9], 4, 2),
        ({"patience": 1}, [3, 4, 1], 2, 1),
        ({}, [None, 3, None, None, 1], 4, 2),
        ({}, [-math.inf, 3, 4, 5, 1], 4, 2),
        ({"mode": "max"}, [math.inf, 3, None, 2, 9], 4, 2),
    ],
)
def test_early_stopping_waits_for_an_improvement(settings, values, last, best):
    callback = EarlyStopping(**{"monitor": "seconds", "patience": 2} | settings)
    run = scripted(callback, values)
    memory = run.memory(callback)
    assert (run.epoch, memory["best_epoch"], memory["best"]) == (last, best, values[best - 1])
    waited = settings.get("patience", 2)
    assert run.stop_reason == (
        f"EarlyStopping: seconds was best, {values[best - 1]:g}, in epoch {best}; no improvement in {waited} epochs"
    )


def test_a_figure_that_is_never_finite_is_never_the_best():
    callback = EarlyStopping(monitor="loss", patience=2, restore_best=True)
    run = scripted(callback, [None, math.inf, 1.0])
    assert run.memory(callback) == {"waited": 2}
    assert run.stop_reason == "EarlyStopping: loss was never finite; no improvement in 2 epochs"


def test_early_stopping_goes_on_counting_after_a_resume():
    callback = EarlyStopping(monitor="val_loss", patience=3, min_delta=1e9)  # no epoch improves
    run = recipe(callback, epochs=2).fit(Neuron(1), (X, Y), (X, Y))
    assert run.memory(callback)["waited"] == 1
    recipe(callback).resume(run, (X, Y), (X, Y), epochs=10)
    assert run.epoch == 4


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_best_weights_are_restored_on_request(restore_best):
    weights = []
    keep = on("epoch_end")(lambda run: weights.append(run.model.parameters.vector.copy()))
    callback = EarlyStopping(monitor="loss", min_delta=1e9, patience=2, restore_best=restore_best)
    model = Neuron(1)
    run = recipe(keep, callback, epochs=5).fit(model, (X, Y))
    assert run.epoch == 3
    assert np.array_equal(model.parameters.vector, weights[0 if restore_best else 2])


def test_the_best_weights_are_not_restored_after_an_error():
    @on("epoch_end")
    def fail(run):
        if run.epoch == 2:
            raise OSError("full")

    model = Neuron(1)
    with pytest.raises(OSError, match="full") as caught:
        recipe(EarlyStopping(monitor="loss", min_delta=1e9, restore_best=True), fail, epochs=5).fit(model, (X, Y))
    two = recipe(epochs=2).fit(Neuron(1), (X, Y))
    assert np.array_equal(caught.value.run.model.parameters.vector, two.model.parameters.vector)


@pytest.mark.parametrize(
    ("settings", "values", "last"),
    [
        ({}, [4, 2, 1.9, 1.5, 1], 3),
        ({"patience": 2}, [4, 3.9, 2, 1.9, 1.85, 1], 5),
        ({}, [4, 4.1, 9], 2),
        ({}, [4, 0, 0, 9], 3),
        ({}, [-4, -4, 9], 2),
        ({}, [None, None, None], 3),
        ({}, [math.inf, 4, math.inf, math.inf], 4),
    ],
)
def test_training_stops_when_the_change_of_the_cost_is_insignificant(settings, values, last):
    run = scripted(StopOnConvergence(**{"tolerance": 0.1} | settings), values)
    assert run.epoch == last
    if last < len(values):
        assert run.stop_reason == (
            f"StopOnConvergence: loss changed from {values[last - 2]:g} to {values[last - 1]:g} only"
        )
