"""Records give the formula's own numbers, also for signs under powers, and never outlive the formula."""

import numpy as np
import pytest

from framework import Activation, HalfSquaredError, Neuron, SGDOptimizer, Trainer
from framework.formulas import trace

H = np.array([-2.5, -1.0, -0.3, 0.0, 0.4, 1.7, 2.0])


@pytest.mark.parametrize(
    "formula",
    [
        lambda h: h * (-1.0) ** np.floor(h),
        lambda h: np.power(-2, np.floor(h)) - h,
        lambda h: -(h**2) + (-h) ** 2,
    ],
    ids=["float", "integer", "symbol"],
)
def test_a_negative_base_keeps_its_sign(formula):
    np.testing.assert_array_equal(trace(formula).value(H), formula(H))


class Alternating(Activation):
    """A sawtooth, whose derivative is derived."""

    def __call__(self, h):
        return h * (-1.0) ** np.floor(h)


def test_an_activation_with_a_negative_base_is_no_mistake():
    np.testing.assert_array_equal(Alternating().derivative(np.array([-0.5, 0.5, 1.5])), [-1.0, 1.0, -1.0])


SLOPE = 1.0


class Steep(Activation):
    """A formula that reads a global variable."""

    def __call__(self, h):
        return np.tanh(SLOPE * h)


def test_training_derives_anew_what_a_changed_global_makes_another_formula(monkeypatch):
    def weights(activation):
        model = Neuron.from_weights([0.5], activation=activation)
        trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3)
        return trainer.fit(model, ([[1.0], [2.0]], [0.1, 0.9])).model.parameters.vector

    activation = Steep()
    before = weights(activation)
    monkeypatch.setitem(globals(), "SLOPE", 3.0)
    after = weights(activation)
    assert (after != before).all()
    np.testing.assert_array_equal(after, weights(Steep()))
