"""Baselines: a constant and a linear model of the same columns, which say what the figures of a model are worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from framework.base.arrays import Array, Batch
from framework.base.errors import DataError
from framework.base.extras import load_module
from framework.base.trees import at, flatten, leaves, rows_in
from framework.data.pieces import join_batches, map_batch
from framework.data.sources import hold_out, source_of
from framework.experiments.members import OutOfFold
from framework.formulas.activations.basic import Identity, Softmax
from framework.formulas.losses import Loss
from framework.formulas.losses.rows import MultiQuantile
from framework.formulas.losses.several import OutputLosses
from framework.formulas.schedules import CosineSchedule
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.branches import Heads, Input, Join
from framework.models.embedding import Embedding
from framework.models.regularizers import L2
from framework.models.rows import EVALUATION_ROWS, prepare
from framework.models.sequential import Sequential
from framework.training.checkpoint import load_model, save
from framework.training.engines import Engine, outputs_of
from framework.training.engines.base import AUTO
from framework.training.loop import train
from framework.training.optimizers.formulas import AdamOptimizer, SGDOptimizer
from framework.training.runs.contents import outputs_of_classes
from framework.training.runs.run import Run
from framework.training.trainer import Trainer

MODEL = "the model"
"""The name of the model among its baselines."""

BOOSTED = "LightGBM (default)"
"""The name of LightGBM among the baselines of ``framework compare``."""

ROWS, NUMBERS, PRODUCTS = 200_000, 20_000_000, 2_000_000_000
"""The largest numbers of rows, of numbers in them, and of numbers times weights, from which baselines are made.

