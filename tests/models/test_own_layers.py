"""Own layers: open shapes in a Sequential, and what is said about a formula that does not fit its class."""

from typing import ClassVar

import numpy as np
import pytest

from framework import (
    Dense,
    DerivativeError,
    DivergedError,
    GlobalAverage,
    Layer,
    MeanSquaredError,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
    show,
)
from framework.base.shapes import fits, narrow_shape
from framework.graph.loop import loop
from framework.models import Constant, Glorot, Initializer, Permute

X = np.random.default_rng(0).normal(size=(6, 5, 4))


class Attention(Layer):
    units: int
    inputs: int | None = None

    def shapes(self):
        return dict.fromkeys(("query", "key", "value"), (self.inputs, self.units))

    def initializers(self):
        return dict.fromkeys(self.shapes(), Glorot())

    def formula(self, x, query, key, value):
        return Softmax()(x @ query @ (x @ key).swapaxes(-1, -2) / np.sqrt(self.units)) @ (x @ value)


class Declared(Attention):
    @property
    def input_shape(self):
        return (None, self.inputs)


@pytest.mark.parametrize("kind", [Attention, Declared])
def test_a_layer_over_steps_may_follow_another_before_the_data_are_known(kind):
    for first in (kind(units=4), kind(units=4, inputs=4), Residual(kind(units=4, inputs=4))):
        model = Sequential(first, Dense(units=3), kind(units=2), Permute((2, 1)), GlobalAverage(), Dense(units=1))
        trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
        trainer.fit(model, (X, np.arange(6.0)))
        assert [layer.inputs for layer in model if isinstance(layer, kind)][-1] == 3
        assert model[2].shape_after((5, 3)) == (5, 2)
        assert "2 " + kind.__name__ in model.summary()


def test_open_shapes_fit_and_take_what_is_known():
    assert fits((...,), (3, 4))
    assert fits((..., 4), (4,))
    assert not fits((..., 4), (None, 5))
    assert not fits((3, 4), (4,))
    assert narrow_shape((..., 4), (None, None)) == (None, 4)
    assert narrow_shape((...,), (2, None)) == (2, None)
    assert narrow_shape((..., 4), (..., None)) == (..., 4)


def test_a_wrong_size_behind_an_open_shape_is_refused_with_the_data():
    model = Sequential(Declared(units=3), Dense(2, 1))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(ValueError, match=r"Dense takes samples of shape \(2,\); got \(5, 3\)"):
        trainer.fit(model, (X, np.ones((6, 5, 1))))
    assert not model.settled


def test_a_formula_wrong_for_every_shape_is_refused_when_the_model_is_made():
    class Unwrapped(Layer):
        def formula(self, x):
            return np.unwrap(x, axis=-1)

    with pytest.raises(DerivativeError, match=r"Unwrapped\.formula: .*it has no rule"):
        Sequential(Dense(2, 3), Unwrapped())


def test_an_order_that_numpy_leaves_open_is_named_where_it_makes_a_difference():
    class Ordered(Layer):
        stable: bool

        def formula(self, x):
            return x * np.argsort(x > 0.0, axis=-1, stable=self.stable or None)

    with pytest.raises(DerivativeError, match=r"equal elements, which np\.argsort\(x, stable=True\) defines"):
        Sequential(Dense(2, 300), Ordered(stable=False))
    assert Sequential(Dense(2, 300), Ordered(stable=True)).input_shape == (2,)


def test_a_number_of_rows_in_a_formula_is_refused():
    class Shared(Layer):
        def formula(self, x):
            return x / len(x)

    with pytest.raises(DerivativeError, match="mixes rows, by the number of rows"):
        Shared()([[1.0, 2.0]])


def test_a_formula_of_the_places_of_the_rows_is_refused_unless_it_reads_from_each_row():
    class Placed(Layer):
        def formula(self, x):
            return x * (x[:, 0] * np.arange(len(x)))[:, None]

    class Chosen(Layer):
        def formula(self, x):
            return x * x[np.arange(len(x)), x.argmax(axis=1)][:, None]

    with pytest.raises(DerivativeError, match="mixes rows, by the places of the rows"):
        Placed()([[1.0, 2.0]])
    np.testing.assert_array_equal(Chosen()([[1.0, 2.0], [4.0, 3.0]]), [[2.0, 4.0], [16.0, 12.0]])


