"""LLVM through llvmlite: from its text to an object file for this processor, and from there to a function."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from framework.extras import required
from framework.native.compiler import symbols
from framework.native.tiles import Registers

_CTYPES: dict[str, Any] = {"i64": ctypes.c_int64, "double": ctypes.c_double, "float": ctypes.c_float, "void": None}


@lru_cache(maxsize=1)
def llvm() -> Any:
    """Return llvmlite's binding, with the functions that kernels call.

    Raises:
        UsageError: llvmlite is not installed.
    """
    binding = required("llvmlite.binding", 'engine="compiled"')
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    library = ctypes.CDLL({"linux": "libm.so.6", "win32": "ucrtbase"}.get(sys.platform))
    for name in symbols():
        binding.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    return binding


@lru_cache(maxsize=1)
def processor() -> tuple[str, str]:
    """Return the name and the features of this processor; vectors are as wide as it has them."""
    features = llvm().get_host_cpu_features()
    return llvm().get_host_cpu_name(), ",".join(
        [features.flatten(), *(["-prefer-256-bit"] if "avx512f" in features else [])]
    )


@lru_cache(maxsize=1)
def registers() -> Registers:
    """Return the vector registers of this processor."""
    features = llvm().get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(64, 32)
    if features.get("avx2") and features.get("fma"):
        return Registers(32, 16)
    return Registers(16, 32 if features.get("neon") else 16)


@lru_cache(maxsize=1)
def products() -> str:
    """Return what takes large products: "openblas", the one that NumPy brings, or "tiles" where that is not found."""
    library = ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
    try:
        found = [getattr(library, f"scipy_cblas_{letter}gemm64_") for letter in "sd"]
    except AttributeError:
        return "tiles"
    for real, function in zip(("float", "double"), found, strict=True):
        llvm().add_symbol(f"blas_{real}", ctypes.cast(function, ctypes.c_void_p).value)
    return "openblas"


def _target() -> Any:
    name, features = processor()
    return llvm().Target.from_default_triple().create_target_machine(cpu=name, features=features, opt=3, jit=True)


def object_file(text: str) -> bytes:
    """Return the object file of LLVM's text, optimized for this processor."""
    module, target = llvm().parse_assembly(text), _target()
    module.triple, module.data_layout = target.triple, str(target.target_data)
    options = llvm().create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.loop_interleaving = options.loop_unrolling = True
    builder = llvm().create_pass_builder(target, options)
    builder.getModulePassManager().run(module, builder)
    found: bytes = target.emit_object(module)
    return found


class Function:
    """A function of an object file. It checks nothing, and releases the GIL while it runs."""

    def __init__(self, data: bytes, name: str, signature: str) -> None:
        """Load the file, whose ``name`` has the arguments and the result of ``signature``."""
        self._engine = llvm().create_mcjit_compiler(llvm().parse_assembly(""), _target())  # which owns the code
        self._engine.add_object_file(llvm().object_file.ObjectFileRef.from_data(data))
        self._engine.finalize_object()
        *arguments, result = (ctypes.c_void_p if kind[0] == "*" else _CTYPES[kind] for kind in signature.split())
        self.address = self._engine.get_function_address(name)
        self._native = ctypes.CFUNCTYPE(result, *arguments)(self.address)

    def __call__(self, *arguments: Any) -> Any:
        """Call it with flat C-contiguous arrays of the right dtype, and numbers."""
        return self._native(*map(_given, arguments))

    def bound(self, *arguments: Any) -> partial[Any]:
        """Return the function with its first arguments fixed: their addresses are taken now.

        The arrays have to stay in memory as long as it is called.
        """
        return partial(self._native, *map(_given, arguments))


def _given(value: Any) -> Any:
    """Return an argument as ctypes takes it."""
    return value.__array_interface__["data"][0] if isinstance(value, np.ndarray) else value


def addresses(arrays: Any) -> Any:
    """Return where arrays lie, as an argument ``arrays``; they have to stay in memory."""
    return np.array([array.__array_interface__["data"][0] for array in arrays], np.int64)
