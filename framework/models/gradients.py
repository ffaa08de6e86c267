"""Check the gradients of layers written by hand, with differences of their outputs on a made-up batch."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from framework.arrays import Array, Record, require_like, require_untouched
from framework.derivatives import Check
from framework.graph.trace import share
from framework.trees import flatten, leaves, map_leaves, sample_shape


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
        refusal = trial.refusal(1.0)
        if refusal is None:
            break
    else:
        return refusal

    def check() -> bool:
        narrow = _Trial(layer, "float32", size)
        compares = not trial.joins and not narrow.refusal(1.0)  # of children, gradients may cancel out
        trial.check(narrow if compares else trial)
        if not trial.refusal(10.0):
            trial.check(trial)
        return True

    share(("gradients", type(layer), repr(layer.settings()), trial.digest()), check)
    return None


class _Trial:
    """A copy of a layer with made-up numbers.

    Attributes:
        twin: The copy.
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

        self.x = map_leaves(scaled, self._x, self._limits)
        try:
            with np.errstate(all="ignore"):
                output = self._output(map_leaves(np.copy, self.x))[0]
        except Exception as error:  # noqa: BLE001 (whatever it is, the made-up batch is to blame)
            return error
        powers = count(1.7, 0.03)
        self.gradient = map_leaves(lambda leaf: _waves(leaf.shape, next(powers)).astype(self.twin.dtype), output)
        return None

    def digest(self) -> str:
        """Return a text that changes with the outputs and the gradients of the batch."""
        results = *self.gradients().values(), *leaves(self._output(self.x)[0])
        return hashlib.sha256(b"".join(array.tobytes() for array in results)).hexdigest()

    def check(self, narrow: _Trial) -> None:
        """Compare the gradients with differences along two directions, and with those of a trial in float32.

        Raises:
            DerivativeError: They differ.
        """
        gradients = {np.dtype(np.float32): narrow.gradients(), np.dtype(np.float64): self.gradients()}
        arrays, limits = {**self.twin.parameters.views, **flatten(self.x)}, flatten(self._limits)

        def pullback(name: str, _gradient: Array, offset: Array) -> Array:
            return gradients[offset.dtype][name].reshape(1, -1)

        for name, array in arrays.items():
            shown = f"dL/d{name}, which it returns," if name in limits else f"gradients['{name}']"
            method = f"apply_backward: {shown}"
            require_like(self.twin, method, gradients[array.dtype][name], array.shape)
            moves = np.isinf(np.broadcast_to(limits.get(name, np.inf), array.shape)).reshape(1, -1)  # ids stay
            Check(
                self.twin,
                method,
                partial(self._moved, array),
                partial(pullback, name),
                np.zeros((1, array.size)),
                directions=moves * [np.sin(np.arange(1.0, 1.0 + array.size) ** power) for power in (1.7, 1.9)],
            ).run()

    def gradients(self) -> dict[str, Array]:
        """Return the gradients that the layer gives, that of the input last."""
        twin, name = self.twin, type(self.twin).__name__
        _, record = require_untouched(f"{name}.apply", flatten(self.x), lambda: self._output(self.x))
        # As the step before left them: a layer overwrites them, and a child that is left out gets the gradient 0.
        twin.parameters.gradient[:] = 0.0 if self.joins else 0.7
        gradient, parameters = map_leaves(np.copy, self.gradient), twin.parameters
        result = require_untouched(
            f"{name}.apply_backward",
            flatten(gradient, "gradient"),
            lambda: twin.apply_backward(gradient, parameters.views, record, parameters.gradients),
        )
        return {name: np.array(values) for name, values in {**parameters.gradients, **flatten(result)}.items()}

    def _moved(self, array: Array, offset: Array) -> Array:
        """Return [sum(gradient * output)], with an offset to one of the arrays."""
        kept = array.copy()
        array += offset.reshape(array.shape)
        try:
            outputs = leaves(self._output(self.x)[0])
        finally:
            array[...] = kept
        return np.array([sum(np.sum(g * a) for g, a in zip(leaves(self.gradient), outputs, strict=True))])

    def _output(self, x: Any) -> tuple[Any, Record]:
        """Return the output of a batch, and the record of the pass."""
        for name, value in self._buffers.items():
            self.twin.buffers[name][...] = value
        record = Record(self.twin.dtype, training=True)
        record.begin(x, (0, 0, 0))
        return map_leaves(np.asarray, self.twin.apply(x, self.twin.parameters.views, record)), record


def _waves(shape: tuple[int, ...], power: float) -> Array:
    """Return numbers of both signs without any symmetry, the same in float32 as in float64."""
    return np.round(np.cos(np.arange(1.0, 1.0 + math.prod(shape)) ** power) * 2.0**12).reshape(shape) / 2.0**12
