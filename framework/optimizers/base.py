"""Optimizers: how a gradient becomes a change of the parameters.

A subclass writes one formula, ``update``, on flat arrays and in place. Nothing is hidden: plain SGDOptimizer is
``w -= learning_rate * gradient``, without clipping, decay or momentum.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any, ClassVar, NoReturn

from framework.arrays import Array
from framework.errors import SettingsError, UsageError
from framework.models import Model
from framework.models.parameters import Parameters
from framework.optimizers.bound import BoundOptimizer
from framework.schedules import Schedule
from framework.settings.component import Component, NonNegative, Positive


class Optimizer(Component):
    """The base of optimizers: name the memory and write ``update``.

    It is a frozen component. ``recipe.bind(model)``, or ``SGDOptimizer(model, ...)`` in one step, gives a
    ``BoundOptimizer``, which has memory and makes the updates. A Trainer takes the recipe and binds it in ``fit``.
    ``isinstance(optimizer.recipe, SGDOptimizer)`` tells which optimizer a bound one is.

    Args:
        model: The model to bind to; None gives the recipe.

    Attributes:
        learning_rate: The rate of every step: a positive number, or a Schedule.
        clip_norm: Scale the whole gradient down to this Euclidean norm when it is longer; None does not.
        clip_value: Hold each element of the gradient within +-clip_value, after clip_norm; None does not.
        rate_factors: Pairs (pattern, factor) that multiply the learning rate of the parameters whose names match, such
            as ``(("0.*", 0.1),)``. The last pattern that matches a name counts.
        decay_factors: The same for ``weight_decay``, such as ``(("*.bias", 0.0),)``.
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
    rate_factors: tuple[tuple[str, NonNegative], ...] = ()
    decay_factors: tuple[tuple[str, NonNegative], ...] = ()

    memory: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[str] = "bind(model) gives one that changes, with the arrays that memory = ('name',) names"
    elementwise: ClassVar[bool] = False
    squares: ClassVar[bool] = False

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
        for name in ("step", "rate"):
            if name in vars(cls):
                raise SettingsError(
                    f"{cls.__name__}: write update; {name} is a method of the bound optimizer, which calls update"
                )
        wanted = ("self", "values", "gradients", "rate", "step", *cls.memory)
        signature = inspect.signature(cls.update)
        try:
            signature.bind(*wanted)
        except TypeError:
            raise SettingsError(f"{cls.__name__}.update must take ({', '.join(wanted)}); got {signature}") from None

    def __new__(cls, model: Model | None = None, **settings: Any) -> Any:
        """Return a recipe, or an optimizer that is bound to ``model``."""
        if model is None:
            return super().__new__(cls)
        if not isinstance(model, Model):
            advice = (
                "give the model" if isinstance(model, Parameters) else "settings go by name, e.g. learning_rate=0.1"
            )
            raise SettingsError(f"{cls.__name__}: argument 'model' must be a model; got {model!r}; {advice}")
        return cls(**settings).bind(model)

    def __init__(self, model: Model | None = None, **settings: Any) -> None:
        """Validate the settings; ``model`` is what ``__new__`` binds to."""
        super().__init__(**settings)
        if self.decay_factors and "weight_decay" not in type(self).model_fields:
            raise SettingsError(f"{type(self).__name__}: setting 'decay_factors' needs a setting 'weight_decay'")

    @abstractmethod
    def update(self, values: Array, gradients: Array, rate: float, step: int, *memory: Any, **_: Any) -> None:
        """Change ``values`` and the memory in place.

        Args:
            values: Flat parameters: a run of trainable ones, or a block of it when ``elementwise``.
            gradients: Their gradients. Leave them as they are.
            rate: This step's learning rate.
            step: This step's number, from 1.
            *memory: The arrays that ``memory`` names, of the same length, 0 at step 1.
            **_: Never given; type checkers then accept an override that names its memory.
        """

    def bind(self, model: Model) -> BoundOptimizer:
        """Return an optimizer that works on ``model``, with new memory."""
        return BoundOptimizer(self, model)

    # what a bound optimizer can do, so that SGDOptimizer(model, ...) has a type that type checkers know

    @property
    def steps(self) -> int:
        """The number of updates that a bound optimizer has made."""
        self._unbound()

    def rate(self) -> float:
        """Return the learning rate of a bound optimizer's next step."""
        self._unbound()

    def step(self) -> None:
        """Update the model of a bound optimizer once.

        Raises:
            UsageError: The optimizer is a recipe.
        """
        self._unbound()

    def _unbound(self) -> NoReturn:
        raise UsageError(f"{type(self).__name__} is bound to no model: write {type(self).__name__}(model, ...)")
