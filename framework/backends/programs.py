"""Program: a formula of arrays as NumPy functions: its value, its derivative, and its pullback.

Formula: a component with a derivative, which is derived from its formula, or written and then checked.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.backends.numpy import emit
from framework.backends.text import show
from framework.base.errors import DerivativeError, FrameworkError, ShapeError, UsageError
from framework.base.settings.component import Component
from framework.base.settings.messages import require_formula
from framework.graph.gradient import derivative, gradients, textbook_derivative
from framework.graph.graph import STAND_IN, Graph, rewrite
from framework.graph.node import Node, ancestors
from framework.graph.operations import OPERATIONS
from framework.graph.refuse import CANNOT, line_at_fault
from framework.graph.rows import mixing
from framework.graph.stable import stabilise
from framework.graph.symbol import Symbol, symbol_of, value_of
from framework.graph.textbook import plainer, tidy
from framework.graph.trace import ROWS, Result, Traced, share, trace, trace_again

_WIDTH = 4
"""The row length that a formula is traced with first; the result serves any shape if it is elementwise."""

_FLOAT32 = np.dtype(np.float32)


def _function(output: Any, inputs: dict[str, Node]) -> Callable[..., Any]:
    """Return a result as a function of arrays, without NumPy's warnings: a branch that is not taken may overflow."""
    function = emit({"result": output}, inputs, memory=False).function

    def quiet(*arguments: Any) -> Any:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return function(*arguments)

    return quiet


class Program:
    """A formula of arrays (rows, n), traced once.

    An elementwise formula serves arrays of any shape, and numbers. One that couples the elements of a row serves rows
    of the length that it was traced with.

    Attributes:
        traced: The formula as a graph; it derives by the first argument.
        elementwise: Whether each element of the result depends on one element of each argument.
        key: Equal for programs of the same formula.
    """

    def __init__(
        self,
        formula: Callable[..., Any],
        names: tuple[str, ...] = ("h",),
        dtype: str = "float64",
        width: int | tuple[int, ...] = _WIDTH,
        owner: Any = None,
    ) -> None:
        """Trace a formula of arguments of one shape: (rows, width), or all of it if ``width`` is a tuple.

        ``owner`` is whose formula it is; see ``trace``.

        Raises:
            DerivativeError: The formula cannot be traced; says why, and what to write.
        """
        whole = isinstance(width, tuple)
        shapes = dict.fromkeys(names, width if isinstance(width, tuple) else (ROWS, width))

        def require_rows_apart(traced: Traced) -> None:
            if not (whole or _is_elementwise(traced)) and (mixed := mixing(traced.output)):
                advice = "Use the last axis, axis=-1"
                if names[0] == "prediction":
                    advice = "Return a value for each element, or for each row of a RowLoss; the mean is taken for you"
                raise DerivativeError(
                    f"the formula mixes rows, by {mixed}: a row's output must depend on that row alone. {advice}"
                )

        traced = trace(lambda **named: formula(*named.values()), shapes, dtype, owner=owner, check=require_rows_apart)
        self.key = owner, traced.key
        self.elementwise = _is_elementwise(traced)
        self.traced = traced

    @property
    def inputs(self) -> dict[str, Node]:
        """The arguments by name."""
        return self.traced.inputs

    @property
    def output(self) -> Any:
        """The result: a node, or a plain number."""
        return self.traced.output

    @property
    def first(self) -> Node:
        """The argument to derive by."""
        return next(iter(self.inputs.values()))

    @cached_property
    def stable(self) -> Any:
        """The result in its stable form, which is derived."""
        return stabilise([self.output])[0]

    @cached_property
    def value(self) -> Callable[..., Any]:
        """The formula itself: the same operations in the same order, so the same bits."""
        return _function(self.output, self.inputs)

    @cached_property
    def stable_value(self) -> Callable[..., Any]:
        """The formula in its stable form."""
        return _function(self.stable, self.inputs)

    @cached_property
    def derivative(self) -> Callable[..., Any]:
        """(arguments) -> d(output)/d(first argument), or the gradient of the sum of the outputs by it."""
        seeds = [(self.stable, 1.0)]
        slope = derivative(self.stable, self.first) if self.elementwise else gradients(seeds, [self.first])[0]
        return _function(slope, self.inputs)

    @cached_property
    def pullback(self) -> Callable[..., Any]:
        """(gradient, arguments) -> the gradient of sum(gradient * output) by the first argument."""
        output = self.stable
        gradient = self.traced.graph.input("gradient", output.shape if isinstance(output, Node) else self.first.shape)
        return _function(gradients([(output, gradient)], [self.first])[0], {"gradient": gradient, **self.inputs})

    def formulas_by_label(self, name: str, written: Callable[..., Any] | None = None) -> dict[str, Any]:
        """Return the value and the derivative by label; ``written`` gives the class's own from (output, arguments)."""
        inputs, slope = [*self.inputs.values()], None
        if written is not None:
            with suppress(DerivativeError):  # Python may do what the graph cannot
                slope = value_of(written(*map(symbol_of, (self.output, *inputs))))
        results = [self.output] if slope is None else [self.output, slope]
        value, *slopes = rewrite([*results, *inputs], plainer)
        first, arguments = slopes[-len(inputs)], ", ".join(self.inputs)
        labels = [f"{name}({arguments})", f"{name}'({arguments})"]
        if slope is not None:
            slope = slopes[0]
        elif self.elementwise:
            slope = textbook_derivative(value, first)
        elif value.ndim < first.ndim:
            slope = gradients([(value, 1.0)], [first])[0]
        else:
            labels[1] = f"backward(gradient, {arguments}, a)"
            slope = gradients([(value, first.graph.input("gradient", value.shape))], [first])[0]
        return dict(zip(labels, (tidy(formula, {first}) for formula in (value, slope)), strict=True))


