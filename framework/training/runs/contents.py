"""Contents: what a page shows of a run, gathered from the run and from validation data, and of several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.base.arrays import class_names
from framework.base.errors import SettingsError, brief
from framework.base.settings.component import full_repr
from framework.base.tables import COUNTERS, duration
from framework.base.trees import at
from framework.data.parts import Source
from framework.formulas.activations.basic import Sigmoid, Softmax
from framework.formulas.losses import Loss
from framework.formulas.losses.several import OutputLosses
from framework.formulas.metrics.formulas import ConfusionMatrix
from framework.models import Model
from framework.models.rows import EVALUATION_ROWS, classes_of
from framework.views.reports.page import Confusion, Contents

FEW = 3
"""More names than this that only some runs have share a cell."""


@dataclass(frozen=True)
class Side:
    """A run in a comparison.

    Attributes:
        name: Its name.
        settings: What it was started with: tables in tables, or texts by name.
        epochs: How many epochs it has made.
        complete: Whether it has ended, as planned or because it was told to stop.
        row: The row of the history that is shown, of the epoch of the final weights.
    """

    name: str
    settings: Mapping[str, Any]
    epochs: int
    complete: bool
    row: Mapping[str, Any]


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Return the last part of each setting's path; the whole path where two end alike.

    Example:
        >>> short_names(["trainer.epochs", "model.seed", "trainer.seed"])
        {'trainer.epochs': 'epochs', 'model.seed': 'model.seed', 'trainer.seed': 'trainer.seed'}
    """
    ends = {path: path.rpartition(".")[2] for path in paths}
    return {path: path if [*ends.values()].count(end) > 1 else end for path, end in ends.items()}


