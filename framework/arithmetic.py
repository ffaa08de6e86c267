"""The arithmetic of this process, which decides the last bits of a sum: the BLAS, its threads, the instructions."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from framework.forks import renew_in_children

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""The variables that set the threads of a BLAS."""


@lru_cache(maxsize=1)
def _numpy() -> tuple[Any, Any]:
    """Return NumPy's module of compiled code, also as a library, which finds the functions of its OpenBLAS."""
    module = import_module("numpy._core._multiarray_umath")
    return module, ctypes.CDLL(module.__file__)


def _openblas(name: str, result: Any = ctypes.c_int) -> Any:
    """Return a function of the OpenBLAS in NumPy's wheels, or None where there is another BLAS."""
    function = getattr(_numpy()[1], f"scipy_openblas_{name}64_", None)
    if function is not None:
        function.restype = result
    return function


def arithmetic(*, compiled: bool = False) -> str:
    """Describe the BLAS, its threads and the instructions: workers with equal descriptions compute equal bits.

    Args:
        compiled: Whether kernels are compiled for this processor.

    Example:
        >>> arithmetic().split(",")[0] == f"NumPy {np.__version__}"
        True
    """
    module = _numpy()[0]
    features = [name for name in module.__cpu_dispatch__ if module.__cpu_features__.get(name)]
    parts = [f"NumPy {np.__version__}", f"instructions {' '.join(features) or 'of the baseline'}"]
    core = _openblas("get_corename", ctypes.c_char_p)
    if core is not None:
        parts += [f"OpenBLAS {core().decode()}", f"BLAS threads {_openblas('get_num_threads')()}"]
    else:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        threads = {name: os.environ[name] for name in THREADS if name in os.environ}
        parts += [f"{blas.get('name')} {blas.get('version')}", f"BLAS threads {threads or 'not set'}"]
    if compiled:
        from framework.native.machine import llvm, processor  # noqa: PLC0415 (slow, and seldom needed)

        with suppress(ImportError):  # llvmlite is broken: NumPy makes the steps
            version = ".".join(str(number) for number in llvm().llvm_version_info)
            parts.append(f"kernels for {processor().name} by LLVM {version}")
    return ", ".join(parts)


LARGE = 100_000_000
"""How many multiply-adds a product needs to repay the cost of waking other threads on a busy machine.

That is about 5 ms of one core; see ``benchmarks/threads.py``.
"""

SMALL = 2**18
"""OpenBLAS gives a product of up to this many multiply-adds one thread by itself."""


class _Blocks:
    """The open blocks of ``limit_threads``, in all Python threads.

    Attributes:
        lock: Held while one begins or ends.
        open: A mark of each.
        before: The number of BLAS threads that the first one replaced by 1; None if it let them be.
    """

    def __init__(self) -> None:
        self.before: int | None = None
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Restore the number of BLAS threads in a forked child: the parent's blocks never end there."""
        if self.before is not None and (functions := _threads()) is not None:
            functions[0](self.before)
        self.lock, self.open, self.before = threading.Lock(), set[object](), None


@lru_cache(maxsize=1)
def _threads() -> tuple[Any, Any] | None:
    """Return the functions that set and get OpenBLAS's number of threads, or None where there is another BLAS."""
    setter, getter = _openblas("set_num_threads", None), _openblas("get_num_threads")
    return None if setter is None or getter is None else (setter, getter)


@contextmanager
def limit_threads(multiply_adds: float = 0.0) -> Iterator[None]:
    """Let NumPy's OpenBLAS use one thread within this block, unless its products are large.

    A small product takes less time than its threads need to start, and on a busy machine they wait for each other. The
    last bits of a product may depend on the number of threads, which is one number for the whole process: the first
    block that is open decides, and the number stays until the last one ends. Another BLAS keeps its threads; set its
    variable, such as MKL_NUM_THREADS=1, before Python starts.

    Args:
        multiply_adds: Those of the largest product; from ``LARGE`` on, the number of threads stays as it is.

    Example:
        >>> with limit_threads():
        ...     "BLAS threads 2" in arithmetic()
        False
    """
    functions = _threads()
    if functions is None:
        yield
        return
    (setter, getter), block = functions, object()
    try:
        with _BLOCKS.lock:
            _BLOCKS.open.add(block)
            if len(_BLOCKS.open) == 1 and multiply_adds < LARGE:
                _BLOCKS.before = getter()
                setter(1)
        yield
    finally:
        with _BLOCKS.lock:
            _BLOCKS.open.discard(block)  # it is not there in a forked process, nor if an interrupt came first
            if not _BLOCKS.open and _BLOCKS.before is not None:
                if getter() == 1:  # another number was set meanwhile by someone else, and stays
                    setter(_BLOCKS.before)
                _BLOCKS.before = None


_BLOCKS = _Blocks()
