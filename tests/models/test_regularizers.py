import numpy as np
import pytest
from oracles import jax_gradients, jnp

from framework import AdamOptimizer, Dense, MeanSquaredError, Neuron, Sequential, SGDOptimizer, Tanh
from framework.base.errors import DerivativeError, DivergedError, SettingsError, ShapeError
from framework.base.settings.component import Component
from framework.models.regularizers import L1, L2, Regularizer
from framework.training.gradients import numerical_gradient
from framework.training.trainer import Trainer

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))


def network(**options):
    return Sequential(Dense(3, 4, Tanh(), **options), Dense(4, 2, **options), seed=0)


def gradients_with(model, *regularizers):
    """Return the penalised loss, after its gradients are in the model."""
    model.forward(X)
    return MeanSquaredError().backward(model, Y) + sum(r.backward(model) for r in regularizers)


PATTERNS = ["*weights", "*", "0.*", "1.bias", "?.weights"]


@pytest.mark.parametrize("kind", [L1, L2])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_gradients_are_those_of_the_penalised_loss(kind, pattern):
    model = network()
    model.parameters.vector[:] += 0.05  # biases off the kink
    regularizer = kind(strength=0.3, parameters=pattern)
    vector = model.parameters.vector

    def objective(values):
        vector[:] = values
        return MeanSquaredError()(model(X), Y) + regularizer.penalty(model)

    start = vector.copy()
    expected = numerical_gradient(objective, start)
    assert objective(start) == pytest.approx(gradients_with(model, regularizer), rel=1e-14)
    np.testing.assert_allclose(model.parameters.gradient, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_penalty_and_gradients_are_those_of_jax(pattern):
    model = network()
    model.parameters["0.weights"][0, 0] = 0.0  # on the kink of L1
    regularizers = L1(strength=0.2, parameters=pattern), L2(strength=0.7, parameters=pattern)

    def objective(p):
        h = jnp.tanh(X @ p["0.weights"] + p["0.bias"])
        loss = jnp.mean((h @ p["1.weights"] + p["1.bias"] - Y) ** 2)
        for name in regularizers[0].names(model.parameters):
            loss += 0.2 * (p[name] * jnp.sign(p[name])).sum()  # the slope of jnp.abs is 1 at 0; ours is 0
            loss += 0.7 * 0.5 * (p[name] ** 2).sum()
        return loss

    loss, (gradients,) = jax_gradients(objective, dict(model.parameters))
    assert gradients_with(model, *regularizers) == pytest.approx(loss, rel=1e-14)
    for name, gradient in model.parameters.gradients.items():
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", [SGDOptimizer, AdamOptimizer])
def test_l2_gives_the_steps_of_a_coupled_weight_decay(kind):
    penalised, decayed = network(), network()
    first = kind(penalised, learning_rate=0.01)
    second = kind(decayed, learning_rate=0.01, weight_decay=0.4)
    for _ in range(50):
        gradients_with(penalised, L2(strength=0.4, parameters="*"))
        first.step()
        gradients_with(decayed)
        second.step()
    np.testing.assert_allclose(penalised.parameters.vector, decayed.parameters.vector, rtol=1e-12)


def test_frozen_parameters_are_neither_counted_nor_touched():
    model = network()
    model.parameters.freeze("0.weights")
    regularizer = L2(strength=2.0)
    gradients_with(model, regularizer)
    assert not model.parameters.gradients["0.weights"].any()
    assert regularizer.penalty(model) == pytest.approx(np.sum(model.parameters["1.weights"] ** 2))
    model.parameters.freeze()
    assert regularizer.penalty(model) == 0.0
    model.parameters.unfreeze()
    assert regularizer.penalty(model) > np.sum(model.parameters["1.weights"] ** 2)


def test_a_pattern_that_matches_nothing_lists_the_names():
    model = network()
    with pytest.raises(
        SettingsError, match=r"no parameter '\*weight'.*Parameters: 0.weights, 0.bias, 1.weights, 1.bias"
    ):
        gradients_with(model, L1(strength=0.1, parameters="*weight"))


def test_a_single_layer_is_matched_by_its_bare_names():
    neuron = Neuron.from_weights([3.0, -4.0], bias=5.0)
    assert L1(strength=0.5).penalty(neuron) == 3.5
    assert L2(strength=1.0, parameters="bias").penalty(neuron) == 12.5


def test_float32_stays_float32():
    model = network(dtype="float32")
    x, y = X.astype(np.float32), Y.astype(np.float32)
    model.forward(x)
    MeanSquaredError().backward(model, y)
    L1(strength=0.1).backward(model)
    L2(strength=0.1).backward(model)
    assert model.parameters.gradient.dtype == np.float32
    assert (0.1 * L2(strength=0.1).slope(model.parameters["0.weights"])).dtype == np.float32


def test_parameters_and_frozen_bits_are_left_as_they_are():
    model = network()
    kept = model.parameters.vector.copy()
    gradients_with(model, L1(strength=0.1), L2(strength=0.1))
    np.testing.assert_array_equal(model.parameters.vector, kept)


def test_a_penalty_that_is_not_finite_stops_before_anything_changes():
    model = network()
    gradients_with(model)
    kept = model.parameters.gradient.copy()
    model.parameters["0.weights"][0, 0] = 1e200
    with pytest.raises(DivergedError, match="the penalty is not finite"):
        L2(strength=0.1).backward(model)
    np.testing.assert_array_equal(model.parameters.gradient, kept)


class Doubled(L2):
    def slope(self, values):
        return 2.0 * values


class Strengthened(L2):
    def slope(self, values):
        return self.strength * values


class Summed(L2):
    def slope(self, values):
        return np.sum(values)


class Elastic(Regularizer):
    mix: float = 0.5

    def value(self, values):
        return np.sum(self.mix * np.abs(values) + (1 - self.mix) * values**2)

    def slope(self, values):
        return self.mix * np.sign(values) + 2 * (1 - self.mix) * values


class Orthonormal(Regularizer):
    """|W'W - 1|^2: a penalty that couples the elements of an array."""

    def value(self, values):
        return np.sum((values.T @ values - np.eye(values.shape[1])) ** 2)

    def slope(self, values):
        return 4 * values @ (values.T @ values - np.eye(values.shape[1]))


@pytest.mark.parametrize("kind", [Doubled, Strengthened])
def test_a_wrong_slope_is_found_at_the_first_use(kind):
    with pytest.raises(DerivativeError, match=rf"{kind.__name__}.slope is wrong at element \d(.|\n)*a constant factor"):
        gradients_with(network(), kind(strength=0.1))


def test_a_slope_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"must have the shape of its argument, \(4, 3\); got \(\)"):
        gradients_with(network(), Summed(strength=0.1))


