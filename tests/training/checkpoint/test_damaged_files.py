"""A damaged or foreign file is refused: a CheckpointError, little memory, no file written, nothing imported."""

import json
import os
import pickle
import random
import socket
import stat
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from checkpoint_pieces import DATA, DOORS, TRAINER, opened, refusals
from oracles import SAVED_BY_PYTORCH
from safetensors.numpy import save_file

from framework import (
    CheckpointError,
    Dense,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    describe,
    latest,
    load,
    load_model,
    save,
)
from framework.training.checkpoint.file import decode


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run.safetensors"
    opened(path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_flipped_bit_is_refused(whole):
    data = bytearray(whole)
    bits = 8 * len(data)
    places = range(bits) if bits <= 100_000 else random.Random(0).sample(range(bits), 20_000)
    assert len(places) >= 20_000
    for place in places:
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(CheckpointError):
            decode(bytes(data))
        data[place // 8] ^= 1 << place % 8
    assert data == whole


def test_flipped_bits_are_refused_at_every_door(whole):
    for place in random.Random(1).sample(range(8 * len(whole)), 200):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        Path("flipped").write_bytes(data)
        assert all("'flipped' cannot be" in text for text in refusals("flipped").values())


def test_a_file_cut_off_at_any_length_is_refused(whole):
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            decode(whole[:length])
    for length in (0, 1, 7, 8, 9, 100, len(whole) - 1):
        Path("cut").write_bytes(whole[:length])
        refusals("cut")


@pytest.mark.parametrize("more", [b"\0", b"\n", b"x" * 100_000])
def test_appended_bytes_are_refused(whole, more):
    for data in (whole + more, more + whole):
        Path("longer").write_bytes(data)
        refusals("longer")


def test_exchanged_parts_are_refused(whole):
    half = len(whole) // 2
    for data in (whole[half:] + whole[:half], whole + whole, whole[:half] + bytes(len(whole) - half), whole[::-1]):
        Path("exchanged").write_bytes(data)
        refusals("exchanged")


def written(path, write):
    """Write with a function that takes an open file."""
    with path.open("wb") as file:
        write(file)


def listening(path):
    """Leave a socket behind."""
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("loss 0.5\n" * 100),
    "json": lambda path: path.write_text(json.dumps({"__metadata__": {"format": "framework.checkpoint"}})),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1.0, 2.0]})),
    "npz": lambda path: written(path, lambda file: np.savez(file, weights=np.zeros(3))),
    "npy": lambda path: written(path, lambda file: np.save(file, np.zeros(300))),
    "torch": lambda path: path.write_bytes(SAVED_BY_PYTORCH.read_bytes()),
    "safetensors of another program": lambda path: save_file({"weights": np.zeros(3)}, path, {"format": "pt"}),
    "zeros": lambda path: path.write_bytes(bytes(100_000)),
    "noise": lambda path: path.write_bytes(random.Random(0).randbytes(100_000)),
    "program": lambda path: path.write_bytes(Path(sys.executable).read_bytes()[:100_000]),
    "no file": lambda path: path.unlink(missing_ok=True),
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "socket": listening,
    "loop of links": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "path through a file": lambda path: path.symlink_to("/etc/passwd/x"),
}


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_checkpoint_is_refused(kind):
    path = Path("foreign.safetensors")
    FOREIGN[kind](path)
    assert all("'foreign.safetensors' cannot be" in text for text in refusals(path).values())


def test_a_file_of_another_program_is_called_so():
    save_file({"weights": np.zeros(3)}, "foreign.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="it is not a checkpoint of this framework"):
        load("foreign.safetensors")


PATHS = ["", "\0", "run\0.safetensors", "x" * 5000, "/dev/zero", "/dev/null", "/proc/self/mem", b"no\0", b"nothing"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: repr(path[:20]))
def test_what_leads_to_no_checkpoint_is_refused(path):
    for name, door in DOORS.items():
        if name != "resume" or isinstance(path, str):  # resume says what it takes: a run or a path of text
            with pytest.raises(CheckpointError):
                door(path)


@pytest.mark.parametrize("path", [None, 0, 1.5, True, object(), ["run.safetensors"], {}, load])
def test_what_is_no_path_is_refused(path):
    for door in (load, load_model, describe):
        with pytest.raises(CheckpointError):
            door(path)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc to count in")
def test_no_handle_stays_open(whole):
    handles = Path("/proc/self/fd")
    Path("folder").mkdir()
    Path("cut").write_bytes(whole[:-1])
    os.mkfifo("pipe")
    before = len(list(handles.iterdir()))
    for path in ("folder", "cut", "pipe", "nothing", "/dev/zero"):
        refusals(path)
    assert len(list(handles.iterdir())) == before


def test_none_in_place_of_a_path_is_refused_with_advice():
    for function in (load, load_model, describe):
        with pytest.raises(CheckpointError, match=r"got None, which latest\(folder\) returns for a folder without one"):
            function(latest("empty"))


def test_a_file_that_is_not_there_is_refused_with_the_newest_checkpoint_of_its_folder(whole):
    Path("folder").mkdir()
    Path("folder/weights.safetensors").write_bytes(b"of another program")
    with pytest.raises(CheckpointError, match=r"No such file or directory; give the path of a checkpoint, a file that"):
        load("folder/nowhere")
    Path("folder/weights.safetensors").write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"; the newest checkpoint of its folder is 'folder.weights.safetensors'"):
        load("folder/nowhere")


def test_the_file_stays_as_it_is(whole):
    path = Path("cut")
    path.write_bytes(whole[:-1])
    path.chmod(0o400)
    before = path.stat()
    refusals(path)
    assert path.read_bytes() == whole[:-1]
    assert (path.stat().st_mtime_ns, stat.S_IMODE(path.stat().st_mode)) == (before.st_mtime_ns, 0o400)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "run.safetensors"
    trainer = TRAINER.replace(optimizer=SGDOptimizer(learning_rate=0.01), callbacks=[], epochs=1)
    save(trainer.fit(Sequential(Dense(2, 250_000, ReLU()), Dense(250_000, 1, Sigmoid())), DATA), path)
    return path.read_bytes()


def flipped(data):
    return data[:-1] + bytes([data[-1] ^ 1])


DAMAGES = {"flipped": flipped, "cut": lambda data: data[:-1], "longer": lambda data: data + b"0"}


@pytest.mark.usefixtures("whole")  # what is imported at the first load does not count
@pytest.mark.parametrize("damage", DAMAGES)
def test_refusing_costs_less_memory_than_twice_the_file(large, damage):
    Path("large").write_bytes(DAMAGES[damage](large))
    assert len(large) > 8_000_000
    for door in DOORS.values():
        tracemalloc.start()
        with pytest.raises(CheckpointError):
            door("large")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2 * len(large) + 300_000


def test_a_long_file_that_is_none_is_not_read_into_memory_twice():
    with Path("sparse").open("wb") as file:
        file.truncate(50_000_000)
    tracemalloc.start()
    refusals("sparse")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000
