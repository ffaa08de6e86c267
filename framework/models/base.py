"""Model and Layer: settings plus the numbers that are learnt.

``model(x)`` predicts and remembers nothing, so several threads may share a model. ``forward(x)`` records what
``backward(gradient)`` needs; backward uses the record up. A caller receives an array of its own.

One sample, of shape ``input_shape``, gives one prediction; a batch with one axis more in front gives a batch. A model
of several inputs has a dict of shapes by name as its ``input_shape``; its samples and batches are dicts of arrays. A
model of several outputs has a dict as its ``output_shape``, and gives dicts of arrays.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import PrivateAttr

from framework.backends.programs import forget, is_checked, programs_of, require_called, require_derivatives
from framework.backends.step import Pass, Passes, Pattern, Workspace
from framework.base.arrays import Array, Arrays, Record, column_names, require_finite
from framework.base.errors import (
    DataError,
    DerivativeError,
    DivergedError,
    FrameworkError,
    SettingsError,
    ShapeError,
    UsageError,
)
from framework.base.forks import finish_before_forks
from framework.base.frames import difference
from framework.base.settings.component import Component, require_dtype
from framework.base.settings.messages import warn, word_errors
from framework.base.shapes import (
    close_shape,
    fits,
    format_shape,
    is_known,
    is_open,
    narrow_shape,
    of_rows,
    require_rows,
)
from framework.base.tables import as_text
from framework.base.trees import Tree, flatten, leaves, map_leaves, names, real_tree, rows_in, sample_shape, take
from framework.graph.refuse import refuse
from framework.graph.step import ModelGraph
from framework.graph.symbol import Symbol
from framework.graph.trace import share
from framework.graph.walk import Walk, in_order
from framework.models.by_hand import check_layer
from framework.models.pages import model_html
from framework.models.parameters import Columns, Parameters, State, Views
from framework.models.rows import classify_rows, predict_rows
from framework.preprocessing.fitted import FittedPreprocess
from framework.views import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW_ROWS = 16
"""The working memory of a prediction of up to this many rows is kept: to make it takes longer than to fill it."""

_DRAWING = threading.RLock()
"""Held while numbers are drawn, so that threads which share a new model share its numbers."""
finish_before_forks(_DRAWING)


def _columns(field: str, doc: str) -> property:
    def names(model: Model) -> Any:
        return getattr(model._built().columns, field)

    def set_names(model: Model, labels: Any) -> None:
        state, chosen = model._built(), None if labels is None else tuple(map(str, labels))
        changed: Any = {field: chosen}
        state.columns = state.columns._replace(**changed)

    return property(names, set_names, doc=doc)


class Model(Component):
    """The base of all models: they predict, run forward and backward passes, copy and describe themselves.

    Settings are frozen and print, compare and travel as JSON like those of any component; two models are equal only
    when they are the same object, because their numbers change. Models copy, deepcopy and pickle with their numbers.

    Example:
        >>> from framework import Neuron
        >>> model = Neuron.from_weights([2.0, 3.0])
        >>> float(model.forward([1.0, 1.0])), model.backward(1.0), model.parameters.gradient
        (5.0, array([2., 3.]), array([1., 1., 1.]))
    """

    __slots__ = ("_owner", "_state")  # no pydantic private attributes: reading one costs 1.5 microseconds a step
    if TYPE_CHECKING:
        _owner: Model | None = PrivateAttr()
        _state: State | None = PrivateAttr()

        @property
        def dtype(self) -> str:
            """The dtype of parameters and outputs; a layer has it as a setting."""

    def __init__(self, *args: object, **settings: Any) -> None:
        """Validate the settings; the numbers are drawn at first use, or by the model that takes this one in."""
        super().__init__(*args, **settings)
        object.__setattr__(self, "_owner", None)
        object.__setattr__(self, "_state", None)

    takes_a_sample: ClassVar[bool] = False
    """Whether ``apply`` also takes one sample without a row axis."""

    minimum_rows: ClassVar[int] = 0
    """How many rows a batch must have in training."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    @abstractmethod
    def input_shape(self) -> Any:
        """The shape of one sample; None is any size. A dict of shapes by name for a model of several inputs."""

    @property
    @abstractmethod
    def output_shape(self) -> Any:
        """The shape of one prediction. A dict of shapes by name for a model of several outputs."""

    inferred: ClassVar[str] = "inputs"
    """The setting that is the number of inputs."""

    leading_axes: ClassVar[bool] = False
    """Whether a sample may have further axes in front, such as steps; ``input_shape`` is then that of the last axes."""

    def takes(self, shape: Any) -> bool:
        """Return whether samples may have this shape."""
        expected = self.input_shape
        if self.leading_axes and not isinstance(shape, dict):
            shape = shape[len(shape) - len(expected) :]
        return fits(shape, expected)

    @property
    def open_shape(self) -> Any:
        """The shape of one sample, with ``...`` where it may have further axes in front."""
        return map_leaves(lambda shape: (..., *shape), self.input_shape) if self.leading_axes else self.input_shape

    @abstractmethod
    def cardinalities(self, shape: Any) -> Any:
        """Return how many ids each number in a sample of this shape may be, as arrays; inf for other numbers."""

    @abstractmethod
    def shape_after(self, shape: Any) -> Any:
        """Return the shape of a prediction for samples of this shape."""

    @property
    def known_shape(self) -> Any:
        """The shape of a sample in the last ``fit``; before it ``input_shape``, open where layers need more axes."""
        if self._state is not None and self._state.columns.shape is not None:
            return self._state.columns.shape
        try:
            self.infer_shape(self.input_shape, settle=self.settled)
        except (DerivativeError, ShapeError):  # of a layer that needs axes in front
            return self.open_shape
        return self.input_shape

    def infer_shape(self, shape: Any, *, settle: bool = False) -> Any:
        """Return the shape of a prediction for samples of this shape, in which sizes and axes may be open.

        ``settle`` takes the numbers of inputs that were left out from it. A user's class is never given ``...``: its
        outputs for samples without axes in front and with one are compared.

        Raises:
            ShapeError: The model does not take such samples.
            DerivativeError: A formula cannot be traced.
        """
        if not settle and self._state is not None and type(shape) is tuple and shape in self._state.shapes:
            return self._state.shapes[shape]
        shape, layers = narrow_shape(shape, self.open_shape), self.list_unsettled()
        # The classes of the library serve ``...``, and more follows from it than from two numbers of axes.
        if not is_open(shape) or (":" not in self.tag() and (self.chain or isinstance(shape, tuple))):
            return self._infer(shape, settle=settle)

        def attempt(*axes: int) -> tuple[Any, list[Any] | None]:
            if layers:
                self.unsettle(layers)
            try:
                gives = self._infer(close_shape(shape, *axes), settle=settle)
            except (DerivativeError, ShapeError) as error:
                return error, None
            return gives, [layer.__dict__[layer.inferred] for layer in layers]

        (deeper, more), (plain, inputs) = attempt(7), attempt()
        if layers and (inputs is None or more not in (None, inputs)):  # the axes decide
            self.unsettle(layers)
        if inputs is None and str(plain) == str(deeper):  # whatever the samples
            raise plain
        if inputs is None or more is None:
            return (...,) if inputs is None else plain
        return map_leaves(_join_open_shapes, plain, deeper)

    def _infer(self, shape: Any, *, settle: bool) -> Any:
        try:
            if settle or self._state is None:
                return self.settle(shape) if settle else self.shape_after(shape)
            form = shape if type(shape) is tuple else tuple(flatten(shape).items())
            return share(form, lambda: self.shape_after(shape), self._state.shapes)
        except FrameworkError:
            raise
        except Exception as error:
            if not is_known(shape):  # which a class need not take
                return (...,)
            raise ShapeError(
                f"{self._label}.shape_after fails for samples of shape {format_shape(shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error

    @property
    def settled(self) -> bool:
        """Whether every number of inputs is known, so that there can be parameters."""
        return not self.list_unsettled()

    @abstractmethod
    def list_unsettled(self) -> list[Model]:
        """Return the layers whose number of inputs is not known."""

    def tell_numbers(self, numbers: tuple[bool, ...]) -> None:
        """Tell the first layer which of its inputs are numbers, and not columns of 0 and 1; most need not know."""
        if self.chain:
            next(iter(self.chain.values())).tell_numbers(numbers)

    def unsettle(self, layers: list[Model]) -> None:
        """Forget the numbers of inputs that ``settle`` gave to these layers, and their parameters."""
        for layer in layers:
            layer.__dict__[layer.inferred] = None
        for _, model in self.walk_models():
            if model.list_unsettled():  # the numbers of the others may have been given
                object.__setattr__(model, "_state", None)

    @abstractmethod
    def settle(self, shape: Any) -> Any:
        """Take the numbers of inputs that were left out from the shape of a sample; return the output's shape."""

    @property
    def output_activation(self) -> Any:
        """The activation that ends the model, where it has one; a dict of them by name for several outputs."""
        return None

    @property
    @abstractmethod
    def by_hand(self) -> bool:
        """Whether the class writes its passes, which Python runs; otherwise they are derived."""

    @abstractmethod
    def trace(self, walk: Walk, x: Any, path: str, position: tuple[int, ...]) -> Any:
        """Return the output for symbols x, at a place of the model that is walked; see ``Walk.trace_model``."""

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        """Return the outputs for a batch; a class that writes this leaves in ``record`` what ``apply_backward`` needs.

        The inherited method computes the formula of the class, and the inherited ``apply_backward`` its gradients.
        """
        done = self._derive_pass(record, x)
        record.calls[""] = [done]
        return done.tree

    def apply_backward(self, gradient: Any, values: Arrays, record: Record, gradients: Arrays) -> Any:
        """Fill ``gradients`` from dL/d(output), and return dL/dx, which has the form of x."""
        (done,) = record.calls.get("") or (self._derive_pass(record, record.x, moves=False),)
        output_gradients = leaves(in_order(done.tree, gradient))
        dx = iter(done.backward(output_gradients, gradients, input_gradient=True))
        return map_leaves(lambda _: next(dx), record.x)

    def _derive_pass(self, record: Record, x: Any, *, moves: bool = True) -> Pass:
        """Return a forward pass of the formula of a class that writes passes too."""
        workspace = record.workspaces.setdefault("", Workspace())
        return self._run(x, record.key, workspace, training=record.training, derives=self, moves=moves)

    @abstractmethod
    def layout(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter by name, without making any.

        Raises:
            UsageError: A number of inputs is not known.

        Example:
            >>> from framework import Dense, Sequential
            >>> Sequential(Dense(2, 3)).layout()
            {'0.weights': (2, 3), '0.bias': (3,)}
        """

    def _require_gradients(self) -> None:
        """Check the gradients that the class writes, as they are now; warn once where that cannot be done.

        Raises:
            DerivativeError: A gradient is wrong.
        """

        def warn_once() -> bool:
            warn(
                f"the gradients of {type(self).__name__} were not checked, because it raises {refusal!r} for a "
                "made-up batch: write check_gradients(model, loss, x, y) with a real one, then check = 'off' in it"
            )
            return True

        if self.by_hand and is_checked(self) and (refusal := check_layer(self)):
            share(("unchecked", type(self), repr(self.settings())), warn_once)

    def in_dtype(self, dtype: str) -> Self:
        """Return a model of the same settings and of this dtype, with newly drawn numbers."""
        made = self._build_from(with_models(self.settings(), lambda model: model.in_dtype(dtype)))
        made._set_dtype(dtype)
        return made

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return a copy in another dtype, with the same settings and the same numbers, rounded to it.

        Args:
            dtype: "float64" or "float32".

        Raises:
            SettingsError: It is another dtype, or a layer cannot have it.
            DataError: A parameter is beyond float32.

        Example:
            >>> from framework import Dense
            >>> layer = Dense.from_weights([[0.1, 0.5]]).astype("float32")
            >>> layer.dtype, layer.weights
            ('float32', array([[0.1, 0.5]], dtype=float32))
        """
        twin = self.copy()
        twin._set_dtype(require_dtype("astype: argument 'dtype'", dtype))
        return twin

    def _set_dtype(self, dtype: str) -> None:
        """Cast this model, which no other one owns, and the models inside."""
        if self.dtype == dtype:
            return
        for _, model in reversed([*self.walk_models()]):  # the inner ones first, of which the outer ones are laid out
            if "dtype" in type(model).model_fields:
                checked = model._build_from(model.settings() | {"dtype": dtype})
                model.__dict__["dtype"] = checked.dtype
            programs_of(model).clear()
            if (state := model._state) is not None:
                cast_state = model._laid_out(draw=False)
                cast_state.parameters.lay_out()
                cast_state.fill(state.parameters.vector, state.buffers, state.parameters.frozen, state.columns)
                for name, value in cast_state.parameters.items():
                    require_finite(value, f"{model._label} in {dtype}: parameter '{name}'")
                object.__setattr__(model, "_state", cast_state)

    @abstractmethod
    def _laid_out(self, *position: int, draw: bool = True) -> State:
        """Draw the numbers from the key ``position`` and lay them out; zeros without ``draw``, to be written into."""

    def _built(self, *position: int, draw: bool = True) -> State:
        """Return the numbers; they are drawn at first use, by the owner if there is one, which knows the place."""
        if self._state is None:
            with _DRAWING:
                if self._state is None and self._owner is not None and not position:
                    self._owner._built(draw=draw)
                elif self._state is None:
                    self._require_gradients()
                    state = self._laid_out(*position, draw=draw)
                    if self._owner is None:
                        state.parameters.lay_out()
                    object.__setattr__(self, "_state", state)
        assert self._state is not None
        return self._state

    @property
    def parameters(self) -> Parameters:
        """Every number that is learnt: names to views of one flat vector. Drawn from seed 0 if not drawn before."""
        return (self._state or self._built()).parameters

    @property
    def training_lock(self) -> threading.Lock:
        """Held while this model, or the one that it is a part of, is trained: by one run at a time."""
        return self.outermost._built().training

    @property
    def outermost(self) -> Model:
        """The model that this one is a part of, and that is a part of none itself."""
        return self if self._owner is None else self._owner.outermost

    @property
    def chain(self) -> Mapping[str, Model]:
        """The models inside by name, where each takes the output of the one before; otherwise none."""
        return {}

    @property
    def buffers(self) -> Views:
        """Numbers that belong to the model but that no optimizer sees, such as running means; write into them."""
        return (self._state or self._built()).buffers

    columns = _columns("inputs", "The names of a frame's columns that the model was fitted with, or None.")
    target_columns = _columns("targets", "Those of the targets, where they were a frame.")

    @property
    def preprocess(self) -> FittedPreprocess | None:
        """The FittedPreprocess of ``fit``, which turns tables into the model's numbers; saved with the model.

        None takes it away, and the model's columns too; the next ``fit`` may then learn another one, whatever the
        weights are. Numbers of inputs that are left open follow from it.
        """
        outermost = self.outermost
        return self._built().columns.preprocess if outermost._state is not None or outermost.settled else None

    @preprocess.setter
    def preprocess(self, fitted: FittedPreprocess | None) -> None:
        if not isinstance(fitted, FittedPreprocess | None):
            raise SettingsError(
                "model.preprocess must be a FittedPreprocess, as recipe.fit(data) gives, or None", got=fitted
            )
        columns = Columns() if fitted is None else Columns(fitted.inputs, fitted.targets or None, fitted)
        if fitted is not None and not self.outermost.settled:
            self.tell_numbers(fitted.numbers)
            self.settle(fitted.shape)
        self._built().columns = columns

    @word_errors
    def predict(self, x: Any) -> Any:
        """Return the predictions for rows of x, (rows, ...), in the unit of the target; no rows give no predictions.

        A model of several outputs gives a dict of arrays by name.

        With a ``preprocess``, x is a table of pandas, polars or Arrow. Its columns are found by name, and it is
        transformed in blocks. ``model(x)`` takes numbers that are transformed already.

        x may also be a Dataset, such as ``CSV`` or ``Parquet`` with or without a target, which is read in blocks.

        Raises:
            ShapeError: x is not a batch of the model's samples.
            DataError: A value is not finite, or a table's columns are not those of ``fit``.

        Example:
            >>> from framework import Neuron
            >>> Neuron.from_weights([2.0]).predict([[1.0], [2.0]])
            array([2., 4.])
        """
        return predict_rows(self, x, "predict")

    def classify(self, x: Any) -> Any:
        """Return the likeliest class of each row of x, (rows,).

        It is the class as the target of ``fit`` has it, text, a number or a boolean, if the preprocess has ``Classes``;
        else its place, from 0. A model of one output gives the second class where its probability is above 0.5. One of
        several outputs gives a dict of the classes of each target that has ``Classes``, by name.

        Raises:
            SettingsError: The model has one output, and it does not end in a probability.

        Example:
            >>> from framework import Dense, Softmax
            >>> Dense.from_weights([[1.0, -1.0]], activation=Softmax()).classify([[2.0], [-3.0]])
            array([0, 1])
        """
        return classify_rows(self, x, "classify")

    def require_columns(self, x: Any, name: str, known: tuple[str, ...] | None = None) -> None:
        """Refuse a frame whose columns are not ``known``, in that order; None are those of the last fit.

        With a ``preprocess``, None takes numbers alone.

        Raises:
            DataError: They are others; lists both.
        """
        columns = column_names(x, name)
        if columns is None:
            return
        if known is None and self.preprocess is not None:
            raise DataError(
                f"{name} must hold numbers that are transformed already; got a {type(x).__name__}; "
                "model.predict(table) transforms it"
            )
        known = self.columns if known is None else known
        if known is not None and columns != known:
            raise DataError(f"must have the columns of fit, in that order: {difference(known, columns)}", name=name)

    def __call__(self, x: Any) -> Any:
        """Predict: one sample gives one prediction, a batch gives a batch. Nothing is recorded for ``backward``.

        Raises:
            ShapeError: ``x`` is neither a sample nor a batch.
            DtypeError: ``x`` does not hold real numbers.
            DerivativeError: It is called in a formula.
        """
        if isinstance(x, Symbol):
            refuse(f"a call of a {type(self).__name__}", "make a Composite with the model among its children()")
        x, sample = self._accept(x, self._state or self._built())
        x = map_leaves(lambda leaf: leaf[None], x) if sample else x
        rows = rows_in(x)
        workspace = self.take_workspace(rows)
        _, a = self.output(x, workspace)
        prediction = map_leaves(lambda leaf: leaf[0].copy() if sample else leaf.copy(), a)
        self.keep_workspace(workspace, rows)
        return prediction

    def take_workspace(self, rows: int) -> Workspace:
        """Return memory for predictions of up to this many rows, which no one else uses at this moment."""
        kept = (self._state or self._built()).workspaces
        try:
            return kept.pop() if rows <= _FEW_ROWS else Workspace()
        except IndexError:  # of the first prediction, or while others are made
            return Workspace()

    def keep_workspace(self, workspace: Workspace, rows: int) -> None:
        """Keep the memory of a prediction that has ended, whose outputs were copied, for the next one."""
        if rows <= _FEW_ROWS:
            (self._state or self._built()).workspaces.append(workspace)

    def output(self, x: Tree, workspace: Workspace | None = None) -> tuple[Any, Any]:
        """Return (h, a) of the output layer for a batch of the model's dtype, h None where there is no activation.

        Both are dicts by name for a model of several outputs. They may be views of x, or of the memory, which the next
        call with it overwrites; None is new memory.
        """
        done = self._run(x, None, Workspace() if workspace is None else workspace, training=False)
        return done.tree_of(done.h), done.tree

    @property
    def by_python(self) -> list[str]:
        """The models inside whose passes Python runs, because their classes write them: ``1 Own``."""
        written: dict[str, str] = {}
        for path, model in self.walk_models():
            if model.by_hand and not any(not outer or path.startswith(f"{outer}.") for outer in written):
                written[path] = f"{path} {model._label}".strip()
        return [*written.values()]

    @property
    def identity(self) -> tuple[Any, Any]:
        """The origin of the formulas of this model and of those inside, with their names; and their settings."""
        state = self._state or self._built()
        if not state.identity:
            parts = [*self.walk_models()]
            formulas = tuple((path, model._label, model.origin) for path, model in parts)
            state.identity = formulas, tuple(model.settings_text for _, model in parts)
        return state.identity

    @property
    def settings_text(self) -> str:
        """The settings that a formula may read, as text: without models and the seed."""
        return repr(with_models(self.settings() | {"seed": None}, lambda _: None))

    def retrace(self, *others: Component) -> None:
        """Have all formulas traced again when they are next used, as at the beginning of a training.

        Args:
            *others: Components that the training uses besides the model.

        Raises:
            DerivativeError: A derivative that an activation in a layer writes is wrong, or a gradient of a layer.
        """
        models = [model for _, model in self.walk_models()]
        forget(*models, *others)
        require_derivatives(*models, traced=False)
        for model in models:
            if model._state is not None:
                model._require_gradients()
                model._state.passes, model._state.losses = {}, []
                model._state.like = model._state.half = None

    def passes(
        self,
        shape: Any,
        *,
        training: bool,
        sample: bool = False,
        derives: Any = False,
        patterns: Iterable[Pattern] = (),
    ) -> Passes:
        """Return the passes for samples of this shape, traced once.

        Args:
            shape: The shape of a sample, or shapes by name.
            training: Whether they are those of training.
            sample: Whether x is one sample without an axis of rows.
            derives: The model itself, if what its class writes by hand is left aside.
            patterns: What a backward pass may start from; see ``Passes``.

        Raises:
            DerivativeError: A layer cannot be traced.
        """
        state = self._state or self._built()
        form = shape if type(shape) is tuple else tuple(flatten(shape).items())
        key = (form, training and state.parameters.frozen, sample, derives is self)
        passes = state.passes.get(key)
        if passes is None or not all(map(passes.patterns.__contains__, patterns)):
            frozen, wanted = {*self.parameters.frozen}, tuple(patterns)
            trained = tuple(name for name in self.parameters if name not in frozen)
            traced = partial(ModelGraph, self, shape, training=training, sample=sample, derives=derives)
            plain = traced(stable=False)

            def make() -> Passes:
                if training:
                    require_called(plain.written)
                return Passes(traced(plain=plain), trained, wanted)

            passes = share((plain.key, trained, wanted), make, state.programs if plain.calls else None)
            state.passes[key] = passes
        return passes

    def _run(
        self,
        x: Any,
        key: tuple[int, ...] | None,
        workspace: Workspace,
        *,
        training: bool,
        sample: bool = False,
        derives: Any = False,
        moves: bool = True,
    ) -> Pass:
        """Return a forward pass for a batch, or for one sample; in training it changes the buffers, if it ``moves``."""
        state = self._state or self._built()
        shape = x.shape if sample else x.shape[1:] if type(x) is not dict else sample_shape(x)
        passes: Passes | None = None
        if type(shape) is tuple:
            passes = state.passes.get((shape, training and state.parameters.frozen, sample, derives is self))
        if passes is None:
            passes = self.passes(shape, training=training, sample=sample, derives=derives)
        buffers = state.buffers.values()  # the backward pass reads those before the step
        kept = [value.copy() for value in buffers] if training and buffers else buffers
        batch = (x,) if type(x) is not dict else leaves(x)
        done: Pass = passes.run(workspace, key, batch, [*state.parameters.views.values(), *kept])
        done.version = state.parameters.version
        if training and moves and passes.changed:
            self._take_buffers(done)
        return done

    def _take_buffers(self, done: Pass) -> None:
        """Write the new buffers. Where the output is not finite they stay, and the loss raises.

        Raises:
            DivergedError: A new buffer is not finite although the output is.
        """
        new = dict(zip(done.passes.changed, done.buffers, strict=True))
        bad = [name for name, value in new.items() if not np.isfinite(value).all()]
        if not bad:
            self._set_buffers(new)
        elif all(np.isfinite(leaf).all() for leaf in done.a):
            raise unsound_buffer(self, bad[0])

    def forward(self, x: Any, key: tuple[int, ...] | None = None, *, copy: bool = True) -> Any:
        """Predict and record what ``backward`` needs.

        ``x`` must not change before backward: the record refers to it.

        Args:
            x: One sample or a batch: an array, or a dict of arrays by name.
            key: (seed, epoch, step, ...): the key of this pass's random numbers, for layers that draw some.
            copy: Whether to return a new array; False returns working memory, which the next forward overwrites.

        Raises:
            ShapeError: ``x`` is neither a sample nor a batch.
            DtypeError: ``x`` does not hold real numbers.
            UsageError: The key is not a tuple.
        """
        if key is not None and type(key) is not tuple:
            raise UsageError("must be a tuple, (seed, epoch, step)", name="forward: argument 'key'", got=key)
        state = self._state or self._built()
        done = state.done
        if done is not None and _is_like(x, state.like, state.dtype) and done.version == state.parameters.version:
            state.ready = False
            a = done.repeat(key, x)
        else:
            x, sample = self._accept(x, state)
            alone = sample and self.takes_a_sample
            state.ready = False
            batch = map_leaves(lambda leaf: leaf[None], x) if sample and not alone else x
            done = state.done = self._run(batch, key, state.workspace, training=True, sample=alone)
            done.sample, state.half = sample, None
            state.like = x.shape if batch is x and done.passes.repeats and type(x) is np.ndarray else None
            a = done.tree
        state.ready = True
        if done.passes.graph.sample:
            return a
        a = take(a, 0) if done.sample else a
        return map_leaves(np.copy, a) if copy else a

    @property
    def preactivation(self) -> Any:
        """H of the output layer in the last forward, or None if it has no h; by name for several outputs."""
        done = (self._state or self._built()).done
        return None if done is None else done.tree_of(done.h)

    def last_pass(self) -> Pass:
        """Return the last forward pass.

        Raises:
            UsageError: No forward has run since the last backward.
        """
        state = self._state
        if state is None or not state.ready or state.done is None:
            raise UsageError(f"backward: call {type(self).__name__}.forward(x) first; each forward serves one backward")
        if state.done.version != state.parameters.version:
            return self.again(state.done)
        return state.done

    def backward(self, gradient: Any, *, accumulate: bool = False) -> Any:
        """Fill every parameter's gradient from dL/d(prediction), and return dL/dx, which has the form of x.

        Args:
            gradient: dL/d(prediction), of the form and shape of the last forward's prediction.
            accumulate: Whether to add to the gradients instead of overwriting them.

        Raises:
            ShapeError: The gradient has another shape than the prediction.
            UsageError: No forward has run since the last backward.
        """
        done, state = self.last_pass(), self._built()
        gradient = real_tree(gradient, "gradient", state.dtype)
        single = done.sample and not self.takes_a_sample
        expected = map_leaves(lambda leaf: leaf.shape[1:] if single else leaf.shape, done.tree)
        if (got := map_leaves(np.shape, gradient)) != expected:
            raise ShapeError(f"gradient must have the shape of the prediction, {expected}; got {got}")
        gradient = map_leaves(lambda leaf: np.ascontiguousarray(leaf[None] if single else leaf), gradient)
        output_gradients = leaves(map_leaves(lambda a, leaf: leaf.reshape(a.shape), done.tree, gradient))
        before = state.parameters.gradient.copy() if accumulate else None
        dx = iter(done.backward(output_gradients, state.parameters.gradients, input_gradient=True))
        state.end_backward(before)
        result = map_leaves(lambda _: np.array(next(dx), state.dtype), names(done.passes.graph.shape))
        return map_leaves(lambda leaf: leaf[0], result) if single else result

    def again(self, done: Pass, *patterns: Pattern) -> Pass:
        """Make the last forward pass again, for a backward pass that its functions cannot make: one from patterns."""
        graph, patterns = done.passes.graph, (*done.passes.patterns, *patterns)
        passes = self.passes(graph.shape, training=True, sample=graph.sample, patterns=patterns)
        new = {name: buffer.copy() for name, buffer in self.buffers.items()}
        numbers = dict(zip(passes.graph.numbers, done.numbers, strict=False))
        self._set_buffers({name: numbers[name] for name in new})  # a layer that Python runs moves them once more
        try:
            again = passes.run(done.workspace, done.key, done.x, done.numbers[: len(graph.numbers)])
        finally:
            self._set_buffers(new)
        again.sample, again.version = done.sample, self.parameters.version
        state = self._built()
        state.done, state.like, state.half = again, None, None
        return again

    def _set_buffers(self, values: Mapping[str, Array]) -> None:
        for name, value in values.items():
            self.buffers[name][...] = value

    def _accept(self, x: Any, state: State) -> tuple[Any, bool]:
        """Return x as contiguous arrays of the model's dtype, and whether it is one sample."""
        dtype = state.dtype
        if state.accepted and _is_like(x, state.accepted, dtype):
            return x, False
        if type(x) is not np.ndarray or x.dtype is not dtype or not x.flags.c_contiguous:  # strides change last bits
            self.require_columns(x, "x")
            x = real_tree(x, "x", dtype)
            if isinstance(x, dict):
                shapes = map_leaves(np.shape, x)
                sample = fits(shapes, self.input_shape)
                if not sample:
                    self.require_batch(shapes, "x")
                    rows_in(x)
                flat = not sample and all(isinstance(leaf, np.ndarray) for leaf in x.values())
                state.accepted = {name: leaf.shape for name, leaf in x.items()} if flat else ()
                return x, sample
        expected = self.input_shape
        shape = x.shape
        if shape == expected:
            return x, True
        if shape[1:] == expected:
            state.accepted = shape
            return x, False
        if len(shape) > len(expected) and self.takes(shape[1:]):
            return x, False
        if fits(shape, expected):
            return x, True
        raise self._misfit(shape)

    def _misfit(self, shape: tuple[int, ...]) -> ShapeError:
        """Return the error for an array of a shape that is neither a sample's nor a batch's."""
        expected = self.input_shape
        if isinstance(expected, dict):
            require_rows(shape, expected, "x", self.advice(shape[1:]))
        hint = "; a batch of one-feature rows is x.reshape(-1, 1)" if expected == (1,) else ""
        if len(shape) > len(expected):  # with fewer axes, x may be a sample or a batch
            hint += self.advice(shape[1:])
        return ShapeError(
            f"x must be one sample of shape {format_shape(expected)} or a batch of shape "
            f"{format_shape(('rows', *expected))}; got {shape}{hint}"
        )

    def advice(self, shape: Any) -> str:
        """Return what to do with samples of a shape that the model does not take; it ends a message."""
        return ""

    def require_batch(self, shapes: Any, name: str) -> None:
        """Check that the leaves of a tree have the shapes of a batch.

        Raises:
            ShapeError: They do not; names the leaf.
        """
        whole = all(leaves(shapes))
        if not (whole and self.takes(map_leaves(lambda shape: shape[1:], shapes))):
            require_rows(shapes, self.input_shape, name, self.advice(map_leaves(lambda shape: shape[1:], shapes)))
            raise ShapeError(
                f"{name} must be a batch of shape {format_shape(of_rows(self.input_shape))}; got {format_shape(shapes)}"
            )

    @abstractmethod
    def copy(self) -> Self:  # type: ignore[override]  # pydantic's own copy is deprecated
        """Return a model of its own with the same settings and numbers, owned by no other model."""

    def __copy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return ``copy()``: two models never share numbers."""
        return self.copy()

    __deepcopy__ = __copy__

    def summary(self) -> str:
        """Return a table of layers, output shapes and numbers of parameters.

        Example:
            >>> from framework import Dense, ReLU, Sequential, Softmax
            >>> print(Sequential(Dense(4, 8, ReLU()), Dense(8, 3, Softmax())).summary())
            layer             output     parameters
            0 Dense(ReLU)     (rows, 8)          40
            1 Dense(Softmax)  (rows, 3)          27
            total                                67
            trainable                            67
        """
        return as_text(self.summary_table(), left=2)

    def summary_table(self) -> list[tuple[str, str, str]]:
        """Return the rows of ``summary``, the first of which is the head."""
        layers = self._summary_rows("", self.known_shape)
        rows = [(name, format_shape(of_rows(shape)), f"{size:,}") for name, shape, size in layers]
        trainable = sum(run.stop - run.start for run in self.parameters.trainable_runs())
        sizes = [("total", "", f"{self.parameters.vector.size:,}"), ("trainable", "", f"{trainable:,}")]
        return [("layer", "output", "parameters"), *rows, *sizes]

    def plot(self, *, axis: Axes | None = None) -> Axes:
        """Draw the layers as boxes with their shapes; see ``plots.graph``."""
        return plots.graph(self, axis=axis)

    @property
    def _label(self) -> str:
        """The name in messages and in the summary."""
        return type(self).__name__

    def walk_models(self, path: str = "") -> Iterator[tuple[str, Model]]:
        """Give this model and all models inside by name, outer ones first; the name of this one is ``path``.

        Example:
            >>> from framework import Dense, ReLU, Sequential
            >>> [name for name, _ in Sequential(Dense(4, 8), ReLU()).walk_models()]
            ['', '0', '1']
        """
        yield path, self

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows: each layer unfolds to its settings and parameters."""
        return model_html(self)

    @abstractmethod
    def _summary_rows(self, prefix: str, sample: Any) -> list[tuple[str, Any, int]]: ...


def unsound_buffer(model: Model, name: str) -> DivergedError:
    """Return the error of a new buffer that is not finite."""
    path, _, own = name.rpartition(".")
    return DivergedError(
        f"{dict(model.walk_models())[path]._label}: the new value of buffer '{own}' is not finite, although the output "
        "is; scale the inputs, or guard the formula with np.where"
    )


def _join_open_shapes(plain: Any, deeper: Any) -> Any:
    """Return the open shape that is ``plain`` without axes in front, and ``deeper`` with an axis of 7."""
    return (..., *plain) if deeper == (7, *plain) else plain if deeper == plain else (...,)


def _is_like(x: Any, shape: Any, dtype: np.dtype[Any]) -> bool:
    """Return whether x is a contiguous array of this shape and dtype, or a dict of such by name."""
    if type(x) is np.ndarray:
        like: bool = x.shape == shape and x.dtype is dtype and x.flags.c_contiguous
        return like
    if type(x) is not dict or type(shape) is not dict or x.keys() != shape.keys():
        return False
    return all(type(leaf) is np.ndarray and _is_like(leaf, shape[name], dtype) for name, leaf in x.items())


def with_models(value: Any, function: Callable[[Model], Model | None]) -> Any:
    """Return settings in which each model is what ``function`` returns for it."""
    if isinstance(value, dict):
        return {name: with_models(inner, function) for name, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(with_models(inner, function) for inner in value)
    return function(value) if isinstance(value, Model) else value