class Elementwise(Regularizer):
    def value(self, values):
        return values**2


def test_a_penalty_that_is_not_one_number_is_refused():
    with pytest.raises(ShapeError, match=r"Elementwise\.value must return one number .*np\.sum.*; got shape \(4, 3\)"):
        gradients_with(network(), Elementwise(strength=0.1))


class Deliberate(Doubled):
    check = "off"


def test_a_slope_that_differs_on_purpose_is_not_checked():
    model, doubled = network(), network()
    gradients_with(model, L2(strength=0.2))
    gradients_with(doubled, Deliberate(strength=0.1))
    np.testing.assert_allclose(model.parameters.gradient, doubled.parameters.gradient, rtol=1e-14)


@pytest.mark.parametrize("regularizer", [L1(strength=0.1), L2(strength=1e-8), Elastic(strength=1.0, mix=0.3)], ids=repr)
def test_a_right_slope_is_accepted_and_its_json_gives_it_back(regularizer):
    regularizer.check_derivative()
    gradients_with(network(), regularizer)
    assert Component.from_json(regularizer.to_json()) == regularizer


def test_a_penalty_may_couple_the_elements_of_an_array():
    model = network()
    gradients_with(model)
    before = model.parameters.gradients["0.weights"].copy()
    Orthonormal(strength=0.5).backward(model)
    weights = model.parameters["0.weights"]
    expected = 0.5 * numerical_gradient(lambda w: Orthonormal(strength=1.0).value(w), weights.copy())
    np.testing.assert_allclose(model.parameters.gradients["0.weights"] - before, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"strength": -1.0}, {"parameters": 3, "strength": 1.0}, {}])
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(SettingsError, match="parameters" if "parameters" in settings else "strength"):
        L2(**settings)


