"""Every test of pictures: on the Agg backend, and nothing of matplotlib is changed or left behind."""

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.use("Agg")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Compare the settings and the figures of pyplot with those before the test."""
    settings, figures = dict(mpl.rcParams), plt.get_fignums()
    yield
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == figures


@pytest.fixture
def axis() -> Axes:
    """Return axes of a figure that pyplot does not know."""
    return Figure().subplots()
