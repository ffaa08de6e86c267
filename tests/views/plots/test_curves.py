import matplotlib.pyplot as plt
import numpy as np
import pytest

from framework import DataError, Dense, MeanSquaredError, Sequential, SettingsError, SGDOptimizer, Tanh, Trainer
from framework.training import History, RecordNorms
from framework.views import plots

ROWS = [
    {"epoch": 1, "loss": 0.9, "val_loss": 1.0, "accuracy": 0.5, "val_accuracy": 0.4, "learning_rate": 0.1},
    {"epoch": 2, "loss": 0.5, "val_loss": 0.6, "accuracy": 0.7, "val_accuracy": 0.8, "learning_rate": 0.05},
    {"epoch": 3, "loss": 0.4, "val_loss": 0.7, "accuracy": 0.8, "val_accuracy": 0.6, "learning_rate": 0.02},
]
HISTORY = History(ROWS)


def column(key):
    return [[row["epoch"], row[key]] for row in ROWS]


def test_training_is_solid_and_validation_dashed_in_one_colour(axis):
    HISTORY.plot(axis=axis)
    train, held_out, best = axis.lines
    assert train.get_xydata().tolist() == column("loss")
    assert held_out.get_xydata().tolist() == column("val_loss")
    assert train.get_color() == held_out.get_color()
    assert (train.get_linestyle(), held_out.get_linestyle()) == ("-", "--")
    assert best.get_xydata().tolist() == [[2, 0.6]]
    assert best.get_label() == "best val_loss: 0.6, epoch 2"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "loss")


def test_a_run_draws_its_history(axis):
    run = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3).fit(
        Dense(1, 1), ([[1.0], [2.0]], [[2.0], [4.0]])
    )
    run.plot(axis=axis)
    assert axis.lines[0].get_ydata().tolist() == run.history["loss"]
    assert axis.lines[1].get_xydata().tolist() == [[3, run.history["loss"][2]]]


@pytest.mark.parametrize(("mode", "epoch"), [("max", 2), ("min", 1)])
def test_the_best_epoch_of_another_column_is_marked_when_mode_says_what_is_best(axis, mode, epoch):
    HISTORY.plot("accuracy", mode=mode, axis=axis)
    assert axis.lines[-1].get_xydata().tolist() == [[epoch, ROWS[epoch - 1]["val_accuracy"]]]


def test_nothing_is_marked_when_nothing_says_what_is_best(axis):
    HISTORY.plot("accuracy", axis=axis)
    assert [line.get_label() for line in axis.lines] == ["accuracy", "val_accuracy"]


def test_a_value_that_is_not_finite_is_never_the_best(axis):
    losses = [np.nan, -np.inf, 2.0, np.inf]
    History([{"epoch": place, "loss": loss} for place, loss in enumerate(losses, 1)]).plot(axis=axis)
    assert axis.lines[-1].get_xydata().tolist() == [[3, 2.0]]


def test_another_unit_gets_an_axis_on_the_right_and_the_same_legend(axis):
    HISTORY.plot("loss", right="learning_rate", axis=axis)
    twin = axis.figure.axes[1]
    assert twin.lines[0].get_xydata().tolist() == column("learning_rate")
    assert twin.get_ylabel() == "learning_rate"
    assert twin.lines[0].get_color() != axis.lines[0].get_color()
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["loss", "val_loss", "learning_rate", "best val_loss: 0.6, epoch 2"]


def test_an_epoch_without_validation_leaves_a_gap(axis):
    History([ROWS[0], {"epoch": 2, "loss": 0.5}, ROWS[2]]).plot(axis=axis)
    assert np.isnan(axis.lines[1].get_ydata()).tolist() == [False, True, False]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_epochs_are_whole_numbers(axis, epochs):
    History(ROWS[:epochs]).plot(axis=axis)
    assert all(tick == round(tick) for tick in axis.get_xticks())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: History().plot(), "plots.learning_curves: argument 'history' must have a finished epoch; it has none"),
        (lambda: plots.learning_curves([1.0]), r"argument 'history' must be a run, or its history; got \[1.0\]"),
        (lambda: HISTORY.plot("los"), "has no column 'los'; did you mean 'loss'.* Columns: epoch, loss, val_loss"),
        (lambda: HISTORY.plot(right="rate"), "has no column 'rate'"),
        (lambda: HISTORY.plot(mode="best"), "argument 'mode' must be 'min' or 'max'; got 'best'"),
        (lambda: plots.compare_runs([]), "argument 'runs' must hold a run or more; it is empty"),
        (lambda: plots.compare_runs(HISTORY), "argument 'runs' must be a dict of runs by name, or a list of runs"),
        (lambda: plots.compare_runs({"a": HISTORY, "b": History()}), r"argument 'runs\['b'\]' must have a finished"),
        (
            lambda: plots.compare_runs({"a": HISTORY}, "f1"),
            "compare_runs: run 'a': the history has no column 'f1'",
        ),
        (lambda: plots.norms(HISTORY), r"has no norms of layers; train with Trainer\(callbacks=\[RecordNorms\(\)\]\)"),
        (lambda: plots.norms(HISTORY, "bias"), "argument 'of' must be 'gradient' or 'weight'; got 'bias'"),
        (lambda: plots.learning_rate_search(HISTORY), "argument 'search' must be what trainer.find_learning_rate"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_leaves_no_figure(call, message):
    before = plt.get_fignums()  # the blocks of a page may leave some
    with pytest.raises((SettingsError, DataError), match=message):
        call()
    assert plt.get_fignums() == before


def test_runs_are_told_apart_without_colour(axis):
    plots.compare_runs({"a": HISTORY, "b": HISTORY, "c": History(ROWS[:2])}, "val_loss", axis=axis)
    assert [line.get_xydata().tolist() for line in axis.lines] == [column("val_loss")] * 2 + [column("val_loss")[:2]]
    assert len({line.get_marker() for line in axis.lines}) == 3
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b", "c"]
    assert axis.get_ylabel() == "val_loss"


@pytest.mark.parametrize("of", ["gradient", "weight"])
def test_norms_are_those_of_the_callback(axis, of):
    model = Sequential(Dense(2, 3, Tanh()), Dense(3, 1))
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=4, callbacks=[RecordNorms()]
    )
    run = trainer.fit(model, ([[1.0, 2.0], [2.0, -1.0]], [[2.0], [4.0]]))
    plots.norms(run, of, axis=axis)
    assert [line.get_label() for line in axis.lines] == ["layer 0", "layer 1"]
    assert axis.lines[1].get_ydata().tolist() == run.history[f"{of}_norm_1"]
    assert axis.get_yscale() == "log"
