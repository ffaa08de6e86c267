"""A run that is stopped at any step, saved, and resumed in a new process gives the bits of an uninterrupted one."""

import subprocess
import sys
from pathlib import Path

import pytest
import resume_pieces as pieces

from framework import CheckpointError, load, save
from framework.training.verification import differences


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", list(pieces.OPTIMIZERS))
def test_a_stop_at_every_step_and_a_resume_in_a_new_process_change_no_bit(kind, dtype, tmp_path):
    straight = pieces.recipe(kind).fit(pieces.network(dtype), pieces.DATA, pieces.HELD_OUT)
    assert (straight.epoch, straight.step) == (pieces.EPOCHS, pieces.STEPS)
    for step in range(1, pieces.STEPS):
        run = pieces.recipe(kind, pieces.stop_at(step)).fit(pieces.network(dtype), pieces.DATA, pieces.HELD_OUT)
        assert (run.step, run.stop_reason) == (step, "enough")
        save(run, tmp_path / f"stopped-{step}.safetensors")
    program = "import sys, resume_pieces; resume_pieces.go_on(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, kind, str(tmp_path)],
        cwd=Path(pieces.__file__).parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for step in range(1, pieces.STEPS):
        resumed = load(tmp_path / f"resumed-{step}.safetensors")
        assert list(differences(straight, resumed)) == []
        assert resumed.model.parameters.frozen == straight.model.parameters.frozen == ("0.bias",)


def test_the_pieces_of_that_run_all_change_something(tmp_path):
    run = pieces.recipe("momentum").fit(pieces.network(), pieces.DATA, pieces.HELD_OUT)
    save(run, tmp_path / "run.safetensors")
    other = load(tmp_path / "run.safetensors")
    assert list(differences(run, other)) == []
    assert {name.partition(".")[0] for name in run.memories} == {
        "EarlyStopping", "StopOnConvergence", "ReduceOnPlateau", "Noise"
    }  # fmt: skip
    changes = {
        "parameter '0.weights'": lambda: other.model.parameters["0.weights"].__setitem__((0, 0), 7.0),
        "buffer '1.running_mean'": lambda: other.model.buffers["1.running_mean"].__setitem__(0, 7.0),
        "buffer '2.passes'": lambda: other.model.buffers["2.passes"].__setitem__(0, 7.0),
        "optimizer memory 'velocity'": lambda: other.optimizer.memory["velocity"].__setitem__(0, 7.0),
        "optimizer setting 'learning_rate'": lambda: setattr(other.optimizer, "learning_rate", 7.0),
        "callback memory 'Noise.0: hooks'": other.memories["Noise.0"]["hooks"].pop,
        "history row 3": lambda: other.history[-1].update(val_loss=7.0),
        "count 'step'": lambda: setattr(other, "step", 7),
    }
    for count, (name, change) in enumerate(changes.items(), 1):
        change()
        assert [found for found, _, _ in differences(run, other)][-1] == name
        assert len(list(differences(run, other))) == count


def test_a_missing_class_is_named(tmp_path):
    run = pieces.recipe("adam").fit(pieces.network(), pieces.DATA, pieces.HELD_OUT)
    save(run, tmp_path / "run.safetensors")
    program = "import sys, framework; framework.load(sys.argv[1])"
    path = str(tmp_path / "run.safetensors")
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert "'resume_pieces:Drift' is not a class that this program has defined; import the module" in done.stderr
    assert CheckpointError.__name__ in done.stderr
