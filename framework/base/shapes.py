"""Shapes in which sizes may be open: compared, and written in messages.

A tree of arrays has a tree of shapes: a dict of shapes by name.
"""

from __future__ import annotations

from typing import Any

from framework.base.arrays import name_of
from framework.base.errors import SettingsError, ShapeError, nearest
from framework.base.trees import flatten, leaves, map_leaves

Shape = tuple[Any, ...]
"""Sizes of axes; None is any size, and ``...`` in front any number of axes."""


def fits(shape: Any, expected: Any) -> bool:
    """Return whether two shapes, or trees of shapes, can be the same.

    Example:
        >>> fits((3, 4), (None, 4)), fits((3,), (None, 4)), fits((..., 4), (None, 4))
        (True, False, True)
    """
    if isinstance(expected, dict) or isinstance(shape, dict):
        if not (isinstance(expected, dict) and isinstance(shape, dict)) or shape.keys() != expected.keys():
            return False
        return all(fits(size, expected[name]) for name, size in shape.items())
    if is_open(shape) or is_open(expected):
        count = min(len(shape) - is_open(shape), len(expected) - is_open(expected))
        shape, expected = shape[len(shape) - count :], expected[len(expected) - count :]
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def is_open(shape: Any) -> bool:
    """Return whether the number of axes is not known, of every leaf of a tree."""
    return all(leaf[:1] == (...,) for leaf in leaves(shape))


def narrow_shape(shape: Any, expected: Any) -> Any:
    """Return an open shape as one of the expected axes, with its own sizes and those that it leaves open.

    Example:
        >>> narrow_shape((..., 4), (None, None)), narrow_shape((3, 4), (None, None))
        ((None, 4), (3, 4))
    """
    if isinstance(shape, dict) or not is_open(shape):
        return shape
    known = (None,) * len(expected) + shape[1:]
    known = known[len(known) - len(expected) :]
    return tuple(a if b is None or a is ... else b for a, b in zip(expected, known, strict=True))


def close_shape(shape: Any, *sizes: int) -> Any:
    """Return an open shape, or a tree of them, with these axes in front; other shapes stay.

    Example:
        >>> close_shape((..., 4)), close_shape({"city": (...,), "numbers": (..., 4)}, 7), close_shape((3, 4))
        ((4,), {'city': (7,), 'numbers': (7, 4)}, (3, 4))
    """
    return map_leaves(lambda leaf: (*sizes, *leaf[1:]) if is_open(leaf) else leaf, shape)


def is_known(shape: Any) -> bool:
    """Return whether no size is open.

    Example:
        >>> is_known((3, 4)), is_known((None, 4))
        (True, False)
    """
    return all(isinstance(size, int) for leaf in leaves(shape) for size in leaf)


def of_rows(shape: Any) -> Any:
    """Return the shape of a batch of samples, for a message.

    Example:
        >>> of_rows({"city": (), "numbers": (3,)})
        {'city': ('rows',), 'numbers': ('rows', 3)}
    """
    return map_leaves(lambda leaf: ("rows", *leaf), shape)


def format_shape(shape: Any) -> str:
    """Write a shape for a message, ``any`` where the size is open.

    Example:
        >>> format_shape(("rows", None, 3))
        '(rows, any, 3)'
    """
    if isinstance(shape, dict):
        return f"{{{', '.join(f'{key!r}: {format_shape(shape[key])}' for key in shape)}}}"
    sizes = ["any" if size is None else "..." if size is ... else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def require_sizes(name: str, shapes: Any) -> None:
    """Check that a class gives the shape of a sample, or shapes by name.

    Raises:
        SettingsError: It gives something else, such as a number.

    Example:
        >>> require_sizes("Scale.input_shape", 4)
        Traceback (most recent call last):
        framework.base.errors.SettingsError: Scale.input_shape must be a tuple of sizes, as (4,) or (None,); got 4
    """
    for shape in leaves(shapes):
        if not isinstance(shape, tuple) or not all(size in (None, ...) or isinstance(size, int) for size in shape):
            raise SettingsError("must be a tuple of sizes, as (4,) or (None,)", name=name, got=shape)


def require_rows(shapes: Any, expected: Any, name: str, advice: str = "") -> None:
    """Check that the leaves of a tree have the shapes of a batch; ``advice`` ends the message where names differ.

    Raises:
        ShapeError: There are other leaves, or a leaf has another shape; names the leaf.

    Example:
        >>> require_rows({"city": (5, 2)}, {"city": ()}, "x")
        Traceback (most recent call last):
        framework.base.errors.ShapeError: x['city'] must have the shape (rows,) in a batch; got (5, 2)
    """
    got_shapes, wanted = flatten(shapes, name), flatten(expected, name)
    if got_shapes.keys() != wanted.keys():
        listed = ", ".join(map(name_of, got_shapes))
        missing = [name_of(leaf) for leaf in wanted if leaf not in got_shapes]
        for leaf in got_shapes:
            if leaf not in wanted and isinstance(expected, dict):
                advice = nearest(name_of(leaf), missing).replace('"', "") + advice
        if isinstance(shapes, dict) and not isinstance(expected, dict):
            advice += (
                "; begin the model with a Join, which takes arrays by name, such as ids for an Embedding, or make one "
                "array of columns of numbers by np.column_stack([*x.values()])"
            )
        got = f"a dict of {listed}" if isinstance(shapes, dict) else f"one array of shape {format_shape(shapes)}"
        raise ShapeError(f"must be a batch of shape {format_shape(of_rows(expected))}; got {got}{advice}", name=name)
    for leaf, shape in wanted.items():
        if not got_shapes[leaf] or not fits(got_shapes[leaf][1:], shape):
            raise ShapeError(
                f"{leaf} must have the shape {format_shape(('rows', *shape))} in a batch; "
                f"got {format_shape(got_shapes[leaf])}"
            )
