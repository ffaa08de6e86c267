"""The layers of the catalogue against PyTorch and JAX, and what each promises besides its formula."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from oracles import jax, jax_gradients, jnp, stored

from framework import (
    BatchNorm,
    Component,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNorm,
    MaxPool,
    MeanSquaredError,
    Residual,
    Sequential,
    SettingsError,
    Sigmoid,
    Tanh,
)
from framework.models import GroupNorm, PositionalEncoding, RMSNorm
from framework.training.gradients import check_gradients

RNG = np.random.default_rng(2)
X = RNG.normal(1.0, 2.0, (7, 4))
IDS = RNG.integers(0, 5, (7, 3)).astype(float)
KEY = (3, 1, 4)


def residual():
    return Residual(Dense(4, 6, Tanh()), BatchNorm(6), Dropout(0.3), Dense(6, 4, Sigmoid()))


MAKE = {
    "dropout": lambda: Dropout(0.4),
    "batch norm": lambda: BatchNorm(4, momentum=0.3, epsilon=1e-3),
    "layer norm": lambda: LayerNorm(4),
    "rms norm": lambda: RMSNorm(4),
    "group norm": lambda: GroupNorm(2, units=4),
    "flatten": lambda: Flatten((2, 2)),
    "embedding": lambda: Embedding(5, 2),
    "residual": residual,
    "residual with a seed": lambda: Residual(Sequential(Dense(4, 4), seed=5)),
    "nested": lambda: Sequential(Residual(LayerNorm(4), Residual(Dense(4, 4, Tanh()), Dropout(0.5))), Dense(4, 2)),
}
EACH_LAYER = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)


def batch_for(model, rows=7):
    """Return a batch that the model takes."""
    if isinstance(model, Embedding):
        return IDS[:rows]
    if isinstance(model, Flatten):
        return X[:rows].reshape(-1, 2, 2)
    return X[:rows]


def shaken(model):
    """Give the parameters other values than the first ones."""
    model.parameters.vector[:] += np.random.default_rng(5).normal(size=model.parameters.vector.size)
    return model


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def assert_case(model, case, names, inputs="x"):
    """The model's output and gradients are those of the case, whose parameters have these names there."""
    for ours, theirs in names.items():
        model.parameters[ours][:] = case[f"parameters.{theirs}"]
    close(model.forward(case[inputs]), case["output"])
    dx = model.backward(case["upstream"])
    for ours, theirs in names.items():
        close(model.parameters.gradients[ours], case[f"gradients.{theirs}"])
    return dx


NORM = {"scale": "weight", "shift": "bias"}


def test_batch_norm_is_that_of_pytorch_over_several_batches_and_a_smaller_last_one():
    ours, cases = BatchNorm(4, momentum=0.3, epsilon=1e-3), dict(stored("batch_norm"))
    evaluation = cases.pop("evaluation")
    assert [len(case["x"]) for case in cases.values()] == [7, 5, 7, 2]
    for case in cases.values():
        close(assert_case(ours, case, NORM), case["gradients.x"])
        close(ours.buffers["running_mean"], case["running_mean"])
        close(ours.buffers["running_variance"], case["running_var"])
    close(ours(evaluation["x"]), evaluation["output"])
    close(ours(evaluation["x"][0]), evaluation["output"][0])


@pytest.mark.parametrize("case", stored("layer_norm").values(), ids=stored("layer_norm"))
def test_layer_norm_is_that_of_pytorch(case):
    ours = LayerNorm(4, epsilon=1e-3)
    close(assert_case(ours, case, NORM), case["gradients.x"])
    close(ours(case["x"]), case["output"])


@pytest.mark.parametrize("shape", [(4,), (5, 4), (3, 2, 4)])
def test_rms_norm_is_that_of_jax(shape):
    ours, rng = shaken(RMSNorm(4, epsilon=1e-3)), np.random.default_rng(3)
    x, upstream = rng.normal(1.0, 2.0, (2, 7, *shape))

    def theirs(x, scale):
        return x / jnp.sqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-3) * scale

    output, (dx, dscale) = jax_gradients(theirs, x, ours.parameters["scale"], upstream=upstream)
    close(ours.forward(x), output)
    close(ours.backward(upstream), dx)
    close(ours.parameters.gradients["scale"], dscale)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(6, 3), (6, 2, 4)])
