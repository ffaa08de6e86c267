"""Symbol: an array that records what NumPy does to it.

A formula is called on symbols. A symbol is a mutable handle on a node, so that ``h += 1`` and ``out[:, t] = h`` replace
its node; a version detects views that an assignment has made stale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from framework.graph.graph import Graph
from framework.graph.node import Node
from framework.graph.operations import ELEMENTWISE
from framework.graph.refuse import NO_RULE, refuse

NAMES = {
    "true_divide": "divide",
    "absolute": "abs",
    "fabs": "abs",
    "float_power": "power",
    "conjugate": "positive",
    "remainder": "mod",
    "erf (vectorized)": "erf",
    "erfc (vectorized)": "erfc",
}
"""The table's names of operations that have another name in NumPy."""

REDUCTIONS = {"add": "sum", "maximum": "max", "minimum": "min", "multiply": "prod"}
REDUCTIONS |= {"logical_and": "all", "logical_or": "any", "logaddexp": "logaddexp.reduce"}
_ACCUMULATIONS = {"add": "cumsum", "multiply": "cumprod"}

FUNCTIONS: dict[str, Callable[..., Any]] = {}
"""NumPy functions on symbols, by name; ``functions`` fills it."""

METHODS = frozenset({"sum", "max", "min", "mean", "prod", "var", "std", "any", "all", "cumsum", "cumprod"})
METHODS |= {"argmax", "argmin", "argsort", "ravel", "flatten", "swapaxes", "squeeze", "take", "repeat", "clip"}
METHODS |= {"dot", "round", "conj"}
"""Methods of arrays that are functions of the same name."""

_LIKE = frozenset({"zeros", "ones", "empty", "full", "asarray", "array"})


