"""Kernels as functions: from the cache, or compiled."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import cache, lru_cache
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from framework.backends.native.cache import read_cached, write
from framework.backends.native.compiler import KernelError, Program
from framework.backends.native.machine import Function, llvm, object_file, processor, products
from framework.backends.native.tiles import gemm_text, text_of_tiled
from framework.base import special


def available() -> bool:
    """Return whether kernels can be compiled: whether llvmlite is installed."""
    return find_spec("llvmlite") is not None


@lru_cache(maxsize=256)
def compile_kernel(text: str, entry: str, dtype: str, apart: tuple[tuple[str, str], ...] = ()) -> Function:
    r"""Return a function of a kernel's text as machine code.

    Its object files are kept in a folder of the user's: see ``native.cache``.

    Args:
        text: The kernel.
        entry: The name of the function, whose arguments have annotations.
        dtype: That of ``real``, "float64" or "float32".
        apart: The names of functions that the kernel calls, each with its text, which are compiled once for all
            kernels. A text has what its function calls.

    Raises:
        UsageError: llvmlite is not installed.
        KernelError: The text is not in the language.

    Example:
        >>> import numpy as np
        >>> x = np.ones(3)
        >>> text = "def double(x: reals, n: int):\n    for i in range(n):\n        x[i] *= 2.0"
        >>> compile_kernel(text, "double", "float64")(x, 2)
        >>> x
        array([2., 2., 1.])
    """
    symbols = {name: f"{name}_{_digest(dtype, source)}" for name, source in apart}
    path = f"{entry}_{_digest(dtype, entry, *symbols.values(), text)}.o"
    contents = read_cached(path)
    libraries = None if contents is None else _libraries(_head(contents)["libraries"])
    if contents is None or libraries is None:
        made = _build_apart(dtype, dict(apart), symbols) if apart else {}
        program = Program(text, dtype, "\n\n".join(dict(apart).values()), symbols)
        contents = _build_object(program, entry, libraries=made)
        write(path, contents)
        libraries = [*made.values()]
    head = _head(contents)
    for name in {name for library in (*libraries, contents) for name in _head(library)["shared"]}:
        load_shared(name, dtype)
    return Function([library.partition(b"\n")[2] for library in (*libraries, contents)], entry, head["signature"])


def _build_apart(dtype: str, apart: dict[str, str], symbols: dict[str, str]) -> dict[str, bytes]:
    """Return object files that have these functions, by name; those that no file has get one.

    To compile them together takes half the time of one by one. An index says which file has a function.
    """
    path = f"index_{_digest(dtype)}.o"
    index: dict[str, str] = json.loads(read_cached(path) or b"{}")
    files = {file: read_cached(file) for file in {index[symbol] for symbol in symbols.values() if symbol in index}}
    known = {file: contents for file, contents in files.items() if contents is not None}
    missing = [name for name, symbol in symbols.items() if index.get(symbol) not in known]
    if missing:
        file = f"apart_{_digest(dtype, *(symbols[name] for name in missing))}.o"
        program = Program("\n\n".join(apart[name] for name in missing), dtype, "", symbols)
        known[file] = _build_object(program, *missing)
        write(file, known[file])
        index = {**index, **{symbols[name]: file for name in missing}}
        write(path, json.dumps(dict([*index.items()][-_INDEXED:])).encode())
    return known


_INDEXED = 10_000
"""How many functions the index has. The last ones are those of the newest kernels."""


def _libraries(files: list[str]) -> list[bytes] | None:
    """Return the contents of object files, or None if one is missing."""
    contents = [*map(read_cached, files)]
    return None if None in contents else [content for content in contents if content is not None]


def _build_object(program: Program, *entries: str, libraries: Iterable[str] = ()) -> bytes:
    """Return an object file, after a line that says how to load it."""
    written = program.llvm_text(*entries)
    for name in program.outside:
        if llvm().address_of_symbol(name) is None:  # LLVM would end the process
            raise KernelError(f"the mathematical library of this system has no function {name}")
    head = {
        "shared": sorted(program.shared),
        "libraries": [*libraries],
        "signature": str(program.signature(entries[0])),
    }
    return json.dumps(head).encode() + b"\n" + object_file(written)


def _head(contents: bytes) -> dict[str, Any]:
    """Return how to load an object file: what it needs, and the signature of its entry."""
    head: dict[str, Any] = json.loads(contents.partition(b"\n")[0])
    return head


def _digest(*parts: str) -> str:
    """Return a name for what the compiler, this processor and some parts decide."""
    return blake2b("\n".join([*_compiler(), *map(str, processor()), *parts]).encode(), digest_size=16).hexdigest()


@cache
def _compiler() -> tuple[str, ...]:
    """Return which compiler this is: its files, and the version of llvmlite."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(special.__file__)]
    digest = blake2b(b"".join(file.read_bytes() for file in files)).hexdigest()
    return digest, import_module("llvmlite").__version__, sys.platform


@cache
def load_shared(name: str, dtype: str) -> Function:
    """Load ``gemm`` or ``tiled``, which all kernels of a dtype share."""
    real = Program("", dtype).real
    text = gemm_text(blas=products() == "openblas") if name == "gemm" else text_of_tiled(real, processor().registers)
    function = compile_kernel(text, name, dtype)
    llvm().add_symbol(f"{name}_{real}", function.address)
    return function
