"""Runs the blocks of README.md and of the pages in docs/ as tests.

A Python block that starts with ``>>>`` is a doctest; any other ```` ```python ```` block is executed. The blocks of one
document share a namespace, from top to bottom, as if typed into one session, in a temporary folder where they may write
files. A ```` ```console ```` block holds commands, each after ``$``, and what they print, with ``...`` for any text.
"""

import gc
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, chdir
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner
from sybil import Example, Sybil
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from framework.cli import main

collect_ignore = [
    "tests/pytorch",  # it needs PyTorch; tests/test_oracles.py runs it where that is installed
    "docs/conf.py",  # it needs Sphinx, which runs it
]
document = ExitStack()
cases: Counter[str] = Counter()
CASE = pytest.StashKey[int]()
examples = Path(__file__).parent / "examples"
LONG = {"checkpoint", "engines", "experiments", "graph", "parallel"}


def start(namespace: dict[str, Any]) -> None:
    """Prepares for the first block of a document."""
    namespace["__name__"] = "__main__"  # as in a session; without it, classes would say they come from builtins
    document.enter_context(chdir(document.enter_context(TemporaryDirectory())))


def finish(_namespace: dict[str, Any]) -> None:
    """Clears up after the last block of a document."""
    document.close()


def console(example: Example) -> str | None:
    """Run the commands of a block, and return the first difference between what they print and what the page says."""
    for command, expected in re.findall(r"^\$ (.*\n)((?:(?!\$ ).*\n?)*)", example.parsed, re.MULTILINE):
        if command.startswith("framework "):
            printed = CliRunner().invoke(main, shlex.split(command)[1:]).output
        else:
            line = command.replace("python examples/", f"{shlex.quote(sys.executable)} {shlex.quote(str(examples))}/")
            printed = subprocess.run(line, shell=True, check=False, capture_output=True, text=True).stdout
        if not OutputChecker().check_output(expected, printed, ELLIPSIS):
            return f"$ {command}expected:\n{expected}printed:\n{printed}"
    return None


@pytest.fixture(autouse=True)
def folder_of_its_own(request: pytest.FixtureRequest) -> None:
    """Runs the examples of docstrings in a temporary folder, where they may write files."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", console)],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=start,
    teardown=finish,
).pytest()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option for other versions of Python and of the dependencies."""
    parser.addoption("--few", action="store_true", help="Run each fifth case of a test, and no test of many processes.")


def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-randomly from seeding the global generators, which tests watch and the library does not use.

    Let workers of MPICH sleep while they wait, because tests start more of them than there are cores.
    """
    config.option.randomly_reset_seed = False
    os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use one process for a selection of tests, and one a core for all of them, each with one thread of BLAS."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return 0
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more of them would keep the cores of other processes
    return None


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives to the end, and let it run less often: it took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Count the cases of each test, in the order of the file."""
    test = item.nodeid.partition("[")[0]
    item.stash[CASE] = cases[test]
    cases[test] += 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the blocks of each document together and in order again, after pytest-randomly has shuffled all tests.

    The folders with the files that take longest come first, so that all processes end at about the same time.
    """
    if config.option.few:
        left_out = {item for item in items if item.stash[CASE] % 5 or item.get_closest_marker("processes")}
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=[*left_out])
    turns = {path: turn for turn, path in enumerate(dict.fromkeys(item.path for item in items))}

    def place(item: pytest.Item) -> tuple[bool, int, int]:
        line = item.example.line if isinstance(item, SybilItem) else 0
        return item.path.parent.name not in LONG, turns[item.path], line

    items.sort(key=place)
