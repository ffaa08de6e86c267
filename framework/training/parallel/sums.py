"""Sums over all leaves of all workers, and Lockstep: all shards are computed up to a sum, then up to the next one.

The sum of all leaves follows a fixed pairwise tree, so its bits do not depend on the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from framework.base.arrays import Array, Sums
from framework.base.errors import UsageError
from framework.training.parallel.workers import Workers

ALIGNMENT = 64
"""The bytes of a cache line: the parts of a leaf begin at multiples of it."""

SMALL = 4096
"""The bytes of a vector for which workers on one machine share memory; fewer are sent."""

BLOCK = 16_384
"""How many numbers are added up at a time, so that they stay in the cache."""


class Leaf(NamedTuple):
    """The buffers of one leaf, for sums over its rows.

    Attributes:
        vector: Values of the model's dtype, such as the gradient. It is not cleared: write every element.
        tail: float64 numbers, such as the sum of the losses and the number of rows. They are 0 at first.
    """

    vector: Array
    tail: Array


class Tree:
    """The sum of all leaves of all workers, by a fixed pairwise tree.

    A node is the sum of the leaves from k 2^j to (k + 1) 2^j, without those beyond the last: its left half plus its
    right half. A worker adds up nodes within its range of leaves as these are filled, in log2(shards) spare buffers.

    On one machine the workers share the memory of their buffers. Each worker adds up a slice of all nodes that are
    left, and all workers read the sums of all slices. On several machines the slices of the nodes are sent (Alltoallv),
    and then their sums (Allgatherv).

    Example:
        >>> alone = Workers()
        >>> tree = Tree(alone, 4, length=3, dtype=np.float32, tail=1)
        >>> for i in alone.leaves(4):
        ...     leaf = tree.leaf(i)
        ...     leaf.vector[:] = i
        ...     leaf.tail[0] = 10.0
        >>> total = np.empty(3, np.float32)
        >>> tree.total(total), total
        (array([40.]), array([6., 6., 6.], dtype=float32))
    """

    def __init__(self, workers: Workers, shards: int, length: int, dtype: Any, tail: int = 0) -> None:
        """Plan the sums and allocate the buffers.

        Args:
            workers: The workers.
            shards: The number of leaves.
            length: The number of values of a leaf.
            dtype: Their dtype.
            tail: The number of float64 numbers of a leaf.
        """
        self._next = self._top = 0
        self._own = workers.leaves(shards)
        layout = _Layout(length, np.dtype(dtype), tail)
        ranges = [workers.leaves(shards, rank) for rank in range(workers.size)]
        plans = [_plan([(i, i + 1) for i in leaves], shards) for leaves in ranges]
        self._merges = plans[workers.rank].merges
        memory = None
        if layout.used >= SMALL:
            memory = workers.share((1 + sum(plan.depth for plan in plans)) * _round_up(layout.width))
        self._nodes: _Shared | _Sent
        if memory is not None or workers.size == 1:
            self._nodes = _Shared(workers, plans, shards, layout, memory)
        else:
            self._nodes = _Sent(workers, plans, shards, layout)

    def leaf(self, i: int) -> Leaf:
        """Return the buffers for leaf ``i``, to be written before the call for another one.

        Raises:
            UsageError: The worker's leaves are not asked for one after another.
        """
        slots = self._nodes.slots
        if self._next and i == self._own[self._next - 1]:
            return slots[self._top - 1]
        expected = self._own[self._next] if self._next < len(self._own) else None
        if i != expected:
            raise UsageError(
                f"the leaves {list(self._own)} of a worker must be filled in this order; got {i} for {expected}"
            )
        self._merge()
        self._next += 1
        leaf = slots[self._top]
        self._top += 1
        leaf.tail.fill(0.0)
        return leaf

    def _merge(self) -> None:
        """Add up the nodes that the leaf written last completes."""
        slots = self._nodes.slots
        for _ in range(self._merges[self._next - 1] if self._next else 0):
            self._top -= 1
            for left, right in zip(slots[self._top - 1], slots[self._top], strict=True):
                np.add(left, right, out=left)

    def total(self, vector: Array) -> Array:
        """Write the sum of all leaves into ``vector``, the same on all workers, and return the sum of the tails.

        Raises:
            UsageError: A leaf of this worker was not asked for.
        """
        if self._next != len(self._own):
            raise UsageError(f"total needs all leaves {list(self._own)} of this worker; got {self._next} of them")
        if isinstance(self._nodes, _Sent):  # of all that is left, as little as possible is sent
            self._merge()
        self._next = self._top = 0
        return self._nodes.total(vector)


class _Layout(NamedTuple):
    """How the two buffers of a leaf lie in its bytes."""

    length: int
    dtype: np.dtype[Any]
    tail: int

    @property
    def used(self) -> int:
        """The bytes of the vector."""
        return self.length * self.dtype.itemsize

    @property
    def start(self) -> int:
        """Where the tail begins."""
        return _round_up(self.used)

    @property
    def width(self) -> int:
        """The bytes of both."""
        return self.start + 8 * self.tail

    @property
    def stride(self) -> int:
        """How far one vector is from the next, in values."""
        return _round_up(self.width) // self.dtype.itemsize

    def leaf(self, row: Array) -> Leaf:
        """Return the buffers in some bytes."""
        return Leaf(row[: self.used].view(self.dtype), row[self.start : self.width].view(np.float64))


class _Shared:
    """The nodes of all workers in memory that they share, and the sum: each adds up a slice of it. One worker has all.

    Nobody writes into a node before the others have read it, as a worker passes the first ``barrier`` of the next sum
    only after all have read this one, and the second one after all have read the nodes.
    """

    def __init__(
        self, workers: Workers, plans: list[_Plan], shards: int, layout: _Layout, memory: Array | None
    ) -> None:
        """Divide the memory, which is of this process alone if it is None."""
        self._workers = workers
        rank, size = workers.rank, workers.size
        depths = [plan.depth for plan in plans]
        rows = (
            _allocate_rows(sum(depths), layout.width) if memory is None else memory.reshape(-1, _round_up(layout.width))
        )
        leaves, ends = [layout.leaf(row) for row in rows], np.cumsum(depths).tolist()
        self.slots, self.stride = leaves[ends[rank] - depths[rank] : ends[rank]], layout.stride
        starts = zip(ends, depths, plans, strict=True)
        nodes = [leaf for end, depth, plan in starts for leaf in leaves[end - depth :][: len(plan.unmerged)]]
        self._pairs = _plan([node for plan in plans for node in plan.unmerged], shards).pairs
        bounds = [layout.length * j // size // ALIGNMENT * ALIGNMENT for j in range(size)] + [layout.length]
        self._own = slice(bounds[rank], bounds[rank + 1])
        self._vectors, self._tails = [leaf.vector[self._own] for leaf in nodes], [leaf.tail for leaf in nodes]
        self._sum = leaves[-1].vector

    def total(self, vector: Array) -> Array:
        """Write the sum into ``vector``, and return the sum of the tails."""
        several = self._workers.size > 1
        if several:
            self._workers.barrier()
        _add_up(self._vectors, self._pairs, self._sum[self._own] if several else vector)
        tail = np.empty_like(self._tails[0])
        _add_up(self._tails, self._pairs, tail)
        if several:
            self._workers.barrier()
            vector[...] = self._sum
        return tail


class _Sent:
    """The nodes of this worker, of which each worker gets a slice; the last one adds up the tails too."""

    def __init__(self, workers: Workers, plans: list[_Plan], shards: int, layout: _Layout) -> None:
        """Allocate what the exchange needs."""
        self._workers = workers
        rank, size, width = workers.rank, workers.size, layout.width
        rows = _allocate_rows(max(plans[rank].depth, 1), width)
        self.slots, self.stride = [layout.leaf(row) for row in rows], layout.stride
        bounds = [layout.start * j // size // ALIGNMENT * ALIGNMENT for j in range(size)] + [width]
        starts, widths = np.array(bounds[:-1]), np.diff(bounds)
        counts = np.array([len(plan.nodes) for plan in plans])
        own, start, wide = int(counts[rank]), bounds[rank], int(widths[rank])
        self._bounds, self._nodes = bounds, rows[:own]
        self._packed = _allocate_rows(1, own * width)[0] if own > 1 else rows[0]
        self._places = (own * widths, own * starts)
        self._received = np.zeros((int(counts.sum()), wide), np.uint8)
        self._origins = (counts * wide, (np.cumsum(counts) - counts) * wide)
        self._slices = (widths, starts)
        numbers = max(0, min(bounds[rank + 1], layout.used) - start)
        tail = max(0, layout.start - start) if rank == size - 1 else wide
        self._vectors = [row[:numbers].view(layout.dtype) for row in self._received]
        self._tails = [row[tail:].view(np.float64) for row in self._received]
        self._pairs = _plan([node for plan in plans for node in plan.nodes], shards).pairs
        self._result = _allocate_rows(1, width)[0]
        self._sum = layout.leaf(self._result)

    def total(self, vector: Array) -> Array:
        """Write the sum into ``vector``, and return the sum of the tails."""
        own = len(self._nodes)
        if own > 1:
            for start, stop in zip(self._bounds, self._bounds[1:], strict=False):
                packed = self._packed[own * start : own * stop]
                packed.reshape(own, -1)[:] = self._nodes[:, start:stop]
        self._workers.alltoall(self._packed, self._places, self._received, self._origins)
        for parts in (self._vectors, self._tails):
            _add_up(parts, self._pairs, parts[0])
        self._workers.allgather(self._received[0], self._result, self._slices)
        vector[...] = self._sum.vector
        return self._sum.tail


def _add_up(vectors: list[Array], pairs: list[tuple[int, int]], out: Array) -> None:
    """Write the sum of some vectors into ``out``, which may be the first, in blocks that stay in the cache."""
    for start in range(0, len(out), BLOCK):
        block = slice(start, start + BLOCK)
        sums = [vector[block] for vector in vectors]
        for left, right in pairs[:-1]:
            sums[left] = sums[left] + sums[right]
        if pairs:
            left, right = pairs[-1]
            np.add(sums[left], sums[right], out=out[block])
        else:
            out[block] = sums[0]


class _Plan(NamedTuple):
    """How consecutive nodes are added up, each as (its first leaf, the leaf after its last)."""

    merges: list[int]
    """The number of sums after each node."""
    pairs: list[tuple[int, int]]
    """The sums one by one, as places of nodes: the left one becomes the sum."""
    nodes: list[tuple[int, int]]
    """The nodes that are left."""
    unmerged: list[tuple[int, int]]
    """The nodes that are left without the sums after the last one."""
    depth: int
    """The greatest number of nodes at a time."""


def _plan(nodes: list[tuple[int, int]], shards: int) -> _Plan:
    """Plan the sums of some nodes by the tree of all leaves."""
    merges, depth, unmerged = list[int](), 0, list[tuple[int, int]]()
    pairs = list[tuple[int, int]]()
    stack = list[tuple[int, tuple[int, int]]]()
    for number, node in enumerate(nodes):
        stack.append((number, node))
        depth = max(depth, len(stack))
        unmerged = [node for _, node in stack]
        before = len(pairs)
        while len(stack) > 1 and _halves(stack[-2][1], stack[-1][1], shards):
            right, (_, stop) = stack.pop()
            left, (start, _) = stack.pop()
            pairs.append((left, right))
            stack.append((left, (start, stop)))
        merges.append(len(pairs) - before)
    return _Plan(merges, pairs, [node for _, node in stack], unmerged, depth)


def _halves(left: tuple[int, int], right: tuple[int, int], shards: int) -> bool:
    """Return whether two neighbours are the halves of one node; only the last node may be short."""
    size = left[1] - left[0]
    return left[0] % (2 * size) == 0 and right[1] == min(left[1] + size, shards)


def _round_up(width: int) -> int:
    return -(-width // ALIGNMENT) * ALIGNMENT


def _allocate_rows(rows: int, width: int) -> Array:
    """Return zeroed rows of at least ``width`` bytes, each at a multiple of ALIGNMENT."""
    full = _round_up(width)
    memory = np.zeros(rows * full + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + rows * full].reshape(rows, full)[:, :width]


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
