"""Statistics of one column, gathered block by block in a fixed order, so that equal data gives equal bits.

A block holds ``BLOCK_ROWS`` rows, whatever the pieces in which a source gives its rows. Each class has ``add`` for the
rows of a block, counts missing values in ``missing``, and turns those into copies of one value by ``fill``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framework.base.arrays import Array

BLOCK_ROWS = 65_536
"""Rows of a table that are learnt from, predicted or looked at together."""

SKETCH_SIZE = 8192
"""The distinct numbers that a part of a Sketch keeps."""

LEVELS_KEPT = 65_536
CHARACTERS_KEPT = 8_000_000


class Moments:
    """Number, mean, sum of squared deviations, minimum and maximum. With weights, the number is their sum.

    The moments of a block take two passes over it. Blocks are joined by mean + d n' / (n + n') and
    m2 + m2' + d^2 n n' / (n + n'), where d is the difference of their means.

    Example:
        >>> moments = Moments()
        >>> moments.add(np.array([1.0, 3.0]))
        >>> moments.add(np.array([5.0, np.nan]))
        >>> moments.mean, moments.deviation**2, moments.missing
        (3.0, 2.6666666666666665, 1)

    Source:
        Chan, Golub and LeVeque, Algorithms for computing the sample variance (1983), equation 2.1.
    """

    def __init__(self) -> None:
        self.missing: float = 0
        self.count: float = 0
        self.mean = self.squares = 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, values: Array, weight: Array | None = None) -> None:
        """Add the numbers of a block, which count by their weights, above 0; NaN is missing."""
        there = ~np.isnan(values)
        present, share = values[there], None if weight is None else weight[there]
        self.missing += len(values) - len(present) if weight is None else float(np.add.reduce(weight[~there]))
        if len(present):
            count = len(present) if share is None else float(np.add.reduce(share))
            with np.errstate(over="ignore", invalid="ignore"):
                mean = float(np.add.reduce(present if share is None else share * present)) / count
                squared = (present - mean) ** 2
                squares = float(np.add.reduce(squared if share is None else share * squared))
            self._join(count, mean, squares, float(present.min()), float(present.max()))

    def fill(self, value: float) -> None:
        """Count each missing value as this one."""
        if self.missing:
            self._join(self.missing, value, 0.0, value, value)
            self.missing = 0

    def _join(self, count: float, mean: float, squares: float, low: float, high: float) -> None:
        total = self.count + count
        difference = mean - self.mean
        self.squares += squares + difference * difference * (self.count * count / total)
        self.mean += difference * (count / total)
        self.count = total
        self.low, self.high = min(self.low, low), max(self.high, high)

    @property
    def deviation(self) -> float:
        """The standard deviation of the population; 0.0 if all numbers are equal, without rounding errors."""
        return math.sqrt(self.squares / self.count) if self.count and self.low < self.high else 0.0


class Sketch:
    """Quantiles in bounded memory: exact up to one block of rows, and up to ``SKETCH_SIZE`` distinct numbers.

    A part is a sorted list of distinct numbers with their counts. The parts of two blocks are joined to one, those of
    two pairs of blocks to one, and so on, so that there are at most log2(blocks) + 1 parts. A joined part of more than
    ``SKETCH_SIZE`` = k numbers is cut into k groups of equally many values, and each group becomes k copies of its
    middle value. That moves a rank by at most 1 / (2 k) of the part's values, so the rank of a quantile of n rows is
    wrong by at most n (1 + log2(blocks)) / (2 k), which is 0.05 % of the rows for 10 million of them.

    Example:
        >>> sketch = Sketch()
        >>> sketch.add(np.array([5.0, 1.0, 2.0, np.nan]))
        >>> sketch.quantiles(np.array([0.0, 0.5, 1.0]))
        array([1., 2., 5.])

    Source:
        Munro and Paterson, Selection and sorting with limited storage (1980), for the tree of joins; Agarwal et al.,
        Mergeable summaries (2012), section 3, for the error.
    """

    def __init__(self) -> None:
        self.missing = self.count = 0
        self.low, self.high = math.inf, -math.inf
        self._parts: list[tuple[Array, Array] | None] = []
        self._filled: list[tuple[Array, Array]] = []

    def add(self, values: Array) -> None:
        """Add the numbers of a block; NaN is missing."""
        present = values[~np.isnan(values)]
        self.missing += len(values) - len(present)
        if not len(present):
            return
        self.count += len(present)
        self.low, self.high = min(self.low, float(present.min())), max(self.high, float(present.max()))
        summary = np.unique(present + 0.0, return_counts=True)  # + 0.0 makes -0.0 zero
        if self._parts:  # the first block is kept whole until there is another
            summary = _prune_counts(*summary)
        for level, other in enumerate(self._parts):
            if other is None:
                self._parts[level] = summary
                return
            summary = _prune_counts(*_merge_counts([other, summary]))
            self._parts[level] = None
        self._parts.append(summary)

    def fill(self, value: float) -> None:
        """Count each missing value as this one."""
        if self.missing:
            self._filled.append((np.array([value]), np.array([self.missing])))
            self.count += self.missing
            self.low, self.high = min(self.low, value), max(self.high, value)
            self.missing = 0

    def quantiles(self, shares: Array) -> Array:
        """Return the quantiles at these shares of the rows, between 0 and 1, interpolated as ``np.quantile`` does."""
        values, counts = _merge_counts([*self._filled, *(summary for summary in self._parts if summary is not None)])
        ends = np.cumsum(counts)
        positions = shares * (self.count - 1)
        below = np.floor(positions).astype(np.int64)
        low, high = (
            values[np.searchsorted(ends, np.minimum(rank, self.count - 1), side="right")] for rank in (below, below + 1)
        )
        fraction = positions - below
        with np.errstate(over="ignore", invalid="ignore"):
            between = np.where(fraction < 0.5, low + fraction * (high - low), high - (1.0 - fraction) * (high - low))
        between_ranks: Array = np.where(low == high, low, between)
        return np.where(shares <= 0.0, self.low, np.where(shares >= 1.0, self.high, between_ranks))


def _merge_counts(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return the distinct numbers of some parts, sorted, and their counts."""
    values, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[starts], np.add.reduceat(counts, starts)


def _prune_counts(values: Array, counts: Array) -> tuple[Array, Array]:
    """Return at most ``SKETCH_SIZE`` numbers with counts of the same sum."""
    if len(values) <= SKETCH_SIZE:
        return values, counts
    ends = np.cumsum(counts)
    edges = np.arange(SKETCH_SIZE + 1) * int(ends[-1]) // SKETCH_SIZE
    middles = (edges[:-1] + edges[1:]) // 2
    kept = values[np.searchsorted(ends, middles, side="right")]
    return _merge_counts([(kept, np.diff(edges))])


class LevelCounts:
    """How often each text occurs: exact up to ``LEVELS_KEPT`` distinct texts of ``CHARACTERS_KEPT`` characters.

    Beyond that the rarest are dropped, and the count of the commonest dropped one is taken off all others, so that no
    count is too large, and each is too small by at most ``error``, which is at most rows / ``LEVELS_KEPT`` while the
    number of texts is the limit.

    Attributes:
        counts: The count of each text.
        error: By how much a count may be too small; 0 while all are exact.
        numeric: Whether the texts are numbers, which sort by value.
        boolean: Whether the texts are those of booleans.

    Example:
        >>> counts = LevelCounts()
        >>> counts.add(np.array([0, 1, 0, -1]), ("Paris", "Rome"))
        >>> counts.commonest(1), counts.missing
        (('Paris',), 1)

    Source:
        Misra and Gries, Finding repeated elements (1982); Agarwal et al., Mergeable summaries (2012), section 2.
    """

    def __init__(self, kept: int | None = None) -> None:
        """Start empty; ``kept`` is another limit than ``LEVELS_KEPT``."""
        self.missing = self.error = 0
        self.numeric = self.boolean = False
        self._kept = kept
        self.counts: dict[str, int] = {}

    def add(self, codes: Array, levels: tuple[str, ...]) -> None:
        """Add the texts of a block as numbers of ``levels``; -1 is missing."""
        present = np.bincount(codes + 1, minlength=len(levels) + 1)
        self.missing += int(present[0])
        for code in np.flatnonzero(present[1:]).tolist():
            self.counts[levels[code]] = self.counts.get(levels[code], 0) + int(present[code + 1])
        limit = self._kept or LEVELS_KEPT
        if len(self.counts) > limit or sum(map(len, self.counts)) > CHARACTERS_KEPT:
            ranked = self.rank_texts()
            characters = np.cumsum([len(text) for text in ranked])
            kept = min(limit, int(np.searchsorted(characters, CHARACTERS_KEPT, side="right")))
            less = self.counts[ranked[kept]]
            self.error += less
            self.counts = {text: count - less for text in ranked[:kept] if (count := self.counts[text]) > less}

    def fill(self, value: str) -> None:
        """Count each missing value as this one."""
        if self.missing:
            self.counts[value] = self.counts.get(value, 0) + self.missing
            self.missing = 0

    def rank_texts(self) -> list[str]:
        """Return the texts from the commonest to the rarest; those of one count in the order of the alphabet."""
        return sorted(self.counts, key=lambda text: (-self.counts[text], text))

    def commonest(self, limit: int) -> tuple[str, ...]:
        """Return the commonest texts, at most ``limit``, sorted."""
        return self.sort_texts(self.rank_texts()[:limit])

    def sort_texts(self, texts: Any) -> tuple[str, ...]:
        """Return texts from A to Z, or numbers by value."""
        return tuple(sorted(texts, key=float) if self.numeric else sorted(texts))
