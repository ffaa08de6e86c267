"""The table of operations: a row for each NumPy operation that a formula may use.

A rule gives the tangent of the result y from the tangent t of one argument: rule(t, y, *arguments).

At a kink the conventions are: |x|' = sign x; a maximum or minimum of x and a number has the derivative 0 where they are
equal, so ReLU'(0) = 0; of two expressions, the mean of both derivatives; a step has the derivative 0.

Source: Abramowitz and Stegun, Handbook of mathematical functions, sections 3.3, 4.1 to 4.6 and 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from framework.base.arrays import LARGEST_EXPONENT
from framework.base.errors import ShapeError
from framework.graph.node import common_shape
from framework.graph.refuse import ONE_HOT, refuse

Rule = Callable[..., Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Operation:
    """One row of the table of operations.

    A rule carries a gradient back. For an elementwise operation there is one rule for each argument,
    ``rule(t, y, *arguments)``, linear in t, with y the operation's value: it carries a gradient back, and a tangent
    forward. ``reverse(g, y, *arguments, **attributes)`` of any other operation returns a gradient for each argument.
    All of them are written with NumPy on symbols. None means that the derivative is 0 wherever it exists.

    Attributes:
        shape: (graph, *shapes, **attributes) -> the shape of the result.
        rules: One rule for each argument of an elementwise operation.
        reverse: The rule of any other operation.
        numpy: A template of the NumPy source; ``{0}`` is the first argument, ``{out}`` is ``, out=...`` or empty. Its
            default, like that of the next two, is a call with the operation's name.
        text: A template of the text for readers.
        latex: The same in LaTeX.
        binding: How tightly the text binds: comparisons 0, sums 1, products 2, signs 3, powers 4, calls 5.
        kind: "f", "i" or "b"; None for the kind that NumPy promotes the arguments to.
        elementwise: Whether each element of the result depends on one element of each argument.
        view: Whether NumPy returns a view of the first argument.
        lowered: (*arguments, **attributes) -> the operation by others, for one that no user writes; see ``stable``.
        constant_of_equal: Whether the result has no slope where both arguments are equal, as in x - x and x / x.
    """

    shape: Rule
    rules: tuple[Rule | None, ...] = ()
    reverse: Rule | None = None
    numpy: str = ""
    text: str = ""
    latex: str = ""
    binding: int = 5
    kind: str | None = None
    elementwise: bool = False
    view: bool = False
    lowered: Rule | None = None
    constant_of_equal: bool = False


def same_shape(_graph: Any, shape: Shape, *_others: Shape, **_attributes: Any) -> Shape:
    """Return the shape of the first argument."""
    return shape


def shape_from_attribute(_graph: Any, *_shapes: Shape, shape: Shape, **_attributes: Any) -> Shape:
    """Return the attribute ``shape``."""
    return shape


def keep_axes(g: Any, x: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """Return a reduction's result, or its gradient, with the reduced axes kept as axes of 1."""
    return g if keepdims else np.reshape(g, shape_with_ones(x.shape, axes))


