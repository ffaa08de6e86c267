"""Parameters: every number that a model learns, in one flat vector, with one flat gradient beside it.

A name leads to a view into the vector, so an optimizer updates the whole model with one formula on flat arrays. When a
layer becomes part of a model its numbers move into the model's vector, and its own Parameters become views of that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np
import numpy.typing as npt

from framework.backends.step import Half, Pass, Passes, Workspace
from framework.base.arrays import Array, Arrays, real_array
from framework.base.errors import DivergedError, SettingsError, ShapeError, UsageError, nearest
from framework.preprocessing.fitted import FittedPreprocess


class Views(dict[str, Array]):
    """Array views by name, which are written into and never replaced: a replaced one would no longer reach the model.

    Example:
        >>> gradients = Views(weights=np.zeros(2))
        >>> gradients["weights"][...] = [1.0, 2.0]
        >>> gradients["weights"] = np.ones(2)
        Traceback (most recent call last):
        framework.base.errors.UsageError: write into the array: ...['weights'][...] = value; a new array would be lost
    """

    def __setitem__(self, name: str, value: Array) -> None:
        """Take what an in-place operator gives back, and refuse any other array."""
        if self.get(name) is not value:
            raise UsageError(f"write into the array: ...['{name}'][...] = value; a new array would be lost")

    def update(self, *values: Any, **named: Array) -> None:
        for name, value in dict(*values, **named).items():
            self[name] = value

    def __ior__(self, values: Any) -> Self:  # type: ignore[override,misc]
        self.update(values)
        return self

    def _refuse(self, *arguments: Any) -> NoReturn:
        raise UsageError(
            "the arrays of a model cannot be replaced or removed", advice="write into one: ...['name'][...] = value"
        )

    __delitem__ = clear = pop = popitem = setdefault = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle as a plain dict: copies are not views."""
        return dict, (dict(self),)


