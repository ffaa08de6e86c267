"""verify_resume: right pieces pass, and a piece that loses something is found by name."""

import subprocess
import sys

import numpy as np
import pytest
import resume_pieces as pieces
import verification_pieces as wrong

from framework import (
    Checkpoint,
    CheckpointError,
    Dense,
    MeanSquaredError,
    Neuron,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Trainer,
    on,
    verify_resume,
)

X, Y = np.linspace(0, 1, 10).reshape(5, 2), np.linspace(0, 1, 5)


def recipe(*callbacks):
    return Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), batch_size=2, callbacks=callbacks
    )


@pytest.mark.share(1 / 2)
def test_right_pieces_pass_and_the_model_stays_as_it_is(tmp_path):
    model = pieces.network()
    before = model.parameters.vector.copy()
    trainer = pieces.recipe("momentum", Checkpoint(folder=tmp_path / "never"))
    assert verify_resume(trainer, model, pieces.DATA, pieces.HELD_OUT) == (1, 3, 5, 8)
    assert np.array_equal(model.parameters.vector, before)
    assert not (tmp_path / "never").exists()


@pytest.mark.share(1 / 3)
def test_a_callback_that_remembers_elsewhere_is_found():
    with pytest.raises(CheckpointError, match=r"callback memory 'Forgetful.0: count' is \d+ after a resume from step"):
        verify_resume(recipe(wrong.Forgetful()), Neuron(2), (X, Y))


@pytest.mark.share(1 / 3)
def test_a_layer_that_remembers_elsewhere_is_found():
    with pytest.raises(CheckpointError, match=r"parameter '.*' is .* at \[\d\] after a resume from step"):
        verify_resume(recipe(), Sequential(wrong.Counter(), Dense(2, 1)), (X, Y[:, None]))


def test_what_cannot_be_sent_to_a_process_is_told():
    with pytest.raises(CheckpointError, match="cannot be sent to a fresh process"):
        verify_resume(recipe(on("epoch_end")(lambda run: run.step)), Neuron(2), (X, Y))


@pytest.mark.share(1 / 3)
def test_a_process_that_cannot_begin_is_told_also_with_much_data(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer, verify_resume\n"
        "trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01))\n"
        "verify_resume(trainer, Neuron(50), (np.ones((2000, 50)), np.ones(2000)))\n"  # without a main guard
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert "put the call under if __name__ == '__main__'" in done.stderr
    assert done.returncode == 1


@pytest.mark.share(1 / 3)
def test_a_proof_needs_two_epochs():
    assert verify_resume(recipe(), Neuron(2), (X[:4], Y[:4]), epochs=2) == (1, 2, 3)
    with pytest.raises(SettingsError, match="argument 'epochs' must be 2 or more; got 1"):
        verify_resume(recipe(), Neuron(2), (X, Y), epochs=1)


@pytest.mark.share(1 / 3)
def test_an_error_in_the_fresh_process_is_told():
    with pytest.raises(CheckpointError, match=r"(?s)the resume failed in a fresh process:.*only here"):
        verify_resume(recipe(wrong.HereOnly()), Neuron(2), (X, Y))
