"""NumPy's functions on symbols: each is written as operations of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from framework.base.errors import ShapeError
from framework.graph.graph import KINDS, kind_of
from framework.graph.loop import loop
from framework.graph.operations import shape_with_ones
from framework.graph.refuse import ONE_HOT, refuse
from framework.graph.symbol import FUNCTIONS, Symbol, array_symbol, graph_of, record, symbol_of, value_of, view, write

_ROWS = "a formula must work for any number of rows: write it for whole arrays, without a loop over the rows"


def implements(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function under NumPy's names, or under its own."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update(dict.fromkeys(names or (function.__name__,), function))
        return function

    return register


for _name in ("shape", "ndim", "size", "moveaxis", "flip", "iscomplexobj"):  # NumPy computes them by other functions
    implements(_name)(getattr(np, _name).__wrapped__)


def _symbol(value: Any, *others: Any) -> Symbol:
    """Return a value as a symbol, in the graph of the others."""
    return value if isinstance(value, Symbol) else array_symbol(value, graph_of(*others))


def _of_kind(value: Any, kind: str) -> Any:
    """Return a symbol or a number as a float, an integer or a boolean."""
    dtype = {"f": float, "i": int, "b": bool}[kind]
    return value.astype(dtype) if isinstance(value, Symbol) else dtype(value)


def _axis(x: Any, axis: int) -> int:
    return normalize_axis_index(axis, x.ndim)


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    if type(axis) is int:
        return (_axis(x, axis),)
    chosen: Any = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int | np.integer) else axis
    return tuple(map(int, normalize_axis_tuple(tuple(chosen), x.ndim)))


def _along(x: Any, axis: int | None, function: str = "") -> tuple[Any, int]:
    """Return an array and one of its axes; the flattened array for None.

    A function that is named needs the elements along the axis, so that these must not be rows.
    """
    x, axis = (_reshape(x, (-1,)), 0) if axis is None else (x, _axis(x, axis))
    if function and x.graph.rows_in(x.shape[axis]):
        refuse(f"np.{function} along the rows", "use another axis: the number of rows is not fixed")
    return x, axis


def _require_no_rows(x: Any, axis: int, what: str) -> None:
    if x.graph.rows_in(x.shape[axis]):
        refuse(f"{what} along the rows", _ROWS)


# reductions


def _reduce(op: str, x: Any, axis: Any, keepdims: bool, **attributes: Any) -> Any:
    axes = tuple(sorted(_axes(x, axis)))
    if op in ("max", "min") and not all(x.shape[n] for n in axes):
        raise ValueError(f"zero-size array to reduction operation {op}imum which has no identity")  # as NumPy says it
    if x.kind == "b" and op not in ("any", "all", "max", "min"):
        x = x.astype(float if op in ("mean", "var") else int)
    if op == "mean" and x.kind == "i":
        x = x.astype(float)
    return record(op, x, axes=axes, keepdims=bool(keepdims), **attributes) if axes else x.copy()


def _reduction(op: str, *names: str) -> None:
    def function(x: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Any:
        return _reduce(op, x if dtype is None else x.astype(dtype), axis, keepdims)

    implements(op, *names)(function)


for _op in ("sum", "prod", "max", "min", "mean", "any", "all"):
    _reduction(_op, *{"max": ["amax"], "min": ["amin"]}.get(_op, []))


@implements("average")
def _average(x: Any, axis: Any = None, weights: Any = None, keepdims: bool = False) -> Any:
    if weights is None:
        return _reduce("mean", x, axis, keepdims)
    x = _symbol(x, weights)
    if np.ndim(weights) != x.ndim:
        weights = np.reshape(weights, tuple(n if a == _axis(x, axis) else 1 for a, n in enumerate(x.shape)))
    weights = np.broadcast_to(weights, x.shape)
    return np.sum(x * weights, axis=axis, keepdims=keepdims) / np.sum(weights, axis=axis, keepdims=keepdims)


@implements("norm")
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:  # noqa: A002 (NumPy's name)
    if ord == 1 and isinstance(axis, int):
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if ord not in (None, 2, "fro") or (ord == 2 and not isinstance(axis, int) and x.ndim != 1):
        refuse(f"np.linalg.norm with ord={ord}", "write it with np.sum, np.max and np.abs")
    return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))


@implements("logaddexp.reduce")
def _log_sum_exp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return log(sum(exp(x))) without overflow: the largest element is subtracted first."""
    largest = np.max(x, axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    total = np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True)) + largest
    return total if keepdims else np.sum(total, axis=axis)


