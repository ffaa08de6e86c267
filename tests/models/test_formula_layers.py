"""A layer's formula gives its passes, its shapes and its number of inputs."""

import copy
import pickle
from typing import ClassVar

import numpy as np
import pytest
import scipy.special
from layer_pieces import Gated
from oracles import jax, jax_gradients, jnp

from framework import (
    Activation,
    BatchNorm,
    BinaryCrossEntropy,
    Component,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    Dropout,
    HalfSquaredError,
    Layer,
    LayerNorm,
    Loss,
    MeanSquaredError,
    Neuron,
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
    check_gradients,
    load,
    save,
    show,
)
from framework.base import UsageError
from framework.data import load_digits
from framework.models import Composite

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4))


class Attention(Layer):
    """The layer of the documentation."""

    inputs: int | None = None
    units: int

    def shapes(self):
        return dict.fromkeys(("query", "key", "value"), (self.inputs, self.units))

    def formula(self, x, query, key, value):
        scores = x @ query @ (x @ key).swapaxes(-1, -2) / np.sqrt(self.units)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True) @ (x @ value)


class Scale(Layer):
    inputs: int | None = None

    def shapes(self):
        return {"scale": (self.inputs,)}

    def formula(self, z, scale):
        return z * (1 + scale)


def drawn(model):
    model.parameters.vector[:] = np.random.default_rng(1).normal(size=model.parameters.vector.size)
    return model


