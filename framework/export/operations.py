"""The operations of a graph in ONNX: a row for each, beside the table of ``framework.graph.operations``.

A row of ``OPERATORS`` names the operator of ONNX that computes the same. A row of ``FORMULAS`` writes an operation with
others, as a formula of NumPy. A row of ``STRUCTURES`` is a function that writes the operators one by one. ``WIDE`` has
the formulas for float64, in which ONNX Runtime lacks some operators; they keep the digits of float64. An operation
without a row is refused by its name.

Source:
    ONNX operators, opset 21 (2024). Abramowitz and Stegun, Handbook of mathematical functions, sections 4.4 to 4.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.graph.node import Node, matching, ordered
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.special import EDGES, erf_near, erfc_tail

if TYPE_CHECKING:
    from framework.export.writer import Writer

OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "power": "Pow",
    "negative": "Neg",
    "positive": "Identity",
    "reciprocal": "Reciprocal",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "arcsin": "Asin",
    "arccos": "Acos",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "tanh": "Tanh",
    "arcsinh": "Asinh",
    "arccosh": "Acosh",
    "arctanh": "Atanh",
    "erf": "Erf",
    "abs": "Abs",
    "maximum": "Max",
    "minimum": "Min",
    "where": "Where",
    "sign": "Sign",
    "floor": "Floor",
    "ceil": "Ceil",
    "rint": "Round",  # half to even, as NumPy
    "isnan": "IsNaN",
    "isinf": "IsInf",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "equal": "Equal",
}
"""Elementwise operations that are one operator."""

LOGIC = {
    "logical_not": "Not",
    "invert": "Not",
    "logical_and": "And",
    "logical_or": "Or",
    "logical_xor": "Xor",
    "bitwise_and": "And",
    "bitwise_or": "Or",
    # of booleans
    "equal": "Equal",
    "add": "Or",
    "maximum": "Or",
    "multiply": "And",
    "minimum": "And",
}
"""Elementwise operations on booleans."""

INTEGERS: dict[str, Callable[[Writer, str, str], str]] = {
    "mod": lambda writer, a, b: writer.op("Mod", a, b),
    "floor_divide": lambda writer, a, b: writer.op("Div", writer.op("Sub", a, writer.op("Mod", a, b)), b),
}
"""Operations on integers: Div cuts off, and Mod has the sign of the divisor."""

REDUCERS = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd"}
REDUCERS |= {"any": "ReduceMax", "all": "ReduceMin"}
EXTREMES = {"argmax": "ArgMax", "argmin": "ArgMin"}


def _signbit(x: Any) -> Any:
    """Return whether the sign is negative; that of a zero shows in its reciprocal."""
    return (x < 0) | ((x == 0) & (np.reciprocal(x) < 0))


def _copysign(a: Any, b: Any) -> Any:
    return np.where(_signbit(b), -np.abs(a), np.abs(a))


def _expm1(x: Any) -> Any:
    """Return tanh(x / 2) (exp(x) + 1): no digits are lost near 0, and both ends are right."""
    return np.tanh(0.5 * x) * (np.exp(x) + 1.0)


def _log1p(x: Any) -> Any:
    """Return log(u) x / (u - 1) with u = 1 + x, which loses no digits near 0."""
    u = 1.0 + x
    ends = (u == 1.0) | (u == math.inf)
    ratio = x / np.where(ends, 1.0, u - 1.0)
    return np.where(ends, x, np.log(u) * ratio)


def _logaddexp(a: Any, b: Any) -> Any:
    """Return max(a, b) + log(1 + exp(-|a - b|)), where inf - inf counts as 0."""
    apart = np.where(a == b, 0.0, a - b)
    return np.maximum(a, b) + _log1p(np.exp(-np.abs(apart)))


def _arctan2(a: Any, b: Any) -> Any:
    """Return the angle of the point (b, a): arctan(a / b), turned by half a circle where b is negative."""
    both = np.isinf(a) & np.isinf(b)
    a, b = np.where(both, np.sign(a), a), np.where(both, np.sign(b), b)
    steep = np.abs(a) > np.abs(b)
    small, large = np.where(steep, b, a), np.where(steep, a, b)
    ratio = np.where(large == 0, 0.0, np.abs(small) / np.where(large == 0, 1.0, np.abs(large)))
    angle = np.arctan(ratio)  # of the first eighth of the circle
    angle = np.where(steep, 0.5 * math.pi - angle, angle)
    angle = _copysign(np.where(_signbit(b), math.pi - angle, angle), a)
    return np.where(np.isnan(a) | np.isnan(b), a + b, angle)


def _mod(a: Any, b: Any) -> Any:
    """Return the remainder with the sign of b."""
    rest = np.fmod(a, b)
    return np.where(_turned(rest, b), rest + b, rest)


def _turned(rest: Any, b: Any) -> Any:
    """Return whether a remainder has another sign than the divisor."""
    return ((rest < 0) & (b > 0)) | ((rest > 0) & (b < 0))


def _floor_divide(a: Any, b: Any) -> Any:
    """Return (a - rest) / b, which rounding may have moved from a whole number."""
    rest = np.fmod(a, b)
    whole = np.rint((a - rest) / b)
    return np.where(b == 0, a / b, np.where(_turned(rest, b), whole - 1.0, whole))


def _hypot(a: Any, b: Any) -> Any:
    a, b = np.abs(a), np.abs(b)
    large, small = np.maximum(a, b), np.minimum(a, b)
    ratio = small / np.where((large == 0) | np.isinf(large), 1.0, large)
    return np.where(np.isinf(large), large, large * np.sqrt(1.0 + ratio * ratio))


def _cbrt(x: Any) -> Any:
    """Return the cube root: that of a power, with one step of Newton's method, which makes the last digits right."""
    size = np.where((x == 0) | np.isinf(x), 1.0, np.abs(x))
    root = size ** (1.0 / 3.0)
    root = root - (root - size / (root * root)) / 3.0
    return np.where((x == 0) | np.isinf(x), x, _copysign(root, x))


