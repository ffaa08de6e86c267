"""A run that was killed resumes on any number of workers, and ends with the bits of one that was not."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from restarting import SCRIPT

from framework import describe, latest, load_model

pytest.importorskip("mpi4py")
EXAMPLE = Path(__file__).parents[3] / "examples" / "cluster" / "train.py"


def command(n, *arguments):
    return [sys.executable, "-m", "framework", "launch", "-n", str(n), *map(str, arguments)]


def launched(n, *arguments, **options):
    return subprocess.run(command(n, *arguments), capture_output=True, text=True, timeout=300, check=False, **options)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The digest of a run in one process that nothing interrupts."""
    done = launched(1, SCRIPT, tmp_path_factory.mktemp("straight"))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a run on four workers of which one was killed in the second epoch."""
    folder = tmp_path_factory.mktemp("killed")
    assert launched(4, SCRIPT, folder, 11).returncode != 0
    assert "1 of 4 epochs, 9 steps" in describe(latest(folder / "checkpoints"))
    return folder


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("n", [1, 3, 4])
def test_a_killed_run_resumes_on_any_number_of_workers(n, straight, killed, tmp_path):
    folder = shutil.copytree(killed, tmp_path / "copy")
    done = launched(n, SCRIPT, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [straight] * n


@pytest.mark.share(1 / 10)
def test_a_killed_run_is_started_again(straight, tmp_path):
    done = launched(2, "--restarts", 3, SCRIPT, tmp_path, 11)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == [straight] * 2


@pytest.mark.share(1 / 10)
def test_the_script_of_the_guide_gives_the_same_weights_on_two_workers(tmp_path):
    made = []
    for n in (1, 2):
        folder = tmp_path / str(n)
        folder.mkdir()
        for _ in range(2):  # the second one finds the run finished
            done = launched(n, EXAMPLE, 5, cwd=folder)
            assert done.returncode == 0, done.stderr
        made.append(load_model(latest(folder / "checkpoints")).parameters.vector)
    np.testing.assert_array_equal(*made)


@pytest.mark.share(1 / 10)
def test_a_signal_lets_the_workers_save(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "sys.path.append(sys.argv[1])\n"
        "from framework import Checkpoint, on\n"
        "from parallel_pieces import CLASSES, X, network, trainer\n"
        "@on('batch_end')\n"
        "def tell(run):\n"
        "    if run.step == 5:\n"
        "        open('begun', 'w').close()\n"
        "trainer(epochs=10**6, callbacks=[tell, Checkpoint(folder='runs', every=10**6)]).fit(network(), (X, CLASSES))\n"
    )
    process = subprocess.Popen(command(2, script, SCRIPT.parent), stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for _ in range(500):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    assert latest(tmp_path / "runs") is not None