def test_the_gradients_of_a_formula_are_jaxs():
    layer = drawn(Attention(inputs=3, units=2))
    x = RNG.normal(size=(4, 5, 3))
    gradient = RNG.normal(size=(4, 5, 2))

    def formula(x, query, key, value):
        weights = jax.nn.softmax(x @ query @ jnp.swapaxes(x @ key, -1, -2) / jnp.sqrt(2.0), axis=-1)
        return weights @ (x @ value)

    expected, (dx, *dp) = jax_gradients(formula, x, *layer.parameters.values(), upstream=gradient)
    np.testing.assert_allclose(layer.forward(x), expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(layer.backward(gradient), dx, rtol=1e-11, atol=1e-13)
    for name, each in zip(layer.parameters, dp, strict=True):
        np.testing.assert_allclose(layer.parameters.gradients[name], each, rtol=1e-11, atol=1e-13)


def test_a_layer_serves_any_number_of_rows_and_predicts_what_it_computes():
    layer = drawn(Attention(inputs=3, units=2))
    for rows in (1, 5, 2, 5):
        x = RNG.normal(size=(rows, 4, 3))
        assert np.array_equal(layer(x), layer.forward(x))
        assert layer(x).shape == (rows, 4, 2)
    assert layer.shape_after((7, 3)) == (7, 2)


def test_predictions_belong_to_the_caller():
    layer = drawn(Dense(4, 3, Tanh()))
    first = layer(X)
    kept = first.copy()
    layer(X + 1)
    assert np.array_equal(first, kept)
    prediction = layer.forward(X)
    kept = prediction.copy()
    layer.forward(X + 1)
    assert np.array_equal(prediction, kept)


def test_two_equal_layers_share_a_program_and_no_memory():
    first, second = Dense(4, 3, Tanh(), seed=1), Dense(4, 3, Tanh(), seed=2)
    assert first.program((4,)) is second.program((4,))
    a = first.forward(X, copy=False)
    kept = a.copy()
    second.forward(X, copy=False)
    assert np.array_equal(a, kept)


# the number of inputs


def test_the_number_of_inputs_comes_from_the_layer_before():
    model = Sequential(Dense(4, 8), ReLU(), Scale(), Dense(units=3))
    assert [layer.inputs for layer in model if isinstance(layer, Dense)] == [4, 8]
    assert model.parameters["3.weights"].shape == (8, 3)
    again = Component.from_json(model.to_json())
    assert again.to_json() == model.to_json()
    assert '"inputs":8' in model.to_json()


class Projection(Layer):
    units: int

    def shapes(self):
        return {"w": (3, self.units)}

    def formula(self, x, w):
        return x @ w


class Sized(Projection):
    @property
    def output_shape(self):
        return (self.units,)


def test_behind_an_own_layer_of_unknown_size_the_advice_names_it_and_works():
    with pytest.raises(UsageError, match=r"or write output_shape in Projection, the layer before it$"):
        _ = Sequential(Projection(units=4), Dense(units=2)).parameters
    assert Sequential(Sized(units=4), Dense(units=2)).parameters["1.weights"].shape == (4, 2)
    with pytest.raises(UsageError, match=r"give inputs=\.\.\., or fit the model$"):
        _ = Sequential(ReLU(), Dense(units=2)).parameters


def test_the_number_of_inputs_comes_from_the_data_at_fit():
    model = Sequential(Dense(units=5), Tanh(), BatchNorm(5), Dense(units=1))
    with pytest.raises(UsageError, match="its number of inputs is not known: give inputs="):
        _ = model.parameters
    with pytest.raises(UsageError, match="number of inputs is not known"):
        SGDOptimizer(model, learning_rate=0.1)
    with pytest.raises(UsageError, match="number of inputs is not known"):
        model.layout()
    run = trainer(MeanSquaredError()).fit(model, (X, np.ones((6, 1))))
    assert run.epoch == 1
    assert model.parameters["0.weights"].shape == (4, 5)


def test_a_fit_that_refuses_its_data_leaves_the_sizes_open():
    model = Sequential(Dense(units=5), Dense(units=1))
    with pytest.raises(ShapeError):
        trainer(MeanSquaredError()).fit(model, (X, np.ones((5, 1))))
    assert not model.settled
    trainer(MeanSquaredError()).fit(model, (X[:, :2], np.ones((6, 1))))
    assert model.parameters["0.weights"].shape == (2, 5)


def test_a_fit_that_refuses_its_data_keeps_the_numbers_that_a_layer_was_given():
    given = Neuron.from_weights([7.0, 8.0], bias=9.0, train_bias=False)
    model = Sequential(Dense(units=2), given)
    with pytest.raises(DataError):
        trainer(MeanSquaredError()).fit(model, (X, [1.0, 2.0, np.nan, 3.0, 4.0, 5.0]))
    assert not model.settled
    assert given.weights.tolist() == [7.0, 8.0]
    trainer(MeanSquaredError()).fit(model, (X, np.ones(6)))
    assert given.bias == 9.0  # frozen as before


def test_a_model_that_is_refused_leaves_the_sizes_of_its_layers_open():
    layer = Dense(units=3)
    with pytest.raises(ShapeError):
        Sequential(Dense(2, 4), layer, Dense(5, 1))
    assert not layer.settled
    assert Sequential(Dense(2, 6), layer)(np.ones(2)).shape == (3,)


def test_dense_without_units_says_what_to_write():
    with pytest.raises(SettingsError, match=r"'units' is missing; write Dense\(units=4\)$"):
        Dense(4)


# activations as layers


def test_an_activation_stands_behind_a_neuron():
    parts, whole = Sequential(Neuron(4, seed=1), Sigmoid()), Neuron(4, Sigmoid(), seed=1)
    y = (X[:, 0] > 0) * 1.0
    for model in (parts, whole):
        trainer(BinaryCrossEntropy()).fit(model, (X, y))
    assert np.array_equal(parts.parameters.vector, whole.parameters.vector)
    assert parts(X[0]) == whole(X[0])
    with pytest.raises(ShapeError, match=r"layer 0 gives \(\)"):  # a row of units has no meaning there
        Sequential(Neuron(4), Softmax())


@pytest.mark.parametrize(
    "make",
    [lambda: Sequential(Dense(2, 1), Softmax()), lambda: Residual(Dense(1, 1), Softmax())],
    ids=["Sequential", "Residual"],
)
def test_a_softmax_of_one_unit_is_refused_as_a_layer_too(make):
    with pytest.raises(SettingsError, match="a row of 1 unit is constant: use Sigmoid"):
        make()


def test_an_activation_stands_as_a_layer_and_stays_itself():
    relu = ReLU()
    model = Sequential(Dense(4, 8), relu, Dense(8, 3), Softmax())
    other = Sequential(relu, Dense(4, 2))
    assert model[1] is relu
    assert other[0] is relu
    assert len(model) == 4
    assert list(model) == [model[place] for place in range(4)]
    assert model[-1] == Softmax()
    assert "1 ReLU" in model.summary()
    assert repr(model).startswith("Sequential(Dense(inputs=4, units=8), ReLU()")
    assert pickle.loads(pickle.dumps(model)).to_json() == model.to_json()
    assert np.array_equal(copy.deepcopy(model)(X), model(X))


@pytest.mark.parametrize(
    ("loss", "activation", "target"),
    [
        (CrossEntropy(), Softmax(), np.array([0, 1, 2, 0, 1, 2])),
        (HalfSquaredError(), Sigmoid(), RNG.uniform(size=(6, 3))),
    ],
)
def test_an_activation_layer_at_the_end_is_fused_like_that_of_dense(loss, activation, target):
    inside = Sequential(Dense(4, 3, activation), seed=3)
    behind = Sequential(Dense(4, 3), activation, seed=3)
    values = []
    for model in (inside, behind):
        for step in range(3):
            model.forward(X, key=(0, 0, step))
            values.append(loss.backward(model, target))
            model.parameters.vector -= 0.5 * model.parameters.gradient
    assert values[:3] == values[3:]
    assert np.array_equal(inside.parameters.vector, behind.parameters.vector)


def test_a_saturated_activation_layer_does_not_diverge():
    model = Sequential(Dense.from_weights(np.full((4, 3), 1e4)), Softmax())
    model.forward(np.ones((2, 4)) * [1, 2, 3, 4])
    assert np.isfinite(CrossEntropy().backward(model, [1, 2]))


def test_a_loss_after_an_own_formula_that_ends_in_a_softmax_is_stable():
    class Head(Layer):
        def shapes(self):
            return {"w": (4, 3)}

        def formula(self, x, w):
            return Softmax()(x @ w)

        @property
        def input_shape(self):
            return (4,)

    model = Head()
    model.parameters.vector[:] = 1e4 * np.arange(12)
    model.forward(X)
    assert np.isfinite(CrossEntropy().backward(model, [0, 1, 2, 0, 1, 2]))


class Straight(Activation):
    """A step forwards, and the identity backwards, on purpose."""

    check = "off"

    def __call__(self, h):
        return np.where(h > 0, 1.0, 0.0)

    def derivative(self, h):
        return np.ones_like(h)


def test_a_written_derivative_is_used_inside_a_formula():
    layer = Dense.from_weights(np.eye(4), activation=Straight())
    layer.forward(X)
    assert layer.backward(X).tolist() == X.tolist()


class Bessel(Activation):
    """A formula that no graph holds, with the derivative written."""

    check = "off"

    def __call__(self, h):
        return np.i0(h)

    def derivative(self, h):
        return scipy.special.i1(h)


def test_a_formula_that_no_graph_holds_is_called_by_python():
    layer = Dense.from_weights(np.eye(4), activation=Bessel())
    np.testing.assert_allclose(layer.forward(X), scipy.special.i0(X), rtol=1e-12)
    np.testing.assert_allclose(layer.backward(np.ones_like(X)), scipy.special.i1(X), rtol=1e-12)
    with pytest.raises(DerivativeError, match="cannot be traced through"):
        show(Bessel())


# what a formula must not do


def layer_of(formula, **members):
    return type("Own", (Layer,), {"formula": formula, "__module__": __name__, **members})()


def test_a_formula_that_mixes_rows_is_refused_unless_it_says_so():
    with pytest.raises(
        DerivativeError, match=r"Own\.formula: the formula mixes rows, by mean over the rows.*mixes_rows"
    ):
        layer_of(lambda _, x: x - x.mean(axis=0))(X)
    centred = layer_of(lambda _, x: x - x.mean(axis=0), mixes_rows=True)
    assert np.allclose(centred(X).mean(axis=0), 0)


def test_a_formula_without_a_row_for_each_row_is_refused():
    with pytest.raises(DerivativeError, match=r"a row for each row of x; it returns \(4,\)"):
        layer_of(lambda _, x: x.sum(axis=0), mixes_rows=True)(X)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(100, "must not branch on the number of rows"), (1, "other values than the formula itself for 1 row")],
)
def test_a_formula_that_branches_on_the_number_of_rows_is_found(rows, message):
    with pytest.raises(DerivativeError, match=message):
        layer_of(lambda _, x: x if len(x) > rows else 2 * x)(X)


