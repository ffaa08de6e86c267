"""The folder of a run: made whole or not at all, and the only place that its callbacks write into."""

import fcntl
import itertools
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from experiment_pieces import POINTS, command, write_points
from forked import in_child

from framework import CSVLog, Experiment, SettingsError, load_model
from framework.base.files import claim_folder
from framework.experiments.folder import RunFolder
from framework.experiments.sweeps.sweep import Sweep

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are killed")

FILE = f"""{POINTS}
[trainer]
loss = "BinaryCrossEntropy"
optimizer = {{type = "AdamOptimizer", learning_rate = 0.01}}
epochs = 2
"""


@pytest.fixture(autouse=True)
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_points(FILE)
    return Experiment.read("points.toml")


def die_at(number):
    """Kill this process at its call of this number that changes a file."""
    calls = itertools.count(1)

    def watched(function):
        def call(*given, **named):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return call

    for owner, names in ((os, ("fsync", "replace")), (Path, ("mkdir", "touch", "write_bytes", "unlink"))):
        for name in names:
            setattr(owner, name, watched(getattr(owner, name)))


@pytest.mark.share(1 / 3)
def test_a_folder_whose_maker_was_killed_at_any_write_is_that_of_a_run_or_can_be_taken_again(experiment):
    ends = []
    while 0 not in ends:
        count = len(ends)
        path = f"run{count}"

        def make(path=path, count=count):
            die_at(count + 1)
            RunFolder.create(path, experiment)

        ends.append(in_child(make))
        if Path(path, "experiment.toml").exists():
            assert RunFolder(path).experiment == experiment.replace(trainer=RunFolder(path).experiment.trainer)
            with pytest.raises(SettingsError, match="must be new or empty; framework resume continues a run"):
                RunFolder.create(path, experiment)
            command("resume", path)
        else:
            RunFolder.create(path, experiment)
        assert ends[-1] != 0 or not [*Path(path).glob(".*.new")]
    assert len(ends) > 8
    assert {*ends[:-1]} == {-signal.SIGKILL}


def test_a_folder_whose_maker_was_killed_at_any_write_is_that_of_a_sweep_or_can_be_taken_again(experiment):
    ends = []
    while 0 not in ends:
        count = len(ends)
        path = f"sweep{count}"

        def make(path=path, count=count):
            die_at(count + 1)
            Sweep.create(path, experiment, ["model.seed=1,2"])

        ends.append(in_child(make))
        assert len(Sweep.create(path, experiment, ["model.seed=1,2"]).trials) == 2
        assert [*map(os.fspath, Path().glob(".*"))] == []
    assert {*ends[:-1]} == {-signal.SIGKILL}


def test_a_process_waits_while_another_one_makes_the_same_sweep(experiment, monkeypatch):
    Path("sweep").mkdir()
    waits, flock = threading.Event(), fcntl.flock
    with ThreadPoolExecutor(1) as pool:
        with claim_folder(Path("sweep"), ""):
            monkeypatch.setattr(fcntl, "flock", lambda *arguments: (waits.set(), flock(*arguments)))
            made = pool.submit(Sweep.create, "sweep", experiment, ["model.seed=1,2"])
            assert waits.wait(60)
            Path("sweep/base.toml").write_text("half of it")
        assert len(made.result().trials) == 2


@pytest.mark.parametrize("limit", [0, 100, 600, 1200])
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_no_folder_that_cannot_be_taken_again(limit, there, experiment):
    if there:
        Path("run").mkdir()

    def make():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(SettingsError, match=r"(run\.json|experiment\.toml)' cannot be written: File too large"):
            RunFolder.create("run", experiment)

    assert in_child(make) == 0
    assert [*Path().glob("run/*")] == []
    assert Path("run").exists() is there
    command("train", "points.toml", "--out", "run")


@pytest.mark.parametrize("limit", [2000, 3000, 4000, 6000, 9000])
def test_a_run_that_met_a_full_disk_resumes_with_the_same_weights(limit):
    command("train", "points.toml", "--out", "whole")

    def train():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        command("train", "points.toml", "--out", "run")

    in_child(train)
    command(*(("resume", "run") if Path("run").exists() else ("train", "points.toml", "--out", "run")), status=None)
    ends = [load_model(RunFolder(run).newest).parameters.vector for run in ("run", "whole")]
    assert np.array_equal(*ends)


LOGS = [
    ("../thesis.txt", "lead to a place inside the folder of the run"),
    ("a/../../thesis.txt", "lead to a place inside the folder of the run"),
    ("{cwd}/thesis.txt", "lead to a place inside the folder of the run"),
    ("run.json", "be of its own"),
    ("./experiment.toml", "be of its own"),
    ("metrics.json", "be of its own"),
    ("baselines", "be of its own"),
    ("history.jsonl", "be of its own"),
    ("checkpoints", "be of its own"),
    ("checkpoints/step-000000001.safetensors", "be of its own"),
    ("experiment.toml/log", "be of its own"),
]


@pytest.mark.parametrize(("path", "expected"), LOGS)
@pytest.mark.parametrize("kind", ["CSVLog", "Checkpoint"])
def test_callbacks_write_into_the_folder_of_the_run_alone(kind, path, expected):
    Path("thesis.txt").write_text("years of work")
    path = path.format(cwd=Path.cwd())
    names = {*Path().iterdir()}
    setting = "path" if kind == "CSVLog" else "folder"
    if kind == "Checkpoint" and path.startswith("checkpoints"):
        return  # which is its default
    change = f'trainer.callbacks=[{{type="{kind}", {setting}="{path}"}}]'
    said = command("train", "points.toml", "--out", "run", "--set", change, status=1)
    assert f"{kind}: setting '{setting}' must {expected}, such as 'own/" in said
    assert f"; got '{path}'" in said
    assert {*Path().iterdir()} == names
    assert Path("thesis.txt").read_text() == "years of work"


def test_a_link_that_leads_out_of_the_folder_is_refused_when_the_run_resumes(experiment):
    trainer = experiment.trainer.replace(callbacks=[CSVLog(path="logs/log.csv")])
    folder = RunFolder.create("run", experiment.replace(model=experiment.model.copy(), trainer=trainer))
    Path("outside").mkdir()
    Path("outside/log.csv").write_text("years of work")
    Path("run/logs").symlink_to(Path("outside").absolute())
    with pytest.raises(SettingsError, match="CSVLog: setting 'path' must lead to a place inside the folder of the run"):
        folder.train()
    assert Path("outside/log.csv").read_text() == "years of work"


def test_a_sweep_whose_logs_lead_out_of_its_runs_is_refused_before_it_has_a_folder():
    change = 'trainer.callbacks=[{type="CSVLog", path="../../log.csv"}]'
    said = command("sweep", "points.toml", "--out", "all", "--set", change, "--set", "model.seed=1,2", status=1)
    assert "CSVLog: setting 'path' must lead to a place inside the folder of the run" in said
    assert not Path("all").exists()
