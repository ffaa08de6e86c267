"""Write docs/operations.md from the table of operations: ``python docs/operations.py``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import fill

import numpy as np

from framework.backends.text import Shown
from framework.graph.functions import FUNCTIONS
from framework.graph.gradient import gradients
from framework.graph.node import Node, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.symbol import METHODS, NAMES
from framework.graph.trace import ROWS, trace

PAGE = Path(__file__).with_suffix(".md")

SHAPES = {"x": (ROWS, 4), "w": (4, 2), "b": (4,)}
"""The shapes of the arguments in ``CALLS``."""

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
np.real_if_close(x)                       np.copy(x)
x.astype(int)
np.zeros_like(x)                          np.ones_like(x)
np.empty_like(x)                          np.full_like(x, 2.0)
np.zeros(3, like=x)                       np.ones(3, like=x)
np.empty(3, like=x)                       np.full(3, 2.0, like=x)
np.asarray(b, like=x)                     np.array(b, like=x)
"""
"""A call of each function, which is traced to see whether it has a gradient; two a line, or a long one alone."""

COMPOSED = [name for name in FUNCTIONS if isinstance(f := getattr(np, name, None), np.ufunc) and not f.signature]
"""Elementwise functions that are formulas of others."""

HEAD = """# Operations that can be derived

A [formula](formulas.md) may use the NumPy functions on this page. `python docs/operations.py` writes it from the table
that all engines share, `framework/graph/operations.py`. `show(Activation.of(np.tan))` prints a derivative;
[formulas.md](formulas.md#kinks-ties-and-overflow) says what holds at kinks.

## Elementwise

"""

STEPS = """
The derivative of these is 0 wherever it exists:
"""

ARRAYS = """
## Over several elements

Reductions, products, and functions that arrange elements, with their usual arguments, such as `axis=-1`:
"""

CONSTANT = """
These have no gradient:
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
    elementwise = {name: row for name, row in OPERATIONS.items() if row.elementwise and row.lowered is None}
    calls = [call.strip() for line in CALLS.splitlines() for call in line.split("  ") if "np." in call]
    derived = {call: _has_gradient(call) for call in calls}
    methods = [f"`x.{name}`" for name in sorted({*METHODS, "T", "mT", "reshape", "transpose", "astype", "copy"})]
    return "".join(
        [
            HEAD,
            _listed([*(_names(name) for name, row in elementwise.items() if any(row.rules)), *map(_names, COMPOSED)]),
            STEPS,
            _listed(_names(name) for name, row in elementwise.items() if not any(row.rules)),
            ARRAYS,
            _listed(_name(call) for call in calls if derived[call]),
            CONSTANT,
            _listed(_name(call) for call in calls if not derived[call]),
            REST.format(methods=_listed(methods, "   ").rstrip(".\n")),
        ]
    )


def _names(operation: str) -> str:
    """Return the names of an elementwise function."""
    aliases = [name for name, known in NAMES.items() if known == operation != name and name.isidentifier()]
    where = "framework.formulas" if operation in ("erf", "erfc") else "np"
    return ", ".join(f"`{where}.{name}`" for name in (operation, *aliases))


def _name(call: str) -> str:
    """Return the name of the function that is called, with the argument that makes it one of the formula."""
    return f"`{call.partition('(')[0]}{'(..., like=x)' if 'like=x' in call else ''}`"


def _has_gradient(call: str) -> bool:
    """Check whether a call has a gradient with respect to the first of its arguments."""
    traced = trace(lambda **arguments: eval(call, {"np": np} | arguments), SHAPES)
    y = traced.output
    if not isinstance(y, Node) or y.kind != "f":
        return False
    used = order_nodes([y])
    argument = next((node for node in traced.inputs.values() if node in used), None)
    if argument is None:
        return False
    (slope,) = gradients([(y, traced.graph.input("g", y.shape))], [argument])
    return Shown({"": slope}).text != " = 0"


def _listed(names: Iterable[str], indent: str = "") -> str:
    text = fill(f"{', '.join(names)}.", 120, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
    return f"{text}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
