"""Tables of figures: text for print, HTML for Jupyter; and times as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def as_text(rows: Iterable[Sequence[str]], *, left: int = 0) -> str:
    """Return rows of cells as lines, the cells of the first ``left`` columns left-aligned, those of others right.

    Example:
        >>> print(as_text([["epoch", "loss"], ["1", "0.25"]]))
        epoch  loss
            1  0.25
    """
    lines = [*rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if left == len(widths):
        widths[-1] = 0  # so that no line ends in spaces
    align = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    return "\n".join(
        "  ".join(put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)) for row in lines
    )


COUNTERS = ("epoch", "seconds")
"""The columns of a history that are not figures."""


class Markup(str):
    """HTML in which every text is escaped already, as a cell of ``as_html``."""

    __slots__ = ()


def bold(text: str) -> Markup:
    """Return text in bold.

    Example:
        >>> bold("a < b")
        '<b>a &lt; b</b>'
    """
    return Markup(f"<b>{html(text)}</b>")


def fold_content(summary: str, content: Markup) -> Markup:
    """Return content that unfolds where its summary is clicked.

    Example:
        >>> fold_content("model", bold("Dense"))
        '<details><summary>model</summary><b>Dense</b></details>'
    """
    return Markup(f"<details><summary>{html(summary)}</summary>{content}</details>")


def html(text: str) -> str:
    """Return text as HTML: escaped, unless it is ``Markup``."""
    return text if isinstance(text, Markup) else escape(text)


def as_html(rows: Iterable[Sequence[str]], *, left: int = 0) -> Markup:
    """Return rows of cells as an HTML table, whose first row is the head.

    It has no colours, so that it is readable on light and on dark pages. Its classes keep MathJax from reading what
    stands between two dollars as a formula.

    Args:
        rows: The rows: texts, which are escaped, or ``Markup``.
        left: How many columns hold text, which is aligned to the left; notebooks align cells to the right.

    Example:
        >>> as_html([["loss"], ["0.25"]])
        '<table class="tex2jax_ignore mathjax_ignore"><tr><th>loss</th></tr><tr><td>0.25</td></tr></table>'
        >>> as_html([["name"]], left=1)
        '<table class="tex2jax_ignore mathjax_ignore"><tr><th style="text-align:left">name</th></tr></table>'
    """
    lines: list[str] = []
    for row in rows:
        kind = "td" if lines else "th"
        starts = (f'{kind} style="text-align:left"' if index < left else kind for index in range(len(row)))
        lines.append("".join(f"<{start}>{html(cell)}</{kind}>" for start, cell in zip(starts, row, strict=True)))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return Markup(f'<table class="tex2jax_ignore mathjax_ignore">{body}</table>')


def figure(value: float | None, digits: int = 6) -> str:
    """Return a figure as text: a whole or large number in full, any other with some digits; nothing for None.

    Example:
        >>> figure(1234.0), figure(1 / 3), figure(1 / 3, digits=3), figure(True), figure(None)
        ('1,234', '0.333333', '0.333', 'yes', '')
        >>> figure(5_321_987.6), figure(12_345.67), figure(12_345.67, digits=3)
        ('5,321,988', '12345.7', '12,346')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    whole = float(value).is_integer() or abs(value) >= 10.0**digits
    return f"{value:,.0f}" if abs(value) < 1e15 and whole else f"{value:.{digits}g}"


def duration(seconds: float) -> str:
    """Return a time as people write it.

    Example:
        >>> duration(0.0123), duration(0.9999), duration(75), duration(7322)
        ('12.3 ms', '1 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 0.9995:  # more is written as 1e+03 ms
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