def _erfc_far(size: Any) -> Any:
    """Return erfc(x) for x >= 0.84375."""
    z = np.rint(np.minimum(size, EDGES[-1]) * 64.0) / 64.0  # few digits, so that z^2 is exact in float32 too
    found: Any = 0.0
    for place, (low, high) in enumerate(pairwise(EDGES[1:]), 1):
        x = np.clip(size, low, high)
        tail = erfc_tail(x, np.clip(z, low - 1.0, high), place)
        found = np.where((size >= low) & (size < high), tail, found)
    return np.where(np.isnan(size), size, found)


def _erfc(x: Any) -> Any:
    size = np.abs(x)
    inner = np.clip(x, -EDGES[1], EDGES[1])
    near, far = 1.0 - (inner + inner * erf_near(inner)), _erfc_far(size)
    return np.where(size < EDGES[1], near, np.where(x < 0, 2.0 - far, far))


def _erf(x: Any) -> Any:
    size = np.abs(x)
    inner = np.clip(x, -EDGES[1], EDGES[1])
    return np.where(size < EDGES[1], inner + inner * erf_near(inner), _copysign(1.0 - _erfc_far(size), x))


def _var(x: Any, *, axes: tuple[int, ...], keepdims: bool, ddof: int) -> Any:
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    total = np.sum(deviation * deviation, axis=axes, keepdims=keepdims)
    return total / (x.number(math.prod(x.shape[axis] for axis in axes)) - ddof)


def _softmax(x: Any, *, axes: tuple[int, ...]) -> Any:
    e = np.exp(x - np.max(x, axis=axes, keepdims=True))
    return e / np.sum(e, axis=axes, keepdims=True)


