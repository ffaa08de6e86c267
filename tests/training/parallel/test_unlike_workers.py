"""Workers that are not alike raise one error together; what only one of them may do changes nothing."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import parallel_pieces as pieces
import pytest

pytest.importorskip("mpi4py")
pytestmark = pytest.mark.share(1 / 10, group="unlike workers")  # one process runs all cases

PROGRAM = Path(pieces.__file__).with_name("unlike.py")
DIFFERENT = {
    "another_model": 'fit: model must be equal on all workers; worker 0 has "Sequential(Dense(inputs=12, activation=R',
    "another_dtype": "fit: model must be equal on all workers",
    "a_weight": "fit: parameter 2.bias must be equal on all workers; worker 0 has float32 (3,)",
    "a_buffer": "fit: buffer 0.running_mean must be equal on all workers; worker 0 has float64 (12,)",
    "a_frozen_parameter": "fit: frozen parameters must be equal on all workers; worker 0 has ('2.weights',)",
    "other_epochs": "fit: argument 'epochs' must be equal on all workers; worker 0 has 3, and worker 1 has 2",
    "a_callback": "fit: callback Remembers.0 must be equal on all workers; worker 0 has nothing of this name, and",
    "fewer_rows": "; give each worker all rows in the same order; DataParallel divides them itself",
    "optimizer_memory_on_resume": "fit: optimizer's square must be equal on all workers; worker 0 has float32",
    "memory_of_a_callback_on_resume": "fit: memory of Remembers.0 must be equal on all workers; worker 0 has {'best'",
    "a_rate_on_resume": "fit: bound optimizer must be equal on all workers; worker 0 has 'AdamOptimizer(",
    "a_stream_that_ends_early": "the rows read next in epoch 1 must be equal on all workers; worker 0 has 32",
    "changed_weights_in_an_epoch": "after the epoch: parameter 2.bias must be equal on all workers",
    "two_threads_at_once": "fit: another thread of this process trains with DataParallel at this moment",
}
"""What all workers raise, as a UsageError."""

FAILED = {
    "a_folder_that_cannot_be_written": (
        0,
        "SettingsError",
        "Checkpoint: setting 'folder' must be a folder that can be",
    ),
    "a_disk_that_is_full": (0, "CheckpointError", "cannot be written: Not a directory"),
    "a_file_that_is_missing": (1, "FileNotFoundError", "of worker 1"),
    "a_reader_that_fails_in_the_second_epoch": (1, "FileNotFoundError", "of worker 1"),
}
"""Which worker fails alone, its error, and what this says."""

ENGINES = {
    "no_kernel": "worker 1 has no kernel (libLLVM is broken), and worker 0 has one",
    "no_llvmlite": "fit: engine in use must be equal on all workers; worker 0 has 'compiled', and worker 1 has 'numpy'",
}

HARMLESS = {
    "a_stop_of_one_worker_in_an_epoch_hook": "enough after 1 epochs",
    "evaluations_of_one_worker_in_a_callback": "True",
    "a_training_of_all_workers_in_a_callback": "True, True",
    "a_training_in_a_thread": "True",
}


@pieces.once
def errors():
    """Return what each of three workers raises in each case; one process has run all cases."""
    folder = Path(tempfile.mkdtemp())
    found = dict(map(json.loads, pieces.launched(3, folder, program=PROGRAM, timeout=200)))
    shutil.rmtree(folder)
    return [found[rank] for rank in range(3)]


@pytest.mark.parametrize("case", DIFFERENT)
def test_a_difference_is_an_error_on_all_workers_that_names_it(case):
    assert len({found[case] for found in errors()}) == 1
    assert errors()[0][case].startswith("UsageError: ")
    assert DIFFERENT[case] in errors()[0][case]


@pytest.mark.parametrize("case", FAILED)
def test_an_error_of_one_worker_is_raised_on_all(case):
    failing, kind, text = FAILED[case]
    own = errors()[failing][case]
    assert own.startswith(f"{kind}: ")
    assert text in own
    for rank, found in enumerate(errors()):
        if rank != failing and kind == "FileNotFoundError":
            assert found[case] == f"UsageError: worker {failing}: {own}"
        elif rank != failing:
            assert found[case] == own.replace(f"{kind}: ", f"{kind}: worker {failing}: ", 1)


@pytest.mark.parametrize("case", HARMLESS)
def test_what_one_worker_may_do_alone_changes_nothing(case):
    assert [found[case] for found in errors()] == [f"RuntimeError: not an error: {HARMLESS[case]}"] * 3


@pytest.mark.parametrize("case", ENGINES)
def test_workers_with_different_engines_are_refused(case):
    pytest.importorskip("llvmlite")
    assert len({found[case] for found in errors()}) == 1
    assert ENGINES[case] in errors()[0][case]


def test_a_training_of_one_worker_in_a_callback_ends_the_job(tmp_path):
    command = [sys.executable, "-m", "framework", "launch", "-n", "2", PROGRAM, tmp_path, "a_training_of_one_worker"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "worker 1 trains within a callback, and worker 0 does not" in done.stderr
