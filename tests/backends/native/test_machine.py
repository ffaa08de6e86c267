"""Kernels for levels of instructions that this processor has beside its own, in processes that are limited to them."""

import os
import subprocess
import sys

import numpy as np
import pytest

from framework.backends.native import compile_kernel, compiler, machine, products
from framework.backends.native.compiler import KernelError
from framework.backends.native.kernels import load_shared
from framework.base.errors import UsageError

LEVELS = [
    level for level, (feature, _) in machine._LEVELS.items() if machine.llvm().get_host_cpu_features().get(feature)
]

LIMITED = """
import sys
import numpy as np
sys.path += ["tests/backends/native", "tests/support"]
import test_compiler, test_library, test_tiles
from framework.backends.native.machine import processor

assert processor().name == sys.argv[1]
for dtype in ("float64", "float32"):
    test_compiler.test_every_statement_does_what_it_does_in_python(dtype)
    for scale in (1.0, -0.5):
        for columns in (1, 2, 3):
            test_tiles.test_a_strided_product_is_that_of_numpy(dtype, scale, columns)
        test_tiles.test_a_table_tile_is_the_product_at_the_places_of_its_tables(dtype, scale, 3)
        test_tiles.test_a_hop_tile_is_a_product_for_each_of_its_vectors(dtype, scale, 3)
        test_tiles.test_a_dot_tile_adds_up_runs_of_both_factors(dtype, scale, 11)
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


def test_read_only_and_empty_arrays_are_taken():
    x = np.arange(3.0)
    x.flags.writeable = False
    text = "def run(x: reals, y: reals, n: int) -> real:\n    return x[n]"
    assert compile_kernel(text, "run", "float64")(x, np.empty(0), 2) == 2.0


def test_a_function_that_the_mathematical_library_lacks_is_refused(monkeypatch):
    monkeypatch.setitem(compiler._LIBRARY, "sin", "no_such_sine")
    with pytest.raises(KernelError, match="the mathematical library of this system has no function no_such_sine"):
        compile_kernel("def run(x: reals):\n    x[0] = sin(x[0]) + 0.125", "run", "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_large_products_with_strides_are_those_of_numpy(dtype, transposed):
    load_shared("gemm", dtype)
    head = "m: int, n: int, k: int, a: reals, ra: int, sa: int, b: reals, sb: int, cb: int, c: reals, rc: int"
    text = f"def go({head}):\n    gemm(m, n, k, real(0.5), a, ra, sa, b, sb, cb, real(2.0), c, rc)"
    rng, (m, n, k) = np.random.default_rng(0), (300, 280, 260)
    a, b, c = (rng.normal(size=size).astype(dtype) for size in ((m, k), (k, n), (m, n + 7)))
    expected = c.copy()
    expected[:, :n] = 0.5 * (a @ b) + 2.0 * c[:, :n]
    left, right = (np.ascontiguousarray(x.T if turn else x) for x, turn in zip((a, b), transposed, strict=True))
    strides = *((1, m) if transposed[0] else (k, 1)), *((1, k) if transposed[1] else (n, 1))
    function = compile_kernel(text, "go", dtype)
    function(m, n, k, left.reshape(-1), *strides[:2], right.reshape(-1), *strides[2:], c.reshape(-1), n + 7)
    np.testing.assert_allclose(c, expected, rtol=0, atol=1e-10 if dtype == "float64" else 1e-3)
