"""The arithmetic of this process, which decides the last bits of a sum: the BLAS, its threads, the instructions.

A number below the smallest normal one (1.2e-38 in float32, 2.2e-308 in float64) is subnormal. Many processors need a
hundred cycles or more for an operation with one. Momentum makes thousands of them: the velocity of a weight whose input
is rarely other than 0 shrinks by a factor in each step. A processor in the mode "flush to zero" takes them as 0.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib import import_module
from typing import Any, Self

import numpy as np

from framework.base.forks import renew_in_children

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
        from framework.backends.native.machine import llvm, processor  # noqa: PLC0415 (slow, and seldom needed)

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

_BITS = {"x86_64": 0x8040 << 32, "aarch64": 1 << 24}
"""FTZ and DAZ of MXCSR, and FZ of FPCR, by their places in glibc's femode_t: the modes without the exception flags."""

_SMALLEST, _ONE = 5e-324, 1.0


class Flushing:
    """The mode "flush to zero" of the calling thread, as a context manager that puts back the mode it found.

    It needs glibc on x86-64 or AArch64, and does nothing elsewhere. Threads of a BLAS keep the mode that they began
    with: their part of a product of small numbers may be subnormal. What stays from step to step does not, since the
    calling thread computes every update.

    Attributes:
        active: Whether the mode is set.

    Example:
        >>> import numpy as np
        >>> tiny = np.float64(1e-310)
        >>> with Flushing(wanted=True) as flushing:
        ...     flushed = [bool(tiny * 0.5 == 0.0)]
        ...     with flushing.pause():
        ...         flushed.append(bool(tiny * 0.5 == 0.0))
        >>> flushed == [flushes(wanted=True), False]
        True
    """

    def __init__(self, *, wanted: bool) -> None:
        """Set the mode on entry if it is wanted and the platform has it; else leave everything as it is."""
        self.active = False
        self._control = _control() if wanted else None
        self._found, self._flushed = ctypes.c_uint64(), ctypes.c_uint64()
        self._to_found, self._to_flushed = ctypes.byref(self._found), ctypes.byref(self._flushed)

    def __enter__(self) -> Self:
        """Set the mode."""
        if self._control is not None:
            get, put, bits = self._control
            get(self._to_found)
            self._flushed.value = self._found.value | bits
            self.active = True  # first, so that Ctrl-C between the two lines leaves nothing behind
            put(self._to_flushed)
        return self

    def __exit__(self, *_: object) -> None:
        """Put back the mode that was found; do nothing if that is already done."""
        if self.active and self._control is not None:
            self._control[1](self._to_found)
            self.active = False

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Put back the mode that was found for a while, if it is another now."""
        active = self.active
        self.__exit__()
        try:
            yield
        finally:
            if active:
                self.__enter__()


def flushes(*, wanted: bool) -> bool:
    """Return whether steps take subnormal numbers as 0: if it is wanted and possible, or if the thread does anyway."""
    return (wanted and _control() is not None) or _SMALLEST * _ONE == 0.0


@cache
def _control() -> tuple[Callable[[Any], Any], Callable[[Any], Any], int] | None:
    """Return the functions that read and set the modes of a thread, and the bits; None where there are none."""
    bits = _BITS.get(platform.machine())
    if bits is None:
        return None
    try:
        library = ctypes.PyDLL("libm.so.6")  # PyDLL keeps the GIL, which takes longer to release than the call
        for dtype in (np.float32, np.float64):  # older versions of NumPy find their smallest number at the first use
            np.finfo(dtype)
        return library.fegetmode, library.fesetmode, bits
    except (OSError, AttributeError):  # another C library, or a glibc older than 2.25
        return None