def _is_elementwise(traced: Traced) -> bool:
    """Return whether every operation works on each element alone."""
    return all(
        OPERATIONS[node.op].elementwise or node.op in ("input", "astype") or node.fill is not None
        for node in ancestors(traced.outputs)
    )


def program_of(
    component: Component,
    method: str,
    names: tuple[str, ...],
    like: Any = None,
    *,
    rows: bool = False,
    whole: bool = False,
) -> Program:
    """Return the program of a component's formula: traced once for its settings, the dtype and the width.

    Args:
        component: The component, which is frozen.
        method: The name of its formula.
        names: The names of the formula's arguments.
        like: An example of the argument: float32 or else float64, and rows along the last axis.
        rows: Whether the formula is known to couple the elements of a row.
        whole: Whether it is a formula of whole arrays, of the shape of ``like``.

    Raises:
        DerivativeError: The formula cannot be traced; names the class.
        ShapeError: It fails for arrays of these shapes.
    """
    programs = programs_of(component)
    dtype = "float32" if getattr(like, "dtype", None) is _FLOAT32 else "float64"
    label = f"{type(component).__name__}.{'__call__' if method == '_formula' else method}"
    tried = trial_width(component)
    width = np.shape(like)[-1] if np.ndim(like) else tried

    def program_of_size(size: Any) -> Program:
        program: Program | None = programs.get((method, dtype, size))
        if program is None:
            try:
                made = Program(getattr(component, method), names, dtype, size, (component, method))
            except DerivativeError as error:
                raise error.within(label) from None
            except (ValueError, IndexError) as error:
                advice = "" if size != tried else f". {_any_width(names, rows=rows)}"
                raise ShapeError(
                    f"{label} fails for {' and '.join(names)} {size if whole else f'(rows, {size})'}: {error}{advice}"
                ) from None
            program = programs[method, dtype, size] = share(("program", made.key), lambda: made)
        return program

    program = program_of_size(like.shape if whole else width if rows else tried)
    return program if whole or rows or program.elementwise else program_of_size(width)


def _any_width(names: tuple[str, ...], *, rows: bool) -> str:
    """Return the advice for a formula that fails for rows of a width that the user may never have written."""
    columns = " and ".join(f"{name}[:, 0]" for name in names)
    kind = "loss of rows is a RowLoss" if len(names) > 1 else "formula of one width is a Layer"
    return (
        f"It must serve rows of any width: take columns by number, as {columns}, or the width from a setting such as "
        f"weights: tuple[float, ...]{'' if rows else f'; a {kind}'}"
    )


