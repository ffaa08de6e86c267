"""The passes of a model, a loss, and a whole step, as NumPy functions with working memory."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from framework.backends.numpy import Emitted, emit
from framework.base.arrays import Array, Sums, require_ids
from framework.base.errors import ShapeError, UsageError
from framework.base.trees import fill, leaves
from framework.graph.lower import Lowering, is_columns
from framework.graph.node import Node, ancestors, nodes_in, order_nodes
from framework.graph.operations import OPERATIONS
from framework.graph.step import LossGraph, ModelGraph, StepGraph

_FREE = frozenset({"constant", "rows", "row_numbers"})
"""Operations without arguments, which are computed again instead of saved."""

Result = TypeVar("Result")

Pattern = tuple[bool, ...]
"""For each leaf of the outputs, whether its gradient is that of the argument of its activation."""


class Workspace(WeakKeyDictionary[Any, Any]):
    """The working memory of several functions, made when each is first called; of one thread at a time.

    That of a function ends with it, as after each training of a model whose functions no other model shares.
    """

    def __getitem__(self, function: Any) -> Any:
        """Return the memory of a function."""
        try:
            return super().__getitem__(function)
        except KeyError:
            memory = self[function] = function.new_memory()
            return memory


class Slot(NamedTuple):
    """The arrays that a step of some rows writes into.

    Attributes:
        gradient: The gradient of all parameters.
        gradients: Its views, by the names of the parameters.
        buffers: The new buffers by name.
        workspace: The working memory.
    """

    gradient: Array
    gradients: Mapping[str, Array]
    buffers: Mapping[str, Array]
    workspace: Workspace

    @classmethod
    def of(cls, model: Any) -> Slot:
        """Return the arrays of a model."""
        state = model._built()
        return cls(state.parameters.gradient, state.parameters.gradients, state.buffers, state.workspace)


Computation = Generator[Array, Array, Sums]
"""A step of some rows up to the gradients, which ends with the sums of its figures.

