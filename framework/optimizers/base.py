"""Optimizers: how a gradient becomes a change of the parameters.

A subclass writes one formula, ``update``, on flat arrays and in place. Nothing is hidden: plain SGDOptimizer is
``w -= learning_rate * gradient``, without clipping, decay or momentum.
"""

from __future__ import annotations

import copy
import inspect
import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import PrivateAttr

from framework.arrays import BLOCK, Array, blocks
from framework.component import Component, Positive
from framework.errors import DivergedError, SettingsError, UsageError
from framework.models import Model
from framework.parameters import Parameters, require_finite_gradient
from framework.schedules import Schedule
from framework.schedules.base import rate_at

_vdot = np.vdot  # unlike dot it does not warn where a square overflows


class Binding:
    """What a bound optimizer remembers: its model, its memory, the updates made."""

    __slots__ = ("blocks", "memory", "model", "parameters", "rate", "steps", "updating", "version")

    def __init__(self, model: Model, memory: dict[str, Array]) -> None:
        """Start at step 0."""
        self.model = model
        self.parameters: Parameters = model.parameters
        self.memory = memory
        self.steps = 0
        self.rate = math.nan
        self.updating = False
        self.version = -1
        self.blocks: list[tuple[Array, Array, tuple[Array, ...]]] = []

    def cut(self, elementwise: bool) -> None:
        """Make the views that ``update`` is called with: each longest run of trainable parameters, or blocks of it."""
        parameters = self.parameters
        self.blocks = []
        for run in parameters.trainable_runs():
            size = 2 * BLOCK if elementwise else run.stop - run.start
            for start in range(run.start, run.stop, size):
                part = slice(start, min(start + size, run.stop))
                memory = tuple(array[part] for array in self.memory.values())
                self.blocks.append((parameters.vector[part], parameters.gradient[part], memory))
        self.version = parameters.version


