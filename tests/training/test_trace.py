import json

import numpy as np
import pytest

from framework import (
    BinaryCrossEntropy,
    Dense,
    HalfSquaredError,
    Neuron,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Tanh,
    Trainer,
    trace_step,
)
from framework.training import TraceSteps, error_term, increment


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


def notebook(x, w, b, y, eta):
    """The notebook's step, line by line."""
    h = np.dot(w, x) + b
    output = sigmoid(h)
    slope = sigmoid(h) * (1 - sigmoid(h))
    term = (y - output) * slope
    added = eta * term * x
    new_output = sigmoid(np.dot(w + added, x) + b)
    return {
        "h": h,
        "output": output,
        "slope": slope,
        "error": y - output,
        "error_term": term,
        "increment": added,
        "new_weights": w + added,
        "new_output": new_output,
        "new_error": y - new_output,
    }


@pytest.fixture
def neuron():
    return Neuron.from_weights([0.1, 0.2], activation=Sigmoid(), train_bias=False)


@pytest.mark.parametrize("y", [1.0, 5.0])
def test_every_quantity_has_the_notebooks_bits(neuron, y):
    step = trace_step(neuron, [1.0, 1.0], y)
    for name, value in notebook(np.array([1.0, 1.0]), np.array([0.1, 0.2]), 0.0, y, 1.0).items():
        assert np.array_equal(getattr(step, name), value), name


@pytest.mark.parametrize("y", [1.0, 5.0])
def test_error_term_and_increment_have_the_notebooks_bits(neuron, y):
    expected = notebook(np.array([1.0, 1.0]), np.array([0.1, 0.2]), 0.0, y, 1.0)
    assert error_term(neuron, [1.0, 1.0], y) == expected["error_term"]
    assert np.array_equal(increment(neuron, [1.0, 1.0], y, 1.0), expected["increment"])
    assert increment(neuron, [1.0, 1.0], y, 1.0)[1] == expected["increment"][1]


def test_tracing_leaves_the_neuron_as_it_was(neuron):
    trace_step(neuron, [1.0, 1.0], 1.0)
    assert neuron.weights.tolist() == [0.1, 0.2]
    assert not neuron.parameters.bound


def test_a_trainable_bias_moves():
    step = trace_step(Neuron.from_weights([0.1, 0.2], activation=Tanh()), [1.0, 1.0], 1.0)
    assert step.new_bias == step.learning_rate * step.error_term


def test_forms_hold_the_same_numbers(neuron):
    step = trace_step(neuron, [1.0, 1.0], 1.0)
    quantities = step.to_dict()
    assert json.loads(step.to_json()) == quantities
    for name, value in quantities.items():
        assert str(value) in step.to_text(), name
        assert f"| {value} |" in step.to_markdown(), name
        assert f">{value}</td>" in step._repr_html_(), name
    assert str(step) == step.to_text()
    assert type(step).from_dict(quantities).to_dict() == quantities


def test_cross_entropy_after_a_sigmoid_has_the_plain_error_as_error_term(neuron):
    step = trace_step(neuron, [1.0, 1.0], 1.0, loss=BinaryCrossEntropy())
    assert step.error_term == step.error


@pytest.mark.parametrize("loss", [BinaryCrossEntropy(positive_weight=3.0), BinaryCrossEntropy(label_smoothing=0.2)])
def test_the_error_term_of_a_weighted_or_smoothed_loss_is_minus_its_slope_by_h(neuron, loss):
    h, width = neuron.weights.sum() + neuron.bias, 1e-5
    up, down = (loss.value(neuron.activation(h + step), 1.0) for step in (width, -width))
    np.testing.assert_allclose(error_term(neuron, [1.0, 1.0], 1.0, loss), (down - up) / (2 * width), rtol=1e-8)


def test_the_quantities_are_those_of_the_formula_of_the_class():
    class Doubled(Neuron):
        def formula(self, x, weights, bias):
            return self.activation(2.0 * (x @ weights) + bias)

    step = trace_step(Doubled.from_weights([0.1, 0.2], activation=Tanh()), [1.0, 1.0], 1.0)
    assert step.h == 2.0 * (np.array([1.0, 1.0]) @ np.array([0.1, 0.2]))
    assert step.output == np.tanh(step.h)
    np.testing.assert_allclose(step.error_term, (1.0 - step.output) * (1.0 - step.output**2), rtol=1e-15)
    np.testing.assert_allclose(step.increment, 2.0 * step.error_term * np.ones(2), rtol=1e-15)


