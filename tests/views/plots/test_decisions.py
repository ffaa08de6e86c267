import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn import metrics
from sklearn.calibration import calibration_curve

from framework import (
    ConfusionMatrix,
    CrossEntropy,
    DataError,
    Dense,
    Heads,
    Identity,
    Neuron,
    Preprocess,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
    Trainer,
)
from framework.base import DtypeError
from framework.preprocessing import Classes, MinMax
from framework.views import plots
from framework.views.plots.style import COLORS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)) * [3.0, 0.1]
Y = (X[:, 0] > 20 * X[:, 1]).astype(int)
BINARY = Sequential(Dense(2, 4, Tanh(), seed=1), Dense(4, 1, Sigmoid(), seed=2))
LINEAR = Neuron(2)
SEVERAL = Sequential(Dense(2, 4, Tanh(), seed=3), Dense(4, 3, Softmax(), seed=4))


def points_of(axis, size):
    """The centres of an image's pixels, (size * size, 2)."""
    assert axis.images[0].origin == "lower"  # the first row is the lowest
    left, right, low, high = axis.images[0].get_extent()
    half = (right - left) / size / 2, (high - low) / size / 2
    horizontal = np.linspace(left + half[0], right - half[0], size)
    vertical = np.linspace(low + half[1], high - half[1], size)
    return np.stack([each.reshape(-1) for each in np.meshgrid(horizontal, vertical)], axis=1)


@pytest.mark.parametrize(("model", "count"), [(BINARY, 2), (SEVERAL, 3)], ids=["two classes", "three"])
def test_each_pixel_has_the_colour_of_its_predicted_class_stronger_where_it_is_surer(axis, model, count):
    plots.decision_boundary(model, (X, Y), resolution=25, axis=axis)
    image = np.asarray(axis.images[0].get_array()).reshape(-1, 4)
    points = points_of(axis, 25)
    classes = model.classify(points)
    assert np.array_equal(image[:, :3], np.array([to_rgb(color) for color in COLORS])[classes])
    chance = model.predict(points)
    sure = np.maximum(chance, 1 - chance)[:, 0] if count == 2 else chance.max(axis=1)
    np.testing.assert_allclose(image[:, 3], 0.1 + 0.5 * (count * sure - 1) / (count - 1), atol=1e-9)


def test_the_boundary_is_where_two_classes_are_equally_likely(axis):
    neuron = Neuron.from_weights([1.0, -10.0], bias=0.5, activation=Sigmoid())
    plots.decision_boundary(neuron, (X, Y), axis=axis)
    boundary, low, high = (collection.get_paths()[0].vertices for collection in axis.collections)
    np.testing.assert_allclose(neuron.predict(boundary), 0.5, atol=1e-3)
    np.testing.assert_allclose(neuron.predict(low), 0.1, atol=2e-3)
    np.testing.assert_allclose(neuron.predict(high), 0.9, atol=2e-3)


