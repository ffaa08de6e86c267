"""Curves drawn with characters: blocks in one line, and dots of braille in several."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from framework.arrays import Array

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"


def sparkline(values: Array, width: int, blocks: str = BLOCKS) -> str:
    """Return values as blocks in one line; a gap is a space.

    Example:
        >>> sparkline(np.array([4.0, 2.0, 1.0, np.nan, 0.0]), 10)
        '█▅▃ ▁'
    """
    if not len(values):
        return ""
    parts = np.array_split(values, min(width, len(values)))
    ends = np.array([part[-1] for part in parts])
    finite = ends[np.isfinite(ends)]
    if not finite.size:
        return " " * len(ends)
    low, high = finite.min(), finite.max()
    span = high / 2 - low / 2 or 1.0  # halves: the whole may overflow
    share = (np.where(np.isfinite(ends), ends, low) / 2 - low / 2) / span
    places = np.minimum(share * len(blocks), len(blocks) - 1).astype(int)
    return "".join(blocks[place] if ok else " " for place, ok in zip(places, np.isfinite(ends), strict=True))


def braille(
    curves: Iterable[tuple[Array, str]], width: int, height: int, low: float, high: float
) -> list[list[tuple[str, str]]]:
    """Return curves as lines of braille characters, each of which has 2 x 4 dots, with their styles.

    Args:
        curves: The values of each curve at equal distances, with its style. All have the same x axis.
        width: The characters in a line.
        height: The lines.
        low: The value at the bottom.
        high: The value at the top.
    """
    curves = [*curves]
    dots = np.zeros((4 * height, 2 * width), dtype=bool)
    styles = np.full((height, width), "", dtype=object)
    longest = max(len(values) for values, _ in curves)
    span = high / 2 - low / 2 or 1.0  # halves: the whole may overflow
    for values, style in curves:
        own = round(2 * width * len(values) / longest)
        before = None
        for column, part in enumerate(_columns(values, max(own, 1))):
            inside = part[np.isfinite(part)]
            if not inside.size:
                before = None
                continue
            rows = np.rint((1 - (inside / 2 - low / 2) / span) * (4 * height - 1)).astype(int)
            ends = [rows.min(), rows.max(), *([] if before is None else [before])]
            dots[min(ends) : max(ends) + 1, column] = True
            styles[min(ends) // 4 : max(ends) // 4 + 1, column // 2] = style
            before = rows[-1]
    return [_line(dots[4 * row : 4 * row + 4], styles[row]) for row in range(height)]


def _columns(values: Array, count: int) -> list[Array]:
    """Return the values that belong to each column of dots: several, or one between two values."""
    if len(values) >= count:
        return np.array_split(values, count)
    places = np.linspace(0, count - 1, len(values))
    between = 2 * np.interp(np.arange(count), places, values / 2)
    between[np.rint(places).astype(int)] = values  # also one between two gaps
    return np.array_split(between, count)


_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def _line(dots: Array, styles: Array) -> list[tuple[str, str]]:
    """Return a line of characters from its four rows of dots."""
    cells = (dots.reshape(4, -1, 2) * _DOTS[:, None, :]).sum(axis=(0, 2))
    characters = [(chr(0x2800 + int(cell)) if cell else " ", style) for cell, style in zip(cells, styles, strict=True)]
    return [("".join(c for c, _ in group), style) for style, group in groupby(characters, lambda each: each[1])]
