"""Trees: arrays by name, for models of several inputs.

A tree is an array, or a dict of trees by name; a plain array is the simplest tree. ``x['city']`` names a leaf. A tree
keeps the order of its dict, and two trees are paired by their names, so the order of a dict changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from framework.base.arrays import Array, name_of, real_array
from framework.base.errors import DataError, ShapeError, brief

Tree: TypeAlias = "Array | dict[str, Tree]"


def leaf_name(name: str, key: str) -> str:
    """Return the name of what a tree holds under ``key``.

    Example:
        >>> leaf_name("x", "city"), leaf_name("fit: argument 'x'", "city")
        ("x['city']", "fit: argument x['city']")
    """
    bare = name_of(name)
    return f"{name.removesuffix(bare).removesuffix(repr(bare))}{bare}[{key!r}]"


def real_tree(value: Any, name: str, dtype: Any = None) -> Tree:
    """Return ``value`` as a tree of real arrays; see ``real_array``.

    Raises:
        DataError: A mapping is empty, or a name in it is not a string.
        DtypeError: A leaf does not hold real numbers; names the leaf.

    Example:
        >>> real_tree({"numbers": [[1, 2]], "city": [3]}, "x", "float32")["city"]
        array([3.], dtype=float32)
    """
    if not isinstance(value, Mapping):
        return real_array(value, name, dtype)
    tree: Tree = as_tree(value, name, lambda leaf, leaf_name: real_array(leaf, leaf_name, dtype))
    return tree


def as_tree(value: Any, name: str, convert: Callable[[Any, str], Any]) -> Any:
    """Return the tree of ``convert(leaf, its name)`` for the leaves of nested mappings.

    Raises:
        DataError: A mapping is empty, or a name in it is not a string.

    Example:
        >>> as_tree({"numbers": [1, 2], "city": [3]}, "x", lambda leaf, name: name)
        {'numbers': "x['numbers']", 'city': "x['city']"}
    """
    if not isinstance(value, Mapping):
        return convert(value, name)
    if not value or not all(isinstance(key, str) for key in value):
        raise DataError(f"must be an array, or a dict of arrays by name; got the names {brief([*value])}", name=name)
    return {key: as_tree(child, leaf_name(name, key), convert) for key, child in value.items()}


def flatten(tree: Any, name: str = "x") -> dict[str, Any]:
    """Return the leaves of a tree by name; a leaf is anything but a dict.

    Example:
        >>> flatten({"numbers": 1, "city": 2}), flatten(3)
        ({"x['numbers']": 1, "x['city']": 2}, {'x': 3})
    """
    if not isinstance(tree, dict):
        return {name: tree}
    return {inner: leaf for key, child in tree.items() for inner, leaf in flatten(child, leaf_name(name, key)).items()}


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of a tree.

    Example:
        >>> leaves({"numbers": 1, "city": 2}), leaves(3)
        ([1, 2], [3])
    """
    return [leaf for child in tree.values() for leaf in leaves(child)] if isinstance(tree, dict) else [tree]


def names(tree: Any, name: str = "x") -> Any:
    """Return a tree of the same form that holds the name of each leaf.

    Example:
        >>> names({"city": 2}), names(3)
        ({'city': "x['city']"}, 'x')
    """
    if not isinstance(tree, dict):
        return name
    return {key: names(child, leaf_name(name, key)) for key, child in tree.items()}


def map_leaves(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Return the tree of ``function(leaf, *others)`` for the leaves at each place of trees of the same form.

    Raises:
        ShapeError: The trees have other forms.

    Example:
        >>> map_leaves(len, {"numbers": [1, 2], "city": [3]}), map_leaves(max, 1, 2)
        ({'numbers': 2, 'city': 1}, 2)
    """
    named = isinstance(tree, dict)
    for other in others:
        if isinstance(other, dict) != named or (named and other.keys() != tree.keys()):
            forms = (str([*one]) if isinstance(one, dict) else "one leaf" for one in (tree, other))
            raise ShapeError(f"trees must have the same names; got {' and '.join(forms)}")
    if not named:
        return function(tree, *others)
    return {key: map_leaves(function, child, *(other[key] for other in others)) for key, child in tree.items()}


def fill(tree: Any, values: Iterable[Any]) -> Any:
    """Return the tree of the same form whose leaves are these values, in the order of ``leaves``.

    Example:
        >>> fill({"numbers": 1, "city": 2}, ["a", "b"]), fill(3, ["a"])
        ({'numbers': 'a', 'city': 'b'}, 'a')
    """
    takes = iter(values)
    return map_leaves(lambda _: next(takes), tree)


def take(tree: Any, rows: Any) -> Any:
    """Return some rows of every leaf: ``leaf[rows]``.

    Example:
        >>> take({"city": np.arange(5)}, slice(2))
        {'city': array([0, 1])}
    """
    return map_leaves(lambda leaf: leaf[rows], tree) if isinstance(tree, dict) else tree[rows]


def at(tree: Any, path: tuple[str, ...]) -> Any:
    """Return the part of a tree that a path of names leads to; None has None at every path, as a missing activation.

    Example:
        >>> at({"late": {"arrival": 1}}, ("late", "arrival")), at(3, ()), at(None, ("late",))
        (1, 3, None)
    """
    for name in path:
        tree = None if tree is None else tree[name]
    return tree


def sample_shape(tree: Any) -> Any:
    """Return the shape of a row of every leaf.

    Example:
        >>> sample_shape({"numbers": np.zeros((5, 4)), "city": np.zeros(5)}), sample_shape(np.zeros((5, 4)))
        ({'numbers': (4,), 'city': ()}, (4,))
    """
    return map_leaves(lambda leaf: np.shape(leaf)[1:], tree) if isinstance(tree, dict) else np.shape(tree)[1:]


def form_of(tree: Any) -> Any:
    """Return a key of the shape of a row and the kind of every leaf, equal for batches of one form.

    Example:
        >>> form_of({"numbers": np.zeros((5, 4)), "city": np.zeros(5, int)}), form_of(np.zeros((5, 4)))
        ((('numbers', ((4,), 'f')), ('city', ((), 'i'))), ((4,), 'f'))
    """
    if type(tree) is not dict:
        return tree.shape[1:], tree.dtype.kind
    return tuple((name, form_of(child)) for name, child in tree.items())


def rows_in(tree: Any, name: str = "x") -> int:
    """Return the number of rows, which all leaves have.

    Raises:
        ShapeError: Leaves differ in their number of rows; names two of them.

    Example:
        >>> rows_in({"n": np.zeros((5, 4)), "c": np.zeros(4)})
        Traceback (most recent call last):
        framework.base.errors.ShapeError: x must have the same number of rows in each array; got 5 in x['n'] and 4 ...
    """
    if not isinstance(tree, dict):
        return len(tree)
    lengths = {*map(len, leaves(tree))}
    if len(lengths) == 1:
        return lengths.pop()
    rows = {name_of(leaf): len(array) for leaf, array in flatten(tree, name).items()}
    first, count = next(iter(rows.items()))
    leaf, other = next(item for item in rows.items() if item[1] != count)
    raise ShapeError(
        f"must have the same number of rows in each array; got {count} in {first} and {other} in {leaf}", name=name
    )
