import copy
import pickle

import numpy as np
import pytest
from oracles import stored

from framework import MeanSquaredError, Neuron, SGDOptimizer
from framework.base.errors import SettingsError
from framework.formulas import ExponentialSchedule
from framework.training import ReduceOnPlateau
from framework.training.callbacks import Callback
from framework.training.runs.run import Run
from framework.training.trainer import Trainer


def rates_on(plateau, values):
    """Return the learning rate after each epoch of a run whose monitor has these values."""
    model = Neuron(1)
    run = Run(model, SGDOptimizer(model, learning_rate=1.0), MeanSquaredError(), 0)
    run.begin([plateau])
    plateau.on_train_begin(run)
    rates = []
    for value in values:
        run.finish_epoch({plateau.monitor: value})
        plateau.on_epoch_end(run)
        rates.append(run.optimizer.learning_rate)
    return rates


FALLING = stored("plateau")["falling min patience=1"]["values"]
PLATEAUS = {
    "patience=1": {"patience": 1},
    "patience=3": {"patience": 3, "factor": 0.5},
    "min_delta": {"patience": 2, "min_delta": 0.05, "cooldown": 3},
    "minimum": {"patience": 4, "factor": 0.3, "cooldown": 1, "minimum": 0.05},
}


@pytest.mark.parametrize("series", ["falling", "noisy", "broken", "negative"])
@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("settings", PLATEAUS)
def test_the_rates_are_pytorchs(series, mode, settings):
    values, expected = stored("plateau")[f"{series} {mode} {settings}"].values()
    rates = rates_on(ReduceOnPlateau(mode=mode, **PLATEAUS[settings]), values)
    assert rates == pytest.approx(expected.tolist(), rel=1e-14)
    assert rates[-1] < 1.0


def test_an_infinite_value_is_no_best_one():
    plateau = ReduceOnPlateau(mode="max", patience=2, factor=0.5)
    assert rates_on(plateau, [1.0, np.inf, 2.0, 3.0, 4.0]) == [1.0] * 5


def test_a_rate_below_the_minimum_is_left_alone():
    assert rates_on(ReduceOnPlateau(patience=1, minimum=2.0), [1.0] * 5) == [1.0] * 5


def test_the_rate_never_becomes_0():
    rates = rates_on(ReduceOnPlateau(patience=1, factor=1e-100), [1.0] * 9)
    assert rates[-1] == rates[4] == pytest.approx(1e-300)


class Scripted(Callback):
    """Replace the loss of the row by a script's, before the plateau reads it."""

    def on_epoch_end(self, run):
        run.history[-1]["loss"] = float(FALLING[run.epoch - 1])


def trainer(plateau, epochs):
    return Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=0.1),
        epochs=epochs,
        callbacks=[Scripted(), plateau],
    )


DATA = ([[1.0], [2.0], [3.0]], [1.0, 3.0, 2.0])


@pytest.mark.parametrize(
    "carried",
    [lambda run: run, copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))],
    ids=["same", "copied", "pickled"],
)
@pytest.mark.parametrize("cut", [1, 10, 11, 12, 25])
def test_a_resumed_run_reduces_where_one_without_a_break_does(cut, carried):
    plateau = ReduceOnPlateau(monitor="loss", patience=3, factor=0.5, cooldown=2)
    whole = trainer(plateau, 35).fit(Neuron(1), DATA)
    half = trainer(plateau, 35).fit(Neuron(1), DATA, epochs=cut)
    resumed = trainer(plateau, 35).resume(carried(half), DATA)
    rates = [[row["learning_rate"] for row in run.history.rows] for run in (whole, resumed)]
    assert rates[0] == rates[1]
    assert rates[0][-1] < 0.1
    np.testing.assert_array_equal(whole.model.parameters.vector, resumed.model.parameters.vector)
    assert whole.memories == resumed.memories


def test_a_schedule_is_refused_before_the_first_step():
    model = Neuron.from_weights([0.0])
    recipe = trainer(ReduceOnPlateau(monitor="loss"), 1).replace(
        optimizer=SGDOptimizer(learning_rate=ExponentialSchedule(initial=0.1))
    )
    with pytest.raises(SettingsError, match=r"must be a number; got ExponentialSchedule"):
        recipe.fit(model, DATA)
    assert not model.parameters.vector.any()


def test_a_missing_column_is_refused_at_fit():
    with pytest.raises(SettingsError, match="give fit validation"):
        trainer(ReduceOnPlateau(), 1).fit(Neuron(1), DATA)


@pytest.mark.parametrize(
    "settings",
    [{"factor": 1.0}, {"factor": 0.0}, {"patience": 0}, {"min_delta": -1.0}, {"cooldown": -1}, {"mode": "auto"}],
    ids=str,
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        ReduceOnPlateau(**settings)
