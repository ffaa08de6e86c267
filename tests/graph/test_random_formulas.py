"""Random formulas: value and gradient of every argument against JAX, with the same text of the formula."""

from functools import cache, partial

import numpy as np
import pytest
from graph import random_formulas
from graph.both_ways import by_graph, by_jax, error, in_jax, made_up
from graph.random_formulas import SHAPES, STEPS, random_steps, run

from framework.graph.operations import OPERATIONS, STABLE

SEEDS = range(300)
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
NOT_RECORDED = {"call", "call_back", "loop", "part", "python", "total", *STABLE}
"""Operations that no NumPy function records; total and the stable forms are made by transformations."""
COMPARED = {name for name, row in OPERATIONS.items() if row.elementwise and any(row.rules)}
"""Operations that ``test_gradient`` compares with JAX one by one."""


@cache
def case(seed):
    """Return the steps of a formula, arrays for it, and the gradient by its value."""
    steps, rng = random_steps(seed), np.random.default_rng([seed, 1])
    arrays = made_up(SHAPES, 3, rng)
    return steps, arrays, rng.normal(size=run(steps, **arrays).shape)


@cache
def compiled_by_jax(remainder):
    """Return the values and gradients of ten formulas. JAX compiles them as one program, in half the time."""
    cases = {str(seed): case(seed) for seed in SEEDS if seed % 30 == remainder}
    formulas = {seed: partial(in_jax(random_formulas, run), steps) for seed, (steps, *_) in cases.items()}
    return by_jax(
        lambda **arrays: {seed: formulas[seed](**own) for seed, own in arrays.items()},
        {seed: arrays for seed, (_, arrays, _) in cases.items()},
        {seed: upstream for seed, (*_, upstream) in cases.items()},
        case=str(remainder),
    )


@pytest.mark.share(1 / 5)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_formula_agrees_with_jax(seed):
    steps, arrays, upstream = case(seed)
    formula = partial(run, steps)
    found = {}
    for dtype in TOLERANCES:
        compute, _ = by_graph(formula, SHAPES, dtype)
        found[dtype] = compute({name: array.astype(dtype) for name, array in arrays.items()}, upstream.astype(dtype))
    expected = tuple(part[str(seed)] for part in compiled_by_jax(seed % 30))
    errors = {dtype: worst(found[dtype], expected) for dtype in TOLERANCES}
    if errors["float64"] >= TOLERANCES["float64"]:
        expected = by_jax(partial(in_jax(random_formulas, run), steps), arrays, upstream, compiled=False)
        errors = {dtype: worst(found[dtype], expected) for dtype in TOLERANCES}
    for dtype, tolerance in TOLERANCES.items():
        value, slopes = found[dtype]
        assert {array.dtype for array in (value, *slopes.values())} == {np.dtype(dtype)}
        assert errors[dtype] < tolerance


def worst(found, expected):
    """Return the largest error of the value and of the gradients."""
    (value, slopes), (expected_value, gradients) = found, expected
    assert slopes.keys() == gradients.keys() == SHAPES.keys()
    return max(error(value, expected_value), *(error(slopes[name], gradients[name]) for name in slopes))


def test_the_random_formulas_use_every_operation_that_is_not_compared_by_itself():
    places = {place for seed in SEEDS for place, *_ in random_steps(seed)}
    assert places == set(range(len(STEPS)))
    used = set()
    for place in places:
        _, graph = by_graph(partial(run, [(place, 0, 1, 1)]), SHAPES)
        used |= {node.op for node in graph.nodes}
    assert sorted(OPERATIONS.keys() - used - NOT_RECORDED - COMPARED) == []