def shape_with_ones(shape: Shape, axes: Shape) -> Shape:
    """Return a shape with some axes reduced to 1."""
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def unbroadcast(g: Any, shape: Shape) -> Any:
    """Return the gradient of an argument of this shape that NumPy broadcast to the shape of ``g``: the sum."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    axes = (*range(extra), *(a + extra for a, n in enumerate(shape) if n == 1 and g.shape[a + extra] != 1))
    return np.reshape(np.sum(g, axis=axes, keepdims=True) if axes else g, shape)


# elementwise operations

_ERF_SLOPE = 2.0 / math.sqrt(math.pi)


def _broadcast(graph: Any, *shapes: Shape, **_attributes: Any) -> Shape:
    try:
        return common_shape(*shapes)
    except ValueError:
        raise ShapeError(f"shapes {' and '.join(map(graph.shape_text, shapes))} do not broadcast") from None


def _row(*rules: Rule | None, **fields: Any) -> Operation:
    return Operation(_broadcast, rules, elementwise=True, **fields)


def _sign(text: str, latex: str, *rules: Rule | None, **fields: Any) -> Operation:
    """Return the row of an operator between two arguments."""
    return _row(*rules, text=f"{{0}} {text} {{1}}", latex=f"{{0}} {latex} {{1}}", **fields)


def _extreme(name: str, wins: Rule) -> Operation:
    """Return the row of a maximum or minimum, given where its first argument is chosen."""
    reaches = np.greater_equal if name.endswith("max") else np.less_equal  # beside a tie, it is ``wins``

    def gradient_of_choice(t: Any, mine: Any, other: Any) -> Any:
        """Return t where ``mine`` is chosen; at a tie of two expressions half of it, of a number and one nothing."""
        numbers = isinstance(mine, int | float) or isinstance(other, int | float)
        return np.where(wins(mine, other), t, 0.0 if numbers else np.where(reaches(mine, other), 0.5 * t, 0.0))

    rules = (lambda t, y, a, b: gradient_of_choice(t, a, b)), (lambda t, y, a, b: gradient_of_choice(t, b, a))
    return _row(*rules, text=f"{name}({{arguments}})", latex=rf"\{name.removeprefix('f')}\left({{arguments}}\right)")


def _one_less(n: Any) -> Any:
    """Return n - 1 for the slope n x^(n - 1); where an array n is 0, return 0, as the slope there is 0 for any x."""
    return n - 1 if isinstance(n, int | float) else np.where(n == 0, 0.0, n - 1)


_ROWS: dict[str, Operation] = {
    # arithmetic
    "add": _sign("+", "+", lambda t, y, a, b: t, lambda t, y, a, b: t, binding=1),
    "subtract": _sign("-", "-", lambda t, y, a, b: t, lambda t, y, a, b: -t, binding=1, constant_of_equal=True),
    "multiply": _sign("*", r"\,", lambda t, y, a, b: t * b, lambda t, y, a, b: a * t, binding=2),
    "divide": _row(
        lambda t, y, a, b: t / b,
        lambda t, y, a, b: -(y * t) / b,
        text="{0} / {1}",
        latex=r"\frac{{{0}}}{{{1}}}",
        binding=2,
        constant_of_equal=True,
    ),
    "power": _row(
        lambda t, y, x, n: n * x ** _one_less(n) * t,
        lambda t, y, x, n: y * np.log(np.where(x == 0, 1.0, x)) * t,
        text="{0} ** {1}",
        latex="{0}^{{{1}}}",
        binding=4,
    ),
    "negative": _row(lambda t, y, x: -t, text="-{0}", latex="-{0}", binding=3),
    "positive": _row(lambda t, y, x: t, text="{0}", latex="{0}"),
    "square": _row(lambda t, y, x: 2.0 * x * t, text="{0} ** 2", latex="{0}^2", binding=4),
    "reciprocal": _row(lambda t, y, x: -(y * t) / x, text="1 / {0}", latex=r"\frac{{1}}{{{0}}}", binding=2),
    "mod": _sign(
        "%", r"\bmod", lambda t, y, a, b: t, lambda t, y, a, b: -np.floor(a / b) * t, binding=2, constant_of_equal=True
    ),
    "fmod": _row(
        lambda t, y, a, b: t, lambda t, y, a, b: -np.trunc(a / b) * t, latex=r"{0} \bmod {1}", constant_of_equal=True
    ),
    "floor_divide": _row(
        None, None, text="{0} // {1}", latex=r"\left\lfloor \frac{{{0}}}{{{1}}} \right\rfloor", binding=2
    ),
    # exponentials and logarithms
    "exp": _row(lambda t, y, x: y * t, latex="e^{{{0}}}"),
    "exp2": _row(lambda t, y, x: y * t * math.log(2.0), latex="2^{{{0}}}"),
    "expm1": _row(lambda t, y, x: np.exp(x) * t, text="exp({0}) - 1", latex="e^{{{0}}} - 1", binding=1),
    "log": _row(lambda t, y, x: t / x, latex=r"\ln\left({0}\right)"),
    "log2": _row(lambda t, y, x: t / (x * math.log(2.0)), latex=r"\log_2\left({0}\right)"),
    "log10": _row(lambda t, y, x: t / (x * math.log(10.0)), latex=r"\log_{{10}}\left({0}\right)"),
    "log1p": _row(lambda t, y, x: t / (1.0 + x), latex=r"\ln\left(1 + {0}\right)"),
    "logaddexp": _row(
        lambda t, y, a, b: t / (1.0 + np.exp(b - a)),
        lambda t, y, a, b: t / (1.0 + np.exp(a - b)),
        latex=r"\ln\left(e^{{{0}}} + e^{{{1}}}\right)",
    ),
    # roots and lengths
    "sqrt": _row(lambda t, y, x: t / (2.0 * y), latex=r"\sqrt{{{0}}}"),
    "cbrt": _row(lambda t, y, x: t / (3.0 * y * y), latex=r"\sqrt[3]{{{0}}}"),
    "hypot": _row(
        lambda t, y, a, b: a / np.where(y == 0, 1.0, y) * t,
        lambda t, y, a, b: b / np.where(y == 0, 1.0, y) * t,
        latex=r"\sqrt{{{0}^2 + {1}^2}}",
    ),
    # circular and hyperbolic functions
    "sin": _row(lambda t, y, x: np.cos(x) * t),
    "cos": _row(lambda t, y, x: -np.sin(x) * t),
    "tan": _row(lambda t, y, x: (1.0 + y * y) * t),
    "arcsin": _row(lambda t, y, x: t / np.sqrt((1.0 - x) * (1.0 + x))),
    "arccos": _row(lambda t, y, x: -t / np.sqrt((1.0 - x) * (1.0 + x))),
    "arctan": _row(lambda t, y, x: t / (1.0 + x * x)),
    "arctan2": _row(
        lambda t, y, a, b: b * t / (a * a + b * b), lambda t, y, a, b: -a * t / (a * a + b * b), constant_of_equal=True
    ),
    "sinh": _row(lambda t, y, x: np.cosh(x) * t),
    "cosh": _row(lambda t, y, x: np.sinh(x) * t),
    "tanh": _row(lambda t, y, x: (1.0 - y * y) * t),
    "arcsinh": _row(lambda t, y, x: t / np.hypot(1.0, x)),
    "arccosh": _row(lambda t, y, x: t / np.sqrt((x - 1.0) * (x + 1.0))),
    "arctanh": _row(lambda t, y, x: t / ((1.0 - x) * (1.0 + x))),
    "erf": _row(lambda t, y, x: _ERF_SLOPE * np.exp(-x * x) * t, numpy="erf({0})"),
    "erfc": _row(lambda t, y, x: -_ERF_SLOPE * np.exp(-x * x) * t, numpy="erfc({0})"),
    # kinks; ``kinks`` refines their derivatives where they meet
    "abs": _row(lambda t, y, x: np.sign(x) * t, latex=r"\left|{0}\right|"),
    "maximum": _extreme("max", lambda a, b: a > b),
    "minimum": _extreme("min", lambda a, b: a < b),
    "fmax": _extreme("fmax", lambda a, b: (a > b) | np.isnan(b)),
    "fmin": _extreme("fmin", lambda a, b: (a < b) | np.isnan(b)),
    "where": _row(
        None,
        lambda t, y, c, a, b: np.where(c, t, 0.0),
        lambda t, y, c, a, b: np.where(c, 0.0, t),
        latex=r"\left({1} \text{{ if }} {0} \text{{ else }} {2}\right)",
    ),
    "copysign": _row(lambda t, y, a, b: np.sign(a) * t * np.copysign(1.0, b), None),
    # steps
    "sign": _row(None),
    "floor": _row(None, latex=r"\left\lfloor {0} \right\rfloor"),
    "ceil": _row(None, latex=r"\left\lceil {0} \right\rceil"),
    "rint": _row(None, latex=r"\operatorname{{round}}\left({0}\right)"),
    "trunc": _row(None),
    "heaviside": _row(None, None, latex=r"\operatorname{{H}}\left({0}\right)"),
    "signbit": _row(None, latex=r"\left[{0} < 0\right]"),
    "isfinite": _row(None, latex=r"\left[\left|{0}\right| < \infty\right]"),
    "isnan": _row(None),
    "isinf": _row(None, latex=r"\left[\left|{0}\right| = \infty\right]"),
    "logical_not": _row(None, latex=r"\lnot {0}"),
    "invert": _row(None, text="~{0}", latex=r"\lnot {0}", binding=3),
    **{
        name: _sign(text, latex, None, None, binding=0)
        for name, text, latex in [
            ("greater", ">", ">"),
            ("greater_equal", ">=", r"\ge"),
            ("less", "<", "<"),
            ("less_equal", "<=", r"\le"),
            ("equal", "==", "="),
            ("not_equal", "!=", r"\ne"),
            ("bitwise_and", "&", r"\land"),
            ("bitwise_or", "|", r"\lor"),
        ]
    },
    "logical_and": _row(None, None, latex=r"{0} \land {1}"),
    "logical_or": _row(None, None, latex=r"{0} \lor {1}"),
    "logical_xor": _row(None, None, latex=r"{0} \oplus {1}"),
}

COMPARISONS = frozenset({"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"})
GROWING = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "power", "square", "multiply"})
"""Operations that can overflow in a denominator."""


def _kind(name: str) -> str | None:
    """Return the kind of the result that NumPy gives even for integers; None where it promotes the arguments."""
    ufunc = getattr(np, name, None)
    if not isinstance(ufunc, np.ufunc):
        return "f" if ufunc is None else None
    kind: str = ufunc.resolve_dtypes((*(np.dtype(int),) * ufunc.nin, None))[-1].kind
    return None if kind == "i" else kind


ELEMENTWISE = {name: replace(row, kind=_kind(name)) for name, row in _ROWS.items()}


# reductions: sums, means and extremes over axes, and what is computed along one axis


def _shape_of_reduction(_graph: Any, shape: Shape, *, axes: Shape, keepdims: bool, **_attributes: Any) -> Shape:
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape) if keepdims or axis not in axes)


def _count(x: Any, axes: Shape) -> Any:
    """Return how many elements one result is computed from: a number, or a symbol where rows are among them."""
    return x.number(math.prod(x.shape[axis] for axis in axes))


def _var(g: Any, y: Any, x: Any, *, axes: Shape, keepdims: bool, ddof: int) -> Any:
    """Return 2 (x - mean) / (n - ddof): the part through the mean is 0, because the deviations add up to 0."""
    deviation = x - np.mean(x, axis=axes, keepdims=True)
    return (deviation * (2.0 * keep_axes(g, x, axes, keepdims) / (_count(x, axes) - ddof)),)


def _share_among_extremes(g: Any, y: Any, x: Any, *, axes: Shape, keepdims: bool) -> Any:
    """Share the gradient evenly among the elements that reach the extreme."""
    reached = x == keep_axes(y, x, axes, keepdims)
    share = keep_axes(g, x, axes, keepdims) / np.sum(np.where(reached, 1.0, 0.0), axis=axes, keepdims=True)
    return (np.where(reached, share, 0.0),)


def _prod(g: Any, y: Any, x: Any, *, axes: Shape, keepdims: bool) -> Any:
    """Return the product of the others, also where one element is 0."""
    zero = x == 0
    rest = np.where(zero, 1.0, x)
    others = np.prod(rest, axis=axes, keepdims=True)
    zeros = np.sum(np.where(zero, 1.0, 0.0), axis=axes, keepdims=True)
    slope = np.where(zeros == 0, others / rest, np.where((zeros == 1) & zero, others, 0.0))
    return (keep_axes(g, x, axes, keepdims) * slope,)


def _reduction(
    name: str, reverse: Any, latex: str = "", kind: str | None = None, *, axis: str = "{axes}", further: str = ""
) -> Operation:
    numpy = f"np.{name}({{0}}, axis={axis}{further}, keepdims={{keepdims}}{{out}})"
    return Operation(_shape_of_reduction, (), reverse, numpy, f"{name}({{0}}{{along}})", latex, kind=kind)


REDUCTIONS: dict[str, Operation] = {
    "sum": _reduction(
        "sum", lambda g, y, x, **axes: (np.broadcast_to(keep_axes(g, x, **axes), x.shape),), r"\sum{along} {0}"
    ),
    "mean": _reduction(
        "mean",
        lambda g, y, x, *, axes, keepdims: (
            np.broadcast_to(keep_axes(g, x, axes, keepdims) / _count(x, axes), x.shape),
        ),
        kind="f",
    ),
    "var": _reduction("var", _var, kind="f", further=", ddof={ddof}"),
    "max": _reduction("max", _share_among_extremes),
    "min": _reduction("min", _share_among_extremes),
    "prod": _reduction("prod", _prod, r"\prod{along} {0}"),
    "any": _reduction("any", None, r"\exists{along} {0}", "b"),
    "all": _reduction("all", None, r"\forall{along} {0}", "b"),
    "argmax": _reduction("argmax", None, kind="i", axis="{axes[0]}"),
    "argmin": _reduction("argmin", None, kind="i", axis="{axes[0]}"),
    # the stable order: NaN last, and equal elements as they stand
    "argsort": Operation(
        same_shape,
        (),
        None,
        "np.argsort({0}, axis={axis}, stable=True)",
        "argsort({0}, axis={axis})",
        r"\operatorname{{argsort}}_{{\mathrm{{axis}} = {axis}}}\left({0}\right)",
        kind="i",
    ),
    "cumsum": Operation(
        same_shape,
        (),
        lambda g, y, x, *, axis: (np.flip(np.cumsum(np.flip(g, axis), axis), axis),),
        "np.cumsum({0}, axis={axis}{out})",
        "cumsum({0}, axis={axis})",
        r"\operatorname{{cumsum}}_{{\mathrm{{axis}} = {axis}}}\left({0}\right)",
    ),
    # the sum over the shards of a batch; passes says whether a gradient goes through it
    "total": Operation(
        same_shape, (), lambda g, y, x, *, passes: (g.record("total", passes=False) if passes else None,)
    ),
}


# products of matrices and of arrays with any number of axes


def _matmul_shape(graph: Any, a: Shape, b: Shape) -> Shape:
    if a[-1] != b[-2:][0]:
        raise ShapeError(
            f"{graph.shape_text(a)} @ {graph.shape_text(b)}: the sizes {graph.size_text(a[-1])} and "
            f"{graph.size_text(b[-2:][0])} must be equal"
        )
    return (*common_shape(a[:-2], b[:-2]), a[-2], *b[1:][-1:])  # lowering multiplies by a vector too


def _matmul(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 2 and a.ndim > 2:  # one product for all leading axes
        count = math.prod(a.shape[:-1])  # not -1, which is open where an axis has no elements
        flat_g, flat_a = np.reshape(g, (count, g.shape[-1])), np.reshape(a, (count, a.shape[-1]))
        return np.reshape(flat_g @ b.mT, a.shape), flat_a.mT @ flat_g
    return unbroadcast(g @ b.mT, a.shape), unbroadcast(a.mT @ g, b.shape)


def _einsum_shape(graph: Any, *shapes: Shape, subscripts: str) -> Shape:
    inputs, output = subscripts.split("->")
    sizes: dict[str, int] = {}
    for term, shape in zip(inputs.split(","), shapes, strict=True):
        for letter, size in zip(term, shape, strict=True):
            if sizes.get(letter, 1) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                raise ShapeError(
                    f"np.einsum('{subscripts}'): the axis {letter} is both {graph.size_text(sizes[letter])} and "
                    f"{graph.size_text(size)}"
                )
    return tuple(sizes[letter] for letter in output)


def _einsum(g: Any, y: Any, *args: Any, subscripts: str) -> Any:
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    return tuple(_einsum_part(g, index, x, terms, output, args) for index, x in enumerate(args))


def _einsum_part(g: Any, index: int, x: Any, terms: list[str], output: str, args: tuple[Any, ...]) -> Any:
    """Return the gradient of one argument: the product of ``g`` with the other arguments."""
    others = [(term, arg) for n, (term, arg) in enumerate(zip(terms, args, strict=True)) if n != index]
    known = set(output).union(*(term for term, _ in others))
    mine = terms[index]
    have = "".join(letter for letter in mine if letter in known)
    gradient = np.einsum(f"{','.join([output, *(term for term, _ in others)])}->{have}", g, *(arg for _, arg in others))
    if have != mine:  # letters that only this argument has were summed over
        gradient = np.reshape(gradient, tuple(n if c in known else 1 for c, n in zip(mine, x.shape, strict=True)))
    axes = tuple(n for n, (p, q) in enumerate(zip(gradient.shape, x.shape, strict=True)) if q == 1 and p != 1)
    gradient = np.sum(gradient, axis=axes, keepdims=True) if axes else gradient
    return np.broadcast_to(gradient, x.shape)


PRODUCTS: dict[str, Operation] = {
    "matmul": Operation(_matmul_shape, (), _matmul, text="{0} @ {1}", latex=r"{0} \, {1}", binding=2),
    "einsum": Operation(
        _einsum_shape,
        (),
        _einsum,
        "np.einsum({subscripts!r}, {arguments}{out})",
        "einsum('{subscripts}', {arguments})",
        r"\operatorname{{einsum}}_{{{subscripts}}}\left({arguments}\right)",
    ),
}


# operations that arrange elements: views, parts, joins, windows, and look-ups by index


def index_shape(_graph: Any, shape: Shape, *, index: tuple[Any, ...]) -> Shape:
    """Return the shape of a part; an index has an entry for each axis: None, "reversed", an int or a slice's triple."""
    return tuple(
        size if entry in (None, "reversed") else len(range(*entry))
        for size, entry in zip(shape, index, strict=True)
        if not isinstance(entry, int)
    )


