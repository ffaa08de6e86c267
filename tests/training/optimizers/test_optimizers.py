import functools
import math

import numpy as np
import pytest

from framework import (
    Dense,
    DivergedError,
    HalfSquaredError,
    Neuron,
    Optimizer,
    Schedule,
    Sequential,
    SettingsError,
    SGDOptimizer,
)
from framework.base import UsageError
from framework.base.arrays import BLOCK
from framework.formulas import ExponentialSchedule
from framework.models import Constant


def made(size=3, **settings):
    """A neuron of ones, with a bias of 0, and its optimizer."""
    neuron = Neuron.from_weights(np.ones(size))
    return neuron, SGDOptimizer(neuron, **settings)


def step(model, optimizer, gradient):
    model.parameters.gradient[:] = gradient
    for frozen in model.parameters.frozen_gradients:  # as backward leaves them
        frozen[...] = 0
    optimizer.step()


def by_hand(gradients, rate, momentum=0.0, nesterov=False, decay=0.0, values=(1.0, 1.0, 1.0, 0.0)):
    """The formulas of the docstring, one element at a time."""
    w, v = list(values), [0.0] * len(values)
    for gradient in gradients:
        for i, g in enumerate(gradient):
            decayed = g + decay * w[i]
            v[i] = momentum * v[i] + decayed
            w[i] = w[i] - rate * (decayed + momentum * v[i] if nesterov else v[i])
    return w


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.1},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
    ],
)
def test_sgd_is_its_formula(settings):
    gradients = np.random.default_rng(0).normal(size=(10, 4))
    neuron, optimizer = made(learning_rate=0.1, **settings)
    for gradient in gradients:
        step(neuron, optimizer, gradient)
    hand = {"decay" if name == "weight_decay" else name: value for name, value in settings.items()}
    np.testing.assert_allclose(neuron.parameters.vector, by_hand(gradients, 0.1, **hand), rtol=1e-14)
    assert optimizer.steps == 10


def test_plain_sgd_is_nothing_but_rate_times_gradient():
    gradient = np.random.default_rng(0).normal(size=3 * BLOCK + 1)
    neuron, optimizer = made(3 * BLOCK, learning_rate=0.3)
    before = neuron.parameters.vector.copy()
    step(neuron, optimizer, gradient)
    assert np.array_equal(neuron.parameters.vector, before - 0.3 * gradient)
    assert np.array_equal(neuron.parameters.gradient, gradient)


class Momentum(Optimizer):
    momentum: float = 0.9
    memory = ("velocity",)

    def update(self, values, gradients, rate, step, velocity):
        velocity *= self.momentum
        velocity += gradients
        values -= rate * velocity


class Steps(Optimizer):
    """Moves by the number of the step, whatever the gradient."""

    def update(self, values, gradients, rate, step):
        values[:] = step


class Rebinding(Optimizer):
    def update(self, values, gradients, rate, step):
        values = values - rate * gradients


class SignOfNorm(SGDOptimizer):
    """A formula that sums over all it is given."""

    def update(self, values, gradients, rate, step, *memory):
        values -= rate * gradients / np.linalg.norm(gradients)


def test_a_users_momentum_is_that_of_sgd():
    gradients = np.random.default_rng(0).normal(size=(10, 4))
    neuron, twin = Neuron.from_weights(np.ones(3)), Neuron.from_weights(np.ones(3))
    own, library = Momentum(neuron, learning_rate=0.1), SGDOptimizer(twin, learning_rate=0.1, momentum=0.9)
    for gradient in gradients:
        step(neuron, own, gradient)
        step(twin, library, gradient)
    np.testing.assert_allclose(neuron.parameters.vector, twin.parameters.vector, rtol=1e-15)


def test_steps_count_from_one():
    neuron = Neuron.from_weights(np.ones(2))
    optimizer = Steps(neuron, learning_rate=0.1)
    for expected in (1, 2, 3):
        step(neuron, optimizer, 1.0)
        assert np.all(neuron.parameters.vector == expected)


def test_an_update_that_is_not_in_place_is_refused_at_the_first_step():
    neuron = Neuron.from_weights(np.ones(2))
    optimizer = Rebinding(neuron, learning_rate=0.1)
    step(neuron, optimizer, 0.0)  # a gradient of 0 proves nothing
    optimizer = Rebinding(neuron, learning_rate=0.1)
    with pytest.raises(UsageError, match=r"Rebinding\.update changed neither values nor memory.*'values -= \.\.\.'"):
        step(neuron, optimizer, 1.0)
    assert optimizer.steps == 0


