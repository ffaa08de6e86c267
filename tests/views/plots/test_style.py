import io
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from framework import Dense, Heads, Neuron, ReLU, Sequential, SettingsError, Sigmoid
from framework.base import UsageError
from framework.training import History
from framework.views import plots
from framework.views.plots.style import COLORS, INK

pytestmark = pytest.mark.share(1 / 3)

HISTORY = History([{"epoch": place, "loss": 1 / place, "val_loss": 1.5 / place} for place in range(1, 13)])
NEURON = Neuron.from_weights([1.0, -1.0], activation=Sigmoid())
DATA = [[0.0, 1.0], [1.0, 0.0], [2.0, 0.5]], [0, 1, 1]

DRAWN = {
    "activation": lambda axis: plots.activation(ReLU(), axis=axis),
    "calibration": lambda axis: plots.calibration([0.1, 0.8], [0, 1], axis=axis),
    "compare_runs": lambda axis: plots.compare_runs([HISTORY, HISTORY], axis=axis),
    "confusion_matrix": lambda axis: plots.confusion_matrix([[2, 1], [0, 3]], ["cat", "dog"], axis=axis),
    "decision_boundary": lambda axis: plots.decision_boundary(NEURON, DATA, resolution=9, axis=axis),
    "confusion_matrix of long names": lambda axis: plots.confusion_matrix(
        [[123456, 789], [12, 345678]], ["a class of a long name", "benign"], axis=axis
    ),
    "graph": lambda axis: Sequential(Dense(2, 3, ReLU()), Dense(3, 1)).plot(axis=axis),
    "learning_curves": lambda axis: HISTORY.plot(axis=axis),
    "trials": lambda axis: plots.trials([{"rate": 0.1, "loss": 2.0}], "rate", "loss", axis=axis),
    "weights": lambda axis: plots.weights(Dense(64, 16), axis=axis),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_drawn_on_the_given_axes_alone(name, axis):
    before = plt.get_fignums()
    assert DRAWN[name](axis) is axis
    assert plt.get_fignums() == before


@pytest.mark.parametrize("name", DRAWN)
def test_without_axes_a_picture_makes_a_transparent_figure_of_pyplot_and_cuts_nothing_off(name):
    axis = DRAWN[name](None)
    figure = axis.figure
    assert figure.number in plt.get_fignums()
    assert (figure.get_facecolor()[3], axis.get_facecolor()[3]) == (0, 0)
    figure.draw_without_rendering()
    drawn = axis.get_tightbbox()  # of texts, ticks, legend and colour bar too
    assert (figure.bbox.min <= drawn.min).all()
    assert (drawn.max <= figure.bbox.max).all()
    plt.close(figure)


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_saved_on_the_facecolor_that_is_asked_for(name):
    figure = DRAWN[name](None).figure
    corners = []
    for options in ({}, {"facecolor": "white"}, {"facecolor": "#336699"}):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=20, **options)
        file.seek(0)
        image = plt.imread(file)
        corners.append((image[0, 0] * 255).round().tolist())
        assert (image[..., 3].min() == 1) == bool(options)
    assert corners[0][3] == 0
    assert corners[1:] == [[255, 255, 255, 255], [0x33, 0x66, 0x99, 255]]
    plt.close(figure)


@pytest.mark.parametrize("name", ["compare_runs", "decision_boundary", "learning_curves"])
def test_a_legend_covers_nothing_that_is_drawn(name):
    axis = DRAWN[name](None)
    axis.figure.draw_without_rendering()
    assert axis.get_legend().get_window_extent().y0 >= axis.get_window_extent().y1
    plt.close(axis.figure)


