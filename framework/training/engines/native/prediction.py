"""Predictions in kernels: ``compile_model``, and what a trainer's ``predict`` and ``evaluate`` call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import numpy as np

from framework.backends.native import addresses
from framework.base.arrays import Array
from framework.base.settings.messages import warn
from framework.base.shapes import close_shape, is_known
from framework.base.trees import fill, flatten, leaves, map_leaves, rows_in, sample_shape, take
from framework.graph.node import order_nodes
from framework.graph.rows import mixing_operation
from framework.graph.step import ModelGraph
from framework.graph.symbol import Symbol
from framework.graph.trace import share
from framework.models import Model
from framework.models.rows import predict_rows
from framework.training.engines.native.engine import CompiledEngine
from framework.training.engines.native.kernel import GraphKernel, bound_to
from framework.training.engines.native.memory import NOTHING, lay_out
from framework.training.engines.native.rewrite import prepare
from framework.training.engines.native.views import coefficients
from framework.training.engines.records import CannotLower, Slower, run_compiler

_ROWS, _BYTES = 256, 1 << 20
"""The most rows that a kernel takes at once, and the memory for them, which stays in a cache of this size."""

_FEW, _MOST = 16, 1 << 24
"""Fewer rows than these would leave products short: they may take this much memory."""

_SHAPES = 8
"""How many shapes of samples have kernels, and of how many shapes of x the memory is kept."""

_PREDICT = """
def predict(words: arrays, {rows}) -> int:
    n = words[0]
    count = words[1]
    settings: floats = words[2]
    memory: arrays = words[3]
    tables: arrays = words[4]
{pointers}
    for start in range(0, count, n):
        begin = min(start, count - n)
{parts}
{body}
    return 0