FORMULAS: dict[str, Callable[..., Any]] = {
    "square": lambda x: x * x,
    "exp2": lambda x: np.power(2.0, x),
    "log2": lambda x: np.log(x) * (1.0 / math.log(2.0)),
    "log10": lambda x: np.log(x) * (1.0 / math.log(10.0)),
    "expm1": _expm1,
    "log1p": _log1p,
    "logaddexp": _logaddexp,
    "cbrt": _cbrt,
    "hypot": _hypot,
    "arctan2": _arctan2,
    "erfc": _erfc,
    "fmax": lambda a, b: np.where(np.isnan(b), a, np.where(np.isnan(a), b, np.maximum(a, b))),
    "fmin": lambda a, b: np.where(np.isnan(b), a, np.where(np.isnan(a), b, np.minimum(a, b))),
    "copysign": _copysign,
    "signbit": _signbit,
    "mod": _mod,
    "floor_divide": _floor_divide,
    "trunc": lambda x: np.where(x < 0, np.ceil(x), np.floor(x)),
    "heaviside": lambda a, b: np.where(a == 0, b, np.where(a > 0, 1.0, np.where(a < 0, 0.0, a))),
    "isfinite": lambda x: ~(np.isnan(x) | np.isinf(x)),
    "not_equal": lambda a, b: ~(a == b),
    "var": _var,
}
"""Operations that are a formula of others."""


def _sinh(x: Any) -> Any:
    """Return (u + u / (u + 1)) / 2 with u = exp(|x|) - 1; of large |x| exp(|x| / 2)^2 / 2, which overflows late."""
    size = np.abs(x)
    u, root = _expm1(np.minimum(size, 20.0)), np.exp(0.5 * size)
    return _copysign(np.where(size > 20.0, 0.5 * root * root, 0.5 * (u + u / (u + 1.0))), x)


def _cos(x: Any) -> Any:
    """Return 1 - 2 sin(x / 2)^2: many versions of ONNX Runtime lack the cosine of float64."""
    half = np.sin(0.5 * x)
    return 1.0 - 2.0 * half * half


def _cosh(x: Any) -> Any:
    root = np.exp(0.5 * np.abs(x))
    return 0.5 * root * root + 0.5 / root / root


def _arcsinh(x: Any) -> Any:
    size = np.abs(x)
    inner = np.minimum(size, 1e8)
    near = _log1p(inner + inner * inner / (1.0 + np.sqrt(1.0 + inner * inner)))
    return _copysign(np.where(size > 1e8, np.log(np.maximum(size, 1.0)) + math.log(2.0), near), x)


def _arccosh(x: Any) -> Any:
    above = np.minimum(x, 1e8) - 1.0
    near = _log1p(above + np.sqrt(above) * np.sqrt(above + 2.0))
    return np.where(x > 1e8, np.log(np.maximum(x, 1.0)) + math.log(2.0), near)


WIDE: dict[str, Callable[..., Any]] = {
    "erf": _erf,
    "cos": _cos,
    "tan": lambda x: np.sin(x) / np.cos(x),
    "arcsin": lambda x: _arctan2(x, np.sqrt((1.0 - x) * (1.0 + x))),
    "arccos": lambda x: _arctan2(np.sqrt((1.0 - x) * (1.0 + x)), x),
    "sinh": _sinh,
    "cosh": _cosh,
    "arcsinh": _arcsinh,
    "arccosh": _arccosh,
    "arctanh": lambda x: 0.5 * (_log1p(x) - _log1p(-x)),
}
"""Formulas in place of operators that ONNX Runtime does not have for float64."""


# structures: (writer, node) -> the name of the result


def _product(writer: Writer, node: Node) -> str:
    """Write a matrix product; in float64 as a sum over an index, where ONNX Runtime would join a transpose with it.

    It moves a transpose past other operations to do so. Its versions up to 1.24 have no operator for the two in
    float64, and 1.27 computes it in float32.
    """
    a, b = node.args
    joined = min(a.ndim, b.ndim) > 1 and any(matching(each, "transpose") for each in ordered(node.args))
    if not joined or writer.graph.dtype == "float32":
        return writer.op("MatMul", *writer.args(node))
    letters = "abcdefgh"[: node.ndim - 2]
    first, second = (letters[len(letters) - arg.ndim + 2 :] for arg in node.args)
    return writer.op("Einsum", *writer.args(node), equation=f"{first}ij,{second}jk->{letters}ik")


