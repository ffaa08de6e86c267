"""Gradients by hand: those that the class of a layer writes, checked on made-up batches."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from framework.base.arrays import Array, Record, require_like, require_untouched
from framework.base.trees import flatten, leaves, map_leaves
from framework.formulas.derivatives import Check
from framework.graph.trace import share


def check_layer(layer: Any) -> Exception | None:
    """Compare a layer's gradients, of every parameter and of the input, with differences of its outputs.

    The layer is tried on made-up batches of moderate and of larger inputs, and in float32: once for its class, its
    settings, and what it gives for the first batch.

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
        refusal = trial.refusal
        if refusal is None:
            break
    else:
        return refusal

    def check() -> bool:
        narrow, large = _Trial(layer, "float32", size), _Trial(layer, "float64", size, scale=10.0)
        compares = not trial.joins and narrow.refusal is None  # of children, gradients may cancel out
        trial.check(narrow if compares else trial)
        if large.refusal is None:
            large.check(large)
        return True

    share(("gradients", type(layer), repr(layer.settings()), trial.digest()), check)
    return None


class _Trial:
    """A copy of a layer with made-up numbers and a made-up batch.

    Attributes:
        joins: Whether the layer is a model of several.
        refusal: The error with which the layer refuses the batch, or None.
    """

    def __init__(self, layer: Any, dtype: str, size: int, scale: float = 1.0) -> None:
        """Make them; ``size`` is that of open axes, and ``scale`` that of the inputs."""
        self._twin, self.joins = layer.in_dtype(dtype), hasattr(layer, "parts")
        twin = self._twin
        object.__setattr__(twin, "_state", twin._laid_out(0))
        twin.parameters.lay_out()
        twin.parameters.vector[:] = _draw_waves(twin.parameters.vector.shape, 1.3) + 0.125
        # A layer by hand may take its own buffers for constants; those of a child must not change the next output.
        self._buffers = {name: value.copy() for name, value in twin.buffers.items()} if self.joins else {}

        def fill_sizes(shape: Any) -> tuple[int, ...]:
            return tuple(size if axis is None else axis for axis in shape if axis is not ...)

        def scale_wave(wave: Array, limit: Array) -> Array:
            ids = np.abs(wave) * 2.0**12 % np.where(np.isinf(limit), 1.0, limit)  # a wave is whole at this scale
            return np.where(np.isinf(limit), wave * scale, ids).astype(dtype)

        samples = map_leaves(fill_sizes, twin.input_shape)
        self._limits = twin.cardinalities(samples)
        self._x = map_leaves(scale_wave, _draw_waves(map_leaves(lambda shape: (3, *shape), samples), 1.3), self._limits)
        self.refusal: Exception | None = None
        try:
            with np.errstate(all="ignore"):
                output = self._run_apply(map_leaves(np.copy, self._x))[0]
        except Exception as error:  # noqa: BLE001 (whatever it is, the made-up batch is to blame)
            self.refusal = error
        else:
            waves = _draw_waves(map_leaves(np.shape, output), 1.7)
            self._gradient = map_leaves(lambda wave: wave.astype(dtype), waves)

    def digest(self) -> str:
        """Return a text that changes with the outputs and the gradients of the batch."""
        results = *self.gradients().values(), *leaves(self._run_apply(self._x)[0])
        return hashlib.sha256(b"".join(array.tobytes() for array in results)).hexdigest()

    def check(self, narrow: _Trial) -> None:
        """Compare the gradients with differences along two directions, and with those of a trial in float32.

        Raises:
            DerivativeError: They differ.
        """
        gradients = {np.dtype(np.float32): narrow.gradients(), np.dtype(np.float64): self.gradients()}
        arrays, limits = {**self._twin.parameters.views, **flatten(self._x)}, flatten(self._limits)

        def pullback(name: str, directions: Array, _gradient: Array, moves: Array) -> Array:
            return gradients[moves.dtype][name].reshape(1, -1) @ directions.T

        for name, array in arrays.items():
            shown = f"dL/d{name}, which it returns," if name in limits else f"gradients['{name}']"
            method = f"apply_backward: {shown}"
            require_like(self._twin, method, gradients[array.dtype][name], array.shape)
            free = np.isinf(np.broadcast_to(limits.get(name, np.inf), array.shape)).reshape(1, -1)  # ids stay
            directions = free * [np.sin(np.arange(1.0, 1.0 + array.size) ** power) for power in (1.7, 1.9)]
            formula, slope = partial(self._move_along, array, directions), partial(pullback, name, directions)
            Check(self._twin, method, formula, slope, np.zeros((1, 2)), "moves", along_directions=True).run()

    def gradients(self) -> dict[str, Array]:
        """Return the gradients that the layer gives, that of the input last."""
        twin, name = self._twin, type(self._twin).__name__
        _, record = require_untouched(f"{name}.apply", flatten(self._x), lambda: self._run_apply(self._x))
        # As the step before left them: a layer overwrites them, and a child that is left out gets the gradient 0.
        twin.parameters.gradient[:] = 0.0 if self.joins else 0.7
        gradient, parameters = map_leaves(np.copy, self._gradient), twin.parameters
        result = require_untouched(
            f"{name}.apply_backward",
            flatten(gradient, "gradient"),
            lambda: twin.apply_backward(gradient, parameters.views, record, parameters.gradients),
        )
        return {name: np.array(values) for name, values in {**parameters.gradients, **flatten(result)}.items()}

    def _move_along(self, array: Array, directions: Array, moves: Array) -> Array:
        """Return [sum(gradient * output)], with one of the arrays moved along directions."""
        kept = array.copy()
        array += (moves @ directions).reshape(array.shape)
        try:
            outputs = leaves(self._run_apply(self._x)[0])  # which may be views of the array
            return np.array([sum(np.sum(g * a) for g, a in zip(leaves(self._gradient), outputs, strict=True))])
        finally:
            array[...] = kept

    def _run_apply(self, x: Any) -> tuple[Any, Record]:
        """Run ``apply`` with the buffers as they were; return the output and the record of the pass."""
        for name, value in self._buffers.items():
            self._twin.buffers[name][...] = value
        record = Record(self._twin.dtype, training=True)
        record.begin(x, (0, 0, 0))
        return map_leaves(np.asarray, self._twin.apply(x, self._twin.parameters.views, record)), record


def _draw_waves(shapes: Any, power: float) -> Any:
    """Return numbers of both signs without any symmetry, the same in float32 as in float64, for a tree of shapes."""
    powers = count(power, 0.03)  # leaves of equal numbers could cancel out

    def wave(shape: tuple[int, ...]) -> Array:
        numbers = np.cos(np.arange(1.0, 1.0 + math.prod(shape)) ** next(powers))
        return np.round(numbers * 2.0**12).reshape(shape) / 2.0**12

    return map_leaves(wave, shapes)
