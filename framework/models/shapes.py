"""Shapes in which sizes may be open: compared, and written in messages."""

from __future__ import annotations

from typing import Any

Shape = tuple[Any, ...]
"""Sizes of axes; None is any size, and ``...`` in front any number of axes."""


def fits(shape: Shape, expected: Shape) -> bool:
    """Return whether two shapes can be the same.

    Example:
        >>> fits((3, 4), (None, 4)), fits((3,), (None, 4)), fits((..., 4), (None, 4))
        (True, False, True)
    """
    if is_open(shape) or is_open(expected):
        count = min(len(shape) - is_open(shape), len(expected) - is_open(expected))
        shape, expected = shape[len(shape) - count :], expected[len(expected) - count :]
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def is_open(shape: Shape) -> bool:
    """Return whether the number of axes is not known."""
    return shape[:1] == (...,)


def narrowed(shape: Shape, expected: Shape) -> Shape:
    """Return an open shape as one of the expected axes, with the sizes that either knows.

    Example:
        >>> narrowed((..., 4), (None, None)), narrowed((3, 4), (None, None))
        ((None, 4), (3, 4))
    """
    if not is_open(shape):
        return shape
    known = (None,) * len(expected) + shape[1:]
    return tuple(b if a is None else a for a, b in zip(expected, known[len(known) - len(expected) :], strict=True))


def is_known(shape: Shape) -> bool:
    """Return whether no size is open.

    Example:
        >>> is_known((3, 4)), is_known((None, 4))
        (True, False)
    """
    return all(isinstance(size, int) for size in shape)


def shown(shape: Shape) -> str:
    """Write a shape for a message, ``any`` where the size is open.

    Example:
        >>> shown(("rows", None, 3))
        '(rows, any, 3)'
    """
    sizes = ["any" if size is None else "..." if size is ... else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
