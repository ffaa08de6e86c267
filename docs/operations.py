"""Write docs/operations.md from the table of operations: ``python docs/operations.py``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from framework.emit.text import Shown
from framework.graph.gradient import gradients, textbook_derivative
from framework.graph.graph import Graph
from framework.graph.node import Node, ordered
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import METHODS, NAMES
from framework.graph.trace import ROWS, trace

PAGE = Path(__file__).with_suffix(".md")

SHAPES = {"x": (ROWS, 4), "w": (4, 2), "b": (4,)}
"""The shapes of the arguments in the examples."""

CALLS = """
np.sum(x, axis=-1)                        np.mean(x, axis=-1)
np.average(x, axis=-1)                    np.var(x, axis=-1)
np.std(x, axis=-1)                        np.linalg.norm(x, axis=-1)
np.max(x, axis=-1)                        np.amax(x, axis=-1)
np.min(x, axis=-1)                        np.amin(x, axis=-1)
np.prod(x, axis=-1)                       np.cumsum(x, axis=-1)
np.cumprod(x, axis=-1)                    np.diff(x, axis=-1)
np.ptp(x, axis=-1)                        np.nansum(x, axis=-1)
np.nanmean(x, axis=-1)                    np.nanmax(x, axis=-1)
np.nanmin(x, axis=-1)                     np.argsort(x, axis=-1)
np.sort(x, axis=-1)                       np.median(x, axis=-1)
np.quantile(x, 0.2, axis=-1)              np.percentile(x, 20, axis=-1)
np.argmax(x, axis=-1)                     np.argmin(x, axis=-1)
np.any(x > 0, axis=-1)                    np.all(x > 0, axis=-1)
np.count_nonzero(x, axis=-1)              x @ w
np.matmul(x, w)                           np.dot(x, w)
np.einsum('ij,jk->ik', x, w)              np.tensordot(x, w, axes=1)
np.inner(x, b)                            np.vecdot(x, b)
np.vdot(b, b)                             np.outer(b, b)
np.trace(w[:2])                           np.reshape(x, (-1, 2, 2))
np.ravel(x)                               x.flatten()
np.expand_dims(x, 1)                      np.squeeze(x[:, None, :])
np.atleast_1d(x)                          np.atleast_2d(b)
np.transpose(x)                           np.permute_dims(x, (1, 0))
np.matrix_transpose(x)                    np.swapaxes(x, 0, 1)
np.moveaxis(x, 0, 1)                      np.broadcast_to(b, x.shape)
np.broadcast_arrays(b, x)[0]              x[:, 1:3]
np.take(x, [0, 2], axis=1)                x[:, [0, 2]]
np.take_along_axis(x, x.argmax(axis=-1, keepdims=True), axis=-1)
np.flip(x, axis=1)                        np.roll(x, 1, axis=1)
np.diagonal(w[:2])                        np.tril(w[:2])
np.triu(w[:2])                            np.concatenate([x, x], axis=1)
np.concat([x, x], axis=1)                 np.stack([x, x], axis=1)
np.hstack([x, x])                         np.column_stack([x, x])
np.append(x, x, axis=1)                   np.split(x, 2, axis=1)[0]
np.array_split(x, 2, axis=1)[0]           np.repeat(x, 2, axis=1)
np.tile(x, 2)                             np.pad(x, ((0, 0), (1, 1)))
np.lib.stride_tricks.sliding_window_view(x, 2, axis=1)
np.clip(x, 0, 1)                          np.select([x > 0], [x], 0.5 * x)
np.interp(x, [0, 1, 3], [0, 2, 1])
np.piecewise(x, [x > 0], [np.sin, 0.0])   np.sinc(x)
np.round(x)                               np.around(x, 2)
np.isclose(x, 0.0)                        np.real(x)
np.conj(x)                                np.real_if_close(x)
np.copy(x)                                x.astype(int)
np.zeros_like(x)                          np.ones_like(x)
np.empty_like(x)                          np.full_like(x, 2.0)
np.zeros(3, like=x)                       np.ones(3, like=x)
np.empty(3, like=x)                       np.full(3, 2.0, like=x)
np.asarray(b, like=x)                     np.array(b, like=x)
"""
"""A call of each function; two a line, or a long one alone."""

HEAD = """# Operations that can be derived

A [formula](formulas.md) may use the NumPy functions on this page. `python docs/operations.py` writes it from the table
that all engines share, `framework/graph/operations.py`.

## Elementwise