def test_a_first_step_between_forward_and_backward_is_refused():
    neuron, loss = Neuron.from_weights([1.0]), HalfSquaredError()
    optimizer = SGDOptimizer(neuron, learning_rate=0.1)
    neuron.forward([[1.0]])
    with pytest.raises(UsageError, match=r"SGDOptimizer\.step: there is no gradient yet; call loss\.backward"):
        optimizer.step()
    assert (optimizer.steps, neuron.weights.tolist()) == (0, [1.0])
    loss.backward(neuron, [1.0])  # whose gradient is 0
    optimizer.step()
    assert optimizer.steps == 1


class Rebound(Optimizer):
    memory = ("mean", "count")

    def update(self, values, gradients, rate, step, mean, count):
        count += 1
        mean = 0.9 * mean + gradients
        values -= rate * mean


class Corrected(Rebound):
    momentum: float

    def update(self, values, gradients, rate, step, mean, count):
        if self.momentum:
            mean *= self.momentum
            mean += (1 - self.momentum) * gradients
            mean = mean / (1 - self.momentum**step)
        values -= rate * (mean if self.momentum else gradients)


def test_memory_that_is_not_written_in_place_is_refused_at_the_first_step():
    neuron = Neuron.from_weights(np.ones(2))
    optimizer = Rebound(neuron, learning_rate=0.1)
    with pytest.raises(UsageError, match=r"Rebound\.update makes a new array 'mean', which is lost.*'mean\[\.\.\.\]"):
        step(neuron, optimizer, 1.0)
    assert optimizer.steps == 0
    assert np.all(neuron.weights == 1.0)


class Unpacked(Rebound):
    def update(self, values, gradients, rate, step, *memory):
        mean, count = memory
        count += 1
        mean = 0.9 * mean + gradients
        values -= rate * mean


class Captured(Rebound):
    def update(self, values, gradients, rate, step, mean, count):
        count += 1
        mean = 0.9 * mean + gradients
        values[...] = np.fromiter((values[i] - rate * mean[i] for i in range(len(mean))), float)


class LateInPlace(Rebound):
    def update(self, values, gradients, rate, step, mean, count):
        count += 1
        mean = 0.9 * mean
        mean += gradients
        values -= rate * mean


class Wrapped(Rebound):
    @functools.wraps(Rebound.update)
    def update(self, *given):
        Rebound.update(self, *given)


class ValuesLost(Rebound):
    def update(self, values, gradients, rate, step, mean, count):
        mean += gradients
        values = values - rate * mean


@pytest.mark.parametrize("kind", [Unpacked, Captured, LateInPlace, Wrapped, ValuesLost])
def test_a_new_array_for_the_name_of_one_given_is_refused_however_update_is_written(kind):
    neuron = Neuron.from_weights(np.ones(2))
    optimizer = kind(neuron, learning_rate=0.1)
    with pytest.raises(UsageError, match=r"makes a new array '(mean|values)', which is lost"):
        step(neuron, optimizer, 1.0)
    assert optimizer.steps == 0
    assert np.all(neuron.weights == 1.0)


class OnlyRead(Rebound):
    def update(self, values, gradients, rate, step, mean, count):
        doubled = gradients * 2
        total = mean.copy()  # Python 3.13 stores 'doubled' and loads 'mean' in one instruction
        values -= rate * (total + doubled)


class Viewed(Rebound):
    def update(self, values, gradients, rate, step, mean, count):
        mean = mean[:]
        values -= rate * (mean + gradients)
        if step > 1:
            mean += gradients


