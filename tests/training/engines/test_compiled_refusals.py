"""A formula whose record computes something else is left to NumPy, with a notice that says why."""

import numpy as np
import pytest
from kernels_of import kernel_of

from framework import (
    Activation,
    Dense,
    HalfSquaredError,
    Identity,
    Layer,
    Loss,
    Optimizer,
    Schedule,
    Sequential,
    SGDOptimizer,
    Tanh,
    Trainer,
    on,
)
from framework.formulas import ConstantSchedule
from framework.training.engines.records import CannotLower

PLAIN = SGDOptimizer(learning_rate=0.1)


def prepare(activation=None, loss=None, optimizer=PLAIN, dtype="float64"):
    """Do all that comes before the compiler."""
    loss = loss or HalfSquaredError()
    model = Sequential(Dense(3, 4, activation or Identity(), dtype=dtype), Dense(4, 2, dtype=dtype))
    kernel = kernel_of(model, loss, optimizer)
    if kernel.plan.reason:
        raise CannotLower(kernel.plan.reason)
    return kernel


class Own(Optimizer):
    """An optimizer that reads its own rate."""

    def update(self, values, gradients, rate, step):
        values -= self.learning_rate * gradients


class Decaying(Optimizer):
    """An optimizer that decays unless a schedule does."""

    def update(self, values, gradients, rate, step):
        if not isinstance(self.learning_rate, Schedule):
            values *= 1.0 - 0.1 * rate
        values -= rate * gradients


@pytest.mark.parametrize(
    "optimizer",
    [
        Own(learning_rate=0.1),
        Own(learning_rate=0.5),
        Decaying(learning_rate=0.1),
        Decaying(learning_rate=ConstantSchedule(rate=0.1)),
    ],
)
def test_an_update_that_reads_its_own_rate_is_refused(optimizer):
    with pytest.raises(CannotLower, match=r"update reads self.learning_rate.*use the argument 'rate'"):
        prepare(optimizer=optimizer)


def test_a_rate_that_a_hook_assigns_reaches_an_update_that_reads_it_itself():
    def halve(run):
        run.optimizer.learning_rate /= 2.0

    runs = []
    for engine in ("numpy", "auto"):
        trainer = Trainer(
            loss=HalfSquaredError(),
            optimizer=Own(learning_rate=0.1),
            epochs=3,
            engine=engine,
            callbacks=[on("epoch_end")(halve)],
        )
        runs.append(trainer.fit(Dense(1, 1), ([[1.0], [2.0]], [[1.0], [0.0]])))
    np.testing.assert_array_equal(*(run.model.parameters.vector for run in runs))


class Noisy(Optimizer):
    def update(self, values, gradients, rate, step):
        values -= rate * (1.0 + np.random.default_rng().normal()) * gradients


class Asking(Optimizer):
    def update(self, values, gradients, rate, step):
        values -= (rate if isinstance(rate, float) else 2.0 * rate) * gradients


class Counting(Optimizer):
    def update(self, values, gradients, rate, step):
        values -= rate / (1.0 + self.steps) * gradients


def test_an_update_that_depends_on_more_than_its_arguments_is_refused():
    with pytest.raises(CannotLower, match=r"Noisy.update is another formula at each call, as with random numbers"):
        prepare(optimizer=Noisy(learning_rate=0.1))
    with pytest.raises(CannotLower, match=r"Asking.update gives other numbers than its record"):
        prepare(optimizer=Asking(learning_rate=0.1))
    for optimizer in (Counting(learning_rate=0.1), Counting(Dense(1, 1), learning_rate=0.1).recipe):
        with pytest.raises(CannotLower, match=r"Counting.update cannot be recorded: UsageError"):
            prepare(optimizer=optimizer)


class Masked(Activation):
    """ReLU with the derivative 1 at 0, written in a way that no record has."""

    def __call__(self, h):
        return np.maximum(h, 0.0)

    def derivative(self, h):
        slope = np.ones_like(h)
        slope[h < 0] = 0.0
        return slope


class Smooth(Activation):
    """A derivative that is written into an array of its own."""

    def __call__(self, h):
        return np.tanh(h)

    def derivative(self, h):
        slope = np.empty_like(h)
        slope[...] = 1.0 - np.tanh(h) ** 2
        return slope


