"""Tables of figures: text for print, HTML for Jupyter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def as_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as lines, the cells of each column right-aligned.

    Example:
        >>> print(as_text([["epoch", "loss"], ["1", "0.25"]]))
        epoch  loss
            1  0.25
    """
    lines = [*rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in lines)


def as_html(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as an HTML table, whose first row is the head.

    Example:
        >>> as_html([["loss"], ["0.25"]])
        '<table><tr><th>loss</th></tr><tr><td>0.25</td></tr></table>'
    """
    lines: list[str] = []
    for row in rows:
        kind = "td" if lines else "th"
        lines.append("".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in row))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
