"""Symbol and Tape: an array that records the NumPy operations it meets instead of computing them.

A formula is called once on symbols. Each operation on a symbol adds a node to the tape; what the tape cannot record is
refused, with the operation's name, the line of the formula, and what to write instead.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from framework.errors import DerivativeError
from framework.formulas.rules import OPERATIONS, TRUTHS

FULL, COLUMN, FLAT = "full", "column", "flat"
"""What a symbol ranges over: every element, one number a row kept as a column, or one number a row."""

_RECORDING = ("framework.formulas", "framework.compiled", "numpy")
"""The modules that record; the line at fault is that of who called them."""

_KINDS = {"column": COLUMN, "flat": FLAT, "spread": FULL}
_REDUCTIONS = {"sum": "sum", "max": "max", "amax": "max", "min": "min", "amin": "min", "mean": "mean"}
_NAMES = (
    {"erf (vectorized)": "erf", "erfc (vectorized)": "erfc"}
    | {"true_divide": "divide", "absolute": "abs", "fabs": "abs", "float_power": "power", "fmax": "maximum"}
    | {
        "fmin": "minimum",
        "conjugate": "positive",
        "remainder": "mod",
    }
)


class Symbol(NDArrayOperatorsMixin):
    """A node of a tape: an input, or an operation on other nodes and constants.

    Attributes:
        tape: Where the node is recorded.
        op: The NumPy function's name, or ``"input"``.
        args: Symbols and Python or NumPy numbers.
        kind: FULL, COLUMN or FLAT.
        name: An input's name.
    """

    __slots__ = ("args", "kind", "name", "op", "stale", "tape")
    __array_priority__ = 1e6
    tape: Tape
    op: str
    args: tuple[Any, ...]
    kind: str
    name: str
    stale: bool

    def __init__(self, tape: Tape, op: str, args: tuple[Any, ...], kind: str, name: str = "") -> None:
        """Add a node; only the tape does."""
        self.tape, self.op, self.args, self.kind, self.name = tape, op, args, kind, name
        self.stale = False

    __hash__ = object.__hash__

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that the formula is traced for."""
        dtype: np.dtype[Any] = self.tape.dtype
        return dtype

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Record a NumPy ufunc."""
        name = _NAMES.get(ufunc.__name__, ufunc.__name__)
        out = options.pop("out", None)
        if method == "reduce" and name in ("add", "maximum", "minimum"):
            reduction = {"add": "sum", "maximum": "max", "minimum": "min"}[name]
            return self.tape.reduce(reduction, inputs[0], options.get("axis", 0), options.get("keepdims", False))
        if method != "__call__" or {name for name, value in options.items() if value is not True}:
            refuse(f"np.{ufunc.__name__}.{method} with {', '.join(options) or 'this method'}", "write derivative(h)")
        if out is not None:
            return self._in_place(name, inputs, out)
        return self.tape.record(name, *inputs)

    def _in_place(self, name: str, inputs: tuple[Any, ...], out: tuple[Any, ...]) -> Any:
        target = out[0]
        if not isinstance(target, Symbol) or target.op == "input" or target is not inputs[0]:
            refuse("a change of the argument in place", "make a new array: 'h = h * 2', not 'h *= 2'")
        result = self.tape.record(name, *inputs)
        target.stale = True  # whoever still holds the old value would read another one from an array
        return result

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        """Record a NumPy function that is no ufunc."""
        name = getattr(function, "__name__", str(function))
        handler = _FUNCTIONS.get(name)
        if handler is None:
            refuse(f"np.{name}", "write derivative(h), or use functions that have a rule")
        return handler(self.tape, *args, **options)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Record a sum along the row."""
        return self.tape.reduce("sum", self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Record a maximum along the row."""
        return self.tape.reduce("max", self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Record a minimum along the row."""
        return self.tape.reduce("min", self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Record a mean along the row."""
        return self.tape.reduce("mean", self, axis, keepdims)

    def clip(self, *limits: Any, **options: Any) -> Any:
        """Record a clip."""
        return _clip(self.tape, self, *limits, **options)

    def copy(self) -> Symbol:
        """Return the symbol: nothing changes in place."""
        return self

    @property
    def shape(self) -> Any:
        """The shape, of which a formula over a row may ask the last axis: ``shape[-1]``."""
        if not self.tape.rows:
            refuse("h.shape", "use np.zeros_like(h) or np.ones_like(h)")
        return _RowShape(self)

    def astype(self, dtype: Any, **options: Any) -> Any:
        """Record the cast of a truth to 1 or 0; numbers have the dtype of the framework's choice."""
        chosen = self.op == "where" and not any(isinstance(choice, Symbol) for choice in self.args[1:])
        if not (chosen or self.op in TRUTHS) or np.dtype(dtype).kind != "f":
            refuse("h.astype", "leave the dtype to the framework")
        return self if chosen else np.where(self, 1.0, 0.0)

    def __getitem__(self, index: Any) -> Any:
        """Record a new axis: ``s[:, None]`` and ``s[..., None]`` turn one number a row into a column."""
        if self.kind == FLAT and index in ((slice(None), None), (Ellipsis, None)):
            return self.tape.record("column", self)
        if index == () or index is Ellipsis:
            return self
        refuse("an index into the argument", "use np.where")

    def __setitem__(self, index: Any, value: Any) -> None:
        """Refuse."""
        refuse("an assignment into the array", "use np.where, which chooses between two values")

    def __bool__(self) -> NoReturn:
        """Refuse: an array has many truths."""
        refuse("an 'if', 'and', 'or', 'min' or 'max' on the argument", "use np.where, np.minimum or np.maximum")

    def __float__(self) -> NoReturn:
        """Refuse: math functions and float() take one number."""
        refuse("float(h) or a function of 'math'", "use the NumPy function, e.g. np.exp for math.exp")

    __int__ = __index__ = __complex__ = __float__

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        """Refuse: the symbol holds no numbers."""
        refuse("np.asarray(h), np.array(h) or a function that needs numbers", "leave it out: h is an array already")

    def __iter__(self) -> NoReturn:
        """Refuse."""
        refuse("a loop over the argument", "use NumPy functions, which work on every element")

    def __len__(self) -> NoReturn:
        """Refuse."""
        refuse("len(h)", "use np.sum, np.mean or np.max along axis=-1")

    def __getattr__(self, name: str) -> Any:
        """Refuse attributes of an array that a record does not have."""
        if name.startswith("__"):
            raise AttributeError(name)
        shapes = "use np.zeros_like(h) or np.ones_like(h)"
        refuse(
            f"h.{name}", shapes if name == "shape" else "use the NumPy function of that name, or write derivative(h)"
        )

    def __repr__(self) -> str:
        """Show the node with its arguments."""
        return self.name or f"{self.op}({', '.join(map(repr, self.args))})"


class _RowShape:
    """The shape of a symbol over a row: all that is known of it is that a row has a length."""

    def __init__(self, symbol: Symbol) -> None:
        self._symbol = symbol

    def __getitem__(self, axis: Any) -> Any:
        if axis != -1:
            refuse(f"h.shape[{axis!r}]", "the length of a row is h.shape[-1]")
        return self._symbol.tape.record("row_length", self._symbol)


class Tape:
    """The record of one formula: its nodes, each operation on the same arguments once.

    Attributes:
        dtype: What the formula is traced for.
        nodes: The symbols in the order of their recording.
        rows: Whether reductions along the row may be recorded.
    """

    def __init__(self, dtype: Any, *, rows: bool) -> None:
        """Start empty."""
        self.dtype = np.dtype(dtype)
        self.rows = rows
        self.nodes: list[Symbol] = []
        self._known: dict[tuple[Any, ...], Symbol] = {}

    def input(self, name: str) -> Symbol:
        """Add an input."""
        return self._add("input", (), FULL, name)

    def record(self, op: str, *args: Any) -> Any:
        """Add an operation, or return the node that already holds it."""
        if op not in OPERATIONS:
            refuse(f"np.{op}", "it has no rule; write derivative(h)")
        args = tuple(arg.item() if isinstance(arg, np.ndarray) and arg.ndim == 0 else arg for arg in args)
        for arg in args:
            if isinstance(arg, Symbol):
                if arg.stale:
                    refuse("an array that was changed in place while another name still used it", "write x = x + 1")
            elif np.ndim(arg) > 0 or not isinstance(arg, int | float | np.number | np.bool_):
                refuse(f"a setting or constant of type {type(arg).__name__}", "use plain numbers as settings")
        kinds = {arg.kind for arg in args if isinstance(arg, Symbol)}
        if op in _KINDS:
            return self._add(op, args, _KINDS[op])
        if FLAT in kinds and len(kinds) > 1:
            refuse("one number a row together with whole rows", "keep the column: use keepdims=True")
        kind = FULL if FULL in kinds else COLUMN if COLUMN in kinds else FLAT
        return self._add(op, args, kind)

    def reduce(self, op: str, x: Any, axis: Any, keepdims: bool) -> Symbol:
        """Add a reduction along the row."""
        if not self.rows:
            refuse(
                f"np.{op} over several elements",
                "an Activation works on each element alone; for a formula over a row subclass RowActivation or RowLoss",
            )
        if axis not in (-1, (-1,)):
            refuse(f"np.{op} with axis={axis}", "a row is the last axis: write axis=-1")
        if not isinstance(x, Symbol) or x.kind != FULL:
            refuse(f"np.{op} of what is already one number a row", "sum each row once")
        return self._add(op, (x,), COLUMN if keepdims else FLAT)

    def _add(self, op: str, args: tuple[Any, ...], kind: str, name: str = "") -> Symbol:
        key = (op, kind, name, *((id(a) if isinstance(a, Symbol) else (type(a), repr(a))) for a in args))
        known = self._known.get(key)
        if known is None or known.stale:
            known = self._known[key] = Symbol(self, op, args, kind, name)
            self.nodes.append(known)
        return known


def refuse(what: str, instead: str) -> NoReturn:
    """Raise the error for what cannot be recorded, with the line of the formula.

    Raises:
        DerivativeError: Always.
    """
    frame = sys._getframe(1)
    while frame is not None and (frame.f_globals.get("__name__", "").startswith(_RECORDING)):
        frame = frame.f_back  # type: ignore[assignment]
    where = ""
    if frame is not None:
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        where = f" (line {frame.f_lineno} of {frame.f_code.co_filename}{f': {code}' if code else ''})"
    raise DerivativeError(f"the derivative cannot be derived through {what}{where}: {instead}")


def _clip(tape: Tape, x: Any, low: Any = None, high: Any = None, **options: Any) -> Any:
    if options and set(options) - {"min", "max", "a_min", "a_max"}:
        refuse(f"np.clip with {', '.join(options)}", "give the two limits alone")
    low = options.get("min", options.get("a_min", low))
    high = options.get("max", options.get("a_max", high))
    if low is not None:
        x = tape.record("maximum", x, low)
    return x if high is None else tape.record("minimum", x, high)


def _where(tape: Tape, condition: Any, *choices: Any) -> Any:
    if len(choices) != 2:
        refuse("np.where with one argument", "give the value for each case: np.where(condition, a, b)")
    return tape.record("where", condition, *choices)


def _reduction(name: str) -> Callable[..., Any]:
    def record(tape: Tape, x: Any, axis: Any = None, *, keepdims: bool = False, **options: Any) -> Any:
        if options:
            refuse(f"np.{name} with {', '.join(options)}", "give axis and keepdims alone")
        return tape.reduce(_REDUCTIONS[name], x, axis, keepdims)

    return record


def _select(tape: Tape, conditions: Any, choices: Any, default: Any = 0) -> Any:
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        default = tape.record("where", condition, choice, default)
    return default


def _expand_dims(tape: Tape, x: Any, axis: int) -> Any:
    if axis != -1 or x.kind != FLAT:
        refuse("np.expand_dims", "use keepdims=True in the sum")
    return tape.record("column", x)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "where": _where,
    "clip": _clip,
    "select": _select,
    "expand_dims": _expand_dims,
    "zeros_like": lambda _tape, _x: 0.0,
    "ones_like": lambda _tape, _x: 1.0,
    "full_like": lambda _tape, _x, value: value,
    "copy": lambda _tape, x: x,
    "result_type": lambda tape, *_values: tape.dtype,
    **{name: _reduction(name) for name in _REDUCTIONS},
}
