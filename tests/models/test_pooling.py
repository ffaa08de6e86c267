"""Pooling against PyTorch and JAX, and its shapes."""

import numpy as np
import pytest
from layer_pieces import compare, require_close, settings_of
from oracles import jax, jax_gradients, stored

from framework import (
    Dense,
    Flatten,
    GlobalAverage,
    MaxPool,
    MeanSquaredError,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Trainer,
)
from framework.models import AveragePool

POOLS = {"max_pool2d": MaxPool, "avg_pool2d": AveragePool}
CASES = [(name, case) for name in POOLS for case in stored(name) if case.startswith("kernel")]


@pytest.mark.parametrize(("name", "case"), CASES)
def test_value_and_gradient_are_those_of_pytorch(name, case):
    values = stored(name)[case]
    numbers = settings_of(case)

    def make(dtype):
        return POOLS[name](window=numbers["kernel"], stride=numbers["stride"], padding=numbers["padding"], dtype=dtype)

    compare(make, {}, values["x"], values["output"], values["upstream"], values["gradients.x"], {})
    assert make("float64").shape_after(values["x"].shape[1:]) == values["output"].shape[1:]


@pytest.mark.parametrize("case", [case for case in stored("max_pool2d") if case.startswith("ties")])
def test_equal_largest_values_share_the_gradient_that_pytorch_gives_to_the_first(case):
    values = stored("max_pool2d")[case]
    layer = MaxPool(window=2)
    require_close(layer.forward(values["x"]), values["output"], "float64")
    dx = layer.backward(values["upstream"])
    cropped = (slice(None), slice(None), slice(0, 6), slice(0, 4))

    def blocks(array):
        return array[cropped].reshape(-1, 2, 3, 2, 2, 2)

    require_close(blocks(dx).sum(axis=(3, 5)), blocks(values["gradients.x"]).sum(axis=(3, 5)), "float64")
    largest = blocks(values["x"]) == blocks(values["x"]).max(axis=(3, 5), keepdims=True)
    shares = values["upstream"][:, :, :, None, :, None] / largest.sum(axis=(3, 5), keepdims=True)
    require_close(blocks(dx), np.where(largest, shares, 0.0), "float64")


@pytest.mark.parametrize("case", stored("global_avg_pool2d"))
def test_global_average_is_that_of_pytorch(case):
    values = stored("global_avg_pool2d")[case]
    compare(
        lambda dtype: GlobalAverage(dtype=dtype),
        {},
        values["x"],
        values["output"],
        values["upstream"],
        values["gradients.x"],
        {},
    )


@pytest.mark.parametrize("shape", [(7, 3, 9), (1, 3, 4, 5), (7, 2, 3, 4, 5)])
@pytest.mark.parametrize("stride", [None, 1])
def test_a_window_covers_every_axis_after_the_channels(shape, stride):
    x = np.random.default_rng(0).normal(size=shape)
    window, steps = ((1, 1, *(size,) * (len(shape) - 2)) for size in (2, stride or 2))

    def theirs(x):
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, window, steps, "VALID")

    layer = MaxPool(window=2, stride=stride)
    output, (dx,) = jax_gradients(theirs, x)
    require_close(layer.forward(x), output, "float64")
    require_close(layer.backward(np.ones_like(output)), dx, "float64")


@pytest.mark.parametrize("layer", [MaxPool(window=2), AveragePool(window=2)])
def test_a_pool_may_stand_behind_a_layer_of_the_last_axis(layer):
    x = np.random.default_rng(0).normal(size=(6, 3, 5))
    model = Sequential(Dense(units=4), layer.copy(), Flatten(), Dense(units=1))
    Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (x, np.ones((6, 1))))
    assert model[1](model[0](x)).shape == (6, 3, 2)
    assert model[-1].inputs == 6
    with pytest.raises(ShapeError, match=r"takes samples \(channels, sizes\); got 1 axis"):
        Sequential(Dense(5, 4), layer.copy())(np.ones((2, 5)))


def test_a_missing_number_reaches_the_output():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 1, 1] = np.nan
    for stride in (None, 1):
        assert np.isnan(MaxPool(window=2, stride=stride)(x)[0, 0, 0, 0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MaxPool(window=2, padding=2), SettingsError, "at most half of the window"),
        (lambda: MaxPool(window=(2, 2), stride=(1, 1, 1)), SettingsError, "one for each of 3 axes"),
        (
            lambda: MaxPool(window=3)(np.ones((4, 1, 2, 2))),
            ShapeError,
            r"window of \(3, 3\) does not fit into \(2, 2\)",
        ),
        (lambda: MaxPool(window=(2, 2))(np.ones((4, 6))), ShapeError, r"\(any, any, any\)"),
        (lambda: AveragePool(window=2)(np.ones((4, 6))), ShapeError, "takes samples"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