def apart(first: tuple[Any, ...], second: tuple[Any, ...]) -> bool:
    """Return whether two indices have no element in common along some axis."""
    for a, b in zip(first, second, strict=True):
        p, q = ((n, n + 1, 1) if isinstance(n, int) else n for n in (a, b))
        if isinstance(p, tuple) and isinstance(q, tuple) and p[2] == q[2] == 1 and (p[1] <= q[0] or q[1] <= p[0]):
            return True
    return False


def _set_index(g: Any, y: Any, x: Any, value: Any, *, index: tuple[Any, ...]) -> Any:
    values = g.record("index", index=index)
    return g.record("set_index", np.zeros_like(values), index=index), values


def _gather_shape(graph: Any, shape: Shape, *indices: Shape, axes: Shape) -> Shape:
    try:
        many = np.broadcast_shapes(*indices)
    except ValueError:
        refuse(
            f"indices of the shapes {' and '.join(map(graph.shape_text, indices))}, which do not broadcast",
            f"use one index for each row; {ONE_HOT}",
        )
    rest = [size for axis, size in enumerate(shape) if axis not in axes]
    position = axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0
    return (*rest[:position], *many, *rest[position:])


def _concatenate_shape(graph: Any, *shapes: Shape, axis: int) -> Shape:
    first = shapes[0]
    for shape in shapes[1:]:
        if len(shape) != len(first) or any(
            a != b for n, (a, b) in enumerate(zip(shape, first, strict=True)) if n != axis
        ):
            raise ShapeError(
                f"np.concatenate along axis {axis}: the shapes {graph.shape_text(first)} and "
                f"{graph.shape_text(shape)} must differ in that axis alone"
            )
    return tuple(sum(shape[n] for shape in shapes) if n == axis else size for n, size in enumerate(first))


