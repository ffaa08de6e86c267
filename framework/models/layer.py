"""Layer: a model with arrays of its own, and the base of own layers."""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np

from framework.arrays import Array, Record, require_finite
from framework.component import Dtype, Seed
from framework.derivatives import check_direction, require_like
from framework.errors import DerivativeError, SettingsError, nearest
from framework.initializers import Initializer, Zeros
from framework.models.base import Model
from framework.models.state import State
from framework.parameters import Parameters
from framework.random_streams import random_generator


class Layer(Model):
    """A model with arrays of its own. An own layer declares shapes and writes its forward and backward.

    Write ``shapes()``, ``apply`` and ``apply_backward``; ``initializers()`` where zeros will not do; ``input_shape``
    and ``output_shape`` where they are not one axis of any size. ``record`` holds what forward leaves for backward:
    ``record["x"] = x``; ``record.array(name, shape)`` is memory that is kept from step to step; ``record.key`` is the
    key of this pass's random numbers and ``record.training`` tells training from prediction.

    An own layer's gradients are checked against differences of its outputs when it is first put to work.

    Attributes:
        check: ``"off"`` for gradients that differ from the outputs' on purpose.
        seed: What the first values are drawn from; None leaves it to the model that the layer becomes part of.
        dtype: "float64" or "float32".

    Example:
        >>> from framework import Constant
        >>> class Scale(Layer):
        ...     units: int
        ...
        ...     def shapes(self):
        ...         return {"scale": (self.units,)}
        ...
        ...     def initializers(self):
        ...         return {"scale": Constant(value=1.0)}
        ...
        ...     def apply(self, x, values, record):
        ...         record["x"] = x
        ...         return x * values["scale"]
        ...
        ...     def apply_backward(self, gradient, values, record, gradients):
        ...         np.sum(gradient * record["x"], axis=0, out=gradients["scale"])
        ...         return gradient * values["scale"]
        >>> Scale(units=2)([3.0, 4.0])
        array([3., 4.])
    """

    check: ClassVar[Literal["on", "off"]] = "on"
    keeps: ClassVar[str] = "what forward leaves for backward goes into record['name']"

    seed: Seed | None = None
    dtype: Dtype = "float64"

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Unpair a class that writes ``apply`` anew: the output activation that it inherits no longer ends it."""
        super().__pydantic_init_subclass__(**options)
        own = vars(cls)
        if ":" in cls.tag() and "apply" in own and "output_activation" not in own:
            cls.output_activation = Model.output_activation  # type: ignore[method-assign]

    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each parameter by name, in the order of the flat vector."""

    def initializers(self) -> Mapping[str, Initializer]:
        """Return what draws each parameter; what is not named starts at 0."""
        return {}

    def initial_buffers(self) -> Mapping[str, Array]:
        """Return the buffers' first values by name: numbers that are saved and that no optimizer sees."""
        return {}

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """The shape of one sample; one axis of any size unless the class says otherwise."""
        return (None,)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """The shape of one prediction; that of the input unless the class says otherwise."""
        return self.input_shape

    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, without making any."""
        shapes = self.shapes()
        if not isinstance(shapes, Mapping) or not all(isinstance(shape, tuple) for shape in shapes.values()):
            kind = type(self).__name__
            raise SettingsError(f"{kind}.shapes must return a tuple for each name, {{'weights': (3,)}}; got {shapes!r}")
        return dict(shapes)

    def _build(self, *place: int, draw: bool = True) -> State:
        if self.check == "on" and ":" in self.tag():  # an own layer; the library's are checked by its tests
            _require_checked(self)
        return self._laid_out(*place, draw=draw)

    def _laid_out(self, *place: int, draw: bool = True) -> State:
        parameters = Parameters(self.layout(), self.dtype)
        initializers = self.initializers()
        if unknown := set(initializers) - set(parameters):
            raise SettingsError(
                f"{type(self).__name__}.initializers names '{min(unknown)}', which shapes() does not have"
                f"{nearest(min(unknown), parameters)}; there are: {', '.join(parameters)}"
            )
        place = place if self.seed is None else (self.seed,)
        seed, *counters = place or (0,)
        for index, (name, view) in enumerate(parameters.items() if draw else ()):
            rng = random_generator(seed, "initialize", *counters, index)
            view[...] = _drawn(initializers.get(name, Zeros()), view.shape, rng)
        buffers = {name: np.array(value) for name, value in self.initial_buffers().items()}
        return State(parameters, buffers, self._new_record(training=True))

    def _new_record(self, *, training: bool) -> Record:
        return Record(self.dtype, training=training)

    def _undrawn(self) -> Self:
        return self._made_of(self.settings())

    def _twin(self) -> Self:
        twin = self._made_of(self.settings())
        source = self._state if self._owner is None else self._built()
        if source is not None:
            parameters = source.parameters
            state = twin._built(draw=False)
            state.fill(parameters.vector, source.buffers, parameters.frozen, source.columns)
            state.parameters.gradient = parameters.gradient
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as settings and numbers; the views are made anew."""
        state = self._state if self._owner is None else self._built()
        if state is None:
            return _unpickle, (type(self), self.settings(), None)
        numbers = (np.array(state.parameters.vector), dict(state.buffers), state.parameters.frozen, state.columns)
        return _unpickle, (type(self), self.settings(), numbers)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the settings that differ from their defaults, the class's own first."""
        fields = type(self).model_fields
        inherited = Layer.model_fields
        names = [name for name in fields if name not in inherited] + [name for name in fields if name in inherited]
        return [
            (n, getattr(self, n)) for n in names if fields[n].is_required() or getattr(self, n) != fields[n].default
        ]

    def _summary_rows(self, prefix: str) -> list[tuple[str, tuple[int | None, ...], int]]:
        activation = self.output_activation
        inside = type(activation).__name__ if activation is not None else ""
        name = f"{prefix} {type(self).__name__}({inside})".strip()
        return [(name, self.output_shape, self.parameters.vector.size)]


