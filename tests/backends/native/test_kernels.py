"""Functions that kernels share are compiled once, and linked."""

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from framework.backends.native import compile_kernel, kernels

TWICE = "def twice(n: int, x: reals):\n    for i in range(n):\n        x[i] = doubled(x[i])"
APART = (
    ("twice", f"def doubled(x):\n    return x + x\n\n{TWICE}"),
    ("norm", "def norm(n: int, x: reals) -> real:\n    return sqrt(x[0] * x[0] + x[n - 1] * x[n - 1])"),
)
KERNEL = "def run(n: int, x: reals) -> real:\n    twice(n, x)\n    return norm(n, x)"
OTHER = "def run(n: int, x: reals):\n    twice(n - 1, x)"


@pytest.fixture
def compilations(monkeypatch, tmp_path):
    """Return a list that grows with each object file, in a cache that is empty."""
    monkeypatch.setenv("FRAMEWORK_CACHE_DIR", str(tmp_path))
    texts = []

    def recorded(text):
        texts.append(text)
        return object_file(text)

    object_file = kernels.object_file
    monkeypatch.setattr(kernels, "object_file", recorded)
    compile_kernel.cache_clear()
    yield texts
    compile_kernel.cache_clear()


def results(function=None):
    x = np.array([1.5, 5.0, 2.0])
    return (function or compile_kernel(KERNEL, "run", "float64", APART))(3, x), x.tolist()


def test_a_kernel_calls_functions_that_lie_apart(compilations):
    assert results() == (5.0, [3.0, 10.0, 4.0])
    assert len(compilations) == 2


def test_another_kernel_compiles_only_what_it_does_not_share(compilations):
    results()
    x = np.array([1.5, 5.0, 2.0])
    compile_kernel(OTHER, "run", "float64", APART[:1])(3, x)
    assert x.tolist() == [3.0, 10.0, 2.0]
    assert len(compilations) == 3
    assert "doubled" not in compilations[2]
    assert "fadd" not in compilations[2]


def test_a_later_process_compiles_nothing(compilations):
    results()
    compile_kernel.cache_clear()
    assert results() == (5.0, [3.0, 10.0, 4.0])
    assert len(compilations) == 2


def test_functions_of_one_name_are_not_mistaken_for_each_other(compilations):
    results()
    tripled = (("twice", APART[0][1].replace("x + x", "x + x + x")), APART[1])
    assert results(compile_kernel(KERNEL, "run", "float64", tripled)) == (7.5, [4.5, 15.0, 6.0])
    assert len(compilations) == 4


@pytest.mark.parametrize("lost", ["run_*", "apart_*", "index_*", "*"])
def test_files_that_are_lost_are_made_again(compilations, tmp_path, lost):
    results()
    for path in tmp_path.glob(lost):
        path.unlink()
    compile_kernel.cache_clear()
    assert results() == (5.0, [3.0, 10.0, 4.0])
    assert len(compilations) == {"run_*": 3, "index_*": 2}.get(lost, 4)


@pytest.mark.usefixtures("compilations")
def test_without_a_cache_kernels_are_linked_in_memory(monkeypatch):
    monkeypatch.setattr(kernels, "read_cached", lambda _: None)
    monkeypatch.setattr(kernels, "write", lambda *_: None)
    assert results() == (5.0, [3.0, 10.0, 4.0])
