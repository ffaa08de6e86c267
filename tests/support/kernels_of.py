"""The kernel of a step without a training, and other ways to run kernels: without LLVM's passes, or as Python."""

from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import pytest
from plain import runnable

from framework import HalfSquaredError, SGDOptimizer, Trainer
from framework.backends.native import kernels
from framework.backends.native.machine import llvm, processor
from framework.graph import trace
from framework.training.engines.native import engine, kernel, memory, prediction
from framework.training.engines.native.program import StepKernel
from framework.training.engines.plan import plan_training
from framework.training.runs.run import Run


def kernel_of(model, loss=None, optimizer=None, batch=None, regularizers=()):
    """Return the kernel that trains a model; the batch is one of zeros if it is not given."""
    loss, optimizer = loss or HalfSquaredError(), optimizer or SGDOptimizer(learning_rate=0.1)
    if batch is None:
        x = np.zeros((2, *model.input_shape))
        batch = x, np.zeros((2, *model.output_shape)), None
    run = Run(model, optimizer.bind(model), loss, 0, "compiled")
    figures = Trainer(loss=loss, optimizer=optimizer).figures
    return plan_training(run, regularizers, figures, batch, StepKernel, pause_flushing=nullcontext).compiled


@pytest.fixture
def without_passes(monkeypatch, tmp_path):
    """Compile without LLVM's passes, which take most of the time."""
    for dtype in ("float64", "float32"):
        for name in ("gemm", "tiled"):
            kernels.load_shared(name, dtype)  # which all kernels share, with its passes
    monkeypatch.setenv("FRAMEWORK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernels, "object_file", _object_file_without_passes)
    monkeypatch.setattr(trace, "_KNOWN", {})
    kernels.compile_kernel.cache_clear()
    yield
    kernels.compile_kernel.cache_clear()


def _object_file_without_passes(text):
    """Return the object file of LLVM's text as it is."""
    name, features, _ = processor()
    target = llvm().Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=0, jit=True)
    module = llvm().parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    return target.emit_object(module)


@pytest.fixture
def in_python(monkeypatch):
    """Run kernels as plain Python, where a place outside of an array is an error."""
    monkeypatch.setattr(kernel, "compile_kernel", _function_in_python)
    monkeypatch.setattr(trace, "_KNOWN", {})  # other tests may train a model that is like one of these
    for module in (memory, engine):
        monkeypatch.setattr(module, "addresses", lambda arrays, *numbers: [*numbers, *map(_flat, arrays)])


def _function_in_python(text, entry, dtype, apart):
    function = runnable("\n\n".join([*dict(apart).values(), text]), entry, dtype)

    def call(*arguments):
        with np.errstate(all="ignore"):
            return function(*map(_flat, arguments))

    call.at = partial(partial, call)
    call.addresses_of = lambda *arrays: arrays
    return call


def _flat(each):
    return each.reshape(-1) if isinstance(each, np.ndarray) else each


@contextmanager
def separate_memory():
    """Give each array memory of its own, without numbers in it at first, and with margins; yield all of it.

    Otherwise arrays whose lives do not overlap share memory. What reads an element before it is written, or beside the
    array, makes NaN. ``require_margins`` finds what writes beside it.
    """
    wholes, lay_out = [], memory.lay_out

    def apart(emitter, rows):
        arrays, tables, raw = lay_out(emitter, rows)
        for buffer, array in arrays.items():
            nothing = np.nan if array.dtype.kind == "f" else NO_PLACE
            whole = np.full(len(array) + 2 * MARGIN, nothing, array.dtype)
            if buffer.role in ("const", "filled"):
                whole[MARGIN:-MARGIN] = array
            arrays[buffer] = whole[MARGIN:-MARGIN]
            wholes.append(whole)
        return arrays, tables, raw

    with pytest.MonkeyPatch.context() as patch:
        for module in (memory, prediction):
            patch.setattr(module, "lay_out", apart)
        yield wholes


MARGIN, NO_PLACE = 16, -(1 << 40)


def require_margins(wholes):
    """Check that nothing was written beside an array."""
    for whole in wholes:
        margins = np.concatenate([whole[:MARGIN], whole[-MARGIN:]])
        assert (np.isnan(margins) if whole.dtype.kind == "f" else margins == NO_PLACE).all()
