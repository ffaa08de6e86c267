"""Flatten, Reshape and Permute against NumPy, and the shapes that they give."""

import pickle

import numpy as np
import pytest

from framework import (
    Dense,
    Dropout,
    Flatten,
    MeanSquaredError,
    Model,
    Reshape,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Tanh,
    Trainer,
)
from framework.models import Permute

X = np.random.default_rng(0).normal(size=(7, 2, 3, 4))
LAYERS = {
    "flatten": (lambda: Flatten((2, 3, 4)), lambda x: x.reshape(7, 24)),
    "flatten any": (Flatten, lambda x: x.reshape(7, 24)),
    "reshape": (lambda: Reshape((4, 6)), lambda x: x.reshape(7, 4, 6)),
    "reshape the rest": (lambda: Reshape((3, -1, 2)), lambda x: x.reshape(7, 3, 4, 2)),
    "reshape to one": (lambda: Reshape((1, 24)), lambda x: x.reshape(7, 1, 24)),
    "reshape all the rest": (lambda: Reshape((-1,)), lambda x: x.reshape(7, 24)),
    "permute": (lambda: Permute((3, 1, 2)), lambda x: np.transpose(x, (0, 3, 1, 2))),
}


@pytest.mark.parametrize(
    "front",
    [lambda: [Dense(units=2)], lambda: [Dense(4, 2)], lambda: [Tanh(), Dense(units=2)]],
    ids=["open", "known", "behind an activation"],
)
def test_what_flatten_gives_is_left_to_the_data_where_the_samples_may_have_more_axes(front):
    model = Sequential(*front(), Dropout(0.0), Flatten(), Dense(units=1))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    run = trainer.fit(model, (X, np.ones((7, 1))))
    assert model[-1].inputs == 12
    for again in (model.copy(), pickle.loads(pickle.dumps(model)), Model.from_json(model.to_json())):
        again.parameters.vector = run.model.parameters.vector
        np.testing.assert_array_equal(again(X), model(X))


@pytest.mark.parametrize(("make", "theirs"), LAYERS.values(), ids=LAYERS)
def test_numbers_are_arranged_and_gradients_go_back_to_their_places(make, theirs):
    layer, expected = make(), theirs(X)
    assert layer.shape_after(X.shape[1:]) == expected.shape[1:]
    np.testing.assert_array_equal(layer(X), expected)
    np.testing.assert_array_equal(layer.forward(X), expected)
    numbers = np.arange(X.size, dtype=float).reshape(X.shape)
    np.testing.assert_array_equal(layer.backward(theirs(numbers)), numbers)
    np.testing.assert_array_equal(layer.forward(X[:1]), expected[:1])
    assert not np.may_share_memory(layer(X), X)


def test_the_next_layer_takes_its_inputs_from_the_shape():
    model = Sequential(Permute((2, 1)), Flatten(), Dense(units=2))
    assert model.settle((3, 4)) == (2,)
    assert model[2].inputs == 12
    model = Sequential(Reshape((2, 3)), Flatten(), Dense(units=2))
    assert model[2].inputs == 6


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Reshape((2, -1, -1)), SettingsError, "at most one -1"),
        (lambda: Reshape((2, 0)), SettingsError, "positive sizes"),
        (lambda: Reshape((2, 2))(X), ShapeError, r"samples of shape \(2, 3, 4\) do not have the size of \(2, 2\)"),
        (lambda: Reshape((5, -1))(X), ShapeError, "do not have the size"),
        (lambda: Permute((0, 1)), SettingsError, "greater than or equal to 1; got 0"),
        (lambda: Permute((1, 3)), SettingsError, r"once .*; got \(1, 3\)"),
        (lambda: Permute((2, 1))(X), ShapeError, r"\(any, any\)"),
        (lambda: Flatten((2, 3))(X), ShapeError, r"\(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
