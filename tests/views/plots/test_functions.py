import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from framework import (
    GELU,
    Activation,
    BinaryCrossEntropy,
    DataError,
    DerivativeError,
    HalfSquaredError,
    Neuron,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
    on,
)
from framework.formulas import Swish
from framework.training import TraceSteps
from framework.views import plots

X = np.array([[0.5, 1.0], [1.5, -1.0], [-1.0, 2.0], [0.0, -0.5]])
Y = np.array([1.0, 0.0, 1.0, 1.0])


def test_an_activation_is_drawn_with_its_derivative(axis):
    GELU().plot(span=(-3, 3), axis=axis)
    zero_h, zero_a, value, slope = axis.lines
    h = np.linspace(-3, 3, 1001)
    assert np.array_equal(value.get_xdata(), h)
    np.testing.assert_allclose(value.get_ydata(), h * norm.cdf(h), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(slope.get_ydata(), norm.cdf(h) + h * norm.pdf(h), rtol=1e-12, atol=1e-15)
    assert slope.get_label() == "f', derived"
    assert value.get_linestyle() != slope.get_linestyle()
    assert (zero_h.get_ydata(), zero_a.get_xdata()) == ([0, 0], [0, 0])


class Cubic(Activation):
    """Writes a derivative that is wrong on purpose."""

    check = "off"

    def __call__(self, h):
        return h**3

    def derivative(self, h):
        return 3 * h**2 + 0.5


def test_a_written_derivative_is_drawn_against_the_derived_one(axis):
    Cubic().plot(span=(-1, 1), axis=axis)
    written, derived = axis.lines[-2:]
    h = np.linspace(-1, 1, 1001)
    np.testing.assert_allclose(written.get_ydata(), 3 * h**2 + 0.5)
    np.testing.assert_allclose(derived.get_ydata(), 3 * h**2, atol=1e-15)
    assert (written.get_label(), derived.get_label()) == ("f', written", "f', derived: differs by at most 0.5")


def test_a_formula_that_overflows_is_drawn_as_far_as_it_goes(axis):
    Activation.of(np.exp).plot(span=(0, 1000), axis=axis)
    values = axis.lines[2].get_ydata()
    assert np.isfinite(values[:700]).all()
    assert np.isinf(values[-1])


@pytest.mark.parametrize(
    "formula",
    [
        lambda h: np.interp(h, [-1.0, 1.0], [-1.0, 1.0], left=-1.0),
        lambda h: np.sum(np.expand_dims(np.clip(h, -1.0, 1.0), -1), axis=-1),
    ],
    ids=["not traced", "traced over a row"],
)
def test_a_written_derivative_of_a_formula_that_cannot_be_derived_is_drawn_alone(axis, formula):
    class Table(Activation):
        def __call__(self, h):
            return formula(h)

        def derivative(self, h):
            return np.where(np.abs(h) < 1, 1.0, 0.0)

    Table().plot(axis=axis)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["f = Table()", "f', written"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Softmax().plot(), SettingsError, r"Softmax\(\) couples the units of a row"),
        (
            lambda: plots.activation(np.tanh),
            SettingsError,
            "argument 'formula' must be an activation, such as Tanh\\(\\); got <ufunc",
        ),
        (lambda: plots.activation(Softmax), SettingsError, "must be an activation, such as .* got <class"),
        (
            lambda: Swish().plot(span=(1, 1)),
            SettingsError,
            r"argument 'span' must be two .*got \(1, 1\)",
        ),
        (lambda: Swish().plot(span=3), SettingsError, "argument 'span' must be two increasing numbers.*got 3"),
        (lambda: Swish().plot(span=(0, np.nan)), SettingsError, "argument 'span' must be two increasing numbers"),
        (lambda: Activation.of(lambda h: np.interp(h, [0], [0], left=0.0)).plot(), DerivativeError, "np.interp"),
    ],
)
def test_what_is_no_curve_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def trained(optimizer, **settings):
    neuron, trace = Neuron.from_weights([-1.0, 2.0], activation=Sigmoid(), train_bias=False), TraceSteps()
    trainer = Trainer(
        loss=BinaryCrossEntropy(), optimizer=optimizer, epochs=20, batch_size=2, callbacks=[trace], **settings
    )
    return neuron, trainer.fit(neuron, (X, Y)), trace


def entropy(weights, x=X, y=Y, row_weights=None):
    p = expit(x @ weights)
    return np.average(-(y * np.log(p) + (1 - y) * np.log1p(-p)), weights=row_weights)


@pytest.fixture
def surfaces(monkeypatch):
    """Keep what is handed to the contours."""
    kept = []
    monkeypatch.setattr("framework.views.plots.style.contours", lambda *arguments: kept.append(arguments))
    return kept