They keep the time well below that of a network on the same table.
"""


def beside(trainer: Trainer, model: Model, data: Any, validation: Any, folder: Path) -> dict[str, Any]:
    """Make the baselines of a trained model if they are not there yet, and return what metrics.json says of them.

    Whatever fails, the model is complete without them.
    """
    said: dict[str, Any] = {}
    try:
        if len(load_baselines(folder)) < 2:  # a process may have ended between them
            said["rows"] = make_baselines(trainer, model, data, folder)
        if validation is not None:
            baselines = {name: [baseline] for name, baseline in load_baselines(folder).items()}
            said["validation"] = judge(trainer, baselines, validation)
    except Exception as error:  # noqa: BLE001
        said["error"] = f"{type(error).__name__}: {error}"
    return said


def judge(
    trainer: Trainer,
    models: Mapping[str, Sequence[Any]],
    data: Any,
    held: Array | None = None,
    model: Model | None = None,
) -> dict[str, dict[str, float]]:
    """Return the loss and the metrics of a model and its baselines, by name, over the same rows.

    Args:
        trainer: The settings.
        models: The model, or the members whose mean it is, by name; likewise for each baseline, which may be Boosted.
        data: The rows.
        held: Which members did not train on which row; see ``OutOfFold``.
        model: The model as which all take the rows; None is the first of them.
    """
    figures, ((first, *_), *_) = trainer.figures, models.values()
    first = model or first
    source = prepare(data, first, figures.losses, "evaluate", metrics=trainer.metrics)
    # A kernel for a baseline is not worth its time.
    engines = dict.fromkeys(models, Engine.name) | {MODEL: trainer.engine}
    computes = {
        name: OutOfFold(members, held, engines[name])
        if members[1:]
        else outputs_of(members[0], engines[name]) or members[0].output
        for name, members in models.items()
    }
    return {name: figures.evaluate(first, source, compute) for name, compute in computes.items()}


def load_baselines(folder: Path) -> dict[str, Model]:
    """Return the baselines that a folder holds, by name."""
    return {path.stem: load_model(path) for path in sorted(folder.glob("*.safetensors"))}


def make_baselines(trainer: Trainer, model: Model, data: Any, folder: Path) -> int:
    """Write the baselines of a trained model to a folder, and return from how many rows they are made.

    The constant is the mean of the targets in their unit, or the share of each class. The linear model has one layer,
    which takes the columns as the model does.

    Raises:
        DataError: The model does not take the columns of a table, or no layer gives its outputs.
    """
    linear, ends = _linear(model)
    rows = _read_rows(trainer, model, data, min(ROWS, PRODUCTS // linear.parameters.vector.size))
    for path, end in ends.items():
        end.weights = np.zeros_like(end.weights)
        end.bias = _constant_bias(model, path, at(rows[1], path), rows[2], trainer.loss)
    classes = outputs_of_classes(model, trainer.loss)
    constant = "the commonest class alone" if len(classes) == len(ends) else "a constant"
    if not classes and not (model.preprocess and model.preprocess.classes):
        constant = "the quantiles alone" if isinstance(trainer.loss, MultiQuantile) else "the mean alone"
    save_like(trainer, model, linear.copy(), folder / f"{constant}.safetensors")
    _train(trainer, linear, rows)
    save_like(trainer, model, linear, folder / "a linear model.safetensors")
    return rows_in(rows[1])


def _read_rows(trainer: Trainer, model: Model, data: Any, most: int) -> Batch:
    """Return the rows of some data as a model takes them: ``most`` of them or fewer, which the seed draws."""
    shape: Any = model.input_shape if model.preprocess is None else model.preprocess.shape
    most = max(2_000, min(most, NUMBERS // sum(map(math.prod, leaves(shape)))))
    source = source_of(data, "baselines")
    if source.rows is not None and source.rows > most:
        _, source = hold_out(source, most / source.rows, trainer.seed, "baselines")
    with closing(prepare(source, model, (trainer.loss,), "baselines").cut_batches(EVALUATION_ROWS)) as batches:
        return join_batches([map_batch(np.copy, batch) for batch in batches])


class Boosted:
    """LightGBM with its default settings in the place of a model, fitted to the rows as the model takes them.

    Args:
        trainer: The settings of the model's training.
        model: The model, with one output: a number, quantiles of one, or the classes of a row.
        data: The training rows.

    Raises:
        DataError: The model has other outputs.
        UsageError: LightGBM is not installed.

    Source:
        Ke et al., LightGBM: a highly efficient gradient boosting decision tree (2017).
    """

    def __init__(self, trainer: Trainer, model: Model, data: Any) -> None:
        lightgbm = load_module("lightgbm", BOOSTED)
        self._shape, self.dtype = model.output_shape, model.dtype
        self.output_activation, loss = model.output_activation, trainer.loss
        wanted: list[dict[str, Any]] = [{"objective": "regression"}]
        if isinstance(loss, MultiQuantile):
            wanted = [{"objective": "quantile", "alpha": quantile} for quantile in loss.quantiles]
        elif outputs_of_classes(model, loss) == [()]:
            classes = math.prod(self._shape)
            wanted = [{"objective": "multiclass", "num_class": classes} if classes > 1 else {"objective": "binary"}]
        elif not isinstance(self.output_activation, Identity) or math.prod(self._shape) > 1:
            raise DataError(f"LightGBM has no default for outputs {self._shape} of {self.output_activation!r}")
        x, y, weight = _read_rows(trainer, model, data, NUMBERS)
        x, categories = self._columns(x)
        fixed = {"verbosity": -1, "seed": trainer.seed, "deterministic": True, "force_row_wise": True}
        labels = y.argmax(axis=1) if y.ndim > 1 and y.shape[1] > 1 else y.reshape(-1)
        rows = lightgbm.Dataset(x, labels, weight=weight, categorical_feature=categories, free_raw_data=False)
        self._boosters = [lightgbm.train(fixed | settings, rows) for settings in wanted]

    def output(self, x: Any) -> tuple[None, Array]:
        """Return (None, a) of some rows, as ``Model.output`` gives (h, a)."""
        x, _ = self._columns(x)
        a = np.stack([booster.predict(x) for booster in self._boosters], axis=-1).reshape(len(x), *self._shape)
        a = np.sort(a, axis=-1) if len(self._boosters) > 1 else a
        margin = float(np.finfo(self.dtype).eps)
        probable = self.output_activation.output_range == (0.0, 1.0)
        return None, (np.clip(a, margin, 1.0 - margin) if probable else a).astype(self.dtype)

    @staticmethod
    def _columns(x: Any) -> tuple[Array, list[int]]:
        """Return inputs as one array, and the numbers of its columns that are ids."""
        arrays = {name: np.reshape(array, (len(array), -1)) for name, array in flatten(x).items()}
        ids = [array.dtype.kind in "iu" for array in arrays.values() for _ in range(array.shape[1])]
        return np.concatenate([*arrays.values()], axis=1), np.flatnonzero(ids).tolist()


def _linear(model: Model) -> tuple[Sequential, dict[tuple[str, ...], Any]]:
    """Return a model of one layer, and the layer that gives each output by the names that lead to it."""
    shape: Any = model.input_shape if model.preprocess is None else model.preprocess.shape
    activation, outputs = model.output_activation, model.output_shape
    if any(len(size) > 1 for size in (*leaves(outputs), *leaves(shape))):
        raise DataError(f"a linear model takes columns and gives numbers; got samples {shape} and outputs {outputs}")

    def end(kind: Any, units: tuple[int, ...]) -> Any:
        return Dense(units=units[0], activation=kind) if units else Neuron(activation=kind)

    layers: list[Model] = []
    ends: dict[tuple[str, ...], Any] = {}
    if isinstance(shape, dict) and model.preprocess is not None:
        ids = model.preprocess.vocabularies
        layers.append(Join(**{name: Embedding(ids[name], 8) if name in ids else Input() for name in shape}))
    if isinstance(outputs, dict):
        heads = {name: end(activation[name], outputs[name]) for name in outputs}
        ends |= {(name,): head for name, head in heads.items()}
        layers.append(Heads(**heads))
    else:
        layers.append(ends.setdefault((), end(activation, outputs)))
    linear = Sequential(*layers, dtype=model.dtype)
    linear.settle(shape)
    return linear, ends


def _constant_bias(model: Model, path: tuple[str, ...], y: Array, weight: Array | None, loss: Loss) -> Array:
    """Return the bias with which an output is the mean of its targets in their unit, or the share of each class.

    Several outputs for ``MultiQuantile`` are the quantiles of the targets.
    """
    loss = loss.losses[path[0]] if isinstance(loss, OutputLosses) else loss
    activation, shape = at(model.output_activation, path), at(model.output_shape, path)

    def in_unit(a: Array) -> Any:
        return a if model.preprocess is None else at(model.preprocess.inverse({path[0]: a} if path else a), path)

    if isinstance(loss, MultiQuantile):
        return np.quantile(y, loss.quantiles, weights=weight, method="inverted_cdf")
    y = np.eye(*shape)[y] if y.ndim == 1 and math.prod(shape) > 1 else in_unit(y.reshape(-1, *shape))
    mean = np.average(y.astype(np.float64), axis=0, weights=weight)
    if activation.output_range == (0.0, 1.0) and not (model.preprocess and model.preprocess.unit):
        mean = np.clip(mean, 1e-12, 1.0 - 1e-12)  # a class without rows
    if isinstance(activation, Softmax):
        return np.log(mean)
    low, high = np.full_like(mean, -1e15), np.full_like(mean, 1e15)
    with np.errstate(all="ignore"):
        for _ in range(120):  # by bisection: activations and the steps of a target rise
            middle = (low + high) / 2
            above = in_unit(activation(middle[None]))[0] > mean
            low, high = np.where(above, low, middle), np.where(above, middle, high)
    return low


def _train(trainer: Trainer, linear: Model, rows: Batch) -> None:
    """Train a linear model with the loss of another: for 20 passes over the rows, and 2,000 steps at least.

    The loss of all rows plus sum(w^2) / 2 is that of scikit-learn's ``LogisticRegression(C=1)`` and ``Ridge(0.5)``.
    """
    count = rows_in(rows[1])
    size = min(max(count // 50, 32), 512)
    epochs = max(20, 2_000 * size // count)
    short = Trainer(
        loss=trainer.loss,
        optimizer=AdamOptimizer(learning_rate=CosineSchedule(initial=0.03)),
        epochs=epochs,
        batch_size=size,
        seed=trainer.seed,
        sampling=trainer.sampling,
        engine=Engine.name if trainer.engine == Engine.name else AUTO,
        regularizers=[L2(strength=1 / count)],
    )
    train(short, linear, rows if rows[2] is not None else rows[:2])


def save_like(trainer: Trainer, model: Model, other: Model, path: Path) -> Run:
    """Write another model, which takes the same tables as a model, as a run that has made no step; return the run."""
    other.preprocess = model.preprocess
    other.columns, other.target_columns = model.columns, model.target_columns
    path.parent.mkdir(exist_ok=True)
    run = Run(other, SGDOptimizer(learning_rate=1.0).bind(other), trainer.loss, trainer.seed)
    save(run, path)
    return run
