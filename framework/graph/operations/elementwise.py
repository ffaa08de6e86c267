"""Elementwise operations: how each is written, and its derivative with respect to each argument.

A rule gives the tangent of the result that an argument's tangent t causes: rule(t, y, *arguments), with y the result.

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


def _row(text: str, latex: str, rules: tuple[Rule | None, ...], binding: int = 5) -> Operation:
    return Operation(_broadcast, rules, None, "", text, latex, binding, elementwise=True)


def _function(name: str, rule: Rule | None, latex: str | None = None) -> Operation:
    return _row(f"{name}({{0}})", latex or rf"\{name}\left({{0}}\right)", (rule,))


def _power_base(t: Any, y: Any, x: Any, n: Any) -> Any:
    if isinstance(n, int | float) and n == 2:
        return 2.0 * x * t
    return n * x ** (n - 1) * t


def _power_exponent(t: Any, y: Any, x: Any, n: Any) -> Any:
    return y * np.log(np.where(x == 0, 1.0, x)) * t


def _chosen(wins: Any, t: Any, mine: Any, other: Any) -> Any:
    """Return t where an argument is chosen; at a tie of two expressions half of it, of a number and one nothing."""
    numbers = isinstance(mine, int | float) or isinstance(other, int | float)
    return np.where(wins, t, 0.0 if numbers else np.where(mine == other, 0.5 * t, 0.0))


_ROWS: dict[str, Operation] = {
    # arithmetic
    "add": _row("{0} + {1}", "{0} + {1}", (lambda t, y, a, b: t, lambda t, y, a, b: t), 1),
    "subtract": _row("{0} - {1}", "{0} - {1}", (lambda t, y, a, b: t, lambda t, y, a, b: -t), 1),
    "multiply": _row("{0} * {1}", r"{0} \, {1}", (lambda t, y, a, b: t * b, lambda t, y, a, b: a * t), 2),
    "divide": _row("{0} / {1}", r"\frac{{{0}}}{{{1}}}", (lambda t, y, a, b: t / b, lambda t, y, a, b: -(y * t) / b), 2),
    "power": _row("{0} ** {1}", "{0}^{{{1}}}", (_power_base, _power_exponent), 4),
    "negative": _row("-{0}", "-{0}", (lambda t, y, x: -t,), 3),
    "positive": _row("{0}", "{0}", (lambda t, y, x: t,)),
    "square": _row("{0} ** 2", "{0}^2", (lambda t, y, x: 2.0 * x * t,), 4),
    "reciprocal": _row("1 / {0}", r"\frac{{1}}{{{0}}}", (lambda t, y, x: -(y * t) / x,), 2),
    "mod": _row("{0} % {1}", r"{0} \bmod {1}", (lambda t, y, a, b: t, lambda t, y, a, b: -np.floor(a / b) * t), 2),
    "fmod": _row("fmod({0}, {1})", r"{0} \bmod {1}", (lambda t, y, a, b: t, lambda t, y, a, b: -np.trunc(a / b) * t)),
    "floor_divide": _row("{0} // {1}", r"\left\lfloor \frac{{{0}}}{{{1}}} \right\rfloor", (None, None), 2),
    # exponentials and logarithms
    "exp": _row("exp({0})", "e^{{{0}}}", (lambda t, y, x: y * t,)),
    "exp2": _row("exp2({0})", "2^{{{0}}}", (lambda t, y, x: y * t * math.log(2.0),)),
    "expm1": _row("expm1({0})", r"\left(e^{{{0}}} - 1\right)", (lambda t, y, x: np.exp(x) * t,)),
    "log": _function("log", lambda t, y, x: t / x, r"\ln\left({0}\right)"),
    "log2": _function("log2", lambda t, y, x: t / (x * math.log(2.0)), r"\log_2\left({0}\right)"),
    "log10": _function("log10", lambda t, y, x: t / (x * math.log(10.0)), r"\log_{{10}}\left({0}\right)"),
    "log1p": _function("log1p", lambda t, y, x: t / (1.0 + x), r"\ln\left(1 + {0}\right)"),
    "logaddexp": _row(
        "logaddexp({0}, {1})",
        r"\ln\left(e^{{{0}}} + e^{{{1}}}\right)",
        (lambda t, y, a, b: np.exp(a - y) * t, lambda t, y, a, b: np.exp(b - y) * t),
    ),
    # roots and lengths
    "sqrt": _function("sqrt", lambda t, y, x: t / (2.0 * y), r"\sqrt{{{0}}}"),
    "cbrt": _function("cbrt", lambda t, y, x: t / (3.0 * y * y), r"\sqrt[3]{{{0}}}"),
    "hypot": _row(
        "hypot({0}, {1})",
        r"\sqrt{{{0}^2 + {1}^2}}",
        (
            lambda t, y, a, b: a / np.where(y == 0, 1.0, y) * t,
            lambda t, y, a, b: b / np.where(y == 0, 1.0, y) * t,
        ),
    ),
    # circular and hyperbolic functions
    "sin": _function("sin", lambda t, y, x: np.cos(x) * t),
    "cos": _function("cos", lambda t, y, x: -np.sin(x) * t),
    "tan": _function("tan", lambda t, y, x: (1.0 + y * y) * t),
    "arcsin": _function("arcsin", lambda t, y, x: t / np.sqrt((1.0 - x) * (1.0 + x))),
    "arccos": _function("arccos", lambda t, y, x: -t / np.sqrt((1.0 - x) * (1.0 + x))),
    "arctan": _function("arctan", lambda t, y, x: t / (1.0 + x * x)),
    "arctan2": _row(
        "arctan2({0}, {1})",
        r"\operatorname{{atan2}}\left({0}, {1}\right)",
        (lambda t, y, a, b: b * t / (a * a + b * b), lambda t, y, a, b: -a * t / (a * a + b * b)),
    ),
    "sinh": _function("sinh", lambda t, y, x: np.cosh(x) * t),
    "cosh": _function("cosh", lambda t, y, x: np.sinh(x) * t),
    "tanh": _function("tanh", lambda t, y, x: (1.0 - y * y) * t),
    "arcsinh": _function("arcsinh", lambda t, y, x: t / np.hypot(1.0, x), r"\operatorname{{arsinh}}\left({0}\right)"),
    "arccosh": _function(
        "arccosh", lambda t, y, x: t / np.sqrt((x - 1.0) * (x + 1.0)), r"\operatorname{{arcosh}}\left({0}\right)"
    ),
    "arctanh": _function(
        "arctanh", lambda t, y, x: t / ((1.0 - x) * (1.0 + x)), r"\operatorname{{artanh}}\left({0}\right)"
    ),
    "erf": _function("erf", lambda t, y, x: _ERF_SLOPE * np.exp(-x * x) * t, r"\operatorname{{erf}}\left({0}\right)"),
    "erfc": _function(
        "erfc", lambda t, y, x: -_ERF_SLOPE * np.exp(-x * x) * t, r"\operatorname{{erfc}}\left({0}\right)"
    ),
    # kinks; ``tangent`` refines how their ties are broken
    "abs": _function("abs", lambda t, y, x: np.sign(x) * t, r"\left|{0}\right|"),
    "maximum": _row(
        "max({0}, {1})",
        r"\max\left({0}, {1}\right)",
        (lambda t, y, a, b: _chosen(a > b, t, a, b), lambda t, y, a, b: _chosen(b > a, t, b, a)),
    ),
    "minimum": _row(
        "min({0}, {1})",
        r"\min\left({0}, {1}\right)",
        (lambda t, y, a, b: _chosen(a < b, t, a, b), lambda t, y, a, b: _chosen(b < a, t, b, a)),
    ),
    "fmax": _row(
        "fmax({0}, {1})",
        r"\max\left({0}, {1}\right)",
        (
            lambda t, y, a, b: _chosen((a > b) | np.isnan(b), t, a, b),
            lambda t, y, a, b: _chosen((b > a) | np.isnan(a), t, b, a),
        ),
    ),
    "fmin": _row(
        "fmin({0}, {1})",
        r"\min\left({0}, {1}\right)",
        (
            lambda t, y, a, b: _chosen((a < b) | np.isnan(b), t, a, b),
            lambda t, y, a, b: _chosen((b < a) | np.isnan(a), t, b, a),
        ),
    ),
    "where": _row(
        "where({0}, {1}, {2})",
        r"\left({1} \text{{ if }} {0} \text{{ else }} {2}\right)",
        (None, lambda t, y, c, a, b: np.where(c, t, 0.0), lambda t, y, c, a, b: np.where(c, 0.0, t)),
    ),
    "copysign": _row(
        "copysign({0}, {1})",
        r"\operatorname{{copysign}}\left({0}, {1}\right)",
        (lambda t, y, a, b: np.sign(a) * t * np.copysign(1.0, b), None),
    ),
    # steps: the derivative is 0 where it exists
    "sign": _function("sign", None, r"\operatorname{{sign}}\left({0}\right)"),
    "floor": _function("floor", None, r"\left\lfloor {0} \right\rfloor"),
    "ceil": _function("ceil", None, r"\left\lceil {0} \right\rceil"),
    "rint": _function("rint", None, r"\operatorname{{round}}\left({0}\right)"),
    "trunc": _function("trunc", None, r"\operatorname{{trunc}}\left({0}\right)"),
    "heaviside": _row("heaviside({0}, {1})", r"\operatorname{{H}}\left({0}\right)", (None, None)),
    "signbit": _function("signbit", None, r"\left[{0} < 0\right]"),
    "isfinite": _function("isfinite", None, r"\left[\left|{0}\right| < \infty\right]"),
    "isnan": _function("isnan", None, r"\operatorname{{isnan}}\left({0}\right)"),
    "isinf": _function("isinf", None, r"\left[\left|{0}\right| = \infty\right]"),
    "logical_not": _row("logical_not({0})", r"\lnot {0}", (None,)),
    "invert": _row("~{0}", r"\lnot {0}", (None,), 3),
    **{
        name: _row(f"{{0}} {sign} {{1}}", f"{{0}} {latex} {{1}}", (None, None), 0)
        for name, sign, latex in [
            ("greater", ">", ">"),
            ("greater_equal", ">=", r"\ge"),
            ("less", "<", "<"),
            ("less_equal", "<=", r"\le"),
            ("equal", "==", "="),
            ("not_equal", "!=", r"\ne"),
        ]
    },
    **{
        name: _row(f"{{0}} {sign} {{1}}", f"{{0}} {latex} {{1}}", (None, None), 0)
        for name, sign, latex in [
            ("bitwise_and", "&", r"\land"),
            ("bitwise_or", "|", r"\lor"),
        ]
    },
    "logical_and": _row("logical_and({0}, {1})", r"{0} \land {1}", (None, None)),
    "logical_or": _row("logical_or({0}, {1})", r"{0} \lor {1}", (None, None)),
    "logical_xor": _row("logical_xor({0}, {1})", r"{0} \oplus {1}", (None, None)),
}

COMPARISONS = frozenset({"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"})
KINKS = frozenset({"abs", "maximum", "minimum", "fmax", "fmin", "where", "copysign", "sign", "heaviside"})
GROWING = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "power", "square", "multiply"})
"""Operations that can overflow below a division."""

_BOOLEAN = COMPARISONS | {"isfinite", "isnan", "isinf", "signbit", "logical_and", "logical_or", "logical_not"}
_BOOLEAN |= {"logical_xor"}
_PROMOTED = {"add", "subtract", "multiply", "power", "negative", "positive", "square", "abs", "sign", "mod", "fmod"}
_PROMOTED |= {"floor_divide", "maximum", "minimum", "fmax", "fmin", "where", "invert", "bitwise_and", "bitwise_or"}
"""Operations whose result has the kind of the arguments; any other that is not boolean gives floats."""


def _completed(name: str, row: Operation) -> Operation:
    """Add the NumPy text and the kind of the result."""
    called = name if name in ("erf", "erfc") else f"np.{name}"
    arguments = ", ".join(f"{{{place}}}" for place in range(len(row.rules)))
    kind = "b" if name in _BOOLEAN else None if name in _PROMOTED else "f"
    return replace(row, numpy=f"{called}({arguments}{{out}})", kind=kind)


ELEMENTWISE = {name: _completed(name, row) for name, row in _ROWS.items()}
