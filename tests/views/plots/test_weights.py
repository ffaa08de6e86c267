import numpy as np
import pytest

from framework import Conv2D, Dense, LayerNorm, Neuron, Sequential, SettingsError, ShapeError
from framework.models import Conv1D
from framework.views import plots


def tile(axis, row, column, height, width):
    """One of the images, that are a pixel apart."""
    shown = axis.images[0].get_array()
    return shown[row * (height + 1) :, column * (width + 1) :][:height, :width]


def test_the_weights_of_each_unit_are_an_image(axis):
    model = Sequential(Dense(64, 5), Dense(5, 2))
    plots.weights(model, axis=axis)
    weights = model.parameters["0.weights"]
    for unit in range(5):
        assert np.array_equal(tile(axis, unit // 3, unit % 3, 8, 8), weights[:, unit].reshape(8, 8))
    shown = axis.images[0].get_array()
    assert shown.shape == (2 * 9 - 1, 3 * 9 - 1)
    assert shown.mask.sum() == shown.size - 5 * 64  # what is no weight is transparent
    assert axis.images[0].get_clim() == (-np.abs(weights).max(), np.abs(weights).max())
    assert axis.get_title() == "0.weights"


def test_inputs_that_are_no_square_take_a_shape(axis):
    layer = Dense(6, 1)
    plots.weights(layer, shape=(2, 3), axis=axis)
    assert np.array_equal(axis.images[0].get_array(), layer.weights.reshape(2, 3))


def test_filters_are_images_with_their_channels_side_by_side(axis):
    layer = Conv2D(filters=2, kernel=(3, 4), inputs=2)
    plots.weights(layer, axis=axis)
    weights = layer.parameters["weights"]  # (channels, height, width, filters)
    wanted = [np.concatenate([weights[0, :, :, place], weights[1, :, :, place]], axis=1) for place in range(2)]
    assert np.array_equal(tile(axis, 0, 0, 3, 8), wanted[0])
    assert np.array_equal(tile(axis, 1, 0, 3, 8), wanted[1])


def test_a_filter_over_steps_is_an_image_of_channels_and_steps(axis):
    layer = Conv1D(filters=1, kernel=3, inputs=2)
    plots.weights(layer, axis=axis)
    assert np.array_equal(axis.images[0].get_array(), layer.parameters["weights"][:, :, 0])


def test_a_neuron_is_one_image_and_count_limits_them(axis):
    plots.weights(Neuron(9), axis=axis)
    assert axis.images[0].get_array().shape == (3, 3)
    plots.weights(Dense(4, 50), count=4, axis=axis)
    assert axis.images[-1].get_array().shape == (5, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"model": Dense(6, 1)},
            ShapeError,
            "argument 'shape' must be given: weights has 6 inputs",
        ),
        (
            {"model": Dense(6, 1), "shape": (2, 2)},
            ShapeError,
            "'shape' must hold the 6 inputs of weights; got 2 x 2",
        ),
        (
            {"model": Dense(4, 1), "name": "weight"},
            SettingsError,
            "; did you mean 'weights'.*: weights, bias",
        ),
        ({"model": LayerNorm(units=4)}, SettingsError, "argument 'name' must be a parameter of the model"),
        ({"model": Dense(6, 1), "shape": 6}, SettingsError, r"argument 'shape' must be \(height, width\); got 6"),
        (
            {"model": Dense(6, 1), "shape": (-2, -3)},
            SettingsError,
            r"'shape' must be \(height, width\); got \(-2, -3\)",
        ),
        ({"model": Dense(4, 1), "count": 0}, SettingsError, "argument 'count' must be a whole number from 1; got 0"),
    ],
)
def test_what_is_no_image_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plots.weights(**arguments)
