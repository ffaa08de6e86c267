"""Predictions in a kernel: ``compile_model``, and what a trainer's ``predict`` and ``evaluate`` call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.arrays import Array
from framework.engines.compiled.source import PredictionSource
from framework.engines.compiled.wiring import Wiring
from framework.engines.native.engine import CompiledEngine
from framework.engines.records import CannotLower
from framework.graph.symbol import Symbol
from framework.models import Model
from framework.models.rows import predicted
from framework.native import addresses, compiled
from framework.settings.messages import warn

FEW_ROWS = 32
"""Predictions of up to this many rows keep their memory, and that of their result, for the next ones."""

_SHAPES = 8
"""For how many shapes of few rows memory is kept."""

_ROWS, _WEIGHTS = 256, 1 << 20
"""How many rows a kernel takes at once, and the largest matrix of weights; beyond it, NumPy's products are faster."""


class CompiledModel:
    """A model whose predictions are computed by one native function, as ``compile_model`` returns it.

    Call it like the model. It reads the model's weights at each call, so it follows further training.

    Attributes:
        model: The model.
        reason: Why NumPy computes the predictions, or None.
    """

    __slots__ = ("_kernel", "model", "reason")

    def __init__(self, model: Model) -> None:
        """Compile the model, if that is possible."""
        self.model = model
        self._kernel = self._made()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the model; the copy makes its own kernel."""
        return compiled_model, (self.model,)

    @property
    def engine(self) -> str:
        """The engine of the predictions: "compiled" or "numpy"."""
        return "numpy" if self._kernel is None else "compiled"

    def __call__(self, x: Any) -> Any:
        """Return ``model(x)``: one sample gives one prediction, a batch gives a batch.

        Raises:
            ShapeError: ``x`` is neither a sample nor a batch.
            DtypeError: ``x`` does not hold real numbers.
        """
        kernel = self._kernel
        if kernel is not None and type(x) is np.ndarray and x.dtype is kernel.dtype and not kernel.is_old():
            try:
                ready = kernel.ready[x.shape]
                work = ready.pop()  # no other thread has it now
            except (KeyError, IndexError):  # of the first call like this, or while others are made
                pass
            else:
                work.run(x.tobytes())
                found = work.take()
                ready.append(work)
                return found
        return self._slowly(x)

    def predict(self, x: Any) -> Any:
        """Return ``model.predict(x)``: predictions for rows of x, (rows, ...), in the unit of the target.

        Raises:
            ShapeError: x is not a batch of the model's samples.
            DataError: A value is not finite, or a table's columns are not those of ``fit``.
        """
        return predicted(self.model, x, "predict", lambda rows: self.outputs(rows)[1])

    def outputs(self, x: Any) -> tuple[Any, Any]:
        """Return (h, a) of the output layer for a batch of the model's dtype; both are new arrays."""
        kernel = self._current()
        if kernel is None or x.shape[1:] != kernel.sample:
            return self.model.output(x)
        return kernel.outputs(x)

    def _slowly(self, x: Any) -> Any:
        """Predict where nothing is ready: for a list, another dtype, a new shape, many rows, or weights that moved."""
        kernel = self._current()
        if kernel is None or isinstance(x, Symbol):
            return self.model(x)
        x, sample = self.model._accept(x, kernel.state)
        shape = x.shape if sample else x.shape[1:]
        if shape != kernel.sample:  # further axes, or an error where the model leaves its width open
            return self.model(x)
        return kernel.few(x) if sample or len(x) <= FEW_ROWS else kernel.outputs(x)[1]

    def _current(self) -> _Kernel | None:
        """Return the kernel for the model as it is now; it is made again where the weights have moved."""
        if self._kernel is not None and self._kernel.is_old():
            self._kernel = self._made()
        return self._kernel

    def _made(self) -> _Kernel | None:
        self.reason: str | None = None
        try:
            return _Kernel(self.model)
        except CannotLower as reason:
            self.reason = str(reason)
        return None


def compiled_model(model: Model, name: str = "") -> CompiledModel:
    """Return a compiled model.

    Args:
        model: The model.
        name: The caller, for the warning where NumPy computes the predictions; "" gives no warning.

    Raises:
        UsageError: llvmlite is not installed.
    """
    CompiledEngine.require()
    compiled = CompiledModel(model)
    if compiled.reason is not None and name:
        warn(f"{name}: falling back to NumPy: {compiled.reason}")
    return compiled


