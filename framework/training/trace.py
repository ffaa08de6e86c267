"""Trace: the textbook view of one step of a neuron, number by number, and the norms of a step of other models.

The textbook's error term is (y - f(h)) f'(h): target minus prediction, undivided, for each row. It is minus dL/dh of
the half squared error. Training itself uses gradients of the weighted mean; see losses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_type_hints

import numpy as np

from framework.backends.numpy import emit
from framework.backends.step import Workspace
from framework.base.arrays import real_array
from framework.base.errors import ShapeError
from framework.base.settings.component import Count
from framework.base.settings.messages import word_errors
from framework.base.tables import as_html, as_text
from framework.formulas.losses import Loss
from framework.formulas.losses.formulas import HalfSquaredError
from framework.graph.step import LossGraph
from framework.models.affine import Neuron
from framework.training.callbacks import Callback
from framework.training.optimizers.formulas import SGDOptimizer
from framework.training.runs.run import Run


@dataclass(frozen=True, eq=False)
class TracedStep:
    """Every quantity of one step; for a batch, with a row axis in front where rows differ.

    Attributes:
        x: The inputs, (inputs,) or (rows, inputs).
        weights: w before the step, (inputs,).
        bias: b before the step.
        h: w . x + b.
        output: f(h).
        slope: f'(h).
        target: y.
        error: y - f(h).
        error_term: -dL/dh of each row: (y - f(h)) f'(h) for the half squared error.
        learning_rate: The rate of the step.
        increment: What the step added to the weights: rate times the mean of error term times x, for plain descent.
        new_weights: w after the step.
        new_bias: b after the step.
        new_output: f(h) after the step.
        new_error: y - f(h) after the step.

    Example:
        >>> step = trace_step(Neuron.from_weights([0.1, 0.2]), [1.0, 1.0], 1.0)
        >>> step.to_dict()["new_weights"]
        [0.7999999999999999, 0.8999999999999999]
    """

    x: Annotated[Any, "x"]
    weights: Annotated[Any, "w"]
    bias: Annotated[Any, "b"]
    h: Annotated[Any, "h = w . x + b"]
    output: Annotated[Any, "output f(h)"]
    slope: Annotated[Any, "f'(h)"]
    target: Annotated[Any, "y"]
    error: Annotated[Any, "error y - f(h)"]
    error_term: Annotated[Any, "error term"]
    learning_rate: Annotated[Any, "learning rate"]
    increment: Annotated[Any, "increment"]
    new_weights: Annotated[Any, "new w"]
    new_bias: Annotated[Any, "new b"]
    new_output: Annotated[Any, "new output"]
    new_error: Annotated[Any, "new error"]

    def to_dict(self) -> dict[str, Any]:
        """Return the quantities as plain numbers and lists, in the order of the algorithm."""
        return {name: np.asarray(value).tolist() for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, quantities: Mapping[str, Any]) -> Self:
        """Return the step that ``to_dict`` wrote."""
        return cls(**{name: np.asarray(value)[()] for name, value in quantities.items()})

    def to_json(self) -> str:
        """Return ``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_text(self) -> str:
        """Return a table of names and values, with all their digits."""
        return as_text(self._rows(), left=2)

    def to_markdown(self) -> str:
        """Return the table in Markdown."""
        return "\n".join(["| quantity | value |", "|---|---|", *(f"| {a} | {b} |" for a, b in self._rows())])

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """Return the table that Jupyter shows."""
        return as_html([("quantity", "value"), *self._rows()], left=2)

    def _rows(self) -> list[tuple[str, str]]:
        return [(LABELS[name], str(value)) for name, value in self.to_dict().items()]


@dataclass(frozen=True)
class TracedUpdate:
    """A step of a model of layers, as Euclidean norms by the names of its parameters.

    Attributes:
        loss: The loss of the batch, before the step.
        learning_rate: The rate of the step.
        weights: The norm of each parameter before the step.
        gradients: The norm of each gradient.
        increments: The norm of what the step added to each parameter; 0 for a frozen one.

    Example:
        >>> TracedUpdate(0.5, 0.1, {"bias": 0.0}, {"bias": 2.0}, {"bias": 0.2}).increments["bias"]
        0.2
    """

    loss: float
    learning_rate: float
    weights: dict[str, float]
    gradients: dict[str, float]
    increments: dict[str, float]


