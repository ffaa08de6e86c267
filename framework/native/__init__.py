"""Machine code from a small subset of Python, the kernel language.

A kernel is a text of functions. The text also runs as plain Python on flat NumPy arrays, by ``native.plain``.

- A function whose arguments are annotated is compiled by itself. Its arrays must not overlap, and its sums may be taken
  in any order. Annotations: ``int`` (64 bits), ``float`` (float64), ``real`` (the kernel's dtype), the flat arrays
  ``ints``, ``floats`` and ``reals``, and ``arrays``, in which ``x: reals = arrays[3]`` names one.
- A function without annotations is a formula, expanded where it is called. The order of its operations is kept, and
  ``return`` is its last statement; it may return several values.
- Statements: assignments, ``for i in range(...)``, ``if``, ``continue``, ``return``, calls.
- ``x[i]`` is an element, and ``x[i:]`` is the array from there on.
- ``a if c else b``, ``and`` and ``or`` compute both sides.
- A number literal takes the type of the other operand. A name that is assigned more than once has the type of its
  first value: ``total = 0.0`` is a float, ``total = real(0.0)`` a real.
- See ``native.plain`` for ``product``, ``copy``, ``prefetch``, ``bits`` and ``number``. ``inf`` and ``nan`` are names.
  The other functions are NumPy's elementwise ones.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.util import find_spec

from framework.native.compiler import Program
from framework.native.machine import Function, addresses, llvm, object_file, products, registers
from framework.native.tiles import product_text

__all__ = ["Function", "addresses", "available", "compiled", "products"]


def available() -> bool:
    """Return whether kernels can be compiled: whether llvmlite is installed."""
    return find_spec("llvmlite") is not None


@lru_cache(maxsize=256)
def compiled(text: str, entry: str, dtype: str) -> Function:
    r"""Return a function of a kernel's text as machine code.

    Args:
        text: The kernel.
        entry: The name of the function, whose arguments have annotations.
        dtype: That of ``real``, "float64" or "float32".

    Raises:
        UsageError: llvmlite is not installed.
        KernelError: The text is not in the language.

    Example:
        >>> import numpy as np
        >>> x = np.ones(3)
        >>> text = "def double(x: reals, n: int):\n    for i in range(n):\n        x[i] *= 2.0"
        >>> compiled(text, "double", "float64")(x, 2)
        >>> x
        array([2., 2., 1.])
    """
    program = Program(text, dtype)
    data = object_file(program.compiled(entry))
    if program.multiplies:
        load_product(dtype)
    return Function(data, entry, str(program.signature(entry)))


@cache
def load_product(dtype: str) -> Function:
    """Load the function ``product``, which all kernels of a dtype share."""
    real = Program("", dtype).real
    text = product_text(real, registers(), blas=products() == "openblas")
    function = compiled(text, "product", dtype)
    llvm().add_symbol(f"product_{real}", function.address)
    return function