A shard whose layers mix rows yields what it adds up, and receives the sum over all shards.
"""


def finish(step: Generator[Array, Array, Result]) -> Result:
    """Return the result of a step that needs no totals over shards."""
    try:
        next(step)
    except StopIteration as ended:
        result: Result = ended.value
        return result
    raise AssertionError("the step of a shard waits for the others")


class Passes:
    """The passes of a model for samples of one shape, as NumPy functions.

    Attributes:
        graph: The model as a graph.
        trained: The names of the parameters that get a gradient.
        dtype: That of floats.
        patterns: Those that a backward pass may start from.
        sources: Where the argument of each activation is among the arguments and the results, or None.
        single: Whether there is one output.
        is_number: Whether the output is one number, of one sample.
        repeats: Whether a pass may be made again for other samples of the same shape, without further checks.
        changed: The names of the buffers that a pass in training changes.
        forward: (numbers, draws, x) -> the outputs, the arguments of their activations, the new buffers, and what the
            backward pass reads.
    """

    def __init__(self, graph: ModelGraph, trained: Sequence[str] = (), patterns: Iterable[Pattern] = ()) -> None:
        """Emit the forward pass.

        Args:
            graph: The model as a graph.
            trained: The names of the parameters that get a gradient.
            patterns: The patterns of gradients that backward passes may start from, besides those of all outputs, and
                of all arguments of activations.
        """
        self.graph, self.trained = graph, [*trained]
        names = leaves(graph.outputs)
        plain: Pattern = (False,) * len(names)
        self.dtype = np.dtype(graph.graph.dtype)
        numbers = [graph.numbers[name] for name in trained]
        ends = tuple(h is not None for h in graph.h)
        self.patterns = dict.fromkeys([plain, ends, *patterns]) if graph.training else {}
        # A loop is extended while it is derived, so every pattern is derived before the forward pass is lowered. The
        # gradients of the parameters come first and by themselves, as in a step, which has no dL/dx; but Python carries
        # a gradient back once.
        of_x = [*graph.x.values()]
        derived = [
            [(pattern, graph.gradients(dict(zip(names, pattern, strict=True)), wrt)) for pattern in self.patterns]
            for wrt in ([[*numbers, *of_x]] if graph.calls else [numbers, of_x])
        ]
        lowering = Lowering(graph.graph)
        self._inputs = lowering.add(graph.inputs)
        a, h = lowering.add(graph.a), lowering.add(graph.h)
        buffers = lowering.add(graph.buffers.values())
        self.ends, self._lowering = (*a, *h), lowering.copy()
        self._derived = {pattern: (seeds, nodes[: len(numbers)]) for pattern, (seeds, nodes) in derived[0]}
        of_all = [{pattern: lowering.add(nodes) for pattern, (_, nodes) in derivatives} for derivatives in derived]
        back: dict[Pattern, tuple[list[Node], list[Node]]] = {}
        for pattern, (seeds, _) in derived[0]:
            gradients = [node for derivatives in of_all for node in derivatives[pattern]]
            dx = gradients[len(numbers) :]
            back[pattern] = lowering.add(seeds.values()), dx + gradients[: len(numbers)]
        self._back = back.get(plain)
        results = {f"a{index}": node for index, node in enumerate(a)}
        results |= {f"h{index}": node for index, node in enumerate(h) if node not in (None, *self._inputs)}
        before = dict(zip(graph.numbers, self._inputs, strict=False))
        new = {name: node for name, node in zip(graph.buffers, buffers, strict=True) if node is not before[name]}
        self.changed = [*new] if graph.training else []
        results |= {f"buffer{index}": new[name] for index, name in enumerate(self.changed)}
        self._saved = _values_read_by(results.values(), {*self._inputs}, back.values())
        results |= _number_nodes("saved", self._saved)
        results |= {} if len(results) > 1 else {"none": 0.0}  # always a tuple
        self.results = [*results.values()]
        self.forward = emit(results, _number_nodes("i", self._inputs), name="forward", share=True)
        values = [*self._inputs, *self.results]
        self.sources = [None if node is None else values.index(node) for node in h]
        self.functions: dict[bool, Emitted] = {}
        self.single = not isinstance(graph.outputs, dict)
        self.is_number = graph.sample and self.single and not a[0].shape
        self.width, self.first_saved = len(a), len(results) - len(self._saved)
        self._checks = bool(graph.minimum[0] or graph.draws or graph.ids)
        self.repeats = not (self._checks or graph.buffers)
        self._ids: Emitted | None = None

    def backward(self, *, input_gradient: bool) -> Emitted:
        """Return the backward pass: (gradients of outputs, numbers, draws, x, saved, arrays of gradients) -> dL/dx."""
        if input_gradient not in self.functions:
            assert self._back is not None
            seeds, gradients = self._back
            first = 0 if input_gradient else len(self.graph.x)
            outputs = _number_nodes("d", gradients[first:], first)
            into = {f"d{index}": f"into{index}" for index in range(len(self.graph.x), len(gradients))}
            inputs = (
                _number_nodes("seed", seeds) | _number_nodes("i", self._inputs) | _number_nodes("saved", self._saved)
            )
            known = {*seeds, *(node for node in self._saved if node in self.forward.contiguous)}
            self.functions[input_gradient] = emit(outputs, inputs, name="backward", into=into, contiguous=known)
        return self.functions[input_gradient]

    def backward_of(self, graph: LossGraph) -> Emitted:
        """Return a loss and the backward pass after it, whose pattern is one of these.

        It is (numbers, draws, x, results of the forward pass, y, weight, count, arrays of gradients) -> the totals.
        Where one is not finite, no gradient is written.
        """
        lowering = self._lowering.copy()
        data = lowering.add(graph.data.values())
        seeds, gradients = self._derived[graph.pattern]
        totals = graph.join(lowering, self.ends, seeds)
        outputs = _number_nodes("total", totals) | _number_nodes("d", lowering.add(gradients))
        into = {name: f"into{index}" for index, name in enumerate([*outputs][len(totals) :])}
        outputs = outputs if into else outputs | {"none": 0.0}  # always a tuple
        read_results = [node if isinstance(node, Node) else lowering.graph.input("unread", ()) for node in self.results]
        inputs = _number_nodes("i", self._inputs) | _number_nodes("r", read_results) | _number_nodes("data", data)
        known = self.forward.contiguous | {node for node in data if not node.shape}  # numbers, not arrays of no axes
        return emit(outputs, inputs, name="backward", into=into, contiguous=known, finite=len(totals))

    def run(
        self, workspace: Workspace, key: tuple[int, ...] | None, x: Sequence[Array], numbers: Sequence[Array]
    ) -> Pass:
        """Return a forward pass.

        Args:
            workspace: The working memory.
            key: The key of the pass's random numbers, or None.
            x: The leaves of x.
            numbers: The parameters and the buffers.

        Raises:
            ShapeError: Training needs more rows.
            DataError: An id is out of range.
            UsageError: A layer draws random numbers, and there is no key.
        """
        if self._checks:
            graph, rows = self.graph, len(x[0])
            if graph.minimum[0]:
                require_rows(graph, rows)
            numbers = [*numbers, *draw_numbers(graph, key, rows)]
            if graph.ids:
                self._require_ids([*numbers, *x])
        memory = None
        if self.forward.works:
            memory = workspace[self.forward]
            memory.key = key
        return Pass(self, workspace, memory, numbers, x, self.forward.function(memory, *numbers, *x))

    def _require_ids(self, arguments: Sequence[Array]) -> None:
        """Check the ids that layers look up.

        Raises:
            DataError: One is out of range; names the layer.
        """
        ids = self.graph.ids
        if self._ids is None:
            self._ids = emit(
                _number_nodes("ids", [lookup.node for lookup in ids]), _number_nodes("i", self.graph.inputs)
            )
        values = self._ids(*arguments)
        for lookup, array in zip(ids, values if len(ids) > 1 else (values,), strict=True):
            require_ids(np.asarray(array), lookup.limit, lookup.name)


Half = tuple[Any, LossGraph, Callable[..., Sequence[Any]], Any, Iterable[Array]]
"""A backward pass of a loss: its key, the loss, the function, its memory, and the arrays of gradients."""


@dataclass(slots=True, eq=False)
class Pass:
    """A forward pass, and what the backward pass after it needs.

    Attributes:
        passes: The functions.
        workspace: The working memory of all functions.
        memory: That of the forward pass, or None.
        numbers: The parameters, the buffers and the draws.
        x: The leaves of x.
        results: What the function returned.
        sample: Whether it was given one sample.
        loss: After the backward pass of a loss, the paths of outputs, and its results, first the sum of w l of each.
        version: That of the parameters; after another one was frozen or unfrozen, the pass is made again.
    """

    passes: Passes
    workspace: Workspace
    memory: Any
    numbers: Sequence[Array]
    x: Sequence[Array]
    results: tuple[Any, ...]
    sample: bool = False
    loss: tuple[Any, Sequence[Any]] = ((), ())
    version: int = 0

    def repeat(self, key: tuple[int, ...] | None, *x: Array) -> Any:
        """Make the pass for other samples of the same shape; return the output."""
        memory, passes = self.memory, self.passes
        if memory is not None:
            memory.key = key
        results: tuple[Any, ...] = passes.forward.function(memory, *self.numbers, *x)
        self.x, self.results, self.loss = x, results, ((), ())
        return results[0] if passes.single else self.tree

    @property
    def arguments(self) -> tuple[Array, ...]:
        """The arrays that the functions are given: the numbers and the leaves of x."""
        return *self.numbers, *self.x

    @property
    def a(self) -> tuple[Any, ...]:
        """The leaves of the outputs."""
        return self.results[: self.passes.width]

    @property
    def h(self) -> list[Any]:
        """The arguments of the activations that end them, or None."""
        values = (*self.arguments, *self.results)
        return [None if source is None else values[source] for source in self.passes.sources]

    @property
    def buffers(self) -> tuple[Any, ...]:
        """The new buffers."""
        stop = self.passes.first_saved
        return self.results[stop - len(self.passes.changed) : stop]

    @property
    def tree(self) -> Any:
        """The output: an array, or arrays by name."""
        return self.results[0] if self.passes.single else self.tree_of(self.a)

    @property
    def totals(self) -> dict[Any, float]:
        """The sum of w l of each output by its path, after the backward pass of a loss."""
        return {path: float(total) for path, total in zip(*self.loss, strict=False)}

    @property
    def key(self) -> tuple[int, ...] | None:
        """The key of the pass's random numbers."""
        return None if self.memory is None else self.memory.key

    def tree_of(self, parts: Sequence[Any]) -> Any:
        """Return a value for each leaf of the outputs, by name for several outputs."""
        return fill(self.passes.graph.outputs, parts)

    def backward(
        self, gradients: Sequence[Array], out: Mapping[str, Array], *, input_gradient: bool
    ) -> tuple[Array, ...]:
        """Fill the gradients of the parameters, and return dL/dx by leaf, in working memory.

        Args:
            gradients: The gradients of the leaves of the outputs.
            out: The gradients of the parameters by name, which are written.
            input_gradient: Whether dL/dx is wanted; an empty tuple is returned otherwise.
        """
        passes = self.passes
        function = passes.backward(input_gradient=input_gradient)
        memory = self.workspace[function] if function.works else None
        saved = self.results[passes.first_saved :]
        results = function.function(memory, *gradients, *self.arguments, *saved, *self.into(out))
        if not input_gradient:
            return ()
        return (results if isinstance(results, tuple) else (results,))[: len(passes.graph.x)]

    def into(self, out: Mapping[str, Array]) -> Iterable[Array]:
        """Return the arrays of gradients that are written."""
        trained = self.passes.trained
        return out.values() if len(out) == len(trained) else [*map(out.__getitem__, trained)]