def test_group_norm_is_that_of_jax(shape, groups):
    ours, rng = shaken(GroupNorm(groups, units=6, epsilon=1e-3)), np.random.default_rng(3)
    x, upstream = rng.normal(1.0, 2.0, (2, 7, *shape))
    members = [range(start, start + 6 // groups) for start in range(0, 6, 6 // groups)]

    def theirs(x, scale, shift):
        inner = tuple(range(1, x.ndim))
        parts = [x[:, jnp.array(group)] for group in members]
        parts = [(p - p.mean(inner, keepdims=True)) / jnp.sqrt(p.var(inner, keepdims=True) + 1e-3) for p in parts]
        wide = (slice(None), *(None,) * (x.ndim - 2))
        return jnp.concatenate(parts, axis=1) * scale[wide] + shift[wide]

    parameters = [ours.parameters[name] for name in ("scale", "shift")]
    output, (dx, dscale, dshift) = jax_gradients(theirs, x, *parameters, upstream=upstream)
    close(ours.forward(x), output)
    close(ours.backward(upstream), dx)
    close(ours.parameters.gradients["scale"], dscale)
    close(ours.parameters.gradients["shift"], dshift)


@pytest.mark.parametrize("case", stored("embedding").values(), ids=stored("embedding"))
def test_embedding_is_that_of_pytorch(case):
    dx = assert_case(Embedding(5, 2), case, {"weights": "weight"}, inputs="ids")
    assert dx.shape == case["ids"].shape
    assert not dx.any()


def test_residual_and_flatten_are_those_of_jax():
    ours = Sequential(
        Flatten((2, 2)),
        Residual(Dense(4, 6, Tanh(), seed=1), LayerNorm(6), Dense(6, 4, Sigmoid(), seed=2)),
        LayerNorm(4),
    )
    shaken(ours)
    inner = "1.block."

    def layer_norm(h, scale, shift):
        return (h - h.mean(1, keepdims=True)) / jnp.sqrt(h.var(1, keepdims=True) + 1e-5) * scale + shift

    def theirs(x, p):
        x = x.reshape(len(x), -1)
        h = jnp.tanh(x @ p[inner + "0.weights"] + p[inner + "0.bias"])
        h = layer_norm(h, p[inner + "1.scale"], p[inner + "1.shift"])
        h = jax.nn.sigmoid(h @ p[inner + "2.weights"] + p[inner + "2.bias"])
        return layer_norm(x + h, p["2.scale"], p["2.shift"])

    x = X.reshape(-1, 2, 2)
    output = ours.forward(x)
    upstream = np.random.default_rng(6).normal(size=output.shape)
    expected, (dx, gradients) = jax_gradients(theirs, x, dict(ours.parameters), upstream=upstream)
    close(output, expected)
    close(ours.backward(upstream), dx)
    for name, value in gradients.items():
        close(ours.parameters.gradients[name], value)


def test_dropout_is_that_of_jax_for_the_same_mask():
    ours = Dropout(0.4)
    mask = ours.forward(np.ones_like(X), key=KEY)
    output, (dx,) = jax_gradients(lambda x: x * mask, X)
    close(ours.forward(X, key=KEY), output)
    close(ours.backward(np.ones_like(X)), dx)


@EACH_LAYER
def test_gradients_agree_with_differences(make):
    model = shaken(make())
    if not isinstance(model, Embedding):
        x = batch_for(model)
        y = np.random.default_rng(7).normal(size=(7, *model.output_shape)) if None not in model.output_shape else X
        assert check_gradients(model, MeanSquaredError(), x, y).passed


def test_gradients_agree_with_differences_through_an_embedding():
    model = shaken(Sequential(Embedding(5, 2), Flatten((3, 2)), BatchNorm(6), Dense(6, 1)))
    y = np.random.default_rng(7).normal(size=(7, 1))
    model.forward(IDS)
    MeanSquaredError().backward(model, y)
    gradient = model.parameters.gradients["0.weights"].copy()
    weights = model.parameters["0.weights"]
    for place in np.ndindex(weights.shape):
        values = []
        for step in (1e-6, -2e-6):
            weights[place] += step
            model.forward(IDS)
            values.append(MeanSquaredError().backward(model, y))
        weights[place] += 1e-6
        assert gradient[place] == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-7)


# copies, JSON, freezing, dtype


@EACH_LAYER
def test_layers_copy_and_pickle_with_their_numbers(make):
    model = shaken(make())
    x = batch_for(model)
    model.forward(x, key=KEY)
    if model.parameters:
        model.parameters.freeze(next(iter(model.parameters)))
    twins = (model.copy(), copy.deepcopy(model), pickle.loads(pickle.dumps(model)))
    for twin in twins:
        assert np.array_equal(twin(x), model(x))
        assert np.array_equal(twin.parameters.vector, model.parameters.vector)
        assert twin.parameters.frozen == model.parameters.frozen
        assert twin.buffers.keys() == model.buffers.keys()
        assert all(np.array_equal(twin.buffers[name], model.buffers[name]) for name in model.buffers)
        assert not any(np.shares_memory(twin.buffers[name], model.buffers[name]) for name in model.buffers)
    before = {name: value.copy() for name, value in model.buffers.items()}
    for twin in twins:
        for _ in range(2):  # the copies go on alike, and leave the original alone
            twin.forward(batch_for(twin), key=KEY)
        assert all(np.array_equal(twin.buffers[name], twins[0].buffers[name]) for name in model.buffers)
    assert all(np.array_equal(before[name], value) for name, value in model.buffers.items())


@pytest.mark.parametrize(
    "make", [Dropout, BatchNorm, LayerNorm, RMSNorm, GroupNorm, Flatten, PositionalEncoding, MaxPool]
)
def test_a_layer_that_draws_nothing_refuses_a_seed(make):
    given = {Dropout: (0.5,), BatchNorm: (4,), LayerNorm: (4,), GroupNorm: (2,)}.get(make, ())
    settings = {"window": 2} if make is MaxPool else {}
    assert "seed" not in repr(make(*given, **settings))
    with pytest.raises(SettingsError, match=f"{make.__name__}: setting 'seed' has no effect.*from the trainer's seed"):
        make(*given, **settings, seed=1)


@EACH_LAYER
def test_settings_travel_as_json_and_repr(make):
    model = make()
    assert Component.from_json(model.to_json()).to_json() == model.to_json()
    assert eval(repr(model)).to_json() == model.to_json()
    assert model.replace().to_json() == model.to_json()


@EACH_LAYER
def test_frozen_parameters_get_no_gradient_and_the_rest_the_same(make):
    model = shaken(make())
    x = batch_for(model)
    gradient = np.ones_like(model.forward(x, key=KEY))
    model.backward(gradient)
    for name in model.parameters:
        expected = {n: g.copy() for n, g in model.parameters.gradients.items()}
        model.parameters.freeze(name)
        model.forward(x, key=KEY)
        model.backward(gradient)
        assert not model.parameters.gradients[name].any()
        for other in model.parameters:
            if other != name:
                np.testing.assert_allclose(model.parameters.gradients[other], expected[other], rtol=1e-12, atol=1e-15)
        model.parameters.unfreeze(name)
        model.forward(x, key=KEY)
        model.backward(gradient)


@EACH_LAYER
def test_gradients_accumulate(make):
    model = shaken(make())
    x = batch_for(model)
    gradient = np.ones_like(model.forward(x, key=KEY))
    model.backward(gradient)
    once = model.parameters.gradient.copy()
    model.forward(x, key=KEY)
    model.backward(gradient, accumulate=True)
    np.testing.assert_allclose(model.parameters.gradient, 2.0 * once, rtol=1e-12)


IN_DTYPE = {
    "dropout": lambda d: Dropout(0.4, dtype=d),
    "batch norm": lambda d: BatchNorm(4, dtype=d),
    "layer norm": lambda d: LayerNorm(4, dtype=d),
    "rms norm": lambda d: RMSNorm(4, dtype=d),
    "group norm": lambda d: GroupNorm(2, units=4, dtype=d),
    "flatten": lambda d: Flatten((2, 2), dtype=d),
    "embedding": lambda d: Embedding(5, 2, dtype=d),
    "residual": lambda d: Residual(BatchNorm(4, dtype=d), Dropout(0.4, dtype=d), Dense(4, 4, dtype=d)),
}


@pytest.mark.parametrize("make", IN_DTYPE.values(), ids=IN_DTYPE)
def test_float32_is_kept(make):
    model, wide = make("float32"), make("float64")
    x = batch_for(model)
    a = model.forward(x, key=KEY)
    dx = model.backward(np.ones_like(a))
    assert a.dtype == dx.dtype == model(x).dtype == model.parameters.gradient.dtype == np.float32
    assert all(value.dtype == np.float32 for value in model.buffers.values())
    np.testing.assert_allclose(a, wide.forward(x, key=KEY), rtol=2e-5, atol=1e-6)


@EACH_LAYER
def test_one_sample_gives_one_prediction(make):
    model = shaken(make())
    x = batch_for(model)
    np.testing.assert_allclose(model(x[2]), model(x)[2], rtol=1e-12)


@EACH_LAYER
def test_prediction_from_several_threads_is_that_of_one(make):
    model = shaken(make())
    x = np.repeat(batch_for(model), 50, axis=0)
    batches = [x[i : i + 97] for i in range(40)]
    expected = [model(batch) for batch in batches]
    before = {name: value.copy() for name, value in model.buffers.items()}
    with ThreadPoolExecutor(8) as pool:
        for ours, theirs in zip(pool.map(model, batches), expected, strict=True):
            assert np.array_equal(ours, theirs)
    assert all(np.array_equal(before[name], value) for name, value in model.buffers.items())


@EACH_LAYER
def test_what_is_handed_out_is_the_callers_own(make):
    model = shaken(make())
    x = batch_for(model)
    kept = x.copy()
    prediction = model.forward(x, key=KEY)
    gradient = np.ones_like(prediction)
    dx = model.backward(gradient)
    copies = prediction.copy(), dx.copy()
    answer = model(x)
    answer += 1.0
    model.forward(x[::-1].copy(), key=(0, 0, 9))
    model.backward(2.0 * gradient)
    assert np.array_equal(prediction, copies[0])
    assert np.array_equal(dx, copies[1])
    assert np.array_equal(x, kept)
    assert np.array_equal(gradient, np.ones_like(gradient))


@EACH_LAYER
def test_a_smaller_batch_after_a_larger_one_gives_what_it_gives_alone(make):
    one, other = shaken(make()), shaken(make())
    large, small = batch_for(one), batch_for(one, rows=3)
    one.backward(np.ones_like(one.forward(large, key=KEY)))
    a, b = one.forward(small, key=KEY), other.forward(small, key=KEY)
    assert np.array_equal(a, b)
    assert np.array_equal(one.backward(np.ones_like(a)), other.backward(np.ones_like(b)))
    assert np.array_equal(one.parameters.gradient, other.parameters.gradient)


@EACH_LAYER
def test_working_memory_is_kept_from_step_to_step(make):
    model = shaken(make())
    x = batch_for(model)
    gradient = np.ones_like(model.forward(x, key=KEY))
    places = set()
    for _ in range(3):
        a = model.forward(x, key=KEY, copy=False)
        dx, *_ = model.last_pass().backward([gradient], model.parameters.gradients, input_gradient=True)
        places.add((a.ctypes.data, dx.ctypes.data))
    assert len(places) == 1