class Parameters(Mapping[str, Array]):
    """A mapping from name to an array view into ``vector``.

    Attributes:
        vector: All values, flat. Assigning copies into it, like every change.
        gradient: dL/d(vector), as the last backward left it; 0 where a parameter is frozen.
        gradients: A mapping from name to the view into ``gradient``.
        views: The same mapping as a plain dict, for hot loops.
        frozen: The names of the frozen parameters, in order.
        frozen_gradients: The gradient views of the frozen parameters.
        bound: Whether an optimizer has been bound to these parameters.
        version: Counts freezing and unfreezing and moves into a larger model, after which views must be taken again.

    Example:
        >>> parameters = Parameters({"weights": (2,), "bias": ()}, "float64")
        >>> parameters["weights"][:] = [0.1, 0.2]
        >>> parameters.vector
        array([0.1, 0.2, 0. ])
        >>> parameters.freeze("bias")
        >>> parameters.trainable_runs()
        [slice(0, 2, None)]
    """

    vector: Array
    gradient: Array
    frozen: tuple[str, ...]

    __slots__ = (
        "_frozen",
        "_parent",
        "_parts",
        "_shapes",
        "bound",
        "frozen",
        "frozen_gradients",
        "gradient",
        "gradients",
        "vector",
        "version",
        "views",
    )

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: npt.DTypeLike) -> None:
        """Lay out zeros of these shapes, in this order."""
        self.version = 0
        self.bound = False
        self._parent: Parameters | None = None
        self._parts: dict[str, Parameters] = {}
        self._frozen: set[str] = set()
        self._shapes = dict(shapes)
        self._lay(shapes, np.zeros(self._size, dtype), np.zeros(self._size, dtype))

    @property
    def _size(self) -> int:
        return sum(map(math.prod, self._shapes.values()))

    def _lay(self, shapes: Mapping[str, tuple[int, ...]], vector: Array, gradient: Array) -> None:
        """Point at these flat arrays and make the views."""
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "gradient", gradient)
        self.views, self.gradients = _views(shapes, vector), _views(shapes, gradient)
        self._refresh()

    def __call__(self, *_: object) -> NoReturn:
        """Refuse: it is not a method."""
        raise UsageError("parameters is not a method: leave out its brackets; an optimizer takes the model itself")

    def __setattr__(self, name: str, value: Any) -> None:
        """Copy what is assigned to ``vector`` or ``gradient`` into them: another array would not reach the model."""
        if name not in ("vector", "gradient"):
            object.__setattr__(self, name, value)
        elif np.shape(value) != self.vector.shape:
            raise ShapeError(f"parameters.{name} must have the shape {self.vector.shape}; got {np.shape(value)}")
        elif value is not (array := getattr(self, name)):
            array[...] = real_array(value, f"parameters.{name}", array.dtype)

    @classmethod
    def join(cls, parts: Mapping[str, Parameters], dtype: npt.DTypeLike) -> Parameters:
        """Return parameters made of parts, named ``part.name``: ``lay_out`` of the whole moves them into one vector."""
        joined = cls({}, dtype)
        joined._parts = dict(parts)
        joined._shapes = {
            f"{key}.{name}": shape for key, child in parts.items() for name, shape in child._shapes.items()
        }
        for child in parts.values():
            child._parent = joined
        return joined

    def lay_out(self) -> None:
        """Move the parts into one vector, of which they become views."""
        if self._parts:
            self._move(*(np.zeros(self._size, self.vector.dtype) for _ in range(2)))

    def views_of(self, vector: Array) -> Views:
        """Return the views of the parameters into another flat array, such as a gradient, by name."""
        return _views(self._shapes, vector)

    def _move(self, vector: Array, gradient: Array) -> None:
        """Copy the values into a part of a larger vector, and become a view of it."""
        start = 0
        for child in self._parts.values():
            span = slice(start, start := start + child._size)
            child._move(vector[span], gradient[span])
        if not self._parts:
            vector[...] = self.vector
        self._lay(self._shapes, vector, gradient)

    def freeze(self, *names: str) -> None:
        """Stop training these parameters; all of them when none is named.

        Args:
            *names: Names, or patterns such as ``"0.*"`` and ``"*bias"``.

        Raises:
            SettingsError: There is no parameter of that name.
        """
        self._set_frozen(names, frozen=True)

    def unfreeze(self, *names: str) -> None:
        """Train these parameters again; the reverse of ``freeze``.

        Raises:
            SettingsError: There is no parameter of that name.
        """
        self._set_frozen(names, frozen=False)

    def _set_frozen(self, names: tuple[str, ...], *, frozen: bool) -> None:
        known = tuple(self.views)
        chosen = {match for pattern in names for match in matching(pattern, known)} if names else {*known}
        self._mark([name for name in self.views if name in chosen], frozen)
        node = self._parent
        while node is not None:
            node._refresh()
            node = node._parent

    def _mark(self, names: list[str], frozen: bool) -> None:
        inside: dict[str, list[str]] = {}
        for name in names if self._parts else ():
            key, _, rest = name.partition(".")
            inside.setdefault(key, []).append(rest)
        for key, rests in inside.items():
            self._parts[key]._mark(rests, frozen)
        if not self._parts:
            self._frozen = self._frozen.union(names) if frozen else self._frozen.difference(names)
        self._refresh()

    def _refresh(self) -> None:
        self.version += 1
        inside = (f"{key}.{name}" for key, child in self._parts.items() for name in child.frozen)
        self.frozen = (*inside, *(name for name in self.views if name in self._frozen))
        self.frozen_gradients = tuple(self.gradients[name] for name in self.frozen)
        for gradient in self.frozen_gradients:
            gradient[...] = 0.0

    def trainable_runs(self) -> list[slice]:
        """Return the longest runs of the flat vector that hold no frozen parameter."""
        return [run for _, run in self.groups(dict.fromkeys(self.views))]

    def groups(self, labels: Mapping[str, Any]) -> list[tuple[Any, slice]]:
        """Return the longest runs of the flat vector that hold trainable parameters of one label, with the label."""
        return label_runs(self.views, {name: labels[name] for name in labels.keys() - {*self.frozen}})

    def __getitem__(self, name: str) -> Array:
        try:
            return self.views[name]
        except KeyError:
            raise KeyError(_describe_unknown(name, self.views)) from None

    def __setitem__(self, name: str, value: Any) -> NoReturn:
        """Refuse: another array would not reach the model."""
        raise UsageError(f"write into the array: parameters['{name}'][...] = value")

    def __iter__(self) -> Iterator[str]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)

    def __repr__(self) -> str:
        frozen = self.frozen
        rows = ", ".join(f"{n}: {v.shape}{' frozen' if n in frozen else ''}" for n, v in self.items())
        return f"Parameters({rows})"


def label_runs(views: Mapping[str, Array], labels: Mapping[str, Any]) -> list[tuple[Any, slice]]:
    """Return the longest runs of a flat vector whose parameters have one label, with the label; skip the others."""
    runs, start = list[tuple[Any, slice]](), 0
    for name, view in views.items():
        stop = start + view.size
        if view.size and name in labels:
            if runs and runs[-1][1].stop == start and runs[-1][0] == labels[name]:
                start = runs.pop()[1].start
            runs.append((labels[name], slice(start, stop)))
        start = stop
    return runs