FACTOR = 2.0


# buffers, random numbers, composites


def test_buffers_and_draws_reach_the_formula_by_name():
    class Noisy(Layer):
        def draws(self, shape):
            return {"noise": shape}

        def initial_buffers(self):
            return {"seen": np.zeros(())}

        def formula(self, x, noise, seen):
            return x + noise, {"seen": seen + 1}

        def predict_formula(self, x, seen):
            return x * seen

    layer = Noisy()
    first, again = layer.forward(X, key=(0, 1, 2)), layer.forward(X, key=(0, 1, 2))
    assert np.array_equal(first, again)
    assert ((first - X >= 0) & (first - X < 1)).all()
    assert layer.buffers["seen"] == 2
    assert np.array_equal(layer(X), X * 2)
    with pytest.raises(UsageError, match="Noisy draws random numbers in training"):
        layer.forward(X)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_formula_computes_with_random_numbers_in_the_dtype_of_the_model(dtype):
    class Noisy(Layer):
        scale: float | None

        def draws(self, shape):
            return {"noise": shape}

        def formula(self, x, noise):
            return noise + 0.0 * x if self.scale is None else self.scale * noise + 0.0 * x

        def predict_formula(self, x):
            return x

    x = np.ones((6, 4))
    drawn, scaled = (Noisy(scale, dtype=dtype).forward(x, key=(0, 1, 2)) for scale in (None, 0.1))
    assert scaled.dtype == dtype
    assert np.array_equal(scaled, drawn * np.dtype(dtype).type(0.1))


