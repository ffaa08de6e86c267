"""Shapes in which sizes may be open: compared, and written in messages."""

from __future__ import annotations

from typing import Any

Shape = tuple[Any, ...]
"""Sizes of axes; None is any size."""


def fits(shape: Shape, expected: Shape) -> bool:
    """Return whether two shapes can be the same.

    Example:
        >>> fits((3, 4), (None, 4)), fits((3,), (None, 4))
        (True, False)
    """
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


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
    sizes = ["any" if size is None else str(size) for size in shape]
    return f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
