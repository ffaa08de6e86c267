"""Contents: the parts of a page about one run, gathered from the run and from validation data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framework.activations.basic import Sigmoid, Softmax
from framework.arrays import Array, class_names, place_of_best
from framework.data.sources import Source, batches
from framework.errors import SettingsError
from framework.losses import Loss
from framework.losses.several import Losses
from framework.metrics.classification import ConfusionMatrix
from framework.models import Model
from framework.models.rows import EVALUATION_ROWS, classes_of
from framework.preprocessing.fitted import FittedPreprocess, shown
from framework.reports.comparing import epoch_of_weights
from framework.tables import duration
from framework.trees import at

Cells = Sequence[Sequence[str]]
"""The rows of a table."""


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        classes: The names of the classes.
        counts: counts[true, predicted], (classes, classes).
    """

    classes: tuple[str, ...]
    counts: Array


@dataclass
class Contents:
    """The parts of a page about one run.

    Attributes:
        name: The run's name, for the title.
        columns: The history by column: None where an epoch has no value, a NaN where it is not finite or not known.
        facts: Names and values: engine, time, why it stopped, versions.
        settings: Names and values; or the text of an experiment.
        code: The model as Python code.
        layers: The rows of the model's summary, the first of which is the head; empty without a model.
        data: The rows of the table of columns: name, kind, steps, what it became.
        weights: The epoch at whose end the model had its weights, None if it is not known.
        final: The figures of the final weights on the validation data, by name.
        beside: Those of each baseline, such as a linear model, by its name.
        confusions: The confusion matrix of each output of classes on the validation data, by its name.
        unconfused: Why there is no confusion matrix, and what to do for one; empty where the model has no classes.
        steps: The quantities of the first steps, by name: of a ``TracedStep``, or of a ``TracedUpdate``.
        notes: Why the run stopped without an error.
        alarms: The error that ended the run, and what is missing on the page, and why.
    """

    name: str
    columns: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    facts: Cells = ()
    settings: Sequence[tuple[str, str]] | str = ()
    code: str = ""
    layers: Cells = ()
    data: Cells = ()
    weights: int | None = None
    final: Mapping[str, float] = field(default_factory=dict)
    beside: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusions: Mapping[str, Confusion] = field(default_factory=dict)
    unconfused: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    alarms: list[str] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """The epochs in the history."""
        return len(next(iter(self.columns.values()), ()))

    @property
    def best(self) -> tuple[str, int] | None:
        """The column that says which epoch is the best, and its place; None where no value is finite."""
        key = next((key for key in ("val_loss", "loss") if key in self.columns), "")
        place = place_of_best(self.columns.get(key, ()))
        return None if place is None else (key, place)


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
        data_of(model.preprocess),
        weights=epoch_of_weights(run),
        steps=first_steps(run),
        notes=notes,
        alarms=alarms,
    )


def data_of(preprocess: FittedPreprocess | None) -> Cells:
    """Return the rows of a table of a preprocess's columns."""
    if preprocess is None:
        return ()
    became = preprocess.became
    inputs = zip(preprocess.columns, preprocess.kinds, strict=True)
    targets = zip(preprocess.target, preprocess.target_kinds, strict=True)
    return [
        *((name, kind, shown(steps), ", ".join(became[name])) for (name, steps), kind in inputs),
        *((name, f"{kind}, the target", shown(steps), name) for (name, steps), kind in targets),
    ]


def first_steps(run: Any) -> list[Mapping[str, Any]]:
    """Return the first steps that a TraceSteps has recorded, if it has recorded the first."""
    found = (memory for name, memory in run.memories.items() if name.startswith("TraceSteps."))
    return next(([*memory["steps"][:STEPS]] for memory in found if memory.get("first") == 1), [])


STEPS = 3
"""How many steps a report shows."""


def outputs_of_classes(model: Model, loss: Loss) -> list[tuple[str, ...]]:
    """Return the outputs that are probabilities of classes, by the names that lead to them; () is that of one output.

    They end in Softmax, or in one Sigmoid.
    """
    return [*_of_classes(model.output_activation, model.output_shape, loss, ())]


def _of_classes(activation: Any, shape: Any, loss: Loss, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(loss, Losses):
        for name, each in loss.losses.items():
            yield from _of_classes(at(activation, (name,)), at(shape, (name,)), each, (*path, name))
        return
    kind = type(activation)
    probability = kind is Sigmoid and loss.canonical is Sigmoid and shape in ((), (1,))
    if probability or (kind is Softmax and len(shape or ()) == 1):
        yield path


def confusions_of(
    model: Model, outputs: Sequence[tuple[str, ...]], source: Source, name: str, classes: Iterable[Any] | None = None
) -> dict[str, Confusion]:
    """Return the confusion matrix of each of some outputs, by name.

    Args:
        model: The model.
        outputs: What ``outputs_of_classes`` gives.
        source: The validation data.
        name: The caller, for messages.
        classes: The names of the classes of one output; None takes those of the model's preprocess, else numbers.

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
    counts = {path: np.zeros((len(each), len(each))) for path, each in names.items()}
    with closing(batches(source, EVALUATION_ROWS)) as parts:
        for x, y, weight in parts:
            _, a = model.output(x)
            for path, each in names.items():
                counts[path] += ConfusionMatrix(num_classes=len(each))(at(a, path), at(y, path), weight)
    return {".".join(path): Confusion(names[path], matrix) for path, matrix in counts.items()}