def test_dropout_and_layer_norm_serve_samples_with_more_axes():
    x = RNG.normal(size=(3, 5, 4))
    model = Sequential(Dense(4, 6, Tanh()), LayerNorm(6), Dropout(0.5), Dense(6, 2))
    assert model(x).shape == (3, 5, 2)
    check_gradients(model, MeanSquaredError(), x, np.zeros((3, 5, 2)))


def test_an_own_composite_trains_copies_and_resumes(tmp_path):
    model = Sequential(Gated(value=Dense(4, 3), gate=Dense(4, 3, Sigmoid())), Dense(units=1))
    check_gradients(model, MeanSquaredError(), X, np.ones((6, 1)))
    assert list(model.parameters)[:2] == ["0.value.weights", "0.value.bias"]
    data = (X, np.ones((6, 1)))
    straight = trainer(MeanSquaredError(), epochs=4).fit(model.copy(), data)
    run = trainer(MeanSquaredError(), epochs=2).fit(model.copy(), data)
    save(run, tmp_path / "run.safetensors")
    resumed = trainer(MeanSquaredError(), epochs=4).resume(tmp_path / "run.safetensors", data)
    assert np.array_equal(straight.model.parameters.vector, resumed.model.parameters.vector)


def test_an_own_layer_of_ten_lines_trains_on_digits_saves_loads_and_resumes(tmp_path):
    x, y = load_digits()
    data = (x[:600] / 16.0, y[:600])
    model = Sequential(Dense(64, 32), Scale(), Tanh(), Residual(Dense(32, 32, Tanh())), Dense(units=10), Softmax())
    start = model.copy()
    settings = {"epochs": 12, "batch_size": 16}
    straight = trainer(CrossEntropy(), **settings).fit(model, data)
    assert np.mean(model(x[600:] / 16.0).argmax(axis=1) == y[600:]) > 0.85
    assert "Scale" in model.summary()
    assert "scale" in show(Scale(inputs=3)).text
    half = trainer(CrossEntropy(), epochs=6, batch_size=16).fit(start, data)
    save(half, tmp_path / "half.safetensors")
    assert load(tmp_path / "half.safetensors").model.to_json() == start.to_json()
    resumed = trainer(CrossEntropy(), **settings).resume(tmp_path / "half.safetensors", data)
    assert np.array_equal(straight.model.parameters.vector, resumed.model.parameters.vector)


def test_a_neuron_of_open_size_is_settled_too():
    neuron = Neuron(activation=Sigmoid())
    trainer(HalfSquaredError()).fit(neuron, (X, np.ones(6)))
    assert neuron.weights.shape == (4,)


def trainer(loss, **settings):
    return Trainer(
        loss=loss,
        optimizer=SGDOptimizer(learning_rate=0.1),
        engine="numpy",
        **({"epochs": 1, "batch_size": 6} | settings),
    )


