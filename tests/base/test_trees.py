"""Trees: arrays by name."""

import numpy as np
import pytest

from framework import DataError, ShapeError
from framework.base import DtypeError
from framework.base.trees import flatten, leaves, map_leaves, names, real_tree, rows_in, take
from framework.data.fingerprints import fingerprints

TREE = {"b": np.arange(6.0).reshape(3, 2), "a": {"y": np.arange(3), "x": np.ones((3, 1))}}


def test_leaves_come_in_the_order_of_the_dict():
    assert list(flatten(TREE)) == ["x['b']", "x['a']['y']", "x['a']['x']"]
    assert all(one is other for one, other in zip(leaves(TREE), flatten(TREE).values(), strict=True))
    assert names(TREE) == {"a": {"x": "x['a']['x']", "y": "x['a']['y']"}, "b": "x['b']"}
    assert [*real_tree(TREE, "x")] == [*take(TREE, slice(2))] == [*names(TREE)] == ["b", "a"]


def test_names_that_look_alike_stay_apart():
    assert len(flatten({"a.b": 1, "a": {"b": 2}, "a']['b": 3})) == 3


def test_map_goes_through_several_trees_whatever_the_order_of_names():
    turned = {"a": {"x": TREE["a"]["x"], "y": TREE["a"]["y"]}, "b": TREE["b"]}
    np.testing.assert_equal(map_leaves(np.add, TREE, turned), map_leaves(lambda leaf: 2 * leaf, TREE))


def test_rows_are_taken_of_every_leaf():
    taken = take(TREE, np.array([2, 0]))
    np.testing.assert_equal(taken, {"b": TREE["b"][[2, 0]], "a": {"x": np.ones((2, 1)), "y": np.array([2, 0])}})
    assert rows_in(TREE) == 3
    assert rows_in(np.zeros((4, 2))) == 4


def test_leaves_that_differ_in_rows_are_named():
    with pytest.raises(ShapeError, match=r"got 3 in x\['b'\] and 2 in x\['a'\]\['y'\]"):
        rows_in({**TREE, "a": {"x": np.ones(3), "y": np.ones(2)}})


def test_every_leaf_becomes_an_array_of_one_dtype():
    tree = real_tree({"ids": [1, 2], "flags": np.array([True, False])}, "x", "float32")
    assert [leaf.dtype.name for leaf in tree.values()] == ["float32", "float32"]
    array = np.ones(3)
    assert np.shares_memory(real_tree(array, "x", "float64"), array)


@pytest.mark.parametrize("value", [{}, {1: [1.0]}, {"a": {}}])
def test_names_must_be_strings(value):
    with pytest.raises(DataError, match="must be an array, or a dict of arrays by name"):
        real_tree(value, "fit: argument 'x'")


def test_a_leaf_without_numbers_is_named():
    with pytest.raises(DtypeError, match=r"^fit: argument x\['a'\]\['b'\] must hold real numbers"):
        real_tree({"a": {"b": ["text"]}}, "fit: argument 'x'")


def test_an_archive_of_arrays_is_a_tree(tmp_path):
    np.savez(tmp_path / "x.npz", numbers=np.ones((2, 2)), city=np.arange(2))
    with np.load(tmp_path / "x.npz") as archive:
        np.testing.assert_equal(real_tree(archive, "x"), {"numbers": np.ones((2, 2)), "city": np.arange(2)})


def test_fingerprints_cover_names_and_leaves():
    y = np.zeros(3)
    first = fingerprints(TREE, y, None)
    assert "x['a']['y'] int64 (3,)" in first
    assert fingerprints(dict(reversed(TREE.items())), y, None) == first
    assert fingerprints({"c": TREE["b"], "a": TREE["a"]}, y, None) != first
    assert fingerprints({**TREE, "a": {**TREE["a"], "y": np.array([0, 2, 1])}}, y, None) != first


@pytest.mark.parametrize("other", [{"city": 1}, {"city": 1, "numbers": 2, "town": 3}, {"city": 1, "town": 2}, 1])
def test_trees_of_other_forms_are_refused(other):
    form = {"city": 1, "numbers": 2}
    for trees in ((form, other), (other, form), ({"a": form}, {"a": other}), (form, form, other)):
        with pytest.raises(ShapeError, match=r"trees must have the same names; got .*'city', 'numbers'"):
            map_leaves(max, *trees)
