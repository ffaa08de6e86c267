"""Members: the rows of each of several networks, and predictions by those that did not train on a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.base.arrays import Array
from framework.base.trees import map_leaves, rows_in
from framework.data.fingerprints import fingerprint
from framework.data.sources import source_of
from framework.data.splits import Mask
from framework.experiments.tables import in_memory
from framework.models import Model
from framework.models.branches import mean_outputs
from framework.preprocessing.fitted import FittedPreprocess
from framework.training.engines import outputs_of

if TYPE_CHECKING:
    from framework.experiments.experiment import Experiment


class MemberRows:
    """The rows that the members of an experiment train on and are judged by, read once.

    Args:
        experiment: The experiment.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._recipe, self._held = experiment.trainer.preprocess, None
        if isinstance(experiment.validation, float):
            rows, self._held = experiment.held_out()
            self._source: Any = source_of(in_memory(rows), "validation")
        else:
            self._parts = experiment.parts()

    def of(self, number: int) -> tuple[Any, Any]:
        """Return the training data and the validation data of a member, as ``fit`` takes them."""
        if self._held is None:
            return self._parts
        chosen = self._held[number]
        return self._select(chosen, held=False), self._select(chosen, held=True)

    def out_of_fold(self) -> tuple[Any, Array | None]:
        """Return the rows that some member does not train on, and which members do not, (members, rows).

        No member trains on a table of validation rows: None.
        """
        if self._held is None:
            return self._parts[1], None
        some = np.logical_or.reduce(self._held)
        return self._select(some, held=True), self._held[:, some]

    def fit_preprocess(self) -> FittedPreprocess | None:
        """Return the Preprocess that the members share, learnt from the rows that some member trains on."""
        if self._recipe is None:
            return None
        all_hold = None if self._held is None else np.logical_and.reduce(self._held)
        return self._recipe.fit(self._parts[0] if all_hold is None else self._select(all_hold, held=False), "fit")

    def _select(self, chosen: Array, *, held: bool) -> Any:
        """Return the chosen rows, or the others."""
        return self._source.select(Mask(chosen), f"rows of members {fingerprint(chosen)}", held=held).given


class OutOfFold:
    """Computes, batch after batch, the mean output of the members that did not train on a row.

    Args:
        models: The members.
        held: Whether each did not train on each row, (members, rows); None if no member trained on any of them.
        engine: The engine that computes their outputs.

    Example:
        >>> from framework import Dense
        >>> models = [Dense.from_weights([[1.0]]), Dense.from_weights([[3.0]])]
        >>> mean = OutOfFold(models, np.array([[True, False, True], [False, True, True]]), "numpy")
        >>> mean(np.ones((2, 1)))[1].tolist(), mean(np.ones((1, 1)))[1].tolist()
        ([[1.0], [3.0]], [[2.0]])
    """

    def __init__(self, models: Sequence[Model], held: Array | None, engine: str) -> None:
        self._model, self._row = models[0], 0
        self._outputs = [outputs_of(model, engine) or model.output for model in models]
        self._shares = None if held is None else (held / held.sum(axis=0)).astype(self._model.dtype)

    def __call__(self, x: Any) -> tuple[Any, Any]:
        """Return (h, a) of the next rows; h is None."""
        first, self._row = self._row, self._row + rows_in(x)

        def average(leaves: Sequence[Array]) -> Any:
            if self._shares is None:
                return np.mean(leaves, axis=0)
            shares = self._shares[:, first : self._row]
            return np.sum(shares.reshape(*shares.shape, *(1,) * (leaves[0].ndim - 1)) * np.stack(leaves), axis=0)

        a = mean_outputs(self._model, [output(x)[1] for output in self._outputs], average)
        return map_leaves(lambda _: None, a), a
