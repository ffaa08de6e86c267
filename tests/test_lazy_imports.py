"""Training on arrays imports nothing but what it needs: no extra, no masked arrays, nothing of several workers."""

import subprocess
import sys

import pytest

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
