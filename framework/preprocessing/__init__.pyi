# The public names of this package: see framework/base/lazy.py.

from framework.preprocessing.categories import Classes as Classes, Levels as Levels, OneHot as OneHot
from framework.preprocessing.fitted import FittedPreprocess as FittedPreprocess
from framework.preprocessing.numbers import (
    Bounds as Bounds,
    Clip as Clip,
    Dates as Dates,
    Drop as Drop,
    Impute as Impute,
    Log as Log,
    MinMax as MinMax,
    QuantileTransform as QuantileTransform,
    RobustScale as RobustScale,
    SmoothClip as SmoothClip,
    Standardize as Standardize,
)
from framework.preprocessing.recipe import Preprocess as Preprocess
from framework.preprocessing.steps import ColumnStep as ColumnStep