def _place_of(op: str) -> None:
    def function(x: Any, axis: Any = None, out: None = None, *, keepdims: bool = False) -> Any:
        x, axis = _along(x, axis, op)
        return record(op, x, axes=(axis,), keepdims=bool(keepdims))

    implements(op)(function)


_place_of("argmax")
_place_of("argmin")


@implements("cumsum", "cumulative_sum")
def _cumsum(x: Any, axis: Any = None, dtype: Any = None) -> Any:
    x, axis = _along(x, axis, "cumsum")
    return record("cumsum", x.astype(dtype or (int if x.kind == "b" else x.dtype)), axis=axis)


@implements("cumprod", "cumulative_prod")
def _cumprod(x: Any, axis: Any = None, dtype: Any = None) -> Any:
    """Multiply step by step: the derivative is exact where an element is 0 too."""
    x, axis = _along(x, axis, "cumprod")
    x = x.astype(dtype or (int if x.kind == "b" else x.dtype))
    one = np.ones((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype, like=x)
    return loop(lambda y, element: (y * element,) * 2, one, x, axis)[1]


@implements("diff")
def _diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    before = (slice(None),) * _axis(x, axis)
    for _ in range(n):
        x = x[(*before, slice(1, None))] - x[(*before, slice(None, -1))]
    return x


# orders


@implements("argsort")
def _argsort(x: Any, axis: Any = -1, kind: Any = None, *, stable: Any = None) -> Any:
    """Return the stable order, which is an order of every other kind too."""
    x, axis = _along(x, axis, "argsort")
    return record("argsort", x, axis=axis)


@implements("sort")
def _sort(x: Any, axis: Any = -1, kind: Any = None, *, stable: Any = None) -> Any:
    """Look the elements up in their stable order, which says which of equal elements receives a gradient."""
    x, axis = _along(x, axis, "sort")
    return _take_along_axis(x, _argsort(x, axis), axis)


def _reduce_sorted(function: str, x: Any, axis: Any, keepdims: bool, value: Callable[[Any], Any]) -> Any:
    """Return a value of the sorted elements over some axes, NaN where one of these is NaN.

    Args:
        function: The function of NumPy that this is.
        x: The array.
        axis: One axis, several, or None for all.
        keepdims: Whether to keep these axes, as axes of 1.
        value: (elements sorted along the last axis) -> their value.
    """
    axes = _axes(x, axis)
    rest = tuple(n for n in range(x.ndim) if n not in axes)
    flat = _reshape(_transpose(x, (*rest, *axes)), (*(x.shape[n] for n in rest), math.prod(x.shape[n] for n in axes)))
    elements = _sort(_along(flat, -1, function)[0].astype(float))
    result = np.where(np.isnan(elements[..., -1]), np.nan, value(elements))
    return _reshape(result, shape_with_ones(x.shape, axes)) if keepdims else result


@implements("median")
def _median(x: Any, axis: Any = None, out: None = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    """Return the mean of the one or two elements in the middle."""
    return _reduce_sorted(
        "median",
        x,
        axis,
        keepdims,
        lambda elements: np.mean(elements[..., (elements.shape[-1] - 1) // 2 : elements.shape[-1] // 2 + 1], axis=-1),
    )


@implements("quantile")
def _quantile(
    x: Any,
    q: Any,
    axis: Any = None,
    out: None = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: bool = False,
) -> Any:
    """Interpolate between the two elements beside a share, from the nearer one."""
    if method != "linear":
        refuse(f"np.quantile or np.percentile with method='{method}'", "leave the method out: it is 'linear'")
    if isinstance(q, Symbol) or np.ndim(q):
        refuse("np.quantile or np.percentile with several numbers q", "call it with each number")
    if not 0 <= q <= 1:
        raise ValueError(f"np.quantile: q must be from 0 to 1, in np.percentile from 0 to 100; got the share {q}")

    def value(elements: Any) -> Any:
        fraction, lower = math.modf(q * (elements.shape[-1] - 1))
        low = elements[..., int(lower)]
        if not fraction:
            return low
        high = elements[..., int(lower) + 1]
        return low + (high - low) * fraction if fraction < 0.5 else high - (high - low) * (1.0 - fraction)

    return _reduce_sorted("quantile", x, axis, keepdims, value)


# elements that are not NaN


def _replace_nan(x: Any, value: float) -> Any:
    """Return an array with a number in the place of each NaN."""
    return np.where(np.isnan(x), value, x) if x.kind == "f" else x


@implements("nanmean")
def _nanmean(x: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: bool = False) -> Any:
    x = x.astype(dtype or float)
    count = np.sum(np.where(np.isnan(x), 0.0, 1.0), axis=axis, keepdims=keepdims)
    return np.sum(_replace_nan(x, 0.0), axis=axis, keepdims=keepdims) / count


def _nan_extreme(op: str, least: float) -> None:
    def function(x: Any, axis: Any = None, out: None = None, keepdims: bool = False) -> Any:
        extreme = _reduce(op, _replace_nan(x, least), axis, keepdims)
        return extreme if x.kind != "f" else np.where(_reduce("all", np.isnan(x), axis, keepdims), np.nan, extreme)

    implements(f"nan{op}")(function)


_nan_extreme("max", -math.inf)
_nan_extreme("min", math.inf)


# shapes


@implements("reshape")
def _reshape(x: Any, shape: Any = None, order: str = "C", *, newshape: Any = None, copy: Any = None) -> Any:
    if order != "C":
        refuse(f"np.reshape with order='{order}'", "transpose first")
    shape = newshape if shape is None else shape
    sizes = [int(size) for size in ((shape,) if isinstance(shape, int | np.integer) else shape)]
    if sizes.count(-1) == 1:
        rest = math.prod(size for size in sizes if size != -1)
        if rest and x.size % rest == 0:
            sizes[sizes.index(-1)] = x.size // rest
    if math.prod(sizes) != x.size or -1 in sizes:
        raise ValueError(
            f"cannot reshape array of shape {x.graph.shape_text(x.shape)} into shape {x.graph.shape_text(sizes)}"
        )
    if tuple(sizes) == x.shape:
        return x
    return view("reshape", x, shape=tuple(sizes))


@implements("transpose", "permute_dims")
def _transpose(x: Any, axes: Any = None) -> Any:
    chosen = tuple(range(x.ndim))[::-1] if axes is None else _axes(x, axes)
    return x if chosen == tuple(range(x.ndim)) else view("transpose", x, axes=chosen)


@implements("swapaxes")
def _swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(x.ndim))
    a, b = _axis(x, axis1), _axis(x, axis2)
    order[a], order[b] = order[b], order[a]
    return _transpose(x, order)


def _with_axes(name: str) -> Callable[..., Any]:
    """Return a function that adds or drops axes of 1, as NumPy's does."""

    def function(x: Any, *args: Any, **options: Any) -> Any:
        return _reshape(x, getattr(np, name)(np.broadcast_to(np.int8(0), x.shape), *args, **options).shape)

    implements(name)(function)
    return function


_expand_dims, _squeeze = map(_with_axes, ("expand_dims", "squeeze"))


@implements("broadcast_to")
def _broadcast_to(x: Any, shape: Any, subok: bool = False) -> Any:
    shape = (shape,) if isinstance(shape, int) else tuple(map(int, shape))
    if np.broadcast_shapes(x.shape, shape) != shape:
        raise ValueError(f"cannot broadcast shape {x.graph.shape_text(x.shape)} to {x.graph.shape_text(shape)}")
    return x if shape == x.shape else view("broadcast_to", x, shape=shape)


@implements("broadcast_arrays")
def _broadcast_arrays(*arrays: Any, subok: bool = False) -> Any:
    shape = np.broadcast_shapes(*map(np.shape, arrays))
    return tuple(_broadcast_to(_symbol(array, *arrays), shape) for array in arrays)


# products


@implements("matmul")
def _matmul(a: Any, b: Any) -> Any:
    a, b = _symbol(a, b), _symbol(b, a)
    if a.ndim == 1 and b.ndim == 1:
        return np.sum(a * b)
    if a.ndim == 1:
        return _squeeze(_matmul(_expand_dims(a, 0), b), -2)
    if b.ndim == 1:
        return _squeeze(_matmul(a, _expand_dims(b, 1)), -1)
    return record("matmul", a, b)


@implements("tensordot")
def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = _symbol(a, b), _symbol(b, a)
    chosen = (range(a.ndim - axes, a.ndim), range(axes)) if isinstance(axes, int) else axes
    (inner_a, inner_b) = (
        [_axis(x, axis) for axis in ((chosen_axes,) if isinstance(chosen_axes, int) else chosen_axes)]
        for x, chosen_axes in zip((a, b), chosen, strict=True)
    )
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    term_a = [next(letters) for _ in range(a.ndim)]
    term_b = [next(letters) for _ in range(b.ndim)]
    for m, n in zip(inner_a, inner_b, strict=True):
        term_b[n] = term_a[m]
    output = [c for n, c in enumerate(term_a) if n not in inner_a] + [
        c for n, c in enumerate(term_b) if n not in inner_b
    ]
    return record("einsum", a, b, subscripts=f"{''.join(term_a)},{''.join(term_b)}->{''.join(output)}")


@implements("einsum")
def _einsum(subscripts: Any, *operands: Any, optimize: Any = None, **options: Any) -> Any:
    if not isinstance(subscripts, str) or options:
        refuse("np.einsum with lists of axes or other options", "give the subscripts as text alone: 'ij,jk->ik'")
    operands = tuple(_symbol(operand, *operands) for operand in operands)
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = sorted(set(inputs) - {",", "."})
        output = ("..." if "..." in inputs else "") + "".join(c for c in letters if inputs.count(c) == 1)
    if "..." in inputs:
        terms, output = _name_ellipsis_axes(terms, output, operands)
    for term in terms:
        if len(set(term)) != len(term):
            refuse(f"np.einsum with a letter twice in one term, '{term}'", "take the diagonal first")
    return record("einsum", *operands, subscripts=f"{','.join(terms)}->{output}")


def _name_ellipsis_axes(terms: list[str], output: str, operands: Sequence[Any]) -> tuple[list[str], str]:
    free = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in "".join(terms) + output]
    widths = [x.ndim - len(term.replace("...", "")) for term, x in zip(terms, operands, strict=True)]
    most = max(width for term, width in zip(terms, widths, strict=True) if "..." in term)
    letters = "".join(free[:most])
    filled = [term.replace("...", letters[most - n :] if n else "") for term, n in zip(terms, widths, strict=True)]
    return filled, output.replace("...", letters)


# parts


def _parse_index(x: Any, index: Any) -> tuple[list[Any], list[int | None]]:
    """Return an index with an entry for each axis, and the axes of the result: their numbers, None for a new axis."""
    index = index if isinstance(index, tuple) else (index,)
    index = tuple(entry[()] if isinstance(entry, np.ndarray) and not entry.ndim else entry for entry in index)
    used = sum(entry is not None and entry is not Ellipsis for entry in index)
    if used > x.ndim:
        raise IndexError(f"too many indices for an array of {x.ndim} axes: {used} were given")
    whole = (slice(None),) * (x.ndim - used)
    if any(entry is Ellipsis for entry in index):
        ellipsis = next(n for n, entry in enumerate(index) if entry is Ellipsis)
        index = (*index[:ellipsis], *whole, *index[ellipsis + 1 :])
    else:
        index = (*index, *whole)
    axis = count()
    layout = [None if entry is None else next(axis) for entry in index]
    entries = [_entry(x, n, entry) for n, entry in enumerate(entry for entry in index if entry is not None)]
    return entries, layout


def _entry(x: Any, axis: int, entry: Any) -> Any:
    """Return the index of one axis: None for all of it, "reversed", an int, a slice's triple, or an array."""
    size = x.shape[axis]
    rows = x.graph.rows_in(size)
    if isinstance(entry, slice):
        start, stop, step = entry.indices(size)
        if (start, stop, step) == (0, size, 1):
            return None
        if (start, stop, step) == (size - 1, -1, -1):
            return "reversed"
        if rows:
            refuse("a part of the rows", _ROWS)
        return start, stop, step
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        if rows:
            refuse("one of the rows", _ROWS)
        if not -size <= entry < size:
            raise IndexError(f"index {entry} is out of bounds for axis {axis} with size {size}")
        return int(entry) % size
    return _index_by_array(entry, size)


def _index_by_array(entry: Any, size: int) -> Any:
    """Return an index by an array: a symbol, or an array of integers."""
    if not isinstance(entry, Symbol):
        entry = np.asarray(entry)
        entry = np.flatnonzero(entry) if entry.dtype.kind == "b" and entry.shape == (size,) else entry
    kind = entry.kind if isinstance(entry, Symbol) else entry.dtype.kind
    if kind == "b":
        refuse("an index by an array of booleans, whose shape depends on the numbers", "use np.where(condition, a, b)")
    if kind not in "iu":
        refuse("an index by numbers that are not integers", f"{ONE_HOT}; cast other ids: ids.astype(int)")
    return entry


@implements("getitem")
def _getitem(x: Any, index: Any) -> Any:
    entries, layout = _parse_index(x, index)
    arrays = [(axis, entry) for axis, entry in enumerate(entries) if isinstance(entry, Symbol | np.ndarray)]
    if not arrays:
        taken = view("index", x, index=tuple(entries)) if any(entry is not None for entry in entries) else x
        sizes = iter(taken.shape)
        kept = [axis for axis in layout if axis is None or not isinstance(entries[axis], int)]
        shape = tuple(1 if axis is None else next(sizes) for axis in kept)
        return taken if shape == taken.shape else view("reshape", taken, shape=shape)
    if None in layout:
        refuse("an index by an array together with None", "index first, then add the axis")
    basic = tuple(None if isinstance(entry, Symbol | np.ndarray | int) else entry for entry in entries)
    x = view("index", x, index=basic) if any(entry is not None for entry in basic) else x
    arrays = [
        (a, e if isinstance(e, Symbol) else np.asarray(e))
        for a, e in enumerate(entries)
        if a in dict(arrays) or isinstance(e, int)
    ]
    return record("gather", x, *(entry for _, entry in arrays), axes=tuple(axis for axis, _ in arrays))


@implements("setitem")
def _setitem(x: Any, index: Any, value: Any) -> None:
    entries, _layout = _parse_index(x, index)
    if any(isinstance(entry, Symbol | np.ndarray) for entry in entries):
        refuse("an assignment by an array of indices", "use np.where, or collect the parts and np.stack them")
    if all(entry is None for entry in entries):
        write(x, value)
        return
    target = record("index", x, index=tuple(entries)).shape
    value = value if isinstance(value, Symbol) else _symbol(value, x) if np.ndim(value) else value
    if isinstance(value, Symbol) and value.ndim > len(target):
        value = _reshape(value, value.shape[value.ndim - len(target) :])
    value = _of_kind(value, x.kind)  # as NumPy, which keeps the dtype of an array that is written into
    node = value_of(value)
    if not isinstance(value, Symbol) or value.shape != target:
        node = x.graph.add("broadcast_to", node, shape=target) if target else x.graph.add("reshape", node, shape=())
    write(x, symbol_of(x.graph.add("set_index", x.node, node, index=tuple(entries))))


@implements("copyto")
def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not isinstance(dst, Symbol):
        refuse("np.copyto into an array that NumPy made", "make the array by np.zeros_like(x)")
    write(dst, src if where is True else _where(where, src, dst))


@implements("take")
def _take(x: Any, indices: Any, axis: Any = None, mode: str = "raise") -> Any:
    x, axis = _along(_symbol(x, indices), axis)
    if mode == "clip":
        indices = np.clip(indices, 0, x.shape[axis] - 1)
    elif mode == "wrap":
        indices = np.mod(indices, x.shape[axis])
    return _getitem(x, (*(slice(None),) * axis, indices))


@implements("take_along_axis")
def _take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    x, axis = _along(_symbol(x, indices), axis)
    index = positions(x)
    index[axis] = _symbol(indices, x)
    return record("gather", x, *index, axes=tuple(range(x.ndim)))


def positions(x: Symbol) -> list[Any]:
    """Return the index of each element along each axis: integers that broadcast to the shape."""
    ranges = [symbol_of(x.graph.constant(np.arange(size))) for size in x.shape]
    return [_reshape(numbers, [-1 if n == m else 1 for m in range(x.ndim)]) for n, numbers in enumerate(ranges)]


@implements("where")
def _where(condition: Any, *choices: Any) -> Any:
    if len(choices) != 2:
        refuse("np.where with one argument, whose shape depends on the numbers", "give the value for each case")
    if not isinstance(condition, Symbol) or condition.kind != "b":
        condition = np.not_equal(condition, 0)
    return record("where", condition, *choices)


@implements("interp")
def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Look the straight line up that each number lies on."""
    if isinstance(xp, Symbol) or isinstance(fp, Symbol) or not (left is right is period is None):
        refuse("np.interp with these arguments", "interpolate between plain numbers, without left, right and period")
    xp, fp = np.asarray(xp, float), np.asarray(fp, float)
    steps = np.diff(xp)
    slopes = np.append(np.diff(fp) / np.where(steps == 0, 1.0, steps), 0.0)

    def line_of(lines: Any) -> Any:
        """Return the line (start, value there, slope) of each number, of those that are sorted by their start."""
        half = len(lines) // 2
        if not half:
            return lines[0]
        sides = line_of(lines[half:]), line_of(lines[:half])
        return [np.where(x >= lines[half][0], *choices) for choices in zip(*sides, strict=True)]

    start, low, slope = line_of([(xp[0], fp[0], 0.0), *zip(xp, fp, slopes, strict=True)])
    return np.where(np.abs(x) == np.inf, low, slope * (x - start) + low)


@implements("select")
def _select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        default = _where(condition, choice, default)
    return default


@implements("piecewise")
def _piecewise(x: Any, condlist: Any, funclist: Any) -> Any:
    functions = [f if callable(f) else (lambda _x, value=f: value) for f in funclist]
    rest = functions[len(condlist)](x) if len(functions) > len(condlist) else 0.0
    choices = [f(x) for f, _ in zip(functions, condlist, strict=False)]
    return _select(condlist[::-1], choices[::-1], rest)  # the last condition that holds wins


@implements("clip")
def _clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:  # noqa: A002
    low, high = a_min if min is None else min, a_max if max is None else max
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@implements("roll")
def _roll(x: Any, shift: int, axis: Any = None) -> Any:
    if not isinstance(axis, int) or not isinstance(shift, int | np.integer):
        refuse("np.roll over several axes", "roll one axis after the other: np.roll(x, 1, axis=1)")
    _require_no_rows(x, axis, "np.roll")
    before, by = (slice(None),) * _axis(x, axis), shift % max(x.shape[axis], 1)
    return (
        _concatenate([x[(*before, slice(-by, None))], x[(*before, slice(None, -by))]], _axis(x, axis))
        if by
        else x.copy()
    )


@implements("diagonal")
def _diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    a, b = _axis(x, axis1), _axis(x, axis2)
    x = np.moveaxis(x, (a, b), (-2, -1))
    length = min(x.shape[-2] + min(offset, 0), x.shape[-1] - max(offset, 0))
    _require_no_rows(x, -1, "np.diagonal")
    places = np.arange(length)
    return x[..., places - min(offset, 0), places + max(offset, 0)]


# joins


@implements("concatenate", "concat")
def _concatenate(arrays: Iterable[Any], axis: Any = 0, dtype: Any = None) -> Any:
    parts = list(arrays)
    parts = [_symbol(array, *parts) for array in parts]
    if axis is None:
        parts, axis = [_reshape(array, (-1,)) for array in parts], 0
    chosen = _axis(parts[0], axis)
    for array in parts:
        _require_no_rows(array, chosen, "np.concatenate")
    return record("concatenate", *parts, axis=chosen) if len(parts) > 1 else parts[0].copy()


@implements("array_split")
def _array_split(x: Any, sections: Any, axis: int = 0, *, equal: bool = False) -> Any:
    size = x.shape[axis]
    _require_no_rows(x, axis, "np.split")
    if equal and isinstance(sections, int) and size % sections:
        raise ValueError(f"array split does not result in an equal division: {size} into {sections}")
    before, parts = (slice(None),) * _axis(x, axis), np.array_split(np.arange(size), sections)
    return [x[(*before, slice(section[0], section[-1] + 1) if len(section) else slice(0))] for section in parts]


@implements("repeat")
def _repeat(x: Any, repeats: int, axis: Any = None) -> Any:
    x, n = _along(x, axis)
    if not isinstance(repeats, int):
        refuse("np.repeat with a number for each element", "repeat all elements alike")
    wide = _broadcast_to(_expand_dims(x, n + 1), (*x.shape[: n + 1], repeats, *x.shape[n + 1 :]))
    return _reshape(wide, (*x.shape[:n], x.shape[n] * repeats, *x.shape[n + 1 :]))


@implements("tile")
def _tile(x: Any, reps: Any) -> Any:
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    x = _reshape(x, (1,) * (len(times) - x.ndim) + x.shape)
    times = (1,) * (x.ndim - len(times)) + times
    for axis, n in enumerate(times):
        x = _concatenate([x] * n, axis) if n > 1 else x
    return x.copy()


@implements("pad")
def _pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0.0) -> Any:
    width = tuple((int(a), int(b)) for a, b in np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)))
    if any(any(around) and x.graph.rows_in(size) for around, size in zip(width, x.shape, strict=True)):
        refuse("np.pad of the rows", _ROWS)
    if mode == "constant":
        if np.ndim(constant_values):
            refuse("np.pad with several constants", "pad each side by its own call")
        return record("pad", x, width=width, value=float(constant_values)) if np.any(width) else x.copy()
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        refuse(f"np.pad with mode='{mode}'", "use 'constant', 'edge', 'reflect', 'symmetric' or 'wrap'")
    for axis, around in enumerate(width):
        if any(around):
            x = _take(x, np.pad(np.arange(x.shape[axis]), around, mode=mode), axis)  # type: ignore[call-overload]
    return x.copy()


@implements("sliding_window_view")
def _sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, subok: bool = False, writeable: bool = False
) -> Any:
    window = (window_shape,) if isinstance(window_shape, int | np.integer) else tuple(map(int, window_shape))
    chosen = range(x.ndim) if axis is None else axis
    axes = tuple(map(int, normalize_axis_tuple(chosen, x.ndim, allow_duplicate=True)))
    if any(x.graph.rows_in(x.shape[n]) for n in axes):
        refuse("sliding_window_view along the rows", "give the axis")
    if len(window) != len(axes) or min(window) < 0:
        raise ShapeError(
            f"sliding_window_view: the window must have a size, 0 or more, for each axis of {axes}; got {window}"
        )
    if len(set(axes)) < len(axes):  # windows of windows
        for width, n in zip(window, axes, strict=True):
            x = _sliding_window_view(x, width, n)
        return x
    return view("windows", x, axes=axes, window=tuple(map(int, window)), steps=(1,) * len(axes))


# arrays that are filled, and small things


@implements("full_like", "full")
def _full(
    prototype: Any,
    fill_value: Any,
    dtype: Any = None,
    order: Any = None,
    subok: Any = None,
    *,
    shape: Any = None,
    like: Any = None,
    device: Any = None,
) -> Any:
    """Return an array filled with one value: of the prototype's shape, or of a given shape in the graph of ``like``."""
    if like is not None:
        prototype, shape = like, prototype
    sizes = prototype.shape if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
    if isinstance(fill_value, Symbol) or np.ndim(fill_value) == 0:
        kind = prototype.kind if like is None else kind_of(value_of(fill_value))
        fill_value = _of_kind(fill_value, kind if dtype is None else KINDS.get(np.dtype(dtype).kind, "f"))
    return symbol_of(prototype.graph.add("broadcast_to", value_of(fill_value), shape=sizes)) if sizes else fill_value


for _names, _value in {("zeros_like", "zeros", "empty_like", "empty"): 0.0, ("ones_like", "ones"): 1.0}.items():
    implements(*_names)(lambda prototype, *args, fill=_value, **options: _full(prototype, fill, *args, **options))


@implements("asarray", "array")
def _asarray(value: Any, dtype: Any = None, *, like: Any) -> Any:
    return array_symbol(value if isinstance(value, Symbol) else np.asarray(value, dtype), like.graph)


@implements("round", "around")
def _round(x: Any, decimals: int = 0) -> Any:
    return np.rint(x) if decimals == 0 else np.rint(x * 10.0**decimals) / 10.0**decimals


@implements("dot")
def _dot(a: Any, b: Any) -> Any:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    return _matmul(a, b) if np.ndim(b) <= 2 else _tensordot(a, b, (-1, -2))


@implements("sinc")
def _sinc(x: Any) -> Any:
    y = np.pi * np.where(x == 0, 1.0e-20, x)
    return np.sin(y) / y


FUNCTIONS |= {  # written by the functions above
    "append": lambda x, values, axis=None: _concatenate([x, values], axis),
    "astype": lambda x, dtype, copy=True: x.astype(dtype),
    "atleast_1d": lambda x: x if x.ndim else _reshape(x, (1,)),
    "atleast_2d": lambda x: x if x.ndim > 1 else _reshape(x, (1, -1)),
    "column_stack": lambda arrays: _concatenate([np.expand_dims(x, 1) if np.ndim(x) == 1 else x for x in arrays], 1),
    "copy": lambda x, order="K", subok=False: x.copy(),
    "count_nonzero": lambda x, axis=None, keepdims=False: _reduce("sum", x != 0, axis, keepdims),
    **dict.fromkeys(("deg2rad", "radians"), lambda x: x * (math.pi / 180.0)),
    "flatten": lambda x, order="C": _reshape(x, (-1,), order).copy(),
    "hstack": lambda arrays: _concatenate(arrays, 1 if np.ndim(arrays[0]) > 1 else 0),
    "inner": lambda a, b: a * b if np.ndim(a) == 0 or np.ndim(b) == 0 else _tensordot(a, b, (-1, -1)),
    "isclose": lambda a, b, rtol=1e-5, atol=1e-8: (
        (a == b) | ((np.abs(a - b) <= atol + rtol * np.abs(b)) & np.isfinite(b))
    ),
    "matrix_transpose": lambda x: _swapaxes(x, -1, -2),
    "nansum": lambda x, axis=None, dtype=None, keepdims=False: np.sum(
        _replace_nan(x, 0.0), axis=axis, dtype=dtype, keepdims=keepdims
    ),
    "outer": lambda a, b: np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1)),
    "percentile": lambda x, q, *args, **options: _quantile(x, q / 100 if np.ndim(q) == 0 else q, *args, **options),
    "ptp": lambda x, axis=None, keepdims=False: (
        np.max(x, axis=axis, keepdims=keepdims) - np.min(x, axis=axis, keepdims=keepdims)
    ),
    **dict.fromkeys(("rad2deg", "degrees"), lambda x: x * (180.0 / math.pi)),
    **dict.fromkeys(("real", "conj", "real_if_close"), lambda x: x),
    "ravel": lambda x, order="C": _reshape(x, (-1,), order),
    "result_type": lambda *values: np.dtype(graph_of(*values).dtype),
    "split": lambda x, sections, axis=0: _array_split(x, sections, axis, equal=True),
    "stack": lambda arrays, axis=0, dtype=None: _concatenate([np.expand_dims(x, axis) for x in arrays], axis),
    "std": lambda x, axis=None, dtype=None, ddof=0, keepdims=False: np.sqrt(
        np.var(x, axis, ddof=ddof, keepdims=keepdims)
    ),
    "trace": lambda x, offset=0, axis1=0, axis2=1: np.sum(_diagonal(x, offset, axis1, axis2), axis=-1),
    "tril": lambda m, k=0: _where(np.tril(np.ones(m.shape[-2:], bool), k), m, 0.0),
    "triu": lambda m, k=0: _where(np.triu(np.ones(m.shape[-2:], bool), k), m, 0.0),
    "var": lambda x, axis=None, dtype=None, ddof=0, keepdims=False: _reduce(
        "var", x if x.kind == "f" else x.astype(float), axis, keepdims, ddof=ddof
    ),
    "vdot": lambda a, b: np.sum(np.ravel(a) * np.ravel(b)),
    "vecdot": lambda a, b, axis=-1: np.sum(a * b, axis=axis),
}
