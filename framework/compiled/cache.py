"""Where kernels live: each one is a module in a file that is named by a hash of everything it is made from.

Numba keeps compiled code beside a file and looks at nothing but its date, so a file must never change. Here a change of
a formula, an option or a version gives another name, hence another file.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """Return where kernels are kept: a user's cache, or below ``NUMBA_CACHE_DIR`` where that is set."""
    if own := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(own) / "framework"
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return base / "framework"


def kernel_name(source: str) -> str:
    """Return the name of a kernel: the same only for the same source, Python and library versions."""
    digest = blake2b("\n".join([*_versions(), source]).encode(), digest_size=12).hexdigest()
    return f"framework_kernel_{digest}"


@lru_cache(maxsize=1)  # reading one takes a millisecond
def _versions() -> tuple[str, ...]:
    return platform.python_version(), *(f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy", "scipy"))


def load(source: str) -> ModuleType:
    """Return the module of a kernel; its file is written once, and the module made once in a process.

    Where no file can be written the kernel is compiled all the same, and forgotten when the process ends.
    """
    name = kernel_name(source)
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    path = _written(name, source)
    module.__file__ = str(path) if path else f"<{name}>"
    module.__dict__["CACHE"] = path is not None
    sys.modules[name] = module  # before the source runs, because Numba looks the functions' module up
    try:
        exec(compile(source, module.__file__, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _written(name: str, source: str) -> Path | None:
    """Return the kernel's file, or None where none can be written."""
    folder = cache_folder()
    path = folder / f"{name}.py"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(source)
            Path(temporary).replace(path)  # whole or not at all, whoever else writes it
        if os.access(folder, os.W_OK):
            return path
    return None
