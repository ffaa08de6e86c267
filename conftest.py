"""Selects the cases of a run, and runs the blocks of README.md and of the pages in docs/ as tests.

Each case has a share: that of the marker ``share`` for tests that are slow or have many similar cases; else that of its
folder in ``SHARES``, 1/3 for the pages of the documentation, and 1 otherwise.

- ``pytest`` runs a case with the share 1/n in one of n successive rotations.
- ``pytest --few`` runs all cases as if they had the share 1/5.
- ``pytest --all`` runs all cases, and so does a command line that names a test, as ``FILE::TEST``, or a page.

The rotation is the number of commits, or ``--rotation``. It also seeds pytest-randomly and hypothesis. The header of a
run and the report of a failure state it. In which rotations a case runs depends on its id alone, or on the marker's
``group``: the cases of a group share what is slow, and run together.

A Python block that starts with ``>>>`` is a doctest; any other ```` ```python ```` block is executed. The blocks of one
document share a namespace, from top to bottom, as if typed into one session, in a temporary folder where they may write
files. A ```` ```console ```` block holds commands, each after ``$``, and what they print, with ``...`` for any text. A
command fails exactly where that has an ``Error: ``.
"""

import gc
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, chdir
from doctest import ELLIPSIS, OutputChecker
from hashlib import blake2b
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
sys.dont_write_bytecode = False  # each of the many processes would compile all modules again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
document = ExitStack()
root = Path(__file__).parent
examples = root / "examples"
LONG = {"checkpoint", "engines", "experiments", "graph", "parallel"}
SHARES = {"engines": 1 / 2, "experiments": 1 / 6, "parallel": 1 / 6}
"""The folders whose tests start processes, compile kernels, or run commands that train."""


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
            result = CliRunner().invoke(main, shlex.split(command)[1:])
            printed, code = result.output, result.exit_code
        else:
            line = command.replace("python examples/", f"{shlex.quote(sys.executable)} {shlex.quote(str(examples))}/")
            done = subprocess.run(line, shell=True, check=False, capture_output=True, text=True)
            printed, code = done.stdout, done.returncode
        if bool(code) != ("Error: " in expected) or not OutputChecker().check_output(expected, printed, ELLIPSIS):
            return f"$ {command}expected:\n{expected}printed:\n{printed}exit code {code}"
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
    """Add the options that select cases."""
    parser.addoption("--all", action="store_true", help="Run all cases, also those that are slow or many and alike.")
    parser.addoption("--few", action="store_true", help="Run a fifth of all cases.")
    parser.addoption("--store", action="store_true", help="Store the results of JAX that these tests compare with.")
    parser.addoption("--update-errors", action="store_true", help="Write the texts of errors to tests/errors.txt.")
    parser.addoption("--rotation", type=int, help="Select the cases, and seed, as the run with this rotation did.")


def count_commits() -> int:
    """Return the number of commits, or 0 outside of a Git repository."""
    command = ["git", "-C", str(root), "rev-list", "--count", "HEAD"]
    try:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError):
        return 0


def runs(case: str, share: float, rotation: int) -> bool:
    """Check whether a case of this share is selected."""
    start = int.from_bytes(blake2b(case.encode(), digest_size=6).digest()) / 2**48
    return share >= 1 or (start + rotation * share) % 1 < share


def pytest_configure(config: pytest.Config) -> None:
    """Set the rotation, and all seeds by it.

    Keep pytest-randomly from seeding the global generators, which tests watch and the library does not use. Let workers
    of MPICH sleep while they wait, because tests start more of them than there are cores. All processes and runs share
    compiled kernels, whose names depend on their source and on all versions.
    """
    options = config.option
    if options.rotation is None:
        options.rotation = count_commits()  # in the main process, from which those of pytest-xdist take all options
    if getattr(options, "randomly_seed", None) == "default":
        options.randomly_seed = options.rotation
    options.hypothesis_seed = options.hypothesis_seed or str(options.rotation)
    options.randomly_reset_seed = False
    os.environ.setdefault("MPIR_CVAR_ENABLE_HEAVY_YIELD", "1")
    os.environ.setdefault("FRAMEWORK_CACHE_DIR", str(root / ".cache" / "kernels"))


def pytest_report_header(config: pytest.Config) -> str:
    """State which cases the run selects."""
    options = config.option
    cases = "all cases" if options.all else "a fifth of all cases" if options.few else "the quick selection"
    return f"{cases}, --rotation={options.rotation}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the seconds of each folder after --durations."""
    if config.option.durations is not None:
        seconds: Counter[str] = Counter()
        for report in (report for reports in terminalreporter.stats.values() for report in reports):
            if isinstance(report, pytest.TestReport):
                seconds[str(Path(report.nodeid.partition("::")[0]).parent)] += report.duration
        terminalreporter.section("seconds by folder")
        for folder, total in seconds.most_common():
            terminalreporter.write_line(f"{total:7.1f} s  {folder}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """State the rotation in the report of a failure."""
    report = yield
    if report.failed:
        report.sections.append(("rotation", f"--rotation={item.config.option.rotation}"))
    return report


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the cases. Put the blocks of each document together and in order again, after pytest-randomly's shuffle.

    The folders with the files that take longest come first, so that all processes end at about the same time.
    """
    named = config.args_source is pytest.Config.ArgsSource.ARGS and any(re.search(r"::|[.]md$", a) for a in config.args)
    if not (config.option.all or named):

        def selected(item: pytest.Item) -> bool:
            if isinstance(item, SybilItem):  # its blocks share a namespace
                marker = pytest.mark.share(1 / 3, group=str(item.path.relative_to(root)))
            else:
                default = pytest.mark.share(SHARES.get(item.path.parent.name, 1))
                marker = item.get_closest_marker("share") or default
            share = 1 / 5 if config.option.few else marker.args[0]
            return runs(marker.kwargs.get("group", item.nodeid), share, config.option.rotation)

        cases, left_out = [*items], []
        items.clear()
        for item in cases:
            (items if selected(item) else left_out).append(item)
        config.hook.pytest_deselected(items=left_out)
    turns = {path: turn for turn, path in enumerate(dict.fromkeys(item.path for item in items))}

    def place(item: pytest.Item) -> tuple[bool, int, int]:
        line = item.example.line if isinstance(item, SybilItem) else 0
        return item.path.parent.name not in LONG, turns[item.path], line

    items.sort(key=place)
