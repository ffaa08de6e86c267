"""Layers from the literature, written as a formula alone: values against NumPy, gradients against JAX."""

import numpy as np
import pytest
from graph import textbook
from graph.both_ways import by_graph, by_jax, error, in_jax, made_up
from graph.textbook import LAYERS

from framework import AdamOptimizer, Layer, MeanSquaredError, Trainer, check_gradients, load_model, save
from framework.models import Normal


def test_the_table_is_as_long_as_it_should_be():
    assert len(LAYERS) >= 80
    assert all(any(letter.isdigit() for letter in entry.source) for entry in LAYERS.values()), "a year for each"


@pytest.mark.parametrize("name", LAYERS)
def test_value_and_gradients_of_a_textbook_layer(name):
    entry = LAYERS[name]
    compute, _ = by_graph(entry.formula, entry.shapes)
    rng = np.random.default_rng(len(name))
    for rows in (1, 2, 5):
        arrays = made_up(entry.shapes, rows, rng)
        plain = entry.formula(**arrays)
        upstream = rng.normal(size=plain.shape)
        before = {key: array.copy() for key, array in arrays.items()}
        value, slopes = compute(arrays, upstream)
        assert error(value, plain) < 1e-13
        assert slopes.keys() == entry.shapes.keys()
        assert all(np.array_equal(arrays[key], before[key]) for key in arrays), "the arguments are unchanged"
    expected, gradients = by_jax(in_jax(textbook, entry.formula), arrays, upstream)
    assert error(value, expected) < 1e-10
    for key, slope in slopes.items():
        assert error(slope, gradients[key]) < 1e-10, f"the gradient of {key}"
        assert np.any(slope != 0), f"{key} has an effect"


@pytest.mark.parametrize("name", [name for name, entry in LAYERS.items() if entry.row_by_row])
def test_the_gradients_of_a_batch_are_those_of_its_rows(name):
    entry = LAYERS[name]
    compute, _ = by_graph(entry.formula, entry.shapes)
    rng = np.random.default_rng(len(name))
    arrays = made_up(entry.shapes, 3, rng)
    upstream = rng.normal(size=np.shape(entry.formula(**arrays)))
    _, whole = compute(arrays, upstream)
    each = [compute(arrays | {"x": arrays["x"][n : n + 1]}, upstream[n : n + 1])[1] for n in range(3)]
    assert error(whole.pop("x"), np.concatenate([slopes["x"] for slopes in each])) < 1e-12
    for key, slope in whole.items():
        assert error(slope, sum(slopes[key] for slopes in each)) < 1e-12


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", LAYERS)
def test_a_textbook_layer_in_float32_stays_in_float32(name):
    entry = LAYERS[name]
    compute, _ = by_graph(entry.formula, entry.shapes, "float32")
    exact, _ = by_graph(entry.formula, entry.shapes)
    rng = np.random.default_rng(len(name))
    arrays = made_up(entry.shapes, 4, rng, "float32")
    upstream = rng.normal(size=np.shape(entry.formula(**arrays))).astype("float32")
    value, slopes = compute(arrays, upstream)
    expected, gradients = exact(
        {key: array.astype("float64") for key, array in arrays.items()}, upstream.astype("float64")
    )
    for found, wanted in [(value, expected), *((slopes[key], gradients[key]) for key in slopes)]:
        assert found.dtype == np.float32
        assert error(found, wanted) < 1e-3


def layer_of(name):
    """Return a layer class of a textbook formula: shapes and formula alone."""
    entry = LAYERS[name]
    parameters = {key: shape for key, shape in entry.shapes.items() if key != "x"}
    return type(Layer)(
        "".join(part.title() for part in name.split("_")),
        (Layer,),
        {
            "__module__": __name__,
            "input_shape": property(lambda self: entry.shapes["x"][1:]),  # noqa: ARG005
            "shapes": lambda self: parameters,  # noqa: ARG005
            "initializers": lambda self: dict.fromkeys(parameters, Normal(deviation=0.5)),  # noqa: ARG005
            "formula": lambda self, x, **values: entry.formula(x, **values),  # noqa: ARG005
        },
    )


TRAINED = [
    "additive_attention",
    "rotary_attention",
    "swiglu",
    "top_two_experts",
    "deformable_convolution",
    "kolmogorov_arnold",
    "capsules",
    "graph_attention",
    "hypernetwork",
    "squeeze_and_excitation",
    "weight_normalization",
    "minimal_gated_unit",
    "selective_scan",
]
CLASSES = {name: layer_of(name) for name in TRAINED}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", TRAINED)
def test_a_textbook_layer_trains_and_is_saved_and_loaded(name, tmp_path):
    rng = np.random.default_rng(len(name))
    model = CLASSES[name](seed=1)
    x = made_up({"x": LAYERS[name].shapes["x"]}, 23, rng)["x"]
    y = CLASSES[name](seed=2)(x)
    before = {key: array.copy() for key, array in model.parameters.items()}
    trainer = Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.02), epochs=8, batch_size=7)
    run = trainer.fit(model, (x, y))
    losses = run.history["loss"]
    assert losses[-1] < losses[0]
    assert all(np.any(array != before[key]) for key, array in model.parameters.items())
    values = {key: np.array(array) for key, array in model.parameters.items()}
    np.testing.assert_allclose(model(x), LAYERS[name].formula(x, **values), rtol=1e-12, atol=1e-13)
    check_gradients(model, MeanSquaredError(), x[:3], y[:3])
    save(run, tmp_path / "run.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path / "run.safetensors")(x), model(x))