def _views(shapes: Mapping[str, tuple[int, ...]], vector: Array) -> Views:
    """Return views into a flat array, by name."""
    views, start = dict[str, Array](), 0
    for name, shape in shapes.items():
        views[name] = vector[start : (start := start + math.prod(shape))].reshape(shape)
    return Views(views)


class Columns(NamedTuple):
    """The names of the columns of the frames that a model was fitted with, and what makes numbers of them.

    Names are None of what was no frame. ``trained`` says whether the weights have been trained since ``preprocess`` was
    set, and ``shape`` is that of the samples of the last ``fit``.
    """

    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    preprocess: FittedPreprocess | None = None
    trained: bool = False
    shape: Any = None


class State:
    """The changing part of a model: its numbers, and its last forward.

    Attributes:
        parameters: The numbers that are learnt.
        buffers: Numbers that are saved and that no optimizer sees; written into, never replaced.
        dtype: That of all numbers.
        columns: Those of the frames that the model was fitted with.
        training: Held while the model is trained, which one run at a time may do.
        accepted: The shape of the last batch, or the shapes by name: a batch like it needs no further check.
        limits: How many ids the numbers in samples may be, None for samples without ids, by the shape of samples that
            were checked.
        passes: The passes by the form of samples, and what is frozen; of the formulas as they were last traced.
        losses: The losses that backward passes began with, as functions.
        shapes: The shapes of predictions, by that of a sample.
        identity: The origin of the formulas; see ``Model.identity``.
        programs: Programs that call Python for this model, by the keys of their graphs.
        done: The last forward, or None.
        like: The shape of an x that this pass may be repeated for, or None.
        half: The backward pass of a loss that came after it, or None.
        ready: Whether no backward has used it up yet.
        workspace: The working memory of passes in training.
        workspaces: Those of predictions of few rows that have ended; as many as were ever made at the same time.
        products: The multiply-adds of the largest product of a sample, by its shape.
    """

    def __init__(self, parameters: Parameters, buffers: Arrays, dtype: npt.DTypeLike) -> None:
        """Hold the numbers of a built model."""
        self.parameters = parameters
        self.buffers = Views(buffers)
        self.dtype = np.dtype(dtype)
        self.columns = Columns()
        self.training = threading.Lock()
        self.accepted: Any = ()
        self.limits: dict[Any, Any] = {}
        self.passes: dict[Any, Passes] = {}
        self.losses: list[tuple[Any, Any]] = []
        self.shapes: dict[Any, Any] = {}
        self.identity: tuple[Any, ...] = ()
        self.programs: dict[Any, Any] = {}
        self.done: Pass | None = None
        self.like: Any = None
        self.half: Half | None = None
        self.ready = False
        self.workspace, self.workspaces = Workspace(), list[Workspace]()
        self.products: dict[Any, int] = {}

    def end_backward(self, before: Array | None) -> None:
        """Use up the last forward; add the gradients ``before`` a backward pass to those that it wrote."""
        self.ready = False
        if before is not None:
            self.parameters.gradient += before
        for frozen in self.parameters.frozen_gradients:
            frozen[...] = 0.0

    def fill(self, values: Array, buffers: Mapping[str, Any], frozen: Iterable[str], columns: Columns) -> None:
        """Write these numbers into the model's own arrays, and freeze what was frozen."""
        self.parameters.vector = values
        for name, value in buffers.items():
            self.buffers[name][...] = value
        self.columns = columns
        if names := tuple(frozen):
            self.parameters.freeze(*names)


@lru_cache(maxsize=256)
def matching(pattern: str, names: tuple[str, ...], setting: str = "") -> tuple[str, ...]:
    """Return the names of parameters that a name or a pattern matches; ``setting`` begins the message.

    Raises:
        SettingsError: It matches none; lists the names.
    """
    matches = (pattern,) if pattern in names else tuple(name for name in names if fnmatchcase(name, str(pattern)))
    if not matches:
        raise SettingsError(setting + _describe_unknown(pattern, names))
    return matches


def _describe_unknown(name: str, names: Collection[str]) -> str:
    return f"there is no parameter {name!r}{nearest(name, names) or '.'} Parameters: {', '.join(names)}"


def require_finite_gradient(parameters: Parameters) -> None:
    """Refuse a gradient with NaN or infinity; a finite one whose square overflows passes.

    Raises:
        DivergedError: Some gradient is not finite; names the parameters.
    """
    bad = [name for name, gradient in parameters.gradients.items() if not np.isfinite(gradient).all()]
    if bad:
        raise DivergedError(
            f"the gradient of {', '.join(bad)} is not finite; the update was not applied. "
            "Lower the learning rate, standardise the inputs, or clip the gradient"
        )
