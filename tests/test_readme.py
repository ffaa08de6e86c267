"""README.md: what it says is short, and runs as it stands there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_it_is_short_and_asks_nobody_for_root():
    assert len(README.split()) <= 600
    assert "sudo" not in README


def test_its_first_two_commands_are_scripts_that_ci_runs():
    demo, test = (block.partition("#")[0].strip() for block in blocks("sh")[:2])
    assert (demo, test) == ("scripts/demo", "scripts/test")
    runs = re.findall(r"^readme_command (\d)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert runs == ["1", "2"]


def test_it_names_the_extras_of_what_it_promises():
    extras = re.findall(r"`scripts/setup (\S+)`", README)[0].split(",")
    assert {"compiled", "jax", "onnx"} == {*extras}
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert {*extras} <= tomllib.load(file)["project"]["optional-dependencies"].keys()


def test_its_program_prints_what_it_says(tmp_path):
    (program,), (printed,) = blocks("python"), blocks("text")
    (tmp_path / "snake.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-W", "error", "snake.py"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.stdout == printed, done.stderr
