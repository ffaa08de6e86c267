"""Bilinear against PyTorch, and RBF against JAX."""

import numpy as np
import pytest
from layer_pieces import compare, filled
from oracles import jax, jax_gradients, stored

from framework import Sequential, SettingsError, ShapeError
from framework.models import RBF, Bilinear


@pytest.mark.parametrize("case", stored("bilinear"))
def test_bilinear_is_that_of_pytorch(case):
    values = stored("bilinear")[case]

    def ours(part):
        return {"weights": np.moveaxis(values[f"{part}.weight"], 0, -1), "bias": values[f"{part}.bias"]}

    compare(
        lambda dtype: Bilinear(units=2, first=3, inputs=7, dtype=dtype),
        ours("parameters"),
        np.concatenate([values["x1"], values["x2"]], axis=1),
        values["output"],
        values["upstream"],
        np.concatenate([values["gradients.x1"], values["gradients.x2"]], axis=1),
        ours("gradients"),
    )


@pytest.mark.parametrize("rows", [1, 7])
def test_rbf_is_the_formula_in_jax(rows):
    rng = np.random.default_rng(0)
    x, centers, scale = rng.normal(size=(rows, 3)), rng.normal(size=(4, 3)), rng.uniform(0.5, 2.0, 4)
    upstream = rng.normal(size=(rows, 4))

    def theirs(x, centers, scale):
        distances = jax.numpy.linalg.norm(x[:, None] - centers, axis=-1)
        return jax.numpy.exp(-((scale * distances) ** 2) / 2)

    output, (dx, *gradients) = jax_gradients(theirs, x, centers, scale, upstream=upstream)
    compare(
        lambda dtype: RBF(units=4, inputs=3, dtype=dtype),
        {"centers": centers, "scale": scale},
        x,
        output,
        upstream,
        dx,
        dict(zip(("centers", "scale"), gradients, strict=True)),
    )


def test_at_a_center_the_bell_is_1_and_flat():
    layer = filled(RBF(units=1, inputs=2), {"centers": np.array([[1.0, 2.0]]), "scale": np.array([3.0])})
    np.testing.assert_array_equal(layer.forward([[1.0, 2.0]]), [[1.0]])
    np.testing.assert_array_equal(layer.backward([[1.0]]), [[0.0, 0.0]])


def test_inputs_come_from_the_layer_before():
    model = Sequential(RBF(units=5, inputs=2), Bilinear(units=3, first=2))
    assert model[1].layout() == {"weights": (2, 3, 3), "bias": (3,)}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Bilinear(units=2, first=3, inputs=3), SettingsError, "more than first=3"),
        (
            lambda: Sequential(RBF(units=3, inputs=2), Bilinear(units=2, first=3)),
            SettingsError,
            "more than first=3, ",
        ),
        (lambda: RBF(units=3, inputs=2)(np.ones((4, 3))), ShapeError, r"\(2,\)"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