class _Kernel:
    """The native function of a model with the addresses of its weights.

    Attributes:
        state: The model's state, which it reads.
        dtype: That of the model.
        sample: The shape of the samples that it takes.
        output_shape: The shape of a prediction.
        ready: By the shape of x, memory that no prediction uses at this moment.
    """

    def __init__(self, model: Model) -> None:
        """Compile the function.

        Raises:
            CannotLower: A kernel has no form for some part of the model.
        """
        self.model, self.state = model, model._built()
        self.dtype, self._parameters = self.state.dtype, self.state.parameters
        self._version = self._parameters.version
        wiring = _wiring(model)
        self.sample = (wiring.widths[0],)
        self.output_shape = model.infer_shape(self.sample)
        self._source = source = PredictionSource(wiring, model.dtype, _ROWS)
        self._function = compiled(source.text, "predict", model.dtype)
        self._constants, self._sizes = np.array([*source.constants, 0.0]), np.array([*source.sizes, 0])
        self._of_layers = {
            name: getattr(wiring.operations[place].layer, group)[own]
            for name, (place, group, own) in source.parameters.items()
        }
        self.ready: dict[Any, list[_Work]] = {}
        self._blocks: list[_Work] = []

    def is_old(self) -> bool:
        """Return whether the weights lie elsewhere now."""
        return self._parameters.version != self._version or self.model._state is not self.state

    def few(self, x: Array) -> Any:
        """Predict for a sample or a few rows, and keep the memory for the next ones of this shape."""
        rows = 1 if x.ndim == 1 else len(x)
        if len(self.ready) >= _SHAPES and x.shape not in self.ready:
            self.ready.clear()
        ready = self.ready.setdefault(x.shape, [])
        try:
            work = ready.pop()
        except IndexError:
            work = _Work(self, rows)
            a = np.zeros((rows, *self.output_shape), self.dtype)
            work.give(rows, a)
            work.take = a.copy if x.ndim > 1 else a[0].copy if a.ndim > 1 else lambda: a[0]
        work.run(x.tobytes())
        found = work.take()
        ready.append(work)
        return found

    def outputs(self, x: Array) -> tuple[Array, Array]:
        """Return (h, a) for a batch."""
        try:
            work = self._blocks.pop()
        except IndexError:
            work = _Work(self, self._source.size)
        a = np.empty((len(x), *self.output_shape), self.dtype)
        h = np.empty_like(a) if self._source.h_width else a
        work.give(len(x), a, h)
        self._function(work.words, x)
        self._blocks.append(work)
        return (x.reshape(h.shape) if self._source.h == "x_0" else h), a

    def work(self, rows: int) -> tuple[Array, list[Array]]:
        """Return the words of a call for up to this many rows at once, and the arrays that they lead to."""
        source = self._source
        given = [
            self._of_layers[name] if name in self._of_layers else np.zeros(max(1, width * rows + more), self.dtype)
            for name, (width, more) in source.memory.items()
        ]
        memory = addresses(given)
        words = np.array([0, source.size, 0, 0, 0, *addresses([memory, self._sizes, self._constants])], np.int64)
        return words, [*given, memory]


class _Work:
    """The working memory of one prediction at a time.

    Attributes:
        words: The first argument of the function.
        run: The function of the address of x.
        take: Returns the result.
    """

    __slots__ = ("_arrays", "_h", "run", "take", "words")

    def __init__(self, kernel: _Kernel, rows: int) -> None:
        self.words, self._arrays = kernel.work(min(rows, kernel._source.size))
        self._h = np.zeros(max(1, kernel._source.h_width * min(rows, kernel._source.size)), kernel.dtype)
        function = kernel._function
        self.run: Callable[[Any], Any] = function.at(*function.located(self.words))
        self.take: Callable[[], Any] = self.words.copy

    def give(self, rows: int, a: Array, h: Array | None = None) -> None:
        """Set where the outputs go; without ``h``, only that of the rows at hand is kept."""
        stride = 0 if h is None or not len(h) else h.size // len(h)
        self.words[[0, 2, 3, 4]] = [rows, *addresses([a, self._h if h is None else h]), stride]


def _wiring(model: Model) -> Wiring:
    """Return the wiring of a model, whose output is the last matrix.

    Raises:
        CannotLower: A kernel has no form for some part of the model.
    """
    wiring = Wiring.of(model)
    for operation in wiring.operations:
        if operation.writes is None:
            operation.writes = len(wiring.widths)
            wiring.widths.append(operation.width)
        size = wiring.widths[operation.reads[0]] * operation.width if operation.affine else 0
        if size > _WEIGHTS:
            raise CannotLower(f"NumPy is as fast for a layer of {size:,} weights")
    return wiring