def _concatenate(g: Any, y: Any, *args: Any, axis: int) -> Any:
    parts, start = [], 0
    for x in args:
        stop = start + x.shape[axis]
        parts.append(g[(*(slice(None),) * axis, slice(start, stop))])
        start = stop
    return tuple(parts)


def _pad(g: Any, y: Any, x: Any, *, width: tuple[Shape, ...], value: float) -> Any:
    inner = (slice(b, b + n) if b or a else slice(None) for (b, a), n in zip(width, x.shape, strict=True))
    return (g[tuple(inner)],)


def _windows_shape(graph: Any, shape: Shape, *, axes: Shape, window: Shape, steps: Shape) -> Shape:
    sizes = list(shape)
    for axis, width, step in zip(axes, window, steps, strict=True):
        if width > sizes[axis]:
            raise ShapeError(f"a window of {width} is longer than axis {axis} of {graph.shape_text(shape)}")
        sizes[axis] = (sizes[axis] - width) // step + 1
    return (*sizes, *window)


SHAPING: dict[str, Operation] = {
    # where values come from
    "input": Operation(shape_from_attribute, text="{name}", latex="{name}"),
    "constant": Operation(shape_from_attribute, text="{value}", latex="{value}"),
    "rows": Operation(
        lambda _graph, **_: (), numpy="{real}({times})", text="{times}", latex="{times}", binding=2, kind="f"
    ),
    "row_numbers": Operation(
        shape_from_attribute, numpy="np.arange({times})", text="arange({times})", latex="i", kind="i"
    ),
    "astype": Operation(
        same_shape, (), lambda g, y, x, *, to: (g if x.kind == "f" else None,), "{0}.astype({to})", "{0}", "{0}"
    ),
    # views
    "transpose": Operation(
        lambda _graph, shape, *, axes: tuple(shape[axis] for axis in axes),
        reverse=lambda g, y, x, *, axes: (np.transpose(g, np.argsort(axes).tolist()),),
        numpy="{0}.transpose{axes}",
        text="{0}.T",
        latex=r"{0}^\top",
        binding=4,
        view=True,
    ),
    "reshape": Operation(
        shape_from_attribute,
        reverse=lambda g, y, x, *, shape: (np.reshape(g, x.shape),),
        numpy="{0}.reshape({shape})",
        text="{0}",
        latex="{0}",
        view=True,
    ),
    "broadcast_to": Operation(
        shape_from_attribute,
        reverse=lambda g, y, x, *, shape: (None if isinstance(x, int | float) else unbroadcast(g, x.shape),),
        numpy="np.broadcast_to({0}, {shape})",
        text="{0}",
        latex="{0}",
        view=True,
    ),
    "index": Operation(
        index_shape,
        reverse=lambda g, y, x, *, index: (g.record("place", shape=x.shape, indices=(index,), add=False),),
        numpy="{0}[{index}]",
        text="{0}[{index}]",
        latex="{0}_{{{index}}}",
        view=True,
    ),
    "windows": Operation(
        _windows_shape,
        reverse=lambda g, y, x, **attributes: (g.record("fold", shape=x.shape, **attributes),),
        numpy="windows({0}, {axes}, {window}, {steps})",
        text="windows({0}, {window}, axis={axes})",
        view=True,
    ),
    # parts written into a whole, joins, look-ups
    "place": Operation(
        shape_from_attribute,
        reverse=lambda g, y, *parts, indices, **_: tuple(g.record("index", index=index) for index in indices),
    ),
    "set_index": Operation(
        same_shape, reverse=_set_index, text="{0} with [{index}] = {1}", latex="{0}_{{[{index}] = {1}}}", binding=0
    ),
    "gather": Operation(
        _gather_shape,
        reverse=lambda g, y, x, *indices, axes: (
            g.record("scatter_add", *indices, axes=axes, shape=x.shape),
            *(None for _ in indices),
        ),
        text="{0}[{index}]",
        latex="{0}_{{{index}}}",
    ),
    "scatter_add": Operation(
        shape_from_attribute,
        reverse=lambda g, y, x, *indices, axes, shape: (
            g.record("gather", *indices, axes=axes),
            *(None for _ in indices),
        ),
        numpy="scatter_add({shape}, {axes}, {arguments})",
    ),
    "concatenate": Operation(
        _concatenate_shape,
        reverse=_concatenate,
        numpy="np.concatenate(({arguments},), axis={axis}{out})",
        latex=r"\left[{arguments}\right]",
    ),
    "pad": Operation(
        lambda _graph, shape, *, width, value: tuple(n + sum(around) for n, around in zip(shape, width, strict=True)),
        reverse=_pad,
        numpy="np.pad({0}, {width}, constant_values={value})",
        text="pad({0}, {width})",
    ),
    "fold": Operation(
        shape_from_attribute,
        reverse=lambda g, y, x, *, shape, **attributes: (g.record("windows", **attributes),),
        numpy="fold({shape}, {0}, {axes}, {window}, {steps})",
    ),
    # a Python function that has no graph and is called on arrays; its derivative is written by hand
    "python": Operation(
        lambda _graph, first, *_others, **attributes: attributes.get("shape", first),
        reverse=lambda g, y, x, *, function, pullback, name: (
            g.record("python", x, y, function=pullback, pullback=None, name=name),
        ),
        text="{name}({0})",
        latex=r"{name}\left({0}\right)",
    ),
    # a model whose passes Python runs, and its way back; see ``graph.walk``
    "call": Operation(lambda *_shapes, **_attributes: ()),
    "call_back": Operation(lambda *_shapes, **_attributes: ()),
    # a recurrence, as one operation with a body, and the parts of its result; see ``graph.loop``
    "loop": Operation(shape_from_attribute),
    "part": Operation(shape_from_attribute, text="{0}[{index}]", latex="{0}_{{{index}}}"),
}


