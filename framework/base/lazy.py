"""Lazy: the public names of a package, each imported at its first use from where the stub beside the package says."""

import re
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

ROOT = Path(__file__).parents[1]


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package that has a stub, ``__init__.pyi``.

    Type checkers read the stub too, so the names and their modules are written once.
    """
    module, modules = sys.modules[package], stub_of(package)

    def __getattr__(name: str) -> Any:  # noqa: N807 (Python's name for it)
        if name in modules:
            import_module("numpy.typing")  # in one step: two threads that import NumPy and it at once get half of it
            value = vars(module)[name] = getattr(import_module(modules[name]), name)
            return value
        if name.isidentifier() and name[0] != "_" and find_spec(f"{package}.{name}"):
            return import_module(f"{package}.{name}")
        if name == "__version__" and package == "framework":
            return import_module("importlib.metadata").version(package)
        from framework.base.settings.messages import answering  # noqa: PLC0415 (too slow for `import framework`)

        return answering(package, families() | _rooms_with(name) | dict.fromkeys(modules, package))(name, depth=2)

    def __dir__() -> list[str]:  # noqa: N807 (as above)
        inside = (name for _, name, _ in iter_modules(module.__path__) if name[0] != "_")
        return [*{*modules, *inside}, *(name for name in vars(module) if name.startswith("__"))]

    return __getattr__, __dir__, [*modules]


@cache
def stub_of(package: str) -> dict[str, str]:
    """Return the module of each public name of a package, as its stub says, in the order of the names.

    Example:
        >>> stub_of("framework.experiments")
        {'Experiment': 'framework.experiments.experiment', 'Sweep': 'framework.experiments.sweeps.sweep'}
    """
    text = ROOT.joinpath(*package.split(".")[1:], "__init__.pyi").read_text(encoding="utf-8")
    imports = re.findall(r"^from (\S+) import (?:\(([^)]+)\)|(.+))$", text, re.MULTILINE)
    pairs = [(name, module) for module, *lists in imports for name in re.findall(r"(\w+) as", "".join(lists))]
    return dict(sorted(pairs))


@cache
def families() -> dict[str, str]:
    """Return the package of the whole library that exports each name.

    Example:
        >>> families()["Dense"]
        'framework.models'
    """
    packages = [f"framework.{stub.parent.name}" for stub in sorted(ROOT.glob("*/__init__.pyi"))]
    return {name: package for package in packages for name in stub_of(package)}


def _rooms_with(name: str) -> dict[str, str]:
    """Return the package that has a module of this name, if there is one: of ``losses``, ``framework.formulas``."""
    paths = (path for room in ROOT.iterdir() for path in (room / f"{name}.py", room / name / "__init__.py"))
    path = next(filter(Path.is_file, paths), None)
    return {} if path is None else {name: f"framework.{path.relative_to(ROOT).parts[0]}"}


def import_public(name: str) -> Any:
    """Return what the library calls by a public name; import it if it is not imported yet.

    Example:
        >>> import_public("Dense").__name__
        'Dense'
    """
    return getattr(import_module(families()[name]), name)


def import_all() -> dict[str, Any]:
    """Return what the library calls by each public name."""
    return {name: import_public(name) for name in families()}
