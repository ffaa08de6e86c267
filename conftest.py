"""Runs the Python blocks of README.md and docs/*.md as tests.

A block that starts with ``>>>`` is a doctest; any other ```` ```python ```` block is executed. The blocks of one
document share a namespace, from top to bottom, as if typed into one session, in a temporary folder where they may write
files.
"""

from contextlib import ExitStack, chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

collect_ignore = ["tests/pytorch"]  # it needs PyTorch; tests/test_oracles.py runs it where that is installed
document = ExitStack()


def start(namespace: dict[str, Any]) -> None:
    """Prepares for the first block of a document."""
    namespace["__name__"] = "__main__"  # as in a session; without it, classes would say they come from builtins
    document.enter_context(chdir(document.enter_context(TemporaryDirectory())))


def finish(_namespace: dict[str, Any]) -> None:
    """Clears up after the last block of a document."""
    document.close()


@pytest.fixture(autouse=True)
def folder_of_its_own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the examples of docstrings in a temporary folder, where they may write files."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md"],
    setup=start,
    teardown=finish,
).pytest()
