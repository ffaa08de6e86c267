"""The parts of docs/contributing.md, added to a copy of the checkout and tested there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from contributing import additions, apply, export

CHECKOUT = Path(__file__).parents[1]
PARTS = additions()
OF_ALL_PARTS = [
    "tests/formulas/activations/test_formulas.py",
    "tests/backends/test_numpy.py",
    "tests/backends/test_text.py",
    "tests/test_cli.py",
    "tests/test_conformance.py",
    "tests/test_conventions.py",
    "tests/test_docs_operations.py",
]
CONVENTIONS = ("is_exported", "sorted_and_true", "page_of_operations", "have_a_docstring", "is_compared", "test_list")


def copy_of_the_checkout(folder):
    for name in ("framework", "tests", "docs"):
        shutil.copytree(CHECKOUT / name, folder / name)
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy2(CHECKOUT / name, folder / name)


def add(parts, folder):
    """Add parts as the page says; return the names of classes and operations, and the changed files."""
    names = []
    for part in parts:
        for addition in part:
            apply(addition, folder)
            for name in re.findall(r"^class (\w+)\(", addition.text, re.MULTILINE):
                export(name, addition.path, folder)
                names.append(name)
            names += re.findall(r'^ {4}"(\w+)": lambda', addition.text, re.MULTILINE)
    subprocess.run([sys.executable, "-m", "docs.operations"], cwd=folder, check=True)
    return names, [addition.path for part in parts for addition in part]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: Path(part[-1].path).stem)
def test_a_part_is_one_source_file_and_its_test(part):
    assert [addition.path.partition("/")[0] for addition in part] == ["framework", "tests"]


@pytest.mark.share(1 / 10)
def test_every_part_passes_its_own_tests_and_those_of_all_parts(tmp_path):
    copy_of_the_checkout(tmp_path)
    names, touched = add(PARTS, tmp_path)
    assert len(names) == len(PARTS) == 3
    own = {Path(path).stem for path in touched if path.startswith("tests/")} - {"test_gradient"}
    wanted = " or ".join([*names, *own, *CONVENTIONS])
    command = [sys.executable, "-m", "pytest", "-q", "--all", "-k", wanted, *OF_ALL_PARTS, *touched]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 40


def test_parts_can_be_added_after_their_neighbours_have_changed(tmp_path):
    shutil.copytree(CHECKOUT / "framework", tmp_path / "framework")
    (tmp_path / "docs").mkdir()
    (tmp_path / "tests" / "graph").mkdir(parents=True)
    shutil.copy2(CHECKOUT / "docs" / "operations.py", tmp_path / "docs")
    shutil.copy2(CHECKOUT / "tests" / "graph" / "test_gradient.py", tmp_path / "tests" / "graph")
    for part in PARTS:
        addition = part[0]
        if addition.where == "at its end":  # another class has come to the end of the file
            path = tmp_path / addition.path
            path.write_text(f"{path.read_text()}\n\nclass _Other:\n    pass\n")
    for path in {addition.path for part in PARTS for addition in part}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    names, _ = add(PARTS[::-1], tmp_path)
    classes = [name for name in names if name != "logaddexp2"]
    code = f"from framework.base.lazy import import_public; print(*map(import_public, {classes}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert all(f".{name}'" in done.stdout for name in classes)