class Symbol(NDArrayOperatorsMixin):
    """An array in a formula that is being traced.

    Attributes:
        fixed: Whether it is an argument of the formula, which must not be written into.
        version: How often it was written into.
    """

    __slots__ = ("_node", "_seen", "_source", "fixed", "version")
    __array_priority__ = 1e6
    __hash__ = object.__hash__

    def __init__(self, node: Node, source: Symbol | None = None, *, fixed: bool = False) -> None:
        """Hold a node; ``source`` is the array that this one is a view of."""
        self._node, self._source, self.fixed, self.version = node, source, fixed, 0
        self._seen = 0 if source is None else source.version

    @property
    def node(self) -> Node:
        """The node of the current value."""
        if self._source is not None and self._source.version != self._seen:
            refuse("a view of an array that was written into since", "copy the view first: x[:, 0].copy()")
        return self._node

    @property
    def graph(self) -> Graph:
        """The graph that records."""
        return self._node.graph

    # the attributes of an array

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, with the stand-in for the number of rows."""
        return self._node.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self._node.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self._node.shape)

    @property
    def kind(self) -> str:
        """The kind: "f", "i" or "b"."""
        return self._node.kind

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype that the formula is traced for."""
        return np.dtype({"f": self.graph.dtype, "i": "int64", "b": "bool"}[self._node.kind])

    @property
    def T(self) -> Any:  # noqa: N802 (NumPy's name)
        """The transpose."""
        return np.transpose(self)

    @property
    def real(self) -> Symbol:
        """The array itself."""
        return self

    @property
    def mT(self) -> Any:  # noqa: N802 (NumPy's name)
        """The transpose of the last two axes."""
        return np.swapaxes(self, -1, -2)

    # for the rules of the table

    def record(self, op: str, *args: Any, **attributes: Any) -> Any:
        """Add an operation with this symbol as its first argument."""
        return record(op, self, *args, **attributes)

    def number(self, value: int) -> Any:
        """Return a size: a plain number, or a symbol where it is a multiple of the number of rows."""
        return symbol_of(self.graph.lift(value))

    # the protocols of NumPy and Python

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Record a ufunc."""
        name = NAMES.get(ufunc.__name__, ufunc.__name__)
        if method == "__call__" and not options and name in ELEMENTWISE:
            return record(name, *inputs)
        (out,) = options.pop("out", (None,))
        if options.get("where") is True:  # the default
            del options["where"]
        options.pop("casting", None)
        dtype = options.pop("dtype", None)
        if dtype is not None:
            inputs = tuple(operand.astype(dtype) if isinstance(operand, Symbol) else operand for operand in inputs)
        if method == "reduce" and name in REDUCTIONS and not options.keys() - {"axis", "keepdims"}:
            result = FUNCTIONS[REDUCTIONS[name]](
                inputs[0], options.get("axis", 0), keepdims=options.get("keepdims", False)
            )
        elif method == "accumulate" and name in _ACCUMULATIONS and not options.keys() - {"axis"}:
            result = FUNCTIONS[_ACCUMULATIONS[name]](inputs[0], options.get("axis", 0))
        elif method == "outer" and not options:
            a, b = inputs
            result = ufunc(np.reshape(a, (*np.shape(a), *(1,) * np.ndim(b))), b)
        elif method != "__call__" or options:
            _refuse_options(f"np.{ufunc.__name__}{'' if method == '__call__' else f'.{method}'}", options)
        elif name in FUNCTIONS:
            result = FUNCTIONS[name](*inputs)
        else:
            if not hasattr(np, name) and name not in ("erf", "erfc"):
                refuse(f"{name}, which is not a NumPy function", "write it with NumPy functions")
            result = record(name, *inputs)
        return result if out is None else _into(out, result)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        """Record a NumPy function that is not a ufunc."""
        name = function.__name__
        handler = FUNCTIONS.get(name)
        if handler is None:
            refuse(f"{function.__module__.replace('numpy', 'np')}.{name}", *NO_RULE)
        options = dict(options)
        if name in _LIKE:  # called with like=self, which NumPy takes off
            options["like"] = self
        return _call_function(name, args, options)

    def __getitem__(self, index: Any) -> Any:
        """Record a part of the array."""
        return FUNCTIONS["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        """Record an assignment into a part of the array."""
        FUNCTIONS["setitem"](self, index, value)

    def __getattr__(self, name: str) -> Any:
        """Return a method that records the function of its name."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name in METHODS:
            return lambda *args, **options: _call_function(name, (self, *args), options)
        known = name in FUNCTIONS
        refuse(f"x.{name}", f"write np.{name}(x)" if known else "use NumPy functions, which work on every element")

    def reshape(self, *shape: Any, **_options: Any) -> Any:
        """Record a reshape."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Any:
        """Record a transpose."""
        chosen = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return np.transpose(self, chosen or None)

    def astype(self, dtype: Any, *, copy: bool = True, **_options: Any) -> Any:
        """Record a cast between floats, integers and booleans; the width of floats is the framework's choice."""
        if dtype is float and self._node.kind == "f":
            return self.copy() if copy else self
        wanted = np.dtype(dtype)
        kind = wanted.kind
        if kind not in "fiub" or wanted.itemsize < {"f": self.dtype.itemsize, "b": 1}.get(kind, 4):
            refuse(f"x.astype({wanted})", "use float, int or bool; the dtype of floats is a setting of the model")
        kind = "i" if kind == "u" else kind
        if kind != self.kind:
            return self.record("astype", to=kind)
        return self.copy() if copy else self

    def copy(self, *_order: Any) -> Symbol:
        """Return a symbol of its own with the same value."""
        return Symbol(self.node)

    def item(self) -> NoReturn:
        """Refuse."""
        refuse("x.item()", "leave it out: numbers stay arrays")

    def __len__(self) -> int:
        """Return the size of the first axis."""
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        """Return the parts along the first axis, unless these are the rows."""
        if not self.shape:
            refuse("a loop over a number", "use NumPy functions")
        if self.graph.rows_in(self.shape[0]):
            refuse("a loop over the rows", "use NumPy functions on whole arrays: the number of rows is not fixed")
        return (self[index] for index in range(self.shape[0]))

    def __bool__(self) -> NoReturn:
        """Refuse."""
        refuse("an 'if', 'and', 'or', 'min' or 'max' on an array", "use np.where, np.minimum or np.maximum")

    def __float__(self) -> NoReturn:
        """Refuse."""
        refuse(
            "float(x), int(x), a function of 'math', or an assignment of x to an element of an array that NumPy made",
            "use the NumPy function, e.g. np.exp for math.exp or np.trunc for int; np.stack the elements",
        )

    __int__ = __index__ = __complex__ = __float__

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        """Refuse."""
        refuse(
            "np.asarray(x), np.array(x), array[x], or an assignment of x into an array that NumPy made",
            "leave np.asarray out; collect parts in a list and np.stack them, or make the array by np.zeros_like(x); "
            "np.asarray(array, like=x)[x] for array[x]",
        )

    def __repr__(self) -> str:
        """Show the node."""
        return repr(self._node)


