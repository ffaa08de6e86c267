"""Loops inside loops, and steps that do not fit: values and gradients are those of JAX on Python loops."""

from functools import partial

import numpy as np
import pytest
from backends.test_numpy_gradients import Jax, NumPy, derived
from oracles import jax_gradients

from framework import Layer
from framework.backends.numpy import emit
from framework.base.errors import DerivativeError
from framework.graph.loop import loop
from framework.graph.trace import ROWS, trace
from framework.training import numerical_gradient

STEPS = [(1, 1), (2, 3), (3, 2)]
"""Steps of the outer and of the inner loop: odd, even and 1."""


def cell(lib, w):
    def step(h, e):
        h = lib.xp.tanh(h @ w + e)
        return h, h * 2

    return step


def last_of_both(lib, x, w, b):
    def outer(h, e):
        h = lib.loop(cell(lib, w), h, e)[0]
        return h, h

    return lib.loop(outer, b + lib.xp.zeros_like(x[:, 0, 0]), x)[0]


def last_of_the_inner(lib, x, w, b):
    def outer(h, e):
        last = lib.loop(cell(lib, w), h * b, e)[0]
        return last, h * 2

    return lib.loop(outer, lib.xp.ones_like(x[:, 0, 0]), x)[1]


def outputs_of_both(lib, x, w, b):
    return lib.loop(lambda h, e: lib.loop(cell(lib, w), h, e), b + lib.xp.zeros_like(x[:, 0, 0]), x)[1]


def fresh_start(lib, x, w, b):
    def outer(h, e):
        return h + b * lib.loop(cell(lib, w), lib.xp.zeros_like(h), e)[0], h

    return lib.loop(outer, lib.xp.zeros_like(x[:, 0, 0]), x)[0]


def last_and_outputs(lib, x, w, b):
    def outer(h, e):
        last, outputs = lib.loop(cell(lib, w), h, e)
        return last, outputs.sum(axis=1)

    last, outputs = lib.loop(outer, b + lib.xp.zeros_like(x[:, 0, 0]), x)
    return last + outputs.mean(axis=1)


def inner_step_reads_the_outer_state(lib, x, w, b):
    def outer(h, e):
        def inner(g, f):
            g = lib.xp.tanh(g @ w + f * h)
            return g, f

        last = lib.loop(inner, h, e)[0]
        return last, last * h

    return lib.loop(outer, b + lib.xp.zeros_like(x[:, 0, 0]), x)[1]


def two_states(lib, x, w, b):
    def inner(state, e):
        h, c = state
        return (c, lib.xp.tanh(h @ w + e * c)), h

    def outer(state, e):
        (h, c), _ = lib.loop(inner, state, e)
        return (c, h), h

    zero = lib.xp.zeros_like(x[:, 0, 0])
    (h, c), outputs = lib.loop(outer, (zero, zero + b), x)
    return h * c + outputs.sum(axis=1)


def state_passed_through(lib, x, w, b):
    def inner(state, e):
        h, c = state
        return (lib.xp.tanh(h @ w + e * c), c), h

    def outer(state, e):
        state = lib.loop(inner, state, e)[0]
        return state, state[1]

    zero = lib.xp.zeros_like(x[:, 0, 0])
    (h, c), outputs = lib.loop(outer, (zero, zero + b), x)
    return h * c + outputs.sum(axis=1)


def two_inner_loops(lib, x, w, b):
    def outer(h, e):
        outputs = lib.loop(cell(lib, w), h, e)[1]
        h = lib.loop(cell(lib, w), h * b, outputs)[0]
        return h, outputs[:, 0]

    last, outputs = lib.loop(outer, lib.xp.ones_like(x[:, 0, 0]), x)
    return last + outputs[:, -1]


def three_loops_deep(lib, x, w, b):
    def middle(h, e):
        h = lib.loop(cell(lib, w), h, lib.xp.stack([e, e * b, e], 1))[0]
        return h, h

    def outer(h, e):
        h = lib.loop(middle, h, e)[0]
        return h, h

    return lib.loop(outer, lib.xp.zeros_like(x[:, 0, 0]), x)[0]


def sequence_from_outside(lib, x, w, b):
    def outer(h, e):
        last = lib.loop(cell(lib, w), h, x[:, 0])[0]
        return last + e.sum(axis=1) * b, last

    return lib.loop(outer, lib.xp.zeros_like(x[:, 0, 0]), x)[0]


def single_numbers(lib, x, w, b):
    def inner(s, e):
        s = s * 0.5 + lib.xp.sum(e * b)
        return s, s

    def outer(s, e):
        s = lib.loop(inner, s, e, 0)[0]
        return s, s

    sequence = w[:, None] * lib.xp.ones((1, x.shape[2], 1))
    return lib.loop(outer, lib.xp.sum(b), sequence, 0)[0] * x.sum(axis=(1, 2))


