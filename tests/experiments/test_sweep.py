"""Sweeps: many runs of one experiment, by processes of which any may be killed."""

import csv
import errno
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from experiment_pieces import POINTS, command, write_points
from matplotlib.figure import Figure

from framework import Callback, Checkpoint, DataError, Experiment, SettingsError, latest, load
from framework.base import UsageError
from framework.experiments import processes as claims
from framework.experiments.folder import RunFolder
from framework.experiments.processes import Claims, _machine
from framework.experiments.sweeps.sweep import Sweep
from framework.training import JSONLog

pytestmark = pytest.mark.share(1 / 3)

FILE = (
    POINTS
    + """
[trainer]
loss = "BinaryCrossEntropy"
optimizer = {type = "SGDOptimizer", learning_rate = 0.1, momentum = 0.9}
epochs = 4
batch_size = 16
metrics = ["Accuracy"]
"""
)

RATE = "trainer.optimizer.learning_rate"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A working directory with a table and an experiment."""
    monkeypatch.chdir(tmp_path)
    write_points(FILE)
    return tmp_path


def table(*arguments, status=0):
    """Run a sweep, and return its results by run."""
    printed = command("sweep", *arguments, "--json", status=status)
    return {row["run"]: row for row in json.loads(printed[printed.index("[\n") :])}


def state(run):
    """What changes if a run is trained again, or differs from another."""
    path = latest(Path(run) / "checkpoints")
    weights = load(path).model.parameters.vector.tobytes()
    rows = [json.loads(line) for line in Path(run, "history.jsonl").read_text().splitlines()]
    return hashlib.sha256(weights).hexdigest(), [{**row, "seconds": 0} for row in rows]


def written(run):
    """When the files of a run were written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(run).rglob("*") if path.is_file()}


def alone(settings):
    """The state of a run of these settings by itself; nothing of it comes from the sweep."""
    changes = [f"{name}={value}" for name, value in settings.items()]
    folder = RunFolder.create(tempfile.mkdtemp(dir="."), Experiment.read("points.toml", changes))
    folder.train()
    return state(folder.path)


def start(*arguments, stderr=subprocess.DEVNULL):
    """Start a sweep in a process group of its own."""
    command = [sys.executable, "-m", "framework", "sweep", *arguments]
    streams = {"stdout": subprocess.DEVNULL, "stderr": stderr, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **streams)