"""

_WORDS = 5
"""The words before the addresses of the results."""


class PredictionKernel(GraphKernel):
    """The outputs of a model for some rows as one native function, which returns 1 if an id is wrong.

    It takes n rows at once. The last n may have been computed before in part, as a row has the same bits in all blocks.

    Attributes:
        shapes: The shapes of the results of a row: first the outputs, then the arguments of their activations.
        ends: Which of the results is the argument of the activation of each output, or None.
    """

    entry, stopped = "predict", "1"

    def __init__(self, model: ModelGraph) -> None:
        """Write the function.

        Raises:
            CannotLower: Python runs a layer, a row of the output depends on other rows, or an operation has no form.
        """
        for node in order_nodes(model.a):
            if mixed := mixing_operation([node]):
                labels = (scope.label for scope in model.scopes if scope.start <= node.place < scope.stop)
                raise CannotLower(f"layer {next(labels, model.scopes[-1].label)} mixes rows, by {mixed}")
        h = [node for node in model.h if node is not None and node not in model.a]
        self._results = [*model.a, *dict.fromkeys(h)]
        self.shapes = [node.shape[1:] for node in self._results]
        self.ends = [None if node is None else self._results.index(node) for node in model.h]
        super().__init__(model, model.graph, independent=True)

    @classmethod
    def of(cls, model: Model, shape: Any, *, compiles: bool) -> PredictionKernel:
        """Return the kernel for samples of a shape, or shapes by name; the same one for equal graphs.

        Args:
            model: The model.
            shape: The shape of a sample, or shapes by name.
            compiles: Whether it is compiled, and not only written.

        Raises:
            CannotLower: The model has no kernel for this shape.
            DerivativeError: A layer cannot be traced.
        """
        traced = partial(ModelGraph, model, shape, training=False)
        plain = traced(stable=False)
        kernel = share(("prediction", plain.key), lambda: run_compiler(partial(cls, traced(plain=plain))))
        if compiles:
            run_compiler(kernel.compile)
        return kernel

    def _write(self) -> str:
        e, model = self.emitter, self.model
        (sound, *results), known = prepare([model.sound, *self._results])
        inputs = {f"row {name}": node for name, node in model.x.items()}
        inputs |= {f"number {name}": node for name, node in model.numbers.items()}
        nodes = {name: known[node] for name, node in inputs.items() if node in known}
        first, block = self._begin(sound, results, [node for node in nodes.values() if node.op == "input"])
        self._bind_inputs(first, inputs, nodes)
        shapes = map(first.shape, self._results)
        outputs = [first.buffer(f"kept {index}", shape, role="kept") for index, shape in enumerate(shapes)]
        pairs = [(buffer.view(), node) for buffer, node in zip(outputs, results, strict=True)]
        copies = [(view, node) for view, node in pairs if not bound_to(block, node, view)]
        self._compute(sound, first, block)
        for view, node in copies:
            e.write_value(block, view, node)
        clear = []
        if e.wrong in e.pointers:
            clear = [f"{e.indent}{e.pointer(e.wrong)}[0] = real(0.0)"]
            self._stop_unless(f"{e.pointer(e.wrong)}[0] == real(0.0)")
        rows = [e.pointer(self._arrays[f"row {name}"]) for name in model.x]
        wholes = [f"    whole_{e.pointer(buffer)}: reals = words[{_WORDS + n}]" for n, buffer in enumerate(outputs)]
        return _PREDICT.format(
            rows=", ".join(f"whole_{name}: reals" for name in rows),
            pointers="\n".join([*self._pointers(elsewhere=("row", "kept")), *wholes]),
            parts="\n".join([*self._parts("begin"), *clear, *(e.indent + line for line in e.scalar_lines)]),
            body="\n".join(e.lines),
        )

    @cached_property
    def block_rows(self) -> int:
        """How many rows it takes at once, so that its memory stays small."""
        row = max(1, (self._bytes(4) - self._bytes(2)) // 2)
        return min(_ROWS, max(_BYTES // row, min(_FEW, _MOST // row), 1))

    def _bytes(self, rows: int) -> int:
        """Return how much memory a number of rows needs."""
        arrays, _, memory = lay_out(self.emitter, rows)
        filled: int = sum(array.nbytes for buffer, array in arrays.items() if buffer.role == "filled")
        return len(memory) + filled

    @cached_property
    def elastic(self) -> bool:
        """Whether memory for some rows serves fewer rows too: whether rows are the first axis of what stays in it."""
        e = self.emitter
        filled = (buffer.view().strides for buffer in e.pointers if buffer.role == "filled")
        axes = (axis for table in e.tables for axis in table)
        return all(len(coefficients(step)) < 2 for steps in (*filled, *axes) for step in steps)

    def trees(self, results: Sequence[Any]) -> tuple[Any, Any]:
        """Return (h, a) of the results."""
        outputs = self.model.outputs
        h = (None if end is None else results[end] for end in self.ends)
        return fill(outputs, h), fill(outputs, results)


class CompiledModel:
    """A model whose predictions are computed by native functions, as ``compile_model`` returns it.

    Call it like the model. It reads the model's weights at each call, so it follows further training.

    Attributes:
        model: The model.
        reason: Why NumPy computes the predictions, or None.
    """

    __slots__ = ("_bound", "_name", "model", "reason")

    def __init__(self, model: Model, name: str = "") -> None:
        """Compile the model, if that is possible; see ``compile_prediction``."""
        self.model, self._name = model, name
        self._bound = self._bind()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the model; the copy makes its own functions."""
        return compile_prediction, (self.model,)

    @property
    def engine(self) -> str:
        """The engine of the predictions: "compiled" or "numpy"."""
        return "compiled" if self.reason is None else "numpy"

    def __call__(self, x: Any) -> Any:
        """Return ``model(x)``: one sample gives one prediction, a batch gives a batch.

        Raises:
            ShapeError: ``x`` is neither a sample nor a batch.
            DtypeError: ``x`` does not hold real numbers.
        """
        bound = self._bound
        if type(x) is np.ndarray and x.dtype is bound.dtype and not bound.is_old():
            try:
                ready = bound.ready[x.shape]
                work = ready.pop()  # no other thread has it now
            except (KeyError, IndexError):  # of the first call like this, or while others are made
                pass
            else:
                wrong = work.run(x.tobytes())
                prediction = work.take()
                ready.append(work)
                return self.model(x) if wrong else prediction
        return self._slowly(x)

    def predict(self, x: Any) -> Any:
        """Return ``model.predict(x)``: predictions for rows of x, (rows, ...), in the unit of the target.

        Raises:
            ShapeError: x is not a batch of the model's samples.
            DataError: A value is not finite, or a table's columns are not those of ``fit``.
        """
        return predict_rows(self.model, x, "predict", lambda rows: self.outputs(rows)[1])

    def outputs(self, x: Any) -> tuple[Any, Any]:
        """Return (h, a) of the output layer for a batch of the model's dtype, as new arrays; by name for several."""
        bound = self._current()
        x = map_leaves(lambda leaf: np.ascontiguousarray(leaf, bound.dtype), x)
        return self._compute(bound, x) or self.model.output(x)

    def _slowly(self, x: Any) -> Any:
        """Predict where nothing is ready: for a list, another dtype, a new shape, many rows, or weights that moved."""
        bound = self._current()
        if isinstance(x, Symbol):
            return self.model(x)
        x, sample = self.model._accept(x, bound.state)
        outputs = self._compute(bound, map_leaves(lambda leaf: leaf[None], x) if sample else x, sample=sample)
        if outputs is None:
            return self.model(x)
        return take(outputs[1], 0) if sample else outputs[1]

    def _compute(self, bound: _Bound, x: Any, *, sample: bool = False) -> tuple[Any, Any] | None:
        """Return (h, a) for a batch, or None where NumPy computes it, or finds what is wrong with an id."""
        shape = sample_shape(x)
        form = _form(shape)
        if form not in bound.kernels and self.reason is None:
            bound.make_room()
            self._add_kernel(bound, shape)
        kernel = bound.kernels.get(form)
        results = None if kernel is None else bound.results(kernel, form, x, sample=sample)
        return None if kernel is None or results is None else kernel.trees(results)

    def _current(self) -> _Bound:
        """Return the functions for the model as it is now; they are made again where the weights have moved."""
        if self._bound.is_old():
            self._bound = self._bind()
        return self._bound

    def _bind(self) -> _Bound:
        """Return functions for the model as it is now: that for the samples of ``fit``, if their shape is known."""
        bound, shape = _Bound(self.model), self.model.known_shape
        self.reason: str | None = None
        self._add_kernel(bound, shape, compiles=is_known(shape))
        return bound

    def _add_kernel(self, bound: _Bound, shape: Any, *, compiles: bool = True) -> None:
        """Add the kernel for samples of a shape, or None; for an open shape, find out whether it can be compiled."""
        shape = map_leaves(_guess_sizes, close_shape(shape))
        try:
            kernel = PredictionKernel.of(self.model, shape, compiles=compiles)
        except CannotLower as error:
            kernel, self.reason = None, str(error)
            if self._name and not isinstance(error, Slower):
                warn(f"{self._name}: falling back to NumPy: {self.reason}")
        except Exception:  # noqa: BLE001 (the model itself raises it when it is called)
            return
        if compiles:
            bound.kernels[_form(shape)] = kernel


