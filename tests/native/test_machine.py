"""Kernels for levels of instructions that this processor has beside its own, in processes that are limited to them."""

import os
import subprocess
import sys

import numpy as np
import pytest

from framework.errors import UsageError
from framework.native import compiled, compiler, machine, products
from framework.native.compiler import KernelError
from framework.native.kernels import load_product

LEVELS = [
    level for level, (feature, _) in machine._LEVELS.items() if machine.llvm().get_host_cpu_features().get(feature)
]

LIMITED = """
import sys
import numpy as np
sys.path += ["tests/native", "tests/support"]
import test_compiler, test_library
from framework.native.machine import processor

assert processor().name == sys.argv[1]
for dtype in ("float64", "float32"):
    test_compiler.test_every_statement_does_what_it_does_in_python(dtype)
    for flip in (0, 1, 2):
        for sizes in test_compiler.SIZES:
            test_compiler.test_products_are_those_of_numpy(dtype, flip, -0.5, sizes)
    for place in (1, 3, 4):  # expm1, log1p, tanh
        test_library.test_a_function_is_right_to_a_few_units_of_the_last_place(dtype, place)
"""


@pytest.mark.share(1 / 3)
@pytest.mark.skipif(len(LEVELS) < 2, reason="this processor has one level")
@pytest.mark.parametrize("level", LEVELS[1:2])
def test_a_level_below_this_processors_computes_the_same(level, pytestconfig):
    command = [sys.executable, "-c", LIMITED, level]
    subprocess.run(command, check=True, cwd=pytestconfig.rootpath, env=os.environ | {"FRAMEWORK_CPU": level})


def test_a_level_that_this_processor_lacks_is_refused(monkeypatch):
    machine.processor.cache_clear()
    monkeypatch.setenv("FRAMEWORK_CPU", "pdp-11")
    with pytest.raises(UsageError, match=r"FRAMEWORK_CPU must be a level of this processor: .*; got 'pdp-11'"):
        machine.processor()


def test_without_openblas_tiles_take_all_sizes(monkeypatch):
    monkeypatch.setattr(machine, "OPENBLAS", "no_such_function_{letter}")
    products.cache_clear()
    try:
        assert products() == "tiles"
    finally:
        monkeypatch.undo()
        products.cache_clear()
    assert products() in ("openblas", "tiles")


def test_large_products_are_those_of_numpy():
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=size).astype(np.float32) for size in ((300, 240), (240, 260), (300, 260)))
    expected = a.astype(np.float64) @ b + 0.5 * c
    for stored in ((0, a, b), (1, np.ascontiguousarray(a.T), b), (2, a, np.ascontiguousarray(b.T))):
        found = c.copy()
        load_product("float32")(stored[0], 300, 260, 240, 1.0, *stored[1:], 0.5, found)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_read_only_and_empty_arrays_are_taken():
    x = np.arange(3.0)
    x.flags.writeable = False
    text = "def run(x: reals, y: reals, n: int) -> real:\n    return x[n]"
    assert compiled(text, "run", "float64")(x, np.empty(0), 2) == 2.0


def test_a_function_that_the_mathematical_library_lacks_is_refused(monkeypatch):
    monkeypatch.setitem(compiler._LIBRARY, "sin", "no_such_sine")
    with pytest.raises(KernelError, match="the mathematical library of this system has no function no_such_sine"):
        compiled("def run(x: reals):\n    x[0] = sin(x[0]) + 0.125", "run", "float64")