class Quartic(Regularizer):
    def value(self, values):
        return np.sum(values**4)


class DerivedElastic(Elastic):
    def value(self, values):
        return np.sum(self.mix * np.abs(values) + (1 - self.mix) * values**2)


class DerivedOrthonormal(Orthonormal):
    def value(self, values):
        return np.sum((values.T @ values - np.eye(values.shape[1])) ** 2)


class ColumnNorms(Regularizer):
    """The group lasso: the sum of the columns' lengths."""

    def value(self, values):
        return np.sum(np.sqrt(np.sum(values**2, axis=0)))


PENALTIES = {
    Quartic: lambda w: jnp.sum(w**4),
    DerivedElastic: lambda w: jnp.sum(0.5 * jnp.abs(w) + 0.5 * w**2),
    DerivedOrthonormal: lambda w: jnp.sum((w.T @ w - jnp.eye(w.shape[1])) ** 2),
    ColumnNorms: lambda w: jnp.sum(jnp.linalg.norm(w, axis=0)),
}


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 1e-5)])
def test_a_penalty_without_a_slope_has_that_of_its_formula(kind, dtype, rtol):
    for shape in [(4, 3), (3, 2)]:
        values = rng.normal(size=shape).astype(dtype)
        slope = kind(strength=1.0).slope(values)
        assert slope.dtype == values.dtype
        _, (expected,) = jax_gradients(PENALTIES[kind], values)
        np.testing.assert_allclose(slope, expected, rtol=rtol, atol=rtol)


def test_a_penalty_without_a_slope_trains():
    model, written = network(), network()
    gradients_with(model, DerivedElastic(strength=0.3, parameters="*"))
    gradients_with(written, Elastic(strength=0.3, parameters="*"))
    np.testing.assert_allclose(model.parameters.gradient, written.parameters.gradient, rtol=1e-13)


@pytest.mark.parametrize(("kind", "expected"), [(L1, 0.5), (L2, 2.5), (Quartic, 250.0)])
def test_a_parameter_that_is_a_number_has_a_slope(kind, expected):
    neuron = Neuron.from_weights([3.0, -4.0], bias=5.0)
    kind(strength=0.5, parameters="bias").backward(neuron)
    assert float(neuron.parameters.gradients["bias"]) == expected


class Branching(Regularizer):
    def value(self, values):
        return np.sum(values) if np.sum(values) > 0 else 0.0


def test_a_penalty_that_cannot_be_derived_says_why():
    with pytest.raises(DerivativeError, match=r"Branching\.value: the formula cannot be traced through an 'if'"):
        gradients_with(network(), Branching(strength=0.1))


POWER = 2.0


class Powered(Regularizer):
    def value(self, values):
        return (np.abs(values) ** POWER).sum()


def test_a_changed_global_is_read_anew_by_the_next_fit(monkeypatch):
    trainer = Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=0.1),
        regularizers=[Powered(strength=0.1)],
        epochs=2,
    )
    before = trainer.fit(network(), (X, Y)).model.parameters.vector
    monkeypatch.setitem(globals(), "POWER", 4.0)
    again = trainer.fit(network(), (X, Y)).model.parameters.vector
    new = trainer.replace(regularizers=[Powered(strength=0.1)]).fit(network(), (X, Y)).model.parameters.vector
    np.testing.assert_array_equal(again, new)
    assert not np.allclose(again, before)
