"""What each layer of the catalogue promises besides its formula, and what it refuses."""

import pickle
import warnings

import numpy as np
import pytest

from framework import (
    BatchNorm,
    Component,
    DataError,
    Dense,
    DivergedError,
    Dropout,
    Embedding,
    Flatten,
    FrameworkError,
    HalfSquaredError,
    LayerNorm,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
)
from framework.base import UsageError
from framework.models import Conv1D, GroupNorm

X = np.random.default_rng(2).normal(1.0, 2.0, (7, 4))
KEY = (3, 1, 4)


# dropout


def test_dropout_keeps_the_mean_and_leaves_out_its_rate():
    for rate in (0.1, 0.5, 0.9):
        a = Dropout(rate).forward(np.ones((1000, 100)), key=KEY)
        assert np.mean(a) == pytest.approx(1.0, abs=0.02)
        assert np.mean(a == 0) == pytest.approx(rate, abs=0.01)
        assert set(np.unique(a)) == {0.0, 1.0 / (1.0 - rate)}


def test_the_mask_is_a_function_of_the_key_alone():
    layer, twin = Dropout(0.5), Dropout(0.5)
    ones = np.ones((50, 20))
    masks = {key: layer.forward(ones, key=key) for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0, 0)]}
    for key in reversed(list(masks)):
        assert np.array_equal(twin.forward(ones, key=key), masks[key])
    assert len({mask.tobytes() for mask in masks.values()}) == len(masks)


def test_two_dropouts_of_a_model_draw_their_own_masks():
    ones = np.ones((50, 20))
    model = Sequential(Dropout(0.5), Dropout(0.5))
    assert np.mean(model.forward(ones, key=KEY) == 4.0) == pytest.approx(0.25, abs=0.05)
    inside = Sequential(Dropout(0.5), Residual(Dropout(0.5)))
    assert set(np.unique(inside.forward(ones, key=KEY))) == {0.0, 2.0, 6.0}


def test_backward_uses_the_mask_of_the_forward():
    layer = Dropout(0.5)
    for step in range(3):
        a = layer.forward(np.ones((9, 5)), key=(0, 0, step))
        assert np.array_equal(layer.backward(np.ones((9, 5))), a)


def test_dropout_touches_no_random_state():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    Dropout(0.5).forward(X, key=KEY)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_dropout_predicts_without_a_mask_or_a_key():
    assert np.array_equal(Dropout(0.9)(X), X)
    assert np.array_equal(Sequential(Dense.from_weights(np.eye(4)), Dropout(0.9))(X), X)


def test_dropout_without_a_key_says_how_to_give_one():
    for model, key in [(Dropout(0.5), None), (Dropout(0.5), ()), (Residual(Dropout(0.5)), None)]:
        with pytest.raises(UsageError, match=r"write forward\(x, key=\(seed, epoch, step\)\)"):
            model.forward(X, key=key)
    with pytest.raises(UsageError, match=r"call Dropout\.forward"):
        Dropout(0.5).backward(X)


def test_a_rate_of_0_is_the_identity_and_needs_no_key():
    layer = Dropout(0.0)
    assert np.array_equal(layer.forward(X), X)
    assert np.array_equal(layer.backward(X), X)
    for rate in (1.0, -0.1):
        with pytest.raises(SettingsError, match="rate"):
            Dropout(rate)


# normalization


def test_a_batch_of_one_row_is_refused_in_training_and_changes_nothing():
    layer = BatchNorm(4)
    for x in (X[:1], X[0]):
        with pytest.raises(ShapeError, match="2 rows or more in training; got 1"):
            layer.forward(x)
    assert not layer.buffers["running_mean"].any()
    assert layer(X[0]).shape == (4,)


def test_a_diverged_batch_leaves_the_running_numbers_as_they_are():
    layer = BatchNorm(4)
    layer.forward(X)
    before = {name: value.copy() for name, value in layer.buffers.items()}
    with np.errstate(all="ignore"):
        with pytest.raises(DivergedError, match="running_variance"):  # the output is finite
            layer.forward(np.where(X > 2, 1e200, X))
        layer.forward(np.where(X > 2, np.inf, X))
    assert all(np.array_equal(before[name], value) for name, value in layer.buffers.items())


