"""The history: rows, columns, and the same numbers in JSON and CSV."""

import copy
import csv
import io
import math
import pickle
import re

import pytest

from framework import DataError, MeanSquaredError, Neuron, SettingsError, SGDOptimizer, Trainer, on
from framework.training import History

ROWS = [
    {"epoch": 1, "loss": 0.1, "learning_rate": 0.5},
    {"epoch": 2, "loss": 1 / 3, "val_loss": math.nan, "learning_rate": 0.5},
    {"epoch": 3, "loss": 1e-300, "val_loss": math.inf, "learning_rate": 0.5},
]

PUTS = {
    "assign": lambda row, key, value: row.__setitem__(key, value),
    "setdefault": lambda row, key, value: row.setdefault(key, value),
    "update": lambda row, key, value: row.update({key: value}),
    "or": lambda row, key, value: row.__ior__({key: value}),
}


def test_it_is_a_sequence_of_rows():
    history = History(ROWS[:2])
    history.append(ROWS[2])
    assert len(history) == 3
    assert repr(list(history)) == repr(history.rows)
    assert history[::2] == [history[0], history[-1]] == ROWS[::2]
    assert history[-1] is history.rows[2]
    assert [math.isnan(value) for value in history[1].values()] == [False, False, False, True]
    assert repr(History(ROWS[:1])) == f"History(1 epochs, last {ROWS[0]})"
    assert repr(History()) == "History(0 epochs, last None)"


def test_rows_are_copies_and_the_newest_may_be_changed():
    history = History(ROWS)
    history[0]["loss"] = history[-1]["loss"] = history[-1]["more"] = 0.0
    assert ROWS[0]["loss"] == history[0]["loss"] == 0.1
    assert ROWS[2]["loss"] == 1e-300
    history.append({"epoch": 4})
    assert history["loss"] == [0.1, 1 / 3, 0.0, None]
    assert history["more"] == [None, None, 0.0, None]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda history: pickle.loads(pickle.dumps(history))])
def test_a_copy_and_its_original_grow_apart(copied):
    history = History(ROWS)
    twin = copied(history)
    twin.append({"epoch": 4, "loss": 0.5})
    assert len(history.columns()["loss"]) == len(history) == 3
    history.append({"epoch": 4, "loss": 0.25})
    assert (history["loss"][-1], twin["loss"][-1]) == (0.25, 0.5)
    assert repr(history[:3]) == repr(twin[:3])


@pytest.mark.parametrize("value", [None, "0.5", [1.0], 10**400, 1j])
def test_a_row_holds_numbers(value):
    with pytest.raises(DataError, match=r"history: 'note' must be a number; got .*; other values go into run.memory"):
        History([{"epoch": 1, "note": value}])
    newest = History(ROWS)[-1]
    for put in PUTS.values():
        with pytest.raises(DataError, match="history: 'note' must be a number"):
            put(newest, "note", value)
    assert newest == ROWS[-1]


@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
def test_the_name_of_a_column_is_text(put):
    newest = History(ROWS)[-1]
    with pytest.raises(DataError, match="history: the name of a column must be text; got 3"):
        put(newest, 3, 0.5)
    put(newest, "more", 1)
    assert newest == {**ROWS[-1], "more": 1.0}
    assert type(newest["more"]) is float


def test_a_hook_fails_where_it_adds_a_column_without_a_name():
    by_number = on("epoch_end")(lambda run: run.history[-1].update({run.epoch: 0.5}))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), callbacks=[by_number])
    with pytest.raises(DataError, match="must be text; got 1") as failed:
        trainer.fit(Neuron.from_weights([2.0]), ([[1.0], [2.0]], [2.0, 5.0]))
    assert "epoch_end" in failed.value.__notes__[0]


def test_a_column_has_none_where_a_row_has_nothing():
    history = History(ROWS)
    assert history.keys == ("epoch", "loss", "learning_rate", "val_loss")
    assert history.column("loss") == [0.1, 1 / 3, 1e-300]
    assert history.column("val_loss")[::2] == [None, math.inf]


def test_an_unknown_column_lists_those_there_are():
    with pytest.raises(SettingsError, match=r"no column 'los'; did you mean 'loss'. Columns: epoch, loss, learning"):
        History(ROWS).column("los")


def test_histories_compare_by_their_rows_and_nan_equals_nan():
    other = History([{**row} for row in ROWS[:1]] + [{**ROWS[1], "val_loss": float("nan")}, ROWS[2]])
    assert History(ROWS) == other
    assert History(ROWS) != History(ROWS[:2])
    assert History(ROWS[1:2]) != History([{**ROWS[1], "val_loss": 0.0}])
    assert History(ROWS) != ROWS


def test_json_gives_the_same_history_back():
    again = History.from_json(History(ROWS).to_json())
    assert again == History(ROWS)
    assert math.isnan(again[1]["val_loss"])
    assert again[2]["val_loss"] == math.inf
    assert [type(value) for value in again[0].values()] == [int, float, float]
    assert History.from_json(History().to_json()) == History()


@pytest.mark.parametrize(
    ("text", "message"),
    [("[{", "is not JSON"), ("{}", "expected a list of objects; got '{}'"), ("[1]", "expected a list of objects")],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        History.from_json(text)


def test_csv_keeps_every_digit():
    rows = list(csv.DictReader(io.StringIO(History(ROWS).to_csv())))
    assert list(rows[0]) == ["epoch", "loss", "learning_rate", "val_loss"]
    assert [float(row["loss"]) for row in rows] == [0.1, 1 / 3, 1e-300]
    assert [row["val_loss"] for row in rows] == ["", "nan", "inf"]
    assert History().to_csv().strip() == ""


def test_print_and_jupyter_show_a_table():
    history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 1 / 3, "<b>": 1e-300}])
    assert str(history) == "epoch      loss     <b>\n    1       0.5        \n    2  0.333333  1e-300"
    assert history._repr_html_() == (
        '<table class="tex2jax_ignore mathjax_ignore">'
        "<tr><th>epoch</th><th>loss</th><th>&lt;b&gt;</th></tr>"
        "<tr><td>1</td><td>0.5</td><td></td></tr>"
        "<tr><td><b>2</b></td><td><b>0.333333</b></td><td><b>1e-300</b></td></tr></table>"
        "<div>bold: the lowest loss, in row 2 of 2</div>"
    )
    assert str(History()) == "History(0 epochs, last None)"


def test_jupyter_shows_the_best_of_many_rows():
    losses = [math.nan, *range(40, 10, -1), *range(11, 41)]
    shown = History(
        [{"epoch": row, "loss": -row, "val_loss": loss} for row, loss in enumerate(losses, 1)]
    )._repr_html_()
    epochs = re.findall(r"<tr><td>(?:<b>)?([0-9.]+)", shown)
    assert epochs == ["1", "2", "3", "4", "5", "...", "31", "...", "57", "58", "59", "60", "61"]
    assert "<b>31</b>" in shown
    assert shown.endswith("<div>bold: the lowest val_loss, in row 31 of 61</div>")
    assert "bold" not in History([{"epoch": 1, "loss": math.nan}])._repr_html_()


def test_of_many_rows_the_table_has_the_first_and_the_last():
    lines = str(History([{"epoch": epoch} for epoch in range(1, 1001)])).split()
    assert lines == ["epoch", "1", "2", "3", "4", "5", "...", "996", "997", "998", "999", "1,000"]
