"""Layer: a model with arrays of its own, and the base of own layers; LayerGraph: the formula of one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise, permutations
from typing import Any, ClassVar, Literal, Self, TypedDict

import numpy as np
import numpy.typing as npt

from framework.backends.numpy import emit
from framework.backends.programs import programs_of
from framework.base.arrays import Array, Arrays, Record, require_finite, require_like
from framework.base.errors import DerivativeError, SettingsError, ShapeError, UsageError, nearest
from framework.base.random_streams import random_generator
from framework.base.settings.component import Dtype, PlainFunction, Seed, belongs_to, list_undeclared, require_function
from framework.base.settings.messages import elsewhere
from framework.base.shapes import Shape, close_shape, format_shape, is_known, is_open, require_sizes
from framework.base.trees import flatten, leaves, map_leaves, names
from framework.formulas.activations import Activation
from framework.graph.graph import KINDS, Call, rewrite
from framework.graph.node import Node, nodes_in
from framework.graph.rows import mixing
from framework.graph.symbol import Symbol
from framework.graph.textbook import plainer
from framework.graph.trace import ROWS, Traced, share, trace
from framework.graph.walk import Draw, Following, Ids, Walk
from framework.models.base import Model
from framework.models.initializers import Constant, Glorot, Initializer, Zeros
from framework.models.parameters import Parameters, State

_EXACT = {"float32": 2**24, "float64": 2**53}
"""Up to here every whole number has a float of its own."""


class LayerGraph:
    """A layer's formula for one shape of samples.

    Attributes:
        traced: The formula as a graph: the leaves of x and the parameters, then the output and the new buffers.
        call: The call of an activation that ends the formula, or None.
        training: Whether it is the formula of training.
    """

    def __init__(self, traced: Traced, *, mixes_rows: bool, training: bool) -> None:
        """Check a formula; ``mixes_rows`` says whether the output of a row may depend on other rows.

        Raises:
            DerivativeError: It returns something else, or it mixes rows.
        """
        output = traced.output
        if not isinstance(output, Node) or not output.shape or traced.graph.rows_in(output.shape[0]) != 1:
            got = traced.graph.shape_text(output.shape) if isinstance(output, Node) else repr(output)
            raise DerivativeError(f"the formula must return an array with a row for each row of x; it returns {got}")
        if not mixes_rows and (mixed := mixing(output)):
            raise DerivativeError(
                f"the formula mixes rows, by {mixed}: a row's output must depend on that row alone. Use another axis, "
                "or set mixes_rows = True in the class, as BatchNorm does"
            )
        self.traced, self.training = traced, training
        self.call: Call | None = traced.graph.calls.get(output)
        self.sample_shape = output.shape[1:]

    def require_shards(self) -> None:
        """Check that the rows of a part of a batch can be computed apart, given sums over all rows.

        Raises:
            DerivativeError: The formula mixes rows by something else.
        """
        if mixed := mixing(*nodes_in(self.traced.outputs), summing=False):
            raise DerivativeError(
                f"the formula mixes rows, by {mixed}; parts of a batch can be computed apart where np.sum, np.mean, "
                "np.var or np.std over the rows alone mix them"
            )


class LayerSettings(TypedDict, total=False):
    """The settings of every layer, for signatures."""

    seed: int | None
    dtype: npt.DTypeLike


class Layer(Model):
    """A model with arrays of its own. Write ``formula(x, **parameters)``, and its gradients are derived.

    ``shapes()`` declares the parameters. Matrices and arrays of more axes start as the setting ``initializer`` draws
    them, or ``Glorot()``, vectors and numbers at 0; ``initializers()`` names others. ``draws(shape)`` declares arrays
    of uniform random numbers and ``initial_buffers()`` numbers that are saved and not trained; the formula receives
    both by name, and with buffers it returns (output, new buffers). Write ``predict_formula`` where prediction uses
    another formula. ``inputs: int | None = None`` is the size of the last axis; left out, it comes from the layer
    before or from the data. Where ``input_shape`` is a dict of shapes by name, x is a dict of arrays: ``x["city"]``.

    Instead of a formula, you may write ``apply`` and ``apply_backward``: store in ``record`` what backward needs, as in
    ``record["x"] = x``; ``record.array(name, shape)`` is memory that is kept from step to step;
    ``record.key`` is the key of this pass's random numbers and ``record.training`` tells training from prediction.
    Written gradients are compared with differences of the outputs when the layer is first used.

    Attributes:
        inferred: The setting that is the number of inputs, where it is not ``inputs``; None by default, as above.
        inputs_axis: The axis of a sample whose size is the number of inputs; the last one by default.
        cardinality: How many ids there are, where x holds ids and not numbers; ``{"city": 5}`` for one of several
            inputs. Ids are checked, and have no gradient.
        check: ``"off"`` for gradients that differ from the outputs' on purpose.
        mixes_rows: Whether a row's output depends on other rows of its batch, as in BatchNorm; see ``minimum_rows``.
        seed: The seed of the first values; None is 0, or in a model its seed and the layer's position. So equal layers
            with seed=None that stand alone start alike. A layer of the library that draws nothing refuses a seed.
        dtype: "float64" or "float32". A model's dtype replaces "float64", and every dtype of a layer without numbers.

    Raises:
        DerivativeError: The formula cannot be traced, or a written gradient is wrong; at first use.

    Example:
        >>> from framework.models import Constant
        >>> class Scale(Layer):
        ...     units: int
        ...
        ...     def shapes(self):
        ...         return {"scale": (self.units,)}
        ...
        ...     def initializers(self):
        ...         return {"scale": Constant(1.0)}
        ...
        ...     def formula(self, x, scale):
        ...         return x * scale
        >>> Scale(units=2)([3.0, 4.0])
        array([3., 4.])
    """

    cardinality: ClassVar[Any] = None
    inputs_axis: ClassVar[int] = -1
    check: ClassVar[Literal["on", "off"]] = "on"
    mixes_rows: ClassVar[bool] = False
    keeps: ClassVar[str] = "what forward leaves for backward goes into record['name']"

    seed: Seed | None = None
    dtype: Dtype = "float64"

    def __init__(self, *args: object, **settings: Any) -> None:
        own = type(self)
        missing = [name for name in ("apply", "apply_backward") if getattr(own, name) is getattr(Layer, name)]
        if not self._derives and missing:
            wanted = "'formula'" if len(missing) == 2 else f"'{missing[0]}', or a 'formula'"
            advice = elsewhere(own, *vars(own).keys() & {"forward", "call"}) or f"write {wanted} in the class"
            raise SettingsError(f"{own.__name__} is not complete: {advice}")
        super().__init__(*args, **settings)
        require_sizes(f"{type(self).__name__}.input_shape", self.input_shape)
        for count in self._cardinality("").values():
            if count > _EXACT[self.dtype]:
                wider = "; write dtype='float64'" if self.dtype == "float32" else ""
                problem = f"{self.dtype} holds at most {_EXACT[self.dtype]} different ids; got {count}{wider}"
                raise SettingsError(problem, where=type(self).__name__)
        if self.seed is None or ":" in self.tag():  # an own formula may read it
            return
        if all(
            isinstance(initializer, Zeros | Constant)
            for initializer in self._choose_initializers(self.shapes()).values()
        ):
            raise SettingsError(
                f"{type(self).__name__}: setting 'seed' has no effect, because no initializer draws; leave it out. "
                "The random numbers of a pass come from the key of forward, in fit from the trainer's seed"
            )

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Drop the inherited output activation when a subclass overrides ``apply`` or ``formula``."""
        super().__pydantic_init_subclass__(**options)
        own = vars(cls)
        if ("apply" in own or "formula" in own) and "output_activation" not in own:
            cls.output_activation = Layer.output_activation  # type: ignore[method-assign]
        if "formula" in own and "apply" not in own and not belongs_to(cls, "apply", "formula"):
            cls.apply = Layer.apply  # type: ignore[method-assign]
            cls.apply_backward = own.get("apply_backward", Layer.apply_backward)  # type: ignore[method-assign]

    @staticmethod
    def of(
        function: Callable[..., Any],
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        initializers: Mapping[str, Initializer] | None = None,
    ) -> Layer:
        """Return a layer whose formula is a plain function. It has no JSON form.

        Args:
            function: (x, parameters by name) -> the outputs for a batch x, (rows, ...).
            shapes: The shape of each parameter by name.
            initializers: The initializer of each parameter by name; others start as those of a class do.

        Raises:
            SettingsError: The function does not take these parameters.

        Example:
            >>> layer = Layer.of(lambda x, shift: np.tanh(x + shift), shapes={"shift": (2,)})
            >>> layer([0.0, 0.0])
            array([0., 0.])
        """
        if shapes is not None and not (isinstance(shapes, Mapping) and all(map(_is_shape, shapes.values()))):
            raise SettingsError(f"must be {_SHAPES}", name="Layer.of: argument 'shapes'", got=shapes)
        require_function("Layer.of", function, "x", names=shapes or {})
        return _FunctionLayer(
            function=function, parameter_shapes=tuple((shapes or {}).items()), drawn=tuple((initializers or {}).items())
        )

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shape of each parameter by name, in the order of the flat vector; no parameters by default."""
        return {}

    def formula(self, *arguments: Any, **parameters: Any) -> Any:
        """Return the outputs for a batch x, (rows, ...), given parameters by name; write ``formula(self, x, w)``."""
        raise SettingsError(f"{type(self).__name__} is not complete: write formula(self, x, ...) in the class")

    def predict_formula(self, *arguments: Any, **parameters: Any) -> Any:
        """Return the outputs in prediction: those of ``formula`` unless the class writes it."""
        return self.formula(*arguments, **parameters)

    def draws(self, shape: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        """Return the arrays of uniform random numbers in [0, 1) that the formula receives in training.

        Args:
            shape: The shape of a sample.

        Returns:
            The shape of each array by name, for one sample.
        """
        return {}

    def initializers(self) -> Mapping[str, Initializer]:
        """Return what draws each parameter; of the others, matrices are drawn by Glorot and vectors start at 0."""
        return {}

    def initial_buffers(self) -> Arrays:
        """Return the buffers' first values by name: numbers that are saved and that no optimizer sees."""
        return {}

    @property
    def input_shape(self) -> Any:
        """The shape of one sample: (inputs,), unless the class says otherwise; a dict of shapes for several inputs."""
        return (getattr(self, self.inferred, None),)

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        """Whether a sample may have further axes in front: for a formula whose class does not say what a sample is."""
        return self._derives and type(self).input_shape is Layer.input_shape

    @property
    def output_shape(self) -> Shape:
        """The shape of one prediction: that of the formula's output; without a formula, that of the input."""
        expected: Any = self.input_shape
        if isinstance(expected, dict) and not self._derives:
            raise SettingsError(f"{type(self).__name__} is not complete: write output_shape in the class")
        shape: Shape = self.infer_shape(self.known_shape) if self._derives else expected
        return shape

    def shape_after(self, shape: Any) -> Shape:
        if not self._derives:
            declared = self.output_shape
            return shape if declared == self.input_shape and not is_known(declared) else declared
        if type(self).output_shape is not Layer.output_shape:
            return self.output_shape
        if not (is_known(shape) and self.settled):
            return (...,)
        return self.program(shape).sample_shape

    def _any_program(self) -> LayerGraph | None:
        """Return the program for the last samples, or for ``input_shape`` where all its sizes are known."""
        if (met := programs_of(self).get("met")) is not None:
            return self.program(met[0], training=met[1])
        return self._program_of_sizes() if self.settled and is_known(self.input_shape) else None

    def _program_of_sizes(self, *, training: bool = True) -> LayerGraph:
        """Return the program for samples of ``input_shape``, or with more axes in front if the formula needs some."""
        for more in ((), (7,), (7, 7)) if self.leading_axes else ():
            with suppress(DerivativeError, ValueError, IndexError):
                return self.program((*more, *self.input_shape), training=training)
        return self.program(self.input_shape, training=training)

    def cardinalities(self, shape: Any) -> Any:
        counts = self._cardinality("x")
        return map_leaves(lambda leaf, sizes: np.full(sizes, counts.get(leaf, np.inf)), names(shape), shape)

    def _cardinality(self, name: str) -> dict[str, int]:
        return {} if self.cardinality is None else flatten(self.cardinality, name)

    def list_unsettled(self) -> list[Model]:
        return [] if getattr(self, self.inferred, 0) is not None else [self]

    def settle(self, shape: Any) -> Shape:
        """Take the number of inputs from the shape of a sample, where it was left out; return the output's shape.

        Raises:
            ShapeError: The layer takes samples of another shape.
        """
        expected = self.input_shape
        one_form = isinstance(shape, dict) == isinstance(expected, dict)
        if not self.settled and one_form and len(shape) >= len(expected):
            self.__dict__[self.inferred] = self.inputs_of(close_shape(shape))
        self._require_taken(shape)
        return self.shape_after(shape)

    def _require_taken(self, shape: Any) -> None:
        if not self.takes(shape):
            got = close_shape(shape)
            raise ShapeError(
                f"{self._label} takes samples of shape {format_shape(self.input_shape)}; got {format_shape(got)}"
                f"{self.advice(got)}"
            )

    def advice(self, shape: Any) -> str:
        if isinstance(shape, dict) or isinstance(self.input_shape, dict) or is_open(shape):
            return ""
        adapter = self._adapter(shape)
        return adapter and f"; put {adapter} before {self._label}"

    def _adapter(self, shape: Shape) -> str:
        """Return the layer that makes samples of this shape what the layer takes; "" if it is not known."""
        axes, sizes = len(shape), self.input_shape
        numbers = math.prod(shape) if is_known(shape) else None
        if axes != 1 and self.takes((numbers,)):
            return f"Flatten({'' if axes else '()'})"
        for order in permutations(range(axes)) if numbers else ():
            if self.takes(tuple(shape[axis] for axis in order)):
                return f"Permute({tuple(axis + 1 for axis in order)})"
        if axes >= len(sizes):
            return ""
        if axes + 1 == len(sizes) and self.inferred in type(self).model_fields:
            inputs_axis = self.inputs_axis % len(sizes)
            one_input = (*shape[:inputs_axis], 1, *shape[inputs_axis:])
            sizes = one_input if self.takes(one_input) else sizes
        rest = math.prod(size for size in sizes if size is not None)
        splits = sizes.count(None) < 2 and not (numbers and (numbers % rest if None in sizes else numbers != rest))
        return f"Reshape({tuple(-1 if size is None else size for size in sizes)})" if splits else ""

    def inputs_of(self, shape: Any) -> int | None:
        """Return the number of inputs of samples of this shape: the size of one axis."""
        if isinstance(shape, dict):
            raise SettingsError(
                f"give {self.inferred}=..., or write inputs_of(shape) in the class; shape is {format_shape(shape)}",
                where=type(self).__name__,
            )
        size: int | None = shape[self.inputs_axis]
        return size

    @property
    def _has_numbers(self) -> bool:
        """Whether it has parameters or buffers, as far as the class says."""
        return type(self).shapes is not Layer.shapes or type(self).initial_buffers is not Layer.initial_buffers

    @property
    def _derives(self) -> bool:
        """Whether the passes come from the formula."""
        return type(self).formula is not Layer.formula

    @property
    def output_activation(self) -> Activation | None:
        """The activation that ends the formula, or None."""
        program = None if type(self).apply is not Layer.apply else self._any_program()
        return None if program is None or program.call is None else program.call.activation

    def program(self, shape: Any, *, training: bool = True) -> LayerGraph:
        """Return the formula's passes for samples of this shape, traced once.

        Args:
            shape: The shape of a sample.
            training: Whether they are those of training; False for prediction.

        Raises:
            DerivativeError: The formula cannot be traced; says why, and what to write.
        """
        training = training or type(self).predict_formula is Layer.predict_formula
        programs = programs_of(self)
        programs["met"] = shape, training
        key = (shape if type(shape) is tuple else tuple(flatten(shape).items()), training)
        program: LayerGraph | None = programs.get(key)
        if program is None:
            self._require_taken(shape)  # the layer before may give any size
            if any(0 in sizes for sizes in leaves(shape)):
                raise ShapeError(f"{self._label} takes samples without an empty axis; got {format_shape(shape)}")
            program = programs[key] = self._trace_formula(shape, training=training)
        return program

    def _trace_formula(self, shape: Any, *, training: bool) -> LayerGraph:
        formula = self.formula if training else self.predict_formula
        parameters, buffers = self.layout(), self._initial_buffers()
        draws = self._read_declaration("draws", _SHAPES, _is_shape, shape) if training else {}
        inputs, named = names(shape), flatten(shape)
        if unknown := set(self._cardinality("x")) - set(named):
            raise SettingsError(
                f"{type(self).__name__}.cardinality is that of {min(unknown)}, but the inputs are {', '.join(named)}"
            )
        declared = [*parameters, *draws, *buffers]
        if twice := [name for name in declared if declared.count(name) > 1]:
            raise SettingsError(
                f"{type(self).__name__}: the name '{twice[0]}' is declared twice; shapes(), draws() and "
                "initial_buffers() need different names, because the formula takes each by its name"
            )
        takes, before = _signature(getattr(formula, "__func__", formula)), ["self"] * inspect.ismethod(formula)
        try:
            takes.bind(*before, "x", **dict.fromkeys(declared))
        except TypeError as error:
            more = list_undeclared(takes, len(before) + 1, [*declared, *self.draws(shape)])
            advice = f"; declare the parameter {more[0]} in shapes()" if more else ""
            raise SettingsError(
                f"{type(self).__name__}.{formula.__name__} must take ({', '.join(['x', *declared])}), as the class "
                f"declares: {error}{advice}"
            ) from None
        shapes = {
            **{name: (ROWS, *size) for name, size in named.items()},
            **parameters,
            **{name: (ROWS, *size) for name, size in draws.items()},
            **{name: np.shape(value) for name, value in buffers.items()},
        }
        kinds = {name: KINDS.get(np.asarray(value).dtype.kind, "f") for name, value in buffers.items()}

        def flat(**arguments: Any) -> Any:
            x = map_leaves(arguments.pop, inputs)
            returned = formula(x, **arguments)
            output, new = returned if buffers and isinstance(returned, tuple) and len(returned) == 2 else (returned, {})
            if training or new:
                _require_buffers(new, buffers)
            output = output.astype(float) if isinstance(output, Symbol) else output
            return output, *(new[name] for name in buffers if name in new)

        def make() -> LayerGraph:
            program = LayerGraph(traced, mixes_rows=self.mixes_rows, training=training)
            if self.check == "on" and self.cardinality is None:
                _require_same(program, flat, shapes, self.minimum_rows if training else 1)
            return program

        owner = self.origin, self.settings_text, training
        try:
            traced = trace(flat, shapes, self.dtype, kinds=kinds, owner=owner)
            return share((owner, "layer", traced.key), make)
        except (DerivativeError, ShapeError) as error:
            if error.where[:1] != (self._label,):  # not a check that the class makes itself
                error.within(f"{self._label}.{'' if training else 'predict_'}formula")
            raise

    @property
    def mixes_in_prediction(self) -> bool:
        """Whether a row's prediction depends on other rows, as far as the class or the sizes of ``input_shape`` say."""
        if not self.mixes_rows or type(self).predict_formula is Layer.predict_formula:
            return self.mixes_rows
        if type(self).apply is not Layer.apply or not is_known(self.input_shape):
            return True
        return mixing(self._program_of_sizes(training=False).traced.output) is not None

    def require_shards(self) -> None:
        """Check that parts of a batch can be computed apart, where a shape of samples is known.

        Raises:
            DerivativeError: They cannot: says why.
        """
        if type(self).apply is not Layer.apply:
            raise DerivativeError("it writes apply, and sums over all rows are found in a formula alone")
        self._any_program()
        for program in programs_of(self).values():
            if isinstance(program, LayerGraph) and program.training:
                program.require_shards()

    @property
    def by_hand(self) -> bool:
        """Whether the class writes its passes."""
        return type(self).apply is not Layer.apply or type(self).apply_backward is not Layer.apply_backward

    def trace(self, walk: Walk, x: Any, path: str, position: tuple[int, ...]) -> Any:
        """Return the formula of symbols, or the call of passes that the class writes."""
        programs_of(self)["met"] = walk.shape(x), walk.training
        if walk.checks and not self.by_hand:
            self.program(walk.shape(x), training=walk.training)
        if self.cardinality is not None:
            name = f"{self._label}: argument 'x'"
            symbols = flatten(x, name)
            walk.ids += [Ids(leaf, count, symbols[leaf].node) for leaf, count in self._cardinality(name).items()]
        if walk.runs_in_python(self):
            return walk.call(self, x, path, position)
        if walk.derives is True and walk.training and self.check != "on":
            raise DerivativeError("its gradients differ from the outputs' on purpose")
        if walk.derives is True and type(self).apply is not Layer.apply:
            return walk.end_layer(walk.trace_apply(self, x, path, position))
        return self._formula_of(walk, x, path, position)

    def _formula_of(self, walk: Walk, x: Any, path: str, position: tuple[int, ...]) -> Any:
        """Return the formula of symbols."""
        values = walk.symbols_of(self.parameters, path)
        if walk.training:
            for name, shape in self.draws(walk.shape(x)).items():
                values[name] = walk.draw(Draw(name, position, shape, type(self).__name__), x)
        inputs = [*leaves(x), *values.values()]
        values |= {name: walk.buffers[f"{path}{name}"] for name in self.buffers}  # an earlier call may change them
        output = (self.formula if walk.training else self.predict_formula)(x, **values)
        if self.buffers and isinstance(output, tuple):
            output, new = output
            walk.buffers |= {f"{path}{name}": value for name, value in new.items()} if walk.training else {}
        return walk.end_layer(output, inputs)

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        """Return the formula of a batch."""
        if isinstance(record, Following):
            return self._formula_of(record.walk, x, record.path, record.place)
        return super().apply(x, values, record)

    def label_formulas(self) -> dict[str, Any]:
        """Return the formula by label, for ``show``."""
        program = self._any_program()
        if program is None:
            give = "" if self.settled else f"give {self.inferred}=..., "
            raise UsageError(
                f"show: the sizes of {type(self).__name__}'s samples are not known: {format_shape(self.input_shape)}; "
                f"{give}fit its model, or call the layer on a sample first"
            )
        return {"a": rewrite([program.traced.output], plainer)[0]}

    def _require_settled(self) -> None:
        if self.settled:
            return
        advice = f"give {self.inferred}=..., or fit the model"
        chain = {} if self._owner is None else self._owner.chain
        before = {after: before for before, after in pairwise(chain.values())}.get(self)
        if before is not None and before.settled and ":" in before.tag():  # else its class cannot be written in
            advice += f"; or write output_shape in {type(before).__name__}, the layer before it"
        raise UsageError(
            f"{type(self).__name__} has no parameters yet, because its number of inputs is not known: {advice}"
        )

    def layout(self) -> dict[str, tuple[int, ...]]:
        self._require_settled()
        return self._read_declaration("shapes", _SHAPES, _is_shape)

    def _read_declaration(self, method: str, form: str, fits: Callable[[Any], bool], *arguments: Any) -> dict[str, Any]:
        """Return what a method of the class gives for each name.

        Raises:
            SettingsError: It gives no dict, or a value in it does not fit.
        """
        values = getattr(self, method)(*arguments)
        if not isinstance(values, Mapping) or not all(map(fits, values.values())):
            raise SettingsError(f"{type(self).__name__}.{method} must return {form}", got=values)
        return dict(values)

    def _choose_initializers(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Initializer]:
        """Return the initializer of each parameter.

        Raises:
            SettingsError: ``initializers`` does not fit the parameters.
        """
        named = self._read_declaration("initializers", "an Initializer for each name, {'weights': Glorot()}", _draws)
        if unknown := set(named) - set(shapes):
            raise SettingsError(
                f"{type(self).__name__}.initializers names '{min(unknown)}', which shapes() does not have"
                f"{nearest(min(unknown), shapes) or '.'} Parameters: {', '.join(shapes)}"
            )
        own = getattr(self, "initializer", None)
        matrices = own if isinstance(own, Initializer) else _MATRICES
        return {name: matrices if len(shape) > 1 else _VECTORS for name, shape in shapes.items()} | named

    def _initial_buffers(self) -> dict[str, Array]:
        return self._read_declaration(
            "initial_buffers", "an array for each name, {'mean': np.zeros(3)}", lambda _: True
        )

    def _laid_out(self, *position: int, draw: bool = True) -> State:
        shapes = self.layout()
        parameters = Parameters(shapes, self.dtype)
        initializers = self._choose_initializers(shapes)
        position = position if self.seed is None else (self.seed,)
        seed, *counters = position or (0,)
        for index, (name, view) in enumerate(parameters.items() if draw else ()):
            rng = random_generator(seed, "initialize", *counters, index)
            view[...] = _draw_values(initializers[name], view.shape, rng)
        buffers = {name: np.array(value) for name, value in self._initial_buffers().items()}
        buffers = {n: value.astype(self.dtype) if value.dtype.kind == "f" else value for n, value in buffers.items()}
        return State(parameters, buffers, self.dtype)

    def copy(self) -> Self:  # type: ignore[override]
        make, arguments = self.__reduce__()
        twin: Self = make(*arguments)
        if twin._state is not None:
            twin.parameters.gradient = self.parameters.gradient
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as settings and numbers; unpickling makes the views again."""
        state = self._state if self._owner is None or not self.outermost.settled else self._built()
        if state is None:
            return _unpickle, (type(self), self.settings(), None)
        numbers = (np.array(state.parameters.vector), dict(state.buffers), state.parameters.frozen, state.columns)
        return _unpickle, (type(self), self.settings(), numbers)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the class's own settings first."""
        return sorted(super().__repr_args__(), key=lambda setting: setting[0] in Layer.model_fields)

    def _summary_rows(self, prefix: str, sample: Shape) -> list[tuple[str, Shape, int]]:
        activation = self.output_activation
        inside = type(activation).__name__ if activation is not None else ""
        name = f"{prefix} {type(self).__name__}({inside})".strip()
        return [(name, self.infer_shape(sample), sum(map(math.prod, self.layout().values())))]


