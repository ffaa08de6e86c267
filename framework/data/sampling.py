"""Sampling: rows drawn by their chances, with replacement, as a pure function of (seed, epoch)."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np

from framework.base.arrays import Array, Batch
from framework.base.errors import DataError, brief
from framework.base.random_streams import random_generator

Sampling: TypeAlias = Literal["weighted", "balanced"]


class Chances:
    """How likely each row is, relative to the others.

    ``"weighted"``: its weight, which then does not count in the loss. ``"balanced"``: 1 / the rows of its class, so
    that an epoch has each class about as often.
    """

    def __init__(self, sampling: Sampling, name: str) -> None:
        """Know no row yet; ``name`` is the caller, for messages."""
        self.sampling, self.name = sampling, name
        self._counts: dict[float, int] = {}

    def learn(self, batch: Batch) -> dict[float, float]:
        """Return what ``total`` needs of some rows; every row is to be learnt once before ``of`` or ``total``.

        Raises:
            DataError: The rows have no weights, or their targets are not classes.
        """
        if self.sampling == "weighted":
            if batch[2] is None:
                raise DataError("sampling='weighted' needs weights", where=self.name, advice="give (x, y, weight)")
            return {0.0: float(batch[2].sum(dtype=np.float64))}
        values, counts = np.unique(self._classes(batch[1]), return_counts=True)
        class_counts = dict(zip(values.astype(float).tolist(), counts.astype(float).tolist(), strict=True))
        for value, count in class_counts.items():
            self._counts[value] = self._counts.get(value, 0) + int(count)
        return class_counts

    def total(self, learnt: dict[float, float]) -> float:
        """Return the sum of the chances of the rows that ``learn`` was given."""
        if self.sampling == "weighted":
            return sum(learnt.values())
        return sum(count / self._counts[value] for value, count in learnt.items())

    def of(self, batch: Batch) -> Array:
        """Return the chance of each row, (rows,)."""
        if self.sampling == "weighted":
            return np.asarray(batch[2], np.float64)
        values, places = np.unique(self._classes(batch[1]), return_inverse=True)
        chances: Array = np.array([1 / self._counts[float(value)] for value in values])[places]
        return chances

    def drop_chances(self, batch: Batch) -> Batch:
        """Return the batch as the loss takes it: weights that were the chances are left out."""
        return (*batch[:2], None) if self.sampling == "weighted" else batch

    def _classes(self, y: Any) -> Array:
        if isinstance(y, dict) or y.ndim != 1 + (y.ndim == 2 and y.shape[1] == 1):
            form = "a dict" if isinstance(y, dict) else f"shape {y.shape}"
            raise DataError(
                f"{self.name}: sampling='balanced' needs one class per row, (rows,); got {form}; give weights, and "
                "write sampling='weighted'"
            )
        classes: Array = y.reshape(-1)
        if (classes != np.floor(classes)).any():
            bad = classes[classes != np.floor(classes)][0]
            raise DataError(f"{self.name}: sampling='balanced' needs classes as whole numbers; got {brief(float(bad))}")
        return classes


def draw_rows(chances: Array, count: int, seed: int, epoch: int, *counters: int) -> Array:
    """Return the places of ``count`` rows, drawn by their chances with replacement: a pure function of its arguments.

    Example:
        >>> draw_rows(np.array([0.0, 1.0, 0.0]), 4, 0, 0).tolist()
        [1, 1, 1, 1]
    """
    steps = np.cumsum(chances)
    places = np.searchsorted(
        steps, random_generator(seed, "sample", epoch, *counters).random(count) * steps[-1], side="right"
    )
    rows: Array = np.minimum(places, np.flatnonzero(chances)[-1])  # a product may be rounded up to the last step
    return rows
