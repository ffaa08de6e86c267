"""Layers written by hand: their gradients are compared with differences of their outputs on a made-up batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from framework.arrays import Array, first_place
from framework.derivatives.checks import require_like
from framework.derivatives.differences import resolved_bounds, slope_along
from framework.errors import DerivativeError
from framework.trees import flatten, leaves, map_leaves, sample_shape


def check_layer(layer: Any, *, at_once: bool = False) -> Exception | None:
    """Compare a layer's gradients, of every parameter and of the input, with differences of its outputs.

    The layer is tried on made-up batches of moderate and of larger inputs, and in float32.

    Args:
        layer: The layer, or a model of several; copies are worked on.
        at_once: Whether all parameters are tried together first, and one by one only where that fails.

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
        trial = _Trial(layer, "float64", size, at_once=at_once)
        refusal = trial.refusal(1.0)
        if refusal is None:
            break
    else:
        return refusal
    wide = trial.check()
    narrow = None if at_once else _Trial(layer, "float32", size, at_once=False)
    if narrow is not None and not narrow.refusal(1.0):
        _require_equal(trial.name, narrow.gradients(), wide)
    if not trial.refusal(10.0):
        trial.check()
    return None


class _Trial:
    """A copy of a layer with made-up numbers.

    Attributes:
        name: The method that is checked, for messages.
    """

    def __init__(self, layer: Any, dtype: str, size: int, *, at_once: bool) -> None:
        self._at_once = at_once
        self.twin = twin = layer.in_dtype(dtype)
        state = twin._laid_out(0)
        object.__setattr__(twin, "_state", state)
        # A layer by hand may take its own buffers for constants; those of a child must not change the next output.
        self._buffers = {name: value.copy() for name, value in twin.buffers.items()} if at_once else {}
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
        # As the step before left them: backward overwrites them, and a child that is left out gets the gradient 0.
        twin.parameters.gradient[:] = 0.0 if twin._state.skips else 0.7
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
        found, parameters, inputs = self.gradients(), self.twin.parameters, flatten(self.x)
        arrays = {**parameters.views, **inputs}
        for name, given in found.items():
            require_like(self.twin, f"apply_backward: {_shown(name)}", given, arrays[name].shape)
        one_by_one = {name: (arrays[name], given) for name, given in found.items()}
        together = {"": (parameters.vector, parameters.gradient.copy())}
        together |= {leaf: one_by_one[leaf] for leaf in inputs}
        try:
            self._require_slopes(together if self._at_once else one_by_one)
        except DerivativeError:
            if self._at_once:
                self._require_slopes(one_by_one)  # which names the parameter
            raise
        return found

    def _require_slopes(self, gradients: dict[str, tuple[Array, Array]]) -> None:
        limits = flatten(self._limits)
        for name, (array, given) in gradients.items():
            for power in (1.7, 1.9):
                direction = np.sin(np.arange(1.0, 1.0 + array.size) ** power).reshape(array.shape)
                direction *= np.isinf(limits.get(name, np.inf))  # ids stay
                _require_slope(f"{self.name}: {_shown(name)}", self._value, array, given, direction)

    def _value(self) -> float:
        outputs = leaves(self._output(self._new_record()))
        return sum(float(np.sum(gradient * a)) for gradient, a in zip(leaves(self.gradient), outputs, strict=True))

    def _output(self, record: Any) -> Any:
        for name, value in self._buffers.items():
            self.twin.buffers[name][...] = value
        return map_leaves(np.asarray, self.twin.apply(self.x, self.twin.parameters.views, record))

    def _new_record(self) -> Any:
        record = self.twin._new_record(training=True)
        record.key = (0, 0, 0)
        return record


def _shown(name: str) -> str:
    if name == "x" or name.startswith("x["):
        return f"dL/d{name}, which it returns,"
    if not name:
        return "the gradient of all parameters"
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
