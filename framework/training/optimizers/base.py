"""Optimizers: how a gradient becomes a change of the parameters.

A subclass writes one formula, ``update``, on flat arrays and in place. Nothing is hidden: plain SGDOptimizer is
``w -= learning_rate * gradient``, without clipping, decay or momentum.
"""

from __future__ import annotations

import dis
import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, NoReturn

import numpy as np

from framework.base.arrays import BLOCK, Array, blocks
from framework.base.errors import DivergedError, SettingsError, UsageError, nearest
from framework.base.settings.component import Component, NonNegative, Positive
from framework.base.settings.messages import elsewhere
from framework.formulas.schedules import Schedule, rate_at
from framework.graph.trace import share
from framework.models import Model
from framework.models.parameters import Parameters, matching, require_finite_gradient

_vdot = inspect.unwrap(np.vdot)  # the bare function; unlike dot it does not warn where a square overflows
_set = object.__setattr__  # past the check of names, which a step need not pay for


class Optimizer(Component):
    """The base of optimizers: name the memory and write ``update``.

    It is a frozen component. ``recipe.bind(model)``, or ``SGDOptimizer(model, ...)`` in one step, gives a
    ``BoundOptimizer``, which has memory and makes the updates. A Trainer takes the recipe and binds it in ``fit``.
    ``isinstance(optimizer.recipe, SGDOptimizer)`` tells which optimizer a bound one is.

    Args:
        model: The model to bind to; None gives the recipe.

    Attributes:
        learning_rate: The rate of every step: a positive number, or a Schedule.
        clip_norm: Scale the whole gradient down to this Euclidean norm if its norm is larger; None leaves it as it is.
        clip_value: Hold each element of the gradient within +-clip_value, after clip_norm; None leaves it as it is.
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
            raise SettingsError(f"write memory = ('{cls.memory}',), with a comma", where=cls.__name__)
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
            rate = model if isinstance(model, int | float) else 0.1
            example = f"settings go by name; write {cls.__name__}(learning_rate={rate})"
            advice = "give the model" if isinstance(model, Parameters) else example
            raise SettingsError("must be a model", name=f"{cls.__name__}: argument 'model'", got=model, advice=advice)
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


class BoundOptimizer:
    """An optimizer at work on a model; ``recipe.bind(model)`` makes one.

    A setting of the recipe is read and assigned as an attribute: ``optimizer.learning_rate = 0.01``. Each assignment is
    validated and replaces the recipe. ``isinstance(optimizer.recipe, SGDOptimizer)`` tells which optimizer it is.

    Attributes:
        recipe: The settings, and the formula ``update``.
        model: The model.
        parameters: Its parameters.
        memory: The arrays that the recipe's ``memory`` names, flat.
        steps: The number of updates made.
        length: The updates of the first ``fit``, for a schedule without a length; None where it has one.
        last_rate: The learning rate of the last update; NaN before the first.
        updating: Whether an update was cut off half-way.

    Example:
        >>> from framework import Neuron, SGDOptimizer
        >>> optimizer = SGDOptimizer(Neuron(2), learning_rate=0.5, momentum=0.9)
        >>> optimizer.learning_rate = 0.25
        >>> optimizer.recipe.learning_rate, optimizer.memory["velocity"], optimizer.steps
        (0.25, array([0., 0., 0.]), 0)
    """

    __slots__ = (
        "_blocks",
        "_clips",
        "_schedule",
        "_version",
        "last_rate",
        "length",
        "memory",
        "model",
        "parameters",
        "recipe",
        "steps",
        "updating",
    )

    def __init__(self, recipe: Optimizer, model: Model) -> None:
        """Start at step 0 with memory of zeros."""
        self.recipe, self.model, self.parameters = recipe, model, model.parameters
        self.memory = {name: np.zeros_like(model.parameters.vector) for name in type(recipe).memory}
        self.steps, self.last_rate, self.updating = 0, math.nan, False
        self.length: int | None = None
        self._schedule: tuple[Schedule | None, int | None, Schedule | None] = None, None, None
        self._blocks: list[tuple[Callable[..., None], float, Array, Array, tuple[Array, ...]]] = []
        self._version = -1
        self._factors()  # raises for a pattern that matches nothing
        self.parameters.bound = True

    def __getattr__(self, name: str) -> Any:
        """Return a setting of the recipe."""
        if name in BoundOptimizer.__slots__:  # while it is copied or unpickled
            raise AttributeError(name)
        if name in type(self.recipe).model_fields:
            return getattr(self.recipe, name)
        kind = type(self.recipe)
        advice = elsewhere(kind, name)
        hint = f": {advice}" if advice else nearest(name, [*kind.model_fields, *BoundOptimizer.__slots__])
        raise AttributeError(f"{kind.__name__} has no {name!r}{hint}", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assign a setting of the recipe, validated, or an attribute."""
        if name == "recipe":
            kind = type(getattr(self, "recipe", value))
            if type(value) is not kind:
                raise SettingsError(
                    f"{kind.__name__}: the recipe of a bound optimizer must be a {kind.__name__}, whose memory it "
                    f"holds; got {type(value).__name__}: bind the other optimizer to the model instead"
                )
            _set(self, "_version", -1)
        if name in BoundOptimizer.__slots__:
            _set(self, name, value)
            return
        self.recipe, self._version = self.recipe.replace(**{name: value}), -1

    def rate(self) -> float:
        """Return the learning rate of the next step.

        Raises:
            SettingsError: A schedule gave a number that is not a rate.
        """
        rate = self.recipe.learning_rate
        return rate_at(self.schedule(rate), self.steps) if isinstance(rate, Schedule) else rate

    def schedule(self, rate: Schedule) -> Schedule:
        """Return the schedule of the learning rate, with the length of the fit where it has none."""
        known, length, schedule = self._schedule
        if schedule is None or known is not rate or length != self.length:
            schedule = rate if self.length is None else rate.over(self.length)
            _set(self, "_schedule", (rate, self.length, schedule))
        return schedule

    def step(self) -> None:
        """Update the model once from the gradients that backward left.

        Raises:
            DivergedError: A gradient is not finite; nothing was changed.
            UsageError: The first update comes before backward, changed nothing, or moves the values without a gradient.
        """
        recipe, parameters = self.recipe, self.parameters
        if self._version != parameters.version:
            self._make_blocks()
        gradient = parameters.gradient
        if not math.isfinite(_vdot(gradient, gradient)):
            require_finite_gradient(parameters)
            if recipe.squares and not self._clips:
                raise DivergedError(
                    f"{type(recipe).__name__} squares the gradient, whose square overflows {gradient.dtype}; the "
                    "update was not applied. Lower the learning rate, standardise the inputs, or clip the gradient"
                )
        rate = recipe.learning_rate
        rate = rate if type(rate) is float else self.rate()
        for clip, limit in self._clips:
            clip(gradient, limit)
        step = self.steps + 1
        before = self._first(rate) if step == 1 else None
        try:
            for update, factor, values, gradients, memory in self._blocks:
                update(values, gradients, rate * factor, step, *memory)
            _set(self, "steps", step)
            _set(self, "last_rate", rate)
        except BaseException:
            self.updating = True
            raise
        if self.updating:
            self.updating = False
        if before is not None:
            self._require_change(before, rate)

    def begin(self) -> None:
        """Note that something else makes updates, which is over when ``count`` is called."""
        _set(self, "updating", True)

    def count(self, steps: int, rate: float) -> None:
        """Count the updates that something else has made, of which the last one had this learning rate."""
        _set(self, "steps", self.steps + steps)
        _set(self, "last_rate", rate)
        _set(self, "updating", False)

    def _make_blocks(self) -> None:
        """Make the views for ``update``: of runs of parameters with the same factors, or of blocks of a run."""
        parameters = self.parameters
        self._blocks = []
        self._clips = [(_CLIPS[name], limit) for name, limit in list_limits(self.recipe).items()]
        for (rate_factor, decay_factor), run in parameters.groups(self._factors()):
            decayed: Any = {} if decay_factor == 1.0 else {"weight_decay": decay_factor * self.weight_decay}
            recipe = self.recipe.replace(**decayed) if decayed else self.recipe
            size = run.stop - run.start
            if recipe.elementwise:
                size = min(size, 16 * BLOCK // parameters.vector.itemsize)  # 128 KiB
            for start in range(run.start, run.stop, size):
                span = slice(start, min(start + size, run.stop))
                memory = tuple(array[span] for array in self.memory.values())
                values, gradients = parameters.vector[span], parameters.gradient[span]
                self._blocks.append((recipe.update, rate_factor, values, gradients, memory))
        self._version = parameters.version

    def _factors(self) -> dict[str, tuple[float, float]]:
        """Return the factors of rate and decay by parameter; the last pattern that matches counts.

        Raises:
            SettingsError: A pattern matches no parameter.
        """
        names = tuple(self.parameters)
        rates, decays = dict.fromkeys(names, 1.0), dict.fromkeys(names, 1.0)
        for setting, factors in (("rate_factors", rates), ("decay_factors", decays)):
            for pattern, factor in getattr(self.recipe, setting):
                matches = matching(pattern, names, f"{type(self.recipe).__name__}: setting '{setting}': ")
                factors.update(dict.fromkeys(matches, factor))
        return {name: (rates[name], decays[name]) for name in names}

    def _require_rest(self, rate: float) -> bool:
        """Check on copies that a zero gradient with fresh memory does not make the values grow in proportion.

        Decay shrinks them, and noise is not in proportion to them.

        Raises:
            UsageError: It does, as a step of ``values - previous`` does while ``previous`` is 0.
        """
        for update, factor, values, gradients, memory in self._blocks[:1]:
            moves = []
            for scale in (1.0, 2.0):
                start = scale * values
                trial = start.copy()
                try:
                    with np.errstate(all="ignore"):
                        update(trial, np.zeros_like(gradients), rate * factor, 1, *map(np.zeros_like, memory))
                except Exception:  # noqa: BLE001 (the step itself raises it, if it comes again)
                    return False
                moves.append(trial - start)
            move, twice = moves
            grows = (move * values > 1e-6 * values * values) & np.isclose(twice, 2.0 * move, rtol=1e-3)
            if values.any() and grows[values != 0].all():
                index = int(np.argmax(np.abs(values)))
                raise UsageError(
                    f"{type(self.recipe).__name__}.update moves the values although the gradient and the memory are 0: "
                    f"{values[index]:.6g} becomes {values[index] + move[index]:.6g}. The memory starts at 0 and step "
                    "at 1: a formula with 'values - previous' writes 'if step == 1: previous[...] = values' first"
                )
        return True

    def _first(self, rate: float) -> Array:
        """Check that the first update comes after backward, and moves no values at rest; return the values before it.

        Without a forward, somebody fills the gradient by hand, and it may be 0.

        Raises:
            UsageError: A forward has run, and no backward after it; or the values would move without a gradient.
        """
        forward, fills = self.model.outermost._built().ready, self.model.training_lock.locked()  # a kernel may
        if forward and not fills and not self.parameters.gradient.any():
            problem = f"{type(self.recipe).__name__}.step: there is no gradient yet"
            raise UsageError(problem, advice="call loss.backward(model, y) after model.forward(x), and then step")
        if self.parameters.vector.any():
            share(("at rest", self.recipe), lambda: self._require_rest(rate))
        return self.parameters.vector.copy()

    def _require_change(self, before: Array, rate: float) -> None:
        """Check that a first update with a gradient changes the values or the memory, and loses no new memory.

        Raises:
            UsageError: It does not; the values are restored.
        """
        if not any(gradients.any() for _, _, _, gradients, _ in self._blocks):
            return
        kind, still = type(self.recipe), {name for name, memory in self.memory.items() if not memory.any()}
        unmoved = rate and np.array_equal(before, self.parameters.vector)
        if unmoved and len(still) == len(self.memory):
            if not np.any(before - rate * self.parameters.gradient != before):
                return  # the step is too small for the dtype: no formula would have changed anything
            message = "changed neither values nor memory although the gradient is not 0; write in place: "
            message += "'values -= ...', not 'values = values - ...'"
        elif lost := (still | {"values"} if unmoved else still) & _rebound(kind.update):
            name = min(lost)
            message = f"makes a new array '{name}', which is lost; write into the one given: '{name}[...] = ...', not "
            message += f"'{name} = ...'"
        else:
            return
        self.parameters.vector, self.steps = before, 0
        raise UsageError(f"{kind.__name__}.update {message}")

    def __repr__(self) -> str:
        return f"<{self.recipe!r} bound to {type(self.model).__name__}, {self.steps} updates made>"

    def __copy__(self) -> Optimizer:
        """Return the recipe: two bound optimizers never share memory."""
        return self.recipe

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as recipe, model and memory."""
        kept = {name: getattr(self, name) for name in ("memory", "steps", "last_rate", "updating")}
        return BoundOptimizer, (self.recipe, self.model), (None, kept)


@lru_cache(maxsize=256)
def _rebound(update: Callable[..., None]) -> set[str]:
    """Return the names that a function assigns after they are given: first by arithmetic, or never in place."""
    function, stores = inspect.unwrap(update), dict[str, list[str]]()
    for before, after in pairwise(dis.get_instructions(function) if inspect.isfunction(function) else ()):
        if after.opname.startswith(("STORE_FAST", "STORE_DEREF")):
            names = after.argval if isinstance(after.argval, tuple) else (after.argval,)
            operator = before.argrepr.strip("[]") if before.opname == "BINARY_OP" else ""
            for name in names[: after.opname.count("STORE")]:  # from Python 3.13 on, it may load or store a second name
                stores.setdefault(name, []).append(operator)
    rebound = set[str]()
    for name, operators in stores.items():
        del operators[: name not in inspect.signature(function).parameters]  # such as 'm, v = memory'
        in_place = [operator.endswith("=") for operator in operators]
        if operators and not in_place[0] and (operators[0] or not any(in_place)):
            rebound.add(name)
    return rebound


def _clip_norm(gradient: Array, limit: float) -> None:
    """Clip the gradient in place; a frozen parameter's is 0 and adds nothing to the norm."""
    largest = max(float(gradient.max()), -float(gradient.min())) if gradient.size else 0.0
    if largest:
        total = 0.0
        for block in blocks(gradient):  # in float64, and in multiples of the largest element: no square can overflow
            scaled = gradient[block].astype(np.float64) / largest
            total += float(scaled.dot(scaled))
        norm = math.sqrt(total)
        if norm > limit / largest:
            gradient /= largest
            gradient *= limit / norm


_CLIPS: dict[str, Callable[[Array, float], object]] = {
    "norm": _clip_norm,
    "value": lambda gradient, limit: np.clip(gradient, -limit, limit, out=gradient),
}
"""The clips in the order in which they apply, as in each engine; the limit of "norm" is the setting ``clip_norm``."""


def list_limits(recipe: Optimizer) -> dict[str, float]:
    """Return the limits of the clips that an optimizer has, by the names of the clips."""
    return {name: limit for name in _CLIPS if (limit := getattr(recipe, f"clip_{name}")) is not None}
