"""Figures: the loss and the metrics of a training, as sums over batches until the last moment."""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.backends.arithmetic import limit_threads
from framework.base.arrays import Array, Batch, Sums
from framework.base.errors import SettingsError, nearest, within
from framework.base.trees import at, map_leaves, rows_in, sample_shape
from framework.data.parts import Source
from framework.data.pieces import join_batches, map_batch, read_only
from framework.formulas.losses import Loss
from framework.formulas.losses.several import Figure, OutputLosses
from framework.formulas.metrics import Metric, WholeMetric
from framework.formulas.metrics.base import OutputMetric, one_number
from framework.models import Layer, Model
from framework.models.rows import EVALUATION_ROWS, multiply_adds

if TYPE_CHECKING:
    from framework.training.parallel.shards import SharedGradient


class Figures:
    """The loss and the metrics that a history has.

    Attributes:
        loss: The loss; its column is ``loss``.
        metrics: The metrics, as they were given.
        of_outputs: The losses of several outputs.
        summed: What adds up over batches beside the loss: these, then metrics.
        whole: The metrics that need all rows at once.
        of_metrics: Those of the metrics that add up over batches.
    """

    def __init__(self, loss: Loss, metrics: tuple[Metric | Loss, ...]) -> None:
        """Hold a loss and its metrics."""
        self.loss, self.metrics = loss, metrics
        self.of_outputs = tuple(_output_losses(loss))
        figures = [*self.of_outputs, *(_figure(metric, (), metric.key) for metric in metrics)]
        self.summed = tuple(figure for figure in figures if not isinstance(figure.formula, WholeMetric))
        self.whole = tuple(figure for figure in figures if isinstance(figure.formula, WholeMetric))
        self.of_metrics = self.summed[len(self.of_outputs) :]
        self._columns: dict[str, Any] = {"loss": loss} | {key: formula for key, _, formula in self.summed}

    @property
    def losses(self) -> tuple[Loss | Figure, ...]:
        """The loss, then the metrics that are losses too."""
        return (self.loss, *(figure for figure in self.of_metrics if isinstance(figure.formula, Loss)))

    @property
    def keys(self) -> list[str]:
        """The columns that can be computed batch by batch."""
        return ["loss", *(figure.key for figure in self.summed)]

    @property
    def better(self) -> dict[str, str | None]:
        """Whether "smaller" or "greater" values of a column are better, by its name; None if neither is."""
        return {"loss": "smaller"} | {
            figure.key: figure.formula.better if isinstance(figure.formula, Metric) else "smaller"
            for figure in (*self.summed, *self.whole)
        }

    def require_model(self, activation: Any) -> None:
        """Refuse a model whose outputs cannot serve the loss or a metric.

        Raises:
            SettingsError: An output activation does not fit, or a metric is not of one output.
        """
        self.loss.require_model(activation)
        for figure in (*self.summed, *self.whole):
            output = _activation_of(activation, figure)
            if isinstance(figure.formula, Loss):
                with within(f"output '{'.'.join(figure.path)}'" if figure.path else ""):
                    figure.formula.require_output(output)

    def training_sums(self, model: Model, y: Any, weight: Array | None) -> Sums:
        """Return the sums of every figure over a batch after ``backward``, which may have some of them."""
        done = model._built().done
        assert done is not None
        totals = done.totals
        sums: Sums = {f.key: (totals[f.path], f.divisor(y, weight)) for f in self.of_outputs if f.path in totals}
        if rest := tuple(figure for figure in self.summed if figure.key not in sums):
            sums |= self.metric_sums(model, done.tree_of(done.h), done.tree, y, weight, rest)
        return sums

    def inverse(self, model: Model, figure: Figure) -> Callable[..., Any] | None:
        """Return what puts predictions and targets into the unit of the target for a figure; None where nothing does.

        The losses of outputs are of what is trained, and so is a metric that is computed from pre-activations.
        """
        preprocess, formula = model.preprocess, figure.formula
        if preprocess is None or not preprocess.unit or figure in self.of_outputs:
            return None
        losses = (_output_losses(formula, figure.path) or [figure]) if isinstance(formula, Loss) else []
        activations = model.output_activation
        of_h = any(loss.program_of_h(at(activations, path)) is not None for _, path, loss in losses)
        return None if of_h else preprocess.inverse

    def metric_sums(
        self, model: Model, h: Any, a: Any, y: Any, weight: Array | None, figures: tuple[Figure, ...]
    ) -> Sums:
        """Return the sums of some figures over a batch. A metric cannot change the arrays it is given."""
        whole = model.output_activation, h, *(map_leaves(read_only, tree) for tree in (a, y))
        in_unit: Any = None
        sums: Sums = {}
        for figure in figures:
            key, path, formula = figure
            parts = whole
            if (inverse := self.inverse(model, figure)) is not None:
                parts = in_unit = in_unit or (*whole[:2], inverse(whole[2]), inverse(whole[3], targets=True))
            f, z, prediction, target = (at(tree, path) for tree in parts) if path else parts
            if isinstance(formula, Loss):
                sums[key] = formula.output_sums(f, z, prediction, target, weight)
            else:
                sums[key] = formula.check_sums(prediction, target, weight)
        return sums

    def results(self, sums: Sums) -> dict[str, float]:
        """Return the loss and every metric from their sums."""
        columns = self._columns.items()
        return {key: one_number(figure, figure.result(*sums.get(key, (0.0, 0.0)))) for key, figure in columns}

    def evaluate(
        self,
        model: Model,
        source: Source,
        compute: Callable[[Any], tuple[Any, Any]] | None = None,
        strategy: SharedGradient | None = None,
    ) -> dict[str, float]:
        """Return every figure of a model over a source of data.

        Args:
            model: The model.
            source: The data.
            compute: Gives (h, a) of a batch; None is NumPy.
            strategy: How the data is shared out to workers; None computes all of it here.
        """
        kept: list[Batch] = []
        # Where a metric or a prediction needs all rows at once, each worker computes all of them.
        layers = [layer for _, layer in model.walk_models() if isinstance(layer, Layer)]
        alone = self.whole or any(layer.mixes_in_prediction for layer in layers)
        plan = None if alone else strategy

        def sums() -> dict[int, Sums]:
            totals: dict[int, Sums] = {}
            rows = source.rows or EVALUATION_ROWS
            workspace = model.take_workspace(rows)
            for batch, shard in source.shares(EVALUATION_ROWS, _whole if plan is None else plan.shards.parts):
                work = multiply_adds(model, rows_in(batch[1]), sample_shape(batch[0]))
                with limit_threads(work), np.errstate(all="ignore"):
                    h, a = model.output(batch[0], workspace) if compute is None else compute(batch[0])
                    of_batch = self.metric_sums(model, h, a, *batch[1:], self.summed)
                    if isinstance(self.loss, OutputLosses):
                        outputs = {path[0]: of_batch[key] for key, path, _ in self.of_outputs if len(path) == 1}
                        of_batch["loss"] = self.loss.join_sums(outputs, a)
                    else:
                        of_batch["loss"] = self.loss.output_sums(model.output_activation, h, a, *batch[1:])
                add_sums(totals.setdefault(shard, {}), of_batch)
                if self.whole:
                    kept.append(map_batch(np.copy, (a, *batch[1:])))
            model.keep_workspace(workspace, rows)
            return totals

        results = self.results(sums().get(0, {}) if plan is None else plan.total(sums))
        if not self.whole:
            return results
        a, y, weight = join_batches(kept)
        for figure in self.whole:
            key, path, formula = figure
            inverse = self.inverse(model, figure)
            arrays = (a, y) if inverse is None else (inverse(a), inverse(y, targets=True))
            results[key] = one_number(formula, formula._figure(*(at(tree, path) for tree in arrays), weight))
        return results


