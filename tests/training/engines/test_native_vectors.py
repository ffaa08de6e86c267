"""The machine code of nests computes with vectors, which LLVM leaves out without a word where it sees an obstacle."""

import re

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from kernels_of import kernel_of

from framework import GRU, AdamOptimizer, Conv2D, CrossEntropy, Dense, Flatten, Sequential, Softmax, Tanh
from framework.backends.native.compiler import Program
from framework.backends.native.machine import optimize_module, processor

pytestmark = pytest.mark.skipif(
    processor().registers.width < 32, reason="the test reads the instructions of x86 processors with AVX2"
)

MODELS = {
    "dense": ((20,), lambda: (Dense(20, 32, Tanh()), Dense(32, 10, Softmax()))),
    "GRU": ((6, 8), lambda: (GRU(16, inputs=8), Dense(16, 3, Softmax()))),
    "convolution": (
        (1, 12, 12),
        lambda: (Conv2D(filters=8, kernel=3, inputs=1), Tanh(), Flatten(), Dense(800, 3, Softmax())),
    ),
}
"""Models: the shape of a row, and a function that makes the layers."""

INSTRUCTION = re.compile(r"\bv?(?:add|sub|mul|div|sqrt|min|max|fn?m(?:add|sub)\d+)([ps])[ds]\b.*%([xyz])mm")
BYTES = {"x": 16, "y": 32, "z": 64}


@pytest.fixture(params=["float64", "float32"])
def loops_of(request):
    """Return a function that gives the arithmetic of the inner loops of a model's functions, by their names."""

    def loops_of(name, pattern, optimizer=None):
        shape, layers = MODELS[name]
        batch = np.zeros((8, *shape), request.param), np.zeros(8, int), None
        text = kernel_of(Sequential(*layers(), dtype=request.param), CrossEntropy(), optimizer, batch).text
        names = re.findall(rf"^def ({pattern})\(", text, re.MULTILINE)
        module, target = optimize_module(Program(text, request.param).llvm_text(*names))
        assembly = target.emit_assembly(module)
        functions = re.findall(r"^(\w+):$(.*?)^\.Lfunc_end", assembly, re.MULTILINE | re.DOTALL)
        assert {*names} <= {name for name, _ in functions}
        arithmetic = {name: INSTRUCTION.findall("\n".join(inner_loops(body))) for name, body in functions}
        return {name: instructions for name, instructions in arithmetic.items() if instructions}

    return loops_of


def inner_loops(body):
    """Give the lines of each loop without a loop in it: from a label to the last jump back to it."""
    lines, labels, loops = body.splitlines(), {}, {}
    for place, line in enumerate(lines):
        if label := re.match(r"(\.\w+):", line):
            labels[label[1]] = place
        elif (jump := re.match(r"\s+j\w+\s+(\.\w+)", line)) and jump[1] in labels:
            loops[labels[jump[1]]] = place
    for start, end in loops.items():
        if not any(start < other < end for other in loops):
            yield "\n".join(lines[start:end])


def count(instructions, kind):
    return sum(found == kind for found, _ in instructions)


@pytest.mark.parametrize("model", MODELS)
def test_the_inner_loops_of_nests_compute_with_vectors(loops_of, model):
    nests = loops_of(model, r"nest_\w+")
    assert len(nests) > 2
    for name, instructions in nests.items():
        assert count(instructions, "p") > count(instructions, "s"), name
        # LLVM takes half of a register for floats beside whole numbers of 64 bits.
        widest = max(BYTES[register] for kind, register in instructions if kind == "p")
        assert 2 * widest >= processor().registers.width, name


def test_an_update_has_a_loop_over_vectors_beside_that_over_the_rest(loops_of):
    updates = loops_of("dense", r"update\d+", AdamOptimizer())
    assert updates
    for instructions in updates.values():
        assert count(instructions, "p") >= count(instructions, "s") > 0
