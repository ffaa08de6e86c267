"""Pieces for the tests of checkpoints: a small run that has everything, all doors to a file, and a forger's tools."""

import hashlib
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Callback,
    CheckpointError,
    Dense,
    Dropout,
    EarlyStopping,
    ReLU,
    Sequential,
    Sigmoid,
    Trainer,
    describe,
    load,
    load_model,
    save,
)
from framework.base import UsageError
from framework.training.checkpoint.file import VERSION, decode

DATA = np.random.default_rng(0).normal(size=(11, 2)), np.arange(11) % 2


class Keeper(Callback):
    """Remembers arrays, scalars and tuples."""

    def on_epoch_end(self, run):
        """Remember."""
        run.memory(self).update(values=np.arange(3.0), flag=np.bool_(True), seen=(1, [2.5, None]))


TRAINER = Trainer(
    loss=BinaryCrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=0.01),
    epochs=2,
    batch_size=4,
    metrics=[Accuracy()],
    callbacks=[EarlyStopping(patience=50, restore_best=True), Keeper()],
)
DOORS = {
    "load": load,
    "load_model": load_model,
    "describe": describe,
    "resume": lambda path: TRAINER.resume(path, DATA, DATA),
}
EVERY = tuple(DOORS)
BUILDING = ("load", "load_model", "resume")
RUN = ("load", "resume")
ZEROS = "0" * 64
TAGS = [
    "os:system",
    "builtins:eval",
    "this:s",
    "antigravity:fly",
    "../evil",
    "a" * 100_000,
    "",
    ":",
    "NoSuchClass",
    "\0",
]
"""Names of what a program may have, and of nothing."""


def full_run():
    """Return a run with layers of every kind of state, optimizer memory, callback memory and history."""
    model = Sequential(Dense(2, 3, ReLU()), BatchNorm(3), Dropout(rate=0.5), Dense(3, 1, Sigmoid()))
    return TRAINER.fit(model, DATA, DATA)


def refusals(path, doors=EVERY):
    """Return what each door says of a file that these refuse; the others may take it, but raise nothing else."""
    before, shown = (set(sys.modules), names()), {}
    for name, door in DOORS.items():
        try:
            door(path)
        except CheckpointError as error:
            shown[name] = str(error)
        except UsageError:  # a run that can be loaded, but belongs to another training
            assert name == "resume"
            assert "load" not in shown
    assert set(doors) <= set(shown)
    assert (set(sys.modules), names()) == before  # nothing is imported, no file is written
    return shown


def forgery_refused(data, doors=EVERY):
    """Return what each door says of a file with these bytes."""
    Path("forged").write_bytes(data)
    return refusals("forged", doors)


def names():
    """Return the names in the current folder."""
    return sorted(os.listdir())  # noqa: PTH208


def sealed(header, body=b""):
    """Return a file with this header and body, and with a right checksum where the header has a place for one."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    data = bytearray(struct.pack("<Q", len(text)) + text + body)
    place = data.find(b'"sha256":"') + len(b'"sha256":"')
    data[place : place + 64] = ZEROS.encode()
    data[place : place + 64] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def tensors(arrays):
    """Return what the header says of these arrays, and the body."""
    header, body = {}, b""
    for name, array in arrays.items():
        bits = "" if array.dtype.kind == "b" else 8 * array.itemsize
        kind = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[array.dtype.kind]
        place = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": f"{kind}{bits}", "shape": list(array.shape), "data_offsets": place}
        body += array.tobytes()
    return header, body


def metadata(text, **changes):
    """Return the metadata of a checkpoint with this text, its checksum still to come."""
    return {"format": "framework.checkpoint", "version": str(VERSION), "run": text, "sha256": ZEROS} | changes


def changed(document, **changes):
    """Return a document with other values; names of the progress are changed there."""
    inner = {name: value for name, value in changes.items() if name in document["progress"]}
    outer = {name: value for name, value in changes.items() if name not in inner}
    return document | {"progress": document["progress"] | inner} | outer


def forged(arrays, document):
    """Return a file of these arrays and this document, a dict or a text."""
    header, body = tensors(arrays)
    text = document if isinstance(document, str) else json.dumps(document)
    return sealed({"__metadata__": metadata(text), **header}, body)


def opened(path):
    """Return the arrays and the document of a new file at this path that is whole, though the forger has made it."""
    save(full_run(), path)
    arrays, text = decode(path.read_bytes())
    path.write_bytes(forged(arrays, text))
    for door in DOORS.values():
        door(path)  # so a refusal is not the forger's mistake; and what the doors import is imported
    return arrays, json.loads(text)
