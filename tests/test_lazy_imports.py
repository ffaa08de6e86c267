"""Training on arrays imports nothing but what it needs: no extra, no masked arrays, nothing of several workers."""

import subprocess
import sys

import pytest

import framework
import framework.models

CODE = """
import sys
import numpy as np
from framework.views import plots  # which draws nothing here
from framework import Accuracy, BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, Trainer, save, split
x, y = np.array([[0.0], [1.0]]), np.array([0, 1])
trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), metrics=[Accuracy()])
model = Neuron(1, Sigmoid())
save(trainer.fit(model, (x, y), validation=(x, y)), sys.argv[1])
trainer.predict(model, x)
trainer.evaluate(model, split((x, y), 0.5)[0])
print(*(name for name in %r if name in sys.modules))
"""
ABSENT = (
    "numpy.ma",
    "scipy",
    "numba",
    "llvmlite",
    "sklearn",
    "narwhals",
    "pyarrow",
    "pandas",
    "polars",
    "tqdm",
    "click",
    "onnx",
)
ABSENT += ("matplotlib", "rich", "mlflow", "tensorboardX", "jax")
ABSENT += (
    "framework.backends.native",
    "framework.training.engines.native",
    "framework.training.engines.jax",
    "framework.training.sharing",
)
ABSENT += tuple(f"framework.training.parallel.{name}" for name in ("mpi", "shards", "sums", "workers"))


@pytest.mark.share(1 / 3)
def test_training_on_arrays_imports_only_what_it_needs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE % (ABSENT,), str(tmp_path / "run.safetensors")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("code", ["import framework", "import framework.cli; framework.cli.main(['--help'])"])
def test_the_package_and_the_help_of_its_commands_import_neither_numpy_nor_pydantic(code):
    code = f"import atexit, sys; atexit.register(lambda: print(*({{'numpy', 'pydantic'}} & {{*sys.modules}}))); {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""


THREADS = """
import sys
from importlib import import_module
from random import Random
from threading import Thread
from framework.base.lazy import families
sys.setswitchinterval(1e-6)
errors = []

def import_names(seed):
    for name, package in Random(seed).sample([*families().items()], 40):
        try:
            getattr(import_module(package), name)
        except ImportError as error:
            errors.append(error)

threads = [Thread(target=import_names, args=(seed,)) for seed in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(errors)
"""


def test_threads_may_import_names_at_once():
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", ["", "models.affine", "no module", "_private", "1"])
def test_a_name_that_no_program_can_write_is_no_attribute(name):
    for package in (framework, framework.models):
        assert not hasattr(package, name)
