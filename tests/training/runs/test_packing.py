"""Packing: what goes into JSON and arrays comes back to the last bit, and what could not is refused."""

import json
from collections import OrderedDict

import numpy as np
import pytest

from framework import DataError
from framework.training.runs.memory import DEPTH, pack, unpack

VALUES = {
    "numbers": [0, -1, 2**70, 0.1, -0.0, True, None],
    "text": ["", "ünï", "$array"],
    "arrays": [np.arange(2, dtype=kind) for kind in ("bool", "i1", "u2", "i8", "f2", "f4", "f8")],
    "scalars": [np.float32(0.1), np.int8(-3), np.bool_(True)],
    "tuples": (1, (2.0, [3, (np.zeros(2),)]), ()),
    "keys": {"$array": "x", "$dict": {"$tuple": [1]}, "a.b": np.ones(1), "a": {"b": np.zeros(1)}},
}


def kinds(value):
    """Return a value with the types of all its parts."""
    if isinstance(value, dict):
        return {key: kinds(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [kinds(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return type(value), value.dtype, value.shape, value.tobytes()
    return type(value), repr(value)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_with_its_types_and_bits(value):
    arrays = {}
    packed = json.loads(json.dumps(pack(value, "memory", arrays)))
    assert kinds(unpack(packed, arrays)) == kinds(value)


def nested(kind, levels):
    value = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    return value


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_lists_and_dicts_may_be_nested_to_a_depth(kind):
    value = nested(kind, DEPTH - 1)
    assert unpack(pack(value, "memory", {}), {}) == value
    with pytest.raises(DataError, match=f"is nested more than {DEPTH} deep, or contains itself"):
        pack(nested(kind, DEPTH), "memory", {})


@pytest.mark.parametrize(
    "value",
    [
        1j,
        np.zeros(2, complex),
        np.complex64(1),
        *([np.longdouble(1)] if np.dtype(np.longdouble).itemsize > 8 else []),
        np.array(["a"]),
        np.array([None]),
        np.array("2020-01-01", "M8[D]"),
        np.zeros(1, "f4,i4"),
        OrderedDict(a=1),
        {1: "a"},
        {1, 2},
        b"bytes",
    ],
    ids=repr,
)
def test_a_value_that_would_come_back_as_another_is_refused(value):
    with pytest.raises(DataError, match=r"memory\.a must be a JSON value or a NumPy array of numbers"):
        pack({"a": value}, "memory", {})


@pytest.mark.parametrize("tag", ["$array", "$scalar"])
@pytest.mark.parametrize("stored", [{}, {"memory.a": np.zeros(1), "other": np.zeros(())}])
def test_an_array_that_is_missing_is_refused(tag, stored):
    with pytest.raises(DataError, match="it names something that it does not hold"):
        unpack({"a": {tag: "memory.b"}}, stored)
    with pytest.raises(DataError, match="it names something that it does not hold"):
        unpack({"a": {tag: "other", "more": 1}}, stored)


def test_names_of_arrays_are_plain_and_none_is_taken_twice():
    arrays = {}
    pack({"ünï": np.zeros(1), "a": {"b": np.ones(1)}, "a.b": np.ones(2)}, "memory", arrays)
    assert [*arrays] == ["memory._n_", "memory.a.b", "memory.a.b_"]
