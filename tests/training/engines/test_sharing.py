"""Models whose formulas record equal graphs share what is derived and emitted, whoever wrote the formulas."""

from typing import ClassVar

import numpy as np
import pytest

from framework import (
    Activation,
    CrossEntropy,
    Dense,
    DerivativeError,
    Heads,
    Layer,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Reshape,
    Sequential,
    SGDOptimizer,
    SimpleRNN,
    Softmax,
    Tanh,
    Trainer,
)
from framework.formulas import OutputLosses, OutputMetric
from framework.graph import trace
from framework.graph.node import Node

RNG = np.random.default_rng(0)
X, Y, CLASSES = RNG.normal(size=(12, 4)), RNG.normal(size=(12, 3)), RNG.integers(0, 3, 12)
SHIFT = 0.5


@pytest.fixture(autouse=True)
def own_memory(monkeypatch):
    """Begin without what other tests have shared: new programs push out old ones."""
    monkeypatch.setattr(trace, "_KNOWN", {})


def shifted(x):
    return x + SHIFT


class Own(Layer):
    """A layer that reads a global, by a helper."""

    units: int = 4
    traced: ClassVar[list[str]] = []

    def shapes(self):
        return {"w": (self.units, self.units)}

    def formula(self, x, w):
        self.traced.append("formula")
        return np.tanh(shifted(x) @ w)


class OwnActivation(Activation):
    steep: ClassVar[float] = 2.0

    def __call__(self, h):
        return np.tanh(self.steep * h)


class OwnLoss(Loss):
    def value(self, prediction, target):
        return shifted(prediction - target) ** 2


MODELS = {
    "library": (lambda: Sequential(Dense(4, 4, Tanh()), Dense(4, 3)), MeanSquaredError, Y),
    "library with classes": (lambda: Sequential(Dense(4, 4, Tanh()), Dense(4, 3, Softmax())), CrossEntropy, CLASSES),
    "own layers": (lambda: Sequential(Own(), Own(), Dense(4, 3)), MeanSquaredError, Y),
    "own activation": (lambda: Sequential(Dense(4, 4, OwnActivation()), Dense(4, 3)), MeanSquaredError, Y),
    "own function": (lambda: Sequential(Layer.of(shifted), Dense(4, 3)), MeanSquaredError, Y),
    "loop": (lambda: Sequential(Reshape((4, 1)), SimpleRNN(3, inputs=1), Dense(3, 3)), MeanSquaredError, Y),
    "own loss": (lambda: Dense(4, 3), OwnLoss, Y),
}


def refuse(*_args, **_options):
    raise AssertionError("something was emitted")


@pytest.mark.parametrize("name", MODELS)
def test_a_second_fit_of_an_equal_model_emits_nothing(name, monkeypatch):
    make, loss, y = MODELS[name]

    def fit():
        model = make()
        Trainer(loss=loss(), optimizer=SGDOptimizer(learning_rate=0.1), engine="numpy").fit(model, (X, y), (X, y))
        return model.parameters.vector

    first = fit()
    for module in ("step", "programs"):
        monkeypatch.setattr(f"framework.backends.{module}.emit", refuse)
    np.testing.assert_array_equal(fit(), first)


@pytest.mark.parametrize("name", MODELS)
def test_a_later_fit_finds_the_nodes_of_formulas_that_have_not_changed(name, monkeypatch):
    make, loss, y = MODELS[name]
    trainer = Trainer(loss=loss(), optimizer=SGDOptimizer(learning_rate=0.1), engine="numpy")
    model, validation = make(), (X, y) if loss is CrossEntropy else None  # whose stable form is one of h
    trainer.fit(model, (X, y), validation)
    before = model.parameters.vector.copy()
    monkeypatch.setattr(Node, "__init__", refuse)
    trainer.fit(model, (X, y), validation)
    assert (model.parameters.vector != before).any()


def test_fits_see_a_global_that_changes_and_changes_back(monkeypatch):
    def fit(shift):
        monkeypatch.setitem(globals(), "SHIFT", shift)
        model = Sequential(Own(seed=0), Dense(4, 3, seed=1))
        Trainer(loss=OwnLoss(), optimizer=SGDOptimizer(learning_rate=0.1), engine="numpy").fit(model, (X, Y))
        return model.parameters.vector

    first, second, third = fit(0.5), fit(-0.75), fit(0.5)
    np.testing.assert_array_equal(third, first)
    assert abs(second - first).max() > 1e-3