# stable forms, which rules put in the place of what a formula says; see ``stable``


def _stable(rule: Rule, lowered: Rule) -> Operation:
    """Return the row of an elementwise one."""
    return Operation(_broadcast, (rule,), kind="f", elementwise=True, lowered=lowered)


def _logistic(x: Any, *, held: bool = False, tails: bool = False) -> Any:
    """Return 1 / (1 + exp(-x)).

    Args:
        x: The argument.
        held: Whether it stays above 0, by the largest exponent whose exponential is finite.
        tails: Whether its derivative is accurate in both tails, as y(x) y(-x) and not y (1 - y).
    """
    if not held:
        return 1.0 / (1.0 + np.exp(-x))
    return 1.0 / (1.0 + np.exp(np.minimum(-x, LARGEST_EXPONENT[str(x.dtype)])))


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def _log_softplus(x: Any) -> Any:
    """Return log(log(1 + exp(x))), which is x where exp(x) vanishes beside 1."""
    return np.where(x < _TAIL, x, np.log(_softplus(np.maximum(x, _TAIL))))


def _log_softplus_slope(x: Any) -> Any:
    held = np.maximum(x, _TAIL)
    return np.where(x < _TAIL, 1.0, held.record("logistic") / held.record("softplus"))


def _log_cosh(x: Any) -> Any:
    size = np.abs(x)
    far = size + (np.log1p(np.exp(-2.0 * size)) - math.log(2.0))
    return np.where(size < 1.0, 0.5 * np.log1p(np.square(np.sinh(np.minimum(size, 1.0)))), far)


