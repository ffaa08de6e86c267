"""Divergence: find the layer and the rows of the data in which a loss or gradient is no longer finite.

A step only asks whether its loss and its gradient are finite. When one is not, the graph of the step is computed once
more, on a copy of the model, to find the first place. This costs nothing in other steps and does not change the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

import numpy as np

from framework.backends.numpy import emit
from framework.base.arrays import Array
from framework.base.errors import DivergedError
from framework.base.trees import flatten, leaf_name, leaves, map_leaves, rows_in
from framework.graph.gradient import gradients
from framework.graph.node import Node, nodes_in
from framework.graph.step import StepGraph
from framework.graph.walk import Scope
from framework.training.runs.run import Run

SHOWN_ROWS = 5
"""How many rows a line lists; of the others it gives the number."""


def explain(run: Run, rows: Callable[[], Array] | None = None) -> list[str]:
    """Return lines that say why the current step diverged: epoch and step, loss, layer or parameters, rows, weights.

    It never raises, so that the original error is the one that the caller sees.

    Args:
        run: The run, as the failed step left it.
        rows: Gives the numbers that the caller's data has for the batch's rows; None numbers them within the batch.
    """
    lines: list[str] = []
    try:
        with np.errstate(all="ignore"):
            for line in _explain(run, rows):
                lines.append(line)  # noqa: PERF402 (what is found before an error stays)
    except DivergedError:  # the forward of a layer raised it
        lines += [place_of(run), describe_weights(run)]
    except Exception as error:  # noqa: BLE001 (a formula of the user's may raise anything)
        where = "" if lines else f"{place_of(run)}: "
        lines += [
            f"{where}the batch could not be examined further: {type(error).__name__}: {error}",
            describe_weights(run),
        ]
    return lines


def place_of(run: Run) -> str:
    """Return the epoch and the step."""
    return f"in epoch {run.epoch + 1}, step {run.step + 1}"


def describe_weights(run: Run) -> str:
    """Say in what state the weights are."""
    bad = not_finite(run.model.parameters)
    if not bad:
        return "the model keeps its last finite weights (error.run)"
    if run.step == 0:
        return f"{', '.join(bad)} held numbers that are not finite before the first step"
    return f"the step before has already made {', '.join(bad)} not finite: the rate is far too large"


def not_finite(arrays: Any) -> list[str]:
    """Return the names of the arrays that hold something not finite.

    Example:
        >>> not_finite({"weights": np.array([1.0, np.nan]), "bias": np.zeros(1)})
        ['weights']
    """
    return [name for name, array in arrays.items() if not np.isfinite(array).all()]


def _explain(run: Run, rows: Callable[[], Array] | None) -> Iterator[str]:
    step = _Step(run, rows)
    yield f"{place_of(run)}: the loss is {step.loss:g}"
    if not_finite(run.model.parameters):  # every layer and every row is to blame, and none
        yield describe_weights(run)
        return
    yield next(_causes(step))
    yield describe_weights(run)
    if not np.isfinite(step.loss) or not_finite(step.twin.parameters.gradients):  # no hook did it
        yield "the same step fails again from these weights: resume from earlier ones, or start over, with a lower rate"


class _Step:
    """The current step of a run as a graph, with a copy of the model that has made the forward pass again.

    Attributes:
        run: The run.
        twin: The copy.
        graph: The graph.
        ends: The inputs and the outputs of all layers.
        arrays: The values of nodes; where rows have no weights these are 1.
        loss: The loss.
    """

    def __init__(self, run: Run, rows: Callable[[], Array] | None) -> None:
        """Compute the inputs and the outputs of all layers, and the loss."""
        assert run.current is not None
        x, y, weight = run.current
        weight = np.ones(rows_in(y), run.model.dtype) if weight is None else weight
        self.run, self.twin, self._rows = run, run.model.copy(), None if rows is None else rows()
        self.twin.forward(x, key=run.key, copy=False)
        done, loss = self.twin.last_pass(), run.loss_function
        self.graph = StepGraph(self.twin, loss, (x, y, weight))
        model, after = self.graph.model, self.graph.loss
        inputs, count = [*model.inputs, *after.data.values()], loss.count(map_leaves(np.shape, done.tree), weight)
        self.arrays: dict[Any, Any] = dict(
            zip(inputs, [*done.arguments, *leaves(y), weight, done.passes.dtype.type(count)], strict=True)
        )
        trees = (tree for scope in model.scopes for tree in (scope.input, scope.output))
        self.ends = nodes_in(leaf for tree in trees for leaf in leaves(tree))
        self.compute([*self.ends, *model.h])
        links = zip([*after.a.values(), *after.h.values()], [*model.a, *model.h], strict=True)
        self.arrays |= {node: self.arrays[end] for node, end in links if node}
        self.compute([after.totals[()], *after.deltas.values()])
        self.loss = float(self.arrays[after.totals[()]]) / count

    def compute(self, nodes: Iterable[Any]) -> None:
        """Compute nodes from those that are known."""
        outputs = {f"output{node.place}": node for node in nodes_in(nodes)}
        function = emit(outputs | {"none": 0.0}, {f"input{node.place}": node for node in self.arrays}, share=True)
        memory = function.new_memory()
        memory.key = self.run.key
        self.arrays |= zip(outputs.values(), function(*self.arrays.values(), memory=memory), strict=False)

    def wrong(self, tree: Any, arrays: Mapping[Node, Any]) -> tuple[str, str] | None:
        """Return the name of the first leaf that is not finite, and its rows; ``arrays`` are the values of nodes."""
        values = {name: arrays[node] for name, node in flatten(tree).items() if isinstance(node, Node)}
        return next(((name, self.in_rows(values[name])) for name in not_finite(values)), None)

    def in_rows(self, values: Array) -> str:
        """Return ``nan in 1 of 32 rows: row 517 of the data``."""
        tests: dict[str, Any] = {"nan": np.isnan, "inf": np.isposinf, "-inf": np.isneginf}
        kinds = [kind for kind, test in tests.items() if test(values).any()]
        rows = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
        return f"{' and '.join(kinds)} in {len(rows)} of {len(values)} rows: {self.list_rows(rows)}"

    def list_rows(self, rows: Array) -> str:
        """Return ``rows 517, 12 of the data``, given places in the batch, where the rows of the data are known."""
        named = rows if self._rows is None else self._rows[rows]
        more = f" and {len(named) - SHOWN_ROWS} more" if len(named) > SHOWN_ROWS else ""
        text = ", ".join(str(number) for number in named[:SHOWN_ROWS])
        return f"row{'s' * (len(named) > 1)} {text}{more} of the {'batch' if self._rows is None else 'data'}"

    def label(self, scope: Scope) -> str:
        """Return ``layer 1 Dense(ReLU)``, or ``Neuron(Sigmoid)`` when it is the model."""
        layer = dict(self.twin.walk_models())[scope.path]
        shown = layer._summary_rows(scope.path, layer.known_shape)[0][0].removesuffix("()")
        return f"layer {shown}" if scope.path else shown


def _causes(step: _Step) -> Iterator[str]:
    """Give what is not finite: a layer's output, a row's loss, their sum, the gradient."""
    ends = dict(zip(step.graph.model.a, step.graph.model.h, strict=True))
    for scope in step.graph.model.scopes:
        for what, tree in (("", scope.output), (", before its activation,", map_leaves(ends.get, scope.output))):
            if (wrong := step.wrong(tree, step.arrays)) and not step.wrong(scope.input, step.arrays):
                yield f"{step.label(scope)}{what} gives {wrong[1]}"
    yield from _causes_in_loss(step)


def _causes_in_loss(step: _Step) -> Iterator[str]:
    weight, deltas = step.graph.loss.data["weight"], step.graph.loss.deltas
    slopes = {path: gradients([(total, 1.0)], [weight])[0] for path, total in step.graph.loss.totals.items()}
    step.compute(slopes.values())
    rows = {path: step.arrays[weight] * step.arrays[node] for path, node in slopes.items()}
    trained = {path: deltas[name] for path in rows if (name := reduce(leaf_name, path, "output")) in deltas}
    of = {path: f" of output '{'.'.join(path)}'" if path else "" for path in trained}
    for path in trained:
        if not np.isfinite(rows[path]).all():
            yield f"every layer's output is finite, but the loss{of[path]} is {step.in_rows(rows[path])}"
    row = np.argmax(np.abs(rows[()]), keepdims=True)
    largest = f"the largest loss is {rows[()][row[0]]:g}, in {step.list_rows(row)}"
    if not np.isfinite(step.loss):
        yield f"each row's loss is finite, but their sum is not; {largest}"
    own = step.run.model.parameters.gradients
    if not (bad := ", ".join(not_finite(own))):
        name = max(own, key=lambda name: float(np.abs(own[name]).max(initial=0.0)))
        size = np.abs(own[name]).max()
        yield f"loss and gradient are finite; the largest gradient is {size:g}, of {name}; {largest}"
    step.run.loss_function.backward(step.twin, *step.run.current[1:], check=False)  # type: ignore[index]
    if not not_finite(step.twin.parameters.gradients):
        yield f"the loss gives {bad} a finite gradient, which a regularizer or an on_gradients hook changed"
    for path, delta in trained.items():
        if wrong := step.wrong(delta, step.arrays):
            yield f"the loss{of[path]} is finite, but its slope is {wrong[1]}"
    yield from _causes_in_backward(step, f"that of {bad}; {largest}")
    yield f"the loss is finite, but {type(step.run.loss_function).__name__}.backward gives {bad} a gradient that is not"


def _causes_in_backward(step: _Step, gradient: str) -> Iterator[str]:
    model = step.graph.model
    outputs: dict[str, Any] = dict(zip(leaves(model.outputs), zip(model.a, model.h, strict=True), strict=True))
    loss = step.graph.loss
    starts = {outputs[name][0]: (outputs[name][loss.of_h[name]], delta) for name, delta in loss.deltas.items()}
    adjoints = dict(zip(step.ends, gradients(starts.values(), step.ends, ends=step.ends), strict=True))
    step.compute(adjoints.values())
    slopes = {node: step.arrays[adjoint] for node, adjoint in adjoints.items()}
    bad = not_finite(step.twin.parameters.gradients)
    for scope in sorted(model.scopes, key=lambda scope: -scope.start):  # inner ones stay before the outer ones
        own = [model.numbers[name] for name in bad if name.startswith(scope.path and f"{scope.path}.")]
        if (own or step.wrong(scope.input, slopes)) and not step.wrong(scope.output, slopes):
            inputs = nodes_in(leaves(scope.input))
            pairs = [starts.get(node, (node, adjoints[node])) for node in leaves(scope.output)]
            backward = gradients(pairs, [*inputs, *own], inputs, step.ends)
            step.compute(backward)
            returned: dict[Any, Any] = dict(zip([*inputs, *own], map(step.arrays.get, backward), strict=True))
            if wrong := step.wrong(scope.input, returned):
                what = f"for {wrong[0]} " if isinstance(scope.input, dict) else ""
                yield f"{step.label(scope)} returns a gradient {what}of {wrong[1]}"
            if not_finite(returned):
                yield f"{step.label(scope)} makes of finite numbers a gradient that is not, {gradient}"
