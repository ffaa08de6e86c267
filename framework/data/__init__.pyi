# The public names of this package: see framework/base/lazy.py.

from framework.data.blocks import Dataset as Dataset
from framework.data.csv import CSV as CSV
from framework.data.datasets import (
    BREAST_CANCER_CLASSES as BREAST_CANCER_CLASSES,
    BREAST_CANCER_FEATURES as BREAST_CANCER_FEATURES,
    load_breast_cancer as load_breast_cancer,
    load_digits as load_digits,
)
from framework.data.indexed import Indexed as Indexed
from framework.data.npy import NPY as NPY
from framework.data.parquet import Parquet as Parquet
from framework.data.sources import split as split
from framework.data.streams import Stream as Stream
