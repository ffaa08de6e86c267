"""Data: arrays or a Dataset, checked, and given as batches."""

from framework.data.checks import Batch, checked_rows, settling
from framework.data.sources import (
    ArraySource,
    Dataset,
    DatasetSource,
    Source,
    joined,
    permutation,
    prepare,
    read_only,
)

__all__ = [
    "ArraySource",
    "Batch",
    "Dataset",
    "DatasetSource",
    "Source",
    "checked_rows",
    "joined",
    "permutation",
    "prepare",
    "read_only",
    "settling",
]
