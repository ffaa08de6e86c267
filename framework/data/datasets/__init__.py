"""Two small real data sets, so that every example and test can train on something that was measured.

Each call reads the file again and returns new arrays, which the caller may change. Sources, authors and licences are in
the folder's README.md.
"""

from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

__all__ = ["BREAST_CANCER_CLASSES", "BREAST_CANCER_FEATURES", "load_breast_cancer", "load_digits"]

BREAST_CANCER_CLASSES = ("malignant", "benign")
"""The name of class 0 and of class 1."""

BREAST_CANCER_FEATURES = tuple(
    template.format(measure)
    for template in ("mean {}", "{} error", "worst {}")
    for measure in (
        "radius",
        "texture",
        "perimeter",
        "area",
        "smoothness",
        "compactness",
        "concavity",
        "concave points",
        "symmetry",
        "fractal dimension",
    )
)
"""The names of the 30 columns: mean, standard error and mean of the three largest values of ten measures."""


def load_breast_cancer() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Reads the Wisconsin diagnostic breast cancer set: 569 masses, malignant or benign.

    Returns:
        ``(x, y)``. ``x`` is float64 of shape (569, 30), a column for each name in ``BREAST_CANCER_FEATURES``, not
        scaled; the source states no units. ``y`` is int64 of shape (569,): 1 is benign (357 rows), 0 is malignant
        (212 rows).

    Example:
        >>> x, y = load_breast_cancer()
        >>> x.shape, x.dtype.name, y.shape, y.dtype.name
        ((569, 30), 'float64', (569,), 'int64')
        >>> BREAST_CANCER_CLASSES[y[0]], BREAST_CANCER_FEATURES[0], float(x[0, 0])
        ('malignant', 'mean radius', 17.99)

    Source: Wolberg, Street and Mangasarian (1995), https://doi.org/10.24432/C5DW2B.
    """
    return _read("breast_cancer.csv", header_lines=1)


def load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Reads the optical digits set: 1797 handwritten digits, each an image of 8 x 8 pixels.

    Returns:
        ``(x, y)``. ``x`` is float64 of shape (1797, 64), the pixels row by row, whole numbers from 0 (white) to 16
        (dark). ``y`` is int64 of shape (1797,), the digit, 0 to 9.

    Example:
        >>> x, y = load_digits()
        >>> x.shape, x.dtype.name, y.shape, y.dtype.name
        ((1797, 64), 'float64', (1797,), 'int64')
        >>> float(x.min()), float(x.max()), y[:5].tolist()
        (0.0, 16.0, [0, 1, 2, 3, 4])

    Source: Alpaydin and Kaynak (1998), https://doi.org/10.24432/C50P49.
    """
    return _read("digits.csv.gz", header_lines=0)


def _read(name: str, header_lines: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Reads a comma-separated file of this folder, whose last column is the class."""
    with as_file(files(__name__) / name) as path:
        table = np.loadtxt(path, delimiter=",", skiprows=header_lines)
    return table[:, :-1].copy(), table[:, -1].astype(np.int64)
