"""Lockstep: shards are computed up to a sum over all rows, all of them, then up to the next sum."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import NamedTuple

import numpy as np

from framework.arrays import Array, Sums
from framework.errors import UsageError
from framework.parallel.sums import Tree
from framework.parallel.workers import Workers

NOTHING: Array = np.zeros(0)
"""The vector of a shard that adds up figures alone."""

_OTHER_SUMS = (
    "DataParallel: the layers of a shard add up other numbers over all rows than those of another shard or "
    "than in the first step; let every batch go through the same layers"
)


class Addend(NamedTuple):
    """The last addends of a shard, or their sum over all shards.

    Attributes:
        vector: Numbers of the model's dtype, such as the gradient.
        sums: The sums of its figures.
        arrays: Further arrays: the sum is that of shard 0, such as the new buffers, which are equal on all; one flat
            array.
    """

    vector: Array
    sums: Sums
    arrays: Sequence[Array] = ()


Shard = Generator[Array | Addend, Array, None]
"""A shard yields an array, receives the sum of this array over all shards, and so on, and yields an ``Addend`` last."""


class _Form(NamedTuple):
    """The form of a sum: that of the vector, how many numbers each figure has, how many further ones there are."""

    length: int
    dtype: str
    layout: tuple[tuple[str, int], ...]
    further: int
    last: bool


class Lockstep:
    """Computes the shards of a worker, in step with the shards of all workers.

    The first run finds which sums there are; all runs need the same ones. The tail of each sum begins with two numbers,
    which are above 0 if a worker has an error, and if it has a signal. Then all workers call ``agree``.

    Example:
        >>> def centred(x, result):
        ...     total = yield np.array([x.sum(), len(x)])
        ...     result += (x - total[0] / total[1]).tolist()
        ...     yield Addend(NOTHING, {"rows": (len(x),)})
        >>> alone, rows, results = Workers(), [np.array([1.0, 2.0]), np.array([6.0])], [[], []]
        >>> lockstep = Lockstep(alone, range(2), lambda *sizes: Tree(alone, 2, *sizes), agree=print)
        >>> lockstep.run([0, 1], lambda shard, _: centred(rows[shard], results[shard]), NOTHING).sums, results
        ({'rows': (3.0,)}, [[-2.0, -1.0], [3.0]])
    """

    def __init__(
        self,
        workers: Workers,
        own: range,
        new: Callable[..., Tree],
        *,
        noted: Callable[[], bool] = bool,
        agree: Callable[[Exception | None], None],
    ) -> None:
        """Plan no sums yet.

        Args:
            workers: The workers.
            own: The numbers of the shards of this worker.
            new: Makes a sum over all shards, given its length, its dtype, and the length of its tail.
            noted: Returns whether a signal has come to this worker of which the others may not know.
            agree: Sends the signal or an error to all workers, which raise the error.
        """
        self._workers, self._own, self._new, self._noted, self._agree = workers, own, new, noted, agree
        self._planned: list[tuple[_Form, Tree]] = []

    def run(
        self,
        shards: Collection[int],
        start: Callable[[int, Tree | None], Shard],
        into: Array,
        *,
        tolerant: bool = False,
    ) -> Addend | None:
        """Return the total of all shards; None if a worker has an error and the caller is ``tolerant``.

        Args:
            shards: The shards of this worker that have rows.
            start: Begins to compute a shard, given its number and, if its first sum is known to be its last one, what
                adds it up.
            into: Gets the sum of the last vectors.
            tolerant: Whether no error is raised.
        """
        running, total, number = dict[int, Shard](), into, 0

        def advance(shard: int, tree: Tree | None) -> Addend | Array:
            if shard in running:
                return running[shard].send(total)
            running[shard] = start(shard, tree)
            return next(running[shard])

        while True:
            error = self._fill(number, shards, advance)
            if number == len(self._planned):  # a worker has failed
                if not tolerant:
                    self._agree(error)
                return None
            form, tree = self._planned[number]
            total = into if form.last else np.empty(form.length, form.dtype)
            failed, noted, *numbers = tree.total(total).tolist()
            if noted or (failed and not tolerant):
                self._agree(None if tolerant else error)
            if failed:
                return None
            if form.last:
                sums: Sums = {}
                for name, size in form.layout:
                    sums[name], numbers = tuple(numbers[:size]), numbers[size:]
                return Addend(total, sums, [np.array(numbers)])
            total.setflags(write=False)  # all shards of this worker read it
            number += 1

    def _fill(
        self, number: int, shards: Collection[int], advance: Callable[[int, Tree | None], Addend | Array]
    ) -> Exception | None:
        """Write the addends of all shards of this worker, and return its error."""
        first, error = dict[int, Addend | Array](), None
        if number == len(self._planned):
            try:
                first = {shard: advance(shard, None) for shard in [*shards][:1]}
            except Exception as raised:  # noqa: BLE001 (raised on all workers, after the sum they wait for)
                error = raised
            if not self._plan([*first.values()], failed=error is not None):
                return error
        form, tree = self._planned[number]
        for shard in self._own:
            leaf, addend = tree.leaf(shard), None
            try:
                if shard in shards and error is None:
                    made = first[shard] if shard in first else advance(shard, tree if form.last else None)
                    if _form_of(made) != form:
                        raise UsageError(_OTHER_SUMS)  # noqa: TRY301
                    addend = made if isinstance(made, Addend) else Addend(made, {})
            except Exception as raised:  # noqa: BLE001 (as above)
                error = raised
            leaf.tail[:2] = error is not None, self._noted()
            if addend is None:
                leaf.vector[...] = 0.0
                continue
            if addend.vector is not leaf.vector:
                leaf.vector[...] = addend.vector
            figures = [value for values in addend.sums.values() for value in values]
            numbers = np.concatenate([figures, *map(np.ravel, addend.arrays if shard == 0 else ())])
            leaf.tail[2 : 2 + len(numbers)] = numbers
        return error

    def _plan(self, addends: Sequence[Addend | Array], *, failed: bool) -> bool:
        """Plan the next sum with all workers, of which some have no shard; return False if one has failed."""
        answers = self._workers.gather(([*map(_form_of, addends)], failed))
        if any(failed for _, failed in answers):
            return False
        form = next(form for forms, _ in answers for form in forms)
        tail = 2 + sum(size for _, size in form.layout) + form.further
        self._planned.append((form, self._new(form.length, form.dtype, tail)))
        return True


def _form_of(addend: Addend | Array) -> _Form:
    if not isinstance(addend, Addend):
        return _Form(len(addend), addend.dtype.str, (), 0, last=False)
    vector, sums, arrays = addend
    layout = tuple((name, len(values)) for name, values in sums.items())
    return _Form(len(vector), vector.dtype.str, layout, sum(array.size for array in arrays), last=True)