LABELS = {name: hint.__metadata__[0] for name, hint in get_type_hints(TracedStep, include_extras=True).items()}
"""The heading of each quantity in a table, in the order of the algorithm."""


@word_errors
def error_term(neuron: Neuron, x: Any, target: Any, loss: Loss | None = None) -> Any:
    """Return the textbook's error term, (y - f(h)) f'(h), for one sample or each row.

    Args:
        neuron: The neuron, which is not changed.
        x: One sample (inputs,) or rows (rows, inputs).
        target: y, a number or (rows,).
        loss: The loss for -dL/dh; None is the half squared error.

    Example:
        >>> from framework import Sigmoid
        >>> neuron = Neuron.from_weights([0.1, 0.2], activation=Sigmoid())
        >>> float(error_term(neuron, [1.0, 1.0], 1.0))
        0.1040310638675848
    """
    return _quantities(neuron, x, target, loss or HalfSquaredError())["error_term"]


def increment(neuron: Neuron, x: Any, target: Any, learning_rate: float) -> Any:
    """Return the textbook's increment of one sample, rate * error term * x: (inputs,), or one component by its index.

    Example:
        >>> from framework import Sigmoid
        >>> neuron = Neuron.from_weights([0.1, 0.2], activation=Sigmoid())
        >>> increment(neuron, [1.0, 1.0], 5.0, learning_rate=1.0)
        array([1.08186431, 1.08186431])
        >>> float(increment(neuron, [1.0, 1.0], 5.0, learning_rate=1.0)[0])
        1.0818643106305683
    """
    return learning_rate * error_term(neuron, x, target) * real_array(x, "x", neuron.dtype)


@word_errors
def trace_step(
    neuron: Neuron, x: Any, target: Any, *, learning_rate: float = 1.0, loss: Loss | None = None
) -> TracedStep:
    """Make one step of plain descent with a copy of the neuron, and return every quantity on the way.

    Args:
        neuron: The neuron, which is not changed; a frozen bias stays where it is.
        x: One sample (inputs,) or rows (rows, inputs).
        target: y, a number or (rows,).
        learning_rate: The rate of the step.
        loss: The loss to minimize; None is the half squared error, the textbook's.

    Example:
        >>> from framework import Sigmoid
        >>> neuron = Neuron.from_weights([0.1, 0.2], activation=Sigmoid(), train_bias=False)
        >>> print(trace_step(neuron, [1.0, 1.0], 5.0))
        x               [1.0, 1.0]
        w               [0.1, 0.2]
        b               0.0
        h = w . x + b   0.30000000000000004
        output f(h)     0.574442516811659
        f'(h)           0.24445831169074586
        y               5.0
        error y - f(h)  4.425557483188341
        error term      1.0818643106305683
        learning rate   1.0
        increment       [1.0818643106305683, 1.0818643106305683]
        new w           [1.1818643106305684, 1.2818643106305683]
        new b           0.0
        new output      0.9215596195060674
        new error       4.078440380493933
    """
    loss = loss or HalfSquaredError()
    copy = neuron.copy()
    before = _quantities(copy, x, target, loss)
    optimizer = SGDOptimizer(copy, learning_rate=learning_rate)
    copy.forward(x)
    loss.backward(copy, target)
    optimizer.step()
    return _complete_step(copy, before, learning_rate)


