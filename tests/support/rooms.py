"""The rooms of the package, its files and folders, and which imports from which."""

import ast
from pathlib import Path

import framework

PACKAGE = Path(framework.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and path.name != "__pycache__"}


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path):
    """Every room that a file imports from, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            if node.module == "framework":  # from framework import name: a module, or what __init__ gives
                modules = [f"framework.{alias.name}" for alias in node.names]
            else:
                modules = [node.module]
        else:
            continue
        for module in modules:
            package, _, rest = module.partition(".")
            if package == "framework":
                first = rest.partition(".")[0]
                yield first if first in ROOMS else "__init__"


def arrows():
    """Every pair of a room and another one from which it imports."""
    return {(room_of(path), other) for path in FILES for other in imported(path) if other != room_of(path)}