@pytest.mark.parametrize("name", MODELS)
def test_a_loop_of_an_equal_model_and_loss_emits_nothing(name, monkeypatch):
    make, loss, y = MODELS[name]

    def step():
        model = make()
        model.forward(X)
        loss().backward(model, y)
        return model.parameters.gradient.copy()

    first = step()
    for module in ("step", "programs"):
        monkeypatch.setattr(f"framework.backends.{module}.emit", refuse)
    np.testing.assert_array_equal(step(), first)


@pytest.mark.parametrize("engine", ["numpy", "jax"])
def test_a_later_fit_calls_each_formula_once(engine):
    pytest.importorskip(engine)
    model = Sequential(Own(), Own(), Dense(4, 3))
    trainer = Trainer(loss=OwnLoss(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, engine=engine)
    trainer.fit(model, (X, Y))
    Own.traced.clear()
    trainer.fit(model, (X, Y))
    assert Own.traced == ["formula"] * 2


def test_warm_passes_trace_nothing():
    model = Sequential(Own(), Dense(4, 3))
    run = Trainer(loss=OwnLoss(), optimizer=SGDOptimizer(learning_rate=0.1), engine="numpy").fit(model, (X, Y))

    def use():
        model(X)
        model(X[0])
        model.forward(X)
        OwnLoss().backward(model, Y)
        run.optimizer.step()

    use()
    Own.traced.clear()
    use()
    assert not Own.traced


def test_graphs_that_differ_in_the_names_of_outputs_are_told_apart():
    def heads(*names):
        model = Heads(**{name: Dense(4, 1) for name in names})
        return [*model(X)], [*model.forward(X)]

    assert heads("a", "b") == (["a", "b"], ["a", "b"])
    assert heads("c", "d") == (["c", "d"], ["c", "d"])


@pytest.mark.parametrize(("engine", "package"), [("numpy", "numpy"), ("compiled", "llvmlite"), ("jax", "jax")])
def test_metrics_of_other_outputs_are_told_apart(engine, package):
    pytest.importorskip(package)
    rows = {"a": Y, "b": 2.0 * Y}
    loss = OutputLosses(a=MeanSquaredError(), b=MeanSquaredError())
    for name in rows:
        metric = OutputMetric(name, MeanAbsoluteError())
        model = Heads(a=Dense(4, 3), b=Dense(4, 3))
        expected = metric(model(X), rows)
        optimizer = SGDOptimizer(learning_rate=1e-9)
        trainer = Trainer(loss=loss, optimizer=optimizer, metrics=[metric], epochs=1, engine=engine)
        run = trainer.fit(model, (X, rows))
        assert run.engine == engine
        assert run.history[metric.key][0] == pytest.approx(expected, rel=1e-5)


class Doubled(Activation):
    """The formula of Tanh with another derivative."""

    check = "off"

    def __call__(self, h):
        return np.tanh(h)

    def derivative(self, h):
        return 2.0 * (1.0 - np.tanh(h) ** 2)


def test_activations_of_one_formula_and_of_two_derivatives_are_told_apart():
    gradients = []
    for activation in (Tanh(), Doubled(), Tanh()):
        model = Dense(4, 3, activation, seed=1)
        model.forward(X)
        MeanSquaredError().backward(model, Y)
        gradients.append(model.parameters.gradient.copy())
    np.testing.assert_allclose(gradients[1], 2.0 * gradients[0], rtol=1e-12)
    np.testing.assert_array_equal(gradients[2], gradients[0])


def test_a_branch_on_the_rows_is_noticed_where_settings_hide_it():
    class Branching(Layer):
        least: int

        def formula(self, x):
            return x * 2.0 if len(x) > self.least else x

    Branching(least=0).forward(X)
    for _ in range(2):
        with pytest.raises(DerivativeError, match="must not branch on the number of rows"):
            Branching(least=50).forward(X)