def _whole(rows: int) -> list[tuple[int, slice]]:
    """Return all rows as one part."""
    return [(0, slice(0, rows))]


def _figure(metric: Metric | Loss, path: tuple[str, ...], key: str) -> Figure:
    """Return a metric as a figure of the output that it names."""
    if isinstance(metric, OutputMetric):
        return _figure(metric.metric, (*path, metric.output), key)
    return Figure(key, path, metric)


def _output_losses(loss: Loss, path: tuple[str, ...] = ()) -> list[Figure]:
    """Return the losses of the outputs inside a loss, such as ``price_loss``; none for a loss of one output."""
    figures = []
    for name, loss_of_output in loss.losses.items() if isinstance(loss, OutputLosses) else ():
        keys = (*path, name)
        figures += [Figure(f"{'_'.join(keys)}_loss", keys, loss_of_output), *_output_losses(loss_of_output, keys)]
    return figures


def _activation_of(activation: Any, figure: Figure) -> Any:
    """Return the activation of the output that a figure is of.

    Raises:
        SettingsError: There is no such output, or the figure names none and there are several.
    """
    names: list[str] = []
    for name in figure.path:
        if activation is None:
            return None  # a model of the user's that does not say
        names = [*activation] if isinstance(activation, dict) else []
        if name not in names:
            there = f"{nearest(name, names) or '.'} Outputs: {', '.join(names)}" if names else "; it has one output"
            raise SettingsError(f"metric '{figure.key}' is of output {name!r}, which the model does not have{there}")
        activation = activation[name]
    if isinstance(activation, dict) and not isinstance(figure.formula, OutputLosses):
        written = f"OutputMetric({next(iter(activation))!r}, {type(figure.formula).__name__}())"
        raise SettingsError(
            f"metric '{figure.key}' is of one output, and the model has {', '.join(activation)}: write {written}"
        )
    return activation


def add_sums(totals: Sums, sums: Sums) -> None:
    """Add the sums of some rows to the totals, in place.

    Example:
        >>> totals = {"loss": (1.0, 2.0)}
        >>> add_sums(totals, {"loss": (0.5, 1.0)})
        >>> totals
        {'loss': (1.5, 3.0)}
    """
    for name, values in sums.items():
        before = totals.get(name)
        totals[name] = values if before is None else tuple(map(add, before, values))