def _log1mexp(x: Any) -> Any:
    """Return log(1 - exp(x)) for x < 0.

    Source:
        Mächler, Accurately computing log(1 - exp(-|a|)) (2012).
    """
    return np.where(x > -math.log(2.0), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))


def _series(x: Any, coefficients: tuple[float, ...]) -> Any:
    """Return the sum of c_k x^(2 k)."""
    square, total = x * x, coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = total * square + coefficient
    return total


def _expm1_ratio_slope(x: Any) -> Any:
    """Return the derivative of log(expm1(x) / x)."""
    near = np.abs(x) < 0.5
    small, safe = np.where(near, x, 0.0), np.where(near, 1.0, x)
    return np.where(near, 0.5 + small * _series(small, _OF_EXPM1), -1.0 / np.expm1(-safe) - 1.0 / safe)


def _sine_ratio_slope(x: Any) -> Any:
    near = np.abs(x) < 0.5
    small, safe = np.where(near, x, 0.0), np.where(near, 1.0, x)
    return np.where(near, small * _series(small, _OF_SINE), (np.cos(safe) - np.sin(safe) / safe) / safe)


def _at_zero(x: Any, ratio: Rule) -> Any:
    """Return a ratio, and its limit of 1 where x is 0."""
    return np.where(x == 0.0, 1.0, ratio(np.where(x == 0.0, 1.0, x)))


