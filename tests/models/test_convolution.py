"""Convolution against PyTorch and JAX, and its shapes."""

import numpy as np
import pytest
from layer_pieces import compare, require_close, settings_of
from oracles import jax, jax_gradients, jnp, stored

from framework import Conv2D, GlobalAverage, LayerNorm, Reshape, Sequential, SettingsError, ShapeError
from framework.models import Conv1D, ConvTranspose1D, ConvTranspose2D, Permute, RMSNorm

KERNELS = {"conv1d": (Conv1D, 3), "conv2d": (Conv2D, (3, 2))}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in KERNELS for case in stored(name)])
def test_value_and_gradients_are_those_of_pytorch(name, case):
    values = stored(name)[case]
    cls, kernel = KERNELS[name]
    settings = settings_of(case)
    del settings["rows"]

    def ours(part):
        return {
            "weights": np.moveaxis(values[f"{part}.weight"], 0, -1),
            "bias": values[f"{part}.bias"],
        }

    compare(
        lambda dtype: cls(filters=3, kernel=kernel, inputs=2, dtype=dtype, **settings),
        ours("parameters"),
        values["x"],
        values["output"],
        values["upstream"],
        values["gradients.x"],
        ours("gradients"),
    )


@pytest.mark.parametrize("size", [5, 6])
@pytest.mark.parametrize("stride", [1, 2, (1, 3)])
@pytest.mark.parametrize(("kernel", "dilation"), [(2, (2, 1)), ((3, 1), 1)])
def test_same_padding_is_that_of_jax(size, stride, dilation, kernel):
    layer = Conv2D(filters=4, kernel=kernel, stride=stride, dilation=dilation, padding="same", inputs=3, seed=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3, size, size + 1))
    layer.parameters["bias"][:] = rng.normal(size=4)

    def pair(n):
        return n if isinstance(n, tuple) else (n, n)

    def theirs(x, weights, bias):
        dimensions = ("NCHW", "IHWO", "NCHW")
        output = jax.lax.conv_general_dilated(
            x, weights, pair(stride), "SAME", rhs_dilation=pair(dilation), dimension_numbers=dimensions
        )
        return output + bias[:, None, None]

    require_those_of_jax(layer, x, theirs)


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("cls", [Conv1D, Conv2D])
def test_groups_are_those_of_jax(cls, groups):
    layer = cls(filters=8, kernel=3, stride=2, dilation=2, padding=1, groups=groups, inputs=4, seed=1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 4, *(9, 8)[: cls.axes]))
    layer.parameters["bias"][:] = rng.normal(size=8)
    assert layer.layout()["weights"] == (4 // groups, *(3,) * cls.axes, 8)

    def theirs(x, weights, bias):
        axes = x.ndim - 2
        output = jax.lax.conv_general_dilated(
            x,
            weights,
            window_strides=(2,) * axes,
            padding=[(1, 1)] * axes,
            rhs_dilation=(2,) * axes,
            dimension_numbers=("NCHW", "IHWO", "NCHW") if axes == 2 else ("NCH", "IHO", "NCH"),
            feature_group_count=groups,
        )
        return output + bias[:, *(None,) * axes]

    require_those_of_jax(layer, x, theirs)


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 3), (3, 2)])
def test_causal_padding_is_that_of_jax_with_zeros_in_front(stride, dilation):
    layer = Conv1D(filters=3, kernel=3, stride=stride, dilation=dilation, padding="causal", inputs=2, seed=1)
    x = np.random.default_rng(0).normal(size=(5, 2, 8))

    def theirs(x, weights, bias):
        output = jax.lax.conv_general_dilated(
            x,
            weights,
            (stride,),
            [(2 * dilation, 0)],
            rhs_dilation=(dilation,),
            dimension_numbers=("NCH", "IHO", "NCH"),
        )
        return output + bias[:, None]

    require_those_of_jax(layer, x, theirs)
    assert layer.shape_after((2, 8)) == (3, -(-8 // stride))
    later = x.copy()
    later[:, :, 4:] = 0.0
    seen = -(-4 // stride)  # places of the first four steps
    np.testing.assert_array_equal(layer(later)[:, :, :seen], layer(x)[:, :, :seen])


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [(3, 1, 0, 1), (4, 2, 1, 1), (3, 2, 0, 1), (2, 3, 0, 1), (3, 3, 2, 2), (3, 2, 1, 3)],
)
@pytest.mark.parametrize("cls", [ConvTranspose1D, ConvTranspose2D])
def test_a_transposed_convolution_is_that_of_jax(cls, kernel, stride, padding, dilation, groups):
    window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    layer = cls(filters=4, inputs=2, seed=1, groups=groups, **window)
    axes = cls.axes
    x = np.random.default_rng(0).normal(size=(3, 2, *(4, 3)[:axes]))
    reach = dilation * (kernel - 1) + 1
    assert layer.layout()["weights"] == (2, *(kernel,) * axes, 4 // groups)
    assert layer.shape_after(x.shape[1:]) == (4, *((n - 1) * stride + reach - 2 * padding for n in x.shape[2:]))

    def theirs(x, weights, bias):
        parts = jnp.split(jnp.flip(weights, range(1, 1 + axes)), groups)
        output = jax.lax.conv_general_dilated(
            x,
            jnp.concatenate(parts, axis=-1),
            window_strides=(1,) * axes,
            padding=[(reach - 1 - padding,) * 2] * axes,
            lhs_dilation=(stride,) * axes,
            rhs_dilation=(dilation,) * axes,
            dimension_numbers=("NCHW", "IHWO", "NCHW") if axes == 2 else ("NCH", "IHO", "NCH"),
            feature_group_count=groups,
        )
        return output + bias[:, *(None,) * axes]

    require_those_of_jax(layer, x, theirs)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (2, 3), (3, 1), ((5, 2), (2, 4))])
def test_same_padding_of_a_transposed_convolution_is_that_of_jax(kernel, stride):
    layer = ConvTranspose2D(filters=3, kernel=kernel, stride=stride, padding="same", inputs=2, seed=1)
    x = np.random.default_rng(0).normal(size=(3, 2, 4, 3))
    strides = stride if isinstance(stride, tuple) else (stride, stride)

    def theirs(x, weights, bias):
        dimensions = ("NCHW", "IHWO", "NCHW")
        flipped = jnp.flip(weights, (1, 2))
        return jax.lax.conv_transpose(x, flipped, strides, "SAME", dimension_numbers=dimensions) + bias[:, None, None]

    require_those_of_jax(layer, x, theirs)
    assert layer.shape_after((2, 4, 3)) == (3, 4 * strides[0], 3 * strides[1])


def test_a_transposed_convolution_is_the_gradient_of_a_convolution():
    rng, window = np.random.default_rng(0), {"kernel": (3, 2), "stride": 2, "padding": 1}
    layer = Conv2D(filters=3, inputs=2, **window)
    x = rng.normal(size=(4, 2, 7, 6))
    upstream = rng.normal(size=layer.forward(x).shape)
    back = ConvTranspose2D(filters=2, inputs=3, **window)
    back.parameters["weights"][:] = layer.parameters["weights"].transpose(3, 1, 2, 0)
    np.testing.assert_allclose(back(upstream), layer.backward(upstream), rtol=1e-12, atol=1e-12)


def test_a_depthwise_convolution_keeps_the_channels_apart():
    layer = Conv1D(filters=4, kernel=2, groups=2, inputs=2)
    x = np.random.default_rng(0).normal(size=(1, 2, 6))
    x[:, 0] = 0.0
    assert not layer(x)[:, :2].any()
    assert layer(x)[:, 2:].all()


def require_those_of_jax(layer, x, theirs):
    """The output of a layer and the gradients of everything are those of a JAX function (x, weights, bias)."""
    ours = layer.forward(x)
    upstream = np.random.default_rng(1).normal(size=ours.shape)
    parameters = [layer.parameters[name] for name in ("weights", "bias")]
    output, (dx, dweights, dbias) = jax_gradients(theirs, x, *parameters, upstream=upstream)
    assert layer.shape_after(x.shape[1:]) == output.shape[1:]
    require_close(ours, output, "float64")
    require_close(layer.backward(upstream), dx, "float64")
    require_close(layer.parameters.gradients["weights"], dweights, "float64")
    require_close(layer.parameters.gradients["bias"], dbias, "float64")


def test_channels_are_inferred_through_layers_whose_sizes_are_open():
    model = Sequential(Conv2D(filters=4, kernel=3, inputs=1), Conv2D(filters=2, kernel=3), GlobalAverage())
    assert model.settled
    assert model[1].inputs == 4
    assert model.input_shape == (1, None, None)
    assert model(np.ones((5, 1, 9, 11))).shape == (5, 2)
    assert model(np.ones((2, 1, 7, 6))).shape == (2, 2)


def test_one_sample_is_a_batch_without_rows():
    layer = Conv1D(filters=2, kernel=3, inputs=2)
    x = np.random.default_rng(0).normal(size=(2, 8))
    np.testing.assert_array_equal(layer(x), layer(x[None])[0])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Conv2D(filters=2, kernel=(3, 3, 3)),
            SettingsError,
            r"'kernel' must be one number, or one for each of 2",
        ),
        (lambda: Conv1D(filters=2, kernel=3, stride=(1, 1)), SettingsError, r"'stride' must be one number"),
        (lambda: Conv2D(filters=2, kernel=3, padding="full"), SettingsError, "padding"),
        (lambda: Conv2D(filters=2, kernel=3, padding=-1), SettingsError, "padding.*-1"),
        (lambda: Conv2D(filters=2, kernel=3, padding="causal"), SettingsError, "'valid' or 'same' .*got 'causal'"),
        (
            lambda: Conv2D(filters=4, kernel=3, groups=3),
            SettingsError,
            "'filters' must be a multiple of groups=3; got 4; change one",
        ),
        (
            lambda: Sequential(Conv1D(filters=3, kernel=1, inputs=2), Conv1D(filters=4, kernel=3, groups=2)),
            SettingsError,
            "'inputs' must be a multiple of groups=2; got 3; change one",
        ),
        (lambda: Conv2D(filters=0, kernel=3), SettingsError, "filters"),
        (lambda: ConvTranspose1D(filters=2, kernel=3, padding="causal"), SettingsError, "got 'causal'"),
        (
            lambda: ConvTranspose1D(filters=2, kernel=3, padding=4, inputs=1)(np.ones((5, 1, 4))),
            ShapeError,
            r"padding=4 cuts off every place of samples of sizes \(4,\); take a smaller",
        ),
        (lambda: Conv2D(8, 3), SettingsError, "settings go by name"),
        (
            lambda: Sequential(Reshape((1, 4, 4)), Conv2D(filters=2, kernel=3, dilation=2)),
            ShapeError,
            r"a kernel that spans \(5, 5\) does not fit into \(4, 4\)",
        ),
        (lambda: Conv2D(filters=2, kernel=3, inputs=2)(np.ones((5, 3, 8, 8))), ShapeError, r"\(2, any, any\)"),
        (lambda: Conv1D(filters=2, kernel=9, inputs=2)(np.ones((5, 2, 8))), ShapeError, "does not fit"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_backward_pass_keeps_the_columns_of_the_forward_pass():
    passes = Conv2D(filters=2, kernel=3, inputs=1).passes((1, 5, 5), training=True)
    assert "windows(" in passes.forward.source
    assert "windows(" not in passes.backward(input_gradient=True).source


def test_an_output_may_have_as_many_places_as_the_number_that_stands_for_rows():
    layer = Conv1D(filters=1, kernel=3, inputs=1)
    x = np.random.default_rng(0).normal(size=(2, 1, 10009))
    kernel = layer.parameters["weights"].reshape(-1)
    expected = [np.correlate(row[0], kernel) for row in x]
    np.testing.assert_allclose(layer(x)[:, 0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_a_norm_between_two_permutes_keeps_a_convolution_causal(norm):
    model = Sequential(
        Conv1D(filters=4, kernel=3, padding="causal", inputs=2), Permute((2, 1)), norm(), Permute((2, 1))
    )
    x = np.random.default_rng(0).normal(size=(1, 2, 9))
    later = x.copy()
    later[..., 5:] = 0.0
    np.testing.assert_allclose(model(x)[..., :5], model(later)[..., :5], rtol=1e-12)
    assert not np.allclose(model(x)[..., 5:], model(later)[..., 5:])