def test_random_numbers_for_each_row_in_a_formula_are_answered_with_draws():
    class Noisy(Layer):
        def formula(self, x):
            return x + np.random.default_rng(0).normal(size=x.shape)

    with pytest.raises(DerivativeError, match=r"declare random numbers in draws\(shape\) of a Layer"):
        Noisy()([[1.0, 2.0]])


def test_a_formula_that_does_not_take_what_the_class_declares_is_refused():
    class Forgotten(Layer):
        def shapes(self):
            return {"scale": (2,)}

        def formula(self, x):
            return x

    class Misspelt(Layer):
        def shape(self):
            return {"scale": (2,)}

        def formula(self, x, scale):
            return x * scale

    class Drawn(Layer):
        def draws(self, shape):
            return {"noise": shape}

        def formula(self, x, noise):
            return x * noise

        def predict_formula(self, x, noise):
            return x * noise

    with pytest.raises(SettingsError, match=r"Forgotten\.formula must take \(x, scale\), as the class declares"):
        Forgotten()([[1.0, 2.0]])
    with pytest.raises(SettingsError, match=r"formula must take \(x\), .*; declare the parameter scale in shapes\(\)$"):
        Misspelt()([[1.0, 2.0]])
    with pytest.raises(SettingsError, match=r"predict_formula must take \(x\), .*: 'noise'$"):
        Drawn()([[1.0, 2.0]])


def test_a_reshape_that_does_not_fit_names_the_rows():
    class Pairs(Layer):
        def formula(self, x):
            return x.reshape(len(x), -1, 2).sum(axis=2)

    with pytest.raises(ValueError, match=r"\(rows, 5\) into shape \(rows, -1, 2\)"):
        Pairs()(np.ones((3, 5)))


def test_show_uses_the_shape_that_a_layer_met():
    class Windows(Declared):
        def formula(self, x, query, key, value):
            return x @ value

    layer = Windows(units=2, inputs=4)
    with pytest.raises(RuntimeError, match="call the layer on a sample first"):
        show(layer)
    layer(X)
    assert str(show(layer)) == "a = x @ value"
    assert "x @ query @ (x @ key).T" in str(show(Attention(units=2, inputs=4)))


def test_a_layer_that_says_its_output_shape_is_shown_before_its_first_sample():
    assert str(show(Dense(4, 3, Tanh()))) == "a = tanh(x @ weights + bias)"


def test_show_traces_a_layer_whose_sizes_are_known():
    assert str(show(Dense(2, 3))) == "a = x @ weights + bias"


def test_samples_with_an_empty_axis_are_refused():
    with pytest.raises(ShapeError, match=r"Attention takes samples without an empty axis; got \(0, 4\)"):
        Attention(units=3, inputs=4)(np.zeros((2, 0, 4)))
    assert Attention(units=3, inputs=4)(np.zeros((0, 5, 4))).shape == (0, 5, 3)


class Signed(Layer):
    sign: int | float

    def formula(self, x):
        return np.copysign(x, self.sign) * (1 if isinstance(self.sign, int) else 2)


def test_layers_with_equal_settings_of_other_kinds_do_not_share_a_program():
    assert Signed(sign=1)([3.0]) == 3.0
    assert Signed(sign=1.0)([3.0]) == 6.0
    assert Signed(sign=0.0)([3.0]) == 6.0
    assert Signed(sign=-0.0)([3.0]) == -6.0


class Shifted(Layer):
    def formula(self, x):
        return x + (self.seed or 0)


def test_a_formula_may_read_the_seed():
    assert [float(Shifted(seed=seed)([1.0])[0]) for seed in (2, 3)] == [3.0, 4.0]


class Scaling:
    factor = 2.0


SCALING = Scaling()


class ByObject(Layer):
    def formula(self, x):
        return x * SCALING.factor


class ByProperty(Layer):
    @property
    def factor(self):
        return SCALING.factor

    def formula(self, x):
        return x * self.factor


@pytest.mark.parametrize("kind", [ByObject, ByProperty])
def test_a_new_layer_reads_the_attribute_of_a_global_object_anew(kind, monkeypatch):
    assert kind()([3.0]) == 6.0
    monkeypatch.setattr(SCALING, "factor", 5.0)
    assert kind()([3.0]) == 15.0


class Growing(Layer):
    def initial_buffers(self):
        return {"level": np.ones(2)}

    def formula(self, x, level):
        return x * level * x, {"level": level * 2}


