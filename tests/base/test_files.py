"""What is written to a file replaces the old one as a whole, or not at all."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from framework import (
    CSV,
    Checkpoint,
    CheckpointError,
    CSVLog,
    Dense,
    Experiment,
    FrameworkError,
    HalfSquaredError,
    Parquet,
    SettingsError,
    SGDOptimizer,
    Trainer,
    describe,
    export_onnx,
    export_python,
    latest,
    load,
)
from framework.cli import main
from framework.data import NPY
from framework.experiments.folder import RunFolder
from framework.experiments.sweeps.sweep import Sweep
from framework.export import load_torch, save_torch
from framework.views.reports import page

MODEL = Dense.from_weights([[1.0, 2.0]])
WRITERS = {
    "report": lambda path: page.write_report(path, [page.Contents("a")]),
    "experiment": lambda path: Experiment.save(SimpleNamespace(to_toml=lambda: "[data]\n"), path),
    "onnx": lambda path: export_onnx(MODEL, path),
    "python": lambda path: export_python(MODEL, path),
    "torch": lambda path: save_torch(MODEL, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(name, tmp_path, monkeypatch):
    path = tmp_path / "file"
    WRITERS[name](path)
    before, old = path.read_bytes(), path.stat()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        error = CheckpointError if name == "torch" else SettingsError
        with pytest.raises(error, match="file' cannot be written: No space left on device"):
            WRITERS[name](path)
    assert [*tmp_path.iterdir()] == [path]
    assert (path.read_bytes(), path.stat().st_ino) == (before, old.st_ino)
    WRITERS[name](path)
    assert path.stat().st_ino != old.st_ino  # another file took its place


REFUSED = {
    "too long": "x" * 300,
    "too deep": "/".join(["x" * 200] * 30),
    "zero byte": "a\0b",
    "loop of links": "loop",
    "behind a loop": "loop/x",
    "behind a file": "file/x",
    "folder": "folder",
}
READERS = {
    "describe": describe,
    "load": load,
    "load_torch": lambda path: load_torch(path, Dense(2, 1)),
    "latest": latest,
    "CSV": lambda path: len(CSV(path)),
    "Parquet": lambda path: len(Parquet(path)),
    "NPY": lambda path: NPY(path, path),
    "Experiment.read": Experiment.read,
    "RunFolder": RunFolder,
    "Sweep": Sweep,
    "Checkpoint": lambda path: TRAINER.replace(callbacks=[Checkpoint(folder=path)]).fit(Dense(2, 1), DATA),
    "CSVLog": lambda path: TRAINER.replace(callbacks=[CSVLog(path=path)]).fit(Dense(2, 1), DATA),
    "data of an experiment": lambda path: EXPERIMENT.replace(data=CSV(path, "y"), model=Dense(2, 1)).moved(".").parts(),
}
DATA = ([[1.0, 2.0]], [[1.0]])
TRAINER = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
EXPERIMENT = Experiment(data=CSV("a.csv", "y"), model=Dense(2, 1), trainer=TRAINER)


TAKEN = {("latest", "folder"), ("Checkpoint", "folder"), ("latest", "behind a file")}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name in (*READERS, *WRITERS) for kind in REFUSED if (name, kind) not in TAKEN]
)
def test_a_path_that_the_system_refuses_is_an_error_of_the_framework(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    Path("folder").mkdir()
    with pytest.raises(FrameworkError):
        (READERS | WRITERS)[name](REFUSED[kind])
    assert Path("loop").is_symlink()


@pytest.mark.parametrize("command", ["describe", "show", "train", "evaluate", "watch --once", "new --target y"])
@pytest.mark.parametrize("path", ["x" * 300, "loop", "file/x"])
def test_a_command_answers_a_path_that_the_system_refuses(command, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    Path("file").touch()
    result = CliRunner().invoke(main, [*command.split(), path])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.output.startswith("Error: ") or (command, path) == ("watch --once", "file/x")


def test_a_table_may_have_a_name_that_is_not_utf_8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/table\xff.csv")
    Path(path).write_text("x,y\n1,2\n")
    assert len(CSV(path, "y")) == 1
    with pytest.raises(SettingsError, match=r"cannot be written: .* surrogates not allowed"):
        EXPERIMENT.replace(data=CSV(path, "y"), model=Dense(2, 1)).save(tmp_path / "a.toml")
    assert len([*tmp_path.iterdir()]) == 1