def require_rows(graph: ModelGraph, rows: int) -> None:
    """Check that a batch has as many rows as the layers need in training.

    Raises:
        ShapeError: It has fewer; names the layer.
    """
    minimum, label = graph.minimum
    if rows < minimum:
        raise ShapeError(
            f"{label} needs {minimum} rows or more in training; got {rows}: choose a batch_size that leaves no smaller "
            "batch at the end; model(x) predicts for one row"
        )


def draw_numbers(graph: ModelGraph, key: tuple[int, ...] | None, rows: int) -> list[Array]:
    """Return the random arrays of a pass in training.

    Raises:
        UsageError: There is no key.
    """
    drawn = []
    for draw, _ in graph.draws:
        if not key:
            raise UsageError(
                f"{draw.label} draws random numbers in training: write forward(x, key=(seed, epoch, step))"
            )
        numbers = np.empty((rows, *draw.shape), np.float32)
        draw.fill(numbers, key)
        drawn.append(numbers.astype(graph.graph.dtype, copy=False) if draw.wide else numbers)
    return drawn


def _number_nodes(prefix: str, nodes: Iterable[Any], first: int = 0) -> dict[str, Any]:
    return {f"{prefix}{index}": node for index, node in enumerate(nodes, first)}


def _values_read_by(
    results: Iterable[Any], inputs: set[Node], backward: Iterable[tuple[list[Node], list[Node]]]
) -> list[Node]:
    """Return the nodes of the forward pass that a backward pass reads; for a view, the array that it is taken from."""
    forward = ancestors(results)
    saved: dict[Node, None] = {}
    for seeds, gradients in backward:
        order = order_nodes(gradients)
        known = forward | {node for node in order if node.op == "part" and node.args[0] in forward}
        read = [node for node in order if node in known and node in gradients]
        read += [arg for node in order if node not in known for arg in nodes_in(node.args) if arg in known]
        for value in read:
            base = value
            while OPERATIONS[base.op].view and isinstance(base.args[0], Node) and not is_columns(base):
                base = base.args[0]
            if base not in inputs and base not in seeds and base.op not in _FREE and base.fill is None:
                saved[base] = None
    return [*saved]