_TAIL = -35.0
_OF_EXPM1 = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000)
_OF_SINE = (-1 / 3, 1 / 30, -1 / 840, 1 / 45360, -1 / 3991680, 1 / 518918400)
"""Coefficients of Taylor series."""


def _shape_of_row_reduction(_graph: Any, shape: Shape, *_others: Shape, axes: Shape) -> Shape:
    return shape_with_ones(shape, axes)


def _softmax(x: Any, *, axes: Shape) -> Any:
    e = np.exp(x - np.max(x, axis=axes, keepdims=True))
    return e / np.sum(e, axis=axes, keepdims=True)


def _log_softmax(x: Any, *, axes: Shape) -> Any:
    shifted = x - np.max(x, axis=axes, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axes, keepdims=True))


def _expected_log_softmax(x: Any, t: Any, *, axes: Shape, whole: bool) -> Any:
    shifted = x - np.max(x, axis=axes, keepdims=True)
    log_sum = np.log(np.sum(np.exp(shifted), axis=axes, keepdims=True))
    return np.sum(t * shifted, axis=axes, keepdims=True) - _by_sum(log_sum, t, axes, whole)


def _by_sum(x: Any, t: Any, axes: Shape, whole: bool) -> Any:
    return x if whole else x * np.sum(t, axis=axes, keepdims=True)