class Mixed(Layer):
    """A layer whose number of steps is open."""

    inputs: int | None = None

    @property
    def input_shape(self):
        return (None, self.inputs)

    def formula(self, x):
        return x.mean(axis=1)


@pytest.mark.parametrize(
    ("layer", "advice"),
    [
        (Mixed(), "; give inputs=[.]{3}, fit its model, or call"),
        (Mixed(inputs=2), r"\(any, 2\); fit its model, or call"),
    ],
)
def test_a_layer_of_open_sizes_asks_only_for_what_helps_to_show_it(layer, advice):
    with pytest.raises(UsageError, match=advice):
        show(layer)


def test_one_function_makes_several_layers_of_a_model():
    def doubled(x):
        return 2.0 * x

    model = Sequential(Layer.of(doubled), Dense(2, 2, seed=1), Layer.of(doubled))
    x = np.array([[1.0, -2.0]])
    np.testing.assert_array_equal(model(x), 2.0 * model[1](2.0 * x))


class Steep(Activation):
    """An activation whose derivative is right for the factor 2 alone."""

    factor: float = 2.0
    base: ClassVar[float] = 1.0

    def __call__(self, h):
        return np.tanh(2.0 * h)

    def derivative(self, h):
        return self.factor * (self.base - np.tanh(2.0 * h) ** 2)


class SteepInPython(Activation):
    def __call__(self, h):
        if type(h) is not np.ndarray:
            raise DerivativeError("arrays alone")
        return np.tanh(2.0 * h)

    def derivative(self, h):
        return 1.0 - np.tanh(2.0 * h) ** 2


class SteepOnPurpose(Activation):
    check = "off"

    def __call__(self, h):
        return np.tanh(2.0 * h)

    def derivative(self, h):
        return 1.0 - np.tanh(2.0 * h) ** 2


class Calling(Layer):
    """A layer that calls an activation that is not a setting of it."""

    called: ClassVar[Activation] = Steep()

    def formula(self, x):
        return self.called(1.5 * x)


class CallingComposite(Composite):
    called: ClassVar[Activation] = Steep()

    def children(self):
        return {"inner": Dense(4, 4)}

    def apply(self, x, values, record):
        return self.called(self.forward_child("inner", x, record))


class OwnLoop(Loss):
    def value(self, prediction, target):
        return (prediction - target) ** 2

    def backward(self, *arguments, **options):
        return super().backward(*arguments, **options)


def fit_calling(kind, loss=None, engine="numpy"):
    model = Sequential(Dense(4, 4), kind())
    before = model.parameters.vector.copy()
    trainer = Trainer(loss=loss or MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), engine=engine)
    try:
        trainer.fit(model, (X, X))
    except DerivativeError:
        np.testing.assert_array_equal(model.parameters.vector, before)
        raise
    assert not np.array_equal(model.parameters.vector, before)


@pytest.mark.parametrize(
    ("engine", "package"), [("numpy", "numpy"), ("jax", "jax"), ("compiled", "llvmlite")], ids=lambda name: name
)
@pytest.mark.parametrize("loss", [MeanSquaredError(), OwnLoop()])
@pytest.mark.parametrize("kind", [Calling, CallingComposite])
@pytest.mark.filterwarnings("ignore:engine=")
def test_a_wrong_derivative_of_an_activation_that_a_formula_calls_is_refused(engine, package, loss, kind, monkeypatch):
    pytest.importorskip(package)
    for wrong in (Steep(factor=1.0), SteepInPython()):
        monkeypatch.setattr(kind, "called", wrong)
        with pytest.raises(DerivativeError, match=f"{type(wrong).__name__}.derivative is wrong at h = -1"):
            fit_calling(kind, loss, engine)
    for right in (Steep(), SteepOnPurpose()):
        monkeypatch.setattr(kind, "called", right)
        fit_calling(kind, loss, engine)


@pytest.mark.parametrize("loss", [MeanSquaredError(), OwnLoop()])
@pytest.mark.parametrize("kind", [Calling, CallingComposite])
def test_each_fit_checks_what_a_formula_calls_as_it_is_now(loss, kind, monkeypatch):
    fit_calling(kind, loss)
    monkeypatch.setattr(Steep, "base", 1.5)
    with pytest.raises(DerivativeError, match="derivative is wrong at h"):
        fit_calling(kind, loss)
