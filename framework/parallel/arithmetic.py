"""The arithmetic of this process, which decides the last bits of a sum: the BLAS, its threads, the instructions."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

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


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy's OpenBLAS use one thread within this block: the last bits depend on how threads divide a product.

    Another BLAS keeps its threads; set its variable, such as MKL_NUM_THREADS=1, before Python starts.

    Example:
        >>> with one_thread():
        ...     "BLAS threads 2" in arithmetic()
        False
    """
    setter, getter = _openblas("set_num_threads", None), _openblas("get_num_threads")
    if setter is None or getter is None:
        yield
        return
    before = getter()
    setter(1)
    try:
        yield
    finally:
        setter(before)
