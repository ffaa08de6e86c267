"""Join, Heads and Ensemble: models of several inputs, of several outputs by name, and the mean of several models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict

from framework.base.arrays import Arrays, Record
from framework.base.errors import SettingsError, ShapeError, within
from framework.base.settings.component import Count, require_named
from framework.base.shapes import Shape, format_shape, is_known, require_rows
from framework.base.trees import leaf_name, map_leaves, sample_shape
from framework.formulas.activations import Activation
from framework.models.base import Model
from framework.models.composite import Composite
from framework.models.embedding import Embedding
from framework.models.layer import Layer
from framework.models.sequential import Sequential
from framework.preprocessing.fitted import NUMBERS


class Input(Layer):
    """a = x: an input as it is, (inputs,), for a place where there must be a layer. ``None`` in a Join is an Input.

    Args:
        inputs: The number of inputs; left out, it comes from the data.

    Raises:
        SettingsError: A setting is out of range.

    Example:
        >>> Input(2)([1.0, 2.0])
        array([1., 2.])
    """

    inputs: Count | None = None

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def formula(self, x: Any) -> Any:
        return x


class _Branches(Composite):
    """The base of Join and Heads: models under names that the user chooses."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Model | Activation]

    kind: ClassVar[str]
    written: ClassVar[str]

    def __init__(self, /, *models: object, **branches: Model | Activation | None) -> None:
        require_named(type(self), self.kind, self.written, models, branches)
        super().__init__(**{name: Input() if child is None else child for name, child in branches.items()})

    def children(self) -> Mapping[str, Model | Activation]:
        return dict(self.__pydantic_extra__)

    def advice(self, shape: Any) -> str:
        return ""


class Join(_Branches):
    """Several inputs by name as one: each goes through its own model, and what they give is joined along the last axis.

    x is a dict of arrays by the same names. A sample of an input is what its model takes; a column (rows,) counts as
    (rows, 1). An Embedding takes one id per row, (rows,), and gives (rows, units); of (rows, n) ids it gives
    (rows, n, units), which ``Sequential(Embedding(5, 3), Flatten())`` makes one row.

    Args:
        **branches: A model or an activation for each input; None is ``Input()``, which hands it on as it is.

    Raises:
        SettingsError: There is no input, an input has no name, or the dtypes differ.
        ShapeError: Outputs differ in more than the last axis.
        UsageError: A layer already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> from framework import Dense, Embedding, ReLU, Sequential
        >>> import numpy as np
        >>> model = Sequential(Join(numbers=Input(4), city=Embedding(5, 3)), Dense(units=8, activation=ReLU()))
        >>> model({"numbers": np.zeros((10, 4)), "city": np.zeros(10)}).shape
        (10, 8)
        >>> list(model.parameters)
        ['0.city.weights', '1.weights', '1.bias']

    Source:
        Guo and Berkhahn, Entity embeddings of categorical variables (2016), figure 1.
    """

    kind = "input"
    written = "Join(numbers=None, city=Embedding(5, 3))"

    @property
    def input_shape(self) -> dict[str, Any]:
        return {name: () if isinstance(child, Embedding) else child.input_shape for name, child in self.parts.items()}

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        return all(child.leading_axes or isinstance(child, Embedding) for child in self.parts.values())

    def takes(self, shape: Any) -> bool:
        return (
            isinstance(shape, dict)
            and shape.keys() == self.parts.keys()
            and all(
                child.takes(shape[name]) or _takes_numbers(child, shape[name]) for name, child in self.parts.items()
            )
        )

    def tell_numbers(self, numbers: tuple[bool, ...]) -> None:
        if NUMBERS in self.parts:
            self.parts[NUMBERS].tell_numbers(numbers)

    def require_batch(self, shapes: Any, name: str) -> None:
        if not isinstance(shapes, dict) or shapes.keys() != self.parts.keys():
            super().require_batch(shapes, name)  # which raises
        for key, child in self.parts.items():
            shape, leaf = shapes[key], leaf_name(name, key)
            if isinstance(shape, dict) or isinstance(child.input_shape, dict):
                child.require_batch(shape, leaf)
            elif not shape or not (child.takes(shape[1:]) or _takes_numbers(child, shape[1:])):
                require_rows(shape, self.input_shape[key], leaf)

    def cardinalities(self, shape: Any) -> Any:
        counts = {}
        for name, child in self.parts.items():
            column = shape[name] == () and not _embeds(child)
            counts[name] = child.cardinalities((1,))[0] if column else child.cardinalities(shape[name])
        return counts

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        outputs = {
            name: self.forward_child(name, _as_rows(child, x[name]), record) for name, child in self.parts.items()
        }
        shapes: list[Any] = [getattr(output, "shape", ()) for output in outputs.values()]
        axes = shapes[0][1:-1]
        if any(len(shape) < 2 or shape[1:-1] != axes for shape in shapes):
            got = ", ".join(f"{format_shape(sample_shape(output))} of '{name}'" for name, output in outputs.items())
            raise ShapeError(
                "the model of each input must give one array, and their shapes may differ in the last axis alone; got "
                f"{got}; Sequential(..., Flatten()) makes one axis of several"
            )
        return np.concatenate([*outputs.values()], axis=-1)


