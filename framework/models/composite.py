"""Composite: a model that is made of other models, with all their numbers in one flat vector."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import PrivateAttr

from framework.backends.step import Workspace
from framework.base.arrays import Arrays, Record
from framework.base.errors import DerivativeError, FrameworkError, SettingsError, ShapeError, UsageError, brief, within
from framework.base.settings.component import require_dtype
from framework.base.shapes import Shape, format_shape, is_known, require_sizes
from framework.base.trees import leaves, map_leaves, names, rows_in, sample_shape, take
from framework.formulas.activations import Activation
from framework.graph.walk import Following, Walk, in_order
from framework.models.base import Model, with_models
from framework.models.layer import Layer
from framework.models.parameters import Columns, Parameters, State


class ActivationLayer(Layer):
    """An activation where a layer belongs: a = f(x), with no parameters. Composites make it from an activation.

    Args:
        activation: f.

    Example:
        >>> from framework import ReLU
        >>> ActivationLayer(activation=ReLU())([-1.0, 2.0])
        array([0., 2.])
    """

    activation: Activation

    def model_post_init(self, context: object) -> None:
        """Check the activation's derivative."""
        self.activation.require_derivative()

    def takes(self, shape: Any) -> bool:
        """Return whether samples may have this shape: any, where f works on each number alone."""
        return (isinstance(shape, tuple) and not self.activation.coupled) or super().takes(shape)

    def settle(self, shape: Any) -> Shape:
        """Return the same shape, in which there must be more than one unit for an activation like Softmax."""
        gives = super().settle(shape)
        self.activation.require_units(gives[-1] if gives else None)
        return gives

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    @property
    def output_activation(self) -> Activation:
        return self.activation

    def formula(self, x: Any) -> Any:
        return self.activation(x)

    @property
    def _label(self) -> str:
        return type(self.activation).__name__

    def _summary_rows(self, prefix: str, sample: Shape) -> list[tuple[str, Shape, int]]:
        return [(f"{prefix} {self._label}".strip(), sample, 0)]


