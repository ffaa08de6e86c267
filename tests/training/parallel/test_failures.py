"""A worker that fails, leaves, hangs or is killed ends the job; nothing of it stays behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from failing import CAUSES, SCRIPT, left_behind

pytest.importorskip("mpi4py")

PAGE = Path(__file__).parents[3] / "docs" / "parallel.md"
ROWS = {
    "raise": "raises an error in the checks",
    "raise later": "raises an error after training",
    "exit(0)": "calls `sys.exit(0)`",
    "exit(3)": "calls `sys.exit(3)`",
    "leave": "ends normally while the others train",
    "term": "gets SIGTERM",
    "sleep": "sleeps for ever",
    "stop": "hangs, is stopped",
    "kill": "is killed",
}
"""The rows of the table of failures, by how the script fails."""


def exit_code(kind):
    """The exit code that the page promises with MPICH."""
    row = rf"^\| {re.escape(ROWS[kind])}.* \| (\d+) \| \d+ \|$"
    return int(re.search(row, PAGE.read_text(encoding="utf-8"), re.MULTILINE)[1])


def launched(*arguments, n=2, options=()):
    command = [sys.executable, "-m", "framework", "launch", "-n", str(n), *options, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("kind", CAUSES)
def test_a_failure_of_one_worker_ends_the_job(kind, tmp_path):
    for folder in (tmp_path / "first", tmp_path / "second"):
        done = launched(folder, kind)
        assert done.returncode == exit_code(kind)
        assert CAUSES[kind] in done.stderr + done.stdout
        assert left_behind(folder) == []


@pytest.mark.share(1 / 10)
def test_workers_end_with_the_process_that_would_end_them(tmp_path):
    assert launched(tmp_path, "orphan").returncode != 0
    assert left_behind(tmp_path) == []


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("kind", ["raise", "raise later", "exit(3)"])
def test_the_traceback_of_an_error_is_printed_once_and_an_exit_code_is_passed_on(kind, tmp_path):
    done = launched(tmp_path, kind, n=3)
    assert done.returncode == exit_code(kind)
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert done.stderr.count("failing.py") >= 1


@pytest.mark.share(1 / 10)
def test_an_error_on_all_workers_can_be_caught(tmp_path):
    done = launched(tmp_path, "raise on all", n=3)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["caught"] * 3 + ["ended"] * 3


@pytest.mark.share(1 / 10)
def test_a_worker_that_ends_before_it_trains_ends_the_job(tmp_path):
    done = launched(tmp_path, "before")
    assert done.returncode != 0
    assert "worker 1 gives no answer" in done.stderr or "worker 0 has waited for the others for 3 s" in done.stderr
    assert left_behind(tmp_path) == []


@pytest.mark.share(1 / 10)
def test_a_killed_job_starts_again(tmp_path):
    done = launched(tmp_path, "kill", options=("--restarts", "3"))
    assert done.returncode != 0
    assert "restart 1 of 3" in done.stderr
    assert "restart 3 of 3" in done.stderr
    assert len([*(tmp_path / "pids").iterdir()]) == 8
    done = launched(tmp_path / "once", "kill once", options=("--restarts", "3"))
    assert done.returncode == 0
    assert done.stdout.split()[-2:] == ["ended"] * 2
    assert len([*(tmp_path / "once" / "pids").iterdir()]) == 4