class Heads(_Branches):
    """Several outputs by name from one input: a model gives a dict of arrays, each of them made by a model of its own.

    ``OutputLosses`` has a loss for each. dL/dx is the sum over the outputs.

    Args:
        **branches: A model or an activation for each output; None is ``Input()``, which hands the input on.

    Raises:
        SettingsError: There is no output, an output has no name, or the dtypes differ.
        ShapeError: The models take other inputs.
        UsageError: A layer already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> from framework import Dense, ReLU, Sequential, Sigmoid
        >>> model = Sequential(Dense(3, 8, ReLU()), Heads(price=Dense(8, 1), late=Dense(8, 1, Sigmoid())))
        >>> {name: output.shape for name, output in model([0.5, 1.0, 2.0]).items()}
        {'price': (1,), 'late': (1,)}

    Source:
        Caruana, Multitask learning (1997).
    """

    kind = "output"
    written = "Heads(price=Dense(units=1), late=Dense(units=1, activation=Sigmoid()))"

    def _connect(self) -> None:
        """Let a model that knows its inputs tell the others."""
        known = (child.open_shape for child in self.parts.values() if is_known(child.input_shape))
        if (shape := next(known, None)) is not None:
            self.settle(shape)

    @property
    def input_shape(self) -> Any:
        shapes = [child.input_shape for child in self.parts.values()]
        return next((shape for shape in shapes if is_known(shape)), shapes[0])

    @property
    def leading_axes(self) -> bool:  # type: ignore[override]
        return all(child.leading_axes for child in self.parts.values())

    def takes(self, shape: Any) -> bool:
        return all(child.takes(shape) for child in self.parts.values())

    def settle(self, shape: Any) -> Any:
        shapes = {}
        for name, child in self.parts.items():
            with within(f"output '{name}'"):
                shapes[name] = child.infer_shape(shape, settle=True)
        return shapes

    def shape_after(self, shape: Any) -> Any:
        return {name: child.infer_shape(shape) for name, child in self.parts.items()}

    @property
    def output_activation(self) -> Any:
        return {name: child.output_activation for name, child in self.parts.items()}

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        return {name: self.forward_child(name, x, record) for name in self._parts}


