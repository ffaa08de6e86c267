"""Whole processes: what an import, a first step and a first epoch cost from the start of Python to its end."""

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from benchmarks.contenders import SkipError

FIT = """
import numpy as np
from framework import CrossEntropy, Dense, Sequential, SGDOptimizer, Sigmoid, Softmax, Trainer
x = np.random.default_rng(0).standard_normal((320, 20))
trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1){setting})
run = trainer.fit(Sequential(Dense(20, 16, Sigmoid()), Dense(16, 2, Softmax())), (x, x[:, :2].argmax(axis=1)))
assert run.engine == "{engine}", f"Trainer chose the engine {{run.engine}}"
"""
COMPILED = FIT.format(setting=', engine="compiled"', engine="compiled")
FIRST_USE = """
import gc
import time
import numpy as np
from benchmarks.contenders.framework import composed
from benchmarks.workloads import WORKLOADS
x, model = WORKLOADS["{name}"].data()[0][:1], composed("{name}", "float64")
model.parameters
gc.collect()  # what the imports left
start = time.perf_counter()
model.backward(model.forward(x))
print(time.perf_counter() - start)
"""
DEPTH = """
import time
import numpy as np
from framework import CrossEntropy, Dense, Sequential, SGDOptimizer, Sigmoid, Softmax, Trainer
x = np.random.default_rng(0).standard_normal((320, 20))
hidden = [Dense(inputs, 16, Sigmoid()) for inputs in (20, *[16] * ({layers} - 1))]
trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1), engine="compiled")
start = time.perf_counter()
run = trainer.fit(Sequential(*hidden, Dense(16, 2, Softmax())), (x, x[:, :2].argmax(axis=1)))
print(time.perf_counter() - start)
assert run.engine == "compiled", f"Trainer chose the engine {{run.engine}}"
"""
DEPTHS = {f"compile, {layers} hidden layer{'s' * (layers > 1)}": layers for layers in (1, 3, 10)}
FIRST_USES = {"first use of Dense": "dense", "first use of LeNet": "lenet", "first use of GRU": "gru"}
STEP = ["-m", "framework", "step"]
IMPORTS = {
    "import numpy": "numpy",
    "import torch": "torch",
    "import jax": "jax",
    "import sklearn": "sklearn.neural_network",
    "import keras": "keras",
}
INCLUDES = {
    "python": "Python alone",
    "import framework": "Python, import",
    "framework step": "Python, import, the command's step and its print",
    "fit": "Python, import, an epoch of ten steps of 20-16-2 with the NumPy engine",
    "fit compiled, first": "Python, import, the same compiled, caches empty",
    "fit compiled, second": "Python, import, the same compiled, caches filled by a run before",
    **dict.fromkeys(DEPTHS, "after the import, caches empty: a first epoch of ten steps"),
    **dict.fromkeys(FIRST_USES, "after the import: trace, derivatives, source, forward and backward of one row"),
    **dict.fromkeys(IMPORTS, "Python, import"),
}


def commands(folder: Path) -> dict[str, Callable[[dict[str, str]], float]]:
    """Return what is timed, by name; each takes an environment and returns seconds."""
    made: dict[str, Callable[[dict[str, str]], float]] = {
        "python": lambda env: seconds(["-c", "pass"], env),
        "import framework": lambda env: seconds(["-c", "import framework"], env),
        "framework step": lambda env: seconds(STEP, env),
        "fit": lambda env: seconds(["-c", FIT.format(setting="", engine="numpy")], env),
        "fit compiled, first": lambda env: compiled(env, empty(folder)),
        "fit compiled, second": lambda env: compiled(env, folder / "second"),
    }
    made |= {name: lambda env, layers=layers: depth(env, empty(folder), layers) for name, layers in DEPTHS.items()}
    made |= {name: lambda env, model=model: first_use(env, model) for name, model in FIRST_USES.items()}
    return made | {name: lambda env, module=module: imported(env, module) for name, module in IMPORTS.items()}


def seconds(arguments: list[str], env: dict[str, str]) -> float:
    """Return the seconds of a Python process."""
    start = time.perf_counter()
    printed(arguments, env)
    return time.perf_counter() - start


def first_use(env: dict[str, str], model: str) -> float:
    """Return the seconds from a model that was never used to its first gradients, in a process of its own."""
    return float(printed(["-c", FIRST_USE.format(name=model)], env))


def printed(arguments: list[str], env: dict[str, str]) -> str:
    """Return what a Python process prints.

    Raises:
        SkipError: It failed.
    """
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SkipError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def imported(env: dict[str, str], module: str) -> float:
    """Return the seconds of an import; keras on JAX where it is there."""
    if find_spec(module.partition(".")[0]) is None:
        raise SkipError("not installed")
    backend = "jax" if find_spec("jax") else "torch"
    return seconds(["-c", f"import {module}"], env | {"KERAS_BACKEND": backend})


def compiled(env: dict[str, str], cache: Path) -> float:
    """Return the seconds of a first epoch with the compiled engine, whose caches are in ``cache``.

    The folder "second" is filled by a run that is not timed; any other is new and empty.
    """
    if cache.name == "second" and not cache.exists():
        seconds(["-c", COMPILED], caching(env, cache))
    return seconds(["-c", COMPILED], caching(env, cache))


def depth(env: dict[str, str], cache: Path, layers: int) -> float:
    """Return the seconds from a model to the end of its first epoch, with the compiled engine and empty caches."""
    return float(printed(["-c", DEPTH.format(layers=layers)], caching(env, cache)))


def empty(folder: Path) -> Path:
    """Return the path of a new folder."""
    return folder / f"cache-{time.time_ns()}"


def caching(env: dict[str, str], cache: Path) -> dict[str, str]:
    """Return an environment with caches in this folder."""
    cache.mkdir(exist_ok=True)
    return env | {"FRAMEWORK_CACHE_DIR": str(cache)}
