"""The cases that a run selects: see conftest.py."""

import subprocess
import sys
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def conftest(pytestconfig):
    return pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))


@pytest.fixture
def select(conftest):
    """Return a function that returns the ids of the cases that a run selects out of 1,000 of this share."""

    def select(share, rotation=7, arguments=("tests",), marks=MappingProxyType({}), **options):
        marker = pytest.mark.share(share, **marks)
        items = [
            SimpleNamespace(
                nodeid=f"tests/a.py::test[{n}]", path=ROOT / "tests" / "a.py", get_closest_marker=lambda _: marker
            )
            for n in range(1000)
        ]
        left_out = []
        config = SimpleNamespace(
            option=SimpleNamespace(**{"all": False, "few": False, "rotation": rotation} | options),
            args=arguments,
            args_source=pytest.Config.ArgsSource.ARGS,
            hook=SimpleNamespace(pytest_deselected=lambda items: left_out.append(len(items))),
        )
        conftest.pytest_collection_modifyitems(config, items)
        assert len(items) + sum(left_out) == 1000
        return [item.nodeid for item in items]

    return select


@pytest.mark.parametrize("parts", [2, 3, 5, 10])
@pytest.mark.parametrize("first", [0, 4711])
def test_each_case_runs_in_one_of_several_successive_rotations(select, parts, first):
    selections = [select(1 / parts, first + n) for n in range(parts)]
    assert sorted(case for cases in selections for case in cases) == sorted(select(1))
    assert all(800 / parts < len(cases) < 1250 / parts for cases in selections)


def test_the_cases_of_a_group_run_together(select):
    assert sorted(len(select(1 / 4, n, marks={"group": "a"})) for n in range(4)) == [0, 0, 0, 1000]
    assert len({len(select(1 / 4, marks={"group": name})) for name in "abcdefgh"}) == 2


def test_a_fifth_of_all_cases_all_of_them_and_those_that_are_named(select):
    everything = select(1)
    assert len(everything) == 1000
    assert select(1, few=True) == select(1 / 10, few=True) == select(1 / 5)
    assert select(1 / 10, all=True) == everything
    assert select(1 / 10, arguments=["tests/a.py::test"]) == select(1 / 10, arguments=["docs/a.md"]) == everything


@pytest.mark.parametrize(
    ("block", "fits"),
    [
        ("$ echo a\n...\n", True),
        ("$ echo a; exit 3\n...\n", False),
        ("$ framework train missing.toml\n...\n", False),
        ("$ framework train missing.toml\nError: ...\n", True),
        ("$ echo 'Error: a'\nError: a\n", False),
    ],
)
def test_a_command_of_a_page_fails_exactly_where_the_page_shows_an_error(conftest, block, fits):
    assert (conftest.console(SimpleNamespace(parsed=block)) is None) == fits


def test_the_rotation_is_the_number_of_commits_or_0_without_git(conftest, monkeypatch, tmp_path):
    monkeypatch.setattr(conftest, "root", tmp_path)
    assert conftest.count_commits() == 0
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "one"]):
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *command], cwd=tmp_path, check=True)
    assert conftest.count_commits() == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    assert conftest.count_commits() == 0


def test_the_header_and_the_report_of_a_failure_state_the_rotation(tmp_path):
    (tmp_path / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert 1 == 2\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rotation=9"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    header, _, failure = done.stdout.partition("FAILURES")
    assert "the quick selection, --rotation=9" in header
    assert "--rotation=9" in failure
