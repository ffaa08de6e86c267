"""Shapes in which a size may be open: compared, and written in messages."""

from __future__ import annotations

from typing import Any


def fits(shape: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Return whether two shapes are the same, None being any size.

    Example:
        >>> fits((3, 4), (None, 4)), fits((3,), (None, 4))
        (True, False)
    """
    return len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )


def shown(shape: tuple[Any, ...]) -> str:
    """Write a shape for a message, ``any`` where the size is open.

    Example:
        >>> shown(("rows", None, 3))
        '(rows, any, 3)'
    """
    return f"({', '.join('any' if size is None else str(size) for size in shape)}{',' if len(shape) == 1 else ''})"
