"""Whole models at random train with JAX as with NumPy: three steps from the same start.

The models are those of a rotation, so each run of the suite has others; ``MODELS=300`` takes so many. A failure shows
the model, and its case and rotation make it again.

Each parameter and buffer may differ by 1e-9 of its largest change, or by its own rounding. Where the true gradient is
0, such as that of a bias before BatchNorm, the change is rounding alone. There the engines may differ by ten times what
changes of x by 1e-15 make of NumPy's result.
"""

import os

import numpy as np
import pytest
from jax_pieces import quick  # noqa: F401 (a fixture)
from whole_models import WholeModel

from framework.trees import leaves, map_leaves

TOLERANCE, NEAR, MARGIN = 1e-9, 1e-15, 10.0
COUNT = int(os.environ.get("MODELS", "30"))


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("case", range(COUNT))
def test_a_random_model_learns_with_jax_as_with_numpy(case, pytestconfig):
    drawn = WholeModel(pytestconfig.option.rotation, case)
    expected = results(drawn, "numpy")
    found = results(drawn, "jax")
    wrong = differences(drawn, expected, found)
    if wrong:
        wrong = differences(drawn, expected, found, [results(drawn, "numpy", near=turn) for turn in (1, 2, 3)])
    assert not wrong, f"{drawn!r}\n" + "\n".join(f"{name}: {text}" for name, text in wrong.items())


def results(drawn, engine, near=0):
    """Train a copy, and return its numbers and the history by name.

    ``near`` seeds a change of x by 1e-15 of itself; where x holds ids, that of the parameters.
    """
    model, x, rng = drawn.model.copy(), drawn.x, np.random.default_rng(near)

    def moved(leaf):
        return leaf * (1.0 + NEAR * rng.uniform(-1.0, 1.0, leaf.shape)) if leaf.dtype.kind == "f" else leaf

    if near:
        x = map_leaves(moved, x)
        if any(leaf.dtype.kind != "f" for leaf in leaves(x)):
            model.parameters.vector[...] = moved(model.parameters.vector)
    run = drawn.trainer(engine=engine).fit(model, (x, *drawn.data[1:]))
    assert run.engine == engine
    numbers = {f"parameter {name}": value for name, value in run.model.parameters.items()}
    numbers |= {f"buffer {name}": value for name, value in run.model.buffers.items()}
    (row,) = run.history.rows
    return numbers | {f"history {key}": np.array(row[key], float) for key in sorted(row.keys() - {"seconds"})}


def differences(drawn, expected, found, close=()):
    """Return what differs by more than is allowed, with both sizes."""
    start = {f"parameter {name}": value for name, value in drawn.model.parameters.items()}
    start |= {f"buffer {name}": value for name, value in drawn.model.buffers.items()}
    wrong = {}
    for name, value in expected.items():
        change = largest(value - start.get(name, 0.0))
        allowed = TOLERANCE * change + 4.0 * np.finfo(float).eps * largest(value)
        allowed = max([allowed, *(MARGIN * largest(other[name] - value) for other in close)])
        difference = largest(found[name] - value)
        if not difference <= allowed:
            wrong[name] = f"differs by {difference:.3g}, allowed are {allowed:.3g} of a change of {change:.3g}"
    return wrong


def largest(array):
    return float(np.abs(array).max(initial=0.0))