def comparison(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Return a row for each run: its name, the settings in which the runs differ, epochs, and figures.

    All figures of a run are of one epoch, which is named.

    Example:
        >>> slow = Side("slow", {"seed": 0, "rate": 0.1}, 9, True, {"epoch": 9, "loss": 0.5})
        >>> fast = Side("fast", {"seed": 0, "rate": 0.5}, 4, True, {"epoch": 3, "loss": 0.2})
        >>> comparison([slow, fast])[1]
        {'run': 'fast', 'rate': 0.5, 'epochs': 4, 'complete': True, 'epoch': 3, 'loss': 0.2}
    """
    differing = dict(differing_settings([side.settings for side in sides]))
    rows = [
        {
            "run": side.name,
            **{name: values[index] for name, values in differing.items()},
            "epochs": side.epochs,
            "complete": side.complete,
            "epoch": side.row.get("epoch"),
            **{name: value for name, value in side.row.items() if name not in (*COUNTERS, "learning_rate")},
        }
        for index, side in enumerate(sides)
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def side_of(run: Any, name: str, runs: Iterable[Any]) -> Side:
    """Return one of the compared runs; of one that has stopped within an epoch, the row is that of the epoch before."""
    epoch, history = epoch_of_weights(run) or run.epoch, run.history
    short = {"model": repr(run.model), "loss": repr(run.loss_function)}
    optimizer = {"optimizer": repr(run.optimizer.recipe)}  # a callback may have changed it, as its learning rate
    changed = any(full_repr(other.optimizer.recipe) != other.recipe.get("optimizer") for other in runs)
    settings = {**optimizer, **run.recipe, **short, **({} if changed else optimizer)}
    ended = not run.active and run.error is None and (run.ended or run.epoch == run.target_epoch)
    return Side(name, settings, len(history), ended, history[epoch - 1] if 0 < epoch <= len(history) else {})


def epoch_of_weights(run: Any) -> int | None:
    """Return the epoch at whose end a run had its weights: the best one after a callback has put them back.

    None if the run has made steps since its last epoch.
    """
    for name, memory in run.memories.items():
        if name.startswith(("EarlyStopping.", "RestoreBest.")) and memory.get("restored") == run.step:
            return int(memory["best_epoch"])
    return None if run.batch else int(run.epoch)


def differing_settings(values: Sequence[Any], path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Give every setting that differs by its path, such as ``trainer.callbacks.EarlyStopping.patience``.

    Of classes that differ, the settings that several runs have are compared. Many names that only some runs have, as
    those of columns, share a cell.
    """
    tables = [_by_name(value) for value in values]
    if all(value == values[0] for value in values):
        return
    if not all(isinstance(table, dict) for table in tables):
        yield path, [_brief(value) for value in values]
        return
    kinds = [table.get("type") for table in tables]
    keys = dict.fromkeys(key for table in tables for key in table)
    some = [key for key in keys if not all(key in table for table in tables)]
    if len({*kinds}) > 1:
        yield path, kinds
        keys = dict.fromkeys(key for key in keys if key != "type" and sum(key in table for table in tables) > 1)
    elif len(some) > FEW and kinds[0] is None:
        yield path or "settings", [_brief({key: None for key in some if key in table}) for table in tables]
        keys = dict.fromkeys(key for key in keys if key not in some)
    for key in keys:
        yield from differing_settings([table.get(key) for table in tables], f"{path}.{key}" if path else str(key))


def _by_name(value: Any) -> Any:
    """Return an array of tables as a table: by their classes, if each has another, else by their places."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        return value
    kinds = [item.get("type") for item in value]
    named = None not in kinds and len({*kinds}) == len(kinds)
    return dict(zip(kinds if named else range(len(value)), value, strict=True))


def _brief(value: Any) -> Any:
    """Return a setting as a cell: a class by its name, other tables and arrays by what is in them."""
    if isinstance(value, dict):
        return value["type"] if "type" in value else brief(", ".join(map(str, value))).strip("'")
    return ", ".join(str(_brief(item)) for item in value) if isinstance(value, list) else value


def contents_of(run: Any, name: str) -> Contents:
    """Return the contents that need no data.

    Args:
        run: The run, in training or not.
        name: Its name.
    """
    history, model, recipe = run.history, run.model, dict(run.recipe)
    seconds = sum(value or 0.0 for value in history["seconds"]) if "seconds" in history.keys else 0.0
    notes, alarms = [f"Stopped: {run.stop_reason}"] if run.stop_reason else [], []
    if run.error is not None:
        about = getattr(run.error, "__notes__", ())
        notes, alarms = [], ["\n".join([f"{type(run.error).__name__}: {run.error}", *about])]
    versions = recipe.pop("versions", None)
    facts = [
        ("epochs", f"{run.epoch:,} of {run.target_epoch:,}"),
        ("steps", f"{run.step:,}"),
        ("time", duration(seconds) + (f", {duration(seconds / run.epoch)} an epoch" if run.epoch else "")),
        ("engine", run.engine),
        ("seed", str(run.seed)),
        *([("unit", model.preprocess.unit)] if model.preprocess is not None and model.preprocess.unit else []),
        *([("versions", versions)] if versions else []),
    ]
    settings = [(label, text) for label, text in recipe.items() if label not in ("engine", "seed")]
    return Contents(
        name,
        {key: history[key] for key in history.keys},
        facts,
        settings or [("loss", repr(run.loss_function)), ("optimizer", repr(run.optimizer.recipe))],
        repr(model),
        model.summary_table(),
        model.preprocess.summary_table() if model.preprocess is not None else (),
        weights=epoch_of_weights(run),
        steps=first_steps(run),
        notes=notes,
        alarms=alarms,
    )


def first_steps(run: Any) -> list[Mapping[str, Any]]:
    """Return the first steps that a TraceSteps has recorded, if it has recorded the first."""
    traces = (memory for name, memory in run.memories.items() if name.startswith("TraceSteps."))
    return next(([*memory["steps"][:STEPS]] for memory in traces if memory.get("first") == 1), [])


STEPS = 3
"""How many steps a report shows."""


def outputs_of_classes(model: Model, loss: Loss) -> list[tuple[str, ...]]:
    """Return the outputs that are probabilities of classes, by the names that lead to them; () is that of one output.

    They end in Softmax, or in one Sigmoid.
    """
    return [*_of_classes(model.output_activation, model.output_shape, loss, ())]


def _of_classes(activation: Any, shape: Any, loss: Loss, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(loss, OutputLosses):
        for name, output_loss in loss.losses.items():
            yield from _of_classes(at(activation, (name,)), at(shape, (name,)), output_loss, (*path, name))
        return
    kind = type(activation)
    probability = kind is Sigmoid and loss.suited is Sigmoid and shape in ((), (1,))
    if probability or (kind is Softmax and len(shape or ()) == 1):
        yield path


def confusions_of(
    model: Model,
    outputs: Sequence[tuple[str, ...]],
    source: Source,
    name: str,
    classes: Iterable[Any] | None = None,
    compute: Callable[[Any], tuple[Any, Any]] | None = None,
) -> dict[str, Confusion]:
    """Return the confusion matrix of each of some outputs, by name.

    Args:
        model: The model.
        outputs: What ``outputs_of_classes`` gives.
        source: The validation data.
        name: The caller, for messages.
        classes: The names of the classes of one output; None takes those of the model's preprocess, else numbers.
        compute: Gives (h, a) of a batch; None is ``model.output``.

    Raises:
        SettingsError: There are more or fewer names than classes, or several outputs for them.
        DataError: A target is not one class.
    """
    if classes is not None and len(outputs) > 1:
        listed = ", ".join(map(".".join, outputs))
        raise SettingsError(f"{name}: argument 'classes' is for one output; the model has {listed}; leave it out")
    names = {}
    for path in outputs:
        count = max(2, *(at(model.output_shape, path) or (2,)))
        names[path] = (*map(str, class_names(classes, classes_of(model, *path[-1:]), count, name)),)
    counts = {path: np.zeros((len(labels), len(labels))) for path, labels in names.items()}
    with closing(source.cut_batches(EVALUATION_ROWS)) as parts:
        for x, y, weight in parts:
            _, a = (compute or model.output)(x)
            for path, labels in names.items():
                counts[path] += ConfusionMatrix(num_classes=len(labels))(at(a, path), at(y, path), weight)
    return {".".join(path): Confusion(names[path], matrix) for path, matrix in counts.items()}