class TraceSteps(Callback):
    """Record ``limit`` steps of a training, the newest or the first ones.

    A step of a ``Neuron`` is a ``TracedStep``, with every quantity; that of another model is a ``TracedUpdate``, with
    norms by parameter. It acts within each step, so that with the compiled engine NumPy makes the update.

    Attributes:
        limit: How many steps to keep.
        keep: ``"newest"``, or ``"first"``, which a report shows.

    Example:
        >>> from framework import SGDOptimizer, Trainer
        >>> trace = TraceSteps(limit=2)
        >>> trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), callbacks=[trace])
        >>> run = trainer.replace(batch_size=1).fit(Neuron(1), ([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0]))
        >>> [round(float(step.error[0]), 3) for step in trace.steps(run)]
        [4.118, -3.754]
    """

    observes: ClassVar[bool] = True

    limit: Count = 100
    keep: Literal["newest", "first"] = "newest"

    def steps(self, run: Run) -> list[Any]:
        """Return the recorded steps, oldest first: each a ``TracedStep``, or a ``TracedUpdate``."""
        made = TracedStep.from_dict if isinstance(run.model, Neuron) else lambda update: TracedUpdate(**update)
        return [*map(made, run.memory(self).get("steps", []))]

    def on_gradients(self, run: Run) -> None:
        """Record what is known before the step."""
        model, current = run.model, run.current
        if current is None or (self.keep == "first" and len(run.memory(self).get("steps", ())) == self.limit):
            return
        if isinstance(model, Neuron):
            before = _quantities(model, current[0].copy(), current[1].copy(), run.loss_function)
        else:
            gradients = _norms(model.parameters.gradients)
            before = {
                "weights": {name: value.copy() for name, value in model.parameters.items()},
                "gradients": gradients,
            }
        run.live(self)["before"] = before

    def on_batch_end(self, run: Run) -> None:
        """Record what the step changed."""
        before = run.live(self).pop("before", None)
        if before is None:
            return
        model, rate, memory = run.model, run.optimizer.last_rate, run.memory(self)
        steps = memory.setdefault("steps", [])
        if isinstance(model, Neuron):
            steps.append({name: np.array(value) for name, value in asdict(_complete_step(model, before, rate)).items()})
        else:
            added = {name: model.parameters[name] - value for name, value in before["weights"].items()}
            norms = {
                "weights": _norms(before["weights"]),
                "gradients": before["gradients"],
                "increments": _norms(added),
            }
            steps.append({"loss": run.batch_loss, "learning_rate": rate, **norms})
        del steps[: -self.limit]
        memory["first"] = run.step - len(steps) + 1


def _norms(arrays: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(np.linalg.norm(array)) for name, array in arrays.items()}


def _quantities(neuron: Neuron, x: Any, target: Any, loss: Loss) -> dict[str, Any]:
    """Return what is known before a step, without changing the neuron."""
    x, alone = neuron._accept(x, neuron._built())
    target = real_array(target, "target", neuron.dtype)[()]
    done = neuron._run(x, None, Workspace(), training=True, sample=alone)
    (output,), (h,) = done.a, done.h
    slope = neuron.activation.derivative(h)
    if np.shape(target) != np.shape(output):
        raise ShapeError(f"target must have the shape of the output, {np.shape(output)}; got {np.shape(target)}")
    loss.require_model(neuron.output_activation)
    graph = LossGraph(done.passes.graph, loss, target, weighted=False)
    (slope_of_loss,) = graph.deltas.values()
    inputs = {"a": graph.a["output"], "h": graph.h["output"] or graph.a["output"], **graph.data}
    delta = emit({"delta": slope_of_loss}, inputs, memory=False)(output, h, target, output.dtype.type(1.0))
    # 0 - x and not -x, so that an error of 0 is not shown as -0
    term = 0.0 - (delta if graph.of_h["output"] else delta * slope)
    return {
        "x": x,
        "weights": neuron.weights.copy(),
        "bias": neuron.bias.copy(),
        "h": h,
        "output": output,
        "slope": slope,
        "target": target,
        "error": target - output,
        "error_term": term,
    }


def _complete_step(neuron: Neuron, before: dict[str, Any], rate: float) -> TracedStep:
    """Complete the quantities with those after the step."""
    weights, bias = neuron.weights.copy(), neuron.bias.copy()
    output = neuron(before["x"])
    term = rate * before["error_term"]
    textbook = term * before["x"] if before["x"].ndim == 1 else before["x"].T.dot(term) / len(before["x"])
    plain = np.array_equal(before["weights"] + textbook, weights)  # momentum, decay and clipping add something else
    return TracedStep(
        **before,
        learning_rate=rate,
        increment=textbook if plain else weights - before["weights"],
        new_weights=weights,
        new_bias=bias,
        new_output=output,
        new_error=before["target"] - output,
    )
