import itertools

import numpy as np
import pytest

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    Dropout,
    Embedding,
    Flatten,
    HalfSquaredError,
    Layer,
    MaxPool,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
    compare_steps,
)
from framework.data import load_digits
from framework.models import Conv1D
from framework.training import numerical_gradient

X = np.array([[0.5, -1.0], [2.0, 0.1], [-0.3, 0.4]])


@pytest.mark.parametrize(
    ("model", "loss", "y"),
    [
        (Neuron(2, Sigmoid()), BinaryCrossEntropy(), [0, 1, 1]),
        (Sequential(Dense(2, 4, Tanh()), Dense(4, 1)), MeanSquaredError(), [[0.1], [0.5], [-1.0]]),
        (Sequential(Dense(2, 4, ReLU()), Dense(4, 3, Softmax())), CrossEntropy(), [0, 2, 1]),
        (Sequential(Dense(2, 4, Tanh()), Dropout(rate=0.5), Dense(4, 1)), HalfSquaredError(), [0.1, 0.5, -1.0]),
    ],
    ids=["neuron", "network", "classes", "dropout"],
)
def test_right_gradients_pass_and_leave_the_model_as_it_was(model, loss, y):
    before = model.parameters.vector.copy()
    report = check_gradients(model, loss, X, y)
    assert report.passed
    assert [row.parameter for row in report.rows] == [*model.parameters, "x"]
    assert np.array_equal(model.parameters.vector, before)


def test_weights_of_rows_count():
    assert check_gradients(Neuron(2), MeanSquaredError(), X, [1.0, 2.0, 3.0], [1.0, 0.0, 2.0]).passed


def test_a_model_of_ids_has_no_gradient_by_its_input():
    model = Sequential(Embedding(vocabulary=5, units=2), Flatten(shape=(2, 2)), Dense(4, 1))
    report = check_gradients(model, MeanSquaredError(), [[0, 4], [1, 1]], [[1.0], [0.0]])
    assert "x" not in [row.parameter for row in report.rows]


class Scale(Layer):
    """x * scale, with mistakes on request."""

    check = "off"
    units: int
    wrong: str = ""

    def shapes(self):
        return {"scale": (self.units,)}

    def apply(self, x, values, record):
        record["x"] = x
        return x * (1.0 + values["scale"])

    def apply_backward(self, gradient, values, record, gradients):
        by_scale = np.sum(gradient * record["x"], axis=0)
        gradients["scale"][...] = -by_scale if self.wrong == "scale" else by_scale
        return gradient if self.wrong == "x" else gradient * (1.0 + values["scale"])


def test_a_wrong_gradient_is_shown_in_a_table():
    model = Sequential(Scale(units=2, wrong="scale"), Dense(2, 1))
    with pytest.raises(DerivativeError, match=r"0\.scale +\[\d\]") as caught:
        check_gradients(model, MeanSquaredError(), X, np.ones((3, 1)))
    assert "worst element" in str(caught.value)


def test_a_wrong_input_gradient_is_found():
    model = Sequential(Dense(2, 2), Scale(units=2, wrong="x"))
    model.layers[1].parameters["scale"][...] = [0.5, -2.0]
    with pytest.raises(DerivativeError, match="are wrong"):
        check_gradients(model, MeanSquaredError(), X, np.ones((3, 2)))


class Rough(Scale):
    """A gradient that is wrong by one part in ten thousand."""

    def apply_backward(self, gradient, values, record, gradients):
        dx = super().apply_backward(gradient, values, record, gradients)
        gradients["scale"] *= 1.0001
        return dx


def test_a_gradient_wrong_in_the_fifth_digit_is_found():
    with pytest.raises(DerivativeError, match=r"scale +\[\d\]"):
        check_gradients(Sequential(Rough(units=2), Dense(2, 1)), MeanSquaredError(), X, np.ones((3, 1)))


def test_gradients_too_small_for_differences_are_right():
    x, y = load_digits()
    model = Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax()))
    trainer = Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=20)
    trainer.fit(model, (x / 16.0, y))  # the loss of these rows ends near 0, where it is rounding alone
    assert check_gradients(model, CrossEntropy(), x[:5] / 16.0 + 0.001, y[:5]).passed


