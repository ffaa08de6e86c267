"""Processes that share the work of a command, and end with their parent."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from framework.experiments.processes import work_together

PARENT = """
from framework.experiments.processes import work_together
work_together(["show", "x.toml", "--import", "module"], 2, stderr=None)
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A working directory."""
    monkeypatch.chdir(tmp_path)


def write_module(*lines):
    """Write what each process imports."""
    begin = ["import os, signal, sys, time, pathlib", "pathlib.Path(f'{os.getpid()}.process').touch()"]
    Path("module.py").write_text("\n".join([*begin, *lines]))


def processes():
    return len([*Path().glob("*.process")])


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)],
)
def test_they_end_with_their_parent(number, code):
    write_module("time.sleep(300)")
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stderr=subprocess.PIPE)
    for _ in range(1200):
        if processes() == 2:
            break
        time.sleep(0.05)
    parent.send_signal(number)
    parent.communicate(timeout=60)  # until all of them have closed stderr
    assert (processes(), parent.returncode) == (2, code)


@pytest.mark.share(1 / 10)
def test_a_killed_one_is_started_again_as_often_as_allowed():
    first = "len([*pathlib.Path().glob('*.process')]) == 1"
    write_module(f"if {first}: os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(3)")
    assert work_together(["show", "x.toml", "--import", "module"], 1, restarts=1) == [3]
    assert processes() == 2
    Path("module.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert work_together(["show", "x.toml", "--import", "module"], 1) == [-signal.SIGKILL]
