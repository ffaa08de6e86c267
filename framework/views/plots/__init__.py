"""Plots: pictures of trainings, formulas, decisions and models, with matplotlib (extra ``plot``).

Every function takes the axes to draw on and returns them; without any it makes a figure of pyplot. Only what is drawn
on has the style of these pictures: matplotlib's settings stay as they are. matplotlib is imported when something is
drawn, never before.
"""

from framework.views.plots.curves import compare_runs, learning_curves, learning_rate_search, norms, trials
from framework.views.plots.decisions import calibration, confusion_matrix, decision_boundary
from framework.views.plots.functions import activation, loss_surface
from framework.views.plots.models import graph, weights

__all__ = [
    "activation",
    "calibration",
    "compare_runs",
    "confusion_matrix",
    "decision_boundary",
    "graph",
    "learning_curves",
    "learning_rate_search",
    "loss_surface",
    "norms",
    "trials",
    "weights",
]
