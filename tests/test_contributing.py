"""The diffs of docs/contributing.md, applied to a copy of the checkout and tested there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contributing import DIFFS, git_apply

CHECKOUT = Path(__file__).parents[1]
EXPORTS = {"framework/__init__.py", "docs/operations.md"}
OF_ALL_PARTS = [
    "tests/activations/test_formulas.py",
    "tests/emit/test_numpy.py",
    "tests/optimizers/test_formulas.py",
    "tests/test_cli.py",
    "tests/test_conformance.py",
    "tests/test_conventions.py",
    "tests/test_docs_operations.py",
]
CONVENTIONS = ("is_exported", "sorted_and_true", "page_of_operations", "have_a_docstring", "is_compared", "test_list")


def place(path):
    return "test" if path.startswith("tests/") else "export" if path in EXPORTS else "source"


def copy_of_the_checkout(folder):
    for name in ("framework", "tests", "docs"):
        shutil.copytree(CHECKOUT / name, folder / name)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy2(CHECKOUT / name, folder / name)


@pytest.mark.parametrize("diff", DIFFS, ids=lambda diff: diff.partition("\n")[2].split()[1])
def test_an_addition_touches_one_source_file_its_export_and_its_test(diff):
    paths = re.findall(r"^[+]{3} b/(.*)$", diff, re.MULTILINE)
    assert [place(path) for path in paths] == ["source", "export", "test"]


@pytest.mark.share(1 / 10)
def test_every_addition_passes_its_own_tests_and_those_of_all_parts(tmp_path):
    copy_of_the_checkout(tmp_path)
    for diff in DIFFS:
        git_apply(diff, tmp_path)
    diffs = "".join(DIFFS)
    added = re.findall(r"^[+](?:class | {4}\")(\w+)(?:\": _row)?\(", diffs, re.MULTILINE)
    assert len(added) == len(DIFFS) == 6
    touched = re.findall(r"^[+]{3} b/(.*[.]py)$", diffs, re.MULTILINE)
    own = {Path(path).stem for path in touched if path.startswith("tests/")} - {"test_tangent"}
    wanted = " or ".join([*added, *own, *CONVENTIONS])
    command = [sys.executable, "-m", "pytest", "-q", "--all", "-k", wanted, *OF_ALL_PARTS, *touched]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 50
