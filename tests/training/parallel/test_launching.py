import os
import re
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from framework.cli import main


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("import os, sys\nos.write(1, f\"{os.environ['OMP_NUM_THREADS']} {sys.argv[1:]}\\n\".encode())\n")
    return path


def test_without_mpi4py_the_command_says_how_to_install_it(script, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    done = CliRunner().invoke(main, ["launch", "-n", "2", str(script)])
    assert done.exit_code == 1
    assert "several workers need mpi4py: pip install mpi4py mpich" in done.output


def test_without_mpiexec_the_command_says_how_to_install_it(script, monkeypatch, tmp_path):
    pytest.importorskip("mpi4py")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = CliRunner().invoke(main, ["launch", "-n", "2", str(script)])
    assert done.exit_code == 1
    assert f"found no mpiexec, neither beside {tmp_path / 'python'} nor on the PATH: pip install mpich" in done.output


def test_a_mistake_is_answered_before_a_worker_starts(script, tmp_path):
    done = CliRunner().invoke(main, ["launch", str(script), "-n", "2"])
    assert "expected -n COUNT before SCRIPT, e.g. framework launch -n 2 train.py" in done.output
    done = CliRunner().invoke(main, ["launch", "-n", "2", "--epochs", "5", str(script)])
    assert done.exit_code == 2
    assert re.search("No such option:? '?--epochs", done.output)  # older versions of click have no quotation marks
    done = CliRunner().invoke(main, ["launch", "-n", "2", "-m", "train"])
    assert done.exit_code == 2
    assert "expected a SCRIPT, e.g. framework launch -n 2 train.py; got a module, -m train\n" in done.output
    experiment = tmp_path / "points.toml"
    experiment.touch()
    done = CliRunner().invoke(main, ["launch", "-n", "2", str(experiment)])
    assert (done.exit_code, done.output.endswith("points.toml: framework train trains an experiment\n")) == (1, True)


def test_a_worker_cannot_launch_workers(script, monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "2")
    done = CliRunner().invoke(main, ["launch", "-n", "2", str(script)])
    assert done.exit_code == 1
    assert "this process is a worker itself" in done.output


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("threads", ["", "3"])
def test_workers_get_the_arguments_and_one_thread_unless_it_is_set(n, threads, script):
    pytest.importorskip("mpi4py")
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": threads} if threads else {}
    command = [sys.executable, "-m", "framework", "launch", "-n", str(n), str(script), "-n", "7", "--restarts", "x"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert done.stdout.splitlines() == [f"{threads or 1} ['-n', '7', '--restarts', 'x']"] * n


def test_open_mpi_may_start_more_workers_than_cores(tmp_path, monkeypatch):
    pytest.importorskip("mpi4py")
    mpiexec = tmp_path / "mpiexec"  # in place of that of Open MPI: it says what it was told
    mpiexec.write_text(
        '#!/bin/sh\necho "$PRTE_MCA_rmaps_default_mapping_policy $OMPI_MCA_rmaps_base_oversubscribe" > told\n'
    )
    mpiexec.chmod(0o755)
    (tmp_path / "script.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for given, told in {"": ":oversubscribe 1\n", ":nooversubscribe": ":nooversubscribe 1\n"}.items():
        if given:
            monkeypatch.setenv("PRTE_MCA_rmaps_default_mapping_policy", given)
        assert CliRunner().invoke(main, ["launch", "-n", "2", "script.py"]).exit_code == 0
        assert (tmp_path / "told").read_text() == told


@pytest.mark.share(1 / 10)
def test_lines_are_labelled_with_their_worker(tmp_path):
    pytest.importorskip("mpi4py")
    script = tmp_path / "script.py"
    script.write_text("import os\nfor _ in range(3):\n    os.write(1, f\"of {os.environ['PMI_RANK']}\\n\".encode())\n")
    command = [sys.executable, "-m", "framework", "launch", "-n", "3", "--label", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(done.stdout.splitlines()) == [f"[{rank}] of {rank}" for rank in range(3) for _ in range(3)]


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_without_a_restart(number, tmp_path):
    pytest.importorskip("mpi4py")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib, sys, time\npathlib.Path(sys.argv[1], str(os.getpid())).touch()\ntime.sleep(1000)\n"
    )
    folder = tmp_path / "pids"
    folder.mkdir()
    command = [sys.executable, "-m", "framework", "launch", "-n", "2", "--restarts", "3", str(script), str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for _ in range(500):
        if len([*folder.iterdir()]) == 2:
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "starting again" not in errors


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize(("first", "warnings"), [("", 1), ("trainer.replace(strategy=DataParallel()).fit(*given)", 0)])
def test_workers_that_train_by_themselves_are_warned_once(first, warnings, tmp_path):
    pytest.importorskip("mpi4py")
    (tmp_path / "script.py").write_text(
        "import os\n"
        "from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer\n"
        "from framework.training import DataParallel\n"
        "trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))\n"
        "given = Neuron(1), ([[1.0], [2.0]], [2.0, 4.0])\n"
        f"{first}\n"
        "for _ in range(2):\n"
        "    trainer.fit(*given)\n"
        "os.write(1, b'ended\\n')\n"
    )
    command = [sys.executable, "-m", "framework", "launch", "-n", "2", str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split() == ["ended"] * 2
    assert done.stderr.count("the trainer has no strategy, so each of the 2 workers of framework launch") == warnings