class Composite(Model):
    """A model made of other models. Declare them as settings, name them, and write how an array goes through.

    ``children()`` names the models inside; an activation may be among them. ``apply`` calls ``self.forward_child(name,
    x, record)`` and computes with NumPy functions; several calls of a child share its weights. It is traced, and the
    gradients are derived: so it must not branch on numbers or on how many rows there are, and what it prints is printed
    while it is traced. The children move in: their numbers become views of this model's vector, and no other model
    may take them. The shapes of the children's inputs and of the output come from ``apply`` itself, which is tried on
    zeros. Samples have the shape that the first child takes; for another shape, or for several inputs, write
    ``input_shape``.

    If ``apply`` cannot be traced, write ``apply_backward`` too, which calls ``self.backward_child(name, gradient,
    record)`` and returns dL/dx. Python then runs both, and the gradients are checked against differences of the outputs
    when the model is first put to work.

    Attributes:
        check: ``"off"`` for gradients that differ from the outputs' on purpose.

    Example:
        >>> from framework import Dense, Sigmoid
        >>> class Gated(Composite):
        ...     value: Model
        ...     gate: Model
        ...
        ...     def children(self):
        ...         return {"value": self.value, "gate": self.gate}
        ...
        ...     def apply(self, x, values, record):
        ...         return self.forward_child("value", x, record) * self.forward_child("gate", x, record)
        >>> model = Gated(value=Dense(2, 3), gate=Dense(2, 3, Sigmoid()))
        >>> model([1.0, 2.0]).shape, list(model.parameters)
        ((3,), ['value.weights', 'value.bias', 'gate.weights', 'gate.bias'])
    """

    check: ClassVar[Literal["on", "off"]] = "on"

    __slots__ = ("_parts",)
    if TYPE_CHECKING:
        _parts: dict[str, Model] = PrivateAttr()

    def __init__(self, *args: object, **settings: Any) -> None:
        """Take the children in, and cast them where a ``dtype`` is given.

        Raises:
            SettingsError: The children have different dtypes.
            UsageError: A child already belongs to a model, or an optimizer is bound to it.
        """
        wanted = None if isinstance(settings.get("dtype"), Model | Activation) else settings.pop("dtype", None)
        super().__init__(*args, **settings)
        children = self.children()
        if not isinstance(children, Mapping) or any("." in str(name) for name in children):
            raise SettingsError(
                f"{type(self).__name__}.children must return a dict of models by names without a dot; got "
                f"{brief([*children] if isinstance(children, Mapping) else children)}"
            )
        models = [child for child in children.values() if isinstance(child, Model)]
        if max(map(_depth, models), default=0) >= _DEEPEST:
            raise SettingsError(
                f"{type(self).__name__}: models may be nested {_DEEPEST} deep; put the layers into one Sequential"
            )
        self._require_free(children)
        dtype = self._common_dtype(wanted, {n: child for n, child in children.items() if isinstance(child, Model)})
        for model in models:
            if model.dtype != dtype:
                model.astype(dtype)  # which raises before anything is changed
        parts = {
            name: child if isinstance(child, Model) else ActivationLayer(activation=child, dtype=dtype)
            for name, child in children.items()
        }
        object.__setattr__(self, "_parts", parts)
        open_layers = self.list_unsettled()
        try:
            self._connect()
        except BaseException:
            self.unsettle(open_layers)
            raise
        require_sizes(f"{type(self).__name__}.input_shape", self.input_shape)
        for layer in parts.values():
            layer._set_dtype(dtype)
            object.__setattr__(layer, "_owner", self)

    def _common_dtype(self, wanted: npt.DTypeLike | None, models: Mapping[str, Model]) -> str:
        """Return the dtype that all models get: layers without numbers follow, and with ``wanted`` float64 does too.

        Raises:
            SettingsError: The others differ; names them.
        """
        kind = type(self).__name__
        dtype = None if wanted is None else require_dtype(f"{kind}: argument 'dtype'", wanted)
        own = {f"{name} {type(model).__name__}": model for name, model in models.items() if not _follows(model)}
        narrow = [label for label, model in own.items() if model.dtype == "float32"]
        wide = [label for label in own if label not in narrow] if dtype is None else [f"dtype={dtype!r}"]
        if narrow and wide and dtype != "float32":
            raise SettingsError(
                f"{kind}: layers must have one dtype; got float64 ({', '.join(wide)}) and float32 "
                f"({', '.join(narrow)}); write {kind}(..., dtype='float32'), or layer.astype('float64') for the latter"
            )
        return dtype or min((model.dtype for model in (own or models).values()), default="float64")

    def _require_free(self, children: Mapping[str, Model | Activation]) -> None:
        seen: set[Model] = set()
        for name, child in ((name, child) for name, child in children.items() if isinstance(child, Model)):
            parameters = None if child._state is None else child._state.parameters
            if child._owner is not None or child in seen:
                raise UsageError(
                    f"layer {name} already belongs to a model; give layer.copy() instead", where=type(self).__name__
                )
            if parameters is not None and parameters.bound:
                problem = f"an optimizer is bound to layer {name}; give layer.copy(), or bind to the model"
                raise UsageError(problem, where=type(self).__name__)
            seen.add(child)

    def _connect(self) -> None:
        """Check that the children fit together, and settle the numbers of inputs that are known; by the subclass."""

    @abstractmethod
    def children(self) -> Mapping[str, Model | Activation]:
        """Return the models and activations inside, by name."""

    @property
    def by_hand(self) -> bool:
        return type(self).apply_backward is not Composite.apply_backward

    def trace(self, walk: Walk, x: Any, path: str, position: tuple[int, ...]) -> Any:
        if walk.runs_in_python(self):
            return walk.call(self, x, path, position)
        if walk.derives is True and walk.training and getattr(self, "check", "on") != "on":
            raise DerivativeError("its gradients differ from the outputs' on purpose")
        return walk.trace_apply(self, x, path, position)

    @abstractmethod
    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        """Return the outputs for a batch, with ``forward_child`` for what the children make of arrays."""

    @property
    def parts(self) -> Mapping[str, Model]:
        """The models inside by name, an activation as a layer."""
        return self._parts

    def forward_child(self, name: str, x: Any, record: Record) -> Any:
        """Return what a child makes of x; each call in a forward has a record of its own for its backward."""
        if isinstance(record, Following):
            return record.call_child(name, self._parts[name], x)
        child, calls = self._parts[name], record.calls.setdefault(name, [])
        key = None if record.key is None else self._key_of_call(record.key, name, len(calls))
        workspace = record.workspaces.setdefault((name, len(calls)), Workspace())
        calls.append(child._run(x, key, workspace, training=record.training))
        return calls[-1].tree

    def backward_child(self, name: str, gradient: Any, record: Record) -> Any:
        """Fill a child's gradients from dL/d(its output); return dL/d(its input).

        Where ``forward_child`` was called several times, each call needs its own ``backward_child``, the last call
        first; the child's gradients are the sum.

        Raises:
            UsageError: ``forward_child`` was not called as often for this child.
        """
        calls = record.calls.get(name)
        if not calls:
            raise UsageError(
                f"{type(self).__name__}: each backward_child({name!r}) needs a forward_child({name!r}) in apply; "
                "where an output is used twice, add its gradients first"
            )
        done, parameters = calls.pop(), self._parts[name].parameters
        before = parameters.gradient.copy() if name in record.filled else None
        record.filled.add(name)
        gradients = [np.ascontiguousarray(leaf, self.dtype) for leaf in leaves(in_order(done.tree, gradient))]
        dx = iter(done.backward(gradients, parameters.gradients, input_gradient=True))
        if before is not None:
            parameters.gradient += before
        return map_leaves(lambda _: next(dx), names(done.passes.graph.shape))

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Model | Activation]:  # type: ignore[override]  # not the settings of pydantic
        return iter(self.children().values())

    def __getitem__(self, key: int | str) -> Model | Activation:
        children = self.children()
        if isinstance(key, str):
            return children[key]
        return [*children.values()][key]

    @property
    def dtype(self) -> str:
        """The dtype of parameters and outputs."""
        return self._first.dtype

    @property
    def _first(self) -> Model:
        return next(iter(self._parts.values()))

    @property
    def input_shape(self) -> Any:
        return self._first.input_shape

    def advice(self, shape: Any) -> str:
        if ":" not in self.tag():  # nobody can write input_shape in a class of the library
            return self._first.advice(shape)
        if type(self).input_shape is not Composite.input_shape:
            return ""
        return f"; {type(self).__name__} takes what its first child takes: for another shape, write input_shape"

    @property
    def output_shape(self) -> Any:
        return self.infer_shape(self.known_shape)

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        return type(self).input_shape is Composite.input_shape and self._first.leading_axes

    def cardinalities(self, shape: Any) -> Any:
        """Return how many ids each number in a sample may be: as many as the children take that ``apply`` gives it."""
        trial = self._try_apply(shape, strict=False)
        map_leaves(lambda leaf: leaf.fill(np.inf), trial.x)
        for name, x in trial.given:  # views of the sample, of which some parts may go into a child
            limits = self._parts[name].cardinalities(sample_shape(x))
            map_leaves(lambda leaf, limit: leaf.flags.writeable and np.minimum(leaf, limit, out=leaf), x, limits)
        return take(trial.x, 0)

    def shape_after(self, shape: Any) -> Any:
        """Return the shape of a prediction for samples of this shape: that of ``apply``."""
        trial = self._try_apply(shape)
        return (...,) if trial.output is None else sample_shape(trial.output)

    def _try_apply(self, shape: Any, *, settle: bool = False, strict: bool = True) -> _Trial:
        """Call ``apply`` on a sample of zeros, where its shape is known; children are asked for their shapes alone.

        Args:
            shape: The shape of a sample.
            settle: Whether the children take their numbers of inputs from what they are given.
            strict: Whether errors are raised; a class that writes ``shape_after`` need not take zeros.

        Raises:
            ShapeError: A child does not take what it is given, or ``apply`` fails.
        """
        trial = _Trial(self.dtype, settle=settle)
        if not is_known(shape):
            return trial
        trial.x = map_leaves(lambda leaf: np.zeros((1, *leaf), self.dtype), shape)
        values = {name: np.zeros(size, self.dtype) for name, size in self.layout().items()} if self.settled else {}
        try:
            with np.errstate(all="ignore"):
                trial.output = self.apply(trial.x, values, trial)
        except _OpenShape:
            return trial
        except Exception as error:
            if not strict:
                return trial
            if isinstance(error, FrameworkError):
                raise error.within(type(self).__name__) from None
            raise ShapeError(
                f"{type(self).__name__}.apply fails on a sample of zeros of shape {format_shape(shape)}, with which "
                f"the shapes inside are found: {type(error).__name__}: {error}; or write settle and "
                "shape_after in the class"
            ) from error
        if strict and not all(isinstance(leaf, np.ndarray) for leaf in leaves(trial.output) or [None]):
            got = type(trial.output).__name__
            raise ShapeError(f"{type(self).__name__}.apply must return an array, or a dict of arrays; got {got}")
        return trial

    def list_unsettled(self) -> list[Model]:
        return [layer for child in self._parts.values() for layer in child.list_unsettled()]

    def settle(self, shape: Any) -> Any:
        """Take the numbers of inputs that were left out from what ``apply`` gives to each child."""
        if self.list_unsettled():
            self._try_apply(shape, settle=True)
        return self.shape_after(shape)

    def layout(self) -> dict[str, tuple[int, ...]]:
        return {f"{n}.{name}": shape for n, child in self._parts.items() for name, shape in child.layout().items()}

    def _require_gradients(self) -> None:
        if self.by_hand and sum(map(math.prod, self.layout().values())) <= _CHECKED_SIZE:
            super()._require_gradients()

    def _laid_out(self, *position: int, draw: bool = True) -> State:
        key = self._key(position)
        parts = enumerate(self._parts.items())
        states = {name: child._built(*self._child_key(key, n), draw=draw) for n, (name, child) in parts}
        parameters = Parameters.join({name: state.parameters for name, state in states.items()}, self.dtype)
        buffers = {f"{n}.{name}": value for n, state in states.items() for name, value in state.buffers.items()}
        return State(parameters, buffers, self.dtype)

    def _key(self, position: tuple[int, ...]) -> tuple[int, ...]:
        """Return the key that the children's numbers are drawn from."""
        return position or (0,)

    def _child_key(self, key: tuple[int, ...], index: int) -> tuple[int, ...]:
        """Return the key of a child's random numbers."""
        return (*key, index)

    def _key_of_call(self, key: tuple[int, ...], name: str, number: int) -> tuple[int, ...]:
        """Return the key of one of several calls of a child, each of which has random numbers of its own."""
        return self._child_key(key, [*self._parts].index(name) + number * len(self._parts))

    def copy(self) -> Self:  # type: ignore[override]
        twin = self.replace()
        if self._state is not None:
            twin._built().columns = self._state.columns
        return twin

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed; models that stay are copied with their numbers."""
        twin = self._build_from(with_models(self.settings(), _twin_of) | changes)
        if _follows(twin):
            twin._set_dtype(self.dtype)
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as settings, each model with its numbers."""
        columns = self._built().columns if self.outermost.settled else Columns()
        return _unpickle, (type(self), self.settings(), columns)

    def walk_models(self, path: str = "") -> Iterator[tuple[str, Model]]:
        yield path, self
        for name, child in self.parts.items():
            yield from child.walk_models(f"{path}.{name}" if path else name)

    def _summary_rows(self, prefix: str, sample: Any) -> list[tuple[str, Any, int]]:
        start = f"{prefix}." if prefix else ""
        rows = [(f"{prefix} {type(self).__name__}".strip(), self.infer_shape(sample), 0)]
        inputs = dict(reversed(self._try_apply(sample, strict=False).given))
        for name, child in self._parts.items():
            shape = sample if child.takes(sample) else child.input_shape
            rows += child._summary_rows(f"{start}{name}", sample_shape(inputs[name]) if name in inputs else shape)
        return rows


