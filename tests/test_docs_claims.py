"""Tables of the documentation that repeat what the code or the project says, compared with it."""

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def rows(page, heading):
    """The cells of the first table of a page whose header has this cell."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else [] for line in lines]
    first = next(number for number, row in enumerate(cells) if heading in row)
    last = next(number for number in range(first, len(cells)) if not cells[number])
    return cells[first + 2 : last]


def test_the_classifiers_name_the_tested_systems_and_versions():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    tested = {row[0]: row[1] for row in rows("support.md", "tested")}
    systems = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("Operating System")]
    assert systems == [tested["system"].partition(",")[0]]
    versions = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("Programming Language")]
    assert versions == re.findall(r"\d[.]\d+", tested["Python"])


def test_the_page_of_dependencies_names_every_package_and_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    extras = project["optional-dependencies"]
    requirements = sum(extras.values(), project["dependencies"])
    names = {re.split(r"[\[>=; ]", text)[0] for text in requirements} - {"framework"}
    assert {name for name in names if not re.search(rf"^\|.*\b{name}\b", page, re.MULTILINE)} == set()
    assert {name for name in extras if f"`{name}`" not in page} == set()


def test_the_page_of_benchmarks_lists_every_workload_and_group():
    code = runpy.run_path(str(ROOT / "benchmarks" / "workloads.py"))
    listed = [name for row in rows("benchmarks.md", "workload") for name in re.findall(r"`([\w-]+)`", row[0])]
    assert sorted(listed) == sorted({name.removesuffix("-float32") for name in code["WORKLOADS"]})
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert {name for name in code["GROUPS"] if f"`{name}`" not in page} == set()


def test_the_numbers_of_reliability_are_those_of_its_tests():
    claims = [
        claim for row in rows("reliability.md", "guarantee") for claim in re.findall(r"`(\S+[.]py)`: ([^`]+)", row[1])
    ]
    numbers = [(name, number.replace(",", "_")) for name, text in claims for number in re.findall(r"\d[\d,]*", text)]
    assert len(numbers) >= 3
    for name, number in numbers:
        assert re.search(rf"(range[(]|[)], ){number}[)]", (ROOT / "tests" / name).read_text(encoding="utf-8")), (
            name,
            number,
        )