class StepProgram:
    """A whole step up to the gradients: (x, y, weight, count, numbers, draws, arrays of gradients) -> results.

    Attributes:
        function: The function.
        trained: The names of the parameters whose gradients are written.
        whole: Whether these are all.
        changed: The names of the buffers that it returns.
        buffers: The first place of these in the results; the total of the loss is the first one, then further totals.
        sound: The place of whether ids are sound, or None.
    """

    def __init__(self, graph: StepGraph, *, kept: bool) -> None:
        """Emit the function; the outputs are ``kept`` for metrics that NumPy computes."""
        step, inputs = graph.compose()
        model = graph.model
        numbers = dict(zip(model.numbers, inputs[len(model.x) + len(graph.loss.data) :], strict=False))
        new = {name: node for name, node in zip(model.buffers, step.buffers, strict=True) if node is not numbers[name]}
        self.trained, self.changed = graph.trained, [*new]
        self.whole = len(self.trained) == len(model.numbers) - len(model.buffers)
        results = {"total": step.total} | _number_nodes("total", step.totals)
        self.sound = None if step.sound is True else len(results)
        results |= {} if self.sound is None else {"sound": step.sound}
        self.buffers = len(results)
        results |= _number_nodes("buffer", new.values())
        self._outputs, self._kept = model.outputs, len(results)
        self._has_h = [node is not None for node in model.h]
        results |= _number_nodes("a", step.a) | _number_nodes("h", step.h) if kept else {}
        gradients = _number_nodes("d", step.gradients)
        into = {name: f"into{index}" for index, name in enumerate(gradients)}
        results = {"total": step.total, "none": 0.0} if len(results) == 1 else results  # always a tuple
        self.function = emit(results | gradients, _number_nodes("i", inputs), name="step", into=into, share=True)

    def outputs(self, results: tuple[Any, ...]) -> tuple[Any, Any]:
        """Return (h, a) of the results."""
        count = len(self._has_h)
        a, h = results[self._kept : self._kept + count], results[self._kept + count : self._kept + 2 * count]
        ends = (end if has else None for end, has in zip(h, self._has_h, strict=True))
        return fill(self._outputs, ends), fill(self._outputs, a)
