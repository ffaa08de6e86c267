"""The history in a checkpoint: what a save costs does not grow with the epochs, and every row comes back as it was."""

import json
import math
import pickle
from copy import deepcopy

import numpy as np
import pytest
from checkpoint_pieces import forged
from saved_pieces import X, Y, recipe

from framework import CheckpointError, Neuron, load, save
from framework.training import History
from framework.training.checkpoint.document import _pack_history, history_of, take_apart

NAN = np.uint64(0x7FF8_0000_0000_0123).view(np.float64).item()  # a NaN that differs from NumPy's
ROWS = [
    {"epoch": 1, "loss": 0.1, "learning_rate": 0.5, "seconds": 1e-9},
    {"epoch": 2, "loss": -0.0, "learning_rate": 0.5, "seconds": 2.0},
    {"epoch": 3, "loss": 0.0, "learning_rate": 0.5, "seconds": math.inf, "val_loss": NAN},
    {"epoch": 4, "learning_rate": 0.5, "seconds": 0.0},
    {"epoch": 4, "loss": 2.0**70, "$array": math.nan},
    {"loss": 0.3},
    {},
    {"epoch": 8.5, "loss": 0.25, "learning_rate": 0.5, "seconds": 3.0},
]


def bits(rows):
    return [[(key, type(value), pickle.dumps(value)) for key, value in row.items()] for row in rows]


def back(history):
    arrays = {}
    return history_of(_pack_history(history, arrays), arrays)


@pytest.mark.parametrize("count", range(len(ROWS) + 1))
def test_rows_of_any_form_come_back_bit_for_bit(count):
    history = History()
    for row in ROWS[:count]:
        history.append(row)
    for each in (history, History(ROWS[:count]), deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert bits(back(each)) == bits(ROWS[:count])


def test_a_newest_row_that_a_hook_changes_is_saved_as_it_is():
    history = History([{"epoch": epoch, "loss": 0.5} for epoch in range(1, 6)])
    assert back(history) == history
    history[-1].update(loss=9.0, more=1.0)
    assert bits(back(history)) == bits(history)
    history.append({"epoch": 6, "loss": 0.25})
    assert bits(back(history)) == bits(history)


def test_columns_of_one_number_and_the_epochs_take_no_place():
    arrays = {}
    rows = [
        {"epoch": epoch, "rate": 0.5, "loss": float(epoch == 3), "zero": 0.0 * (-1) ** epoch, "seconds": 1.0}
        for epoch in range(1, 6)
    ]
    assert _pack_history(History(rows), arrays) == ["epoch", "rate", "loss", "zero", "seconds"]
    assert {name: len(array) for name, array in arrays.items()} == {
        "history.1": 1,
        "history.2": 5,
        "history.3": 5,
        "history.4": 5,
    }


def test_a_document_does_not_grow_with_the_epochs():
    few, many = (recipe(epochs=epochs).fit(Neuron(2), (X, Y)) for epochs in (5, 200))
    assert len(take_apart(many)[1]) < len(take_apart(few)[1]) + 100
    assert take_apart(many)[0].keys() == take_apart(few)[0].keys()


WRONG = {
    "another dtype": lambda arrays: {"history.1": arrays["history.1"].astype("float32")},
    "another length": lambda arrays: {"history.1": arrays["history.1"][:2]},
    "two axes": lambda arrays: {"history.1": arrays["history.1"][:, None]},
    "fewer rows": lambda arrays: {"history.3": arrays["history.3"][:2]},
    "one column more": lambda arrays: {"history.9": arrays["history.1"]},
    "nothing": lambda arrays: {"history.3": arrays["history.3"][:0]},
}


@pytest.mark.parametrize("what", WRONG)
def test_columns_that_do_not_fit_are_refused(tmp_path, what):
    save(recipe(epochs=5).fit(Neuron(2), (X, Y)), tmp_path / "run")
    arrays, text = take_apart(load(tmp_path / "run"))
    (tmp_path / "forged").write_bytes(forged(arrays, json.loads(text)))
    assert load(tmp_path / "forged").epoch == 5
    (tmp_path / "forged").write_bytes(forged(arrays | WRONG[what](arrays), json.loads(text)))
    with pytest.raises(CheckpointError):
        load(tmp_path / "forged")


def test_a_history_of_fewer_epochs_than_the_run_is_refused(tmp_path):
    arrays, text = take_apart(recipe(epochs=5).fit(Neuron(2), (X, Y)))
    arrays = {name: array[:1] if name.startswith("history.") else array for name, array in arrays.items()}
    (tmp_path / "forged").write_bytes(forged(arrays, json.loads(text)))
    with pytest.raises(CheckpointError, match="counts do not agree"):
        load(tmp_path / "forged")
    (tmp_path / "forged").write_bytes(forged(arrays, json.loads(text) | {"history": ["loss", "loss"]}))
    with pytest.raises(CheckpointError, match="columns of its history"):
        load(tmp_path / "forged")
