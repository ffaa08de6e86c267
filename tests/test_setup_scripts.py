"""scripts/setup, demo and test, with stand-ins for Python, apt-get and sudo on the PATH."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the stand-ins are those of Debian")

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/bash
# A Python of $VERSION. As Debian's, it has venv when apt-get has installed it, and leaves half of .venv until then.
if [[ "$1 $2" == "-m venv" ]]; then
    mkdir -p "$3/bin"
    [ -e "$STATE/ensurepip" ] || { echo "ensurepip is not available"; exit 1; }
    [ ! -e "$STATE/full" ] || { echo "no space left on device"; exit 1; }
    cp "$0" "$3/bin/python"
elif [[ $1 == -c ]]; then
    [[ $2 == *"(3, 11)"* && VERSION -ge 11 || $2 == *ensurepip* && -e $STATE/ensurepip ]]
elif [[ $1 == --version ]]; then
    echo "Python 3.$VERSION.0"
elif [[ "$1 $2 $3" == "-m pip install" ]]; then
    echo "${@:4}" >> "$STATE/pip"
elif [[ "$1 $2" == "-m framework" || "$1 $2" == "-m pytest" ]]; then
    echo "${@:2}"
fi
"""
APT_GET = """#!/bin/bash
echo "$@" >> "$STATE/apt-get"
[ "$1" != install ] || touch "$STATE/ensurepip"
"""
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "mkdir", "rm", "touch")


class Machine:
    """A clone on a machine that has only these programs."""

    def __init__(self, folder, user):
        self.clone, self.bin, self.state = (folder / name for name in ("clone", "bin", "state"))
        shutil.copytree(ROOT / "scripts", self.clone / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.clone)
        for path in (self.bin, self.state):
            path.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.add("id", f"#!/bin/bash\necho {user}\n")
        self.add("apt-get", APT_GET)
        self.add("python3", PYTHON)

    def add(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, script, *arguments, version=13):
        """Run a script from another folder, as /clone/scripts/demo."""
        environment = {"PATH": str(self.bin), "STATE": str(self.state), "VERSION": str(version)}
        return subprocess.run(
            [self.clone / "scripts" / script, *arguments],
            cwd=self.state,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    def lines(self, name):
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path, user=1000)


@pytest.fixture
def root(tmp_path):
    return Machine(tmp_path, user=0)


def test_a_user_without_root_gets_the_command_that_mends_a_missing_venv(machine):
    done = machine.run("demo")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "This needs root. Let an administrator run the next line, and then run this script again:\n\n"
        "    apt-get update && apt-get install -y python3-venv\n"
    )
    assert machine.lines("apt-get") == []
    assert not (machine.clone / ".venv").exists()


def test_root_installs_a_missing_venv(root):
    done = root.run("demo")
    assert done.returncode == 0, done.stderr
    assert root.lines("apt-get") == ["update", "install -y python3-venv"]
    assert root.lines("pip") == ["--quiet --editable .[data]"]
    assert "\nframework demo\n" in done.stdout
    assert f". {root.clone}/.venv/bin/activate" in done.stdout


def test_another_error_of_venv_is_shown(root):
    for name in ("ensurepip", "full"):
        (root.state / name).touch()
    done = root.run("setup")
    assert (done.returncode, done.stderr) == (1, "no space left on device\n")
    assert root.lines("apt-get") == []
    assert not (root.clone / ".venv").exists()


@pytest.mark.parametrize("code", [0, 1])
def test_sudo_is_used_only_if_it_asks_for_no_password(machine, code):
    machine.add("sudo", f'#!/bin/bash\n[ $1 != -n ] || exit {code}\nexec "$@"\n')
    assert machine.run("setup").returncode == code
    assert machine.lines("apt-get") == ([] if code else ["update", "install -y python3-venv"])


@pytest.mark.parametrize("version", [10, 13])
def test_python_is_installed_where_there_is_none(root, version):
    (root.bin / "python3").rename(root.state / "python3")
    root.add("apt-get", APT_GET + 'cp "$STATE/python3" "${0%/*}"\n')
    done = root.run("setup", version=version)
    assert root.lines("apt-get") == ["update", "install -y python3-venv"]
    assert ("needs Python 3.11 or newer; python3 is Python 3.10.0" in done.stderr) == (version == 10)
    assert done.returncode == (version == 10)


def test_without_apt_get_the_advice_names_no_package(root):
    (root.bin / "apt-get").unlink()
    assert root.run("setup").stderr == "Install Python 3.11 or newer, with venv and pip, and run this script again.\n"


def test_an_old_python_gives_way_to_a_newer_one_or_to_advice(root):
    done = root.run("setup", version=10)
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; python3 is Python 3.10.0.\nInstall a newer one" in done.stderr
    root.add("python3.12", PYTHON.replace("VERSION", "12").replace("$12", "12"))
    done = root.run("setup", version=10)
    assert done.returncode == 0, done.stderr
    assert "Making .venv with Python 3.12.0." in done.stdout
    assert root.lines("apt-get") == ["update", "install -y python3.12-venv"]


def test_a_second_run_installs_only_after_a_change(root):
    for _ in range(2):
        assert root.run("setup", "dev").returncode == 0
    assert root.lines("pip") == ["--quiet --editable .[dev]"]
    assert root.run("setup").returncode == 0
    assert root.lines("pip")[1:] == ["--quiet --editable ."]
    with (root.clone / "pyproject.toml").open("a") as file:
        file.write("\n")
    assert root.run("setup", "dev").returncode == 0
    assert root.lines("pip")[2:] == ["--quiet --editable .[dev]"]


@pytest.mark.parametrize("extras", ["plto", "dev,plto", "name"])
def test_an_unknown_extra_is_refused_with_the_list_of_extras(root, extras):
    done = root.run("setup", extras)
    assert done.returncode == 1
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert done.stderr == f"There is no extra {extras.rpartition(',')[2]}. Extras: {', '.join(known)}\n"
    assert not (root.clone / ".venv").exists()


def test_the_demo_prints_its_help_instead_of_running(root):
    done = root.run("demo", "--help")
    assert done.stdout == "Install this package into .venv, with what tables need, and train two small models.\n"
    assert root.lines("pip") == []


def test_a_folder_without_pip_is_left_alone(root):
    (root.clone / ".venv").mkdir()
    done = root.run("setup")
    assert done.returncode == 1
    assert "Remove it by rm -r .venv" in done.stderr
    assert root.lines("apt-get") == []


def test_arguments_are_those_of_pytest(root):
    done = root.run("test", "tests/formulas/losses", "-k", "two words")
    assert done.stdout.endswith("\npytest tests/formulas/losses -k two words\n")
    assert root.lines("pip") == ["--quiet --editable .[test]"]