class Pool(Layer):
    """The largest of two neighbours, by hand; ``ties`` is what each of two equal ones gets of the gradient."""

    check = "off"
    ties: float = 0.5

    def shapes(self):
        return {}

    @property
    def output_shape(self):
        return (2, 6)

    @property
    def input_shape(self):
        return (2, 12)

    def apply(self, x, values, record):
        record["x"] = x.reshape(-1, 2, 6, 2)
        return record["x"].max(axis=-1)

    def apply_backward(self, gradient, values, record, gradients):
        x = record["x"]
        equal = x[..., :1] == x[..., 1:]
        largest = x == x.max(axis=-1, keepdims=True)
        return (gradient[..., None] * np.where(equal, self.ties, largest)).reshape(-1, 2, 12)


def on_black(layer, seed):
    """Return a small LeNet with biases of 0, and images on a background of 0."""
    rng = np.random.default_rng(seed)
    x = np.zeros((3, 1, 14))
    x[:, :, 6:8] = rng.random((3, 1, 2))
    hidden = Conv1D(filters=2, kernel=3, inputs=1), ReLU(), layer.copy(), Flatten()
    layers = (*hidden, Dense(12, 5, ReLU()), Dense(5, 3, Softmax()))
    return Sequential(*layers, seed=seed), CrossEntropy(), x, np.arange(3)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("layer", [MaxPool(window=2), Pool()], ids=["library", "own"])
def test_kinks_that_meet_at_pixels_and_biases_of_0_are_no_mistake(layer, seed):
    assert check_gradients(*on_black(layer, seed)).passed


class Stretched(Pool):
    def apply_backward(self, gradient, values, record, gradients):
        return super().apply_backward(gradient, values, record, gradients) * 1.001


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("layer", [Pool(ties=1.0), Pool(ties=0.25), Stretched()], ids=["twice", "half", "factor"])
def test_a_mistake_is_found_where_kinks_meet(layer, seed):
    with pytest.raises(DerivativeError, match="are wrong"):
        check_gradients(*on_black(layer, seed))


class Checked(Scale):
    check = "on"


@pytest.mark.parametrize(("wrong", "named"), [("scale", r"gradients\['scale'\]"), ("x", "dL/dx")])
def test_an_own_layer_is_checked_when_it_is_first_put_to_work(wrong, named):
    with pytest.raises(DerivativeError, match=rf"Checked.apply_backward: {named}"):
        Sequential(Checked(units=2, wrong=wrong), Dense(2, 1)).forward(X)
    assert Checked(units=2)([1.0, 2.0]).tolist() == [1.0, 2.0]


class Replaces(Checked):
    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"] = np.sum(gradient * record["x"], axis=0)
        return gradient * (1.0 + values["scale"])


def test_a_layer_that_replaces_a_gradient_instead_of_filling_it_is_told_so():
    with pytest.raises(Exception, match=r"\['scale'\]\[\.\.\.\] = value"):
        Replaces(units=2).forward(X)


def test_float32_is_refused():
    with pytest.raises(DataError, match="must be of dtype float64; got float32"):
        check_gradients(Neuron(2, dtype="float32"), MeanSquaredError(), X, [1.0, 2.0, 3.0])


def test_numerical_gradient_of_a_known_function():
    gradient = numerical_gradient(lambda x: float(np.sum(np.sin(x))), [[0.0, 1.0], [2.0, -3.0]])
    np.testing.assert_allclose(gradient, np.cos([[0.0, 1.0], [2.0, -3.0]]), rtol=1e-9)


class Notebook:
    """The notebook's step in plain NumPy, with a mistake from some step on."""

    def __init__(self, wrong_from=10**9, factor=1.0 + 2.0**-50):
        self.w, self.count, self.wrong_from, self.factor = np.array([0.1, 0.2]), itertools.count(1), wrong_from, factor

    def __call__(self, x, y):
        output = 1 / (1 + np.exp(-(x @ self.w)))
        delta = (y - output) * (output * (1 - output))
        change = 0.5 * (delta[:, None] * x)[0]
        self.w = self.w + (change if next(self.count) < self.wrong_from else change * self.factor)
        return {"weights": self.w}


