"""Whatever a file holds, loading it gives a run or a CheckpointError; whatever a callback remembers comes back.

    python tests/training/checkpoint/test_random_files.py --seconds 300

mutates files that long, each with a right checksum, so that what is behind the checksum is reached, and prints how many
were loaded, how many refused, and whatever else was raised.
"""

import argparse
import collections
import contextlib
import copy
import json
import random
import struct
import tempfile
import time
import traceback
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from checkpoint_pieces import forged, full_run, metadata, opened, sealed, tensors
from hypothesis import HealthCheck, example, given, settings, strategies as st

from framework import CheckpointError, Run, describe, load, load_model, save
from framework.training import History
from framework.training.checkpoint.document import rebuild_run, take_apart
from framework.training.checkpoint.file import decode, encode
from framework.training.runs.memory import Memory

BOUNDED = settings(
    max_examples=300, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 3, 10**12, 2**63, 2**64, -(2**63), 10**400),
    *(0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), -float("inf")),
    *("", "text", "\0", "\ud800", "ünï", "float32", "float16", "os:system", "parameters.0.weights", "x" * 10_000),
    *([], {}, [[]], [{}], {"": None}, {"type": "Dense"}, {"type": "os:system"}, {"type": "Residual", "block": None}),
    *({"$array": "parameters.0.bias"}, {"$array": "nothing"}, {"$scalar": "memory.Keeper.0.flag"}, {"$tuple": []}),
    *({"$dict": {"$array": 1}}, {"$tuple": {"$tuple": 1}}, {"$array": [], "$tuple": []}),
]
DTYPES = ["?", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8"]


def places(tree, found):
    """Collect every (container, key) of a JSON value."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        found.append((tree, key))
        if isinstance(tree[key], dict | list):
            places(tree[key], found)
    return found


def mutated_tree(rng, tree):
    """Return a copy of a JSON value with a place or some changed, deleted, exchanged or added."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        found = places(tree, [])
        if not found:
            return tree
        container, key = rng.choice(found)
        other, other_key = rng.choice(found)
        match rng.choice(["replace", "replace", "delete", "copy", "number", "add", "wrap", "rename"]):
            case "replace":
                container[key] = copy.deepcopy(rng.choice(VALUES))
            case "delete":
                del container[key]
            case "copy":
                container[key] = copy.deepcopy(other[other_key])
            case "number" if isinstance(container[key], int | float):
                container[key] = rng.choice([-1, 0, 1, 2]) * container[key] + rng.choice([-1, 0, 1, 0.5])
            case "add" if isinstance(container, list):
                container.insert(key, copy.deepcopy(rng.choice(VALUES)))
            case "wrap":
                container[key] = rng.choice([[container[key]], {"$tuple": [container[key]]}, {"x": container[key]}])
            case "rename" if isinstance(container, dict):
                container[rng.choice(["x", "type", "$array", "__metadata__", str(other_key)])] = container.pop(key)
    return tree


def mutated_arrays(rng, arrays):
    """Return arrays of which some are missing, more, of another dtype, another shape or another name."""
    arrays = dict(arrays)
    for _ in range(rng.choice([1, 1, 3])):
        name = rng.choice([*arrays, "nothing"])
        array = arrays.pop(name, np.zeros(3))
        more = f"{rng.choice(['parameters', 'buffers', 'optimizer', 'memory', ''])}.{rng.choice(['0.bias', 'x', ''])}"
        with np.errstate(all="ignore"):
            changes = [
                {},
                {name: array, more: array},
                {more: array},
                {name: array.astype(rng.choice(DTYPES))},
                {name: np.zeros(rng.choice([(), (0,), (1, 0), (7,), array.shape[::-1], (*array.shape, 1)]))},
                {name: np.frombuffer(rng.randbytes(array.nbytes), array.dtype).reshape(array.shape)},
            ]
        arrays |= rng.choice(changes)
    return arrays


def mutated_bytes(rng, data):
    """Return bytes of which a few are changed, missing or more."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(data) + 1)
        data[place : place + rng.choice([0, 1, 1, 1, 4])] = rng.randbytes(rng.choice([0, 1, 1, 1, 4]))
    return bytes(data)


def mutated(rng, arrays, document):
    """Return a file that is not quite this one, with a right checksum."""
    header, body = tensors(arrays)
    text = json.dumps(document)
    whole = {"__metadata__": metadata(text), **header}
    match rng.choice(["document", "document", "document", "both", "arrays", "text", "header", "bytes"]):
        case "document":
            return forged(arrays, mutated_tree(rng, document))
        case "both":
            return forged(mutated_arrays(rng, arrays), mutated_tree(rng, document))
        case "arrays":
            return forged(mutated_arrays(rng, arrays), document)
        case "text":
            return forged(arrays, mutated_bytes(rng, text.encode()).decode("latin-1"))
        case "header":
            return sealed(mutated_tree(rng, whole), body)
        case _:
            return sealed(mutated_bytes(rng, json.dumps(whole, separators=(",", ":")).encode()), body)


def outcome(path):
    """Load at every door; return whether the whole run was taken. Whatever is no CheckpointError is raised."""
    for door in (load_model, describe):
        with contextlib.suppress(CheckpointError):
            door(path)
    try:
        run = load(path)
    except CheckpointError:
        return "refused"
    assert isinstance(run, Run)
    assert run.consistent
    return "loaded"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("whole") / "run.safetensors")


@pytest.mark.share(1 / 3)
@BOUNDED
@given(rng=st.randoms(use_true_random=False))
def test_a_mutated_file_gives_a_run_or_a_checkpoint_error(whole, tmp_path_factory, rng):
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(mutated(rng, *whole))
    outcome(path)


def test_the_mutations_reach_the_inside(whole, tmp_path):
    rng, counts = random.Random(0), collections.Counter()
    for _ in range(300):
        (tmp_path / "mutated").write_bytes(mutated(rng, *whole))
        counts[outcome(tmp_path / "mutated")] += 1
    assert counts["refused"] > 100
    assert counts["loaded"] > 20


def kept(value):
    """Return a value as it must come back: byte and memory order are the machine's."""
    match value:
        case np.ndarray():
            return np.array(value, value.dtype.newbyteorder("="), order="C")
        case list() | tuple():
            return type(value)(map(kept, value))
        case dict():
            return {key: kept(item) for key, item in value.items()}
        case _:
            return value


def bits(value):
    """Return what tells a value from every other, with its type; all that are no number are one NaN."""
    match value:
        case np.ndarray() | np.generic():
            return type(value), value.dtype.str, value.shape, value.tobytes()
        case float():
            return float, "nan" if value != value else struct.pack("d", value)  # noqa: PLR0124
        case list() | tuple():
            return type(value), [*map(bits, value)]
        case dict():
            return dict, [(key, bits(item)) for key, item in value.items()]
        case _:
            return type(value), value


@st.composite
def arrays_of_any_layout(draw):
    """Arrays of every dtype that can be saved, in every byte order, memory order and stride, also of no size."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    array = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))
    match draw(st.sampled_from(["C", "F", "reversed", "strided", "read-only", "spread"])):
        case "F":
            return np.asfortranarray(array)
        case "reversed":
            return array[::-1] if array.ndim else array
        case "strided":
            return array[..., ::2] if array.ndim else array
        case "read-only":
            array.flags.writeable = False
            return array
        case "spread":
            return np.broadcast_to(array, (2, *array.shape))
        case _:
            return array


SCALARS = st.one_of(hnp.from_dtype(np.dtype(kind)) for kind in DTYPES)
TEXTS = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["$array", "$", "$dict", "sha256", '"sha256":"']
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(-(10**4000))
REMEMBERED = st.recursive(
    PLAIN | SCALARS | arrays_of_any_layout(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def run():
    return full_run()


@pytest.mark.share(1 / 3)
@BOUNDED
@given(memory=st.dictionaries(TEXTS, REMEMBERED, max_size=4), figures=st.dictionaries(TEXTS, st.floats(), max_size=4))
@example(memory={"x": [], "\ud800": np.zeros((0, 3)), "$tuple": ((), ((),), {})}, figures={})
@example(
    memory={"a": np.zeros(2), "a.0": np.ones(2), "a_": [np.zeros(1)], "ä": np.ones(1), "ö": np.ones(2)}, figures={}
)
@example(memory={}, figures={"loss": 5e-324, "other": 1.7976931348623157e308, "third": 2.2250738585072011e-308})
def test_whatever_is_remembered_comes_back_bit_for_bit(run, memory, figures):
    (name,) = (name for name in run.memories if "Keeper" in name)
    before, rows = dict(run.memories[name]), [dict(row) for row in run.history]
    try:
        run.memories[name].clear()
        run.memories[name].update(memory)
        run.history[-1].update(figures)
        back = rebuild_run(*decode(b"".join(encode(*take_apart(run)))))
        assert bits(dict(back.memories[name])) == bits(kept(memory))
        assert bits(list(back.history)) == bits(list(run.history))
    finally:
        run.memories[name].clear()
        run.memories[name].update(before)
        run.history = History(rows)


def test_what_came_back_can_be_changed_and_saved_again(run, tmp_path):
    save(run, tmp_path / "run")
    back = load(tmp_path / "run")
    for memory in back.memories.values():
        for value in memory.values():
            if isinstance(value, np.ndarray):
                value[...] = 5
    back.optimizer.learning_rate = 0.5
    save(back, tmp_path / "run")
    assert bits({name: dict(memory) for name, memory in load(tmp_path / "run").memories.items()}) == bits(
        {name: dict(memory) for name, memory in back.memories.items()}
    )


def test_masked_values_are_refused_and_not_unmasked(run, tmp_path):
    run.memories["masked"] = Memory("masked", {"x": []})
    run.memories["masked"]["x"].append(np.ma.array([1.0, 2.0], mask=[True, False]))
    try:
        with pytest.raises(CheckpointError, match="must have no masked values"):
            save(run, tmp_path / "run")
    finally:
        del run.memories["masked"]
    assert not (tmp_path / "run").exists()


def main():
    """Mutate files for some time, and print what came of it."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=300)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    counts, end, seed = collections.Counter(), time.monotonic() + asked.seconds, asked.seed
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        arrays, document = opened(path)
        while time.monotonic() < end:
            seed += 1
            path.write_bytes(mutated(random.Random(seed), arrays, document))
            try:
                counts[outcome(path)] += 1
            except BaseException as error:  # noqa: BLE001 (what is looked for)
                counts["other exceptions"] += 1
                print(f"seed {seed}: {type(error).__name__}")  # noqa: T201
                traceback.print_exc(limit=-3)
    figures = ", ".join(f"{counts[name]:,} {name}" for name in ("loaded", "refused", "other exceptions"))
    print(f"{counts.total():,} mutated files: {figures}")  # noqa: T201


if __name__ == "__main__":
    main()
