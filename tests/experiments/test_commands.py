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
import pandas as pd
import pytest
from experiment_pieces import POINTS, command, write_points

import framework
from framework import (
    Checkpoint,
    Experiment,
    HalfSquaredError,
    Neuron,
    Preprocess,
    SGDOptimizer,
    Standardize,
    Trainer,
    latest,
    load,
    save,
)
from framework.base.files import claim_folder

FILE = (
    POINTS
    + """
[trainer]
loss = "BinaryCrossEntropy"
optimizer = {type = "AdamOptimizer", learning_rate = 0.01}
epochs = 3
batch_size = 16
metrics = ["Accuracy"]
callbacks = [{type = "EarlyStopping", patience = 2}]
"""
)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A working directory with a table and an experiment."""
    monkeypatch.chdir(tmp_path)
    write_points(FILE)
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
    figures = printed.split("\n", 1)[1]
    assert figures.startswith("on the held-out rows:\nloss ")
    assert command("evaluate", "runs/points-1") == figures
    assert "held-out" not in command("evaluate", "runs/points-1", "--data", "points.csv")
    run = Path("runs/points-1")
    names = {"experiment.toml", "run.json", "history.jsonl", "checkpoints", "baselines", "metrics.json"}
    assert {path.name for path in run.iterdir()} == names
    assert [row["epoch"] for row in history(run)] == [1, 2, 3]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["validation"]["loss"] == history(run)[-1]["val_loss"]
    about = json.loads((run / "run.json").read_text())
    assert about["versions"]["NumPy"] == np.__version__
    assert command("train", "points.toml").startswith("runs/points-2: ")


@pytest.mark.usefixtures("workplace")
def test_a_run_saves_by_the_clock_and_at_its_end_whether_new_wrote_it_or_not():
    command("train", "points.toml", "--out", "added")
    command("new", "points.csv", "--target", "inside", "--out", "new.toml")
    command("train", "new.toml", "--out", "written", "--set", "trainer.epochs=3")
    for run in ("added", "written"):
        callbacks = Experiment.read(f"{run}/experiment.toml").trainer.callbacks
        assert Checkpoint(folder="checkpoints", every="5 seconds") in callbacks
        (file,) = Path(run, "checkpoints").iterdir()
        assert load(file).epoch == 3
    command(
        "train", "new.toml", "--out", "each", "--set", "trainer.callbacks.3.every=epoch", "--set", "trainer.epochs=3"
    )
    assert len([*Path("each", "checkpoints").iterdir()]) == 2


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("validation", [[], ["--set", "validation=0.5"]])
def test_a_run_that_the_clock_has_stopped_is_continued_by_resume(validation):
    Path("points.toml").write_text(FILE if validation else FILE.replace("validation = 0.25\n", "", 1))
    without = ["--set", "trainer.callbacks=[]", *validation]
    said = command("train", "points.toml", "--out", "run", "--minutes", "1e-9", *without)
    assert said.startswith("run: 0 epochs (--minutes 1e-09 is over; framework resume continues)\non the ")
    assert json.loads(command("compare", "run", "--json"))[0]["complete"] is False
    assert "complete" not in command("show", "run").splitlines()[-1]
    assert "complete" not in command("watch", "run", "--once")
    command("resume", "run")
    assert json.loads(command("compare", "run", "--json"))[0]["complete"] is True
    command("train", "points.toml", "--out", "whole", *without)
    assert weights("run").tobytes() == weights("whole").tobytes()
    assert history("run") == history("whole")
    assert "is complete" in command("resume", "run", status=1)


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
def test_export_says_that_weights_for_pytorch_leave_out_the_preprocess():
    recipe = Preprocess(columns={"*": [Standardize()]})
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), preprocess=recipe)
    table = pd.DataFrame({"a": [1.0, 2.0], "y": [3.0, 5.0]})
    save(trainer.fit(Neuron(), (table, "y")), "own.safetensors")
    said = command("export", "own.safetensors", "weights.safetensors")
    assert said == "wrote weights.safetensors; it takes numbers that the Preprocess has transformed\n"
    assert command("export", "own.safetensors", "network.py") == "wrote network.py\n"
    assert command("export", "own.safetensors", "model.onnx") == "wrote model.onnx\n"


@pytest.mark.usefixtures("workplace")
def test_export_writes_the_model_in_the_format_of_the_ending():
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=1")
    checkpoint = latest("run/checkpoints")
    assert command("export", "run", "model.onnx", "--dtype", "float32") == "wrote model.onnx\n"
    assert command("export", checkpoint, "network.py") == "wrote network.py\n"
    assert command("export", "run", "weights.safetensors") == "wrote weights.safetensors\n"
    assert "model.onnx exists already; give OUT another file, or --overwrite" in command(
        "export", "run", "model.onnx", status=1
    )
    assert command("export", "run", "model.onnx", "--overwrite") == "wrote model.onnx\n"
    for arguments, message in [
        (("run", "model.txt"), "OUT must end in .onnx, .py or .safetensors; got model.txt"),
        (("run", "other.py", "--dtype", "float32"), "--dtype is for a file that ends in .onnx; got other.py"),
        (("nothing", "other.py"), "'nothing' cannot be loaded: No such file or directory; give the path of a check"),
        (("run", "other.onnx", "--shape", "3"), "argument 'shape' must fit (2,); got (3,)"),
    ]:
        assert message in command("export", *arguments, status=1)
    assert "expected sizes with commas between them, e.g. 28,28; got 'a'" in command(
        "export", "run", "other.onnx", "--shape", "a", status=2
    )


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


@pytest.mark.usefixtures("workplace")
def test_the_file_of_the_guide_trains_and_its_error_names_the_line():
    page = (Path(framework.__file__).parents[1] / "docs" / "experiments.md").read_text(encoding="utf-8")
    text = page.partition("```toml\n")[2].partition("```")[0]
    rows = [[n % 7, "Oslo" if n % 3 else None, "yes" if n % 7 > 3 else "no"] for n in range(60)]
    pd.DataFrame(rows, columns=["delay", "city", "late"]).to_csv("flights.csv", index=False)
    Path("flights.toml").write_text(text)
    assert "accuracy" in command("train", "flights.toml")
    Path("flights.toml").write_text(text.replace("epochs = ", "epoch = "))
    said = command("train", "flights.toml", status=None).replace("\n", " ")
    assert page.replace("\n  ", " ").partition("names the line: `")[2].partition("`")[0] in said


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epoch = 3", "points.toml, line 15: Trainer: unknown setting 'epoch'; did you mean 'epochs'?"),
        (
            "epochs = 3",
            'epochs = "3"',
            "points.toml, line 15: Trainer: setting 'epochs' must be an integer; got",
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
        (
            "batch_size = 16",
            'preprocess.columns.x = ["Standardize"]\npreprocess.columns.y = 3',
            "points.toml, line 17: Preprocess: setting 'columns' must be an array for each name; got 3",
        ),
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
        ("trainer.epochs=3.5", "--set trainer.epochs=3.5: Trainer: setting 'epochs' must be an integer; got 3.5"),
        (
            "trainer.epochs=abc",
            "--set trainer.epochs=abc: Trainer: setting 'epochs' must be an integer; got 'a",
        ),
        (
            "trainer.optimizer.learning_rate=abc",
            "--set trainer.optimizer.learning_rate=abc: AdamOptimizer: setting 'learning_rate' must be a number or ",
        ),
        (
            "trainer.metrics=Accuracy",
            "--set trainer.metrics=Accuracy: Trainer: setting 'metrics' must be an array: write metrics = [",
        ),
        (
            'trainer.preprocess.columns.my x=["Drop"]',
            '--set trainer.preprocess.columns.my x=["Drop"]: a name with other characters than letters, digits, _ and',
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


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("workplace")
def test_a_killed_run_resumes_bit_for_bit(monkeypatch):
    Path("slow.py").write_text(
        "import time\n"
        "from framework import Callback\n"
        "class Slow(Callback):\n"
        "    observes = True\n"
        "    seconds: float = 0.0\n"
        "    def on_batch_end(self, run):\n"
        "        time.sleep(self.seconds)\n"
    )
    added = '{type = "slow:Slow", seconds = 0.01}, {type = "Checkpoint", folder = "checkpoints"}, '
    text = FILE.replace("callbacks = [", f"callbacks = [{added}")
    Path("slow.toml").write_text(text.replace("patience = 2", "patience = 99").replace("epochs = 3", "epochs = 15"))
    environment = os.environ | {"PYTHONPATH": str(Path(framework.__file__).parents[1])}
    arguments = [sys.executable, "-m", "framework", "train", "slow.toml", "--import", "slow", "--out", "run"]
    process = subprocess.Popen([*arguments], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (Path("run/history.jsonl").exists() and len(Path("run/history.jsonl").read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not Path("run/metrics.json").exists()
    assert "give --import slow" in command("resume", "run", status=1)
    assert command("compare", "run").splitlines()[1].split()[2] == "no"
    cut = len(history("run"))
    monkeypatch.setattr("framework.experiments.tables.IN_MEMORY", 0)  # from here on the table is read in blocks
    command("resume", "run", "--import", "slow")
    fast = "trainer.callbacks.0.seconds=0.0"
    command("train", "slow.toml", "--import", "slow", "--out", "whole", "--set", fast)
    assert 2 <= cut < 15 == len(history("run"))
    assert history("run") == history("whole")
    assert np.array_equal(weights("run"), weights("whole"))
    assert "is complete; --epochs 5 trains five more" in command("resume", "run", "--import", "slow", status=1)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_continue(workplace, number, status):
    module = f"stop{int(number)}"
    (workplace / f"{module}.py").write_text(
        "import os\n"
        "from framework import Callback\n"
        "class Stop(Callback):\n"
        "    observes = True\n"
        "    def on_batch_end(self, run):\n"
        "        if run.step == 4:\n"
        f"            os.kill(os.getpid(), {int(number)})\n"
    )
    (workplace / "stop.toml").write_text(FILE.replace("callbacks = [", f'callbacks = ["{module}:Stop", '))
    printed = command("train", "stop.toml", "--import", module, "--out", "a run", status=status)
    assert printed == "interrupted; to continue: framework resume 'a run'\n"
    assert len(history("a run")) < 3
    command("resume", "a run", "--import", module)
    command("train", "points.toml", "--out", "whole")
    assert history("a run") == history("whole")
    assert np.array_equal(weights("a run"), weights("whole"))
    vary = ("--import", module, "--set", "trainer.seed=1,2", "--out", "seeds")
    assert command("sweep", "stop.toml", *vary, status=status) == "interrupted; to continue: framework sweep seeds\n"


@pytest.mark.usefixtures("workplace")
def test_on_a_terminal_one_training_shows_a_bar_and_a_sweep_none(monkeypatch):
    monkeypatch.setattr("framework.training.callbacks.progress._is_terminal", lambda: True)
    monkeypatch.setattr("framework.training.callbacks.progress.DELAY", 0.0)
    assert "| epoch 3/3 [" in command("train", "points.toml", "--out", "run")
    assert "| epoch 4/4 [" in command("resume", "run", "--epochs", 1)
    assert "| epoch" not in command("sweep", "points.toml", "--set", "trainer.seed=1,2")
    assert "| epoch" not in command("train", "points.toml", "--out", "quiet", "--set", "trainer.progress=false")


@pytest.mark.usefixtures("workplace")
def test_one_of_several_workers_makes_no_folder(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    said = command("train", "points.toml", "--set", "trainer.strategy=DataParallel", "--out", "run", status=1)
    assert "this one is one of 4 that mpiexec or srun started" in said
    assert "framework launch -n 4 script.py" in said
    assert not Path("run").exists()


@pytest.mark.usefixtures("workplace")
def test_only_one_of_two_processes_makes_the_folder_of_a_run(monkeypatch):
    Path("run").mkdir()
    monkeypatch.setenv("PMI_SIZE", "2")
    with claim_folder(Path("run"), ""):  # by the other process
        said = command("train", "points.toml", "--out", "run", status=1)
    told = "must be new or empty; one process trains an experiment, and mpiexec or srun started 2\n"
    assert said == f"Error: the folder 'run' {told}"
    assert [*Path("run").iterdir()] == []


@pytest.mark.usefixtures("workplace")
def test_what_fit_refuses_leaves_no_folder():
    for change in ("data.path=none.csv", "model.layers.1={type='Dense',units=3}", "data.target=insid"):
        assert command("train", "points.toml", "--set", change, "--out", "run", status=1).startswith("Error: ")
        assert not Path("run").exists()


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("workplace")
@pytest.mark.share(1 / 10)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train points.toml --out full", "the folder 'full' must be new or empty; framework resume continues a run"),
        ("train points.toml --out points.csv", "the folder of the run must be one that can be written; "),
        ("train points.csv", "in a key/value pair; framework new writes an experiment for a table"),
        (
            "train points.toml --set validation=none",
            "got 'none'; for none, delete the line of setting 'validation' in the file",
        ),
        ("train none.toml", "none.toml: an experiment must be a file that can be read; No such file or directory"),
        ("train full", "full: an experiment must be a file that can be read; Is a directory"),
        ("new semicolons.csv --target z --out a.toml", "which semicolons.csv does not have. Columns: x, y\n"),
        ("train latin.toml", "latin.toml, line 2: an experiment must be a text in UTF-8; got the byte 0xe9"),
        ("train points.toml --import nothing", "--import nothing: no module of this name is in the current folder or "),
        (
            "train points.toml --import points.py",
            "--import points.py: no module of this name is in the current folder or",
        ),
        (
            "train points.toml --set trainer.epochs=5,6",
            "\nTo train with each of several values: framework sweep points.toml --set trainer.epochs=5,6\n",
        ),
        ("resume full", "'full' is not the folder of a run: it has no experiment.toml; framework train FILE makes one"),
        ("evaluate run --data points.parquet", "Parquet: no file has the path 'points.parquet'"),
        ("evaluate run --data short.csv", "CSV: setting 'target' names the column 'inside', which short.csv does not "),
        ("predict run short.csv", "short.csv must have the columns that the model was trained with; there is no 'y'"),
        (
            "predict run semicolons.csv",
            "there is no 'x'; the line of names has no ',': write --set 'data.delimiter=;'",
        ),
        ("predict run points.csv --keep z", "points.csv must have the columns of --keep; there is no 'z'"),
        ("predict run points.csv --out a.xls", "--out a.xls: the predictions must be written as .csv or .parquet"),
        (
            "predict run points.csv --out none/a.csv",
            "'none/a.csv' cannot be written: No such file or directory; make the folder 'none' first",
        ),
        ("predict run points.csv --out short.csv", "short.csv exists already; give --out another file, or --overwrite"),
        ("predict run points.csv --out points.csv --overwrite", "--out points.csv: points.csv is read, so it must not"),
        ("predict run p*s.csv --out points.csv --overwrite", "points.csv is read, so it must not be replaced; "),
        ("predict run . --out points.csv --overwrite", "--out points.csv: points.csv is read, so it must not be"),
        ("new points.csv --target inside --out points.csv --overwrite", "--out points.csv: points.csv is read, so it"),
        (
            "new points.csv --out a.toml --target outside",
            "CSV: setting 'target' names the column 'outside', which points.csv does ",
        ),
        ("new points.csv --target inside", "points.toml exists already; give --out another file, or --overwrite"),
        ("new points.csv --target inside --out none/a.toml", "'none/a.toml' cannot be written: No such file or"),
        ("new points.xlsx --out a.toml --target inside", "the table 'points.xlsx' must end in .csv or .parquet"),
        (
            "new short.csv --target x --out a.toml",
            "short.csv has no column but the target 'x', so there is nothing to ",
        ),
        ("new empty.csv --target a --out a.toml", "empty.csv has no rows, so there is nothing to learn from"),
        (
            "new rows.csv --target b --out a.toml",
            "rows.csv has no column to learn from: a (numbers of the rows)",
        ),
        (
            "new holes.csv --target d --out a.toml",
            "the target 'd' is missing in all 3 rows, so there is nothing to learn from",
        ),
        ("new holes.csv --target b --out a.toml", "the target 'b' has one value in all rows, 'one'"),
        ("new holes.csv --target c --out a.toml", "the target 'c' holds dates; choose another column"),
        ("new holes.csv --target b --out a.toml --task number", "--task number: the target 'b' must hold numbers; it "),
        ("predict run", "expected the FOLDER of a run and DATA; got run alone"),
        ("predict run points.csv --out=", "'--out': expected a text; got an empty one, perhaps of a variable that"),
        ("predict run text.csv --out a.csv", "text.csv: column 'y' must hold real numbers; got text"),
        ("report run --out a.pdf", "--out a.pdf: the page is HTML; give a name that ends in .html"),
        ("resume nothing", "has no experiment.toml; there is nothing of this name; framework train FILE makes one"),
        ("resume points.toml", "has no experiment.toml; framework train points.toml makes one"),
        ("train run", "Is a directory; framework resume continues the run of a folder"),
        ("train points.toml --set trainer.metrics=Acc", "write your own as module:Class; one of Accuracy, "),
        ("watch points.csv", "'points.csv' is neither the folder of a run nor a file of JSONLog"),
        ("compare run changed", "run.json must be as the run has written it, with its history"),
        ("compare run numbers", "run.json must be as the run has written it, with its history"),
    ],
)
def test_bad_input_is_answered_in_one_message_and_changes_nothing(arguments, message):
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=1")
    for name in ("full", "changed", "numbers"):
        Path(name).mkdir()
    Path("full/file").touch()
    for name in ("changed", "numbers"):
        Path(name, "experiment.toml").write_text("[trainer]\n")
    Path("numbers/run.json").write_text('{"history": 1, "checkpoints": 2}')
    Path("latin.toml").write_bytes("a = 1\n# é".encode("latin-1"))
    Path("short.csv").write_text("x\n1\n")
    Path("semicolons.csv").write_text("x;y\n1;2\n")
    Path("text.csv").write_text("x,y\n1,a\n")
    Path("empty.csv").write_text("a,b\n")
    Path("rows.csv").write_text("a,b\n" + "".join(f"{row},{row % 2}\n" for row in range(40)))
    Path("holes.csv").write_text("a,b,c,d\nx,one,2020-01-01,\n,one,2020-01-02,\ny,one,2020-01-03,\n")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    printed = command(*arguments.split(), status=1)
    assert message in printed
    assert printed.startswith("Error: ")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("workplace")
def test_a_table_without_rows_has_predictions_without_rows():
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=1")
    Path("none.csv").write_text("x,y\n")
    assert command("predict", "run", "none.csv") == "wrote predictions.csv: 0 rows\n"
    assert Path("predictions.csv").read_text() == '"inside"\n'


@pytest.mark.usefixtures("workplace")
def test_changed_data_is_told_when_a_run_is_resumed():
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=1")
    Path("points.csv").write_bytes(Path("points.csv").read_bytes().replace(b",1\r", b",0\r", 1))
    printed = command("resume", "run", "--epochs", 1)
    assert printed.startswith("Warning: resume: these changed since the run started")


@pytest.mark.usefixtures("workplace")
def test_compare_shows_what_differs():
    command("train", "points.toml", "--out", "a")
    command(
        "train", "points.toml", "--out", "b", "--set", "trainer.callbacks.0.patience=1", "--set", "trainer.epochs=2"
    )
    first, second = json.loads(command("compare", "a", "b", "--json"))
    assert [*first][:3] == ["run", "trainer.epochs", "trainer.callbacks.EarlyStopping.patience"]
    assert [*second.values()][:3] == ["b", 2, 1]
    assert first["val_loss"] == json.loads(Path("a/metrics.json").read_text())["validation"]["loss"]
    assert command("compare", "a", "b").split()[:2] == ["run", "trainer.epochs"]


@pytest.mark.usefixtures("workplace")
def test_compare_leaves_out_inputs_that_follow_from_units():
    command("train", "points.toml", "--out", "a")
    command("train", "points.toml", "--out", "b", "--set", "model.layers.0.units=5")
    first, _ = json.loads(command("compare", "a", "b", "--json"))
    assert [*first][:3] == ["run", "model.layers.Dense.units", "epochs"]


@pytest.mark.usefixtures("workplace")
def test_compare_shows_the_figures_of_one_epoch():
    stop = "trainer.callbacks.0={type='EarlyStopping', patience=3, restore_best=true}"
    rate = "trainer.optimizer.learning_rate=1.0"
    command("train", "points.toml", "--out", "run", "--set", stop, "--set", rate, "--set", "trainer.epochs=30")
    rows = history("run")
    best = min(rows, key=lambda row: row["val_loss"])
    assert best["epoch"] < len(rows)
    [found] = json.loads(command("compare", "run", "--json"))
    assert found["epochs"] == len(rows)
    assert {name: found[name] for name in best if name != "learning_rate"} == pytest.approx(
        {name: value for name, value in best.items() if name != "learning_rate"}
    )


@pytest.mark.usefixtures("workplace")
def test_compare_of_different_tasks_is_narrow():
    names = [f"n{place}" for place in range(12)]
    rows = [[row * place % 7 for place in range(13)] for row in range(60)]
    with Path("other.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[*names, "goal"], *rows])
    command("new", "points.csv", "--target", "inside", "--out", "a.toml")
    command("new", "other.csv", "--target", "goal", "--out", "b.toml")
    for name in "ab":
        command("train", f"{name}.toml", "--out", name, "--set", "trainer.epochs=1")
    first, second = json.loads(command("compare", "a", "b", "--json"))
    assert len(first) < 30
    assert (first["trainer.loss"], second["trainer.loss"]) == ("BinaryCrossEntropy", "CrossEntropy")
    assert not any("rare" in name or "seen" in name for name in first)


@pytest.mark.usefixtures("workplace")
def test_compare_names_a_class_that_only_one_run_has():
    command("train", "points.toml", "--out", "a", "--set", "trainer.epochs=1")
    command("train", "points.toml", "--out", "b", "--set", "trainer.epochs=1", "--set", "trainer.callbacks=[]")
    first, second = json.loads(command("compare", "a", "b", "--json"))
    assert (first["trainer.callbacks.EarlyStopping"], second["trainer.callbacks.EarlyStopping"]) == (
        "EarlyStopping",
        None,
    )


@pytest.mark.usefixtures("workplace")
def test_a_run_at_the_end_of_its_schedule_keeps_its_figures_where_more_epochs_are_refused():
    rate = "trainer.optimizer.learning_rate={type='CosineSchedule', initial=0.1}"
    command("train", "points.toml", "--out", "run", "--set", rate, "--set", "trainer.callbacks=[]")
    before = Path("run/metrics.json").read_text()
    assert "at the end of its schedule; for more epochs train a new run" in command("resume", "run", status=1)
    assert "has no setting 'length'" in command("resume", "run", "--epochs", 5, status=1)
    assert Path("run/metrics.json").read_text() == before


@pytest.mark.usefixtures("workplace")
def test_a_run_that_early_stopping_ended_trains_on():
    stop = "trainer.callbacks.0={type='EarlyStopping', patience=3, restore_best=true}"
    rate = "trainer.optimizer.learning_rate=1.0"
    command("train", "points.toml", "--out", "run", "--set", stop, "--set", rate, "--set", "trainer.epochs=60")
    before = len(history("run"))
    assert before < 60
    printed = command("resume", "run", status=1)
    assert (
        "no improvement in 3 epochs); --epochs 5 trains up to five more, and counts the patience from there" in printed
    )
    command("resume", "run", "--epochs", 2)
    assert len(history("run")) == before + 2


@pytest.mark.usefixtures("workplace")
def test_show_prints_an_experiment_with_every_setting_and_a_run_with_its_model():
    text = command("show", "points.toml", "--set", "trainer.epochs=9")
    Path("shown.toml").write_text(text)
    assert Experiment.read("shown.toml") == Experiment.read("points.toml", ["trainer.epochs=9"])
    command("train", "points.toml", "--out", "run")
    shown = command("show", "run")
    assert "# 3 epochs, complete\n" in shown
    assert "total                                 17" in shown


def test_schema_is_json():
    assert json.loads(command("schema"))["$ref"] == "#/$defs/Experiment"


@pytest.mark.usefixtures("workplace")
def test_callbacks_of_the_user_may_be_checkpoints_and_logs():
    Path("my_callbacks.py").write_text(
        "from framework.training import Checkpoint, JSONLog\nclass Saver(Checkpoint): pass\nclass Log(JSONLog): pass\n"
    )
    saver, log = '{type="my_callbacks:Saver", folder="ck"}', '{type="my_callbacks:Log", path="log.jsonl"}'
    callbacks = f"trainer.callbacks=[{saver}, {log}]"
    command("train", "points.toml", "--import", "my_callbacks", "--out", "run", "--set", callbacks)
    assert {path.name for path in Path("run").iterdir()} == {
        "experiment.toml",
        "run.json",
        "baselines",
        "log.jsonl",
        "ck",
        "metrics.json",
    }
    command("predict", "run", "points.csv", "--import", "my_callbacks")
    assert "3" in command("compare", "run")


@pytest.mark.usefixtures("workplace")
def test_the_last_rows_are_held_out_of_the_data_alone():
    change = 'validation={type="CSV", path="points.csv", target="inside"}'
    printed = command("train", "points.toml", "--set", change, "--set", "holdout=last", status=1)
    assert "setting 'holdout' says which rows of the data are held out, so 'validation' must be a part" in printed


@pytest.mark.usefixtures("workplace")
def test_a_complete_run_that_is_killed_while_it_trains_further_is_not_taken_for_complete():
    command("train", "points.toml", "--out", "run", "--set", "trainer.epochs=1")

    def kill(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("framework.experiments.folder.train", kill)
        command("resume", "run", "--epochs", 2, status=130)
    assert not Path("run/metrics.json").exists()
    assert command("resume", "run", "--epochs", 2).startswith("run: 3 epochs")
