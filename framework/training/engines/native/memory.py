"""The memory that a kernel works in, and where it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import is_not
from typing import Any, NamedTuple, Protocol
from weakref import ref

import numpy as np

from framework.backends.native import Function, addresses
from framework.backends.step import Slot
from framework.base.arrays import Array
from framework.graph.node import Node
from framework.training.engines.native.nests import Emitter, Pause
from framework.training.engines.native.views import Buffer, at_rows
from framework.training.optimizers import BoundOptimizer

MOVING = ("draw", "kept", "row")
"""The roles of arrays of which each batch has a part."""

GIVEN = ("number", "gradient", "buffer", *MOVING)
"""The roles of arrays that are not working memory."""

NOTHING = np.zeros(0)
"""In place of an array that is given later."""

NUMBERS = "first", "start", "stop", "phase", "n", "updates", "runs", "seen", "whole"
ARRAYS = {
    "settings": "floats",
    "spans": "ints",
    "tables": "arrays",
    "memory": "arrays",
    "data": "arrays",
    "rows": "ints",
    **dict.fromkeys(("counts", "numbers", "totals", "clips"), "floats"),
}
"""The arguments of the function, as one array: numbers, then arrays with their annotations in the kernel language."""

_FIRST, _START, _STOP, _PHASE = range(4)
_ROWS = len(NUMBERS) + [*ARRAYS].index("rows")

_KEPT = 4
"""The numbers of rows whose arrays are kept: those of the batches and of the last batch, or of two shards of each."""


class Kernel(Protocol):
    """The parts of a ``StepKernel`` that its memory reads."""

    emitter: Emitter
    runs_python: bool
    function: Function
    settings: Array

    @property
    def buffers(self) -> Iterable[Buffer]:
        """The arrays that the function takes, in their order."""

    @property
    def moving(self) -> Sequence[tuple[int, str]]:
        """The places and the names of the arrays of which each batch has a part."""

    @property
    def pauses(self) -> Sequence[Pause]:
        """The pauses after each phase but the last one."""

    def spans(self, parameters: Mapping[str, Array]) -> Array:
        """Return (group, start, length) of each run of the flat vector whose update is a loop."""


class Steps(NamedTuple):
    """Some steps to make.

    Attributes:
        rows: How many rows each of them has.
        first: The first batch.
        stop: The batch after the last one.
        order: Which rows of the data make up the batches.
        data: The leaves of the data, and where they lie.
        counts: What the loss of each step is divided by.
        numbers: The numbers of the updates, a line for each step.
        totals: Receives the totals of each step.
        clips: The limits of the optimizer's clips, (clips,), or of those of several models, (clips, models).
        moving: The random numbers of all steps, and the arrays for their outputs, by role and number.
        updates: Whether the parameters are updated; else the gradients alone are computed.
        seen: Whether a callback reads the gradients of every step.
        key: The key of random numbers, for layers that Python runs.
        phase: Which phase of a step is made, of a shard whose layers mix rows.
        whole: How many rows all shards have together.
    """

    rows: int
    first: int
    stop: int
    order: Array
    data: tuple[list[Array], Array]
    counts: Array
    numbers: Array
    totals: Array
    clips: Array
    moving: Mapping[str, Array]
    updates: bool
    seen: bool
    key: tuple[int, ...] = ()
    phase: int = 0
    whole: int = 0


class State(NamedTuple):
    """The numbers that steps change.

    Attributes:
        version: Changes where the parameters lie elsewhere.
        vector: The parameters.
        views: Its parts, by the names of the parameters.
        memory: That of the optimizer.
        buffers: Those of the model.
    """

    version: int
    vector: Array
    views: Mapping[str, Array]
    memory: Mapping[str, Array]
    buffers: Mapping[str, Array]

    @classmethod
    def of(cls, optimizer: BoundOptimizer) -> State:
        """Return the arrays of a training."""
        parameters = optimizer.parameters
        return cls(parameters.version, parameters.vector, parameters.views, optimizer.memory, optimizer.model.buffers)


class _Held(NamedTuple):
    """The arrays that the function takes besides those of the steps.

    Attributes:
        located: Where working memory, parameters and gradients lie.
        runs: How many runs of the flat vector are updated in loops.
        places: Where the settings, the runs and the tables lie.
        kept: The arrays that must stay in memory.
    """

    located: Array = NOTHING
    runs: int = 0
    places: Sequence[int] = ()
    kept: tuple[Any, ...] = ()


class Call:
    """A function with all that it takes for some steps, which it may make again while the arrays lie where they are."""

    def __init__(self, function: Function, words: Array, *kept: Any) -> None:
        """Bind the function to its words; what is ``kept`` has to stay in memory."""
        self._words, self._kept, self._order = words, kept, NOTHING
        self._function = function.at(*function.addresses_of(words))

    def __call__(self, start: int, stop: int, phase: int) -> int:
        """Make a phase of the steps from one batch to another; return the first one that is not done."""
        words = self._words
        words[_START], words[_STOP], words[_PHASE] = start, stop, phase
        reached: int = self._function()
        return reached

    def move(self, first: int, order: Array) -> None:
        """Go on with other batches, the first of which has a number, of the rows in an order."""
        self._words[_FIRST], self._order = first, order
        (self._words[_ROWS],) = addresses([order])


class Memory:
    """The working memory of a kernel, and where it lies. It ends with its kernel, which it does not keep.

    Attributes:
        records: Those of the layers that Python runs.
        key: The key of their random numbers.
        reached: The batch of the step that was made last.
    """

    reached = 0

    def __init__(self, kernel: Kernel) -> None:
        """Begin without arrays."""
        self.records: dict[int, Any] = {}
        self.key: tuple[int, ...] = ()
        self._of = ref(kernel)
        self._laid: dict[int, tuple[dict[Buffer, Any], list[Array], Array]] = {}
        self._pauses: dict[int, list[Any]] = {}  # the arrays that Python reads and fills
        self._states: dict[tuple[int, int], tuple[tuple[Any, ...], _Held]] = {}
        self._training: Any = None  # whose states these are: the memory of its optimizer

    @property
    def _kernel(self) -> Kernel:
        kernel = self._of()
        assert kernel is not None
        return kernel

    def run(self, steps: Steps, slot: Slot, state: State) -> int:
        """Make steps, or a phase of them; return the first batch that is not done. See ``bind``."""
        return self.bind(steps, slot, state)(steps.first, steps.stop, steps.phase)

    def bind(self, steps: Steps, slot: Slot, state: State) -> Callable[[int, int, int], int]:
        """Return a function that makes a phase of steps, from one batch to another, and returns the first not done.

        Args:
            steps: The steps.
            slot: The arrays for the gradients and the new buffers.
            state: What the steps change.

        Returns:
            A ``Call``, unless Python computes some nodes.
        """
        kernel = self._kernel
        held = self._hold(kernel, steps.rows, slot, state)
        located = held.located
        if kernel.moving:
            located = located.copy()
            for index, name in kernel.moving:
                (located[index],) = addresses([steps.moving[name]])
        arrays = located, steps.data[1], steps.order, steps.counts, steps.numbers, steps.totals, steps.clips
        runs = held.runs if steps.updates else 0
        numbers = steps.rows, int(steps.updates), runs, int(steps.seen), steps.whole
        words = addresses(arrays, steps.first, 0, 0, 0, *numbers, *held.places)
        call = Call(kernel.function, words, held, steps, arrays)
        return partial(self._run_with_python, kernel, steps, state, call) if kernel.runs_python else call

    def _run_with_python(
        self, kernel: Kernel, steps: Steps, state: State, call: Call, start: int, stop: int, _: int
    ) -> int:
        """Make steps of which Python computes some nodes; return the first batch that is not done."""
        for self.reached in range(start, stop):
            before = [(buffer, buffer.copy()) for buffer in state.buffers.values()]  # Python changes them at once
            made = False
            try:
                made = self._make_step(kernel, steps, call)
            finally:
                for buffer, old in before if not made else ():
                    buffer[...] = old
            if not made:
                return self.reached
        return stop

    def _make_step(self, kernel: Kernel, steps: Steps, call: Call) -> bool:
        """Make a step of which Python computes some nodes; return False if a number is not finite."""
        batch = self.reached
        self.key = (*steps.key[:2], steps.key[2] + batch - steps.first, *steps.key[3:])
        for phase, pause in enumerate(kernel.pauses):
            if call(batch, batch + 1, phase) == batch:
                return False
            assert pause.node is not None
            self._compute(pause.node, *self._pauses[steps.rows][phase])
        return call(batch, batch + 1, len(kernel.pauses)) > batch

    def _compute(self, node: Node, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Let Python compute a node."""
        if node.op == "python":
            results = (node.attributes["function"](*inputs),)
        elif node.op == "call":
            results = node.attributes["called"].forward(self, *inputs)[1:]
        else:
            called = node.attributes["called"]
            results = called.backward((self.records[called.number],), *inputs)
        for output, result in zip(outputs, results, strict=True):
            output[...] = result

    def array_to_exchange(self, phase: int, rows: int) -> Array | None:
        """Return what is replaced by its sum over all shards after a phase, or None after the last one."""
        pauses = self._kernel.pauses
        return self._laid[rows][0][pauses[phase].outputs[0]] if phase < len(pauses) else None

    def _hold(self, kernel: Kernel, rows: int, slot: Slot, state: State) -> _Held:
        """Return the arrays that the function takes besides those of the steps."""
        if self._training is not state.memory:  # another training has other slots
            self._training, self._states = state.memory, {}
        memory = state.memory.values()
        now = state.version, state.vector, *memory, *state.buffers.values(), *slot.buffers.values()
        known, held = self._states.get((rows, id(slot.gradient)), ((), _Held()))
        if len(known) == len(now) and known[0] == now[0] and not any(map(is_not, known[1:], now[1:])):
            return held
        if rows not in self._laid:
            if len(self._laid) == _KEPT:
                self._forget(next(iter(self._laid)))
            self._laid[rows] = laid = lay_out(kernel.emitter, rows)
            self._pauses[rows] = [
                tuple([_as_shape(laid[0][buffer], buffer, rows) for buffer in group] for group in pause[:2])
                for pause in kernel.pauses
            ]
        tables = self._laid[rows][1]
        own = {"number": {**state.views, **state.buffers}, "gradient": slot.gradients, "buffer": slot.buffers}
        arrays = [NOTHING if buffer.role in MOVING else self._array(buffer, rows, own) for buffer in kernel.buffers]
        arrays += [state.vector, slot.gradient, *memory]
        spans, located, of_tables = kernel.spans(state.views), addresses(arrays), addresses(tables)
        places = [*addresses([kernel.settings, spans, of_tables])]
        held = _Held(located, len(spans), places, (arrays, tables, spans, of_tables))
        self._states[rows, id(slot.gradient)] = now, held
        return held

    def _forget(self, rows: int) -> None:
        """Let go of the arrays for a number of rows."""
        del self._laid[rows], self._pauses[rows]
        self._states = {key: value for key, value in self._states.items() if key[0] != rows}

    def _array(self, buffer: Buffer, rows: int, places: Mapping[str, Mapping[str, Array]]) -> Array:
        role, _, name = buffer.name.partition(" ")
        return places[role][name] if buffer.role in GIVEN else self._laid[rows][0][buffer]


