"""Elementwise operations: how each is written, and its derivative with respect to each argument.

A rule gives the tangent of the result y from the tangent t of one argument: rule(t, y, *arguments).

At a kink the conventions are: |x|' = sign x; a maximum or minimum of x and a number has the derivative 0 where they are
equal, so ReLU'(0) = 0; of two expressions, the mean of both derivatives; a step has the derivative 0.

Source: Abramowitz and Stegun, Handbook of mathematical functions, sections 3.3, 4.1 to 4.6 and 7.1.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from framework.errors import ShapeError
from framework.graph.operations.base import Operation, Rule, Shape

_ERF_SLOPE = 2.0 / math.sqrt(math.pi)


def _broadcast(graph: Any, *shapes: Shape, **_attributes: Any) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"shapes {' and '.join(map(graph.shape_text, shapes))} do not broadcast") from None


def _row(*rules: Rule | None, numpy: str = "", text: str = "", latex: str = "", binding: int = 5) -> Operation:
    return Operation(_broadcast, rules, None, numpy, text, latex, binding, elementwise=True)


def _sign(text: str, latex: str, *rules: Rule | None, binding: int) -> Operation:
    """Return the row of an operator between two arguments."""
    return _row(*rules, text=f"{{0}} {text} {{1}}", latex=f"{{0}} {latex} {{1}}", binding=binding)


def _extreme(name: str, wins: Rule) -> Operation:
    """Return the row of a maximum or minimum, given where its first argument is chosen."""

    def chosen(t: Any, mine: Any, other: Any) -> Any:
        """Return t where ``mine`` is chosen; at a tie of two expressions half of it, of a number and one nothing."""
        numbers = isinstance(mine, int | float) or isinstance(other, int | float)
        return np.where(wins(mine, other), t, 0.0 if numbers else np.where(mine == other, 0.5 * t, 0.0))

    rules = (lambda t, y, a, b: chosen(t, a, b)), (lambda t, y, a, b: chosen(t, b, a))
    return _row(*rules, text=f"{name}({{arguments}})", latex=rf"\{name.removeprefix('f')}\left({{arguments}}\right)")


_ROWS: dict[str, Operation] = {
    # arithmetic
    "add": _sign("+", "+", lambda t, y, a, b: t, lambda t, y, a, b: t, binding=1),
    "subtract": _sign("-", "-", lambda t, y, a, b: t, lambda t, y, a, b: -t, binding=1),
    "multiply": _sign("*", r"\,", lambda t, y, a, b: t * b, lambda t, y, a, b: a * t, binding=2),
    "divide": _row(
        lambda t, y, a, b: t / b,
        lambda t, y, a, b: -(y * t) / b,
        text="{0} / {1}",
        latex=r"\frac{{{0}}}{{{1}}}",
        binding=2,
    ),
    "power": _row(
        lambda t, y, x, n: n * x ** (n - 1) * t,
        lambda t, y, x, n: y * np.log(np.where(x == 0, 1.0, x)) * t,
        text="{0} ** {1}",
        latex="{0}^{{{1}}}",
        binding=4,
    ),
    "negative": _row(lambda t, y, x: -t, text="-{0}", latex="-{0}", binding=3),
    "positive": _row(lambda t, y, x: t, text="{0}", latex="{0}"),
    "square": _row(lambda t, y, x: 2.0 * x * t, text="{0} ** 2", latex="{0}^2", binding=4),
    "reciprocal": _row(lambda t, y, x: -(y * t) / x, text="1 / {0}", latex=r"\frac{{1}}{{{0}}}", binding=2),
    "mod": _sign("%", r"\bmod", lambda t, y, a, b: t, lambda t, y, a, b: -np.floor(a / b) * t, binding=2),
    "fmod": _row(lambda t, y, a, b: t, lambda t, y, a, b: -np.trunc(a / b) * t, latex=r"{0} \bmod {1}"),
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
        lambda t, y, a, b: np.exp(a - y) * t,
        lambda t, y, a, b: np.exp(b - y) * t,
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
    "arctan2": _row(lambda t, y, a, b: b * t / (a * a + b * b), lambda t, y, a, b: -a * t / (a * a + b * b)),
    "sinh": _row(lambda t, y, x: np.cosh(x) * t),
    "cosh": _row(lambda t, y, x: np.sinh(x) * t),
    "tanh": _row(lambda t, y, x: (1.0 - y * y) * t),
    "arcsinh": _row(lambda t, y, x: t / np.hypot(1.0, x)),
    "arccosh": _row(lambda t, y, x: t / np.sqrt((x - 1.0) * (x + 1.0))),
    "arctanh": _row(lambda t, y, x: t / ((1.0 - x) * (1.0 + x))),
    "erf": _row(lambda t, y, x: _ERF_SLOPE * np.exp(-x * x) * t, numpy="erf({0})"),
    "erfc": _row(lambda t, y, x: -_ERF_SLOPE * np.exp(-x * x) * t, numpy="erfc({0})"),
    # kinks; ``tangent`` refines their derivatives at ties
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
KINKS = frozenset({"abs", "maximum", "minimum", "fmax", "fmin", "where", "copysign", "sign", "heaviside"})
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