class Ensemble(Composite):
    """The mean of what several models make of the same input: of their probabilities, or of their numbers.

    A mean probability stays away from 0 and 1 by the precision of its dtype, as in scikit-learn's ``log_loss``, so that
    the log loss is finite.

    Args:
        *members: Models of the same inputs and outputs, which end in the same activation. They move in.
        dtype: "float64" or "float32", which the members become; None is theirs.

    Raises:
        SettingsError: There is no member, or activations or dtypes differ.
        ShapeError: The members give other shapes.
        UsageError: A member already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> from framework import Dense
        >>> Ensemble(Dense.from_weights([[1.0]]), Dense.from_weights([[2.0]]))([3.0])
        array([4.5])

    Source:
        Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation using deep ensembles (2017).
    """

    members: tuple[Model, ...]

    def __init__(self, *members: Model, dtype: npt.DTypeLike | None = None) -> None:
        if len(members) == 1 and isinstance(members[0], list | tuple):
            raise SettingsError("give the members one by one, without a list: Ensemble(*members)", where="Ensemble")
        super().__init__(members=members, dtype=dtype)

    @classmethod
    def _build_from(cls, settings: Mapping[str, Any]) -> Self:
        if unknown := set(settings) - {"members"}:
            raise SettingsError(f"unknown setting '{min(unknown)}'. Settings: members", where="Ensemble")
        return cls(*settings.get("members", ()))

    def children(self) -> Mapping[str, Model]:
        return {str(index): member for index, member in enumerate(self.members)}

    def _connect(self) -> None:
        if not self.parts:
            raise SettingsError("give one member or more, e.g. Ensemble(Dense(4, 1), Dense(4, 1))", where="Ensemble")
        ends = [repr(member.output_activation) for member in self.parts.values()]
        if len({*ends}) > 1:
            raise SettingsError(f"members must end in the same activation; got {', '.join(ends)}", where="Ensemble")

    def tell_numbers(self, numbers: tuple[bool, ...]) -> None:
        for part in self.parts.values():
            part.tell_numbers(numbers)

    def takes(self, shape: Any) -> bool:
        return self._first.takes(shape)

    def require_batch(self, shapes: Any, name: str) -> None:
        self._first.require_batch(shapes, name)

    @property
    def output_activation(self) -> Any:
        """The activation that ends the members: the mean has its meaning and its range."""
        return self._first.output_activation

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        outputs = [self.forward_child(name, x, record) for name in self.parts]
        return mean_outputs(self, outputs, lambda leaves: sum(leaves[1:], leaves[0]) / len(leaves))

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Show the members without a name, as the constructor takes them."""
        return [(None, member) for member in self.members]


def mean_outputs(model: Model, outputs: Sequence[Any], average: Callable[[Sequence[Any]], Any]) -> Any:
    """Return the mean of the outputs of several models like one; see ``Ensemble``.

    Args:
        model: One of them, or their Ensemble.
        outputs: The output of each, an array or arrays by name.
        average: Returns the mean of one array of each.

    Raises:
        ShapeError: The shapes differ.
    """
    margin = float(np.finfo(model.dtype).eps)

    def mean(*leaves: Any, activation: Any = None) -> Any:
        if len({leaf.shape for leaf in leaves}) > 1:
            got = ", ".join(format_shape(sample_shape(leaf)) for leaf in leaves)
            raise ShapeError(f"the members of an Ensemble must give outputs of one shape; got {got}")
        probable = getattr(activation, "output_range", None) == (0.0, 1.0)
        return np.clip(average(leaves), margin, 1.0 - margin) if probable else average(leaves)

    if model.output_activation is None:
        return map_leaves(mean, *outputs)
    return map_leaves(lambda end, *leaves: mean(*leaves, activation=end), model.output_activation, *outputs)


def _embeds(model: Model) -> bool:
    """Return whether a model begins with an Embedding, and so takes one id per row."""
    return isinstance(model, Embedding) or (isinstance(model, Sequential) and _embeds(next(iter(model.parts.values()))))


def _takes_numbers(model: Model, shape: Any) -> bool:
    """Return whether a model takes one number per row: an id, or a column."""
    return shape == () and (_embeds(model) or model.takes((1,)))


def _as_rows(model: Model, x: Any) -> Any:
    """Return what the model of an input is given: a column (rows,) as (rows, 1)."""
    return x[:, None] if not isinstance(x, dict) and x.ndim == 1 and not _embeds(model) else x
