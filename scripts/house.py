"""Print the size of the house: ``python scripts/house.py``.

These are the entries of ``framework/`` and the imports between them, lines of code, public names, names that do not say
what they name (see ``tests/test_names.py``), words of the docs, and the seconds of the processor that imports take.
"""

import resource
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from statistics import median

import framework
from framework.base.lazy import families

ROOT = Path(__file__).parents[1]
IMPORTS = ("pass", "import framework", "from framework import Trainer", "import framework.cli")


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
    rooms, names = (run_path(str(ROOT / "tests" / path)) for path in ("support/rooms.py", "test_names.py"))
    pages = (ROOT / "docs").rglob("*.md")
    lines = (len(path.read_text(encoding="utf-8").splitlines()) for path in rooms["FILES"])
    print(f"entries             {len(rooms['ROOMS']):7,}")
    print(f"imports between     {len(rooms['arrows']()):7,}")
    print(f"lines               {sum(lines):7,}")
    print(f"names of framework  {len(framework.__all__):7,}")
    print(f"names of all rooms  {len(families()):7,}")
    print(f"vague bindings      {len(names['list_names'](names['vague_bindings'])):7,}")
    print(f"participles         {len(names['list_names'](names['participles'])):7,}")
    print(f"words of docs       {sum(len(page.read_text(encoding='utf-8').split()) for page in pages):7,}")
    for code in IMPORTS:
        print(f"{seconds(code):7.3f} s  {code}")


if __name__ == "__main__":
    main()
