"""Preprocessing: a table's columns as numbers that a model takes, as learnt from the training data."""

from framework.preprocessing.steps import ColumnStep

__all__ = ["ColumnStep"]