def _refuse_options(what: str, options: dict[str, Any]) -> NoReturn:
    odd = [name for name in options if name not in ("axis", "keepdims")]
    if not odd:
        refuse(what, *NO_RULE)
    refuse(f"{what} with {', '.join(odd)}", "use np.where(condition, a, b)" if "where" in odd else "write it without")


def _call_function(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """Call a function of the table; refuse arguments that it does not take."""
    handler = FUNCTIONS[name]
    out = options.pop("out", None)
    try:
        result = handler(*args, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        problem = str(error).replace(f"{handler.__qualname__}()", f"np.{name}")
        refuse(f"np.{name} with these arguments", f"write it without, or with other functions: {problem}")
    return result if out is None else _into(out, result)


def record(op: str, *args: Any, **attributes: Any) -> Any:
    """Add an operation to the graph of the symbols among the arguments; return a symbol or a plain number."""
    made = graph_of(*args).add(op, *[arg.node if type(arg) is Symbol else arg for arg in args], **attributes)
    return Symbol(made) if type(made) is Node else made


def graph_of(*values: Any) -> Graph:
    """Return the graph of the first symbol among the values."""
    for value in values:
        if isinstance(value, Symbol):
            return value.graph
    raise TypeError("none of the values is a symbol")


def _operators(op: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return an operator and its reflection, which do without NumPy's dispatch: tracing calls them most."""
    return lambda self, other: record(op, self, other), lambda self, other: record(op, other, self)


for _name, _op in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide"}.items():
    for _prefix, _operator in zip(("", "r"), _operators(_op), strict=True):
        setattr(Symbol, f"__{_prefix}{_name}__", _operator)


def array_symbol(value: Any, graph: Graph) -> Symbol:
    """Return a symbol unchanged, and an array or a number as a constant of a graph."""
    return value if isinstance(value, Symbol) else Symbol(graph.constant(np.asarray(value)))


def view(op: str, x: Symbol, **attributes: Any) -> Any:
    """Add an operation of which NumPy returns a view."""
    return symbol_of(x.graph.add(op, x.node, **attributes), x if x._source is None else x._source)


def value_of(x: Any) -> Any:
    """Return the node of a symbol; anything else unchanged."""
    return x.node if isinstance(x, Symbol) else x


def symbol_of(value: Any, source: Symbol | None = None) -> Any:
    """Return a symbol for a node; a plain number unchanged."""
    return Symbol(value, source) if isinstance(value, Node) else value


def write(x: Any, value: Any) -> Any:
    """Give an array a new value in place.

    Raises:
        DerivativeError: It is an argument of the formula, or a view.
    """
    if x.fixed:
        refuse("a change of an argument in place", "make a new array: 'h = h * 2', not 'h *= 2'")
    if x._source is not None:
        refuse("a change of a view in place", "assign into the whole array: out[:, t] = out[:, t] + h")
    node = value_of(value)
    if not isinstance(node, Node) or node.shape != x.shape:
        node = x.graph.add("broadcast_to", node, shape=x.shape)
    x._node = node
    x.version += 1
    return x


def _into(out: Any, values: Any) -> Any:
    out = out[0] if isinstance(out, tuple) else out
    if not isinstance(out, Symbol):
        refuse(
            "a result written into an array that NumPy made", "make the array by np.zeros_like(x), or leave out= out"
        )
    return write(out, values)
