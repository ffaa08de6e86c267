"""The cache of kernels: each one is a module in a file, named by a hash of everything that it is made from.

Numba keeps compiled code beside a file and checks only its date, so a file must never change. A change of a formula, an
option or a version gives another name, hence another file.

Numba unpickles the files in its folder, and unpickling runs code. So a folder that other users could have written to is
not read.
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
from threading import RLock
from types import ModuleType

COMPILING = RLock()
"""Held while a kernel is loaded and compiled, so that no thread uses one that another has not finished."""


def cache_folder() -> Path | None:
    """Return where kernels are kept: a user's cache, or below ``NUMBA_CACHE_DIR`` where that is set.

    None where neither the environment nor the system knows such a folder.
    """
    if own := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(own) / "framework"
    base = os.environ.get({"win32": "LOCALAPPDATA", "darwin": ""}.get(sys.platform, "XDG_CACHE_HOME"), "")
    if Path(base).is_absolute():  # the XDG specification has empty and relative ones ignored
        return Path(base) / "framework"
    try:
        home = Path.home()
    except RuntimeError:  # a user without an entry
        return None
    parts = {"win32": ("AppData", "Local"), "darwin": ("Library", "Caches")}.get(sys.platform, (".cache",))
    return home.joinpath(*parts, "framework")


def kernel_name(source: str) -> str:
    """Return the name of a kernel: the same only for the same source, Python and library versions."""
    digest = blake2b("\n".join([*_versions(), source]).encode(), digest_size=12).hexdigest()
    return f"framework_kernel_{digest}"


@lru_cache(maxsize=1)  # reading one takes a millisecond
def _versions() -> tuple[str, ...]:
    return platform.python_version(), *(f"{name} {version(name)}" for name in ("numba", "llvmlite", "numpy", "scipy"))


def load(source: str) -> ModuleType:
    """Return the module of a kernel; its file is written once, and the module made once in a process.

    Where no file can be written, or others could write one, the kernel is still compiled, and forgotten when the
    process ends.
    """
    name = kernel_name(source)
    with COMPILING:
        if name in sys.modules:
            return sys.modules[name]
        path = _written(name, source)
        module = _executed(name, source, path)
        if path and not _own(Path(module.train.stats.cache_path)):
            module = _executed(name, source, None)
        return module


def load_anew(source: str) -> None:
    """Build the module of a kernel again without its cache files; ``load`` then returns it.

    A file that a full disk has truncated would fail in every later process, so it is deleted.
    """
    name = kernel_name(source)
    with COMPILING:
        old = sys.modules.pop(name, None)
        if old is not None and (folder := old.train.stats.cache_path):
            with contextlib.suppress(OSError):
                for file in Path(folder).glob(f"{name}*.nb[ci]"):
                    file.unlink()
        _executed(name, source, None)


def _executed(name: str, source: str, path: Path | None) -> ModuleType:
    """Run a kernel's source as a module, whose compiled code is kept beside ``path``."""
    module = ModuleType(name)
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
    if folder is None:
        return None
    path = folder / f"{name}.py"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(source)
            Path(temporary).replace(path)  # atomic, also if other processes write it
        if os.access(folder, os.W_OK):
            return path
    return None


def _own(folder: Path) -> bool:
    """Close the folder of Numba's files to other users, and return whether it is this user's.

    If others could write to it, its contents are deleted: they may be theirs. On other systems than POSIX, a user's
    folders are private already.
    """
    if not hasattr(os, "getuid"):
        return True
    with contextlib.suppress(OSError):
        status = folder.lstat()
        if status.st_uid == os.getuid():
            folder.chmod(0o700)
            if status.st_mode & 0o022:
                for file in folder.glob("*.nb[ci]"):
                    file.unlink()
            return True
    return False