def test_the_rows_are_drawn_with_a_marker_for_each_class(axis):
    plots.decision_boundary(BINARY, (X, Y), classes=["no", "yes"], resolution=9, axis=axis)
    for place, drawn in enumerate(axis.lines):
        assert np.array_equal(drawn.get_xydata(), X[place == Y])
    assert axis.lines[0].get_marker() != axis.lines[1].get_marker()
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["no", "yes"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("x[:, 0]", "x[:, 1]")


@pytest.mark.parametrize(
    "targets", [np.where(Y, 1, -1), np.eye(2)[Y], Y.astype(bool)], ids=["signs", "one-hot", "bool"]
)
def test_targets_may_come_in_the_forms_that_fit_takes(axis, targets):
    plots.decision_boundary(BINARY, (X, targets), resolution=9, axis=axis)
    assert np.array_equal(axis.lines[1].get_xydata(), X[Y == 1])


@pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_a_model_with_a_preprocess_is_drawn_over_the_columns_of_its_table(axis, table):
    columns = {"age": (40 + X[:, 0]).round().astype(int), "size": X[:, 1]}
    text = np.array(["small", "large"])[Y]
    recipe = Preprocess({"age": [Standardize()], "size": [MinMax()]}, target=[Classes()])
    model = Dense(units=2, activation=Softmax())
    trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=3, preprocess=recipe)
    trainer.fit(model, (table(columns), text))
    plots.decision_boundary(model, (table({**columns, "kind": text.tolist()}), "kind"), resolution=15, axis=axis)
    points = points_of(axis, 15)
    image = np.asarray(axis.images[0].get_array()).reshape(-1, 4)
    named = model.classify(pd.DataFrame({"age": points[:, 0], "size": points[:, 1]}))
    order = [text.get_text() for text in axis.get_legend().get_texts()]
    palette = np.array([to_rgb(color) for color in COLORS])
    assert np.array_equal(image[:, :3], palette[[order.index(name) for name in named]])
    assert sorted(order) == ["large", "small"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("age", "size")
    drawn = axis.lines[order.index("small")].get_xydata()
    assert np.array_equal(drawn, np.stack([*columns.values()], axis=1)[text == "small"])


def test_a_class_that_fit_did_not_have_is_refused():
    table = pd.DataFrame({"age": [1.0, 2.0, 3.0], "size": [0.0, 1.0, 0.5]})
    recipe = Preprocess({"age": [Standardize()], "size": [MinMax()]}, target=[Classes()])
    model = Dense(units=2, activation=Softmax())
    Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.5), preprocess=recipe).fit(
        model, (table, np.array(["a", "b", "a"]))
    )
    with pytest.raises(DataError, match=r"'c', which is not among the levels of fit, \['a', 'b'\], in row 2"):
        plots.decision_boundary(model, (table, np.array(["a", "b", "c"])))
    with pytest.raises(SettingsError, match=r"must be \(table, y\), as the model has a preprocess"):
        plots.decision_boundary(model, (X, Y))


def test_a_table_of_two_columns_names_the_axes(axis):
    plots.decision_boundary(BINARY, (pd.DataFrame(X, columns=["width", "height"]), Y), resolution=9, axis=axis)
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("width", "height")


def test_a_model_of_any_number_is_drawn_as_contours_of_its_prediction(axis):
    neuron = Neuron.from_weights([2.0, 30.0])
    plots.decision_boundary(neuron, (X, neuron.predict(X)), axis=axis)
    filled = axis.collections[0]
    for level, path in zip(filled.levels[1:], axis.collections[1].get_paths()[1:], strict=True):
        if len(path.vertices):
            np.testing.assert_allclose(neuron.predict(path.vertices), level, atol=1e-9)
    assert np.array_equal(axis.collections[2].get_array(), neuron.predict(X))


def test_a_range_alone_draws_the_plane_without_rows(axis):
    plots.decision_boundary(BINARY, span=((-1, 1), (0, 2)), resolution=9, axis=axis)
    assert (axis.get_xlim(), axis.get_ylim()) == ((-1, 1), (0, 2))
    assert [len(drawn.get_xdata()) for drawn in axis.lines] == [0, 0]