def _drawn(initializer: Initializer, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return an initializer's values, or refuse another shape and what is not finite."""
    values = np.asarray(initializer(shape, rng))
    require_like(initializer, "__call__", values, shape)
    require_finite(values, f"the values of {initializer!r}")
    return values


_CHECKED: weakref.WeakKeyDictionary[type, set[str]] = weakref.WeakKeyDictionary()
"""The settings with which each class has passed its check: once is enough, and a class made anew is another one."""


def _require_checked(layer: Layer) -> None:
    passed = _CHECKED.setdefault(type(layer), set())
    settings = repr(layer.settings())
    if settings not in passed and check_layer(layer):
        passed.add(settings)


def check_layer(layer: Any) -> bool:
    """Compare a layer's gradients, of every parameter and of the input, with differences of its outputs.

    The layer is tried on a made-up batch. One that cannot take it (its input has a special form) is left unchecked:
    check it with ``check_gradients`` on a batch of its own.

    Returns:
        Whether the layer could take the made-up batch, so that the check was made.

    Raises:
        DerivativeError: A gradient is wrong; names it.
    """
    twin = layer.replace(dtype="float64", seed=0)
    state = twin._laid_out(0)
    object.__setattr__(twin, "_state", state)
    state.parameters.vector[:] = _waves(state.parameters.vector.shape) + 0.1
    views = state.parameters.views
    # An axis of any size is given that of a setting, which may be the number of units.
    sizes = [value for value in layer.settings().values() if type(value) is int and 0 < value < 1000]
    for size in (*sizes, 4):
        x = _waves((3, *(size if axis is None else axis for axis in twin.input_shape)))
        record = twin._new_record(training=True)
        record.key = (0, 0, 0)
        try:
            with np.errstate(all="ignore"):
                before = x.copy()
                gradient = _waves(np.shape(twin.apply(x, views, record)))
        except Exception:  # noqa: BLE001 (whatever it is, the made-up batch is to blame)
            continue
        _compare(layer, twin, x, before, gradient, record)
        return True
    return False


def _compare(layer: Any, twin: Any, x: Array, before: Array, gradient: Array, record: Record) -> None:
    """Compare the gradients of a layer's twin on a batch with differences of sum(gradient * outputs)."""
    views, gradients = twin.parameters.views, twin.parameters.gradients
    with np.errstate(all="ignore"):
        twin.parameters.gradient[:] = 0.7  # what the step before left, which backward overwrites
        given_gradient = gradient.copy()
        result = np.array(twin.apply_backward(given_gradient, views, record, gradients))
        checks = [("apply", "x", x, before), ("apply_backward", "gradient", given_gradient, gradient)]
        for method, name, array, kept in checks:
            if not np.array_equal(array, kept):
                raise DerivativeError(
                    f"{type(layer).__name__}.{method} changes its argument '{name}' in place; make a new array"
                )

        def value() -> float:
            trial = twin._new_record(training=True)
            trial.key = (0, 0, 0)
            return float(np.sum(gradient * np.asarray(twin.apply(x, views, trial))))

        found = {name: (views[name], gradients[name].copy()) for name in views}
        for name, (array, given) in {**found, "x": (x, result)}.items():
            what = "dL/dx, which it returns," if name == "x" else f"gradients['{name}']"
            require_like(layer, f"apply_backward: {what}", given, array.shape)
            check_direction(f"{type(layer).__name__}.apply_backward: {what}", value, array, given)


def _waves(shape: tuple[int, ...]) -> Array:
    """Return numbers of both signs without any symmetry."""
    return np.cos(np.arange(1.0, 1.0 + math.prod(shape)) ** 1.3).reshape(shape)


def _unpickle(cls: type[Layer], settings: dict[str, Any], numbers: Any) -> Layer:
    layer = cls._made_of(settings)
    if numbers is not None:
        layer._built(draw=False).fill(*numbers)
    return layer