def trial_width(component: Component, default: int = _WIDTH) -> int:
    """Return the width of the rows that a formula is tried with: the length of a tuple among its settings, if any.

    Example:
        >>> from framework import CrossEntropy
        >>> trial_width(CrossEntropy()), trial_width(CrossEntropy(class_weights=(1.0, 2.0, 3.0)))
        (4, 3)
    """
    lengths = (len(value) for value in component.settings().values() if isinstance(value, tuple))
    return next((length for length in lengths if length > 1), default)


def forget(*components: Component) -> None:
    """Drop the programs of components and their parts, so that their formulas are traced again."""
    for component in _with_parts(*components):
        programs_of(component).clear()


def require_derivatives(*components: Component, traced: bool) -> None:
    """Check the derivatives that the classes of components and of their parts write.

    Args:
        *components: The components.
        traced: Whether those of equal settings are checked again where they make another graph now.

    Raises:
        DerivativeError: One is wrong.
    """
    method = "require_traced_derivative" if traced else "require_derivative"
    for component in _with_parts(*components):
        if hasattr(type(component), method) and is_checked(component):
            getattr(component, method)()


def keys_of(*components: Component, dtype: str) -> tuple[Any, ...]:
    """Return a key of components and of what their methods make of symbols of a dtype now; see ``Formula.key_in``."""
    return tuple(
        (inner, inner.key_in(dtype) if isinstance(inner, Formula) else None) for inner in _with_parts(*components)
    )


def require_called(activations: Iterable[Component]) -> None:
    """Check the derivatives of activations that formulas call, which need not be settings, as their methods are now.

    Raises:
        DerivativeError: One is wrong.
    """
    forget(*activations)
    require_derivatives(*activations, traced=True)


def _with_parts(*components: Component) -> list[Component]:
    """Return components and the components among their settings, each once."""
    known, waiting = dict[int, Component](), [*components]
    for component in waiting:
        if id(component) not in known:
            known[id(component)] = component
            waiting += parts_of(component)
    return [*known.values()]


def programs_of(component: Component) -> dict[Any, Any]:
    """Return the programs that are kept for a component."""
    return _slot(component, "_programs", dict)


def is_checked(component: Component) -> bool:
    """Return whether neither a component nor one of its parts has a derivative that differs on purpose."""
    return getattr(type(component), "check", "on") == "on" and all(map(is_checked, parts_of(component)))


def parts_of(component: Component) -> list[Component]:
    """Return the components among the settings, which stay the same."""

    def make() -> list[Component]:
        settings = component.settings().values()
        flat = (value for setting in settings for value in (setting if isinstance(setting, tuple) else (setting,)))
        return [value for value in flat if isinstance(value, Component)]

    return _slot(component, "_inner", make)


def _slot(component: Component, name: str, make: Callable[[], Result]) -> Result:
    """Return what a slot of a component holds, which is made at first use."""
    try:
        made: Result = getattr(Component, name).__get__(component)  # getattr(component, name) would look for advice
    except AttributeError:
        object.__setattr__(component, name, made := make())
    return made


def check_derivative(formula: Any) -> None:
    """Compare the derivatives that training uses with the formula itself.

    Training runs this check once for each class and its settings; call it to run the check yourself.

    Args:
        formula: An activation, a loss or a regularizer.

    Raises:
        SettingsError: The argument is something else.
        DerivativeError: A derivative is wrong; says at which point, what it gives, what the formula's slope is there,
            the derivative that is derived from the formula, and what is probably meant.

    Example:
        >>> from framework import Activation
        >>> class Wrong(Activation):
        ...     def __call__(self, h):
        ...         return np.tanh(h)
        ...
        ...     def derivative(self, h):
        ...         return 1 - h**2
        >>> check_derivative(Wrong())
        Traceback (most recent call last):
        framework.base.errors.DerivativeError: Wrong.derivative is wrong at h = -1: it gives 0, but the slope ...
        derived from the formula: f'(h) = 1 - a ** 2  where a = f(h)
        it is written in terms of the output a: begin it with a = self(h)
    """
    require_formula("check_derivative", formula, "check_derivative", "an activation, a loss or a regularizer")
    formula.check_derivative()