_DEEPEST = 50
"""How deep models may be nested: what copies, saves or prints one calls itself a few times for each level."""

_CHECKED_SIZE = 100_000
"""The gradients of a composite with more numbers are not checked, which would take too long."""


class _OpenShape(Exception):  # noqa: N818 (not an error)
    """A child's output has a shape that is not known yet."""


class _Trial(Following):
    """The record of a call of ``apply`` on zeros, which only asks for shapes.

    Attributes:
        x: A batch of one sample of zeros; empty where the sizes are not known.
        given: What each call gave to a child, after the child's name.
    """

    __slots__ = ("_settle", "given", "output")

    def __init__(self, dtype: str, *, settle: bool) -> None:
        Record.__init__(self, dtype, training=False)
        self._settle, self._model = settle, None
        self.x: Any = {}
        self.output: Any = None
        self.given: list[tuple[str, Any]] = []

    def call_child(self, name: str, child: Model, x: Any) -> Any:
        """Return zeros of the shape of a child's outputs; ``settle`` takes its numbers of inputs from x."""
        self.given.append((name, x))
        with within(f"child '{name}'"):
            shape = child.infer_shape(sample_shape(x), settle=self._settle or child.settled)
        if not is_known(shape):
            raise _OpenShape
        return map_leaves(lambda leaf: np.zeros((rows_in(x), *leaf), self.dtype), shape)


def _follows(model: Model) -> bool:
    """Return whether a model has no numbers, so that its dtype is that of the model around it."""
    return not any(isinstance(layer, Layer) and layer._has_numbers for _, layer in model.walk_models())


def _depth(model: Model) -> int:
    return 1 + max(map(_depth, model.parts.values())) if isinstance(model, Composite) else 0


def _twin_of(model: Model) -> Model:
    """Return a copy of a model; of a layer without numbers yet, one that its new owner draws."""
    return model.replace() if isinstance(model, Layer) and model._state is None else model.copy()


def _unpickle(cls: type[Composite], settings: dict[str, Any], columns: Columns) -> Composite:
    model = cls._build_from(settings)
    if columns != Columns():
        model._built().columns = columns
    return model
