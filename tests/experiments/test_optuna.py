"""Sweeps whose trials Optuna suggests."""

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment_pieces import command

from framework import Experiment
from framework.experiments import Sweep
from framework.experiments.sweeps.space import changes_of, distributions_of, parse_varied, suggestions

pytestmark = pytest.mark.share(1 / 3)

optuna = pytest.importorskip("optuna")

FILE = """\
data = {type = "CSV", path = "line.csv", target = "y"}
model = {type = "Neuron"}

[trainer]
loss = "HalfSquaredError"
optimizer = {type = "SGDOptimizer", learning_rate = 0.1}
epochs = 5
"""
RATE = "trainer.optimizer.learning_rate"
RATES = f"{RATE}=loguniform(1e-4, 1)"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A working directory with a table and an experiment."""
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text("x,y\n0,1\n1,3\n2,5\n3,7\n")
    Path("line.toml").write_text(FILE)


def tell(space, before, mode, figure):
    """Add the next suggestion to the trials before, with its figure; None is one in training."""
    params = next(suggestions(space, before, "TPESampler", mode, 0))
    state = optuna.trial.TrialState.RUNNING if figure(params) is None else optuna.trial.TrialState.COMPLETE
    distributions = distributions_of(space)
    trial = optuna.trial.create_trial(
        state=state, value=figure(params), params=params, distributions=distributions, user_attrs={"name": "0"}
    )
    before.append(trial)
    return params


def test_suggestions_come_near_the_smallest_figure():
    space = [parse_varied("a=uniform(-4, 4)"), parse_varied("b=int(1, 9)"), parse_varied("c=x,y")]
    before = []
    for _ in range(60):
        tell(space, before, "min", lambda at: (at["a"] - 1) ** 2 + (at["b"] - 4) ** 2 + (at["c"] == "x"))
    figures = [trial.value for trial in before]
    assert sum(figures[30:]) < 0.5 * sum(figures[:30])
    assert len({changes_of(space, trial.params) for trial in before}) == 60
    assert all(-4 <= trial.params["a"] <= 4 and trial.params["b"] in range(1, 10) for trial in before)


@pytest.mark.parametrize(("mode", "better"), [("min", 0.0), ("max", 1.0)])
def test_the_mode_says_which_figures_are_better(mode, better):
    space, before = [parse_varied("a=uniform(0, 1)")], []
    for _ in range(40):
        tell(space, before, mode, lambda at: at["a"])
    assert sum(abs(trial.value - better) for trial in before[10:]) < 0.3 * 30, "0.5 * 30 without any knowledge"


def test_no_trial_comes_twice_until_all_have_come():
    space, before = [parse_varied("a=x,y"), parse_varied("b=int(1, 3)")], []
    for number in range(6):
        tell(space, before, "min", lambda _, number=number: [None, math.inf, 1.0][number % 3])
    assert len({changes_of(space, trial.params) for trial in before}) == 6


@pytest.mark.share(1 / 3)
def test_a_sweep_by_optuna_is_continued_with_the_same_trials():
    command("sweep", "line.toml", "--set", RATES, "--optuna", "12", "--out", "whole")
    sweep = Sweep.create("parts", Experiment.read("line.toml").moved("."), [RATES], optuna=12)
    for number, _ in enumerate(sweep.work()):
        if number == 6:
            break
    assert [row["state"] for row in sweep.results()].count("new") == 5
    assert [*sweep.trials.values()].count(()) == 5
    rows = Sweep("parts").run()
    assert {row["state"] for row in rows} == {"complete"}
    assert () not in sweep.trials.values()
    whole = Sweep("whole").results()
    assert [(row[RATE], row["loss"]) for row in rows] == [(row[RATE], row["loss"]) for row in whole]
    assert Sweep("parts").best.experiment.trainer.optimizer.learning_rate > 0.01


@pytest.mark.share(1 / 10)
def test_folds_share_a_suggestion_and_two_processes_share_the_work():
    Path("line.csv").write_text("x,y\n" + "\n".join(f"{x},{2 * x + 1}" for x in range(8)))
    flags = ["sweep", "line.toml", "--set", f"{RATE}=loguniform(1e-4, 0.01)", "--optuna", "12", "--folds", "2"]
    both = [subprocess.Popen([sys.executable, "-m", "framework", *flags]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    rows = Sweep("sweeps/line").results()
    assert [row[RATE] for row in rows[::2]] == [row[RATE] for row in rows[1::2]]
    assert len({row[RATE] for row in rows}) == 12
    assert {row["state"] for row in rows} == {"complete"}


@pytest.mark.share(1 / 10)
def test_a_killed_process_leaves_no_trial_behind():
    flags = ["sweep", "line.toml", "--set", RATES, "--optuna", "8", "--set", "trainer.epochs=60"]
    process = subprocess.Popen([sys.executable, "-m", "framework", *flags])
    deadline = time.monotonic() + 60
    while len([*Path("sweeps/line").glob("runs/*")]) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait(timeout=30)
    command(*flags)
    assert [row["state"] for row in Sweep("sweeps/line").results()] == ["complete"] * 8
    command(*flags, "--out", "whole")
    assert [row[RATE] for row in Sweep("whole").results()] == [row[RATE] for row in Sweep("sweeps/line").results()]


def test_what_does_not_go_with_optuna_is_refused():
    for flags in (["--set", RATES, "--random", "3"], []):
        said = command("sweep", "line.toml", *flags, "--optuna", "3", status=1)
        assert "--optuna N needs varied settings, and no --random" in said
    said = command("sweep", "line.toml", "--set", f"{RATE}=0.1,0.2", "--optuna", "3", status=1)
    assert "--optuna 3: the varied settings have 2 combinations" in said


@pytest.mark.parametrize(("mode", "worst"), [("min", math.inf), ("max", -math.inf)])
def test_a_failed_run_counts_as_the_worst(mode, worst, monkeypatch):
    experiment = Experiment.read("line.toml").moved(".")
    sweep = Sweep.create("failing", experiment, [RATES], optuna=2, objective="seconds", mode=mode)
    monkeypatch.setattr(Experiment, "parts", lambda _: 1 // 0)
    assert {row["state"] for row in sweep.run()} == {"failed"}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("failing/journal.log"))
    assert [trial.value for trial in optuna.load_study(study_name=None, storage=storage).trials] == [worst] * 2


def test_halving_drops_suggestions_and_optuna_reads_the_study():
    command("sweep", "line.toml", "--set", RATES, "--optuna", "15", "--halving", "2", "--set", "trainer.epochs=4")
    rows = Sweep("sweeps/line").results()
    assert {row["state"] for row in rows} == {"complete", "dropped"}
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("sweeps/line/journal.log"))
    study = optuna.load_study(study_name=None, storage=storage)
    states = {"complete": "COMPLETE", "dropped": "PRUNED"}
    assert [(trial.state.name, trial.params[RATE]) for trial in study.trials] == [
        (states[row["state"]], pytest.approx(row[RATE], rel=1e-5)) for row in rows
    ]
    assert study.best_value == min(row["loss"] for row in rows if row["state"] == "complete")