def _as_shape(array: Array, buffer: Buffer, rows: int) -> Array:
    """Return the array of a buffer in its shape."""
    return array.reshape([at_rows(size, rows) for size in buffer.shape])


def lay_out(emitter: Emitter, rows: int) -> tuple[dict[Buffer, Any], list[Array], Array]:
    """Lay out working memory for batches of so many rows: arrays that do not live at one time share it.

    Returns:
        The arrays, the tables, and the memory that holds the arrays.
    """
    e, dtype = emitter, np.dtype(emitter.dtype)
    life: dict[Buffer, tuple[int, int]] = {}
    for step, buffer in e.touched:
        low, high = life.get(buffer, (step, step))
        life[buffer] = min(low, step), max(high, step)
    arrays: dict[Buffer, Any] = {}
    placed: list[tuple[int, int, int, int]] = []
    for buffer in sorted(e.pointers, key=lambda buffer: -at_rows(buffer.size, rows)):
        size = max(1, at_rows(buffer.size, rows))
        kind = np.dtype(np.int64) if buffer.kind == "i" else dtype
        if buffer.role in GIVEN:
            continue
        if buffer.role == "const":
            arrays[buffer] = np.ascontiguousarray(buffer.value.astype(kind)).reshape(-1)
        elif buffer.role in ("filled", "data") or buffer.kind == "i":
            arrays[buffer] = np.full(size, buffer.value, kind)
        else:
            room, (low, high) = -(-size * dtype.itemsize // 64) * 64, life[buffer]
            start = 0
            for begin, end in sorted((o, o + r) for o, r, a, b in placed if a <= high and low <= b):
                if start + room <= begin:
                    break
                start = max(start, end)
            placed.append((start, room, low, high))
            arrays[buffer] = start, size
    raw = np.zeros(max((start + room for start, room, *_ in placed), default=0) + 64, np.uint8)
    arena = raw[-raw.ctypes.data % 64 :]
    for buffer, array in arrays.items():
        if isinstance(array, tuple):
            start, size = array
            arrays[buffer] = arena[start : start + size * dtype.itemsize].view(dtype)
    return arrays, [make(rows) for _, make in e.tables.values()], raw
