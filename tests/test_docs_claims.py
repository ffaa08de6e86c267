"""Tables of the documentation that repeat what the code or the project says, compared with it."""

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import click

from framework.cli import main

ROOT = Path(__file__).parents[1]


def rows(page, heading):
    """The cells of the first table of a page whose header has this cell."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else [] for line in lines]
    first = next(number for number, row in enumerate(cells) if heading in row)
    last = next(number for number in range(first, len(cells)) if not cells[number])
    return cells[first + 2 : last]


def test_the_speeds_of_the_front_page_are_those_of_the_benchmarks():
    shown = rows("index.md", "JAX scan")
    measured = {tuple(row[0].split(", ")): row for row in rows("benchmarks.md", "first epoch")}
    scans = [measured[name, "a JAX scan over compiled"] for name in ("small", "own")]
    assert [row[2] for row in shown] == [scan[column].partition(" ")[0] for scan in scans for column in (1, 4)]
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    first, further = re.findall(r"(\d+) and (\d+) times", text.partition("PyTorch eager takes")[2])[:2]
    assert [row[3] for row in shown] == [first[0], further[0], first[1], further[1]]


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


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(program):
    """The arguments of each call of a program in the shell blocks, the indented lines and the quotes of the pages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        quotes = [quote.replace("\n", " ") for quote in re.findall(r"`([^`]+)`", prose)]
        for line in [*"".join(blocks).splitlines(), *re.findall(r"^    (.*)", prose, re.MULTILINE), *quotes]:
            if match := re.match(rf"(?:\$ |\w+=\w+ )*{program} (.*)", line):
                yield page.name, shlex.split(match[1], comments=True)


def test_the_commands_of_the_pages_have_their_options():
    calls = [*commands("framework")]
    assert len(calls) > 50
    context = click.Context(main)
    for page, (name, *arguments) in calls:
        command = None if name.startswith("-") else main.get_command(context, name)
        assert command or name.startswith("-"), (page, name)
        if command and name != "launch":  # after which a script has options of its own
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            options = {argument.partition("=")[0] for argument in arguments if re.match("--[a-z]", argument)}
            assert options <= known, (page, name, arguments)


def test_the_programs_that_the_pages_run_are_there():
    calls = [*commands("python")]
    assert len(calls) > 20
    for page, arguments in calls:
        words = " ".join(arguments)
        if match := re.match(r"-m ((?:benchmarks|tests)[\w.]*)", words):
            path = ROOT.joinpath(*match[1].split("."))
            assert path.is_dir() or path.with_suffix(".py").exists(), (page, words)
        elif match := re.match(r"\w+/\S+[.]py\b", words):
            assert (ROOT / match[0]).exists(), (page, words)


def test_the_workloads_that_the_pages_measure_are_there():
    code = runpy.run_path(str(ROOT / "benchmarks" / "workloads.py"))
    calls = [*commands("python -m benchmarks")]
    assert len(calls) > 5
    for page, arguments in calls:
        first = next((place for place, text in enumerate(arguments) if text.startswith("-")), len(arguments))
        assert {*arguments[:first]} <= {*code["WORKLOADS"], *code["GROUPS"]}, (page, arguments)