def test_running_numbers_move_while_scale_and_shift_are_frozen():
    layer = BatchNorm(4)
    layer.parameters.freeze()
    layer.forward(X)
    np.testing.assert_allclose(layer.buffers["running_mean"], 0.1 * X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(layer.buffers["running_variance"], 0.9 + 0.1 * X.var(axis=0, ddof=1), rtol=1e-12)


def test_the_models_buffers_are_those_of_its_layers():
    inner, outer = BatchNorm(4), BatchNorm(4)
    model = Sequential(Residual(Dense(4, 4), inner), outer)
    assert list(model.buffers) == [
        "0.block.1.running_mean",
        "0.block.1.running_variance",
        "1.running_mean",
        "1.running_variance",
    ]
    model.forward(X)
    assert model.buffers["0.block.1.running_mean"] is inner.buffers["running_mean"]
    assert model.buffers["1.running_mean"].any()


def test_the_check_of_batch_norm_warns_of_no_batch_that_is_too_small(recwarn):
    """A warning that the filter of the tests turns into an error would only end the check."""
    warnings.simplefilter("always")
    BatchNorm(2, epsilon=0.0078125).forward(X[:, :2])  # an epsilon that no other test has, so that it is checked here
    assert not recwarn


@pytest.mark.parametrize("settings", [{"momentum": 0.0}, {"momentum": 1.5}, {"epsilon": 0.0}])
def test_batch_norm_refuses_settings_out_of_range(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        BatchNorm(4, **settings)


def test_layer_norm_of_a_single_unit_is_refused():
    with pytest.raises(SettingsError, match="2 or more"):
        LayerNorm(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupNorm(3, units=4), "'units' must be a multiple of groups=3; got 4"),
        (lambda: Sequential(Conv1D(filters=4, kernel=2, inputs=1), GroupNorm(3)), "a multiple of groups=3; got 4"),
        (lambda: Sequential(Conv1D(filters=4, kernel=2, inputs=1), GroupNorm(3, units=6)), "6 channels"),
        (lambda: GroupNorm(2, units=4)(np.ones((5, 6, 4))), r"4 channels, their first axis; got \(6, 4\): give"),
    ],
)
def test_groups_that_do_not_fit_the_channels_are_refused(make, message):
    with pytest.raises(FrameworkError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: GroupNorm(4, units=4)(X),
        lambda: Sequential(Flatten((4,)), GroupNorm(4)),
        lambda: Sequential(Dense(4, 6), GroupNorm(6), Dense(6, 2)).settle((4,)),
        lambda: Sequential(Conv1D(filters=4, kernel=3, inputs=1), GroupNorm(4)).settle((1, 3)),
    ],
    ids=["called", "constructed", "settled", "convolved"],
)
def test_a_group_of_a_single_number_is_refused(make):
    with pytest.raises(ShapeError, match=r"GroupNorm: a group of samples .* is a single number, .*; give fewer groups"):
        make()


def test_group_norm_takes_its_channels_from_the_first_axis():
    model = Sequential(Dense(units=4), GroupNorm(2), Flatten(), Dense(units=2))
    model.settle((6, 3))  # Dense works on the last axis, GroupNorm on the first one
    assert model[1].units == 6
    assert model(np.ones((2, 6, 3))).shape == (2, 2)


def test_constant_inputs_give_the_shift():
    for layer in (BatchNorm(4), LayerNorm(4), GroupNorm(2, units=4)):
        layer.parameters["shift"][:] = 3.0
        assert np.array_equal(layer.forward(np.full((3, 4), 2.0)), np.full((3, 4), 3.0))
        assert np.isfinite(layer.backward(np.ones((3, 4)))).all()