def test_the_backward_pass_reads_the_buffers_of_its_forward_pass():
    layer = Growing()
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    layer.forward(x)
    np.testing.assert_array_equal(layer.buffers["level"], [2.0, 2.0])
    np.testing.assert_array_equal(layer.backward(np.ones((2, 2))), 2 * x)


def test_buffers_of_floats_have_the_dtype_of_the_layer():
    layer = Growing(dtype="float32")
    layer.forward([[1.0, 2.0]])
    assert layer.buffers["level"].dtype == "float32"


@pytest.mark.parametrize("new", ["{}", "{'other': level}", "{'level': level[:1]}", "level"])
def test_a_formula_must_return_every_buffer(new):
    class Odd(Growing):
        def formula(self, x, level):
            return x * level, eval(new, {}, {"level": level})

    with pytest.raises(DerivativeError, match=r"must return \(output, new buffers\)"):
        Odd()([[1.0, 2.0]])


class Counted(Layer):
    by: float = 1

    def initial_buffers(self):
        return {"steps": np.zeros((), int), "seen": np.zeros(2, bool)}

    mixes_rows = True

    def formula(self, x, steps, seen):
        new = steps + (int(self.by) if self.by == int(self.by) else self.by)
        return x * (1 + steps % 2), {"steps": new, "seen": seen | (x > 1).any(axis=0)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_buffers_of_integers_and_booleans_stay_what_they_are(dtype):
    layer = Counted(dtype=dtype)
    for factor in (1, 2, 1):
        np.testing.assert_array_equal(layer.forward([[0.5, 2.0]]), [[factor * 0.5, factor * 2.0]])
        np.testing.assert_array_equal(layer.backward([[1.0, 1.0]]), [[factor, factor]])
    assert layer.buffers["steps"] == 3
    assert layer.buffers["steps"].dtype == int
    np.testing.assert_array_equal(layer.buffers["seen"], [False, True])


def test_a_buffer_of_integers_refuses_fractions():
    with pytest.raises(DerivativeError, match="new value of buffer 'steps' must be int64, as in initial_buffers; got"):
        Counted(by=0.5).forward([[0.5, 2.0]])


def test_a_buffer_that_is_not_finite_while_the_output_is_raises():
    class Logarithm(Growing):
        mixes_rows = True

        def formula(self, x, level):
            return 2 * x, {"level": level + np.log(x).sum(axis=0)}

    model = Sequential(Logarithm(), Dense(2, 1))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(DivergedError, match="the new value of buffer 'level' is not finite, although the output"):
        trainer.fit(model, ([[1.0, 2.0], [0.0, 3.0]], [[1.0], [2.0]]))
    np.testing.assert_array_equal(model.buffers["0.level"], [1.0, 1.0])


@pytest.mark.parametrize(
    "names", [("w", "out_w"), ("w", "saved_0"), ("gradient", "d_x"), ("weights", "out_weights"), ("in_x", "delta")]
)
def test_parameters_may_have_any_names(names):
    class Named(Layer):
        def shapes(self):
            return dict.fromkeys(names, (3,))

        def initializers(self):
            return dict.fromkeys(names, Constant(value=0.5))

        def formula(self, x, **given):
            return np.tanh(x * given[names[0]]) * given[names[1]]

    layer, x = Named(), np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(layer.forward(x), np.tanh(0.5 * x) * 0.5)
    slope = 0.5 * (1 - np.tanh(0.5 * x) ** 2)
    np.testing.assert_allclose(layer.backward(np.ones((1, 3))), slope * 0.5)
    np.testing.assert_allclose(layer.parameters.gradients[names[0]], (slope * x)[0])
    np.testing.assert_allclose(layer.parameters.gradients[names[1]], np.tanh(0.5 * x)[0])


@pytest.mark.parametrize("method", ["draws", "initial_buffers"])
def test_a_name_that_is_declared_twice_is_refused(method):
    class Twice(Growing):
        def shapes(self):
            return {"level": (2,)}

        def draws(self, shape):
            return {"level": shape} if method == "draws" else {}

        def initial_buffers(self):
            return {"level": np.ones(2)} if method == "initial_buffers" else {}

    with pytest.raises(SettingsError, match="Twice: the name 'level' is declared twice"):
        Twice().forward([[1.0, 2.0]], key=(0, 0, 0))


@pytest.mark.parametrize("shapes", ["[('w', (2,))]", "{'w': 2}", "{'w': [2]}", "{'w': (2.0,)}", "{'w': (-2,)}", "None"])
@pytest.mark.parametrize("method", ["shapes", "draws"])
def test_a_shape_is_a_tuple_of_sizes(method, shapes):
    class Odd(Layer):
        def formula(self, x, w):
            return x * w

    setattr(Odd, method, lambda *_: eval(shapes))
    with pytest.raises(SettingsError, match=rf"Odd\.{method} must return a tuple of sizes for each name, .*; got"):
        Odd().forward([[1.0, 2.0]], key=(0, 0, 0))


def test_a_branch_on_a_single_row_is_refused():
    with pytest.raises(DerivativeError, match="for 1 row:"):
        Layer.of(lambda x: x if len(x) == 1 else 2 * x)([[1.0, 2.0]])


def test_a_gather_of_no_rows_has_a_gradient():
    layer = Layer.of(lambda x: np.take_along_axis(x, np.argmax(x, axis=1)[:, None], axis=1))
    layer.forward(np.empty((0, 3)))
    assert layer.backward(np.empty((0, 1))).shape == (0, 3)


OF_NOTHING = {
    "reshape": lambda x, w: x @ w + x[:, :0].reshape(len(x), 2, 0).sum(axis=2) @ w[:2],
    "flat": lambda x, w: x @ w + (x[:, :0, None] * x[:, None]).swapaxes(1, 2).reshape(len(x), 0).sum(1)[:, None],
    "concatenate": lambda x, w: np.concatenate([x[:, :0], x @ w, x[:, 4:]], axis=1),
    "product": lambda x, w: x @ w + x[:, :0] @ w[:0] + np.einsum("ni,ij->nj", x[:, :0], w[:0]),
    "products": lambda x, w: x @ w + (x[:, None, :0] @ np.swapaxes(x[:, None, :0], 1, 2))[:, 0],
    "sums": lambda x, w: x @ w + np.tanh(x[:, :0]).sum(axis=1, keepdims=True) + w[:, :0].sum(axis=1) @ w,
    "broadcast": lambda x, w: x @ w * (1.0 + (x[:, :0] - x[:, :1]).sum(axis=1, keepdims=True)),
    "prod": lambda x, w: x @ w * x[:, :0].prod(axis=1, keepdims=True),
    "pad": lambda x, w: x @ w + np.pad(x[:, :0], ((0, 0), (1, 1))) @ w[:2],
    "where": lambda x, w: x @ w + np.where(x[:, :0] > 0, x[:, :0], 0.0).sum(axis=1, keepdims=True),
}


@pytest.mark.parametrize("formula", OF_NOTHING.values(), ids=OF_NOTHING)
def test_a_formula_may_have_axes_of_length_0(formula):
    layer, x = Layer.of(formula, shapes={"w": (4, 4)}), X[:, 0]
    np.testing.assert_allclose(layer(x), formula(x, layer.parameters["w"]), rtol=1e-12)
    check_gradients(layer, MeanSquaredError(), x, np.ones((6, 4)))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2)
    models = [Sequential(Layer.of(formula, shapes={"w": (4, 4)}), Dense(4, 1)) for _ in range(2)]
    for model, engine in zip(models, ("numpy", "auto"), strict=True):
        trainer.replace(engine=engine).fit(model, (x, np.ones((6, 1))))
    np.testing.assert_allclose(*(model.parameters.vector for model in models), rtol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 6])
