"""Products of views are those of NumPy, whichever micro-kernel computes them."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from framework.backends.native import compile_kernel
from framework.training.engines.native.products import product_of, write_product
from framework.training.engines.native.views import ROWS, Buffer
from framework.training.engines.native.writer import NestWriter

LANES = NestWriter("float64").lanes
CASES = {  # the letters, their sizes, and the micro-kernel where that does not depend on the processor
    "ik,kj->ij": ({"i": 9, "k": 5, "j": 21}, "gemm("),
    "ki,kj->ij": ({"i": 9, "k": 33, "j": 21}, "gemm("),
    "ik,jk->ij": ({"i": 4, "k": 40, "j": 3}, "gemm("),
    "ik,k->i": ({"i": 7, "k": 30}, "gemm("),
    "k,kj->j": ({"k": 6, "j": 19}, "gemm("),
    "bik,bkj->bij": ({"b": 3, "i": 4, "k": 5, "j": 18}, "gemm("),
    "bihd,bjhd->bhij": ({"b": 2, "i": 5, "j": 6, "h": 2, "d": 8}, "gemm("),
    "ikb,kjb->ijb": ({"i": 3, "k": 4, "j": 2, "b": 2 * LANES}, "lanes_product("),
    "iab,abj->ij": ({"i": 5, "a": 3, "b": 4, "j": 40}, ""),
    "oab,nabhw->nohw": ({"o": 6, "a": 3, "b": 2, "n": 2, "h": 4, "w": 5}, ""),
    "oab,nhbaw->nohw": ({"o": 6, "a": 3, "b": 2, "n": 2, "h": 4, "w": 4}, "hop_tile("),
    "nohw,nchw->oc": ({"n": 3, "o": 4, "c": 6, "h": 2, "w": 10}, ""),
    "nohw,nabchw->abco": ({"n": 3, "o": 40, "c": 29, "h": 4, "w": 6, "a": 3, "b": 3}, "windows["),
    "nohw,nabchw->oabc": ({"n": 3, "o": 33, "c": 29, "h": 4, "w": 6, "a": 3, "b": 3}, "windows["),
    "ij,ij->ij": ({"i": 4, "j": 6}, ""),
}


def strided(name, shape, order):
    """Return a view whose axes lie in memory in an order, with an array for its buffer."""
    buffer = Buffer(name, shape, "f", order, "temp")
    return buffer.view(), np.zeros(buffer.size)


def seen(view, array):
    """Return the elements of a view as an array."""
    strides = [stride * array.itemsize for stride in view.strides]
    return np.lib.stride_tricks.as_strided(array[view.offset :], view.shape, strides)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("subscripts", CASES)
def test_a_product_of_strided_views_is_that_of_numpy(subscripts, beta):
    sizes, kernel = CASES[subscripts]
    factors, result = subscripts.split("->")
    letters = [*factors.split(","), result]
    rng = np.random.default_rng(len(subscripts))
    for turned in range(4):
        shapes = [tuple(sizes[letter] for letter in each) for each in letters]
        orders = [tuple(range(len(shape)))[:: -1 if turned >> k & 1 else 1] for k, shape in enumerate(shapes)]
        views, arrays = zip(*(strided(*each) for each in zip("abc", shapes, orders, strict=True)), strict=True)
        for array in arrays:
            array[:] = rng.integers(-4, 5, array.shape)
        alpha = 0.5 if beta else 1.0
        expected = alpha * np.einsum(subscripts, *map(seen, views[:2], arrays[:2])) + beta * seen(views[2], arrays[2])
        writer = NestWriter("float64")
        node = SimpleNamespace(op="einsum", attributes={"subscripts": subscripts})
        write_product(writer, product_of(node, *views, "real(0.5)" if beta else None, beta))
        assert kernel in str(writer.functions) or turned
        names = {"a": arrays[0], "b": arrays[1], "c": arrays[2]}
        given = {name: names.get(buffer.name, np.zeros(buffer.size)) for buffer, name in writer.pointers.items()}
        tables = {name: make(1) for name, make in writer.tables.values()}
        heads = ", ".join([*(f"{name}: reals" for name in given), *(f"{name}: ints" for name in tables)])
        lines = "\n".join(line[4:] for line in writer.lines)
        apart = tuple((name, "\n\n".join(texts)) for name, texts in writer.functions.items())
        run = compile_kernel(f"def run(n: int, {heads}):\n{lines}", "run", "float64", apart)
        run(1, *given.values(), *tables.values())
        np.testing.assert_allclose(seen(views[2], arrays[2]), expected, rtol=1e-12, atol=1e-12)


def test_tiles_of_sums_end_with_the_rows_of_a_batch():
    sizes, rows = {"n": ROWS, "t": 2, "k": 14, "j": 3}, 3
    named = [("a", "tnk"), ("b", "jtk"), ("c", "nj")]
    buffers = [Buffer(name, tuple(sizes[c] for c in text), "f", (0, 1, 2)[: len(text)], "temp") for name, text in named]
    writer, node = NestWriter("float64"), SimpleNamespace(op="einsum", attributes={"subscripts": "tnk,jtk->nj"})
    write_product(writer, product_of(node, *(buffer.view() for buffer in buffers), None, 0.0))
    ((text,),) = writer.functions.values()
    assert "dot_tile(" in text
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(2, rows, 14)), rng.normal(size=(3, 2, 14)), np.full((rows + 8, 3), 7.0)
    margins = np.concatenate([a.reshape(-1), np.zeros(200)]), b.reshape(-1), c.reshape(-1)
    given = {writer.pointers[buffer]: array for buffer, array in zip(buffers, margins, strict=True)}
    tables = {name: make(rows) for name, make in writer.tables.values()}
    heads = ", ".join([*(f"{name}: reals" for name in given), *(f"{name}: ints" for name in tables)])
    lines = "\n".join(line[4:] for line in writer.lines)
    apart = tuple((name, "\n\n".join(texts)) for name, texts in writer.functions.items())
    compile_kernel(f"def run(n: int, {heads}):\n{lines}", "run", "float64", apart)(
        rows, *given.values(), *tables.values()
    )
    np.testing.assert_allclose(c[:rows], np.einsum("tnk,jtk->nj", a, b), rtol=1e-12)
    assert (c[rows:] == 7.0).all()