def test_normalizations_take_their_units_from_the_layer_before():
    inferred = Sequential(Dense(4, 6), BatchNorm(momentum=0.2), Tanh(), LayerNorm(), Dense(units=2), seed=3)
    written = Sequential(Dense(4, 6), BatchNorm(6, momentum=0.2), Tanh(), LayerNorm(6), Dense(6, 2), seed=3)
    assert repr(inferred) == repr(written)
    assert np.array_equal(inferred.forward(X), written.forward(X))
    assert LayerNorm().infer_shape((..., 5), settle=True) == (..., 5)
    steps = Sequential(Embedding(9, 4), LayerNorm(), Flatten(), BatchNorm(), Dense(units=2))
    steps.settle((3,))
    assert [steps[place].units for place in (1, 3)] == [4, 12]


def test_normalizations_take_their_units_from_the_data_and_a_refused_fit_forgets_them():
    model = Sequential(BatchNorm(), Dense(units=2), LayerNorm())
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(ShapeError):
        trainer.fit(model, (X, np.ones((7, 3))))
    assert model.list_unsettled() == [model[0], model[1]]
    assert trainer.fit(model, (X, np.ones((7, 2)))).model is model
    assert [model[0].units, model[2].units] == [4, 2]


def test_a_normalization_without_units_says_what_to_write():
    with pytest.raises(UsageError, match=r"give units=\.\.\., or fit the model"):
        BatchNorm().parameters  # noqa: B018
    layer = LayerNorm()
    with pytest.raises(SettingsError, match="2 or more"):
        Sequential(Dense(4, 1), layer)
    assert layer.units is None


# embedding and flatten


@pytest.mark.parametrize(
    ("ids", "got"),
    [
        ([[0, 1], [2, 5]], r"0\.\.4; got 5.0 at x\[1, 1\] \(1 of 4 ids\)"),
        ([[0, -1], [2, 1]], r"got -1.0 at x\[0, 1\]"),
        ([[0.5, 1], [2, 1.5]], r"got 0.5 at x\[0, 0\] \(2 of 4 ids\)"),
        ([[0, np.nan], [2, 1]], r"got nan at x\[0, 1\]"),
        ([[0, 1e300], [2, 1]], r"got 1e\+300 at x\[0, 1\]"),
    ],
)
def test_ids_that_are_none_are_refused_with_their_place(ids, got):
    layer = Embedding(5, 2)
    for call in (layer, layer.forward):
        with pytest.raises(DataError, match=got):
            call(np.array(ids))


def test_embedding_takes_integers_and_adds_up_an_id_that_comes_twice():
    layer = Embedding(5, 2)
    assert np.array_equal(layer(np.array([[4, 0]], dtype=np.uint8)), layer([[4.0, 0.0]]))
    layer.forward(np.array([[1, 1, 3]]))
    layer.backward(np.ones((1, 3, 2)))
    assert layer.parameters.gradients["weights"].tolist() == [[0, 0], [2, 2], [0, 0], [1, 1], [0, 0]]
    layer.forward(np.array([[0]]))
    layer.backward(np.ones((1, 1, 2)))
    assert layer.parameters.gradients["weights"].sum() == 2.0
    assert layer(np.empty((0, 3))).shape == (0, 3, 2)


def test_float32_refuses_a_vocabulary_that_it_cannot_hold():
    with pytest.raises(SettingsError, match="float32 holds at most 16777216 different ids"):
        Embedding(2**24 + 1, 1, dtype="float32")


def test_flatten_keeps_the_order_and_refuses_other_shapes():
    x = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(Flatten((3, 4))(x), x.reshape(2, 12))
    assert np.array_equal(Flatten(())(np.arange(3.0)), np.arange(3.0)[:, None])
    with pytest.raises(ShapeError, match=r"\(rows, 3, 4\)"):
        Flatten((3, 4))(np.ones((2, 12)))
    with pytest.raises(ShapeError, match=r"Flatten takes samples of shape \(3, 2\); got \(4, 2\)"):
        Sequential(Embedding(5, 2), Flatten((3, 2)))(np.ones((2, 4)))
    with pytest.raises(SettingsError, match="shape"):
        Flatten((3, 0))