def _einsum(writer: Writer, node: Node) -> str:
    convolution = _convolution(writer, node) if writer.graph.dtype == "float32" else None
    return convolution or writer.op("Einsum", *writer.args(node), equation=node.attributes["subscripts"])


def _convolution(writer: Writer, node: Node) -> str | None:
    """Write the product of windows with a kernel as a convolution; return None for another product."""
    windows, kernel = node.args[0], node.args[-1]
    places = windows.attributes["index"] if matching(windows, "index") else (None,) * windows.ndim
    windows = windows.args[0] if matching(windows, "index") else windows
    axes = (windows.ndim - 2) // 2
    outer, inner = places[2 : 2 + axes], places[2 + axes :]
    (first, *others), _, output = (part.split(",") for part in node.attributes["subscripts"].partition("->"))
    if not (len(others) == 1 and matching(windows, "windows") and windows.ndim == 2 + 2 * axes == len(first)):
        return None
    whole = {"axes": tuple(range(2, 2 + axes)), "steps": (1,) * axes}
    at, inside = first[2 : 2 + axes], first[2 + axes :]
    units = others[0][-1]
    if (
        any(windows.attributes[key] != value for key, value in whole.items())
        or (others, output) != ([f"{first[1]}{inside}{units}"], [f"{first[0]}{units}{at}"])
        or places[:2] != (None, None)
        or any(part is not None and (isinstance(part, int | str) or part[0]) for part in places)
        or not all(part is None or part[1] == size for part, size in zip(outer, windows.shape[2:], strict=False))
    ):
        return None
    x, pads = windows.args[0], [0] * (2 * axes)
    if matching(x, "pad") and x.attributes["value"] == 0 and not any(map(any, x.attributes["width"][:2])):
        pads = [side[n] for n in (0, 1) for side in x.attributes["width"][2:]]
        x = x.args[0]
    return writer.op(
        "Conv",
        writer.text(x, "f"),
        writer.transposed(kernel, (axes + 1, *range(axes + 1))),
        kernel_shape=[*kernel.shape[1:-1]],
        strides=[1 if part is None else part[2] for part in outer],
        dilations=[1 if part is None else part[2] for part in inner],
        pads=pads,
    )


def _reduced(writer: Writer, node: Node) -> str:
    axes = writer.file.integers(node.attributes["axes"])
    kind = "i" if node.kind == "b" else node.kind  # any and all are the maximum and the minimum
    (x,), keepdims = writer.args(node, kind), int(node.attributes["keepdims"])
    found = writer.op(REDUCERS[node.op], x, axes, keepdims=keepdims)
    if node.op in ("max", "min") and kind == "f":  # which ONNX Runtime finds among the numbers that are not NaN
        absent = writer.op("ReduceMax", _absent(writer, x), axes, keepdims=keepdims)
        found = writer.op("Where", writer.cast(absent, "b"), writer.text(math.nan, "f"), found)
    return writer.cast(found, "b") if node.kind == "b" else found


def _absent(writer: Writer, x: str) -> str:
    """Return the name of an array of integers: 1 where x is NaN."""
    return writer.cast(writer.op("IsNaN", x), "i")


def _place_of_extreme(writer: Writer, node: Node) -> str:
    """Write the place of an extreme; the first NaN counts as one, as in NumPy."""
    (x,), (axis,), keepdims = node.args, node.attributes["axes"], int(node.attributes["keepdims"])
    name = writer.text(x, "i" if x.kind == "b" else x.kind)
    found = writer.op(EXTREMES[node.op], name, axis=axis, keepdims=keepdims)
    if x.kind != "f":
        return found
    absent = _absent(writer, name)
    some = writer.op("ReduceMax", absent, writer.file.integers([axis]), keepdims=keepdims)
    return writer.op("Where", writer.cast(some, "b"), writer.op("ArgMax", absent, axis=axis, keepdims=keepdims), found)


def _softmax_of(writer: Writer, node: Node) -> str:
    if len(node.attributes["axes"]) > 1:
        return writer.formula(_softmax, node)
    return writer.op("Softmax", *writer.args(node), axis=node.attributes["axes"][0])


