"""The layers of the catalogue against PyTorch, and what each promises besides its formula."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from framework import (
    Component,
    CrossEntropy,
    DataError,
    Dense,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    UsageError,
    on,
)
from framework.gradients import check_gradients
from framework.models import BatchNorm, Dropout, Embedding, Flatten, LayerNorm, Residual

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
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)


def both(model, theirs, x):
    """Forward and backward in both libraries."""
    ours_in, theirs_in = x, torch.tensor(x, requires_grad=x.dtype.kind == "f")
    a, b = model.forward(ours_in), theirs(theirs_in)
    close(a, b)
    gradient = np.random.default_rng(6).normal(size=a.shape)
    b.backward(torch.tensor(gradient))
    return model.backward(gradient), theirs_in.grad


def test_batch_norm_is_that_of_pytorch_over_several_batches_and_a_smaller_last_one():
    ours = shaken(BatchNorm(4, momentum=0.3, epsilon=1e-3))
    theirs = torch.nn.BatchNorm1d(4, momentum=0.3, eps=1e-3, dtype=torch.float64)
    theirs.load_state_dict(
        {"weight": torch.tensor(ours.parameters["scale"]), "bias": torch.tensor(ours.parameters["shift"])}, strict=False
    )
    for rows in (7, 5, 7, 2):
        theirs.zero_grad()
        x = RNG.normal(3.0, 2.0, (rows, 4))
        mine, reference = both(ours, theirs, x)
        close(mine, reference)
        close(ours.parameters.gradients["scale"], theirs.weight.grad)
        close(ours.parameters.gradients["shift"], theirs.bias.grad)
        close(ours.buffers["running_mean"], theirs.running_mean)
        close(ours.buffers["running_variance"], theirs.running_var)
    theirs.eval()
    close(ours(X), theirs(torch.tensor(X)))
    close(ours(X[0]), theirs(torch.tensor(X[:1]))[0])


def test_layer_norm_is_that_of_pytorch():
    ours = shaken(LayerNorm(4, epsilon=1e-3))
    theirs = torch.nn.LayerNorm(4, eps=1e-3, dtype=torch.float64)
    theirs.weight.data, theirs.bias.data = (torch.tensor(ours.parameters[name]) for name in ("scale", "shift"))
    mine, reference = both(ours, theirs, X)
    close(mine, reference)
    close(ours.parameters.gradients["scale"], theirs.weight.grad)
    close(ours.parameters.gradients["shift"], theirs.bias.grad)
    close(ours(X), theirs(torch.tensor(X)))


def test_embedding_is_that_of_pytorch():
    ours = Embedding(5, 2, seed=1)
    theirs = torch.nn.Embedding(5, 2, dtype=torch.float64)
    theirs.weight.data = torch.tensor(ours.parameters["weights"])
    dx, _ = both(ours, theirs, IDS.astype(np.int64))
    close(ours.parameters.gradients["weights"], theirs.weight.grad)
    assert dx.shape == IDS.shape
    assert not dx.any()


def test_residual_and_flatten_are_those_of_pytorch():
    ours = Sequential(
        Flatten((2, 2)),
        Residual(Dense(4, 6, Tanh(), seed=1), LayerNorm(6), Dense(6, 4, Sigmoid(), seed=2)),
        LayerNorm(4),
    )
    shaken(ours)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in ours.parameters.items()}
    inner = "1.block."

    def theirs(x):
        x = x.flatten(1)
        h = torch.tanh(x @ p[inner + "0.weights"] + p[inner + "0.bias"])
        h = torch.nn.functional.layer_norm(h, (6,), p[inner + "1.scale"], p[inner + "1.shift"])
        h = torch.sigmoid(h @ p[inner + "2.weights"] + p[inner + "2.bias"])
        return torch.nn.functional.layer_norm(x + h, (4,), p["2.scale"], p["2.shift"])

    mine, reference = both(ours, theirs, X.reshape(-1, 2, 2))
    close(mine, reference)
    for name, value in p.items():
        close(ours.parameters.gradients[name], value.grad)


def test_dropout_is_that_of_pytorch_for_the_same_mask():
    ours = Dropout(0.4)
    x = torch.tensor(X, requires_grad=True)
    mask = torch.tensor(ours.forward(np.ones_like(X), key=KEY))
    (x * mask).sum().backward()
    close(ours.forward(X, key=KEY), x * mask)
    close(ours.backward(np.ones_like(X)), x.grad)


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
                assert np.array_equal(model.parameters.gradients[other], expected[other])
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


@pytest.mark.parametrize("key", [None, ()])
def test_dropout_without_a_key_says_how_to_give_one(key):
    for model in (Dropout(0.5), Residual(Dropout(0.5))):
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


@pytest.mark.parametrize("settings", [{"momentum": 0.0}, {"momentum": 1.5}, {"epsilon": 0.0}])
def test_batch_norm_refuses_settings_out_of_range(settings):
    with pytest.raises(SettingsError, match=next(iter(settings))):
        BatchNorm(4, **settings)


def test_layer_norm_of_a_single_unit_is_refused():
    with pytest.raises(SettingsError, match="2 or more"):
        LayerNorm(1)


def test_constant_inputs_give_the_shift():
    for layer in (BatchNorm(4), LayerNorm(4)):
        layer.parameters["shift"][:] = 3.0
        assert np.array_equal(layer.forward(np.full((3, 4), 2.0)), np.full((3, 4), 3.0))
        assert np.isfinite(layer.backward(np.ones((3, 4)))).all()


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
    with pytest.raises(SettingsError, match="at most 16777216 in float32"):
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
    model = residual()
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


# in models and in training


def network(dropout=0.3):
    return Sequential(
        Dense(4, 8, ReLU()),
        BatchNorm(8),
        Dropout(dropout),
        Residual(Dense(8, 8, Tanh()), BatchNorm(8), Dropout(dropout)),
        LayerNorm(8),
        Dense(8, 3, Softmax()),
        seed=3,
    )


def trainer(**settings):
    optimizer = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    return Trainer(
        **{"loss": CrossEntropy(), "optimizer": optimizer, "epochs": 6, "batch_size": 8, "seed": 1, **settings}
    )


DATA = (RNG.normal(size=(37, 4)), RNG.integers(0, 3, 37))


def numbers(model):
    return {"": model.parameters.vector.copy(), **{name: value.copy() for name, value in model.buffers.items()}}


def same_bits(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop", [1, 5, 7, 13])
def test_a_run_that_was_stopped_resumes_bit_for_bit(stop):
    @on("batch_end")
    def cut(run):
        if run.step == stop:
            run.stop("enough")

    straight = trainer().fit(network(), DATA, DATA)
    broken = trainer(callbacks=[cut]).fit(network(), DATA, DATA)
    assert broken.step == stop
    broken = trainer().resume(pickle.loads(pickle.dumps(broken)), DATA, DATA)
    assert same_bits(numbers(broken.model), numbers(straight.model))
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.history.rows] for run in (straight, broken)
    ]
    assert rows[0] == rows[1]


def test_a_run_that_goes_on_equals_one_that_was_longer():
    straight = trainer(epochs=6).fit(network(), DATA)
    halves = trainer(epochs=3).fit(network(), DATA)
    halves = trainer().resume(halves, DATA, epochs=3)
    assert same_bits(numbers(halves.model), numbers(straight.model))


def test_dropout_changes_training_and_not_evaluation():
    with_mask, without = (trainer().fit(network(rate), DATA).model for rate in (0.3, 0.0))
    assert not np.array_equal(with_mask.parameters.vector, without.parameters.vector)
    before = numbers(with_mask)
    first, again = (trainer().evaluate(with_mask, DATA) for _ in range(2))
    assert first == again
    assert same_bits(before, numbers(with_mask))


def test_a_network_with_all_layers_learns():
    model = network(0.1)
    x = RNG.normal(size=(200, 4))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    history = trainer(epochs=30).fit(model, (x, y)).history
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert trainer().evaluate(model, (x, y))["loss"] < 0.4


def test_an_embedding_learns_in_a_trainer():
    ids = RNG.integers(0, 6, (60, 2))
    values = np.arange(6.0)
    model = Sequential(Embedding(6, 4), Flatten((2, 4)), Dense(8, 1))
    settings = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.05, momentum=0.9)}
    run = trainer(epochs=80, **settings).fit(model, (ids, values[ids].sum(axis=1)))
    assert run.history[-1]["loss"] < 0.05
    with pytest.raises(DataError, match=r"whole ids in 0\.\.5; got 6"):
        trainer(**settings).fit(model, (ids + 1, values[ids].sum(axis=1)))


def test_layers_before_a_neuron_train_too():
    model = Sequential(Dropout(0.2), Dense(4, 3, Tanh()), LayerNorm(3), Neuron(3))
    run = trainer(loss=MeanSquaredError(), epochs=2).fit(model, (DATA[0], DATA[1].astype(float)))
    assert run.epoch == 2


@EACH_LAYER
def test_working_memory_is_kept_from_step_to_step(make):
    model = shaken(make())
    x = batch_for(model)
    gradient = np.ones_like(model.forward(x, key=KEY))
    places = set()
    for _ in range(3):
        a = model.forward(x, key=KEY, copy=False)
        dx = model.backpropagate(gradient, fused=False, input_gradient=True)
        places.add((a.ctypes.data, dx.ctypes.data))
    assert len(places) == 1
