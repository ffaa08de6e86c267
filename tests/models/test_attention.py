"""Attention and positions against PyTorch, JAX and the paper's formula."""

import numpy as np
import pytest
from layer_pieces import compare
from oracles import jax, jax_gradients, stored

from framework import MultiHeadAttention, Sequential, SettingsError, ShapeError
from framework.models import PositionalEncoding

NAMES = {
    "weights": "in_proj_weight",
    "bias": "in_proj_bias",
    "output_weights": "out_proj.weight",
    "output_bias": "out_proj.bias",
}


def ours(values, part):
    return {name: values[f"{part}.{theirs}"].T for name, theirs in NAMES.items()}


@pytest.mark.parametrize("case", [case for case in stored("multi_head_attention") if not case.startswith("padding")])
@pytest.mark.parametrize("written", [False, True])
def test_value_and_gradients_are_those_of_pytorch(case, written):
    values = stored("multi_head_attention")[case]
    causal = case.startswith("causal")
    mask = ~values["mask"] if causal else np.ones((5, 5), bool)
    settings = {"mask": mask} if written else {"causal": causal}
    compare(
        lambda dtype: MultiHeadAttention(heads=2, inputs=6, dtype=dtype, **settings),
        ours(values, "parameters"),
        values["x"],
        values["output"],
        values["upstream"],
        values["gradients.x"],
        ours(values, "gradients"),
    )


@pytest.mark.parametrize("case", [case for case in stored("multi_head_attention") if case.startswith("padding")])
def test_masked_steps_are_seen_by_no_step(case):
    values = stored("multi_head_attention")[case]
    x = np.where(values["mask"][..., None], 7.0, values["x"])
    upstream = np.where(values["mask"][..., None], 0.0, values["upstream"])  # outputs of masked steps mean nothing
    parameters = ours(values, "parameters")

    def theirs(x, weights, bias, output_weights, output_bias):
        query, key, value = jax.numpy.split(x @ weights + bias, 3, axis=-1)
        heads = []
        for part in (slice(0, 3), slice(3, 6)):
            scores = query[..., part] @ key[..., part].swapaxes(1, 2) / 3**0.5
            scores = jax.numpy.where(values["mask"][:, None, :], -jax.numpy.inf, scores)
            heads.append(jax.nn.softmax(scores) @ value[..., part])
        return jax.numpy.concatenate(heads, axis=-1) @ output_weights + output_bias

    output, (dx, *gradients) = jax_gradients(theirs, x, *parameters.values(), upstream=upstream)
    live = ~values["mask"]
    np.testing.assert_allclose(output[live], values["output"][live], rtol=1e-10, atol=1e-10)
    compare(
        lambda dtype: MultiHeadAttention(heads=2, inputs=6, masking=7.0, dtype=dtype),
        parameters,
        x,
        output,
        upstream,
        dx,
        dict(zip(parameters, gradients, strict=True)),
    )


def test_a_row_of_masked_steps_has_no_nan():
    layer = MultiHeadAttention(heads=1, inputs=2, masking=0.0)
    for dtype in ("float32", "float64"):
        assert np.isfinite(layer.replace(dtype=dtype)(np.zeros((2, 3, 2)))).all()


def test_units_may_differ_from_inputs():
    layer = MultiHeadAttention(heads=3, units=12, inputs=4)
    assert layer.layout()["weights"] == (4, 36)
    assert layer(np.ones((2, 5, 4))).shape == (2, 5, 4)
    model = Sequential(PositionalEncoding(), MultiHeadAttention(heads=2))
    assert model.settle((5, 4)) == (5, 4)
    assert model[1].inputs == 4


def test_positions_are_those_of_the_paper():
    x = np.random.default_rng(0).normal(size=(3, 7, 5))
    for dtype in ("float64", "float32"):
        added = PositionalEncoding(dtype=dtype)(x.astype(dtype)) - x.astype(dtype)
        expected = np.zeros((7, 5))
        for step in range(7):
            for place in range(5):
                angle = step / 10000 ** (2 * (place // 2) / 5)
                expected[step, place] = np.cos(angle) if place % 2 else np.sin(angle)
        np.testing.assert_allclose(
            added, np.broadcast_to(expected, x.shape), atol=1e-6 if dtype == "float32" else 1e-12
        )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MultiHeadAttention(heads=2, units=5), SettingsError, "multiple of heads=2; got 5"),
        (lambda: MultiHeadAttention(heads=2, inputs=7), SettingsError, "multiple of heads=2; got 7"),
        (lambda: Sequential(MultiHeadAttention(heads=2)).settle((3, 9)), SettingsError, "multiple of heads=2; got 9"),
        (lambda: MultiHeadAttention(heads=2, mask=[[True, False]]), SettingsError, "as many columns as rows"),
        (
            lambda: MultiHeadAttention(heads=2, inputs=2, mask=np.ones((4, 4), bool))(np.ones((2, 3, 2))),
            ShapeError,
            r"\(4, 2\)",
        ),
        (lambda: MultiHeadAttention(heads=2, inputs=2)(np.ones((2, 3, 4))), ShapeError, r"\(any, 2\)"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