# residual


def test_residual_refuses_a_second_owner():
    dense = Dense(4, 4)
    model = Residual(dense)
    for taken in (dense, model.block):
        for owner in (Sequential, Residual):
            with pytest.raises(UsageError, match="already belongs to a model"):
                owner(taken)
    outer = Sequential(model)
    with pytest.raises(UsageError, match="already belongs"):
        Sequential(model)
    with pytest.raises(UsageError, match="already belongs"):
        Residual(model)
    Residual(Sequential(dense.copy()))
    bound = Sequential(Dense(4, 4))
    SGDOptimizer(bound, learning_rate=0.1)
    with pytest.raises(UsageError, match="an optimizer is bound"):
        Residual(bound)
    dense.weights = np.eye(4)
    assert np.shares_memory(outer.parameters.vector, dense.weights)
    assert outer.parameters["0.block.0.weights"].tolist() == np.eye(4).tolist()


def test_two_blocks_of_a_model_start_from_different_numbers():
    model = Sequential(Residual(Dense(4, 4)), Residual(Dense(4, 4)), seed=7)
    first, second = (model.parameters[f"{place}.block.0.weights"] for place in (0, 1))
    assert not np.array_equal(first, second)
    again = Sequential(Residual(Dense(4, 4)), Residual(Dense(4, 4)), seed=7)
    assert np.array_equal(again.parameters.vector, model.parameters.vector)
    inner = Residual(Dense(4, 4))
    outer = Sequential(Dense(4, 4), inner, seed=7)
    asked_first = inner.block.layers[0].weights.copy()  # drawn by the outer model, whoever asks first
    assert np.array_equal(outer.parameters["1.block.0.weights"], asked_first)
    assert np.array_equal(asked_first, second)
    seeded = Sequential(Dense(4, 4), Residual(Sequential(Dense(4, 4), seed=1)))
    assert np.array_equal(
        seeded.parameters["1.block.0.weights"], Sequential(Dense(4, 4), seed=1).parameters["0.weights"]
    )


def test_residual_refuses_layers_that_do_not_give_what_they_take():
    with pytest.raises(ShapeError, match=r"must give the shape that they take, \(4,\); they give \(3,\)"):
        Residual(Dense(4, 3))
    with pytest.raises(ShapeError, match="layer 0 gives"):
        Residual(Dense(4, 3), Dense(4, 4))
    with pytest.raises(SettingsError, match="one layer or more"):
        Residual()
    with pytest.raises(SettingsError, match="unknown setting 'seed'"):
        Component.from_json('{"type": "Residual", "block": null, "seed": 1}')
    with pytest.raises(SettingsError, match="layers"):
        Residual("Dense")


def test_residual_keeps_the_columns_and_the_layers_of_its_block():
    model = Residual(Dense(4, 6, Tanh()), Dense(6, 4, Sigmoid()))
    model.columns = ["a", "b", "c", "d"]
    assert model.copy().columns == pickle.loads(pickle.dumps(model)).columns == ("a", "b", "c", "d")
    assert model.output_activation is None
    assert model.replace(block=Sequential(Dense(4, 4))).to_json() == Residual(Dense(4, 4)).to_json()


def test_summary_shows_the_layers_inside():
    model = Sequential(Dense(4, 8), Residual(Dense(8, 8, ReLU()), Dropout(0.5)), BatchNorm(8), Dense(8, 3, Softmax()))
    model.parameters.freeze("2.scale", "2.shift")
    lines = [line.split() for line in model.summary().splitlines()]
    assert [line[:2] for line in lines[1:6]] == [
        ["0", "Dense(Identity)"],
        ["1", "Residual"],
        ["1.block.0", "Dense(ReLU)"],
        ["1.block.1", "Dropout()"],
        ["2", "BatchNorm()"],
    ]
    assert lines[-2:] == [["total", "155"], ["trainable", "139"]]
