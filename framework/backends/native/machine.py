"""LLVM through llvmlite: from its text to an object file for this processor, and from there to a function."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from framework.backends.native.compiler import symbols
from framework.backends.native.tiles import Registers
from framework.base.arrays import Array
from framework.base.errors import UsageError
from framework.base.extras import load_module

_CTYPES: dict[str, Any] = {"i64": ctypes.c_int64, "double": ctypes.c_double, "float": ctypes.c_float, "void": None}


@lru_cache(maxsize=1)
def llvm() -> Any:
    """Return llvmlite's binding, with the functions that kernels call.

    Raises:
        UsageError: llvmlite is not installed.
    """
    binding = load_module("llvmlite.binding", 'engine="compiled"')
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    try:  # the library of C that has sin, or the whole process where it is a part of that
        library = ctypes.CDLL({"linux": "libm.so.6", "win32": "ucrtbase"}.get(sys.platform))
    except OSError:  # a Linux of another C library than GNU's
        library = ctypes.CDLL(None)
    for name in symbols():
        if (function := getattr(library, name, None)) is not None:
            binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return binding


class Processor(NamedTuple):
    """A processor as LLVM knows it: its name, its features, and its vector registers."""

    name: str
    features: str
    registers: Registers


_LEVELS = {
    "x86-64-v4": ("avx512vl", Registers(64, 32)),
    "x86-64-v3": ("avx2", Registers(32, 16)),
    "x86-64-v2": ("sse4.2", Registers(16, 16)),
}
"""Levels of instructions that a processor may be limited to: a feature that they need, and their registers."""


@lru_cache(maxsize=1)
def processor() -> Processor:
    """Return the processor to compile for: this one, or the level in the environment variable ``FRAMEWORK_CPU``.

    Raises:
        UsageError: This processor does not have that level.
    """
    features = llvm().get_host_cpu_features()
    name = os.environ.get("FRAMEWORK_CPU", "")
    if name:
        needs, registers = _LEVELS.get(name, ("", Registers(0, 0)))
        if not features.get(needs):
            able = [level for level, (feature, _) in _LEVELS.items() if features.get(feature)]
            raise UsageError(f"FRAMEWORK_CPU must be a level of this processor: {', '.join(able)}", got=name)
        return Processor(name, "-prefer-256-bit", registers)
    wide = features.get("avx512vl")
    vectors = Registers(64, 32) if wide else Registers(32, 16) if features.get("avx2") else Registers(16, 16)
    if features.get("neon"):
        vectors = Registers(16, 32)
    flags = features.flatten() + (",-prefer-256-bit" if wide else "")
    return Processor(llvm().get_host_cpu_name(), flags, vectors)


OPENBLAS = "scipy_cblas_{letter}gemm64_"
"""The names of the products in the OpenBLAS of NumPy's wheels; sizes have 64 bits."""


@lru_cache(maxsize=1)
def products() -> str:
    """Return what takes large products: "openblas", the one that NumPy brings, or "tiles" where that is not found."""
    library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    try:
        functions = [getattr(library, OPENBLAS.format(letter=letter)) for letter in "sd"]
    except AttributeError:
        return "tiles"
    for real, function in zip(("float", "double"), functions, strict=True):
        llvm().add_symbol(f"blas_{real}", ctypes.cast(function, ctypes.c_void_p).value)
    return "openblas"


def _target() -> Any:
    name, features, _ = processor()
    return llvm().Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=3, jit=True)


def optimize_module(text: str) -> tuple[Any, Any]:
    """Return the module of LLVM's text after its passes, and the target, which emits it for this processor."""
    module, target = llvm().parse_assembly(text), _target()
    module.triple, module.data_layout = target.triple, str(target.target_data)
    options = llvm().create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.loop_interleaving = options.loop_unrolling = False  # twice the time to compile, and no faster
    builder = llvm().create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    return module, target


def object_file(text: str) -> bytes:
    """Return the object file of LLVM's text, optimized for this processor."""
    module, target = optimize_module(text)
    contents: bytes = target.emit_object(module)
    return contents


class Function:
    """A function of object files. It checks nothing, and releases the GIL while it runs."""

    def __init__(self, files: Iterable[bytes], name: str, signature: str) -> None:
        """Link the files, whose ``name`` has the arguments and the result of ``signature``."""
        self._engine = llvm().create_mcjit_compiler(llvm().parse_assembly(""), _target())  # which owns the code
        for data in files:
            self._engine.add_object_file(llvm().object_file.ObjectFileRef.from_data(data))
        self._engine.finalize_object()
        *arguments, result = (ctypes.c_void_p if kind[0] == "*" else _CTYPES[kind] for kind in signature.split())
        self.address = self._engine.get_function_address(name)
        self._native = ctypes.CFUNCTYPE(result, *arguments)(self.address)

    def __call__(self, *arguments: Any) -> Any:
        """Call it with flat C-contiguous arrays of the right dtype, and numbers."""
        return self._native(
            *(_address(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments)
        )

    def at(self, *arguments: Any) -> partial[Any]:
        """Return the function with its first arguments fixed: numbers, and arrays as ``addresses_of`` gives them."""
        function = partial(self._native, *arguments)
        function.__dict__["owner"] = self  # of the code
        return function

    @staticmethod
    def addresses_of(*arrays: Array) -> Iterable[Any]:
        """Return arrays as ``at`` takes them; they have to stay in memory."""
        return map(_address, arrays)


def _address(array: Any) -> int:
    """Return where an array lies."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # a fourth of the time of the other
    except (TypeError, ValueError):  # one that is empty or cannot be written
        return int(array.ctypes.data)


def addresses(arrays: Iterable[Array], *numbers: int) -> Array:
    """Return whole numbers, and then where arrays lie, as an argument ``arrays``; the arrays have to stay in memory."""
    return np.array([*numbers, *map(_address, arrays)], np.int64)
