"""Eleven good rows, and what makes some of them bad: for the tables of refused input."""

import numpy as np

X = np.arange(22.0).reshape(11, 2) % 7 - 3
Y = np.arange(11) % 2.0
LABELS = np.arange(11) % 3
DATES = np.arange("2020-01-01", "2020-01-12", dtype="datetime64[D]")
NAN, INF = float("nan"), float("inf")


def put(array, place, value, dtype=float):
    """Return a copy of an array with another value at a place."""
    array = np.array(array, dtype)
    array[place] = value
    return array


def mask(array):
    """Return an array with its second number masked."""
    return np.ma.MaskedArray(array, np.arange(array.size).reshape(array.shape) == 1)