class _FunctionLayer(PlainFunction, Layer):
    """A plain function of x and parameters; made by ``Layer.of``."""

    made_by = "Layer.of"
    __eq__, __hash__ = Model.__eq__, Model.__hash__

    parameter_shapes: tuple[tuple[str, tuple[int, ...]], ...]
    drawn: tuple[tuple[str, Initializer], ...]

    @property
    def _has_numbers(self) -> bool:
        return bool(self.parameter_shapes)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return dict(self.parameter_shapes)

    def initializers(self) -> Mapping[str, Initializer]:
        return dict(self.drawn)

    def formula(self, x: Any, **parameters: Any) -> Any:
        return self.function(x, **parameters)


def require_multiple(layer: Layer, name: str, size: int | None, count: str = "groups") -> None:
    """Check that a size, where it is known, can be split evenly into as many parts as a setting says.

    Raises:
        SettingsError: It cannot.
    """
    parts: int = getattr(layer, count)
    if size is not None and size % parts:
        problem = f"must be a multiple of {count}={parts}; got {size}; change one of them"
        raise SettingsError(problem, name=f"{type(layer).__name__}: setting '{name}'")


_signature = lru_cache(maxsize=256)(inspect.signature)


def _draw_values(initializer: Initializer, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Return an initializer's values, or refuse another shape and what is not finite."""
    values = initializer(shape, rng)
    require_like(initializer, "__call__", values, shape)
    values = np.asarray(values)
    require_finite(values, f"the values of {initializer!r}")
    return values


def _draws(initializer: Any) -> bool:
    return callable(initializer) and not isinstance(initializer, type)


_MATRICES, _VECTORS = Glorot(), Zeros()
"""How parameters start whose initializer is not named."""

_SHAPES = "a tuple of sizes for each name, {'weights': (3,)}"


_WHOLE = {"i": "int64", "b": "bool"}
"""The dtype of made-up numbers of each kind."""


def _require_same(
    program: LayerGraph, formula: Callable[..., Any], shapes: Mapping[str, tuple[int, ...]], least: int
) -> None:
    """Check that the graph of a formula computes what the formula itself does, for some numbers of rows from ``least``.

    Raises:
        DerivativeError: It does not: the formula branches on the number of rows, or depends on something else that is
            not in the graph.
    """
    dtype = program.traced.graph.dtype
    predict = emit({"output": program.traced.output}, program.traced.inputs, name="predict", memory=False)
    numbers = np.cos(np.arange(1.0, 1010.0) ** 1.3).astype(dtype)  # a prime number of them, which no axis repeats
    for rows in (rows for rows in (2, 5, 1) if rows >= least):
        sizes = [tuple(rows if size == ROWS else size for size in shape) for shape in shapes.values()]
        arrays = [np.resize(numbers, size) for size in sizes]
        kinds = [node.kind for node in program.traced.inputs.values()]
        arrays = [a if kind == "f" else (a > 0).astype(_WHOLE[kind]) for a, kind in zip(arrays, kinds, strict=True)]
        with np.errstate(all="ignore"):
            try:
                expected, *_ = formula(**dict(zip(shapes, arrays, strict=True)))
            except Exception:  # noqa: BLE001 (the made-up numbers are to blame)
                return
            result = predict(*arrays)
        tolerance = 1e-9 if dtype == "float64" else 1e-3
        if np.shape(expected) != result.shape or not np.allclose(
            result, expected, rtol=tolerance, atol=tolerance * np.nanmax(np.abs(expected), initial=0.0), equal_nan=True
        ):
            count = "1 row" if rows == 1 else f"{rows} rows"
            order = "on the order of equal elements, which np.argsort(x, stable=True) defines, "
            raise DerivativeError(
                f"the graph of the formula gives other values than the formula itself for {count}: it depends on "
                f"the number of rows, {order if 'argsort' in program.traced.graph.ops else ''}"
                "or on something besides its arguments and settings"
            )


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(
        isinstance(size, int | np.integer) and not isinstance(size, bool) and size >= 0 for size in shape
    )


def _require_buffers(new: Any, buffers: Arrays) -> None:
    """Check that a formula returns a new value of the same shape for each buffer, of a kind that it can hold."""
    wanted = {name: np.shape(value) for name, value in buffers.items()}
    got = {name: np.shape(value) for name, value in new.items()} if isinstance(new, Mapping) else type(new).__name__
    if got != wanted:
        raise DerivativeError(
            f"the formula must return (output, new buffers), with the buffers' names and shapes {wanted}; got {got}"
        )
    for name, value in buffers.items():
        kept, update = np.asarray(value).dtype, new[name]
        dtype = (update if isinstance(update, Symbol) else np.asarray(update)).dtype
        if not np.can_cast(dtype, kept, "same_kind"):
            raise DerivativeError(
                f"the new value of buffer '{name}' must be {kept}, as in initial_buffers; got {dtype}, which it cannot "
                "hold: cast one of them"
            )


def _unpickle(cls: type[Layer], settings: dict[str, Any], numbers: Any) -> Layer:
    layer = cls._build_from(settings)
    if numbers is not None:
        layer._built(draw=False).fill(*numbers)
    return layer