TABLE = pd.DataFrame({"age": [1.0, 2.0], "city": ["Bern", "Genf"]})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": Dense(3, 2, Softmax())}, ShapeError, r"argument 'model' must take two inputs; it takes \(3,\)"),
        (
            {"model": Heads(a=Dense(2, 1), b=Dense(2, 1))},
            ShapeError,
            "argument 'model' must have one output; it has a, b",
        ),
        ({"data": None}, SettingsError, r"give data=\(x, y\), or span="),
        ({"data": X}, SettingsError, r"argument 'data' must be \(x, y\)"),
        ({"data": (X[:, :1], Y)}, ShapeError, r"x must have the shape \(rows, 2\); got \(60, 1\)"),
        ({"data": (X, Y + 1)}, DataError, "y must hold classes from 0 to 1; got 2 in row"),
        (
            {"model": Dense(2, 2), "data": (X, np.full((60, 2), 3.5))},
            DataError,
            r"y must have one class per row; got \[3.5 3.5\] at row 0",
        ),
        ({"data": (TABLE, [0, 1])}, DtypeError, "column 'city'"),
        ({"data": (TABLE[["age"]], [0, 1])}, ShapeError, "x must have two columns; got age"),
        ({"classes": ["one"]}, SettingsError, r"argument 'classes' must have 2 names, one a class; got \['one'\]"),
        ({"data": (X, Y[:2])}, ShapeError, "y must have 60 rows, as x; got 2"),
        ({"data": (np.zeros((0, 2)), [])}, DataError, "x has no row without missing values"),
        ({"model": 3}, SettingsError, "argument 'model' must be a model; got 3"),
        ({"model": LINEAR, "data": (X, [np.nan] * 60)}, DataError, "y must be finite; got nan"),
        ({"model": LINEAR, "classes": ["a", "b"]}, SettingsError, "'classes' is for a model of classes"),
        (
            {"model": LINEAR, "data": None, "span": ((0, 1e308), (0, 1e308))},
            DataError,
            "argument 'model' must predict finite numbers in the range; choose another 'span'",
        ),
        ({"data": (X, Y + 0.5)}, DataError, "y must hold classes from 0 to 1; got "),
        ({"resolution": 1}, SettingsError, "argument 'resolution' must be a whole number from 2; got 1"),
        ({"span": 5}, SettingsError, "argument 'span' must be a range for each axis"),
    ],
)
def test_what_is_no_plane_of_decisions_is_refused(arguments, error, message):
    given = {"model": BINARY, "data": (X, Y), "resolution": 9} | arguments
    with pytest.raises(error, match=message):
        plots.decision_boundary(**given)


def test_a_confusion_matrix_shows_the_counts_of_scikit_learn_and_their_shares(axis):
    true, scores = RNG.integers(0, 3, 90), RNG.random((90, 3))
    scores[true != 2, 2] = 0.0  # nothing else is called class 2
    counts = metrics.confusion_matrix(true, scores.argmax(axis=1))
    plots.confusion_matrix(ConfusionMatrix(num_classes=3)(scores, true), ["a", "b", "c"], axis=axis)
    assert [text.get_text() for text in axis.texts] == [str(count) for count in counts.reshape(-1)]
    shown = axis.images[0].get_array()
    shares = metrics.confusion_matrix(true, scores.argmax(axis=1), normalize="true")
    np.testing.assert_allclose(np.where(shown.mask, 0.0, shown.data), shares)
    assert np.array_equal(shown.mask, counts == 0)
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted class", "true class")


def test_rows_with_missing_values_do_not_move_the_range(axis):
    table = pd.DataFrame({"age": [1.0, np.nan, 3.0], "size": [0.0, 50.0, 1.0]})
    plots.decision_boundary(BINARY, (table, [0, 1, 1]), resolution=9, axis=axis)
    assert axis.get_ylim() == pytest.approx((-0.08, 1.08))
    assert axis.lines[1].get_xydata()[1].tolist() == [3.0, 1.0]


def test_numbers_that_would_be_too_small_to_read_are_left_out():
    axis = plots.confusion_matrix(np.eye(12), axis=Figure(figsize=(0.8, 0.8)).subplots())
    assert not axis.texts


def test_a_class_without_rows_has_no_colour(axis):
    plots.confusion_matrix([[3, 0], [0, 0]], axis=axis)
    assert axis.images[0].get_array().mask.tolist() == [[False, True], [True, True]]


def test_the_numbers_of_a_confusion_matrix_read_on_their_cells(axis):
    plots.confusion_matrix([[90, 10], [45, 55]], axis=axis)
    image = axis.images[0]
    for text, share in zip(axis.texts, [0.9, 0.1, 0.45, 0.55], strict=True):
        parts = np.array(image.cmap(share)[:3])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]
        ink = 1.0 if text.get_color() == "white" else 0.0
        assert (max(ink, linear) + 0.05) / (min(ink, linear) + 0.05) > 4.5