def test_a_batch_adds_the_mean_over_its_rows(neuron):
    x, y = np.array([[1.0, 1.0], [2.0, 0.5]]), np.array([1.0, 0.0])
    step = trace_step(neuron, x, y, learning_rate=0.5)
    mean = np.mean(0.5 * error_term(neuron, x, y)[:, None] * x, axis=0)
    np.testing.assert_allclose(step.increment, mean, rtol=1e-14)


def test_inputs_and_targets_that_do_not_fit_are_refused(neuron):
    with pytest.raises(ShapeError, match="x must be one sample"):
        trace_step(neuron, [1.0, 1.0, 1.0], 1.0)
    with pytest.raises(ShapeError, match="target must have the shape"):
        trace_step(neuron, [1.0, 1.0], [1.0, 2.0])


def trainer(callback, **settings):
    return Trainer(
        loss=HalfSquaredError(),
        optimizer=SGDOptimizer(learning_rate=0.5, **settings),
        batch_size=1,
        shuffle=False,
        callbacks=[callback],
    )


def test_the_callback_records_the_newest_steps_of_training(neuron):
    x, y = np.array([[1.0, 1.0], [2.0, 0.5], [0.0, 1.0]]), np.array([1.0, 0.0, 1.0])
    callback = TraceSteps(limit=2)
    by_hand = neuron.copy()
    run = trainer(callback).fit(neuron, (x, y))
    steps = [trace_step(by_hand, x[:1], y[:1], learning_rate=0.5)]
    for row in (1, 2):
        by_hand.weights = steps[-1].new_weights
        steps.append(trace_step(by_hand, x[row : row + 1], y[row : row + 1], learning_rate=0.5))
    assert [step.to_dict() for step in callback.steps(run)] == [step.to_dict() for step in steps[1:]]
    assert np.array_equal(neuron.weights, steps[-1].new_weights)


def test_with_momentum_the_increment_is_what_the_step_added(neuron):
    callback = TraceSteps()
    run = trainer(callback, momentum=0.9).fit(neuron, ([[1.0, 1.0], [1.0, 2.0]], [1.0, 1.0]))
    last = callback.steps(run)[-1]
    assert np.array_equal(last.increment, last.new_weights - last.weights)


def test_the_steps_of_another_model_are_norms_by_parameter():
    data = np.arange(12.0).reshape(6, 2) / 10, np.arange(6.0)
    model, trace = Sequential(Dense(2, 3, Tanh(), seed=1), Neuron(3, seed=2)), TraceSteps()
    model.parameters.freeze("0.bias")
    hand = model.copy()
    run = trainer(trace, momentum=0.5).replace(batch_size=3).fit(model, data)
    optimizer = SGDOptimizer(hand, learning_rate=0.5, momentum=0.5)
    for start, step in zip((0, 3), trace.steps(run), strict=True):
        before = {name: array.copy() for name, array in hand.parameters.items()}
        hand.forward(data[0][start : start + 3])
        assert step.loss == HalfSquaredError().backward(hand, data[1][start : start + 3])
        gradients = {name: np.linalg.norm(each) for name, each in hand.parameters.gradients.items()}
        optimizer.step()
        assert step.weights == {name: np.linalg.norm(each) for name, each in before.items()}
        assert step.gradients == gradients
        assert step.increments == {name: np.linalg.norm(hand.parameters[name] - each) for name, each in before.items()}
        assert (step.increments["0.bias"], step.learning_rate) == (0.0, 0.5)
    assert trace.steps(run)[1].increments["1.weights"] > 0


def test_a_step_of_a_model_that_is_no_neuron_is_refused():
    with pytest.raises(SettingsError, match="argument 'neuron' must be a Neuron; got Dense"):
        trace_step(Dense(2, 1), [1.0, 1.0], [1.0])
    with pytest.raises(SettingsError, match="argument 'neuron' must be a Neuron; got Dense"):
        error_term(Dense(2, 1), [1.0, 1.0], [1.0])


def test_the_first_steps_are_kept_and_later_ones_are_not_recorded():
    data = np.arange(12.0).reshape(6, 2) / 10, np.arange(6.0)
    every, first = TraceSteps(limit=100), TraceSteps(limit=2, keep="first")
    recipe = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), batch_size=2, epochs=2)
    run = recipe.replace(callbacks=[every, first]).fit(Neuron(2), data)
    both, kept = [[step.to_dict() for step in trace.steps(run)] for trace in (every, first)]
    assert len(both) == 6
    assert kept == both[:2]