def test_the_last_state_of_a_loop_keeps_its_memory(steps):
    def rows(x, w):
        return loop(lambda h, matrix: (np.tanh(h @ matrix), h), x[:, 0], w, axis=0)[0]

    layer = Layer.of(rows, shapes={"w": (steps, 3, 3)}, initializers={"w": Glorot()})
    x = np.random.default_rng(steps).normal(size=(2, 4, 3))
    layer.forward(x)
    found = layer.backward(np.ones((2, 3)))
    step = 1e-6 * np.ones_like(x) * (np.arange(12).reshape(4, 3) - 5)
    differences = (layer(x + step) - layer(x - step)).sum() / 2
    np.testing.assert_allclose((found * step).sum(), differences, rtol=1e-6)
    assert not found[:, 1:].any()
    assert found[:, 0].any()


class Centred(Layer):
    mixes_rows = True
    minimum_rows = 2

    def formula(self, x):
        return x - x.mean(axis=0)


def test_a_layer_may_need_several_rows_in_training():
    assert Centred().forward(np.ones((2, 3))).shape == (2, 3)
    with pytest.raises(ShapeError, match="Centred needs 2 rows or more in training; got 1"):
        Centred().forward(np.ones((1, 3)))


class Projected(Layer):
    initializer: Initializer = Constant(value=0.5)

    def shapes(self):
        return {"matrix": (2, 2), "shift": (2,)}

    def formula(self, x, matrix, shift):
        return x @ matrix + shift


