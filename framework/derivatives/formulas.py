"""Check the derivatives of activations and losses, and the gradients of layers written by hand.

Those of a layer are compared with differences of its outputs on a made-up batch.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.arrays import Array, Record, first_place
from framework.derivatives.checks import (
    POINTS,
    ROWS,
    SPARSE,
    Subject,
    check_elementwise,
    check_rows,
    require_elementwise,
    require_like,
    require_traced,
)
from framework.derivatives.differences import resolved_bounds, slope_along
from framework.emit.programs import Program, one_width_error, programs_of, tried_width
from framework.emit.text import show
from framework.errors import DataError, DerivativeError, FrameworkError, ShapeError
from framework.graph.graph import Graph
from framework.graph.node import needed
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import share
from framework.settings.component import Component
from framework.trees import flatten, leaves, map_leaves, sample_shape

TARGETS = (0.0, 1.0, -1.0, 0.3, 2.5, 7.0, 40.0, 2500.0, 1e5, -30.0, 1e-3)
"""Targets to check with; those that a loss refuses are skipped."""

MODERATE: Array = np.array([-12.0, -3.0, -0.4, 0.0, 0.2, 1.5, 9.0])


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
        """A key of the graphs that the methods of the class record: equal while they compute the same."""
        programs = programs_of(self)
        if "key" not in programs:
            base = next(cls for cls in type(self).__mro__ if "_methods" in vars(cls))
            written = {name: getattr(type(self), name) for name in self._methods}
            own = [name for name, method in written.items() if method is not getattr(base, name, None)]
            programs["key"] = tuple((written[name], self._key_of(name)) for name in own)
        key: tuple[Any, ...] = programs["key"]
        return key

    def _key_of(self, name: str) -> Any:
        graph, count = Graph(), self._methods[name]
        symbols = [Symbol(graph.input(f"{place}", (graph.rows, tried_width(self)))) for place in range(count)]
        try:
            with np.errstate(all="ignore"):
                return graph.key_of([value_of(getattr(self, name)(*symbols))])
        except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol)
            return str(error)

    def _repr_latex_(self) -> str | None:
        """Return the LaTeX that Jupyter draws, of the formula and its derivative; None if it cannot be traced."""
        try:
            return show(self)._repr_latex_()
        except FrameworkError:
            return None


def check_activation(activation: Any) -> None:
    """Check an activation; see ``Activation.check_derivative``.

    Raises:
        DerivativeError: A derivative is not that of the formula.
    """
    name = type(activation).__name__
    if activation.coupled:
        rows = np.resize(ROWS, (3, tried_width(activation)))
        try:
            a = activation(rows)
        except (ValueError, IndexError) as error:
            raise one_width_error(activation, rows.shape[1], error) from None
        require_like(name, "__call__", a, rows.shape)
        _check_coupled(activation, np.concatenate([rows, 12.0 * rows]))
        return
    require_elementwise(name, activation)
    methods = ("derivative_from_output", "derivative")  # in this order: the second may call the first
    written = [method for method in methods if getattr(activation, f"_has_{method}")]
    for method in written:
        _check_written(activation, method)
    if not written:
        it = Subject(activation, "derivative (derived)", written=False, program=activation.program)
        require_traced(name, activation.program(), activation, POINTS)
        check_elementwise(it, activation, activation.derivative)


def _check_written(activation: Any, method: str) -> None:
    of_h = getattr(activation, method)

    def of_a(h: Array) -> Any:
        return of_h(activation(h))

    given, other, meaning = of_h, of_a, "it is written in terms of the output a: name it derivative_from_output(a)"
    if method == "derivative_from_output":
        given, other, meaning = of_a, of_h, "it is written in terms of h: name it derivative(h)"
    it = Subject(activation, method, program=partial(_own_program, activation), alternative=(other, meaning))
    derived = it.traced.derivative if it.derives and it.traced.elementwise else None
    if derived is not None:
        require_traced(type(activation).__name__, it.traced, activation, POINTS)
    check_elementwise(it, activation, given, derived)


def _own_program(activation: Any) -> Program:
    """Return the program of an activation, without its written derivative.

    Raises:
        DerivativeError: The formula cannot be traced.
    """
    program: Program = activation.program()
    if program.elementwise and not _calls_python(program):
        return program  # its derivative comes from the formula alone
    try:
        program = Program(activation._formula, width=tried_width(activation))
    except DerivativeError as error:
        raise DerivativeError(f"{type(activation).__name__}.__call__: {error}") from None
    if _calls_python(program):
        raise DerivativeError(f"{type(activation).__name__}.__call__ calls a formula that cannot be traced")
    return program


def _calls_python(program: Program) -> bool:
    """Return whether some operation is a function that could not be traced."""
    return any(node.op == "python" for node in needed(program.traced.outputs))


def _check_coupled(activation: Any, rows: Array) -> None:
    """Check an activation over rows."""
    it = Subject(activation, "backward (derived)", written=False)
    if activation._has_backward:
        it = Subject(activation, "backward", program=partial(_own_program, activation))
    derived = (lambda g, h: np.asarray(it.traced.pullback_at(g, h, activation(h)))) if it.derives else None
    check_rows(it, activation, lambda g, h: np.asarray(activation.backward(g, h, activation(h))), rows, derived)


def check_loss(loss: Any, *, written: bool) -> None:
    """Check a loss; see ``Loss.check_derivative``.

    Raises:
        DerivativeError: The slope is not that of the value, or 0 everywhere, or the canonical pair is not its own.
    """
    check: Callable[..., None]
    if loss.by_row:
        h = np.resize(ROWS, (3, tried_width(loss)))
        predictions = np.exp(h) / np.exp(h).sum(axis=1, keepdims=True)
        classes = h.shape[1]
        soft = np.arange(1.0, classes + 1.0) + np.arange(3.0)[:, None]
        hard = np.eye(classes)[[0, classes // 2, classes - 1]]
        check, goals = _check_rows, [hard, soft / soft.sum(axis=1, keepdims=True), 60.0 * h - 7.0]
    else:
        h, predictions, check = MODERATE, ROWS, _check_elements
        goals = [np.full_like(ROWS, target) for target in TARGETS]
    accepted = []
    for goal in goals:
        with suppress(DataError):
            loss.require_target(goal, "target")
            accepted.append(goal)
    for goal in accepted:
        _require_values(loss, predictions, goal)
        check(loss, written, h, predictions, goal)
    with np.errstate(all="ignore"):
        if accepted and not any(np.any(loss.slope(predictions, goal)) for goal in accepted):
            raise DerivativeError(
                f"{type(loss).__name__}: the slope is 0 everywhere, so nothing can learn: the value does not depend on "
                "the prediction, or only in jumps. Use it as a metric: Metric.of(function)"
            )


def _require_values(loss: Any, predictions: Array, targets: Array) -> None:
    """Check that a loss gives a value for each element, or for each row, as its class says."""
    try:
        with np.errstate(all="ignore"):
            loss._total(loss.value, predictions, targets, None)
    except ShapeError:
        raise
    except Exception:  # noqa: BLE001 (a formula for rows of another width; its trace says so)
        return


def _check_elements(loss: Any, written: bool, h: Array, _predictions: Array, goal: Array) -> None:
    target = goal.flat[0]

    def of(method: str, p: Array) -> Array:
        return _untouched(loss, method, p, np.full_like(p, target))

    method, detail = "slope" if written else "slope (derived)", f" (target {target:g})"
    it = Subject(loss, method, "prediction", written=written, program=loss.program, detail=detail)
    if not isinstance(it.traced, DerivativeError):
        require_traced(type(loss).__name__, it.traced, loss.value, POINTS + target, np.full_like(POINTS, target))
    derived = (lambda p: it.traced.derivative(p, np.full_like(p, target))) if it.derives else None
    points = np.concatenate([SPARSE, target + SPARSE])
    check_elementwise(it, partial(of, "value"), partial(of, "slope"), derived, points)
    if loss.canonical is not None:
        pair, activation = _fused(loss, detail, h, np.full_like(h, target))
        value = partial(of, "value_from_preactivation")
        check_elementwise(pair, value, lambda h: of("fused_slope", activation(h)), points=POINTS)


def _check_rows(loss: Any, written: bool, h: Array, predictions: Array, goal: Array) -> None:
    def of(method: str, p: Array) -> Array:
        return _untouched(loss, method, p, goal.astype(p.dtype))

    it = Subject(loss, "slope", "prediction", written=written, program=lambda: loss.program(predictions))
    if not written and isinstance(it.traced, DerivativeError):
        raise it.traced
    probable = goal.max() <= 1.0
    at = predictions if probable else goal + 5.0 * h
    derived = (lambda g, p: np.asarray(it.traced.pullback_at(g, p, goal, loss.value(p, goal)))) if it.derives else None
    check_rows(it, partial(of, "value"), lambda g, p: g[:, None] * of("slope", p), at, derived)
    if loss.canonical is not None and probable:
        pair, activation = _fused(loss, "", h, goal)
        value = partial(of, "value_from_preactivation")
        check_rows(pair, value, lambda g, h: g[:, None] * of("fused_slope", activation(h)), h)


def _fused(loss: Any, detail: str, h: Array, goal: Array) -> tuple[Subject, Any]:
    """Check that value_from_preactivation(h) is value(f(h)), and return what is checked of its slope, and f.

    Raises:
        DerivativeError: It is another value.
    """
    activation = loss.canonical()
    with np.errstate(all="ignore"):
        fused, plain = loss.value_from_preactivation(h, goal), loss.value(activation(h), goal)
    both = np.isfinite(fused) & np.isfinite(plain)
    if not np.allclose(np.where(both, fused, 0.0), np.where(both, plain, 0.0), rtol=1e-6, atol=1e-9):
        place = int(np.argmax(np.where(both, np.abs(fused - plain), 0.0)))
        raise DerivativeError(
            f"{type(loss).__name__}.value_from_preactivation is wrong at h = {h[place]}: it gives "
            f"{np.ravel(fused)[place]:.9g}, but value of the canonical activation's output there is "
            f"{np.ravel(plain)[place]:.9g}"
        )
    it = Subject(
        loss,
        f"canonical = {type(activation).__name__}, which means a slope of prediction - target",
        written=False,
        detail=detail,
        advice="correct value_from_preactivation or fused_slope, or leave canonical out",
    )
    return it, activation


def _untouched(loss: Any, method: str, prediction: Array, target: Array) -> Array:
    """Return the result of a formula, and refuse one that changes its arguments."""
    kept = prediction.copy(), target.copy()
    result = np.asarray(getattr(loss, method)(prediction, target))
    for name, array, before in zip(("prediction", "target"), (prediction, target), kept, strict=True):
        if not np.array_equal(array, before, equal_nan=True):
            raise DerivativeError(
                f"{type(loss).__name__}.{method} changes its argument '{name}' in place; make a new array: "
                f"'{name} = {name} - 1', not '{name} -= 1'"
            )
    return result


# layers


def check_layer(layer: Any) -> Exception | None:
    """Compare a layer's gradients, of every parameter and of the input, with differences of its outputs.

    The layer is tried on made-up batches of moderate and of larger inputs, and in float32.

    Args:
        layer: The layer, or a model of several; copies are worked on.

    Returns:
        The error that every made-up batch raises where the input has a special form, so that nothing was checked.

    Raises:
        DerivativeError: A gradient is wrong; names it.
    """
    # An axis of any size is given 4, or that of a setting or of a parameter, which may be the number of units.
    axes = max(shape.count(None) for shape in leaves(layer.input_shape))
    sizes = [value for name, value in layer.settings().items() if type(value) is int and value > 0 and name != "seed"]
    sizes += [size for shape in layer.layout().values() for size in shape if size]
    refusal: Exception | None = None
    for size in dict.fromkeys((4, *(size for size in sizes if axes and size**axes < 10**6))):
        trial = _Trial(layer, "float64", size)
        refusal = trial.refusal(1.0)
        if refusal is None:
            break
    else:
        return refusal
    wide = trial.check()
    narrow = None if trial.joins else _Trial(layer, "float32", size)  # of children, gradients may cancel out
    if narrow is not None and not narrow.refusal(1.0):
        _require_equal(trial.name, narrow.gradients(), wide)
    if not trial.refusal(10.0):
        trial.check()
    return None


class _Trial:
    """A copy of a layer with made-up numbers.

    Attributes:
        name: The method that is checked, for messages.
        joins: Whether the layer is a model of several.
    """

    def __init__(self, layer: Any, dtype: str, size: int) -> None:
        self.twin, self.joins = layer.in_dtype(dtype), hasattr(layer, "parts")
        twin = self.twin
        state = twin._laid_out(0)
        object.__setattr__(twin, "_state", state)
        # A layer by hand may take its own buffers for constants; those of a child must not change the next output.
        self._buffers = {name: value.copy() for name, value in twin.buffers.items()} if self.joins else {}
        state.parameters.lay_out()
        state.parameters.vector[:] = _waves(state.parameters.vector.shape, 1.3) + 0.125
        self.name = f"{type(layer).__name__}.apply_backward"

        powers = count(1.3, 0.03)  # leaves of equal numbers could cancel out

        def made_up(shape: Any) -> Array:
            axes = (size if axis is None else axis for axis in shape if axis is not ...)
            return _waves((3, *axes), next(powers)).astype(dtype)

        self._x = map_leaves(made_up, twin.input_shape)
        self._limits = twin.cardinalities(sample_shape(self._x))

    def refusal(self, scale: float) -> Exception | None:
        """Return the error with which the layer refuses a batch of this scale, or None; keep the batch."""

        def scaled(leaf: Array, limit: Array) -> Array:
            ids = np.abs(leaf) * 2.0**12 % np.where(np.isinf(limit), 1.0, limit)  # a wave is whole at this scale
            return np.where(np.isinf(limit), leaf * leaf.dtype.type(scale), ids).astype(leaf.dtype)

        self.x, self.record = map_leaves(scaled, self._x, self._limits), self._new_record()
        self._before = flatten(map_leaves(np.copy, self.x))
        try:
            with np.errstate(all="ignore"):
                output = self._output(self.record)
        except Exception as error:  # noqa: BLE001 (whatever it is, the made-up batch is to blame)
            return error
        powers = count(1.7, 0.03)
        self.gradient = map_leaves(lambda leaf: _waves(leaf.shape, next(powers)).astype(self.twin.dtype), output)
        return None

    def gradients(self) -> dict[str, Array]:
        """Return the gradients that the layer gives, that of the input last."""
        twin = self.twin
        # As the step before left them: a layer overwrites them, and a child that is left out gets the gradient 0.
        twin.parameters.gradient[:] = 0.0 if self.joins else 0.7
        gradient = map_leaves(np.copy, self.gradient)
        with np.errstate(all="ignore"):
            result = twin.apply_backward(gradient, twin.parameters.views, self.record, twin.parameters.gradients)
        changed = [("apply", leaf, array, self._before[leaf]) for leaf, array in flatten(self.x).items()]
        before = flatten(self.gradient, "gradient")
        changed += [
            ("apply_backward", name, array, before[name]) for name, array in flatten(gradient, "gradient").items()
        ]
        for method, name, array, kept in changed:
            if not np.array_equal(array, kept):
                raise DerivativeError(
                    f"{type(twin).__name__}.{method} changes its argument '{name}' in place; make a new array"
                )
        return {name: np.array(found) for name, found in {**twin.parameters.gradients, **flatten(result)}.items()}

    def check(self) -> dict[str, Array]:
        """Compare the gradients with differences along two directions, and return them.

        Raises:
            DerivativeError: They differ.
        """
        found, arrays = self.gradients(), {**self.twin.parameters.views, **flatten(self.x)}
        for name, given in found.items():
            require_like(self.twin, f"apply_backward: {_shown(name)}", given, arrays[name].shape)
        limits = flatten(self._limits)
        for name, given in found.items():
            for power in (1.7, 1.9):
                direction = np.sin(np.arange(1.0, 1.0 + given.size) ** power).reshape(given.shape)
                direction *= np.isinf(limits.get(name, np.inf))  # ids stay
                _require_slope(f"{self.name}: {_shown(name)}", self._value, arrays[name], given, direction)
        return found

    def _value(self) -> float:
        outputs = leaves(self._output(self._new_record()))
        return sum(float(np.sum(gradient * a)) for gradient, a in zip(leaves(self.gradient), outputs, strict=True))

    def _output(self, record: Any) -> Any:
        for name, value in self._buffers.items():
            self.twin.buffers[name][...] = value
        record.begin(self.x, (0, 0, 0))
        return map_leaves(np.asarray, self.twin.apply(self.x, self.twin.parameters.views, record))

    def _new_record(self) -> Any:
        return Record(self.twin.dtype, training=True)


def _shown(name: str) -> str:
    if name == "x" or name.startswith("x["):
        return f"dL/d{name}, which it returns,"
    return f"gradients['{name}']"


def _require_slope(what: str, value: Callable[[], float], array: Array, gradient: Array, direction: Array) -> None:
    if not direction.any():
        return
    given = np.array([float(np.sum(gradient * direction))])
    slack = 1e-6 * (np.abs(given) + float(np.sum(np.abs(gradient * direction))))
    with np.errstate(all="ignore"):
        found = slope_along(value, array, direction)
        if found.judged[0] and not found.hold(given, slack)[0]:
            found = slope_along(value, array, direction, bounds=resolved_bounds)  # which costs more
    if not found.judged[0] or found.hold(given, slack)[0]:
        return
    expected = float(found.middle[0])
    raise DerivativeError(
        f"{what} is wrong: along one direction it gives {given[0]:.6g}, but the outputs change by {expected:.6g}"
        + ("; the sign is wrong" if np.isclose(given[0], -expected, rtol=1e-3) else "")
    )


def _require_equal(name: str, narrow: dict[str, Array], wide: dict[str, Array]) -> None:
    """Check that the gradients in float32 are those in float64.

    Raises:
        DerivativeError: They are not.
    """
    for key, given in narrow.items():
        exact = wide[key]
        size = float(np.max(np.abs(exact), initial=0.0))
        wrong = np.isfinite(exact) & ~(np.abs(given - exact) <= 2e-2 * size)
        if wrong.any():
            place = first_place(wrong)
            raise DerivativeError(
                f"{name}: {_shown(key)} is wrong in float32: at {list(place)} it gives {given[place]:.6g}, "
                f"in float64 {exact[place]:.6g}"
            )


def _waves(shape: tuple[int, ...], power: float) -> Array:
    """Return numbers of both signs without any symmetry, the same in float32 as in float64."""
    return np.round(np.cos(np.arange(1.0, 1.0 + math.prod(shape)) ** power) * 2.0**12).reshape(shape) / 2.0**12
