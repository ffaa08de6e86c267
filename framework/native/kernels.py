"""Kernels as functions: from the cache, or compiled."""

from __future__ import annotations

import sys
from functools import cache, lru_cache, partial
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from framework import special
from framework.native.cache import kept
from framework.native.compiler import KernelError, Program
from framework.native.machine import Function, llvm, object_file, processor, products
from framework.native.tiles import product_text


def available() -> bool:
    """Return whether kernels can be compiled: whether llvmlite is installed."""
    return find_spec("llvmlite") is not None


@lru_cache(maxsize=256)
def compiled(text: str, entry: str, dtype: str) -> Function:
    r"""Return a function of a kernel's text as machine code.

    Its object file is kept in a folder of the user's: see ``native.cache``.

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
    parts = "\n".join([*_compiler(), *map(str, processor()), dtype, entry, text])
    name = blake2b(parts.encode(), digest_size=16).hexdigest()
    head, _, data = kept(f"{entry}_{name}.o", partial(_made, text, entry, dtype)).partition(b"\n")
    needs, signature = head.decode().split(maxsplit=1)
    if needs == "product":
        load_product(dtype)
    return Function(data, entry, signature)


def _made(text: str, entry: str, dtype: str) -> bytes:
    """Return an object file, after a line that says how to load it."""
    program = Program(text, dtype)
    written = program.compiled(entry)
    for name in program.outside:
        if llvm().address_of_symbol(name) is None:  # LLVM would end the process
            raise KernelError(f"the mathematical library of this system has no function {name}")
    data = object_file(written)
    return f"{'product' if program.multiplies else 'nothing'} {program.signature(entry)}\n".encode() + data


@cache
def _compiler() -> tuple[str, ...]:
    """Return which compiler this is: its files, and the version of llvmlite."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(special.__file__)]
    digest = blake2b(b"".join(file.read_bytes() for file in files)).hexdigest()
    return digest, import_module("llvmlite").__version__, sys.platform


@cache
def load_product(dtype: str) -> Function:
    """Load the function ``product``, which all kernels of a dtype share."""
    real = Program("", dtype).real
    text = product_text(real, processor().registers, blas=products() == "openblas")
    function = compiled(text, "product", dtype)
    llvm().add_symbol(f"product_{real}", function.address)
    return function
