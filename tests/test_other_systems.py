"""What systems lack that no test runs on: Windows, Python in a browser, a broken llvmlite, big-endian numbers."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from framework.training.checkpoint.file import array_of

WITHOUT_POSIX = """
import os, sys
import numpy, pydantic, safetensors.numpy, tempfile, tqdm.auto  # which expect the system that they were built for
if ENGINE == "compiled":
    import llvmlite.binding

sys.modules["fcntl"] = None  # so that importing it fails
for name in ("O_DIRECTORY", "O_NONBLOCK", "register_at_fork", "getuid"):
    delattr(os, name)

def refused(*_arguments, **_options):
    raise PermissionError(13, "in use")

os.unlink = refused  # a file that another program has open
"""

TRAINING = """
import numpy as np
from framework import Checkpoint, HalfSquaredError, Neuron, ProgressBar, SGDOptimizer, Trainer, latest, load

data = np.linspace(-1, 1, 8)[:, None], np.linspace(0, 1, 8)
saver = Checkpoint(folder="checkpoints", keep=1)
trainer = Trainer(
    loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=4, callbacks=[saver, ProgressBar()],
    engine=ENGINE
)
run = trainer.fit(Neuron(1), data, data, epochs=2)
again = trainer.resume(latest("checkpoints"), data, data, epochs=2)
straight = trainer.replace(callbacks=[]).fit(Neuron(1), data, data)
assert np.array_equal(again.model.parameters.vector, straight.model.parameters.vector)
print(again.epoch, again.engine)
"""


def output(code, folder, engine="numpy"):
    code = textwrap.dedent(code.replace("ENGINE", repr(engine)))
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_training_and_checkpoints_work_without_what_posix_systems_have(engine, tmp_path):
    if engine == "compiled":
        pytest.importorskip("llvmlite")
    assert output(WITHOUT_POSIX + TRAINING, tmp_path, engine)[0] == f"4 {engine}"
    assert len([*tmp_path.glob("checkpoints/*.safetensors")]) > 1  # none could be deleted


@pytest.mark.share(1 / 3)
def test_an_llvmlite_that_cannot_be_imported_is_a_reason_to_fall_back(tmp_path):
    (tmp_path / "llvmlite.py").write_text("raise ImportError('llvmlite needs another LLVM')")
    printed, warned = output(TRAINING, tmp_path, "compiled")
    assert printed == "4 numpy"
    assert "falling back to NumPy: llvmlite needs another LLVM" in warned


def test_numbers_of_a_checkpoint_have_the_byte_order_of_the_machine():
    stored = np.array([1.5, -2.0], "<f4")
    array = array_of("weights", {"dtype": "F32", "data": stored.tobytes(), "shape": [2]})
    assert array.dtype == np.float32
    assert array.dtype.isnative
    assert array.tolist() == [1.5, -2.0]