@pytest.mark.parametrize("style", ["dark_background", "seaborn-v0_8-poster"])
def test_styles_of_users_cut_nothing_off_and_draw_no_grid_over_pictures(style):
    with plt.style.context(style):
        for name in ("learning_curves", "confusion_matrix", "decision_boundary"):
            axis = DRAWN[name](None)
            axis.figure.draw_without_rendering()
            drawn = axis.get_tightbbox()
            assert (axis.figure.bbox.min <= drawn.min).all(), name
            assert (drawn.max <= axis.figure.bbox.max).all(), name
            assert axis.xaxis.label.get_color() == INK
            lines = [line.get_visible() for line in axis.get_xgridlines()]
            assert any(lines) == (name == "learning_curves")
            plt.close(axis.figure)


def test_names_that_begin_with_an_underscore_are_in_the_legend(axis):
    plots.compare_runs({"_first": HISTORY, "second": HISTORY}, axis=axis)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["_first", "second"]


def test_dollars_in_names_are_drawn_and_not_read_as_formulas():
    dollars = r"$\no formula$"
    history = History([{"epoch": 1, dollars: 0.5}, {"epoch": 2, dollars: 0.25}])
    table = pd.DataFrame({dollars: [0.0, 1.0], "b": [1.0, 0.0]})
    for draw in (
        lambda axis: history.plot(dollars, right=dollars, axis=axis),
        lambda axis: plots.compare_runs({dollars: history}, dollars, axis=axis),
        lambda axis: plots.confusion_matrix([[1, 0], [0, 1]], [dollars, "b"], axis=axis),
        lambda axis: plots.decision_boundary(NEURON, (table, [0, 1]), classes=[dollars, "b"], resolution=9, axis=axis),
        lambda axis: Heads(**{dollars: Dense(2, 1), "b": Dense(2, 1)}).plot(axis=axis),
    ):
        figure = Figure()
        draw(figure.subplots())
        figure.draw_without_rendering()  # of a formula, this is an error


def test_a_legend_of_many_entries_ends_after_the_first(axis):
    plots.compare_runs([HISTORY] * 50, axis=axis)
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == [*(f"run {place}" for place in range(1, 20)), "and 31 more"]


def luminance(color):
    """Of WCAG 2.2."""
    parts = np.array(to_rgb(color))
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("color", [*COLORS, INK])
@pytest.mark.parametrize("page", ["white", "#111111"])
def test_colours_read_on_light_and_dark_pages(color, page):
    low, high = sorted([luminance(color), luminance(page)])
    least = 3 if color != INK else 4.5 if page == "white" else 4.1  # no grey has 4.5 on both
    assert (high + 0.05) / (low + 0.05) >= least


def as_deuteranopes_see(color):
    """Machado et al., A physiologically-based model for simulation of color vision deficiency (2009), severity 1."""
    parts = np.array(to_rgb(color))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    matrix = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    return np.array(matrix) @ linear


def test_the_first_colours_differ_in_grey_and_all_for_deuteranopes():
    assert abs(luminance(COLORS[0]) - luminance(COLORS[1])) > 0.15
    seen = [as_deuteranopes_see(color) for color in COLORS]
    assert min(np.abs(a - b).max() for place, a in enumerate(seen) for b in seen[:place]) > 0.05


@pytest.mark.parametrize("axis", [3, Figure(), "top"], ids=["number", "figure", "text"])
def test_what_is_no_axes_is_refused_before_anything_is_drawn(axis):
    with pytest.raises(
        SettingsError, match=r"plots.learning_curves: argument 'axis' must be axes of matplotlib, as fig"
    ):
        HISTORY.plot(axis=axis)


def test_polar_axes_are_refused():
    with pytest.raises(SettingsError, match="argument 'axis' must be axes of matplotlib"):
        HISTORY.plot(axis=Figure().add_subplot(projection="polar"))


def test_axes_in_three_dimensions_are_refused():
    with pytest.raises(SettingsError, match="argument 'axis' must be"):
        HISTORY.plot(axis=Figure().add_subplot(projection="3d"))


def test_without_matplotlib_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(UsageError, match=r"plots.learning_curves needs matplotlib: pip install matplotlib"):
        HISTORY.plot()
