import json
import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from framework import Conv2D, Dense, Embedding, Flatten, GlobalAverage, Heads, Join, Sequential
from framework.backends.arithmetic import arithmetic
from framework.models.rows import multiply_adds


def in_a_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", f"from framework.backends.arithmetic import arithmetic, limit_threads\n{code}"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.strip()


@pytest.mark.share(1 / 3)
def test_another_number_of_threads_is_another_arithmetic():
    one, two = (in_a_process("print(arithmetic())", OPENBLAS_NUM_THREADS=count) for count in "12")
    assert "OpenBLAS" not in one or one != two


@pytest.mark.share(1 / 3)
def test_other_kernels_are_another_arithmetic():
    code = "print(arithmetic())"
    found = in_a_process(code, OPENBLAS_CORETYPE="Haswell")
    assert "OpenBLAS" not in found or "OpenBLAS Haswell" in found or "x86" not in platform.machine()
    module = import_module("numpy._core._multiarray_umath")
    features = [name for name in module.__cpu_dispatch__ if module.__cpu_features__[name]]
    assert not features or features[-1] not in in_a_process(code, NPY_DISABLE_CPU_FEATURES=features[-1])


@pytest.mark.share(1 / 3)
def test_limit_threads_is_for_the_block_alone():
    code = "before = arithmetic()\nwith limit_threads():\n    print(arithmetic())\nassert arithmetic() == before"
    inside = in_a_process(code, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    assert inside == in_a_process("print(arithmetic())", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")


CASES = """
import json, os, threading, warnings
from importlib.util import find_spec
import numpy as np
from framework import *
from framework.backends.arithmetic import LARGE, _threads
from framework.sklearn import NeuralClassifier

setter, threads = _threads()
results = {}
x = np.zeros((256, 64))

@on("epoch_end")
def look(run):
    seen.append((threads(), int(run.recipe["arithmetic"].split("BLAS threads ")[1].split(",")[0])))

@on("epoch_end")
def fail(run):
    raise KeyError

def fit(width=64, *callbacks, rows=256, epochs=1):
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=epochs, batch_size=rows,
        callbacks=[look, *callbacks],
    )
    return trainer.fit(Dense(units=width), [np.zeros((rows, width))] * 2)

def small():
    fit(64)

def large():
    fit(1024, rows=128)

def many():
    if find_spec("llvmlite") is None:
        return
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), engine="compiled", callbacks=[look]
    )
    trainer.fit_many([Dense(64, 64, seed=seed) for seed in range(2)], (x, x), epochs=1)

def estimator():
    NeuralClassifier((64,), callbacks=[look], epochs=1).fit(np.eye(90), np.arange(90) % 3)

def predictions():
    class Looking(Dense):
        check = "off"

        def apply(self, *given):
            seen.append(threads())
            return super().apply(*given)

    model = Looking(64, 64)
    model.predict(x)
    model.predict(x[:1])
    model.predict(np.zeros((1, 1000, 64)))
    Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).evaluate(model, (x, x))

def error():
    try:
        fit(64, fail)
    except KeyError:
        seen.append(threads())

def generator():
    def steps():
        with limit_threads():
            yield

    left = steps()
    next(left)
    seen.append(threads())
    left.close()

def overlapping():
    first, second = limit_threads(), limit_threads(LARGE)
    first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    seen.append(threads())
    second.__exit__(None, None, None)
    seen.append(threads())

def nested_in_large():
    with limit_threads(LARGE), limit_threads():
        seen.append(threads())

def several():
    fits = [threading.Thread(target=fit, args=(16 + n,), kwargs={"epochs": 20}) for n in range(4)]
    [t.start() for t in fits], [t.join() for t in fits]
    seen[:] = {*seen}

def own_number():
    setter(1)
    fit(64)
    seen.append(threads())
    setter(2)

def changed_inside():
    with limit_threads():
        setter(2)
    setter(3)
    with limit_threads():
        setter(2)
    seen.append(threads())

def chosen_inside_large():
    with limit_threads(LARGE):
        setter(1)
    seen.append(threads())

def fork():
    if not hasattr(os, "fork"):
        return
    with limit_threads():
        child = os.fork()
        if child == 0:
            os._exit(threads())
        seen.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

def resume():
    run = fit()
    run.recipe["arithmetic"] = run.recipe["arithmetic"].replace("BLAS threads 1", "BLAS threads 9")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).resume(run, (x, x), epochs=1)
    seen[:] = ["BLAS threads 9, now" in str(warning.message) for warning in caught]

cases = [
    small, large, many, estimator, predictions, error, generator, overlapping, nested_in_large, several, own_number,
    changed_inside, chosen_inside_large, fork, resume,
]
for case in cases:
    seen = []
    case()
    results[case.__name__] = [seen, threads()]
    setter(2)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results():
    """What each case has seen, and the number of threads after it, in a process that begins with two."""
    if "OpenBLAS" not in arithmetic():
        pytest.skip("this NumPy has another BLAS")
    return json.loads(in_a_process(CASES, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2"))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("case", "seen", "after"),
    [
        ("small", [[1, 1]], 2),  # within the fit, and in its recipe
        ("large", [[2, 2]], 2),
        ("many", [[1, 1], [1, 1]] if find_spec("llvmlite") else [], 2),
        ("estimator", [[1, 1]], 2),
        ("predictions", [1, 2, 1, 1], 2),  # OpenBLAS gives the product of one row one thread by itself
        ("error", [[1, 1], 2], 2),
        ("generator", [1], 2),
        ("overlapping", [1, 2], 2),  # the first block decides until the last one ends
        ("nested_in_large", [2], 2),
        ("several", [[1, 1]], 2),
        ("own_number", [[1, 1], 1], 2),
        ("changed_inside", [2], 2),
        ("chosen_inside_large", [1], 1),
        ("fork", [2] if hasattr(os, "fork") else [], 2),
        ("resume", [True], 2),
    ],
)
def test_small_products_take_one_thread_and_large_ones_all(results, case, seen, after):
    assert results[case] == [seen, after]


@pytest.mark.parametrize(
    ("model", "sample", "products"),
    [
        (Sequential(Dense(8, 32), Dense(32, 4)), (8,), 8 * 32),
        (Dense(8, 32), (7, 8), 7 * 8 * 32),
        (Sequential(Embedding(1000, 8), Dense(8, 16)), (5,), 5 * 8 * 16),
        (Sequential(Flatten(), Dense(784, 64), Dense(64, 10)), (28, 28), 784 * 64),
        (Sequential(Conv2D(inputs=1, filters=8, kernel=3), GlobalAverage(), Dense(8, 50)), (1, 28, 28), 28 * 28 * 72),
        (Sequential(Heads(a=Dense(8, 4), b=Sequential(Flatten(), Dense(24, 4)))), (3, 8), 3 * 8 * 4),
        (Join(a=Dense(8, 4), b=Sequential(Flatten(), Dense(6, 2))), {"a": (8,), "b": (3, 2)}, 8 * 4),
    ],
)
def test_the_largest_product_has_the_steps_that_each_layer_is_given(model, sample, products):
    assert multiply_adds(model, 10, sample) == 10 * products