def neuron():
    return Neuron.from_weights([0.1, 0.2], activation=Sigmoid(), train_bias=False)


TRAINER = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), batch_size=1, epochs=5)
DATA = (np.abs(X), [1.0, 0.0, 1.0])


def test_a_port_of_the_notebook_is_equal_to_the_last_bit():
    comparison = compare_steps(TRAINER, Notebook(), model=neuron(), data=DATA)
    assert (comparison.steps, comparison.first_step, comparison.largest_ulps) == (15, None, 0.0)
    assert str(comparison) == "equal to the last bit over 15 steps"


def test_where_a_port_parts_is_named():
    comparison = compare_steps(TRAINER, Notebook(wrong_from=4, factor=1.5), model=neuron(), data=DATA)
    assert (comparison.first_step, comparison.parameter) == (4, "weights")
    assert comparison.ulps > 1e6
    ours, theirs = comparison.values
    assert ours != theirs
    numbers = f"{ours:.6g} in the loop, {theirs:.6g} in the reference"
    assert str(comparison) == f"they differ from step 4 of 15 on, in 'weights': {numbers}"


def test_a_difference_by_rounding_is_shown_in_all_digits_and_ulps():
    comparison = compare_steps(lambda: {"w": np.ones(2)}, lambda: {"w": np.array([1.0, 1 + 2**-51])}, steps=3)
    numbers = "1.0 in the loop, 1.0000000000000004 in the reference"
    assert str(comparison) == f"they differ from step 1 of 3 on, in 'w': {numbers}, 2 ulps apart"


def test_differences_within_the_tolerance_do_not_count():
    def compare(tolerance):
        return compare_steps(
            lambda: {"w": np.array([1e-9, 1.0])}, lambda: {"w": np.array([2e-9, 1.0])}, steps=3, tolerance=tolerance
        )

    assert (compare(2e-9).first_step, compare(2e-9).largest_ulps) == (None, 0.0)
    assert str(compare(2e-9)) == "equal up to 2e-09 over 3 steps"
    assert (compare(0.5e-9).first_step, compare(0.5e-9).values) == (1, (1e-9, 2e-9))


def test_a_hand_written_loop_is_compared_too():
    model, loss, reference = neuron(), HalfSquaredError(), Notebook()
    optimizer = SGDOptimizer(model, learning_rate=0.5)

    def step():
        model.forward(X[:1])
        loss.backward(model, [1.0])
        optimizer.step()
        return model.parameters

    comparison = compare_steps(step, lambda: reference(X[:1], np.array([1.0])), steps=7)
    assert (comparison.steps, comparison.first_step) == (7, None)


def test_at_most_so_many_steps_are_compared():
    assert compare_steps(TRAINER, Notebook(), model=neuron(), data=DATA, steps=4).steps == 4


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (lambda *_: {"wieghts": np.zeros(2)}, "no parameter 'wieghts'"),
        (lambda *_: {"weights": np.zeros(3)}, r"must have the shape \(2,\)"),
        (lambda *_: {"weights": ...}, "'weights' must be numbers; the reference gives Ellipsis"),
        (lambda *_: None, "by name, as a dict; got nothing; write return"),
        (lambda *_: np.zeros(2), r"by name, as a dict; got array\(\[0., 0.\]\)"),
    ],
    ids=["name", "shape", "gap", "nothing", "array"],
)
def test_a_reference_that_does_not_fit_is_refused(reference, message):
    with pytest.raises(DataError, match=message):
        compare_steps(TRAINER, reference, model=neuron(), data=DATA)


def test_a_trainer_needs_model_and_data():
    with pytest.raises(DataError, match="needs model"):
        compare_steps(TRAINER, Notebook())


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_not_finite_is_not_equal(wrong):
    comparison = compare_steps(lambda: {"w": np.ones(2)}, lambda: {"w": np.array([1.0, wrong])}, steps=2)
    assert (comparison.first_step, comparison.ulps) == (1, np.inf)


def test_a_reference_without_parameters_is_refused():
    with pytest.raises(DataError, match="must return its parameters"):
        compare_steps(lambda: {"w": np.ones(2)}, dict, steps=2)
