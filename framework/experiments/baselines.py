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
from framework.base.trees import at, leaves, rows_in
from framework.data.pieces import join_batches, map_batch
from framework.data.sources import hold_out, source_of
from framework.experiments.members import OutOfFold
from framework.formulas.activations.basic import Softmax
from framework.formulas.losses import Loss
from framework.formulas.losses.rows import Quantiles
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
    trainer: Trainer, models: Mapping[str, Sequence[Model]], data: Any, held: Array | None = None
) -> dict[str, dict[str, float]]:
    """Return the loss and the metrics of a model and its baselines, by name, over the same rows.

    Args:
        trainer: The settings.
        models: The model, or the members whose mean it is, by name; likewise for each baseline.
        data: The rows.
        held: Which members did not train on which row; see ``OutOfFold``.
    """
    figures, ((first, *_), *_) = trainer.figures, models.values()
    source = prepare(data, first, figures.losses, "evaluate", metrics=trainer.metrics)
    # A kernel for a baseline is not worth its time.
    engines = dict.fromkeys(models, Engine.name) | {MODEL: trainer.engine}
    computes = {
        name: OutOfFold(members, held, engines[name]) if members[1:] else outputs_of(members[0], engines[name])
        for name, members in models.items()
    }
    return {name: figures.evaluate(members[0], source, computes[name]) for name, members in models.items()}


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
    width = sum(map(math.prod, leaves(linear.input_shape)))
    most = max(2_000, min(ROWS, NUMBERS // width, PRODUCTS // linear.parameters.vector.size))
    source = source_of(data, "baselines")
    if source.rows is not None and source.rows > most:
        _, source = hold_out(source, most / source.rows, trainer.seed, "baselines")
    with closing(prepare(source, model, (trainer.loss,), "baselines").cut_batches(EVALUATION_ROWS)) as batches:
        rows = join_batches([map_batch(np.copy, batch) for batch in batches])
    for path, end in ends.items():
        end.weights = np.zeros_like(end.weights)
        end.bias = _constant_bias(model, path, at(rows[1], path), rows[2], trainer.loss)
    classes = outputs_of_classes(model, trainer.loss)
    constant = "the commonest class alone" if len(classes) == len(ends) else "a constant"
    if not classes and not (model.preprocess and model.preprocess.classes):
        constant = "the quantiles alone" if isinstance(trainer.loss, Quantiles) else "the mean alone"
    save_like(trainer, model, linear.copy(), folder / f"{constant}.safetensors")
    _train(trainer, linear, rows)
    save_like(trainer, model, linear, folder / "a linear model.safetensors")
    return rows_in(rows[1])


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

    Several outputs for ``Quantiles`` are the quantiles of the targets.
    """
    loss = loss.losses[path[0]] if isinstance(loss, OutputLosses) else loss
    activation, shape = at(model.output_activation, path), at(model.output_shape, path)

    def in_unit(a: Array) -> Any:
        return a if model.preprocess is None else at(model.preprocess.inverse({path[0]: a} if path else a), path)

    if isinstance(loss, Quantiles):
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
