"""The table of operations: how each is written, and the derivative of each with respect to each argument.

A rule gives the tangent that an argument's tangent t causes: rule(t, y, *arguments) with y the operation's value. Rules
are linear in t and work element by element, so the same rule carries a gradient backwards. None means that the
derivative is 0 wherever it exists.

Source for the derivatives: Abramowitz and Stegun, Handbook of mathematical functions, sections 3.3, 4.1 to 4.6, 7.1.

At a kink the conventions are: |x|' = sign x; a maximum or minimum of x and a constant has the derivative 0 where they
are equal (so ReLU'(0) = 0); of two expressions, the mean of both derivatives; a step has the derivative 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rule = Callable[..., Any]


@dataclass(frozen=True)
class Operation:
    """One row of the table.

    Attributes:
        text: A format of the arguments, as text that is Python where it can be.
        latex: A format of the arguments in LaTeX.
        rules: One derivative rule for each argument.
        binding: How tightly the text binds: sums 1, products 2, signs 3, powers 4, calls 5.
    """

    text: str
    latex: str
    rules: tuple[Rule | None, ...]
    binding: int = 5


def _function(name: str, rule: Rule | None, latex: str | None = None) -> Operation:
    return Operation(f"{name}({{0}})", latex or rf"\{name}\left({{0}}\right)", (rule,))


def _operator(name: str, latex: str | None = None) -> str:
    return latex or name


def _power_base(t: Any, y: Any, x: Any, n: Any) -> Any:
    if isinstance(n, int | float) and n == 2:
        return 2.0 * x * t
    return n * x ** (n - 1) * t


def _power_exponent(t: Any, y: Any, x: Any, n: Any) -> Any:
    return y * np.log(np.where(x == 0, 1.0, x)) * t


_ERF_SLOPE = 2.0 / math.sqrt(math.pi)

OPERATIONS: dict[str, Operation] = {
    # arithmetic
    "add": Operation("{0} + {1}", "{0} + {1}", (lambda t, y, a, b: t, lambda t, y, a, b: t), 1),
    "subtract": Operation("{0} - {1}", "{0} - {1}", (lambda t, y, a, b: t, lambda t, y, a, b: -t), 1),
    "multiply": Operation("{0} * {1}", r"{0} \, {1}", (lambda t, y, a, b: t * b, lambda t, y, a, b: a * t), 2),
    "divide": Operation(
        "{0} / {1}", r"\frac{{{0}}}{{{1}}}", (lambda t, y, a, b: t / b, lambda t, y, a, b: -(y * t) / b), 2
    ),
    "power": Operation("{0} ** {1}", "{0}^{{{1}}}", (_power_base, _power_exponent), 4),
    "negative": Operation("-{0}", "-{0}", (lambda t, y, x: -t,), 3),
    "positive": Operation("{0}", "{0}", (lambda t, y, x: t,)),
    "square": Operation("{0} ** 2", "{0}^2", (lambda t, y, x: 2.0 * x * t,), 4),
    "reciprocal": Operation("1 / {0}", r"\frac{{1}}{{{0}}}", (lambda t, y, x: -(y * t) / x,), 2),
    "mod": Operation("{0} % {1}", r"{0} \bmod {1}", (lambda t, y, a, b: t, lambda t, y, a, b: -np.floor(a / b) * t), 2),
    # exponentials and logarithms
    "exp": Operation("exp({0})", "e^{{{0}}}", (lambda t, y, x: y * t,)),
    "exp2": Operation("exp2({0})", "2^{{{0}}}", (lambda t, y, x: y * t * math.log(2.0),)),
    "expm1": Operation("expm1({0})", r"\left(e^{{{0}}} - 1\right)", (lambda t, y, x: np.exp(x) * t,)),
    "log": _function("log", lambda t, y, x: t / x, r"\ln\left({0}\right)"),
    "log2": _function("log2", lambda t, y, x: t / (x * math.log(2.0)), r"\log_2\left({0}\right)"),
    "log10": _function("log10", lambda t, y, x: t / (x * math.log(10.0)), r"\log_{{10}}\left({0}\right)"),
    "log1p": _function("log1p", lambda t, y, x: t / (1.0 + x), r"\ln\left(1 + {0}\right)"),
    "logaddexp": Operation(
        "logaddexp({0}, {1})",
        r"\ln\left(e^{{{0}}} + e^{{{1}}}\right)",
        (lambda t, y, a, b: np.exp(a - y) * t, lambda t, y, a, b: np.exp(b - y) * t),
    ),
    # roots and lengths
    "sqrt": _function("sqrt", lambda t, y, x: t / (2.0 * y), r"\sqrt{{{0}}}"),
    "cbrt": _function("cbrt", lambda t, y, x: t / (3.0 * y * y), r"\sqrt[3]{{{0}}}"),
    "hypot": Operation(
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
    "arctan2": Operation(
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
    # kinks; how their ties are broken stands in derive.py
    "abs": _function("abs", lambda t, y, x: np.sign(x) * t, r"\left|{0}\right|"),
    "maximum": Operation("max({0}, {1})", r"\max\left({0}, {1}\right)", (None, None)),
    "minimum": Operation("min({0}, {1})", r"\min\left({0}, {1}\right)", (None, None)),
    "where": Operation("where({0}, {1}, {2})", r"\left({1} \text{{ if }} {0} \text{{ else }} {2}\right)", (None,) * 3),
    "copysign": Operation(
        "copysign({0}, {1})",
        r"\operatorname{{copysign}}\left({0}, {1}\right)",
        (None, None),
    ),
    # steps: the derivative is 0 where it exists
    "sign": _function("sign", None, r"\operatorname{{sign}}\left({0}\right)"),
    "floor": _function("floor", None, r"\left\lfloor {0} \right\rfloor"),
    "ceil": _function("ceil", None, r"\left\lceil {0} \right\rceil"),
    "rint": _function("rint", None, r"\operatorname{{round}}\left({0}\right)"),
    "trunc": _function("trunc", None, r"\operatorname{{trunc}}\left({0}\right)"),
    "heaviside": Operation("heaviside({0}, {1})", r"\operatorname{{H}}\left({0}\right)", (None, None)),
    "signbit": _function("signbit", None, r"\left[{0} < 0\right]"),
    "isfinite": _function("isfinite", None, r"\left[\left|{0}\right| < \infty\right]"),
    "isnan": _function("isnan", None, r"\operatorname{{isnan}}\left({0}\right)"),
    "isinf": _function("isinf", None, r"\left[\left|{0}\right| = \infty\right]"),
    "logical_not": Operation("logical_not({0})", r"\lnot {0}", (None,)),
    "invert": Operation("~{0}", r"\lnot {0}", (None,), 3),
    **{
        name: Operation(f"{{0}} {sign} {{1}}", f"{{0}} {latex} {{1}}", (None, None), 0)
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
        name: Operation(f"{{0}} {sign} {{1}}", f"{{0}} {latex} {{1}}", (None, None), 0)
        for name, sign, latex in [
            ("bitwise_and", "&", r"\land"),
            ("bitwise_or", "|", r"\lor"),
        ]
    },
    "logical_and": Operation("logical_and({0}, {1})", r"{0} \land {1}", (None, None)),
    "logical_or": Operation("logical_or({0}, {1})", r"{0} \lor {1}", (None, None)),
    # along the row; their rules stand in derive.py, because they change the shape
    "sum": _function("sum", None, r"\sum {0}"),
    "mean": _function("mean", None, r"\operatorname{{mean}}\left({0}\right)"),
    "max": _function("max", None, r"\max {0}"),
    "min": _function("min", None, r"\min {0}"),
    "column": Operation("{0}", "{0}", (None,)),
    "flat": Operation("{0}", "{0}", (None,)),
    "spread": Operation("{0}", "{0}", (None, None)),
    "row_length": Operation("n", "n", (None,)),
}

COMPARISONS = frozenset({"greater", "greater_equal", "less", "less_equal", "equal", "not_equal"})
TRUTHS = (
    COMPARISONS
    | {"isfinite", "isnan", "isinf", "signbit", "invert", "bitwise_and", "bitwise_or"}
    | {
        "logical_and",
        "logical_or",
        "logical_not",
    }
)
KINKS = frozenset({"abs", "maximum", "minimum", "where", "copysign", "sign", "heaviside"})
REDUCTIONS = frozenset({"sum", "mean", "max", "min"})
INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "power": "**", "greater": ">"} | {
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
}