def _cumsum(writer: Writer, node: Node) -> str:
    return writer.op("CumSum", *writer.args(node), writer.array(node.attributes["axis"], "i"))


def _reshape(writer: Writer, node: Node) -> str:
    """Write a reshape; rows that stay the first axis are copied from the input's shape, by a 0."""
    (x,) = node.args
    same = x.shape[:1] == node.shape[:1] and not any(map(writer.graph.rows_in, node.shape[1:]))
    shape = (0, *node.shape[1:]) if same and x.shape else node.shape
    return writer.op("Reshape", *writer.args(node), writer.shape(shape))


def _index(writer: Writer, node: Node) -> str:
    name, parts = writer.text(node.args[0], node.kind), list(enumerate(node.attributes["index"]))
    cuts = [(axis, (-1, _FIRST, -1) if part == "reversed" else part) for axis, part in parts if part is not None]
    cuts = [(axis, (part, part + 1, 1) if isinstance(part, int) else part) for axis, part in cuts]
    if cuts:
        starts, stops, steps = zip(*(part for _, part in cuts), strict=True)
        stops = tuple(_FIRST if stop < 0 else stop for stop in stops)  # Python's triples end before 0 at -1
        axes = writer.file.integers(axis for axis, _ in cuts)
        name = writer.op("Slice", name, *map(writer.file.integers, (starts, stops)), axes, writer.file.integers(steps))
    single = [axis for axis, part in parts if isinstance(part, int)]
    return writer.op("Squeeze", name, writer.file.integers(single)) if single else name


_FIRST = np.iinfo(np.int64).min
"""The end of a slice that goes back to the first element."""


def _windows(writer: Writer, node: Node) -> str:
    """Write windows as a look-up along each axis, with an axis for the places and one for those inside a window."""
    (x,), axes = node.args, node.attributes["axes"]
    name = writer.text(x, node.kind)
    moved = [*range(x.ndim)]  # what each axis of the result so far is: an axis of x, or -1 - n for the n-th window
    chosen = sorted(zip(axes, node.attributes["window"], node.attributes["steps"], range(len(axes)), strict=True))
    for axis, width, step, place in reversed(chosen):
        starts = np.arange(0, x.shape[axis] - width + 1, step)[:, None]
        name = writer.op("Gather", name, writer.array(starts + np.arange(width), "i"), axis=axis)
        moved.insert(axis + 1, -1 - place)
    order = [moved.index(axis) for axis in range(x.ndim)] + [moved.index(-1 - n) for n in range(len(axes))]
    return writer.op("Transpose", name, perm=order)


def _set_index(writer: Writer, node: Node) -> str:
    """Write a value into a part: one axis after the other, the new elements behind the old ones, then a look-up."""
    x, value = node.args

    def placed(name: str, shape: tuple[int, ...], index: tuple[Any, ...], axis: int) -> str:
        while axis < len(index) and index[axis] is None:
            axis += 1
        if axis == len(index):
            kept = tuple(1 if isinstance(part, int) else size for part, size in zip(index, shape, strict=True))
            return writer.op("Reshape", writer.text(value, node.kind), writer.shape(kept))
        size, part = shape[axis], index[axis]
        places = np.atleast_1d(np.arange(size)[_python_index(part)])
        inner = writer.op("Gather", name, writer.array(places, "i"), axis=axis)
        inner = placed(inner, (*shape[:axis], len(places), *shape[axis + 1 :]), index, axis + 1)
        where = np.arange(size)
        where[places] = size + np.arange(len(places))
        return writer.op("Gather", writer.op("Concat", name, inner, axis=axis), writer.array(where, "i"), axis=axis)

    return placed(writer.text(x, node.kind), node.shape, node.attributes["index"], 0)


def _python_index(part: Any) -> Any:
    """Return the index of one axis as NumPy takes it."""
    if isinstance(part, int):
        return part
    start, stop, step = (None, None, -1) if part == "reversed" else part
    return slice(start, None if stop is not None and stop < 0 else stop, step)