class Upper(Loss):
    """The absolute error with the slope 1 at 0."""

    def value(self, prediction, target):
        return np.abs(prediction - target)

    def slope(self, prediction, target):
        slope = np.ones_like(prediction)
        slope[prediction < target] = -1.0
        return slope


class Largest(Activation):
    """Takes the largest of a row away; of two that are equal, the first one's gradient counts."""

    def __call__(self, h):
        return h - np.max(h, axis=-1, keepdims=True)

    def backward(self, gradient, h, a):
        result = gradient.copy()
        result[np.arange(len(h)), np.argmax(h, axis=-1)] -= gradient.sum(axis=-1)
        return result


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("part", [Masked(), Upper(), Largest(), Smooth()])
def test_python_computes_a_written_derivative_that_cannot_be_traced(part, batch_size, dtype, tolerance):
    loss, activation = (part, Tanh()) if isinstance(part, Loss) else (HalfSquaredError(), part)
    rng, vectors = np.random.default_rng(0), []
    data = rng.normal(size=(18, 3)).astype(dtype), rng.normal(size=(18, 2)).astype(dtype)
    for engine in ("numpy", "compiled"):
        trainer = Trainer(loss=loss, optimizer=PLAIN, batch_size=batch_size, epochs=2, engine=engine)
        run = trainer.fit(Sequential(Dense(3, 4, activation), Dense(4, 2), seed=0, dtype=dtype), data)
        assert run.engine == engine
        vectors.append(run.model.parameters.vector)
    np.testing.assert_allclose(*vectors, rtol=tolerance, atol=tolerance)


def test_a_unit_at_a_kink_learns_as_its_written_derivative_says():
    trainer = Trainer(loss=HalfSquaredError(), optimizer=PLAIN, engine="auto")
    model = Dense(2, 1, Masked())
    trainer.fit(model, (np.zeros((4, 2)), np.ones((4, 1))))
    assert model.bias[0] == pytest.approx(0.1)


class Exponential(Activation):
    """A formula that the check refuses, so the check is off."""

    check = "off"

    def __call__(self, h):
        return h * np.exp(h > 0.5)

    def derivative(self, h):
        return np.exp(h > 0.5)


class Random(Masked):
    """A formula that no graph can stand for."""

    check = "off"

    def __call__(self, h):
        return np.tanh(h) * np.random.default_rng().normal()

    def derivative(self, h):
        return 1.0 - np.tanh(h) ** 2


def test_a_formula_that_draws_random_numbers_is_refused():
    with pytest.raises(CannotLower, match=r"two traces of it differ"):
        prepare(Random())


def test_functions_of_booleans_are_refused_because_numpy_computes_them_in_half_precision():
    with pytest.raises(CannotLower, match=r"the graph of the formula gives other values"):
        prepare(Exponential())


def test_memory_may_have_any_name_and_a_factor_may_be_infinite():
    class Named(Optimizer):
        memory = ("m", "m_i", "i")

        def update(self, values, gradients, rate, step, *memory):
            _, mean, _ = memory
            mean += gradients
            values -= np.minimum(np.inf, rate / step) * np.maximum(-np.inf, mean)

    data = np.random.default_rng(0).normal(size=(12, 3)), np.ones((12, 2))
    settings = {"loss": HalfSquaredError(), "optimizer": Named(learning_rate=0.1), "epochs": 2}
    runs = [Trainer(engine=each, **settings).fit(Dense(3, 2), data) for each in ("numpy", "compiled")]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)


def test_where_and_other_options_of_copyto():
    class Masks(Optimizer):
        memory = ("kept",)

        def update(self, values, gradients, rate, step, kept):
            np.copyto(kept, gradients, where=gradients > 0, casting="same_kind")
            np.copyto(kept, 0.25, where=values > 1.0)
            np.copyto(values, values - rate * kept)

    class Wrong(Optimizer):
        def update(self, values, gradients, rate, step):
            np.add(values, gradients, out=np.empty(8))

    prepare(optimizer=Masks(learning_rate=0.1))
    with pytest.raises(CannotLower, match=r"Wrong\.update"):
        prepare(optimizer=Wrong(learning_rate=0.1))


def test_a_long_axis_is_sorted_by_numpy_which_is_faster():
    def kernel(size):
        return kernel_of(Sequential(Dense(3, size), Layer.of(lambda x: np.sort(x, axis=1)), Dense(size, 2)))

    assert kernel(400)
    with pytest.raises(CannotLower, match="NumPy is faster at sorting 401 elements"):
        kernel(401)
