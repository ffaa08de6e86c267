"""Subnormal numbers count as zero while steps are made.

A number below the smallest normal one (1.2e-38 in float32, 2.2e-308 in float64) is subnormal. Many processors need a
hundred cycles or more for an operation with one. Momentum makes thousands of them: the velocity of a weight whose input
is rarely other than 0 shrinks by a factor in each step. A processor in the mode "flush to zero" takes them as 0.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import numpy as np

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
        ...     with flushing.lifted():
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
    def lifted(self) -> Iterator[None]:
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
