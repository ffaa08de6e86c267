"""Data: arrays or a Dataset, checked, and given as batches."""

from framework.data.checks import Batch, checked_rows, settling
from framework.data.sources import (
    Dataset,
    Piece,
    Source,
    batches,
    joined,
    permutation,
    prepare,
    read_only,
    rows_of_batch,
)

__all__ = [
    "Batch",
    "Dataset",
    "Piece",
    "Source",
    "batches",
    "checked_rows",
    "joined",
    "permutation",
    "prepare",
    "read_only",
    "rows_of_batch",
    "settling",
]