An activation or a loss made of these alone has a derivative of each element. `y` is the result.
[formulas.md](formulas.md#kinks-ties-and-overflow) says what happens at kinks, and where a denominator overflows.
`framework.erf` and `framework.erfc` may be used like NumPy's functions.

"""

STEPS = """
The derivative of these is 0 wherever it exists:

"""

ARRAYS = """
## Over several elements

Here x has the shape (rows, 4), w is (4, 2) and b is (4,). The text leaves out what only arranges a shape. The last
column is the gradient of the call's first argument, and `g` that of the result. A dash stands for a long expression,
and 0 for no gradient.

"""

REST = """
## Statements and methods

 - Operators: `+ - * / // % ** @ ~ & |`, comparisons, `abs(x)`, `x[...]`.
 - Assignments: `h += 1`, `out[:, t] = h` and `np.copyto(out, h)` into an array of the formula itself, as
   `np.zeros_like(x)`.
 - Methods of an array:
{methods}.
 - Plain numbers: `x.shape`, `x.ndim`, `x.size`, `x.dtype` and `len(x)`.
 - `out=`, and `reduce`, `accumulate` and `outer` of a ufunc: `np.logaddexp.reduce(x, axis=-1)`.
 - `framework.loop(step, state, sequence)` for a recurrence: one operation for any number of steps.
"""


def page() -> str:
    """Return the text of the page."""
    graph = Graph()
    elementwise = [
        _elementwise(graph, name) for name, row in OPERATIONS.items() if row.elementwise and row.lowered is None
    ]
    calls = [call.strip() for line in CALLS.splitlines() for call in line.split("  ") if call.strip()]
    methods = [f"`x.{name}`" for name in sorted({*METHODS, "T", "mT", "reshape", "transpose", "astype", "copy"})]
    return "".join(
        [
            HEAD,
            _table(("NumPy", "text", "derivative"), ((n, t, d) for n, t, d in elementwise if d != "0")),
            STEPS,
            _table(("NumPy", "text"), ((n, t) for n, t, d in elementwise if d == "0")),
            ARRAYS,
            _table(("call", "text", "gradient"), _merged(map(_array, calls))),
            REST.format(
                methods=fill(", ".join(methods), 120, initial_indent="   ", subsequent_indent="   "),
            ),
        ]
    )


def _elementwise(graph: Graph, name: str) -> tuple[str, str, str]:
    """Return the NumPy names of an operation, its text, and its derivatives by each argument."""
    names = {1: "x", 2: "ab", 3: "cab"}[len(OPERATIONS[name].rules)]
    arguments = [graph.input(letter, (3,), "b" if letter == "c" else "f") for letter in names]
    y = graph.add(name, *arguments)
    slopes = [(v.name, Shown({"y": y, "": textbook_derivative(y, v)}).text.split(" = ", 2)[2]) for v in arguments]
    same = {slope for _, slope in slopes}
    by = [(f"{letter}: " if len(slopes) > 1 else "", slope) for letter, slope in slopes if letter != "c"]
    written = "0" if same == {"0"} else ", ".join(f"{letter}{_code(slope)}" for letter, slope in by)
    aliases = [name, *(other for other, known in NAMES.items() if known == name and other.isidentifier())]
    where = "framework" if name in ("erf", "erfc") else "np"
    return ", ".join(f"`{where}.{other}`" for other in aliases), _code(Shown({"": y}).text.removeprefix(" = ")), written


def _array(call: str) -> tuple[str, str, str]:
    """Return a call, what it records, and the gradient of an argument."""
    found = trace(lambda **given: eval(call, {"np": np} | given), SHAPES)
    y = found.output
    if not isinstance(y, Node):
        return _code(call), _code(str(y)), "0"
    used = ordered([y])
    form = Shown({"y": y}).text.removeprefix("y = ")
    first = next((node for name, node in found.inputs.items() if node in used), None)
    slope = "0"
    if first is not None and y.kind == "f":
        g = found.graph.input("g", y.shape)
        slope = Shown({"y": y, "": gradients([(y, g)], [first])[0]}).text.split("\n")[1].removeprefix(" = ")
    return _code(call), _short(form), "0" if slope == "0" else _short(slope)


def _merged(arrays: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Join the calls that the graph holds alike."""
    calls: dict[tuple[str, str], list[str]] = {}
    for call, form, slope in arrays:
        calls.setdefault((form, slope), []).append(call)
    return [(", ".join(alike), *row) for row, alike in calls.items()]


def _short(expression: str) -> str:
    return _code(expression) if len(expression) <= 56 else "–"


def _code(expression: str) -> str:
    return f"`{expression}`".replace("|", r"\|")


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "".join(f"|{'|'.join(f' {cell} ' for cell in line)}|\n" for line in lines).replace("| --- ", "|---")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
