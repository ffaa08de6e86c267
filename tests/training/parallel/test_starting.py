import sys
from pathlib import Path
from subprocess import run
from threading import Event
from types import SimpleNamespace

import pytest
from experiment_pieces import POINTS, write_points

from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
from framework.base.errors import UsageError
from framework.experiments.experiment import Experiment
from framework.experiments.sweeps.sweep import Sweep
from framework.training.parallel import mpi
from framework.training.parallel.mpi import RUN, workers
from framework.training.parallel.strategy import rank

STARTED = {
    "PMI_SIZE": "PMI_RANK",
    "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_SIZE": "MV2_COMM_WORLD_RANK",
    "SLURM_STEP_NUM_TASKS": "SLURM_PROCID",
}
"""What MPICH, Open MPI, MVAPICH and Slurm set."""


@pytest.fixture
def alone(monkeypatch):
    for name in (*STARTED, *STARTED.values()):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("size", STARTED)
def test_the_rank_is_that_of_the_launcher(monkeypatch, size):
    assert rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "5")  # as in the script of a job, whose step has one task
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setenv(size, "4")
    monkeypatch.setenv(STARTED[size], "3")
    assert rank() == 3


def test_each_launched_worker_has_its_rank_before_and_without_mpi4py(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(
        "import sys\nfrom framework.training import rank\n"
        "found, alone = rank(), 'mpi4py' not in sys.modules\n"
        "from mpi4py import MPI\n"
        "print(f'{found == MPI.COMM_WORLD.rank} {alone} {found}\\n', end='', flush=True)\n"
    )
    mpiexec = Path(sys.executable).with_name("mpiexec")
    done = run([mpiexec, "-n", "2", sys.executable, script], capture_output=True, text=True, check=True, timeout=100)
    assert sorted(done.stdout.splitlines()) == ["True True 0", "True True 1"]


@pytest.mark.usefixtures("alone")
def test_a_process_by_itself_is_one_worker():
    found = workers()
    assert (found.rank, found.size, found.leaves(3)) == (0, 1, range(3))
    assert found.broadcast(5) == 5


def test_several_processes_without_mpi4py_are_an_error_with_advice(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UsageError, match="one of 4, and training them together needs mpi4py: pip install mpi4py mpich"):
        workers()


@pytest.fixture
def launched(monkeypatch):
    """This process as worker 0 of ``framework launch``."""
    monkeypatch.setattr(mpi, "_created", {})
    monkeypatch.setattr(mpi, "_known_alone", Event())
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", RUN])
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", SimpleNamespace(COMM_WORLD=SimpleNamespace(rank=0)))
    monkeypatch.setenv("PMI_SIZE", "3")


@pytest.mark.usefixtures("launched")
def test_a_training_without_a_strategy_is_warned_of_once():
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.warns(UserWarning, match="no strategy, so each of the 3 workers of framework launch trains a model by"):
        trainer.fit(Neuron(1), ([[1.0]], [2.0]))
    trainer.fit(Neuron(1), ([[1.0]], [2.0]))


@pytest.mark.usefixtures("launched")
def test_a_sweep_without_a_strategy_is_not_warned_of(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    write_points(
        POINTS + '[trainer]\nloss = "BinaryCrossEntropy"\noptimizer = {type = "SGDOptimizer", learning_rate = 0.1}\n'
    )
    sweep = Sweep.create("seeds", Experiment.read("points.toml"), ["model.seed=1"])
    assert [row["state"] for row in sweep.run()] == ["complete"]