def members(process):
    """The processes of a group that are alive, its first one first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(after[2]) == process.pid and after[0] not in "ZX":
                found.append(int(entry.name))
    return sorted(found, key=lambda pid: (pid != process.pid, pid))


def end(process):
    """End every process of a group."""
    for pid in members(process):
        os.kill(pid, signal.SIGKILL)
    process.wait(timeout=30)


GRID = [(0.1, 2), (0.1, 3), (0.01, 2), (0.01, 3)]
"""Rates and units, in the order of the runs."""


def test_a_grid_trains_every_combination_as_a_run_by_itself():
    rows = table("points.toml", "--set", f"{RATE}=0.1,0.01", "--set", "model.layers.0.units=2,3")
    assert [row["run"] for row in rows.values()] == sorted(rows, key=lambda name: rows[name]["val_loss"])
    assert {name: (row[RATE], row["model.layers.0.units"]) for name, row in rows.items()} == {
        str(number): pair for number, pair in enumerate(GRID)
    }
    sweep = Sweep("sweeps/points")
    assert all(row["state"] == "complete" and row["epochs"] == 4 for row in rows.values())
    assert sweep.best.path.name == next(iter(rows))
    for name, (rate, units) in enumerate(GRID):
        assert state(f"sweeps/points/runs/{name}") == alone({RATE: rate, "model.layers.0.units": units})


def test_results_have_numbers_where_settings_are_numbers():
    sweep = Sweep.create(
        "rates", Experiment.read("points.toml"), [f"{RATE}=1e-2,1", "model.layers.0.activation=Tanh,ReLU"]
    )
    table = pd.DataFrame(sweep.results())
    assert table[RATE].tolist() == [0.01, 0.01, 1.0, 1.0]
    assert table[RATE].dtype == np.float64
    assert table["model.layers.0.activation"].tolist() == ["Tanh", "ReLU"] * 2
    printed = command("sweep", "points.toml", "--set", "model.seed=1234,true", "--set", f"{RATE}=1e-2", status=1)
    assert "--set model.seed=true" in printed
    printed = command("sweep", "points.toml", "--set", "model.seed=1234,5", "--set", "trainer.shuffle=true,false")
    assert {tuple(line.split()[1:3]) for line in printed.splitlines()[-4:]} == {
        ("1234", "true"),
        ("1234", "false"),
        ("5", "true"),
        ("5", "false"),
    }


def test_a_sweep_and_a_run_say_what_they_are():
    sweep = Sweep.create("rates", Experiment.read("points.toml"), [f"{RATE}=0.1,0.01"])
    assert repr(sweep) == f"Sweep('{Path.cwd()}/rates'): 0 of 2 runs finished, judged by val_loss"
    next(sweep.work())
    assert "1 of 2 runs finished" in repr(sweep)
    run = RunFolder("rates/runs/0")
    assert repr(run) == f"RunFolder('{Path.cwd()}/rates/runs/0'): 4 epochs, complete"
    shutil.rmtree("rates")
    assert ("0 of 2 runs finished" in repr(sweep), repr(run)[-22:]) == (True, "0 epochs, not complete")


def test_a_setting_with_one_value_is_set_for_all_runs():
    rows = table("points.toml", "--set", f"{RATE}=0.1,0.01", "--set", "trainer.epochs=2")
    assert [row["epochs"] for row in rows.values()] == [2, 2]
    assert "trainer.epochs" not in rows["0"]


def test_random_trials_are_drawn_from_ranges():
    drawn = ["--set", f"{RATE}=loguniform(1e-3, 1)", "--random", "3", "--seed", "5"]
    rows = table("points.toml", *drawn)
    assert len({row[RATE] for row in rows.values()}) == 3
    for name, row in rows.items():
        experiment = RunFolder(f"sweeps/points/runs/{name}").experiment
        assert 1e-3 <= experiment.trainer.optimizer.learning_rate == row[RATE] <= 1


def test_the_progress_of_a_run_does_not_disturb_the_lines_of_a_sweep(capfd):
    Path("points.toml").write_text(FILE + 'callbacks = ["ProgressBar"]\n')
    Sweep.create("quiet", Experiment.read("points.toml"), [f"{RATE}=0.1"]).run()
    assert capfd.readouterr().err == ""
    RunFolder.create("shown", Experiment.read("points.toml")).train()
    assert "epoch 4/4" in capfd.readouterr().err


def test_a_finished_run_is_not_repeated():
    flags = ("points.toml", "--set", f"{RATE}=0.1,0.01")
    first = table(*flags)
    before = written("sweeps/points")
    assert table(*flags) == table("sweeps/points") == first
    assert written("sweeps/points") == before


def test_one_run_of_an_array_of_jobs():
    flags = ("points.toml", "--set", f"{RATE}=0.1,0.01,0.001")
    rows = table(*flags, "--index", "1")
    assert {name: row["state"] for name, row in rows.items()} == {"0": "new", "1": "complete", "2": "new"}
    assert "the sweep has 3 runs, numbered from 0; got 3" in command("sweep", *flags, "--index", "3", status=1)
    assert "leave --workers out" in command("sweep", *flags, "--index", "2", "--workers", "2", status=1)


def test_a_run_that_diverges_has_failed_and_the_sweep_goes_to_the_next():
    flags = ("points.toml", "--set", "trainer.loss=HalfSquaredError", "--set", "model.layers.1.activation=Identity")
    rows = table(*flags, "--set", f"{RATE}=1e200,0.01")
    assert (rows["0"]["state"], rows["1"]["state"]) == ("failed", "complete")
    assert "not finite" in rows["0"]["error"]
    assert list(rows) == ["1", "0"]
    said = command("sweep", *flags, "--set", f"{RATE}=1e200", "--out", "wild", status=1)
    assert "wild/runs/0: failed: " in said


def test_mistakes_are_found_before_any_folder_is_made():
    for flags, message in [
        ([f"--set={RATE}=0.1,fast"], f"--set {RATE}=fast: SGDOptimizer: setting 'learning_rate' must be a number"),
        (["--set=optimizer.learning_rate=1,2"], "the experiment: Experiment: unknown setting 'optimizer'"),
        ([f"--set={RATE}=1,2", f"--set={RATE}=3,4"], "a setting is varied twice"),
        ([f"--set={RATE}=1,2", "--objective=val_acuracy"], "did you mean 'val_accuracy'?"),
        ([f"--set={RATE}=1,2", "--objective=val_accuracy", "--mode=min"], "val_accuracy is better when it is greater"),
        ([f"--set={RATE}=1,2", "--objective=seconds"], "--objective seconds: give --mode min or max"),
        ([f"--set={RATE}=loguniform(1e-4,1e-1"], "a range is written loguniform(LOW, HIGH); got loguniform(1e-4,1e-1"),
        (["--set=epochs=5"], "--set epochs=5: Experiment: unknown setting 'epochs'; did you mean 'trainer.epochs'? Se"),
        (["--set=epochs=5"], "A --set with one value sets it in all runs; to vary it, write --set SETTING=VALUE,VALUE"),
        (["--set=rate.learning_rate=5"], "--set rate.learning_rate=5: Experiment: unknown setting 'rate'"),
        (["--set=trainer.callbacks.0.patience=3"], "setting 'trainer.callbacks' is not in the file, so it has no item"),
        (["--set=trainer.callbacks.0.patience=3,4"], "'trainer.callbacks' is empty, so it has no item 0; give the who"),
        (["--set=model.layers[0].units=3,4"], "did you mean 'model.layers.0.units'?"),
        (["--set=trainer.optimizer.type=AdamOptimizer,RMSPropOptimizer"], "--set trainer.optimizer=AdamOptimizer doe"),
        (["--set=model.seed=1", "--set=model.seed=2,3"], "--set model.seed is given with one value and with several"),
        (["--set=model.seed=1,2", "--random=3"], "--random 3: the varied settings have 2 combinations; leave it out"),
        (["--random=3"], "--random 3: no setting varies; give --set SETTING=VALUES"),
        (["--set=data.target=gone"], "setting 'target' names the column 'gone', which "),
        (["--set=data.path=gone.csv,points.csv"], "CSV: no file has the path 'gone.csv'"),
        (["--folds=81"], "--folds 81: each part needs a row; "),
        (["--set=model.seed=1,2", "--out=points.csv"], "one that can be written; got 'points.csv': File exists"),
    ]:
        assert message in command("sweep", "points.toml", *flags, status=1)
    for given, message in [
        ({"random": 0}, "argument 'random' must be a whole number, 1 or more; got 0"),
        ({"optuna": 2.5}, "argument 'optuna' must be a whole number, 1 or more; got 2.5"),
        ({"folds": 1}, "argument 'folds' must be a whole number, 2 or more; got 1"),
        ({"seed": "a"}, "argument 'seed' must be a whole number, 0 or more; got 'a'"),
        ({"objective": "seconds", "mode": "maximum"}, "argument 'mode' must be 'min' or 'max'; got 'maximum'"),
    ]:
        with pytest.raises(SettingsError, match=message):
            Sweep.create("sweeps/points", Experiment.read("points.toml"), [f"{RATE}=uniform(0, 1)"], **given)
    assert not Path("sweeps").exists()


def test_the_objective_is_the_monitor_of_a_callback_and_its_mode_that_of_the_metric():
    command("sweep", "points.toml", "--set", f"{RATE}=0.1,0.01", "--objective", "accuracy", "--out", "a")
    assert {key: Sweep("a").settings[key] for key in ("objective", "mode")} == {"objective": "accuracy", "mode": "max"}
    Path("points.toml").write_text(FILE + 'callbacks = [{type = "EarlyStopping", monitor = "loss", patience = 9}]\n')
    command("sweep", "points.toml", "--set", f"{RATE}=0.1,0.01", "--out", "b")
    assert Sweep("b").objective == "loss"


def test_a_folder_of_another_sweep_is_refused_by_name():
    flags = ["--set", f"{RATE}=0.1,0.01"]
    command("sweep", "points.toml", *flags)
    before = written("sweeps/points")
    said = command("sweep", "points.toml", *flags, "--set", "trainer.epochs=5", "--seed", "1", status=1)
    assert (
        "the folder 'sweeps/points' has a sweep with other settings: --seed: 0 there, 1 now; trainer.epochs: 4 there, "
        "5 now. To continue that sweep: framework sweep sweeps/points; to start this one, give another folder with "
        "--out"
    ) in said
    said = command("sweep", "points.toml", "--random", "2", "--set", f"{RATE}=uniform(0, 1)", status=1)
    assert f"--set: {RATE}=0.1,0.01 there, {RATE}=uniform(0, 1) now; --random: none there, 2 now." in said
    assert f"--set: {RATE}=0.1,0.01 there, none now." in command("sweep", "points.toml", status=1)
    assert "--seed: the folder sweeps/points has the settings" in command(
        "sweep", "sweeps/points", "--seed", "1", status=1
    )
    assert written("sweeps/points") == before
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    said = command("sweep", "points.toml", *flags, "--out", "other", status=1)
    assert "the folder 'other' must be new or empty" in said
    assert [path.name for path in Path("other").iterdir()] == ["notes.txt"]
    with pytest.raises(SettingsError, match=r"it has no sweep\.toml"):
        Sweep(".")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("sweep.toml", "0.1,0.01", "0.5,0.1,0.01"),
        ("sweep.toml", "seed = 0", "seed = 1"),
        ("base.toml", "epochs = 4", "epochs = 5"),
    ],
)
def test_a_sweep_whose_settings_were_edited_is_refused(file, old, new):
    flags = ("points.toml", "--set", f"{RATE}=0.1,0.01")
    command("sweep", *flags)
    path = Path("sweeps/points", file)
    path.write_text(path.read_text().replace(old, new))
    for start in (flags, ["sweeps/points"]):
        said = command("sweep", *start, status=1)
        assert "'sweeps/points' is a sweep whose sweep.toml or base.toml was changed after it was made" in said


def test_the_data_of_a_sweep_may_be_moved():
    sweep = Sweep.create("rates", Experiment.read("points.toml").moved("."), [f"{RATE}=0.1,0.01"])
    Path("points.csv").rename("moved.csv")
    base = sweep.path / "base.toml"
    base.write_text(base.read_text().replace("points.csv", "moved.csv"))
    assert [row["state"] for row in Sweep("rates").run()] == ["complete", "complete"]


def test_a_sweep_is_not_continued_on_changed_data():
    flags = ("points.toml", "--set", "model.seed=1,2")
    command("sweep", *flags, "--index", "0")
    before, first = Path("points.csv").read_bytes(), written("sweeps/points")
    Path("points.csv").write_bytes(before + b"0.5,0.5,1\n")
    for arguments in (flags, ["sweeps/points"]):
        said = command("sweep", *arguments, status=1)
        assert "was changed after the sweep was made, so its runs could not be compared: " in said
        assert "points.csv; put the old rows back, or start another sweep in another folder with --out" in said
    Path("points.csv").unlink()
    assert "no file has the path" in command("sweep", "sweeps/points", status=1)
    assert written("sweeps/points") == first
    Path("points.csv").write_bytes(before)
    assert {row["state"] for row in table("sweeps/points").values()} == {"complete"}
    Path("points.csv").write_bytes(before + b"0.5,0.5,1\n")
    assert {row["state"] for row in table("sweeps/points").values()} == {"complete"}, "a finished sweep is shown"
    assert "was changed after the sweep was made" in command("sweep", *flags, status=1)


def test_data_that_changes_between_two_runs_ends_the_sweep():
    sweep = Sweep.create("seeds", Experiment.read("points.toml"), ["model.seed=1,2"])
    runs = sweep.work()
    next(runs)
    with Path("points.csv").open("a") as file:
        file.write("0.5,0.5,1\n")
    with pytest.raises(DataError, match="was changed after the sweep was made"):
        next(runs)
    assert [row["state"] for row in sweep.results()] == ["complete", "new"]


def test_the_data_of_every_trial_and_of_the_validation_is_compared():
    for name in ("second.csv", "valid.csv"):
        shutil.copy("points.csv", name)
    table = 'validation={type="CSV", path="valid.csv", target="inside"}'
    experiment = Experiment.read("points.toml", [table]).moved(".")
    paths = f"data.path={Path('points.csv').absolute()},{Path('second.csv').absolute()}"
    for number, name in enumerate(("points.csv", "second.csv", "valid.csv")):
        Sweep.create(str(number), experiment, [paths])
        with Path(name).open("a") as file:
            file.write("0.5,0.5,1\n")
        with pytest.raises(DataError, match=f"could not be compared: .*/{name}; put"):
            Sweep(str(number)).run()


HALVED = ("--set", f"{RATE}=loguniform(1e-3, 1)", "--random", "9", "--halving", "3", "--set", "trainer.epochs=9")
SAVERS = """callbacks = [
    {type = "EarlyStopping", patience = 20, restore_best = true},
    {type = "Checkpoint", folder = "checkpoints", every = 7},
]
"""


def test_halving_drops_a_run_that_is_not_in_the_best_third_of_those_before():
    rows = table("points.toml", *HALVED)
    last, figures = dict.fromkeys("012345678", 9), {1: [], 3: []}
    for name, epoch in itertools.product("012345678", figures):
        if last[name] == 9:
            figures[epoch].append(histories(name)[epoch - 1]["val_loss"])
            best = sorted(figures[epoch])[: max(1, len(figures[epoch]) // 3)]
            last[name] = 9 if figures[epoch][-1] in best else epoch
    assert {name: row["epochs"] for name, row in rows.items()} == last
    assert {name: row["state"] for name, row in rows.items()} == {
        name: "complete" if epochs == 9 else "dropped" for name, epochs in last.items()
    }
    assert {*last.values()} == {1, 3, 9}
    whole = min((name for name in last if last[name] == 9), key=lambda name: rows[name]["val_loss"])
    assert next(iter(rows)) == whole


def histories(name):
    return [json.loads(line) for line in Path("sweeps/points/runs", name, "history.jsonl").read_text().splitlines()]


def test_the_rungs_of_halving_leave_no_trace_in_the_run_that_wins():
    Path("points.toml").write_text(FILE + SAVERS)
    rows = table("points.toml", *HALVED, "--set", "trainer.optimizer.momentum=0.99")
    winner = next(iter(rows))
    assert rows[winner]["epoch"] < 9, "the best weights are from an earlier epoch and were put back"
    settings = {"trainer.epochs": 9, "trainer.optimizer.momentum": 0.99, RATE: rows[winner][RATE]}
    assert state(f"sweeps/points/runs/{winner}") == alone(settings)


class Begun(Callback):
    """Counts the epochs that begin, as one of the callbacks that come last."""

    writes = True

    def on_epoch_begin(self, run):
        memory = run.memory(self)
        memory["count"] = memory.get("count", 0) + 1


def test_the_rungs_of_halving_call_every_hook_of_an_epoch_once():
    experiment = Experiment.read("points.toml", ["trainer.epochs=9"])
    callbacks = [Begun(), Checkpoint(folder="checkpoints", every=10**6)]
    experiment = experiment.replace(trainer=experiment.trainer.replace(callbacks=callbacks))
    sweep = Sweep.create("halved", experiment, [f"{RATE}=0.3,0.1,0.03"], halving=3)
    sweep.run()
    run = load(sweep.best.newest)
    (memory,) = (each for name, each in run.memories.items() if "Begun" in name)
    assert (run.epoch, memory["count"]) == (9, 9)


@pytest.mark.share(1 / 10)
def test_halving_by_killed_processes_ends_every_run_and_repeats_none():
    Path("points.toml").write_text(FILE + SAVERS)
    deadline = time.monotonic() + 120
    finished = {}
    for begun in (3, 8):
        process = start("points.toml", *HALVED, "--out", "sweeps/points")
        while len([*Path("sweeps/points/runs").glob("[0-9]/checkpoints/step*")]) < begun:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        end(process)
        for path in Path("sweeps/points/runs").glob("[0-9]/metrics.json"):
            finished.setdefault(path.parent, written(path.parent))
    rows = table("points.toml", *HALVED)
    assert {row["state"] for row in rows.values()} == {"complete", "dropped"}
    assert all(row["epochs"] == 9 for row in rows.values() if row["state"] == "complete")
    assert all(written(path) == before for path, before in finished.items())
    settings = {"trainer.epochs": 9, RATE: next(iter(rows.values()))[RATE]}
    assert state(f"sweeps/points/runs/{next(iter(rows))}") == alone(settings)


@pytest.mark.parametrize(
    ("count", "epochs", "eta", "rungs"), [(9, 10, 3, {2, 6}), (4, 5, 2, {2, 4}), (5, 1, 2, set()), (2, 9, 3, set())]
)
def test_the_rungs_depend_on_the_trials_and_the_epochs(count, epochs, eta, rungs):
    experiment = Experiment.read("points.toml", [f"trainer.epochs={epochs}"])
    rows = Sweep.create("s", experiment, ["model.seed=int(1, 99)"], random=count, halving=eta).run()
    assert {row["epochs"] for row in rows if row["state"] == "dropped"} <= rungs
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("s/journal.log"))
    (study,) = optuna.get_all_study_names(storage)
    read = optuna.load_study(study_name=study, storage=storage)
    assert {*read.trials[0].intermediate_values} == rungs
    assert {trial.state.name for trial in read.trials} <= {"COMPLETE", "PRUNED"}


def test_the_first_fold_decides_whether_a_trial_goes_on():
    flags = ("--set", f"{RATE}=0.01,1e-9,0.5", "--set", "trainer.epochs=3")
    rows = table("points.toml", *flags, "--folds", "2", "--halving", "3", "--workers", "2")
    states = [row["state"] for row in rows.values()]
    assert ({*states}, states[0]) == ({"complete", "dropped"}, "complete")
    for name, row in rows.items():
        assert row["folds"] == (2 if row["state"] == "complete" else 0)
        assert Path(f"sweeps/points/runs/{name}-1").exists() == (row["state"] == "complete")


def test_a_trial_that_diverges_is_not_promoted():
    flags = ("points.toml", "--set", "trainer.loss=HalfSquaredError", "--set", "model.layers.1.activation=Identity")
    rows = table(*flags, "--set", f"{RATE}=1e200,0.01,0.02", "--halving", "2", "--set", "trainer.epochs=2")
    assert (rows["0"]["state"], min(row["state"] for row in rows.values())) == ("failed", "complete")


def test_folds_hold_out_every_row_once_and_average():
    rows = table("points.toml", "--set", f"{RATE}=0.1,0.01", "--folds", "4")
    sweep = Sweep("sweeps/points")
    assert [*sweep.trials] == [f"{trial}-{fold}" for trial in (0, 1) for fold in range(4)]
    parts = [RunFolder(f"sweeps/points/runs/0-{fold}").experiment.parts() for fold in range(4)]
    held = sorted(pair for _, (x, _) in parts for pair in zip(*(x[name].to_pylist() for name in "xy"), strict=True))
    with Path("points.csv").open() as file:
        assert held == sorted((float(row["x"]), float(row["y"])) for row in csv.DictReader(file))
    for name, row in rows.items():
        values = [each["val_loss"] for each in sweep.results() if each["run"].startswith(f"{name}-")]
        assert row["val_loss"] == pytest.approx(np.mean(values), rel=1e-12)
        assert row["deviation"] == pytest.approx(np.std(values, ddof=1), rel=1e-9)
        assert (row["folds"], row["state"]) == (4, "complete")
    assert "--set fold: --folds sets it" in command("sweep", "points.toml", "--folds=4", "--set=fold=0,1", status=1)


@pytest.mark.parametrize("changes", [["fold=4"], ["validation=0.3", "fold=0"], ["validation=0.9", "fold=0"]])
def test_a_fold_is_one_of_equal_parts(changes):
    with pytest.raises(SettingsError, match="setting 'fold' must be one of 0 to K - 1, where 'validation' is 1 / K"):
        Experiment.read("points.toml", changes)
    assert Experiment.read("points.toml", ["fold=3"]).fold == 3


@pytest.mark.share(1 / 10)
def test_a_cross_validation_of_killed_processes_has_the_same_folds():
    flags = ("points.toml", "--folds", "4", "--set", "trainer.epochs=60")
    deadline, draws = time.monotonic() + 120, random.Random(5)
    for begun in (1, 3):
        process = start(*flags, "--out", "killed")
        while len([*Path("killed/runs").glob("[0-9]*/checkpoints/step*")]) < begun:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(0.05 * draws.random())
        end(process)
    (row,) = table(*flags, "--out", "killed", "--workers", "2").values()
    (expected,) = table(*flags).values()
    assert row == expected
    assert (row["state"], row["folds"], row["epochs"]) == ("complete", 4, 60)
    for fold in range(4):
        assert state(f"killed/runs/0-{fold}") == state(f"sweeps/points/runs/0-{fold}")


@pytest.mark.share(1 / 20)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_forty_runs_survive_kills_of_the_parent_and_of_workers():
    flags = ("points.toml", "--set", "model.seed=int(0, 999)", "--set", f"{RATE}=0.1,0.03", "--random", "40")
    flags = (*flags, "--set", "trainer.epochs=6", "--workers", "2")
    draws, deadline = random.Random(3), time.monotonic() + 240
    finished, groups = {}, []
    kills = sorted(draws.sample(range(1, 36), 5))
    try:
        for kill in kills:
            groups.append(start(*flags))
            while len(finished) < kill:
                assert time.monotonic() < deadline
                time.sleep(0.005)
                for path in Path("sweeps/points/runs").glob("[0-9]*/metrics.json"):
                    finished.setdefault(path.parent, written(path.parent))
            time.sleep(draws.random() * 0.1)
            victims = members(groups[-1])
            os.kill(draws.choice(victims[:1] * 2 + victims), signal.SIGKILL)
            for group in groups[:-1]:  # what an earlier kill of a parent left
                end(group)
        groups.append(start(*flags))
        for group in groups[-2:]:
            group.wait(timeout=max(1.0, deadline - time.monotonic()))
    finally:
        for group in groups:
            end(group)
    sweep = Sweep("sweeps/points")
    assert [row["state"] for row in sweep.run()] == ["complete"] * 40
    assert all(written(path) == before for path, before in finished.items())
    assert len(finished) >= kills[-1]
    for row in sweep.results():
        settings = {"trainer.epochs": 6, **{name: row[name] for name in ("model.seed", RATE)}}
        assert state(f"sweeps/points/runs/{row['run']}") == alone(settings)


@pytest.mark.share(1 / 10)
def test_two_sweeps_on_one_folder_share_the_work():
    flags = ("points.toml", "--set", "model.seed=int(0, 999)", "--random", "20", "--set", "trainer.epochs=40")
    both = [start(*flags, stderr=subprocess.PIPE), start(*flags, stderr=subprocess.PIPE)]
    try:
        said = [process.communicate(timeout=120)[1].decode().count("sweeps/points/runs/") for process in both]
        assert [process.returncode for process in both] == [0, 0]
    finally:
        for process in both:
            end(process)
    sweep = Sweep("sweeps/points")
    assert sum(said) == len(sweep.trials)
    assert all(said)
    assert all(len(state(sweep.path / "runs" / name)[1]) == 40 for name in sweep.trials)


class Suspended(Callback):
    """What happens on other machines while this process is suspended in the third epoch of a run."""

    observes = True

    folder: str
    ends: str

    def on_epoch_end(self, run):
        if run.epoch == 3 and not list(Path(self.folder).glob("claims/*.[2-9]")):
            (own,) = Path(self.folder).glob("claims/*.1")
            path = Path(self.folder) / "runs" / own.stem
            own.write_text("another machine\n0")  # which is silent, as seen from there
            others = Sweep(self.folder)
            with others._claims.take(own.stem, "2") as claim:
                assert claim is not None
                if self.ends == "failed":
                    (path / "failed.json").write_text(json.dumps({"error": "no memory"}))
            if self.ends == "failed":
                others.retry()
            (path / "history.jsonl").write_text("theirs")
            Path(self.folder, "before").write_text(json.dumps(written(path)))


@pytest.mark.parametrize("ends", ["given back", "failed"])
def test_a_process_that_seemed_dead_writes_nothing_into_a_run_that_others_have_taken_over(ends, monkeypatch):
    experiment = Experiment.read("points.toml")
    callbacks = [Suspended(folder=str(Path("sweeps/points").absolute()), ends=ends)]
    experiment = experiment.replace(trainer=experiment.trainer.replace(callbacks=callbacks))
    sweep = Sweep.create("sweeps/points", experiment, ["model.seed=1"])
    monkeypatch.setattr(claims, "SILENCE", -1.0)
    monkeypatch.setattr(Sweep, "_waiting", once(Sweep._waiting))
    with pytest.warns(UserWarning, match=r"the run '.*/runs/0' is trained by another process: .* it leaves the run"):
        assert [*sweep.work()] == []
    assert written(sweep.path / "runs/0") == json.loads((sweep.path / "before").read_text())
    assert Path("sweeps/points/runs/0/history.jsonl").read_text() == "theirs"


def once(waiting):
    """Let a process look for runs once, and once more when it has claimed one."""
    calls = itertools.count()
    return lambda sweep, names=None: waiting(sweep, names) if next(calls) < 2 else []


def test_a_process_that_seemed_dead_keeps_a_run_that_another_one_has_begun(monkeypatch):
    create = RunFolder.create

    def beaten(path, experiment, command=()):
        create(Path(path).with_name("0"), experiment, command)
        return create(path, experiment, command)

    monkeypatch.setattr(RunFolder, "create", beaten)
    sweep = Sweep.create("sweeps/points", Experiment.read("points.toml"), ["model.seed=1"])
    assert [row["state"] for row in sweep.run()] == ["complete"]


def test_a_run_that_another_process_has_just_finished_is_not_repeated(monkeypatch):
    sweep, take = Sweep.create("seeds", Experiment.read("points.toml"), ["model.seed=1"]), Claims.take

    def beaten(claims, name, note=""):
        monkeypatch.setattr(Claims, "take", take)
        Sweep("seeds").run()
        return take(claims, name, note)

    monkeypatch.setattr(Claims, "take", beaten)
    assert [*sweep.work()] == []
    assert [row["state"] for row in sweep.results()] == ["complete"]


def test_a_sweep_with_a_strategy_is_refused_in_one_of_several_processes(monkeypatch):
    Path("points.toml").write_text(f'{FILE}strategy = "DataParallel"\n')
    sweep = Sweep.create("rates", Experiment.read("points.toml"), [f"{RATE}=0.1,0.01"])
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(UsageError, match="one of 2 that mpiexec or srun started"):
        sweep.run()
    monkeypatch.delenv("PMI_SIZE")
    assert [row["state"] for row in sweep.run()] == ["complete", "complete"]


def test_a_run_that_ends_every_process_has_failed():
    sweep = Sweep.create("wild", Experiment.read("points.toml"), ["model.seed=1,2"])
    (sweep.path / "claims").mkdir()
    for number in range(1, 6):
        (sweep.path / "claims" / f"1.{number}").write_text(f"{_machine()}\n0")
    assert [row["state"] for row in sweep.run()] == ["complete", "failed"]
    assert sweep.results()[1]["error"] == "5 processes ended while they trained it, after 0 epochs"
    sweep.retry()
    assert [row["state"] for row in sweep.results()] == ["complete", "begun"]
    for number in range(8, 13):  # the last one had made an epoch
        (sweep.path / "claims" / f"1.{number}").write_text(f"{_machine()}\n{number // 12}")
    assert [row["state"] for row in sweep.run()] == ["complete", "complete"]


def test_failed_runs_are_trained_again_when_the_cause_is_gone(monkeypatch):
    flags = ("points.toml", "--set", "model.seed=1,2")
    with monkeypatch.context() as patched:
        patched.setattr(Experiment, "parts", lambda _: 1 // 0)
        assert {row["error"][:17] for row in table(*flags, status=1).values()} == {"ZeroDivisionError"}
    assert {row["state"] for row in table(*flags, status=1).values()} == {"failed"}
    assert {row["state"] for row in table(*flags, "--retry").values()} == {"complete"}
    assert state("sweeps/points/runs/1") == alone({"model.seed": 2})


@pytest.mark.parametrize("callback", ["JSONLog", "Checkpoint"])
def test_a_full_disk_ends_the_process_and_no_run_has_failed(callback, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if callback == "JSONLog":
        monkeypatch.setattr(JSONLog, "_send", full)
    else:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)  # with which Checkpoint looks whether it can write
    said = command("sweep", "points.toml", "--set", "model.seed=1,2", status=1)
    assert "No space left on device" in said
    sweep = Sweep("sweeps/points")
    monkeypatch.undo()  # of the working directory too
    assert {row["state"] for row in sweep.results()} == {"begun", "new"}


def test_a_line_that_a_full_disk_has_cut_off_is_removed():
    flags = ("points.toml", "--set", "model.seed=1,2")
    command("sweep", *flags, "--index", "0")
    with Path("sweeps/points/journal.log").open("a") as file:
        file.write('{"op_code":6,"wor')
    assert {row["state"] for row in table(*flags).values()} == {"complete"}
    assert {row["state"] for row in table(*flags).values()} == {"complete"}


def test_a_kill_after_the_last_epoch_costs_nothing():
    stopping = 'callbacks = [{type = "EarlyStopping", patience = 2, restore_best = true}]\n'
    Path("points.toml").write_text(FILE.replace("epochs = 4", "epochs = 30") + stopping)
    flags = ("points.toml", "--set", f"{RATE}=1.0,0.001")
    table(*flags)
    before = [state(f"sweeps/points/runs/{name}") for name in "01"]
    assert len(before[0][1]) < 30, "EarlyStopping has ended it"
    assert len(before[1][1]) == 30
    for path in Path("sweeps/points/runs").glob("*/metrics.json"):
        path.unlink()
    journal = Path("sweeps/points/journal.log")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"state":1' not in line))
    assert {row["state"] for row in table(*flags).values()} == {"complete"}
    assert [state(f"sweeps/points/runs/{name}") for name in "01"] == before


def test_optuna_is_asked_for_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    said = command("sweep", "points.toml", "--set", f"{RATE}=0.1,0.2", status=1)
    assert "a sweep needs optuna: pip install optuna, or in a clone pip install -e '.[optuna]'" in said
    assert not Path("sweeps").exists()


def test_optuna_is_imported_only_when_a_sweep_runs():
    code = "import sys, framework.cli\ntry:\n    framework.cli.main()\nfinally:\n    print('optuna' in sys.modules)"
    command = [sys.executable, "-c", code, "sweep", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Optuna" in shown
    assert shown.endswith("False\n")


def test_the_objective_is_drawn_over_a_setting():
    table("points.toml", "--set", f"{RATE}=0.1,0.01,0.001", "--folds", "2")
    sweep = Sweep("sweeps/points")
    drawn = sweep.plot(axis=Figure().subplots()).lines[0].get_xydata()
    assert drawn.tolist() == [[row[RATE], row["val_loss"]] for row in sweep.ranked()]


def test_a_sweep_of_one_setting_has_nothing_to_draw():
    with pytest.raises(SettingsError, match="plot: no setting varies in this sweep; write setting="):
        Sweep.create("sweeps/alone", Experiment.read("points.toml"), []).plot()


def test_commands_for_a_run_name_the_runs_of_a_sweep():
    Sweep.create("sweeps/alone", Experiment.read("points.toml"), [])
    with pytest.raises(SettingsError, match=r"it is a sweep: give one of the runs in sweeps/alone/runs$"):
        RunFolder("sweeps/alone")


def test_several_runs_predict_their_mean():
    table("points.toml", "--set", "model.seed=0,1,2")
    runs = [f"sweeps/points/runs/{name}" for name in "012"]
    assert command("predict", *runs, "points.csv") == "wrote predictions.csv: 80 rows\n"
    for name, run in enumerate(runs):
        command("predict", run, "points.csv", "--out", f"{name}.csv")
    one, *others = [np.loadtxt(f"{name}.csv", delimiter=",", skiprows=1) for name in ("predictions", *"012")]
    assert not np.array_equal(others[0], others[1])
    np.testing.assert_allclose(one, np.mean(others, axis=0), rtol=1e-12)
    command("train", "points.toml", '--set=data.columns=["x"]', "--out", "narrow")
    said = command("predict", runs[0], "narrow", "points.csv", "--out", "both.csv", status=1)
    assert "the mean of several models needs the same columns in all of them" in said
    assert not Path("both.csv").exists()


def test_the_class_of_several_runs_is_that_of_the_mean_probability():
    classes = """trainer.preprocess={target = {inside = ["Classes"]}, columns = {"<number>" = ["Standardize"]}}"""
    table("points.toml", "--set", "model.seed=0,1,2", "--set", classes)
    runs = [f"sweeps/points/runs/{name}" for name in "012"]
    command("predict", *runs, "points.csv")
    found = []
    for name, run in enumerate(runs):
        command("predict", run, "points.csv", "--out", f"{name}.csv")
        found.append(np.genfromtxt(f"{name}.csv", delimiter=",", names=True, deletechars=""))
    both = np.genfromtxt("predictions.csv", delimiter=",", names=True, deletechars="")
    mean = np.mean([each["inside=1"] for each in found], axis=0)
    np.testing.assert_allclose(both["inside=1"], mean, rtol=1e-12)
    assert np.array_equal(both["inside"], mean > 0.5)


def work(folder):
    """What joblib calls in its processes."""
    return [row["state"] for row in Sweep(folder).run()]


@pytest.mark.share(1 / 10)
def test_joblib_shares_a_sweep():
    joblib = pytest.importorskip("joblib")
    Sweep.create("shared", Experiment.read("points.toml"), [f"{RATE}=0.1,0.01,0.001", "model.seed=1,2"])
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(work)("shared") for _ in range(2))
    assert found == [["complete"] * 6] * 2