class Optimizer(Component):
    """The base of optimizers: name the memory and write ``update``.

    Without a model, as inside a Trainer, an optimizer is frozen like any component. ``Optimizer(model, ...)`` and
    ``bind(model)`` return one that is bound to the model: it has memory, and you can assign its settings.

    Args:
        model: The model to bind to; None leaves the optimizer unbound.

    Attributes:
        learning_rate: The rate of every step: a positive number, or a Schedule.
        clip_norm: Scale the whole gradient down to this Euclidean norm when it is longer; None does not.
        clip_value: Hold each element of the gradient within +-clip_value, after clip_norm; None does not.
        memory: Names of the arrays that ``update`` is given after its first four arguments, zeros at first.
        squares: Whether ``update`` squares the gradient, so that one whose square overflows must be refused.
        elementwise: Whether each element's update depends on that element alone, so that ``update`` may be called
            on one cache-sized block after another.

    Example:
        >>> from framework import HalfSquaredError, Neuron
        >>> class Momentum(Optimizer):
        ...     momentum: float = 0.9
        ...     memory = ("velocity",)
        ...
        ...     def update(self, values, gradients, rate, step, velocity):
        ...         velocity *= self.momentum
        ...         velocity += gradients
        ...         values -= rate * velocity
        >>> neuron = Neuron.from_weights([1.0])
        >>> optimizer = Momentum(neuron, learning_rate=0.5)
        >>> prediction = neuron.forward([2.0])
        >>> loss = HalfSquaredError().backward(neuron, 0.0)
        >>> optimizer.step()
        >>> neuron.weights
        array([-1.])
    """

    learning_rate: Positive | Schedule
    clip_norm: Positive | None = None
    clip_value: Positive | None = None

    memory: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[str] = "what an optimizer remembers are the arrays that memory = ('name',) names"
    elementwise: ClassVar[bool] = False
    squares: ClassVar[bool] = False

    __slots__ = ("_binding",)  # reading a pydantic private attribute would cost 1.5 microseconds a step
    if TYPE_CHECKING:
        _binding: Binding | None = PrivateAttr()

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Check ``memory`` and the arguments of ``update``; drop an inherited ``elementwise`` with a new ``update``.

        The letters of a text would be taken for names, and the new formula may sum over all elements.
        """
        super().__pydantic_init_subclass__(**options)
        if "update" in vars(cls) and "elementwise" not in vars(cls):
            cls.elementwise = False
        if isinstance(cls.memory, str):
            raise SettingsError(f"{cls.__name__}: write memory = ('{cls.memory}',), with a comma")
        wanted = ("self", "values", "gradients", "rate", "step", *cls.memory)
        signature = inspect.signature(cls.update)
        try:
            signature.bind(*wanted)
        except TypeError:
            raise SettingsError(f"{cls.__name__}.update must take ({', '.join(wanted)}); got {signature}") from None

    def __init__(self, model: Model | None = None, **settings: Any) -> None:
        """Validate the settings, and bind to ``model`` if there is one."""
        if model is not None and not isinstance(model, Model):
            advice = (
                "give the model" if isinstance(model, Parameters) else "settings go by name, e.g. learning_rate=0.1"
            )
            raise SettingsError(f"{type(self).__name__}: argument 'model' must be a model; got {model!r}; {advice}")
        super().__init__(**settings)
        object.__setattr__(self, "_binding", None if model is None else self._bound_to(model))

    @abstractmethod
    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Array) -> None:
        """Change ``values`` and the memory in place.

        Args:
            values: Flat parameters: a run of trainable ones, or a block of it when ``elementwise``.
            gradients: Their gradients. Leave them as they are.
            rate: This step's learning rate.
            step: This step's number, from 1.
            *memory: The arrays that ``memory`` names, of the same length, 0 at step 1.
        """

    def bind(self, model: Model) -> Self:
        """Return a copy of this recipe that works on ``model``, with new memory."""
        bound = self.replace()
        object.__setattr__(bound, "_binding", bound._bound_to(model))
        return bound

    def _bound_to(self, model: Model) -> Binding:
        parameters = model.parameters
        parameters.bound = True
        return Binding(model, {name: np.zeros_like(parameters.vector) for name in self.memory})

    @property
    def binding(self) -> Binding:
        """The memory and the count of a bound optimizer.

        Raises:
            UsageError: The optimizer is an unbound recipe.
        """
        if self._binding is None:
            raise UsageError(f"{type(self).__name__} is bound to no model: write {type(self).__name__}(model, ...)")
        return self._binding

    @property
    def steps(self) -> int:
        """The number of updates made."""
        return self.binding.steps

    def rate(self) -> float:
        """Return the learning rate of the next step.

        Raises:
            SettingsError: A schedule gave a negative number or none.
        """
        if not isinstance(self.learning_rate, Schedule):
            return self.learning_rate
        return rate_at(self.learning_rate, self.binding.steps)

    def step(self) -> None:
        """Update the model once from the gradients that backward left.

        Raises:
            DivergedError: A gradient is not finite; nothing was changed.
            UsageError: The optimizer is unbound, its first update changed nothing, or it moves the values without a
                gradient.
        """
        binding = self._binding or self.binding
        parameters = binding.parameters
        if binding.version != parameters.version:
            binding.cut(self.elementwise)
        gradient = parameters.gradient
        if not math.isfinite(_vdot(gradient, gradient)):
            require_finite_gradient(parameters)
            if self.squares and self.clip_norm is None and self.clip_value is None:
                raise DivergedError(
                    f"{type(self).__name__} squares the gradient, whose square overflows {gradient.dtype}; the update "
                    "was not applied. Lower the learning rate, standardise the inputs, or clip the gradient"
                )
        rate = self.learning_rate
        if type(rate) is not float:
            rate = self.rate()
        if self.clip_norm is not None or self.clip_value is not None:
            self._clip(gradient)
        step = binding.steps + 1
        if step == 1 and ":" in self.tag():  # tests check the library's own
            self._require_rest(rate)
        before = parameters.vector.copy() if step == 1 else None
        binding.updating = True  # stays set when update fails half-way
        for values, gradients, memory in binding.blocks:
            self.update(values, gradients, rate, step, *memory)
        binding.steps = step
        binding.rate = rate
        binding.updating = False
        if before is not None:
            self._require_change(before, rate)

    def _clip(self, gradient: Array) -> None:
        """Clip the gradient in place; a frozen parameter's is 0 and adds nothing to the norm."""
        largest = max(float(gradient.max()), -float(gradient.min())) if gradient.size else 0.0
        if self.clip_norm is not None and largest:
            norm = _norm(gradient, largest)  # in multiples of the largest element, so that no square can overflow
            if norm > self.clip_norm / largest:
                gradient /= largest
                gradient *= self.clip_norm / norm
        if self.clip_value is not None:
            np.clip(gradient, -self.clip_value, self.clip_value, out=gradient)

    def _require_rest(self, rate: float) -> None:
        """Check on copies that a zero gradient with fresh memory does not make the values grow in proportion.

        Decay shrinks them, and noise is not in proportion to them.

        Raises:
            UsageError: It does, as a step of ``values - previous`` does while ``previous`` is 0.
        """
        for values, gradients, memory in self.binding.blocks[:1]:
            moves = []
            for scale in (1.0, 2.0):
                start = scale * values
                trial = start.copy()
                try:
                    with np.errstate(all="ignore"):
                        self.update(trial, np.zeros_like(gradients), rate, 1, *map(np.zeros_like, memory))
                except Exception:  # noqa: BLE001 (the step itself raises it, if it comes again)
                    return
                moves.append(trial - start)
            move, twice = moves
            grows = (move * values > 1e-6 * values * values) & np.isclose(twice, 2.0 * move, rtol=1e-3)
            if values.any() and grows[values != 0].all():
                place = int(np.argmax(np.abs(values)))
                raise UsageError(
                    f"{type(self).__name__}.update moves the values although the gradient and the memory are 0: "
                    f"{values[place]:.6g} becomes {values[place] + move[place]:.6g}. The memory starts at 0 and step "
                    "at 1: a formula with 'values - previous' writes 'if step == 1: previous[...] = values' first"
                )

    def _require_change(self, before: Array, rate: float) -> None:
        binding = self.binding
        moved = not np.array_equal(before, binding.parameters.vector) or any(m.any() for m in binding.memory.values())
        if moved or rate == 0 or not any(gradients.any() for _, gradients, _ in binding.blocks):
            return
        if not np.any(before - rate * binding.parameters.gradient != before):
            return  # the step is too small for the dtype: no formula would have changed anything
        binding.steps = 0
        raise UsageError(
            f"{type(self).__name__}.update changed neither values nor memory although the gradient is not 0; "
            "write in place: 'values -= ...', not 'values = values - ...'"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a validated setting of a bound optimizer; an unbound one is frozen."""
        if self._binding is None and name in type(self).model_fields:
            kind = type(self).__name__
            raise SettingsError(
                f"{kind} is frozen until it is bound: use replace({name}={value!r}), which gives a new one"
            )
        if self._binding is None or name not in type(self).model_fields:
            super().__setattr__(name, value)
            return
        self.__dict__[name] = getattr(self.replace(**{name: value}), name)

    def __hash__(self) -> int:
        """Hash the settings of an unbound recipe; a bound one changes and has no hash."""
        if self._binding is not None:
            raise TypeError(f"unhashable: {type(self).__name__} is bound to a model, its settings may change")
        return hash((type(self), tuple(self.settings().values())))

    def __eq__(self, other: object) -> bool:
        """Compare class and settings; what is bound or remembered does not count."""
        return isinstance(other, Optimizer) and type(self) is type(other) and self.settings() == other.settings()

    def __copy__(self) -> Self:
        """Return an unbound recipe: two optimizers never share memory."""
        return self.replace()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return an optimizer bound to the copied model, with its own memory."""
        make, arguments = self.__reduce__()
        twin: Self = make(*copy.deepcopy(arguments, memo))
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as settings, model and memory."""
        b = self._binding
        held = None if b is None else (b.model, b.memory, b.steps, b.rate, b.updating)
        return _restored, (type(self), self.settings(), held)


def _restored(cls: type[Optimizer], settings: dict[str, Any], held: Any) -> Optimizer:
    optimizer = cls(**settings)
    if held is not None:
        model, memory, steps, rate, updating = held
        model.parameters.bound = True
        binding = Binding(model, memory)
        binding.steps, binding.rate, binding.updating = steps, rate, updating
        object.__setattr__(optimizer, "_binding", binding)
    return optimizer


def _norm(gradient: Array, unit: float) -> float:
    """Return the Euclidean norm in multiples of ``unit``, summed in float64, a block at a time."""
    total = 0.0
    for part in blocks(len(gradient), 1):
        scaled = gradient[part].astype(np.float64) / unit
        total += float(scaled.dot(scaled))
    return math.sqrt(total)