def _form(shape: Any) -> tuple[Any, ...]:
    """Return the shape of a sample, or shapes by name, as a key."""
    return shape if type(shape) is tuple else tuple(flatten(shape).items())


def _guess_sizes(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Return an open shape with some sizes."""
    return tuple(7 if size is None else size for size in shape)


def compile_prediction(model: Model, name: str = "") -> CompiledModel:
    """Return a compiled model.

    Args:
        model: The model.
        name: The caller, for the warning where NumPy computes the predictions; "" gives no warning.

    Raises:
        UsageError: llvmlite is not installed.
    """
    CompiledEngine.require()
    return CompiledModel(model, name)


class _Bound:
    """The kernels of a model and the places of its numbers, until these move.

    Attributes:
        state: The model's state, which the kernels read.
        dtype: That of the model.
        numbers: The parameters and the buffers by name.
        kernels: By the shape of a sample, the kernel, or None.
        ready: By the shape of x, memory that no prediction uses at this moment.
    """

    def __init__(self, model: Model) -> None:
        """Begin without kernels."""
        self._model, self.state = model, model._built()
        self.dtype, self._parameters = self.state.dtype, self.state.parameters
        self._version = self._parameters.version
        self.numbers = {**self._parameters.views, **self.state.buffers}
        self.kernels: dict[Any, PredictionKernel | None] = {}
        self.ready: dict[Any, list[_Work]] = {}
        self._spare: dict[PredictionKernel, list[_Work]] = {}

    def make_room(self) -> None:
        """Forget the oldest kernel and its memory, if there are many."""
        if len(self.kernels) >= _SHAPES:
            oldest = self.kernels.pop(next(iter(tuple(self.kernels))), None)
            self.ready.clear()
            if oldest is not None:
                self._spare.pop(oldest, None)

    def is_old(self) -> bool:
        """Return whether the weights lie elsewhere now."""
        return self._parameters.version != self._version or self._model._state is not self.state

    def results(self, kernel: PredictionKernel, form: Any, x: Any, *, sample: bool) -> list[Array] | None:
        """Return the results for a batch, as new arrays; None if an id is wrong."""
        rows = rows_in(x)
        results = [np.empty((rows, *shape), self.dtype) for shape in kernel.shapes]
        if not rows:
            return results
        size = -(-rows // -(-rows // kernel.block_rows))
        key = form if sample else (size, *form)
        kept = key in self.ready or not kernel.elastic  # else another shape may come next
        if len(self.ready) >= _SHAPES and key not in self.ready:
            self._release()
        ready = self.ready.setdefault(key, [])
        try:
            work = ready.pop()
        except IndexError:
            work = self._work(kernel, size)
            if kept:
                work.begin(size, sample=sample)
        wrong = work.fill(results, size, rows, leaves(x))
        (ready if kept else self._spare.setdefault(kernel, [])).append(work)
        return None if wrong else results

    def _work(self, kernel: PredictionKernel, rows: int) -> _Work:
        """Return memory that no prediction uses."""
        try:
            return self._spare[kernel].pop()
        except (KeyError, IndexError):
            return _Work(self, kernel, kernel.block_rows if kernel.elastic else rows)

    def _release(self) -> None:
        """Let the memory for all shapes of x serve others, where it can."""
        for ready in tuple(self.ready.values()):
            with suppress(IndexError):
                while True:
                    work = ready.pop()
                    if work.kernel.elastic:
                        self._spare.setdefault(work.kernel, []).append(work)
        self.ready.clear()


class _Work:
    """The memory of one prediction at a time.

    Attributes:
        kernel: The kernel.
        run: Computes the outputs for the rows at an address; returns whether an id is wrong.
        take: Returns the outputs, as new arrays.
    """

    __slots__ = ("_arrays", "_own", "_results", "_words", "kernel", "run", "take")

    def __init__(self, bound: _Bound, kernel: PredictionKernel, rows: int) -> None:
        """Lay out the memory for a number of rows."""
        arrays, tables, memory = lay_out(kernel.emitter, rows)
        numbers: dict[str, Any] = {f"number {name}": value for name, value in bound.numbers.items()}
        located = [numbers.get(buffer.name, arrays.get(buffer, NOTHING)) for buffer in kernel.buffers]
        held = addresses(located), addresses(tables)
        self.kernel, self._arrays = kernel, (located, tables, held, memory)
        self._words = np.array([0, 0, *addresses([kernel.settings, *held]), *(0 for _ in kernel.shapes)])
        self._own = self._words
        self.run: Callable[..., Any] = kernel.function.at(*kernel.function.addresses_of(self._words))

    def begin(self, rows: int, *, sample: bool) -> None:
        """Make the memory ready for predictions of a number of rows, or of one sample."""
        self._results = [np.zeros((rows, *shape), self.kernel.dtype) for shape in self.kernel.shapes]
        self._words[:2], self._words[_WORDS:] = rows, addresses(self._results)
        self._own = self._words.copy()
        _, a = self.kernel.trees(self._results)
        self.take: Callable[[], Any] = partial(map_leaves, (lambda leaf: leaf[0].copy()) if sample else np.copy, a)
        if type(a) is np.ndarray:
            self.take = a.copy if not sample else a[0].copy if a.ndim > 1 else lambda: a[0]

    def fill(self, results: Sequence[Array], size: int, rows: int, x: Sequence[Array]) -> Any:
        """Fill arrays with the results for some rows, ``size`` of them at once; return whether an id is wrong."""
        located = self.kernel.function.addresses_of
        self._words[:2], self._words[_WORDS:] = (size, rows), [*located(*results)]
        wrong = self.run(*located(*x))
        self._words[:] = self._own
        return wrong