def test_the_surface_is_the_exact_loss_and_the_path_is_the_one_that_was_made(axis, surfaces):
    neuron, run, trace = trained(SGDOptimizer(learning_rate=0.5, momentum=0.5))
    before = neuron.parameters.vector.copy()
    plots.loss_surface(neuron, BinaryCrossEntropy(), (X, Y), trace.steps(run), axis=axis)
    _, horizontal, vertical, surface, levels, label = surfaces[0]
    for row, column in [(0, 0), (17, 40), (60, 60)]:
        assert surface[row, column] == pytest.approx(entropy([horizontal[column], vertical[row]]), rel=1e-12)
    path, start, end = axis.lines
    steps = trace.steps(run)
    assert path.get_xydata().tolist() == [*(step.weights.tolist() for step in steps), steps[-1].new_weights.tolist()]
    assert len(path.get_xydata()) == 41
    assert start.get_label() == f"start: {entropy([-1.0, 2.0]):.4g}"
    assert end.get_label() == f"end: {entropy(neuron.weights):.4g}"
    assert (axis.get_xlabel(), axis.get_ylabel(), label) == ("weights[0]", "weights[1]", "loss, BinaryCrossEntropy")
    assert levels[0] == surface.min()
    assert levels[-1] == pytest.approx(surface.max())
    assert np.array_equal(neuron.parameters.vector, before)


def test_copies_of_the_vector_are_a_path_too_and_other_parameters_stay(axis, surfaces):
    points = []
    neuron = Neuron.from_weights([1.0, -2.0], bias=0.5)

    @on("batch_end")
    def record(run):
        points.append(run.model.parameters.vector.copy())

    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=5, callbacks=[record])
    trainer.fit(neuron, (X, Y))
    data = (X, Y, [1.0, 2.0, 0.0, 1.0])
    plots.loss_surface(neuron, HalfSquaredError(), data, points, places=(0, 2), resolution=7, axis=axis)
    _, horizontal, vertical, surface, *_ = surfaces[0]
    prediction = X @ [horizontal[3], neuron.weights[1]] + vertical[5]
    assert surface[5, 3] == pytest.approx(np.average((prediction - Y) ** 2 / 2, weights=[1.0, 2.0, 0.0, 1.0]))
    assert axis.lines[0].get_xydata().tolist() == [[point[0], point[2]] for point in points]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("weights[0]", "bias")


def test_without_a_path_the_model_itself_is_marked(axis):
    neuron = Neuron.from_weights([1.0, -2.0], activation=Sigmoid(), train_bias=False)
    plots.loss_surface(neuron, BinaryCrossEntropy(), (X, Y), span=((-3, 3), (-4, 0)), resolution=9, axis=axis)
    assert [line.get_xydata().tolist() for line in axis.lines] == [[[1.0, -2.0]]]
    assert (axis.get_xlim(), axis.get_ylim()) == ((-3, 3), (-4, 0))


NEURON = Neuron.from_weights([1.0, -2.0])
FREE = Neuron.from_weights([1.0, -2.0], train_bias=False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"model": NEURON},
            SettingsError,
            r"'places' must be the places of two .* 3 of them are trained. The",
        ),
        ({"places": (0, 3)}, SettingsError, r"argument 'places' must be .*; got \(0, 3\).* 2: bias"),
        ({"places": (1, 1)}, SettingsError, "argument 'places' must be"),
        ({"data": X}, SettingsError, r"argument 'data' must be \(x, y\) or"),
        ({"data": (X[:, :1], Y)}, ShapeError, "argument 'data': x must have the shape"),
        ({"data": (X, Y[:2])}, ShapeError, "argument 'data': y must have the shape of the output"),
        ({"data": (X * np.nan, Y)}, DataError, "argument 'data': x"),
        ({"loss": "mse"}, SettingsError, "argument 'loss' must be a loss; got 'mse'"),
        ({"path": []}, DataError, "argument 'path' must hold a point or more; it is empty"),
        ({"path": [[1.0, 2.0, 3.0, 4.0]]}, ShapeError, r"\(points, 2\) or \(points, 3\); got \(1, 4\)"),
        ({"path": [[1.0, np.inf]]}, DataError, "argument 'path'"),
        ({"resolution": 1.5}, SettingsError, "argument 'resolution' must be a whole number from 2; got 1.5"),
        ({"span": (0, 1)}, SettingsError, "argument 'span' must be a range for each axis"),
        ({"span": ((0, 1), (3, 2))}, SettingsError, r"argument 'span\[1\]' must be two increasing numbers"),
    ],
)
def test_a_surface_that_cannot_be_drawn_is_refused(arguments, error, message):
    given = {"model": FREE, "loss": HalfSquaredError(), "data": (X, Y)} | arguments
    with pytest.raises(error, match=message):
        plots.loss_surface(**given)