@pytest.mark.share(1 / 2)
@pytest.mark.parametrize(
    "formula",
    [
        last_of_both,
        last_of_the_inner,
        outputs_of_both,
        fresh_start,
        last_and_outputs,
        inner_step_reads_the_outer_state,
        two_states,
        state_passed_through,
        two_inner_loops,
        three_loops_deep,
        sequence_from_outside,
        single_numbers,
    ],
)
def test_loops_inside_loops_are_those_of_jax(formula):
    for steps in STEPS:
        shapes = {"x": (ROWS, *steps, 3), "w": (3, 3), "b": (3,)}
        emitted, names = derived(formula, shapes, "float64")
        traced = trace(lambda **x: formula(NumPy, **x), shapes)
        forward = [emit({"y": traced.output}, traced.inputs, memory=memory) for memory in (True, False)]
        rng = np.random.default_rng(sum(steps))
        arrays = [rng.normal(size=tuple(4 if size == ROWS else size for size in shape)) for shape in shapes.values()]
        g = rng.normal(size=formula(NumPy, *arrays).shape)
        expected, gradients = jax_gradients(partial(formula, Jax), *arrays, upstream=g)
        found = emitted(*arrays, g, *(np.full(shape.shape, np.nan) for shape in arrays))
        given = [formula(NumPy, *arrays), *(f(*arrays) for f in forward), *found]
        for mine, theirs in zip(given, [expected] * 3 + [expected, *gradients], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12 * max(1.0, np.abs(theirs).max()))
        assert len(names) == 3


X = np.ones((2, 3))


@pytest.mark.parametrize("array", [np.asarray, None], ids=["arrays", "symbols"])
@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (lambda x: loop(lambda h, e: (h + e[0], h), x[:, 0], (x, x[:, :2])), "same number of steps, axis 1; they have"),
        (lambda x: loop(lambda h, e: h + e, x[:, 0], x), "a pair of arrays, .*; it returned one value"),
        (lambda x: loop(lambda h, e: (h, e, e), x[:, 0], x), "it returned 3 values"),
        (lambda x: loop(lambda h, e: (h + e, None), x[:, 0], x), "it returned no output"),
        (lambda x: loop(lambda h, e: ([h[0] + e], e), (x[:, 0],), x), "the new state must be an array or a tuple"),
        (lambda x: loop(lambda h, e: (h, e), [x[:, 0]], x), "the state must be an array or a tuple of arrays; got a l"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(array, formula, message):
    with pytest.raises((ValueError, TypeError), match=message):
        formula(array(X)) if array else trace(lambda x: formula(x)[0], {"x": (ROWS, 3)})


def test_a_loop_of_arrays_without_steps_is_refused():
    with pytest.raises(ValueError, match=r"the sequence has no steps, axis 1 of \(2, 0\)"):
        loop(lambda h, e: (h + e, h), X[:, 0], X[:, :0])


NUMBERS = {  # states that are numbers, and results that do not change
    "a count": lambda x: loop(lambda n, e: (n + 1, n * e), 0, x)[1],
    "the last count": lambda x: loop(lambda n, e: (n + 1, n * e), 0, x)[0] * x,
    "a power": lambda x: loop(lambda h, e: ((h[0] * 0.5, h[1] + h[0] * e), e), (1.0, np.zeros_like(x[:, 0])), x)[0][1],
    "a flag": lambda x: loop(lambda h, e: ((False, np.where(h[0], e, h[1] + e)), e), (True, x[:, 0]), x)[0][1],
    "an unused state": lambda x: loop(lambda h, e: (h, e * 2), 0.0, x)[1],
    "ones": lambda x: loop(lambda h, e: (h + e, np.ones_like(e)), x[:, 0], x)[1] * x,
    "zeros": lambda x: loop(lambda h, e: (np.zeros_like(h), e * h), np.ones_like(x[:, 0]), x)[1],
}


@pytest.mark.parametrize("formula", NUMBERS.values(), ids=NUMBERS)
def test_a_state_may_be_a_number(formula):
    x = np.cos(np.arange(1.0, 13.0)).reshape(3, 4)
    layer = Layer.of(formula)
    output = layer.forward(x)
    np.testing.assert_allclose(output, formula(x), rtol=1e-14)
    expected = numerical_gradient(lambda x: float(formula(x).sum()), x)
    np.testing.assert_allclose(layer.backward(np.ones_like(output)), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("first", "kept", "found"),
    [
        (lambda x: np.zeros(len(x), int), r"int \(rows,\)", r"float \(rows,\)"),
        (lambda _x: 0.0, r"float \(\)", r"float \(rows,\)"),
        (lambda x: (x[:, 0], x[:, 1]), r"float \(rows,\), float \(rows,\)", r"float \(rows,\)"),
    ],
)
def test_a_state_keeps_its_shape_and_kind(first, kept, found):
    def step(state, e):
        return (state[0] if isinstance(state, tuple) else state) + e, e

    with pytest.raises(ValueError, match=f"keep its shape and kind, {kept}; step returned {found}$"):
        trace(lambda x: loop(step, first(x), x)[0], {"x": (ROWS, 3)})


def test_steps_that_are_rows_are_refused():
    with pytest.raises(DerivativeError, match="a loop whose steps are the rows"):
        trace(lambda x: loop(lambda h, e: (h + e, h), np.zeros(3), x, axis=0)[0], {"x": (ROWS, 3)})


def test_rows_that_are_mixed_in_an_inner_loop_are_found():
    def outer(h, e):
        h = loop(lambda h, e: (h + e - e.mean(axis=0), h), h, np.stack([e, e], axis=1))[0]
        return h, h

    with pytest.raises(DerivativeError, match="mixes rows, by mean over the rows"):
        Layer.of(lambda x: loop(outer, x[:, 0], x)[1])(X)
