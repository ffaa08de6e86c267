"""The commands of experiments, as people type them."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from experiment_pieces import command

import framework
from framework import Experiment, latest, load

FILE = """\
validation = 0.25

[data]
type = "CSV"
path = "points.csv"
target = "inside"

[model]
type = "Sequential"
layers = [{type = "Dense", units = 4, activation = "Tanh"}, {type = "Neuron", activation = "Sigmoid"}]

[trainer]
loss = "BinaryCrossEntropy"
optimizer = {type = "AdamOptimizer", learning_rate = 0.01}
epochs = 3
batch_size = 16
metrics = ["Accuracy"]
callbacks = [{type = "EarlyStopping", patience = 2}]
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with a table and an experiment."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(80, 2)).round(3)
    rows = [[*row, int(np.hypot(*row) < 1)] for row in x.tolist()]
    with Path("points.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y", "inside"], *rows])
    Path("points.toml").write_text(FILE)
    return tmp_path


def history(run):
    """The rows of a run without their times."""
    rows = [json.loads(line) for line in Path(run, "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def weights(run):
    return load(latest(Path(run) / "checkpoints")).model.parameters.vector


@pytest.mark.usefixtures("workplace")
def test_train_fills_the_folder_of_the_run():
    printed = command("train", "points.toml")
    assert printed.startswith("runs/points-1: 3 epochs")
    run = Path("runs/points-1")
    names = {"experiment.toml", "run.json", "history.jsonl", "checkpoints", "metrics.json"}
    assert {path.name for path in run.iterdir()} == names
    assert [row["epoch"] for row in history(run)] == [1, 2, 3]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["validation"]["loss"] == history(run)[-1]["val_loss"]
    about = json.loads((run / "run.json").read_text())
    assert about["versions"]["NumPy"] == np.__version__
    assert command("train", "points.toml").startswith("runs/points-2: ")


@pytest.mark.usefixtures("workplace")
def test_the_saved_file_reloads_equal_with_every_callback():
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=2")
    ran = Experiment.read("run/experiment.toml")
    given = Experiment.read("points.toml", ["trainer.epochs=2"])
    kinds = [type(callback).__name__ for callback in ran.trainer.callbacks]
    assert kinds == ["EarlyStopping", "JSONLog", "Checkpoint"]
    assert ran.trainer.callbacks[0] == given.trainer.callbacks[0]
    assert ran.trainer.replace(callbacks=[]) == given.trainer.replace(callbacks=[])
    assert (ran.model.to_json(), ran.validation) == (given.model.to_json(), given.validation)
    for name in ("again.toml", "again.json"):
        ran.save(name)
        assert Experiment.read(name) == ran
    command("train", "again.toml", "--out", "second")
    assert history("second") == history("run")


@pytest.mark.usefixtures("workplace")
def test_flags_mean_the_same_in_any_order():
    flags = [("--set", "trainer.epochs=1"), ("--set", "trainer.optimizer.learning_rate=0.5"), ("--out", "run")]
    printed = set()
    for place, order in enumerate(itertools.permutations(flags)):
        arguments = [text.replace("run", f"run{place}") for pair in order for text in pair]
        position = place % 3 * 2  # the file comes first, between the flags, or behind them
        command("train", *arguments[:position], "points.toml", *arguments[position:])
        printed.add(json.dumps([history(f"run{place}"), Path(f"run{place}/experiment.toml").read_text()]))
    assert len(printed) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epoch = 3", "points.toml, line 15: Trainer: unknown setting 'epoch'; did you mean 'epochs'?"),
        (
            "epochs = 3",
            'epochs = "3"',
            "points.toml, line 15: Trainer: setting 'epochs' must be a valid integer; got",
        ),
        (
            "validation = 0.25",
            "validaton = 0.25",
            "points.toml, line 1: Experiment: unknown setting 'validaton'; did",
        ),
        (
            "validation = 0.25",
            "validation = 25",
            "points.toml, line 1: Experiment: setting 'validation' must ",
        ),
        ('type = "CSV"', "", "points.toml, line 3: setting 'data' needs type = \"...\"; one of CSV, Parquet"),
        ("epochs = 3", "epochs = ", "points.toml, line 15: the text is not TOML: Invalid value"),
        (
            "patience = 2",
            "patience = 0",
            "points.toml, line 18: EarlyStopping: setting 'patience' must be ",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_line_and_leaves_nothing(workplace, old, new, message):
    Path("points.toml").write_text(FILE.replace(old, new))
    assert command("train", "points.toml", status=1).startswith(f"Error: {message}")
    assert {path.name for path in workplace.iterdir()} == {"points.csv", "points.toml"}


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trainer.epoch=3", "--set trainer.epoch=3: Trainer: unknown setting 'epoch'; did you mean 'epochs'?"),
        ("trainer.epochs=3.5", "--set trainer.epochs=3.5: Trainer: setting 'epochs' must be a valid integer; got 3.5"),
        (
            "trainer.epochs=abc",
            "--set trainer.epochs=abc: Trainer: setting 'epochs' must be a valid integer; got 'a",
        ),
        ("epochs", "--set epochs: write a setting and its value, e.g. --set trainer.epochs=20"),
    ],
)
def test_a_mistake_in_a_change_is_named(change, message):
    assert command("train", "points.toml", "--set", change, status=1).startswith(f"Error: {message}")


def test_paths_are_those_of_the_file_and_the_working_directory_stays(workplace, monkeypatch):
    command("train", "points.toml", "--out", "here")
    (workplace / "else" / "where").mkdir(parents=True)
    monkeypatch.chdir(workplace / "else" / "where")
    before = Path.cwd()
    command("train", "../../points.toml", "--out", "there")
    command("resume", "there", "--epochs", 1)
    command("resume", workplace / "here", "--epochs", 1)
    assert Path.cwd() == before
    assert history("there") == history(workplace / "here")
    assert [path.name for path in Path().iterdir()] == ["there"]


@pytest.mark.usefixtures("workplace")
def test_a_moved_folder_resumes():
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=2")
    command("train", "points.toml", "--out", "whole", "--set", "trainer.epochs=4")
    Path("moved").mkdir()
    Path("run").rename("moved/run")
    command("resume", "moved/run", "--epochs", 2)
    assert history("moved/run") == history("whole")
    assert np.array_equal(weights("moved/run"), weights("whole"))
    assert not Path("run").exists()


@pytest.mark.usefixtures("workplace")
def test_a_killed_run_resumes_bit_for_bit():
    Path("slow.py").write_text(
        "import time\n"
        "from framework import Callback\n"
        "class Slow(Callback):\n"
        "    observes = True\n"
        "    seconds: float = 0.0\n"
        "    def on_batch_end(self, run):\n"
        "        time.sleep(self.seconds)\n"
    )
    text = FILE.replace("callbacks = [", 'callbacks = [{type = "slow:Slow", seconds = 0.01}, ')
    Path("slow.toml").write_text(text.replace("patience = 2", "patience = 99").replace("epochs = 3", "epochs = 30"))
    environment = os.environ | {"PYTHONPATH": str(Path(framework.__file__).parents[1])}
    arguments = [sys.executable, "-m", "framework", "train", "slow.toml", "--import", "slow", "--out", "run"]
    process = subprocess.Popen([*arguments], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (Path("run/history.jsonl").exists() and len(Path("run/history.jsonl").read_text().splitlines()) >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not Path("run/metrics.json").exists()
    assert "give --import slow" in command("resume", "run", status=1)
    assert command("compare", "run").splitlines()[1].split()[2] == "False"
    cut = len(history("run"))
    command("resume", "run", "--import", "slow")
    fast = "trainer.callbacks.0.seconds=0.0"
    command("train", "slow.toml", "--import", "slow", "--out", "whole", "--set", fast)
    assert 3 <= cut < 30 == len(history("run"))
    assert history("run") == history("whole")
    assert np.array_equal(weights("run"), weights("whole"))
    assert "is complete; --epochs 5 trains five more" in command("resume", "run", "--import", "slow", status=1)
