import sys
from threading import Event
from types import SimpleNamespace

import pytest
from experiment_pieces import POINTS, write_points

from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer
from framework.errors import UsageError
from framework.experiments.experiment import Experiment
from framework.experiments.sweeps.sweep import Sweep
from framework.parallel import starting
from framework.parallel.starting import RUN, workers


def test_a_process_by_itself_is_one_worker(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
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
    monkeypatch.setattr(starting, "_created", {})
    monkeypatch.setattr(starting, "_known_alone", Event())
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
