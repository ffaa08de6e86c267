"""Divergence: find the layer and the rows of the data in which a loss or gradient is no longer finite.

A step only asks whether its loss and its gradient are finite. When one is not, the step is made once more on a copy of
the model, layer by layer, to find the first place. This costs nothing in other steps and does not change the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from framework.arrays import Array, Batch, Record
from framework.errors import DivergedError
from framework.losses import Loss
from framework.losses.several import Losses
from framework.models import Model
from framework.runs.run import Run
from framework.trees import at, flatten, map_leaves

SHOWN_ROWS = 5
"""How many rows a line lists; of the others it gives the number."""

Place = tuple[Model, Record, str]
"""A layer, its record, and its name in the whole model: ``"1"``, ``"2.block.0"``, or ``""`` for the model itself."""


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
            for line in _found(run, rows):
                lines.append(line)  # noqa: PERF402 (what is found before an error stays)
    except DivergedError:  # the forward of a layer raised it
        lines += [place_of(run), kept(run)]
    except Exception as error:  # noqa: BLE001 (a formula of the user's may raise anything)
        where = "" if lines else f"{place_of(run)}: "
        lines += [f"{where}the batch could not be examined further: {type(error).__name__}: {error}", kept(run)]
    return lines


def place_of(run: Run) -> str:
    """Return the epoch and the step."""
    return f"in epoch {run.epoch + 1}, step {run.step + 1}"


def kept(run: Run) -> str:
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


def _found(run: Run, rows: Callable[[], Array] | None) -> Iterator[str]:
    assert run.current is not None
    x, y, weight = run.current
    loss, twin = run.loss_function, run.model.copy()
    a = twin.forward(x, key=run.key, copy=False)
    total, count = loss.output_sums(twin.output_activation, twin.preactivation, a, y, weight)
    yield f"{place_of(run)}: the loss is {total / count:g}"
    if not_finite(run.model.parameters):  # every layer and every row is to blame, and none
        yield kept(run)
        return
    yield _cause(run, run.current, twin, a, total / count, None if rows is None else rows())
    yield kept(run)
    if not np.isfinite(total) or not_finite(twin.parameters.gradients):  # no hook did it
        yield "the same step fails again from these weights: resume from earlier ones, or start over, with a lower rate"


def _cause(run: Run, batch: Batch, twin: Model, a: Any, loss: float, numbers: Array | None) -> str:
    """Return the first of these that is not finite: a layer's output, a row's loss, their sum, the gradient."""
    x, y, weight = batch
    record = twin.recorded()
    if bad_layer := _forward(x, [(twin, record, "")]):
        layer, outputs = bad_layer
        return f"{layer} gives {_in_rows(outputs, numbers)}"
    if bad_output := _first_bad(record.preactivation):
        output, h = bad_output
        return f"{output or _last(twin, record)}, before its activation, gives {_in_rows(h, numbers)}"
    losses = _losses(run.loss_function, batch, twin, a)
    if bad_output := _first_bad(losses):
        output, values = bad_output
        of = f" of {output}" if output else ""
        return f"every layer's output is finite, but the loss{of} is {_in_rows(values, numbers)}"
    each: Array = np.sum([*losses.values()], axis=0)
    row = int(np.argmax(np.abs(each)))
    largest = f"the largest loss is {each[row]:g}, in {_listed(np.array([row]), numbers)}"
    if not np.isfinite(loss):
        return f"each row's loss is finite, but their sum is not; {largest}"
    bad = not_finite(run.model.parameters.gradients)
    if not bad:
        size = {name: np.abs(g).max(initial=0.0) for name, g in run.model.parameters.gradients.items()}
        name = max(size, key=lambda name: float(size[name]))
        return f"loss and gradient are finite; the largest gradient is {size[name]:g}, of {name}; {largest}"
    run.loss_function.backward(twin, y, weight, check=False)
    if not not_finite(twin.parameters.gradients):
        return f"the loss gives {', '.join(bad)} a finite gradient, which a regularizer or an on_gradients hook changed"
    delta: Any = _deltas(record, a)
    if bad_output := _first_bad(delta):
        output, slope = bad_output
        of = f" of {output}" if output else ""
        return f"the loss{of} is finite, but its slope is {_in_rows(slope, numbers)}"
    places = [(twin, record, "")]
    layer, outputs = _backward(delta, places, lambda: twin.forward(x, key=run.key, copy=False)) or ("", delta)
    if bad_leaves := not_finite(flatten(outputs)):
        what = f"for {bad_leaves[0]} " if isinstance(outputs, dict) else ""
        return f"{layer} returns a gradient {what}of {_in_rows(flatten(outputs)[bad_leaves[0]], numbers)}"
    return f"{layer} makes of finite numbers a gradient that is not, that of {', '.join(bad)}; {largest}"


def _inside(model: Model, record: Record, name: str) -> list[Place]:
    """Return the layers of a model whose layers run one after another; none of any other."""
    start = f"{name}." if name else ""
    parts = zip(model.chain.items(), record.parts, strict=False)
    return [(layer, part, f"{start}{child}") for (child, layer), part in parts]


def _forward(x: Any, places: list[Place]) -> tuple[str, Array] | None:
    """Return the innermost layer that first gives something not finite, and what it gives."""
    for layer, record, name in places:
        record.calls = {}
        before, x = x, layer.apply(x, layer.parameters.views, record)
        if bad := not_finite(flatten(x)):
            start = f"{name}." if name else ""
            for (child, (part, given)), inside in zip(layer.branches(before).items(), record.parts, strict=False):
                if found := _forward(given, [(part, inside, f"{start}{child}")]):
                    return found
            return _forward(before, _inside(layer, record, name)) or (_named(layer, name), flatten(x)[bad[0]])
    return None


def _backward(gradient: Any, places: list[Place], forward: Callable[[], Any]) -> tuple[str, Any] | None:
    """Return the innermost layer where the gradient first is not finite, and what it returns."""
    gradient = map_leaves(np.copy, gradient)
    forward()  # each serves one backward
    for layer, record, name in reversed(places):
        record.needs_input_gradient = True  # which shows the rows, in the first layer too
        parameters = layer.parameters
        before, gradient = gradient, layer.apply_backward(gradient, parameters.views, record, parameters.gradients)
        if not_finite(flatten(gradient)) or not_finite(parameters.gradients):
            return _backward(before, _inside(layer, record, name), forward) or (_named(layer, name), gradient)
    return None


def _last(model: Model, record: Record, name: str = "") -> str:
    """Return the name of the output layer."""
    inside = _inside(model, record, name)
    return _last(*inside[-1]) if inside else _named(model, name)


def _named(layer: Model, name: str) -> str:
    """Return ``layer 1 Dense(ReLU)``, or ``Neuron(Sigmoid)`` when it is the model."""
    shown = layer._summary_rows(name, layer.known_shape)[0][0].removesuffix("()")
    return f"layer {shown}" if name else shown


def _first_bad(tree: Any, name: str = "") -> tuple[str, Array] | None:
    """Return the first output whose numbers are not finite, and them; the only one of a model has no name."""
    if isinstance(tree, dict):
        inside = (_first_bad(part, f"output '{key}'" if key else "") for key, part in tree.items())
        return next(filter(None, inside), None)
    return None if tree is None or np.isfinite(tree).all() else (name, tree)


def _deltas(record: Record, a: Any) -> Any:
    """Return what the last backward of the loss has left as dL/dh or dL/da."""
    if isinstance(a, dict):
        return {name: _deltas(record.outputs[name], part) for name, part in a.items()}
    return record.array("delta", a.shape)


def _losses(loss: Loss, batch: Batch, twin: Model, a: Any) -> dict[str, Array]:
    """Return w l of each row by the name of the output; the only one of a model has the name ""."""
    _, y, weight = batch
    found = {}

    def add(loss: Loss, path: tuple[str, ...], share: float) -> None:
        if isinstance(loss, Losses):
            for key, each in loss.losses.items():
                add(each, (*path, key), share * loss.weight_of(key))
            return
        activation, h, output, target = (at(part, path) for part in (twin.output_activation, twin.preactivation, a, y))
        target = loss.expand(target, output.shape)
        values = loss.value_from_preactivation(h, target) if loss.fuses(activation) else loss.value(output, target)
        rows = share * np.reshape(values, (len(output), -1)).sum(axis=1)
        found[".".join(path)] = rows if weight is None else rows * weight

    add(loss, (), 1.0)
    return found


def _in_rows(values: Array, numbers: Array | None) -> str:
    """Return ``nan in 1 of 32 rows: row 517 of the data``."""
    finite = np.isfinite(values)
    wrong = values[~finite]
    kinds = [
        kind for kind, found in (("nan", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)) if found(wrong).any()
    ]
    rows = np.flatnonzero(~finite.reshape(len(values), -1).all(axis=1))
    return f"{' and '.join(kinds)} in {len(rows)} of {len(values)} rows: {_listed(rows, numbers)}"


def _listed(rows: Array, numbers: Array | None) -> str:
    """Return ``rows 517, 12 of the data``, given places in the batch and the data's numbers of all its rows."""
    named = rows if numbers is None else numbers[rows]
    more = f" and {len(named) - SHOWN_ROWS} more" if len(named) > SHOWN_ROWS else ""
    text = ", ".join(str(number) for number in named[:SHOWN_ROWS])
    return f"row{'s' * (len(named) > 1)} {text}{more} of the {'batch' if numbers is None else 'data'}"
