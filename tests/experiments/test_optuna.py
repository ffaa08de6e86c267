"""Sweeps whose trials Optuna suggests."""

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from experiment_pieces import command

from framework import Experiment, Sweep
from framework.experiments.sweeps.space import suggested, varied

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


def test_suggestions_come_near_the_smallest_figure():
    space = [varied("a=uniform(-4, 4)"), varied("b=int(1, 9)"), varied("c=x,y")]
    trials = []
    for _ in range(60):
        trial = suggested(space, trials, "min", 0)
        a, b, c = (change[2:] for change in trial)
        trials.append((trial, (float(a) - 1) ** 2 + (int(b) - 4) ** 2 + (c == "x")))
    figures = [figure for _, figure in trials]
    assert sum(figures[30:]) < 0.5 * sum(figures[:30])
    assert len({trial for trial, _ in trials}) == 60
    assert all(-4 <= float(trial[0][2:]) <= 4 and 1 <= int(trial[1][2:]) <= 9 for trial, _ in trials)


@pytest.mark.parametrize(("mode", "better"), [("min", 0.0), ("max", 1.0)])
def test_the_mode_says_which_figures_are_better(mode, better):
    space = [varied("a=uniform(0, 1)")]
    trials = []
    for _ in range(40):
        trial = suggested(space, trials, mode, 0)
        trials.append((trial, float(trial[0][2:])))
    assert sum(abs(figure - better) for _, figure in trials[10:]) < 0.3 * 30, "0.5 * 30 without any knowledge"


def test_no_trial_comes_twice_until_all_have_come():
    space, trials = [varied("a=x,y"), varied("b=int(1, 3)")], []
    for number in range(6):
        trials.append((suggested(space, trials, "min", 0), [None, math.inf, 1.0][number % 3]))
    assert len({trial for trial, _ in trials}) == 6


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
    while len([*Path("sweeps/line").glob("trials/*.json")]) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait(timeout=30)
    command(*flags)
    assert [row["state"] for row in Sweep("sweeps/line").results()] == ["complete"] * 8
    command(*flags, "--out", "whole")
    assert [row[RATE] for row in Sweep("whole").results()] == [row[RATE] for row in Sweep("sweeps/line").results()]


def test_what_does_not_go_with_optuna_is_refused():
    for flags in (["--set", RATES, "--random", "3"], ["--set", RATES, "--halving", "2"], []):
        said = command("sweep", "line.toml", *flags, "--optuna", "3", status=1)
        assert "--optuna N needs varied settings, and neither --random nor --halving" in said
    said = command("sweep", "line.toml", "--set", f"{RATE}=0.1,0.2", "--optuna", "3", status=1)
    assert "--optuna 3: the varied settings have 2 combinations" in said