@pytest.mark.parametrize("kind", [OnlyRead, Viewed])
def test_memory_may_be_read_and_viewed_before_it_is_first_written(kind):
    neuron = Neuron.from_weights(np.ones(2))
    step(neuron, kind(neuron, learning_rate=0.1), 1.0)
    assert np.all(neuron.weights < 1.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_new_array_is_fine_where_the_memory_is_written_or_not_used(momentum):
    neuron = Neuron.from_weights(np.ones(2))
    step(neuron, Corrected(neuron, learning_rate=1.0, momentum=momentum), 1.0)
    assert np.allclose(neuron.weights, 0.0)


def test_a_step_too_small_for_the_dtype_is_no_error():
    neuron, optimizer = made(learning_rate=1e-30)
    neuron.bias = 1.0
    step(neuron, optimizer, 1.0)
    assert np.all(neuron.weights == 1.0)


def test_a_formula_of_its_own_sees_all_parameters_at_once():
    neuron = Neuron.from_weights(np.ones(5 * BLOCK))
    optimizer = SignOfNorm(neuron, learning_rate=1.0)
    step(neuron, optimizer, 2.0)
    np.testing.assert_allclose(neuron.weights, 1.0 - 1.0 / np.sqrt(5 * BLOCK + 1), rtol=1e-12)


def model_of_three():
    return Sequential(*(Dense(2, 2, initializer=Constant(value=1.0)) for _ in range(3)))


@pytest.mark.parametrize("settings", [{"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("kind", [SGDOptimizer, Momentum])
def test_a_frozen_parameter_never_moves(kind, settings):
    model = model_of_three()
    optimizer = kind(model, learning_rate=0.1, **(settings if kind is SGDOptimizer else {}))
    step(model, optimizer, 1.0)  # the velocity is no longer 0
    model.parameters.freeze("1.weights", "2.bias")
    frozen = {name: model.parameters[name].copy() for name in model.parameters.frozen}
    others = model.parameters["1.bias"].copy()
    for _ in range(3):
        step(model, optimizer, 1.0)
    for name, before in frozen.items():
        assert np.array_equal(model.parameters[name], before), name
    assert np.all(model.parameters["1.bias"] != others)


def test_unfreezing_in_the_middle_goes_on_with_the_memory_kept():
    model = model_of_three()
    optimizer = SGDOptimizer(model, learning_rate=0.1, momentum=0.5)
    step(model, optimizer, 1.0)
    model.parameters.freeze("1.weights")
    step(model, optimizer, 1.0)
    model.parameters.unfreeze("1.weights")
    step(model, optimizer, 1.0)
    np.testing.assert_allclose(model.parameters["1.weights"], 1.0 - 0.1 * (1.0 + 1.5), rtol=1e-14)
    np.testing.assert_allclose(model.parameters["0.weights"], 1.0 - 0.1 * (1.0 + 1.5 + 1.75), rtol=1e-14)


def test_an_optimizer_may_train_one_layer_of_a_model():
    model = model_of_three()
    optimizer = SGDOptimizer(model.layers[1], learning_rate=0.1)
    step(model, optimizer, 1.0)
    assert np.all(model.parameters["1.weights"] == 0.9)
    assert np.all(model.parameters["0.weights"] == 1.0)


GRADIENT = np.array([3.0, 0.0, 4.0, 12.0])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"clip_norm": 6.5}, GRADIENT / 2),
        ({"clip_norm": 13.0}, GRADIENT),
        ({"clip_value": 3.5}, [3.0, 0.0, 3.5, 3.5]),
        ({"clip_norm": 6.5, "clip_value": 2.0}, [1.5, 0.0, 2.0, 2.0]),
    ],
)
def test_clipping(settings, expected):
    neuron, optimizer = made(learning_rate=1.0, **settings)
    step(neuron, optimizer, GRADIENT)
    np.testing.assert_allclose(neuron.parameters.vector, np.array([1.0, 1.0, 1.0, 0.0]) - expected, rtol=1e-14)


def test_the_norm_is_over_trainable_parameters_only():
    neuron, optimizer = made(learning_rate=1.0, clip_norm=2.5)
    neuron.parameters.freeze("bias")
    step(neuron, optimizer, GRADIENT)
    np.testing.assert_allclose(neuron.weights, [1.0 - 1.5, 1.0, 1.0 - 2.0], rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-300, 1e200, 1.4e307])
def test_clipping_a_gradient_whose_square_is_out_of_range(scale):
    neuron, optimizer = made(learning_rate=1.0, clip_norm=6.5)
    step(neuron, optimizer, GRADIENT * scale)
    expected = GRADIENT * scale if scale < 1 else GRADIENT / 2
    np.testing.assert_allclose(neuron.weights, 1.0 - expected[:3], rtol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 1.0}, {"clip_value": 1.0}, {"momentum": 0.9}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(value, settings):
    neuron, optimizer = made(learning_rate=0.1, **settings)
    step(neuron, optimizer, 1.0)
    state = [neuron.parameters.vector.copy(), *(array.copy() for array in optimizer.memory.values())]
    with pytest.raises(DivergedError, match="the gradient of weights is not finite; the update was not applied"):
        step(neuron, optimizer, [1.0, value, 1.0, 1.0])
    for before, after in zip(state, [neuron.parameters.vector, *optimizer.memory.values()], strict=True):
        assert np.array_equal(before, after)
    assert optimizer.steps == 1
    step(neuron, optimizer, 1.0)
    assert optimizer.steps == 2