@pytest.mark.parametrize(
    ("matrix", "classes", "error", "message"),
    [
        ([[1, 2, 3]], None, ShapeError, r"argument 'matrix' must have the shape \(classes, classes\); got \(1, 3\)"),
        ([[1, -2], [0, 1]], None, DataError, "argument 'matrix' must count rows; got -2"),
        ([[1, np.nan], [0, 1]], None, DataError, "argument 'matrix'"),
        ([[1, 2], [0, 1]], ["a"], SettingsError, "argument 'classes' must have 2 names"),
        ([[1, 2], [0, 1]], "ab", SettingsError, "argument 'classes' must have 2 names"),
    ],
)
def test_what_is_no_confusion_matrix_is_refused(matrix, classes, error, message):
    with pytest.raises(error, match=message):
        plots.confusion_matrix(matrix, classes)


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_calibration_is_that_of_scikit_learn(axis, bins):
    chances = RNG.random(200) ** 2
    target = (RNG.random(200) < chances**0.7).astype(int)
    was, said = calibration_curve(target, chances, n_bins=bins)
    plots.calibration(chances, target, bins=bins, axis=axis)
    diagonal, curve = axis.lines
    np.testing.assert_allclose(curve.get_xydata(), np.stack([said, was], axis=1))
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    rows = np.histogram(chances, bins, (0, 1))[0]
    assert [bar.get_height() for bar in axis.figure.axes[1].patches] == rows.tolist()
    error = np.sum(rows[rows > 0] * np.abs(said - was)) / 200
    assert curve.get_label() == f"model, calibration error {error:.3f}"


def test_of_several_classes_the_likeliest_counts(axis):
    chances = RNG.dirichlet(np.ones(4), 300)
    target = RNG.integers(0, 4, 300)
    was, said = calibration_curve(target == chances.argmax(axis=1), chances.max(axis=1), n_bins=10)
    plots.calibration(chances, target, axis=axis)
    np.testing.assert_allclose(axis.lines[1].get_xydata(), np.stack([said, was], axis=1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0.1, 1.2], [0, 1]), DataError, "argument 'prediction' must hold probabilities; got 1.2: end the model in"),
        (([0.1, 0.2], [0]), ShapeError, "argument 'target' must have 2 rows, as the prediction; got 1"),
        (([0.1, 0.2], [0, 2]), DataError, "argument 'target' must hold classes from 0 to 1; got 2 in row 1"),
        (([], []), ShapeError, "argument 'prediction' must have the shape"),
    ],
)
def test_what_is_no_prediction_of_classes_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        plots.calibration(*arguments)


@pytest.mark.parametrize("bins", [0, 2.5, True])
def test_bins_are_counted(bins):
    with pytest.raises(SettingsError, match="argument 'bins' must be a whole number from 1"):
        plots.calibration([0.1], [0], bins=bins)


def test_one_sigmoid_is_drawn_as_a_number_where_the_targets_lie_between_0_and_1(axis):
    plots.decision_boundary(BINARY, (X, (Y + 1) / 4), resolution=9, axis=axis)
    assert not axis.images
    assert axis.get_legend() is None


def test_of_many_classes_the_legend_has_those_that_are_there(axis):
    model = Dense(2, 100, Softmax())
    rows = np.full(60, 99)
    plots.decision_boundary(model, (X, rows), resolution=9, axis=axis)
    names = {text.get_text() for text in axis.get_legend().get_texts()}
    horizontal, vertical = (np.linspace(*limits, 9) for limits in (axis.get_xlim(), axis.get_ylim()))
    plane = np.stack([each.reshape(-1) for each in np.meshgrid(horizontal, vertical)], axis=1)
    assert len(names) < 20
    assert names == {"99", *map(str, model(plane).argmax(axis=1))}


def test_a_model_with_a_linear_output_has_values_and_not_classes(axis):
    plots.decision_boundary(Dense(2, 1, Identity()), (X, Y), axis=axis)
    assert not axis.images
