"""A layer that gets samples of another shape says which layer to put before it; then the model runs."""

import re

import numpy as np
import pytest

from framework import GRU, BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Neuron, Reshape, Sequential, ShapeError
from framework.base.lazy import import_public
from framework.models import Bidirectional, Conv1D, Permute, PositionalEncoding, RMSNorm


class Grid(Layer):
    """A layer of samples of one shape."""

    @property
    def input_shape(self):
        return (4, 3)

    def formula(self, x):
        return x.sum(axis=-1)


def message(call):
    with pytest.raises(ShapeError) as caught:
        call()
    return str(caught.value)


# (the layer, the shape of a sample, the advised layer, the output for a sample)
ADVICE = [
    (GRU(units=4), (64,), "Reshape((64, 1))", (4,)),
    (GRU(units=4, inputs=1), (64,), "Reshape((64, 1))", (4,)),
    (GRU(units=4, inputs=8), (64,), "Reshape((-1, 8))", (4,)),
    (GRU(units=4, inputs=8), (8, 3), "Permute((2, 1))", (4,)),
    (Conv1D(filters=4, kernel=3), (64,), "Reshape((1, 64))", (4, 62)),
    (Conv2D(filters=4, kernel=3), (8, 8), "Reshape((1, 8, 8))", (4, 6, 6)),
    (Conv2D(filters=4, kernel=3, padding="same"), (8, 8), "Reshape((1, 8, 8))", (4, 8, 8)),
    (Conv2D(filters=4, kernel=3, inputs=3), (8, 9, 3), "Permute((3, 1, 2))", (4, 6, 7)),
    (Dense(64, 2), (8, 8), "Flatten()", (2,)),
    (RMSNorm(units=4), (4, 6), "Permute((2, 1))", (6, 4)),
    (RMSNorm(units=4), (4, 6, 5), "Permute((2, 3, 1))", (6, 5, 4)),
    (Grid(), (12,), "Reshape((4, 3))", (4,)),
]


@pytest.mark.parametrize(("layer", "shape", "advice", "gives"), ADVICE)
def test_the_advised_layer_makes_the_samples_fit(layer, shape, advice, gives):
    text = message(lambda: Sequential(layer.replace()).settle(shape))
    assert text.endswith(f"; put {advice} before {type(layer).__name__}")
    name, arguments = re.fullmatch(r"(\w+)\((.*)\)", advice).groups()
    axes = tuple(int(number) for number in re.findall(r"-?\d+", arguments))
    adapter = import_public(name)(*[axes] * bool(axes))
    model = Sequential(adapter, layer.replace())
    model.settle(shape)
    assert model.predict(np.ones((2, *shape))).shape == (2, *gives)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (GRU(units=4, inputs=5), (64,)),
        (BatchNorm(6), (1, 5)),
        (Conv2D(filters=2, kernel=3, groups=2), (8, 8)),
        (Dense(3, 2), (4,)),
        (Permute((2, 1)), (6,)),
    ],
)
def test_no_layer_is_advised_where_none_is_known_to_fit(layer, shape):
    assert " put " not in message(lambda: Sequential(layer.replace()).settle(shape))


def test_data_get_the_advice_of_the_layer_that_does_not_take_them():
    model = Sequential(Dense(64, 8), GRU(units=4))
    assert message(lambda: model.predict(np.ones((6, 64)))).endswith("; for more, put Reshape((-1, 8)) before GRU")
    assert message(lambda: Dense(64, 2)(np.ones((6, 8, 8)))).endswith("got (6, 8, 8); put Flatten() before Dense")
    assert message(lambda: Conv2D(filters=1, kernel=3, inputs=1).predict(np.ones((1, 8, 8)))).endswith(
        "got (1, 8, 8); one sample is x[None]; for more, put Reshape((1, 8, 8)) before Conv2D"
    )


@pytest.mark.parametrize(
    ("layers", "advice"),
    [
        (lambda: (Bidirectional(GRU(8)), Bidirectional(GRU(8))), "write GRU(..., returns='all') in layer 0"),
        (lambda: (Dropout(0.1), GRU(8), PositionalEncoding()), "write GRU(..., returns='all') in layer 1"),
        (lambda: (GRU(8, returns="all"), Flatten(), GRU(8)), "put Reshape((-1, 1)) before GRU"),
        (lambda: (Conv2D(filters=8, kernel=3), BatchNorm()), "use GroupNorm, or put Flatten() before BatchNorm"),
        (lambda: (Neuron(2), Dense(1, 1)), "put Flatten(()) before Dense"),
        (lambda: (Dense(2, 12), Grid()), "put Reshape((4, 3)) before Grid"),
    ],
)
def test_layers_that_do_not_follow_each_other_say_what_goes_between(layers, advice):
    assert message(lambda: Sequential(*layers())).endswith(f"; {advice}")


def test_a_missing_row_axis_is_named_by_the_layer_that_reshapes():
    text = message(lambda: Sequential(Reshape((1, 8, 8)), Flatten()).predict(np.ones((8, 8))))
    assert text == "Reshape: samples of shape (8,) do not have the size of (1, 8, 8); for one sample, give x[None]"
    assert message(lambda: Reshape((2, 2))(np.ones((1, 3, 4)))).endswith("do not have the size of (2, 2)")
