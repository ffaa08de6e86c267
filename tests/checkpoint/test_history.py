"""The history in a checkpoint: what a save costs does not grow with the epochs, and every row comes back as it was."""

import json
import math
import pickle
from copy import deepcopy

import numpy as np
import pytest
from checkpoint_pieces import forged
from saved_pieces import X, Y, recipe

from framework import CheckpointError, History, Neuron, load, save
from framework.checkpoint.document import take_apart
from framework.checkpoint.rows import Rows, pack_rows, unpack_rows

NAN = np.uint64(0x7FF8_0000_0000_0123).view(np.float64).item()  # a NaN that differs from NumPy's
ROWS = [
    {"epoch": 1, "loss": 0.1, "learning_rate": 0.5, "seconds": 1e-9},
    {"epoch": 2, "loss": -0.0, "learning_rate": 0.5, "seconds": 2.0},
    {"epoch": 3, "loss": 0.0, "val_loss": NAN, "learning_rate": 0.5, "seconds": math.inf},
    {"epoch": 4, "loss": 1, "learning_rate": 0.5, "seconds": 0.0},
    {"epoch": 4, "loss": 2**70, "note": "text", "list": [1, None], "$array": True},
    {"loss": 0.3, "epoch": 6},
    {},
    {"epoch": 8, "loss": np.float32(0.5), "values": np.arange(2)},
    {"epoch": 9, "loss": 2**63 - 1, "learning_rate": 0.5, "seconds": 3.0},
    {"epoch": 10, "loss": -(2**63), "learning_rate": 0.5, "seconds": 3.0},
    {"epoch": 11, "loss": 2**63, "learning_rate": -(2**63) - 1, "seconds": 3.0},
]


def bits(rows):
    return [[(key, type(value), pickle.dumps(value)) for key, value in row.items()] for row in rows]


def back(history):
    arrays = {}
    rows = Rows.model_validate(pack_rows(history, arrays))
    return unpack_rows(rows, arrays)


@pytest.mark.parametrize("count", range(len(ROWS) + 1))
def test_rows_of_any_form_come_back_bit_for_bit(count):
    history = History()
    for row in ROWS[:count]:
        history.append(row)
    for each in (history, History(ROWS[:count]), deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert bits(back(each)) == bits(ROWS[:count])


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(loss=9.0),
        lambda row: row.__setitem__("loss", 9.0),
        lambda row: row.__ior__({"loss": 9.0}),
        lambda row: row.pop("loss"),
        lambda row: row.setdefault("more", 1.0),
        lambda row: row.clear(),
    ],
    ids=["update", "item", "ior", "pop", "setdefault", "clear"],
)
def test_a_row_that_is_changed_late_is_saved_as_it_is(change):
    history = History([{"epoch": epoch, "loss": 0.5} for epoch in range(1, 6)])
    assert back(history) == history
    change(history[1])
    assert bits(back(history)) == bits(history.rows)
    history.append({"epoch": 6, "loss": 0.25})
    assert bits(back(history)) == bits(history.rows)


def test_a_document_does_not_grow_with_the_epochs():
    few, many = (recipe(epochs=epochs).fit(Neuron(2), (X, Y)) for epochs in (5, 200))
    assert len(take_apart(many)[1]) < len(take_apart(few)[1]) + 100
    assert take_apart(many)[0].keys() == take_apart(few)[0].keys()


def test_a_number_that_is_the_same_in_every_row_is_stored_once():
    arrays = {}
    pack_rows(History([{"epoch": epoch, "rate": 0.5, "zero": 0.0 * (-1) ** epoch} for epoch in range(1, 9)]), arrays)
    assert sorted(array.shape for array in arrays.values()) == [(1,), (7,), (7,)]


WRONG = {
    "a gap": lambda arrays: {"history.0.0": arrays["history.0.0"] + np.int32(1)},
    "a row twice": lambda arrays: {"history.0.0": arrays["history.0.0"] * np.int32(0)},
    "a negative number": lambda arrays: {"history.0.0": -arrays["history.0.0"]},
    "another dtype": lambda arrays: {"history.0.1": arrays["history.0.1"].astype("float32")},
    "another length": lambda arrays: {"history.0.1": arrays["history.0.1"][:2]},
    "two axes": lambda arrays: {"history.0.0": arrays["history.0.0"][:, None]},
    "one column more": lambda arrays: {"history.0.9": arrays["history.0.1"]},
    "nothing": lambda arrays: {"history.0.0": arrays["history.0.0"][:0]},
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
    document = json.loads(text)
    document["history"]["newest"] = None
    (tmp_path / "forged").write_bytes(forged(arrays, document))
    with pytest.raises(CheckpointError, match="counts do not agree"):
        load(tmp_path / "forged")