def test_a_huge_finite_gradient_passes():
    neuron, optimizer = made(learning_rate=1e-200)
    step(neuron, optimizer, 1e200)
    np.testing.assert_allclose(neuron.weights, 0.0, atol=1e-12)


class Stairs(Schedule):
    rates: tuple[float, ...]

    def __call__(self, step):
        return self.rates[step]


def test_a_schedule_gives_the_rate_of_each_step():
    neuron, optimizer = made(learning_rate=Stairs(rates=(0.5, 0.0, 0.25)))
    weights = []
    for _ in range(3):
        step(neuron, optimizer, 1.0)
        weights.append(neuron.weights[0])
    assert weights == [0.5, 0.5, 0.25]
    assert optimizer.last_rate == 0.25


@pytest.mark.parametrize("rate", [-0.1, -1e-300, 1e400, math.nan])
def test_a_schedule_that_falls_below_zero_is_refused_before_the_step(rate):
    class Wrong(Schedule):
        def __call__(self, step):
            return rate

    neuron, optimizer = made(learning_rate=Wrong())
    with pytest.raises(SettingsError, match=r"Wrong\(\) must give a rate of 0 or more; got"):
        step(neuron, optimizer, 1.0)
    assert np.all(neuron.weights == 1.0)


def test_exponential_schedule():
    schedule = ExponentialSchedule(initial=0.1, decay=0.5)
    assert [schedule(step) for step in range(3)] == [0.1, 0.05, 0.025]


class HeavyBall(Optimizer):
    """Momentum by the difference to the step before, which may be right or wrong at the first step."""

    starts: bool
    memory = ("previous",)

    def update(self, values, gradients, rate, step, previous):
        if step == 1 and self.starts:
            previous[...] = values
        before = values.copy()
        values += 0.9 * (values - previous) - rate * gradients
        previous[...] = before


class Decay(Optimizer):
    """Decoupled decay, which moves the values without a gradient."""

    def update(self, values, gradients, rate, step):
        values *= 1.0 - 0.5 * rate
        values -= rate * gradients


class Noise(Optimizer):
    """Langevin dynamics: the noise moves the values without a gradient."""

    def update(self, values, gradients, rate, step):
        values += math.sqrt(rate) * np.random.default_rng(step).normal(size=values.shape) - rate * gradients


class Shrink(Optimizer):
    """Soft thresholding after the step."""

    def update(self, values, gradients, rate, step):
        values -= rate * gradients
        values[...] = np.sign(values) * np.maximum(np.abs(values) - 0.1 * rate, 0.0)


class Outward(Optimizer):
    """A push away from 0 of constant size, not in proportion to the values."""

    def update(self, values, gradients, rate, step):
        values += rate * np.sign(values) - rate * gradients


def test_values_that_grow_without_a_gradient_are_refused_before_anything_changes():
    neuron = Neuron.from_weights([10.0, 20.0])
    optimizer = HeavyBall(neuron, learning_rate=0.1, starts=False)
    with pytest.raises(
        UsageError, match=r"HeavyBall.update moves the values .* 20 becomes 38\. .*previous\[\.\.\.\] = "
    ):
        step(neuron, optimizer, 0.5)
    assert neuron.weights.tolist() == [10.0, 20.0]
    assert not optimizer.memory["previous"].any()
    assert optimizer.steps == 0


@pytest.mark.parametrize("optimizer", [HeavyBall(learning_rate=0.1, starts=True), Decay(learning_rate=0.1)], ids=repr)
@pytest.mark.parametrize("gradient", [0.5, 0.0])
def test_decay_and_a_momentum_that_starts_are_not(optimizer, gradient):
    neuron = Neuron.from_weights([10.0, -20.0])
    bound = optimizer.bind(neuron)
    for _ in range(3):
        step(neuron, bound, gradient)
    assert np.isfinite(neuron.weights).all()
    assert bound.steps == 3


@pytest.mark.parametrize("kind", [Noise, Shrink, Outward])
def test_noise_thresholds_and_pushes_are_not(kind):
    optimizer = kind(learning_rate=0.1)
    neuron = Neuron.from_weights([10.0, -20.0])
    step(neuron, optimizer.bind(neuron), 0.5)
    assert neuron.weights.tolist() != [10.0, -20.0]
