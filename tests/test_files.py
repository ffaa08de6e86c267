"""What is written to a file replaces the old one as a whole, or not at all."""

import os
from types import SimpleNamespace

import pytest

from framework import CheckpointError, Dense, Experiment, SettingsError, export_onnx, export_python, save_torch
from framework.reports import page

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