def test_the_setting_initializer_draws_the_matrices():
    assert Projected()([1.0, 2.0]).tolist() == [1.5, 1.5]
    assert Projected(initializer=Constant(value=1.0))([1.0, 2.0]).tolist() == [3.0, 3.0]


class Passing(Layer):
    """Gives its input itself, and its gradient: arrays that the step must not write into again."""

    check = "off"

    @property
    def input_shape(self):
        return (3,)

    def apply(self, x, values, record):
        return x

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


def test_passes_by_hand_may_return_what_they_are_given():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 64, 3))
    around = Dense(3, 3, ReLU(), seed=1), Dense(3, 3, Tanh(), seed=2)
    expected = Sequential(*(layer.copy() for layer in around))
    model = Sequential(around[0], Passing(), around[1])
    slopes, trainer = [], Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    for layers in (expected, model):
        layers.forward(x)
        slopes.append(layers.backward(y))
        trainer.fit(layers, (x, y))
    np.testing.assert_array_equal(*slopes)
    np.testing.assert_array_equal(model.parameters.vector, expected.parameters.vector)


class Scaled(Layer):
    """A formula, whose derived gradients the class below writes anew."""

    units: int

    def shapes(self):
        return {"scale": (self.units,)}

    def formula(self, x, scale):
        return x * scale


class ScaledBack(Scaled):
    """The formula of Scaled, and its gradients with a wrong sign."""

    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"][...] = (gradient * record.x).sum(axis=0)
        return -gradient * values["scale"]


class ScaledBoth(Layer):
    """Both in one class."""

    units: int

    shapes, formula, apply_backward = Scaled.shapes, Scaled.formula, ScaledBack.apply_backward


@pytest.mark.parametrize("layer", [ScaledBack(units=2), ScaledBoth(units=2)])
def test_gradients_beside_a_formula_are_checked(layer):
    name = type(layer).__name__
    with pytest.raises(DerivativeError, match=rf"(?s){name}\.apply_backward: dL/dx.*the sign is wrong"):
        layer([1.0, 2.0])


class Stretched(Layer):
    """A layer by hand whose apply reads an attribute that its apply_backward forgets."""

    stretch: ClassVar[float] = 1.0

    def apply(self, x, values, record):
        return self.stretch * x

    def apply_backward(self, gradient, values, record, gradients):
        return gradient.copy()


def test_each_fit_checks_gradients_by_hand_as_they_are_now(monkeypatch):
    model, x = Sequential(Dense(4, 4), Stretched()), X[:, 0]
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    trainer.fit(model, (x, x))
    before = model.parameters.vector.copy()
    monkeypatch.setattr(Stretched, "stretch", 2.0)
    with pytest.raises(DerivativeError, match=r"Stretched\.apply_backward: dL/dx.* is wrong along one direction: "):
        trainer.fit(model, (x, x))
    np.testing.assert_array_equal(model.parameters.vector, before)


def test_a_later_fit_of_an_unchanged_layer_computes_no_differences(monkeypatch):
    model, x = Sequential(Dense(4, 4), Stretched()), X[:, 0]
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    trainer.fit(model, (x, x))
    monkeypatch.setattr("framework.models.by_hand.Check", None)
    trainer.fit(model, (x, x))


class Turned(Layer):
    """Returns a view of its input."""

    factor: float = 1.0

    def apply(self, x, values, record):
        return x[:, ::-1]

    def apply_backward(self, gradient, values, record, gradients):
        return self.factor * gradient[:, ::-1]


def test_the_gradient_of_a_view_of_the_input_is_checked():
    x = np.random.default_rng(0).normal(size=(5, 3))
    model = Sequential(Dense(3, 4, seed=0), Turned())
    model.forward(x)
    np.testing.assert_allclose(model(x), (x @ model.layers[0].weights)[:, ::-1], rtol=1e-12)
    for factor in (0.0, 2.0):
        with pytest.raises(DerivativeError, match=r"Turned\.apply_backward: dL/dx, which it returns, is wrong"):
            Sequential(Dense(3, 4), Turned(factor=factor)).forward(x)