def call_formula(owner: Any, method: str, function: Callable[..., Any], **arguments: Any) -> Any:
    """Return what a method gives for arrays by name; explain an error that Python or NumPy raises in it.

    Args:
        owner: The component, for the message.
        method: The method's name, for the message.
        function: The method.
        **arguments: Its arguments.

    Raises:
        UsageError: It fails; says for which shapes, at which line, and what to write.
    """
    try:
        return function(*arguments.values())
    except FrameworkError:
        raise
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        name, line = f"{type(owner).__name__}.{method}", line_at_fault(error)
        arrays = {key: np.asarray(value) for key, value in arguments.items() if value is not None}
        shapes = " and ".join(f"{key} {value.shape}" for key, value in arrays.items())
        advice = _advice(function, arguments)
        if line and line in advice:
            message = f"{name} must work on whole arrays, here {shapes}; it fails at {advice}"
        else:
            message = f"{name} fails for {shapes}: {error}{line}"
        raise UsageError(message) from error


def _advice(function: Callable[..., Any], arguments: dict[str, Any]) -> str:
    """Return what a formula does that arrays cannot do, its line, and what to write; empty if a trace does not tell."""
    graph, symbols = Graph(), list[Any]()
    for name, value in arguments.items():
        array = np.asarray(value)
        kind = {"u": "i"}.get(array.dtype.kind, array.dtype.kind)
        symbols.append(None if value is None else Symbol(graph.input(name, array.shape, kind), fixed=True))
    try:
        with np.errstate(all="ignore"):
            function(*symbols)
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol)
        if isinstance(error, DerivativeError) and error.subject == CANNOT:
            return str(error).removeprefix(f"{CANNOT} through ")
    return ""


class Formula(Component):
    """A component with a derivative, which is derived from its formula, or written and then checked at first use.

    Attributes:
        check: ``"off"`` for a derivative that differs from the formula's on purpose.
    """

    check: ClassVar[Literal["on", "off"]] = "on"
    _methods: ClassVar[dict[str, int]] = {"value": 1, "slope": 1}  # that are traced, with the number of arguments

    @abstractmethod
    def check_derivative(self) -> None:
        """Compare the derivatives that training uses with the formula; see ``check_derivative``."""

    def require_derivative(self) -> Self:
        """Return the component itself, checked once for its class and its settings; ``fit`` finds other changes.

        Raises:
            DerivativeError: A written derivative is wrong, or none is written and the formula cannot be derived.
        """
        share(("derivative", self), self.require_traced_derivative)
        return self

    def require_traced_derivative(self) -> bool:
        """Check the derivative, once for what the methods make of symbols now, and return True; see above."""

        def check() -> bool:
            with np.errstate(all="ignore"):  # the points are extreme, and a formula may overflow at some
                self.check_derivative()
            return True

        return self.check == "off" or bool(share(("derivative", self, self.traced_key), check))

    @property
    def traced_key(self) -> tuple[Any, ...]:
        """The key of the formula in float64."""
        return self.key_in("float64")

    def key_in(self, dtype: str) -> tuple[Any, ...]:
        """Return a key of the graphs that the methods of the class record: equal while they compute the same."""
        programs = programs_of(self)
        if ("key", dtype) not in programs:
            base = next(cls for cls in type(self).__mro__ if "_methods" in vars(cls))
            written = {name: getattr(type(self), name) for name in self._methods}
            own = [name for name, method in written.items() if method is not getattr(base, name, None)]
            programs["key", dtype] = tuple((written[name], self._key_of(name, dtype)) for name in own)
        key: tuple[Any, ...] = programs["key", dtype]
        return key

    def _key_of(self, name: str, dtype: str) -> Any:
        shape = STAND_IN, trial_width(self)

        def call(graph: Graph) -> Any:
            symbols = [Symbol(graph.input(f"{index}", shape)) for index in range(self._methods[name])]
            return graph.key_of([value_of(getattr(self, name)(*symbols))])

        try:
            with np.errstate(all="ignore"):
                return trace_again((self, name), call, dtype)
        except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol)
            return str(error)

    def _repr_latex_(self) -> str | None:
        """Return the LaTeX that Jupyter draws, of the formula and its derivative; None if it cannot be traced."""
        try:
            return show(self)._repr_latex_()
        except FrameworkError:
            return None