def _logsumexp(x: Any, *weights: Any, axes: Shape) -> Any:
    """Return log(sum(w exp(x)))."""
    if not weights:
        largest = np.max(x, axis=axes, keepdims=True)
        return largest + np.log(np.sum(np.exp(x - largest), axis=axes, keepdims=True))
    unused = weights[0] == 0.0
    largest = np.max(np.where(unused, -np.inf, x), axis=axes, keepdims=True)
    e = weights[0] * np.exp(np.where(unused, 0.0, x - largest))
    return largest + np.log(np.sum(e, axis=axes, keepdims=True))


def _logsumexp_reverse(g: Any, y: Any, x: Any, *weights: Any, axes: Shape) -> tuple[Any, ...]:
    if not weights:
        return (g * x.record("softmax", axes=axes),)
    e = np.exp(np.where(weights[0] == 0.0, 0.0, x - y))
    return g * weights[0] * e, g * np.exp(x - y)


STABLE: dict[str, Operation] = {
    "logistic": _stable(
        lambda t, y, x: t * (y * ((-x).record("logistic") if y.node.attributes.get("tails") else 1.0 - y)),
        lowered=_logistic,
    ),
    "softplus": _stable(lambda t, y, x: t * x.record("logistic"), lowered=_softplus),
    "log_softplus": _stable(lambda t, y, x: t * _log_softplus_slope(x), lowered=_log_softplus),
    "log_cosh": _stable(lambda t, y, x: t * np.tanh(x), lowered=_log_cosh),
    "log1mexp": _stable(lambda t, y, x: -t / np.expm1(-x), lowered=_log1mexp),
    "expm1_ratio": _stable(
        lambda t, y, x: t * y * _expm1_ratio_slope(x), lowered=lambda x: _at_zero(x, lambda x: np.expm1(x) / x)
    ),
    "bernoulli": _stable(
        lambda t, y, x: -(t * y) * _expm1_ratio_slope(x), lowered=lambda x: _at_zero(x, lambda x: x / np.expm1(x))
    ),
    "sine_ratio": _stable(
        lambda t, y, x: t * _sine_ratio_slope(x), lowered=lambda x: _at_zero(x, lambda x: np.sin(x) / x)
    ),
    # no gradient goes through the maximum: its parts would add up to 0
    "softmax": Operation(
        same_shape,
        (),
        lambda g, y, x, *, axes: (y * (g - np.sum(g * y, axis=axes, keepdims=True)),),
        text="softmax({0}{along})",
        kind="f",
        lowered=_softmax,
    ),
    "log_softmax": Operation(
        same_shape,
        (),
        lambda g, y, x, *, axes: (g - x.record("softmax", axes=axes) * np.sum(g, axis=axes, keepdims=True),),
        kind="f",
        lowered=_log_softmax,
    ),
    # the sum of t log(softmax(x)); ``whole`` says that the sum of t is 1
    "expected_log_softmax": Operation(
        lambda _graph, shape, _target, *, axes, whole: shape_with_ones(shape, axes),
        (),
        lambda g, y, x, t, *, axes, whole: (
            -g * (_by_sum(x.record("softmax", axes=axes), t, axes, whole) - t),
            g * x.record("log_softmax", axes=axes),
        ),
        kind="f",
        lowered=_expected_log_softmax,
    ),
    "logsumexp": Operation(_shape_of_row_reduction, (), _logsumexp_reverse, kind="f", lowered=_logsumexp),
}


_LATEX = frozenset({"sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "max", "min"})
"""Functions that LaTeX has a command for."""

OPERATIONS = {
    name: replace(
        row,
        numpy=row.numpy or f"np.{name}({{arguments}}{{out}})",
        text=row.text or f"{name}({{arguments}})",
        latex=row.latex
        or (f"\\{name}" if name in _LATEX else rf"\operatorname{{{{{name}}}}}") + r"{along}\left({arguments}\right)",
    )
    for name, row in {**ELEMENTWISE, **REDUCTIONS, **PRODUCTS, **SHAPING, **STABLE}.items()
}
"""The rows by name; one without templates is written as a call."""