def _gather(writer: Writer, node: Node) -> str:
    x, *indices = node.args
    axes, graph = node.attributes["axes"], writer.graph
    name = writer.text(x, node.kind)
    if len(axes) == 1:
        return writer.op("Gather", name, writer.text(indices[0], "i"), axis=axes[0])
    start, stop = axes[0], axes[-1] + 1
    if axes != tuple(range(start, stop)):
        order = (*axes, *(axis for axis in range(x.ndim) if axis not in axes))
        name, start, stop = writer.op("Transpose", name, perm=[*order]), 0, len(axes)
        shape = tuple(x.shape[axis] for axis in order)
    else:
        shape = x.shape
    flat: Any = 0
    for size, index in zip(shape[start:stop], map(symbol_of, indices), strict=True):
        count = symbol_of(graph.lift(size))
        count = count.astype(int) if isinstance(count, Symbol) else count
        flat = flat * count + np.where(index < 0, index + count, index)
    merged = (*shape[:start], math.prod(shape[start:stop]), *shape[stop:])
    name = writer.op("Reshape", name, writer.shape(merged))
    return writer.op("Gather", name, writer.computed(value_of(flat), "i"), axis=start)


def _pad(writer: Writer, node: Node) -> str:
    width = node.attributes["width"]
    pads = writer.file.integers([side[n] for n in (0, 1) for side in width])
    return writer.op("Pad", *writer.args(node), pads, writer.text(node.attributes["value"], node.kind))


def _arctan(writer: Writer, node: Node) -> str:
    """Write the arctangent; in float64 that of float32, and one step with the sine and cosine of float64."""
    (name,) = writer.args(node)
    if writer.graph.dtype == "float32":
        return writer.op("Atan", name)
    return writer.formula(_refined, node, writer.cast(writer.op("Atan", writer.file.cast(name, "float32")), "f"))


def _refined(x: Any, near: Any) -> Any:
    """Return near + arctan((x - tan(near)) / (1 + x tan(near))), whose argument is tiny."""
    sine, cosine = np.sin(near), np.cos(near)
    steep = np.abs(x) > 1.0  # there both parts are divided by x, so that nothing overflows
    scale = np.where(steep, 1.0 / np.where(steep, x, 1.0), 1.0)
    x = np.where(steep, 1.0, x)
    return near + (x * cosine - scale * sine) / (scale * cosine + x * sine)


STRUCTURES: dict[str, Callable[[Writer, Node], str]] = {
    "arctan": _arctan,
    "fmod": lambda writer, node: writer.op("Mod", *writer.args(node), fmod=1),
    # where values come from
    "constant": lambda writer, node: writer.array(node.attributes["value"].value, node.kind),
    "rows": lambda writer, node: writer.cast(writer.count(node.attributes["times"]), "f"),
    "row_numbers": lambda writer, node: writer.op(
        "Range", writer.text(0, "i"), writer.count(node.attributes["times"]), writer.text(1, "i")
    ),
    "astype": lambda writer, node: writer.text(node.args[0], node.kind),
    # products and reductions
    "matmul": _product,
    "einsum": _einsum,
    **dict.fromkeys(REDUCERS, _reduced),
    **dict.fromkeys(EXTREMES, _place_of_extreme),
    "softmax": _softmax_of,
    "cumsum": _cumsum,
    # arrangement
    "reshape": _reshape,
    "broadcast_to": lambda writer, node: writer.op("Expand", *writer.args(node), writer.shape(node.shape)),
    "transpose": lambda writer, node: writer.op("Transpose", *writer.args(node), perm=[*node.attributes["axes"]]),
    "index": _index,
    "windows": _windows,
    "set_index": _set_index,
    "gather": _gather,
    "concatenate": lambda writer, node: writer.op("Concat", *writer.args(node), axis=node.attributes["axis"]),
    "pad": _pad,
    # a recurrence
    "loop": lambda writer, node: writer.loop(node),
    "part": lambda writer, node: writer.part(node),
}
"""Operations that are more than one operator, or have attributes."""
