"""Print the size of the house: ``python scripts/house.py``.

These are the entries of ``framework/`` and the imports between them, lines of code, public names, names that do not say
what they name (see ``tests/test_names.py``), words of the docs, and the seconds of the processor that imports take.
"""

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from statistics import median

import framework
from framework.base.lazy import families

PACKAGE = Path(framework.__file__).parent
ENTRIES = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and path.name != "__pycache__"}
IMPORTS = ("pass", "import framework", "from framework import Trainer", "import framework.cli")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the entry of a file, and each entry that it imports from."""
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"framework.{name}" for name in names] if node.module == "framework" else [node.module or ""]
        for name in names:
            package, _, rest = name.partition(".")
            entry = rest.partition(".")[0] if rest.partition(".")[0] in ENTRIES else "__init__"
            if package == "framework" and entry != own:
                yield own, entry


def seconds(code: str, rounds: int = 7) -> float:
    """Return the median of the processor's seconds that Python takes for a line of code."""
    taken = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return median(taken)


def main() -> None:
    """Print a figure a line."""
    files = sorted(PACKAGE.rglob("*.py"))
    names = run_path(str(PACKAGE.parent / "tests" / "test_names.py"))
    pages = (PACKAGE.parent / "docs").rglob("*.md")
    print(f"entries             {len(ENTRIES):7,}")
    print(f"imports between     {len({arrow for path in files for arrow in imports(path)}):7,}")
    print(f"lines               {sum(len(path.read_text(encoding='utf-8').splitlines()) for path in files):7,}")
    print(f"names of framework  {len(framework.__all__):7,}")
    print(f"names of all rooms  {len(families()):7,}")
    print(f"vague bindings      {len(names['list_names'](names['vague_bindings'])):7,}")
    print(f"participles         {len(names['list_names'](names['participles'])):7,}")
    print(f"words of docs       {sum(len(page.read_text(encoding='utf-8').split()) for page in pages):7,}")
    for code in IMPORTS:
        print(f"{seconds(code):7.3f} s  {code}")


if __name__ == "__main__":
    main()
