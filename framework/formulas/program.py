"""Program: a record as a plain Python function of NumPy, with readable source."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np

from framework.component import Component
from framework.errors import DerivativeError
from framework.formulas.derive import LEFT, RIGHT, Simplifier, adjoint, tangent
from framework.formulas.kinks import tie_of, zeros
from framework.formulas.rules import COMPARISONS, INFIX, KINKS
from framework.formulas.symbols import FLAT, Symbol
from framework.special import erf, erfc


def _spread(column: Any, like: Any) -> Any:
    """Spread one number a row over the row of ``like``."""
    column = np.asarray(column)
    column = np.expand_dims(column, -1) if column.ndim == np.ndim(like) - 1 else column
    shape: tuple[int, ...] = np.shape(like)
    return np.broadcast_to(column, shape)


def _where(condition: Any, a: Any, b: Any) -> Any:
    """Choose, and give a number for numbers, where NumPy gives an array without axes."""
    chosen: Any = np.where(condition, a, b)
    return chosen[()]


_NAMESPACE: dict[str, Any] = {
    "where": _where,
    "sum": lambda x: np.sum(x, axis=-1),
    "mean": lambda x: np.mean(x, axis=-1),
    "max": lambda x: np.max(x, axis=-1),
    "min": lambda x: np.min(x, axis=-1),
    "sum_column": lambda x: np.sum(x, axis=-1, keepdims=True),
    "mean_column": lambda x: np.mean(x, axis=-1, keepdims=True),
    "max_column": lambda x: np.max(x, axis=-1, keepdims=True),
    "min_column": lambda x: np.min(x, axis=-1, keepdims=True),
    "column": lambda x: x[..., None],
    "flat": lambda x: np.asarray(x)[..., 0],
    "spread": _spread,
    "row_length": lambda x: x.shape[-1],
    "erf": erf,
    "erfc": erfc,
    "full_like": lambda like, value: np.full_like(like, value)[()],
    "inf": np.inf,
    "nan": np.nan,
}


_GROWING = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "power", "square", "multiply"})


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compute without NumPy's warnings: a choice that is not taken may overflow, and training looks at the result."""

    def quiet(*arguments: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return function(*arguments)

    return quiet


def compile_source(result: Any, inputs: Iterable[Symbol]) -> tuple[str, dict[str, Any]]:
    """Return the source of ``def formula(inputs): ...`` that computes ``result``, and the names that it needs."""
    inputs = list(inputs)
    names = {symbol: symbol.name for symbol in inputs}
    wanted = needed(result)
    namespace: dict[str, Any] = {}
    lines: list[str] = []
    for node in inputs[0].tape.nodes:
        if node not in wanted or node in names:
            continue
        arguments = [_text(_choice(node, arg), names, namespace) for arg in node.args]
        names[node] = f"v{len(lines)}"
        lines.append(f"    {names[node]} = {_call(node, arguments, namespace)}")
    value = names[result] if isinstance(result, Symbol) else f"full_like({inputs[0].name}, {float(result)!r})"
    source = "\n".join([f"def formula({', '.join(s.name for s in inputs)}):", *lines, f"    return {value}", ""])
    return source, {**_NAMESPACE, **namespace}


def _choice(node: Symbol, arg: Any) -> Any:
    """Give a number that np.where chooses the formula's dtype: two plain numbers would make it float64."""
    return node.dtype.type(arg) if node.op == "where" and type(arg) is float else arg


def needed(*results: Any) -> set[Symbol]:
    """Return the nodes that these are computed from, themselves included."""
    found: set[Symbol] = set()
    waiting = list(results)
    while waiting:
        node = waiting.pop()
        if isinstance(node, Symbol) and node not in found:
            found.add(node)
            waiting.extend(node.args)
    return found


def _text(arg: Any, names: dict[Symbol, str], namespace: dict[str, Any]) -> str:
    if isinstance(arg, Symbol):
        return names[arg]
    if isinstance(arg, np.generic) and not isinstance(arg, np.bool_):  # keeps its dtype, as in the formula
        name = f"c{len(namespace)}"
        namespace[name] = arg
        return name
    return repr(arg) if not isinstance(arg, np.bool_) else repr(bool(arg))


def _call(node: Symbol, arguments: list[str], namespace: dict[str, Any]) -> str:
    if node.op == "power" and arguments[0].startswith("-"):  # a sign binds less than a power
        arguments = [f"({arguments[0]})", *arguments[1:]]
    if node.op in INFIX:
        return f" {INFIX[node.op]} ".join(arguments)
    if node.op == "negative":
        return f"-{arguments[0]}"
    name = f"{node.op}_column" if node.op in ("sum", "mean", "max", "min") and node.kind != FLAT else node.op
    if name not in _NAMESPACE:
        namespace[name] = getattr(np, name)
    return f"{name}({', '.join(arguments)})"


class Program:
    """A traced formula: its value and its derivative by the first input, as functions of NumPy arrays.

    Attributes:
        inputs: The inputs' symbols; the first is derived by.
        output: What the formula computes: a symbol, or a number.
        rows: Whether the formula works on rows.
    """

    def __init__(self, formula: Callable[..., Any], names: tuple[str, ...], dtype: Any, *, rows: bool) -> None:
        """Call ``formula`` once on symbols; see ``trace``."""
        self.rows = rows
        self.tape = Simplifier(dtype, rows=rows)
        self.inputs = [self.tape.input(name) for name in names]
        with self.tape.verbatim():
            self.output = formula(*self.inputs)
        if not isinstance(self.output, Symbol) and not isinstance(self.output, int | float | np.number):
            raise DerivativeError(f"the formula must return numbers; got {type(self.output).__name__}")

    @cached_property
    def value_source(self) -> str:
        """The source of ``value``."""
        return compile_source(self.output, self.inputs)[0]

    @cached_property
    def value(self) -> Callable[..., Any]:
        """The formula itself: the same operations in the same order, so the same bits."""
        return _function(self.output, self.inputs)

    @cached_property
    def slope(self) -> Any:
        """d(output)/d(first input), element by element, as a symbol or a number; at kinks, by the convention."""
        slope = tangent(self.output, self.inputs[0])
        if isinstance(slope, Symbol) and slope.op in COMPARISONS:  # the derivative of h * (h > 0)
            return np.where(slope, 1.0, 0.0)
        return slope

    @cached_property
    def conventional(self) -> Callable[..., Any]:
        """``derivative`` without what is seen to at ties and where a denominator overflows."""
        return _function(self.slope, self.inputs)

    @cached_property
    def derivative(self) -> Callable[..., Any]:
        """d(output)/d(first input), element by element; at a tie of kinks it lies between both sides.

        Two kinks that meet can make a smooth function, as in max(h, 0) + log1p(exp(-|h|)), and then the conventions of
        the parts, added up, are the derivative of neither side. There the nearer side counts.
        """
        conventional = self._repaired(self.conventional)
        ties = self._ties
        if ties is None:
            return _quiet(conventional)
        tied, nearer = ties
        between = _function(nearer, self.inputs)
        at_tie = _function(tied, self.inputs)

        def derivative(*arguments: Any) -> Any:
            slope, ties = conventional(*arguments), at_tie(*arguments)
            return _where(ties, between(*arguments), slope) if np.any(ties) else slope

        return _quiet(derivative)

    @cached_property
    def derivative_record(self) -> Any:
        """``derivative`` as one record without branches, a symbol or a number: what a kernel computes."""
        slope = self.slope
        guarded = self._guarded
        if guarded is not None:
            slope = np.where(np.isnan(slope), guarded, slope)
        return slope if self._ties is None else np.where(self._ties[0], self._ties[1], slope)

    @cached_property
    def _ties(self) -> tuple[Any, Any] | None:
        """Where kinks meet, and the derivative there; None where the convention is right everywhere."""
        kinks = [node for node in needed(self.output) if node.op in KINKS]
        if len(kinks) < 2:
            return None
        left, right = (tangent(self.output, self.inputs[0], mode) for mode in (LEFT, RIGHT))
        low, high = np.minimum(left, right), np.maximum(left, right)
        nearer = np.minimum(np.maximum(self.slope, low), high)
        differences = [tie_of(node) for node in kinks]
        differences = [difference for difference in differences if isinstance(difference, Symbol)]
        conventional = self._repaired(self.conventional)
        if not differences or not self._conventions_fail(conventional, _function(nearer, self.inputs), differences):
            return None
        tied: Any = differences[0] == 0
        for difference in differences[1:]:
            tied = tied | (difference == 0)
        return tied, nearer

    @cached_property
    def _guarded(self) -> Any:
        """The slope with overflowed denominators seen to, or None where there can be none."""
        operations = {node.op for node in needed(self.output)}
        if "divide" not in operations or not operations & _GROWING or not isinstance(self.slope, Symbol):
            return None
        return tangent(self.output, self.inputs[0], guarded=True)

    def _repaired(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """Compute anew, with overflowed denominators seen to, where a derivative is no number: infinity times 0."""
        if self._guarded is None:
            return plain
        guarded = _function(self._guarded, self.inputs)

        def repaired(*arguments: Any) -> Any:
            slope = plain(*arguments)
            lost = np.isnan(slope)
            return _where(lost, guarded(*arguments), slope) if np.any(lost) else slope

        return repaired

    @cached_property
    def pullback(self) -> Callable[..., Any]:
        """For rows: (gradient, *inputs) -> the gradient of sum(gradient * output) by the first input."""
        gradient = self.tape.input("gradient")
        if isinstance(self.output, Symbol):
            gradient.kind = self.output.kind
            result = adjoint(self.output, self.inputs[0], gradient)
        else:
            result = 0.0
        if not isinstance(result, Symbol):
            return lambda _gradient, first, *_rest: np.zeros_like(first)
        source, namespace = compile_source(result, [gradient, *self.inputs])
        exec(source, namespace)
        return _quiet(namespace["formula"])

    def _conventions_fail(self, conventional: Any, between: Any, differences: list[Symbol]) -> bool:
        """Whether the conventional derivative lies outside both sides at some tie of this formula."""
        rest = [0.5] * (len(self.inputs) - 1)
        with np.errstate(all="ignore"):
            for difference in differences:
                ties = zeros(_function(difference, self.inputs), rest)
                others = [np.full_like(ties, value) for value in rest]
                slopes, sides = conventional(ties, *others), between(ties, *others)
                if not np.allclose(slopes, sides, rtol=1e-9, atol=0.0, equal_nan=True):
                    return True
        return False


def _function(result: Any, inputs: list[Symbol]) -> Callable[..., Any]:
    source, namespace = compile_source(result, inputs)
    exec(source, namespace)
    return namespace["formula"]  # type: ignore[no-any-return]


def trace(
    formula: Callable[..., Any], names: tuple[str, ...] = ("h",), dtype: Any = "float64", *, rows: bool = False
) -> Program:
    """Call ``formula`` once on symbols, and return its program.

    Args:
        formula: A function of arrays, written with NumPy functions.
        names: The names of its arguments; the program derives by the first.
        dtype: What the arguments' ``dtype`` is.
        rows: Whether it may sum, average or take the maximum along the last axis.

    Raises:
        DerivativeError: Something in the formula cannot be recorded; says what, in which line, and what to write.

    Example:
        >>> program = trace(lambda h: h / (1 + np.exp(-h)))
        >>> float(program.derivative(np.float64(0.0)))
        0.5
        >>> print(program.value_source)
        def formula(h):
            v0 = -h
            v1 = exp(v0)
            v2 = 1 + v1
            v3 = h / v2
            return v3
        <BLANKLINE>

    Source:
        Griewank and Walther, Evaluating derivatives (2008), chapters 2 and 3.
    """
    return Program(formula, names, dtype, rows=rows)


def program_of(component: Any, method: str, names: tuple[str, ...], like: Any = None, *, rows: bool = False) -> Program:
    """Return the traced program of a component's formula: traced once for its settings and the dtype of ``like``.

    Args:
        component: The component, frozen, so that one trace serves until ``forget_programs``.
        method: The name of its formula.
        names: The names of the formula's arguments.
        like: What the formula will be given; float32 or else float64.
        rows: Whether the formula works on rows.

    Raises:
        DerivativeError: The formula cannot be recorded; names the class.
    """
    dtype = "float32" if getattr(like, "dtype", None) == np.float32 else "float64"
    try:
        programs = component._programs
    except AttributeError:
        object.__setattr__(component, "_programs", programs := {})
    program: Program | None = programs.get((method, dtype))
    if program is None:
        try:
            program = trace(getattr(component, method), names, dtype, rows=rows)
        except DerivativeError as error:
            raise DerivativeError(f"{type(component).__name__}.{method}: {error}") from None
        programs[method, dtype] = program
    return program


def forget_programs(component: Component) -> None:
    """Forget what was traced of a component and of its parts: a global that a formula reads may be another by now.

    Value and derivative would then belong to two formulas. So training begins with this.
    """
    if hasattr(component, "_programs"):
        object.__delattr__(component, "_programs")
    for setting in component.settings().values():
        for part in setting if isinstance(setting, tuple) else (setting,):
            if isinstance(part, Component):
                forget_programs(part)
