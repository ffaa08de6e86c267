"""Steps for numbers: scales, quantiles, logarithms and missing values; and numbers from dates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field

from framework.base.arrays import Array
from framework.base.errors import DataError, SettingsError
from framework.base.settings.component import Count, Positive
from framework.base.special import erfc, normal_deviate
from framework.preprocessing.statistics import LevelCounts, Moments, Sketch
from framework.preprocessing.steps import Column, ColumnStep, Numbers

SMALLEST_SQUARES = 1e-290
"""A smaller sum of squares has lost digits, because its parts are below the smallest normal number, 2e-308."""


def _require_values(count: float, where: str) -> None:
    if not count:
        raise DataError("has no values, so nothing can be learnt from it", name=where, advice="write Drop() for it")


def _require_finite(numbers: Sequence[float], what: str, where: str) -> None:
    if not all(map(math.isfinite, numbers)):
        raise DataError(
            f"has numbers so large that {what} is not finite; divide them, or write Log() first", name=where
        )


class Standardize(ColumnStep):
    """y = (x - mean) / scale, where scale is the standard deviation of the training rows, or 1 if it is 0.

    The deviation is that of a population: the sum of squares is divided by the number of rows. Rows with weights count
    by them, in both. So do scikit-learn's StandardScaler and its ``sample_weight``.

    Attributes:
        mean: One number for each array, learnt unless it is given.
        scale: Another one; both are given or none.

    Raises:
        DataError: A column has missing values and no ``Impute`` before, or no values at all.

    Example:
        >>> Standardize(mean=10.0, scale=2.0)
        Standardize(mean=(10.0,), scale=(2.0,))
    """

    learns = ("mean",)
    statistic = Moments
    """Counts the numbers, and gathers their mean, their deviation and their range."""

    mean: Numbers = ()
    scale: Numbers = ()

    def model_post_init(self, context: object) -> None:
        """Check that the numbers fit together."""
        if len(self.mean) != len(self.scale) or any(scale <= 0 for scale in self.scale):
            raise SettingsError("give 'mean' and a positive 'scale' for each array, or neither")

    def gather(self, column: Column, statistics: Sequence[Moments]) -> None:
        for moments, array in zip(statistics, column.arrays, strict=True):
            moments.add(array, column.weight)

    def learnt(self, statistics: Sequence[Moments], where: str) -> Self:
        for moments in statistics:
            _require_values(moments.count, where)
            _require_finite((moments.mean, moments.squares), "their variance", where)
            if moments.low < moments.high and moments.squares < SMALLEST_SQUARES:
                raise DataError(
                    "has numbers so close to one another that their variance is lost; write MinMax()", name=where
                )
        return self.replace(
            mean=tuple(moments.mean for moments in statistics),
            scale=tuple(moments.deviation or 1.0 for moments in statistics),
        )

    def formula(self, x: Array, index: int) -> Array:
        return (x - self.mean[index]) / self.scale[index]

    def inverse(self, y: Array, index: int) -> Array:
        return y * self.scale[index] + self.mean[index]


class MinMax(ColumnStep):
    """y = (x - low) / (high - low): the training rows lie in [0, 1]. Later values may lie outside.

    Where all training rows are equal, y is 0 for them.

    Attributes:
        low: The minimum of each array, learnt unless it is given, as ``MinMax(low=0, high=255)`` for pixels.
        high: The maximum; both are given or none.

    Raises:
        DataError: A column has missing values and no ``Impute`` before, or no values at all.

    Example:
        >>> step = MinMax(low=0, high=255)
        >>> step.formula(np.array([0.0, 51.0]), 0)
        array([0. , 0.2])
    """

    learns = ("low",)
    statistic = Moments
    """Counts the numbers, and gathers their mean, their deviation and their range."""

    low: Numbers = ()
    high: Numbers = ()

    def model_post_init(self, context: object) -> None:
        """Check that the numbers fit together."""
        if len(self.low) != len(self.high) or any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise SettingsError("give 'low' and a larger 'high' for each array, or neither")

    def learnt(self, statistics: Sequence[Moments], where: str) -> Self:
        for moments in statistics:
            _require_values(moments.count, where)
        ranges = [(m.low, m.high if m.high > m.low else m.low + max(1.0, abs(m.low))) for m in statistics]
        for low, high in ranges:
            _require_finite((high - low,), "their range", where)
        return self.replace(low=tuple(low for low, _ in ranges), high=tuple(high for _, high in ranges))

    def formula(self, x: Array, index: int) -> Array:
        return (x - self.low[index]) / (self.high[index] - self.low[index])

    def inverse(self, y: Array, index: int) -> Array:
        return y * (self.high[index] - self.low[index]) + self.low[index]


class Bounds(ColumnStep):
    """Hold predictions between the smallest and the largest target of the training rows; y = x, for a target.

    A network extrapolates without limit: one row unlike all others may be predicted as ten times the largest target.
    Write it first, as in ``target=[Bounds(), Standardize()]``. Targets stay as they are, in metrics too.

    Attributes:
        low: The smallest prediction, learnt unless it is given, as ``Bounds(low=0, high=100)`` for shares.
        high: The largest; both are given or none.

    Raises:
        DataError: The target has no values.

    Example:
        >>> Bounds(low=0, high=100).inverse(np.array([-3.0, 55.0, 1e6]), 0)
        array([  0.,  55., 100.])
    """

    learns = ("low",)
    statistic = Moments
    """Gathers the range of the numbers."""

    low: Numbers = ()
    high: Numbers = ()

    def model_post_init(self, context: object) -> None:
        """Check that the numbers fit together."""
        if len(self.low) != len(self.high) or any(a > b for a, b in zip(self.low, self.high, strict=True)):
            raise SettingsError("give 'low' and a 'high' that is not smaller, or neither")

    def learnt(self, statistics: Sequence[Moments], where: str) -> Self:
        for moments in statistics:
            _require_values(moments.count, where)
        return self.replace(low=tuple(m.low for m in statistics), high=tuple(m.high for m in statistics))

    def formula(self, x: Array, index: int) -> Array:
        return x

    def inverse(self, y: Array, index: int) -> Array:
        return np.clip(y, self.low[index], self.high[index])


class RobustScale(ColumnStep):
    """y = (x - center) factor: the median becomes 0 and the middle half of the training rows a range of length 1.

    The factor is 1 / (upper - lower quartile). Where half of the rows are equal, as counts that are mostly 0, it is
    2 / (maximum - minimum), and 0 where all of them are. Outliers do not change it, as they do that of
    ``Standardize``; write ``SmoothClip()`` after it to hold them near the others. It cannot be turned back where the
    factor is 0, so this step does not fit a target.

    Attributes:
        center: The median of each array, learnt unless it is given.
        factor: What the distance from it is multiplied by; both are given or none.

    Raises:
        DataError: A column has missing values and no ``Impute`` before, or no values at all.

    Example:
        >>> RobustScale(center=10.0, factor=0.5).formula(np.array([10.0, 12.0, 90.0]), 0)
        array([ 0.,  1., 40.])

    Source:
        Holzmueller, Grinsztajn and Steinwart, Better by default (2024), arXiv 2407.04491, section 3.
    """

    learns = ("center",)
    statistic = Sketch
    """Gathers the quartiles and the range of the numbers."""

    center: Numbers = ()
    factor: Numbers = ()

    def model_post_init(self, context: object) -> None:
        """Check that the numbers fit together."""
        if len(self.center) != len(self.factor) or any(factor < 0 for factor in self.factor):
            raise SettingsError("give 'center' and a 'factor' from 0 for each array, or neither")

    def learnt(self, statistics: Sequence[Sketch], where: str) -> Self:
        centers, factors = list[float](), list[float]()
        for sketch in statistics:
            _require_values(sketch.count, where)
            lower, center, upper = sketch.quantiles(np.array([0.25, 0.5, 0.75])).tolist()
            width = upper - lower or (sketch.high - sketch.low) / 2
            factor = 1 / width if width else 0.0
            _require_finite((width, factor), "their range or its inverse", where)
            centers.append(center)
            factors.append(factor)
        return self.replace(center=tuple(centers), factor=tuple(factors))

    def formula(self, x: Array, index: int) -> Array:
        return (x - self.center[index]) * self.factor[index]


class SmoothClip(ColumnStep):
    """y = x / sqrt(1 + (x / limit)^2): about x near 0, and never beyond +-limit.

    Unlike ``Clip``, it keeps the order of numbers beyond the limit. A number near the limit cannot be turned back
    exactly, so this step does not fit a target.

    Attributes:
        limit: What large numbers tend to.

    Example:
        >>> SmoothClip(3.0).formula(np.array([-1e9, 0.1, 3.0, 4.0]), 0).round(4)
        array([-3.    ,  0.0999,  2.1213,  2.4   ])

    Source:
        Holzmueller, Grinsztajn and Steinwart, Better by default (2024), arXiv 2407.04491, section 3.
    """

    limit: Positive = 3.0

    def formula(self, x: Array, index: int) -> Array:
        return x / np.hypot(1.0, x / self.limit)  # whose square does not overflow


class Clip(ColumnStep):
    """y = x within [-limit, limit], else the nearest end: a typing error in one row cannot decide a training.

    After ``Standardize`` the limit counts standard deviations. A clipped number cannot be turned back, so this step
    does not fit a target.

    Attributes:
        limit: The largest size of a number.

    Example:
        >>> Clip(5.0).formula(np.array([-30.0, 0.5, 23.0]), 0)
        array([-5. ,  0.5,  5. ])
    """

    limit: Positive = 5.0

    def formula(self, x: Array, index: int) -> Array:
        return np.clip(x, -self.limit, self.limit)


class Log(ColumnStep):
    """y = sign(x) log(1 + |x| / unit), for numbers of very different size: incomes, counts, prices.

    It takes any number, is close to x / unit near 0, and follows the logarithm of |x| where that is much larger than
    ``unit``. As a step of a target, it turns a prediction above about log(1.8e308 / unit) into inf.

    Attributes:
        unit: Where the straight part ends: 1 for counts, 0.001 for fractions of some thousandths.

    Example:
        >>> Log().formula(np.array([0.0, 1.0, -1.0, 999.0]), 0).round(3)
        array([ 0.   ,  0.693, -0.693,  6.908])
    """

    unit: Positive = 1.0

    def formula(self, x: Array, index: int) -> Array:
        return np.copysign(np.log1p(np.abs(x) / self.unit), x)

    def inverse(self, y: Array, index: int) -> Array:
        with np.errstate(over="ignore"):
            return np.copysign(np.expm1(np.abs(y)) * self.unit, y)


class QuantileTransform(ColumnStep):
    """y = the share of the training rows below x, from 0 to 1, or the normal deviate that has this share below it.

    Between ``n`` + 1 quantiles of the training rows y is interpolated; a value that many rows share gets the middle of
    its shares. Outside the range of the training rows y stays at its limit. With more than 65,536 rows the quantiles
    are those of a sketch, whose error ``framework.preprocessing.statistics.Sketch`` states.

    Attributes:
        n: Into how many parts the quantiles divide the rows.
        to: "uniform", or "normal" for normal deviates, cut off at a share of 1e-7.
        values: The quantiles of each array, learnt unless they are given.

    Raises:
        DataError: A column has missing values and no ``Impute`` before, or no values at all.

    Example:
        >>> step = QuantileTransform(values=[[0.0, 1.0, 10.0]])
        >>> step.formula(np.array([-5.0, 0.5, 5.5, 10.0]), 0)
        array([0.  , 0.25, 0.75, 1.  ])

    Source:
        scikit-learn's QuantileTransformer, which this step equals on up to 65,536 rows.
    """

    learns = ("values",)
    statistic = Sketch
    """Gathers the quantiles of the numbers."""

    n: Count = 256
    to: Literal["uniform", "normal"] = Field("uniform", kw_only=True)
    values: tuple[tuple[float, ...], ...] = Field((), kw_only=True)

    def model_post_init(self, context: object) -> None:
        """Check that the quantiles rise."""
        for values in self.values:
            if len(values) < 2 or any(a > b for a, b in pairwise(values)):
                raise SettingsError("must hold 2 or more rising numbers for each array", name="setting 'values'")

    def learnt(self, statistics: Sequence[Sketch], where: str) -> Self:
        for sketch in statistics:
            _require_values(sketch.count, where)
        shares = np.linspace(0.0, 1.0, self.n + 1)
        quantiles = [np.maximum.accumulate(sketch.quantiles(shares)) for sketch in statistics]
        for values in quantiles:
            _require_finite((float(values[-1] - values[0]),), "their range", where)
        return self.replace(values=tuple(tuple(values.tolist()) for values in quantiles))

    def formula(self, x: Array, index: int) -> Array:
        y: Array = share_below(x, np.array(self.values[index]))
        return y if self.to == "uniform" else deviate_of(y)

    def inverse(self, y: Array, index: int) -> Array:
        numbers: Array = number_above(y if self.to == "uniform" else share_of(y), np.array(self.values[index]))
        return numbers


def share_below(x: Any, values: Any) -> Any:
    """Return the share of the training rows below each number, interpolated between their quantiles."""
    y = np.linspace(0.0, 1.0, len(values))
    y = 0.5 * (np.interp(x, values, y) - np.interp(-x, -values[::-1], -y[::-1]))
    y = np.where(x <= values[0], 0.0, np.where(x >= values[-1], 1.0, np.clip(y, 0.0, 1.0)))
    return np.where(np.isnan(x), np.nan, y)


def number_above(share: Any, values: Any) -> Any:
    """Return the number below which this share of the training rows lies, interpolated between their quantiles."""
    return np.interp(np.clip(share, 0.0, 1.0), np.linspace(0.0, 1.0, len(values)), values)


def deviate_of(share: Any) -> Any:
    """Return the normal deviate of a share, which is cut off at 1e-7 as in scikit-learn: at 5.2 deviations."""
    return normal_deviate(np.clip(share, 1e-7, 1.0 - 1e-7))


def share_of(deviate: Any) -> Any:
    """Return the share below a normal deviate; the cut-off shares stand for 0 and 1."""
    share = 0.5 * erfc(-deviate / np.sqrt(2.0))
    return np.where(share <= 1e-7, 0.0, np.where(share >= 1.0 - 1e-7, 1.0, share))


class Impute(ColumnStep):
    """Fill missing values with the mean, the median or a constant, and say in a column of its own where they were.

    The mean counts rows by their weights, as ``Standardize`` does.

    Attributes:
        fill: "mean", "median", or the number itself; for a column of text the text itself.
        flag: Whether to add a column ``age missing`` of 0 and 1. Only columns with missing values in the training rows
            get one: the weights of another would not be trained.
        values: What is filled in for each array, learnt unless it is given.
        missing_column: Whether there is the column ``age missing``, learnt unless it is given.

    Raises:
        DataError: A column has no values at all, so that it has no mean.

    Example:
        >>> column = Column("fit: column 'age'", "age", "numbers", ("age",), (np.array([31.0, np.nan]),))
        >>> Impute(0.0, values=[0.0], missing_column=True).apply(column).arrays
        (array([31.,  0.]),)
    """

    takes = ("numbers", "texts")
    missing = "filled"

    fill: float | str = "mean"
    flag: bool = Field(True, kw_only=True)
    values: tuple[float | str, ...] = Field((), kw_only=True)
    missing_column: bool | None = Field(None, kw_only=True)

    @property
    def open(self) -> bool:
        return not self.values or (self.flag and self.missing_column is None)

    def require(self, column: Column) -> None:
        super().require(column)
        if column.form == "texts" and (not isinstance(self.fill, str) or self.fill in ("mean", "median")):
            raise SettingsError(f"holds text, which has no {self.fill!r}: write Impute('unknown')", name=column.where)
        if column.form == "numbers" and isinstance(self.fill, str) and self.fill not in ("mean", "median"):
            raise SettingsError(
                "holds numbers: write Impute('mean'), Impute('median') or Impute(0.0)", name=column.where, got=self.fill
            )

    def statistic(self) -> Any:
        """Return what gathers a column: sums for the mean, a sketch for the median, counts of levels."""
        if self.fill == "median":
            return Sketch()
        return LevelCounts() if isinstance(self.fill, str) and self.fill != "mean" else Moments()

    def gather(self, column: Column, statistics: Sequence[Any]) -> None:
        further = [column.levels] if column.form == "texts" else [column.weight] if self.fill == "mean" else []
        for statistic, array in zip(statistics, column.arrays, strict=True):
            statistic.add(array, *further)

    def learnt(self, statistics: Sequence[Any], where: str) -> Self:
        values = self.values or tuple(self._value(statistic, where) for statistic in statistics)
        flag = self.flag and any(statistic.missing for statistic in statistics)
        return self.replace(values=values, missing_column=flag if self.missing_column is None else self.missing_column)

    def _value(self, statistic: Any, where: str) -> float | str:
        if self.fill not in ("mean", "median"):
            return self.fill
        _require_values(statistic.count, where)
        value = statistic.mean if isinstance(statistic, Moments) else float(statistic.quantiles(np.array([0.5]))[0])
        _require_finite((value,), f"their {self.fill}", where)
        return value

    def filling(self, where: str, *, boolean: bool) -> Column:
        """Return a column of one row: what is filled in."""
        if isinstance(self.values[0], str):
            return Column(where, "", "texts", ("",), (np.array([0]),), levels=(self.values[0],))
        arrays = tuple(np.array([float(value)]) for value in self.values)
        return Column(where, "", "numbers", ("",) * len(arrays), arrays, boolean=boolean)

    def apply(self, column: Column) -> Column:
        absent = column.arrays[0] < 0 if column.form == "texts" else np.isnan(column.arrays[0])
        flags = column.flags
        if self.flag and self.missing_column:
            flags = (*flags, (f"{column.label} missing", absent.astype(np.float64)))
        if column.form == "texts":
            levels = column.levels if self.values[0] in column.levels else (*column.levels, str(self.values[0]))
            codes = np.where(absent, levels.index(str(self.values[0])), column.arrays[0])
            return column.replaced(arrays=(codes,), levels=levels, flags=flags)
        arrays = tuple(
            np.where(np.isnan(array), value, array) for array, value in zip(column.arrays, self.values, strict=True)
        )
        texts = column.texts_filled_with(float(self.values[0]))
        return column.replaced(arrays=arrays, flags=flags, texts=texts)


class Drop(ColumnStep):
    """Leave the column out. A table to predict on need not have it.

    Example:
        >>> Drop().apply(Column("fit: column 'id'", "id", "texts", ("id",), (np.array([0]),), ("a",))).arrays
        ()
    """

    takes = ("numbers", "texts", "dates")

    def apply(self, column: Column) -> Column:
        return column.replaced(form="dropped", arrays=(), names=())


Part = Literal["days", "year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]
_Parts = Annotated[tuple[Part, ...], BeforeValidator(lambda parts: (parts,) if isinstance(parts, str) else parts)]

_LENGTHS = {
    "month": 12.0,
    "day": 31.0,
    "dayofyear": 366.0,
    "weekday": 7.0,
    "hour": 24.0,
    "minute": 60.0,
    "second": 60.0,
}
"""How many values a part runs through before it begins again."""


class Dates(ColumnStep):
    """Numbers from dates: the year, the month, the weekday, ..., each as a column ``when year``.

    A cyclic part p of length L becomes two columns, sin(2 pi p / L) and cos(2 pi p / L), so that December lies next to
    January: month from 0 to 11 (L = 12), day from 0 to 30 (31), dayofyear from 0 to 365 (366), weekday from 0 for
    Monday to 6 (7), hour (24), minute and second (60), with fractions only in seconds. ``days`` counts the days since
    1 January 1970 with their fraction; it and ``year`` are never cyclic. With ``cyclic=False`` months and days count
    from 1, as calendars do.

    Missing dates give missing numbers: write ``Impute()`` after this step. Where dates have a time zone, the parts are
    those of its local time, as pandas' and polars' own functions give them. Dates of another zone than in the training
    data are converted to that zone; dates with a zone and dates without one are never mixed.

    Attributes:
        parts: Which parts, in this order.
        cyclic: Whether parts that begin again become a sine and a cosine.

    Example:
        >>> day = np.array([np.datetime64("2013-12-25T06:00", "us").astype(np.int64)])
        >>> column = Column("fit: column 'when'", "when", "dates", ("when",), (day,), missing=np.array([False]))
        >>> found = Dates(["year", "hour"]).apply(column)
        >>> {name: float(array[0].round(3)) for name, array in zip(found.names, found.arrays)}
        {'when year': 2013.0, 'when hour sin': 1.0, 'when hour cos': 0.0}
    """

    takes = ("dates",)

    parts: _Parts = ("year", "month", "day", "weekday", "hour")
    cyclic: bool = Field(True, kw_only=True)

    def model_post_init(self, context: object) -> None:
        """Check that there are parts, and none twice."""
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise SettingsError(f"must name different parts; got {list(self.parts)}", name="setting 'parts'")

    def apply(self, column: Column) -> Column:
        names: list[str] = []
        arrays: list[Array] = []
        for unit in self.parts:
            for ending, values in self.numbers(unit, date_part(column.arrays[0], unit)).items():
                names.append(f"{column.names[0]} {unit} {ending}".rstrip())
                arrays.append(values if column.missing is None else np.where(column.missing, np.nan, values))
        return column.replaced(form="numbers", names=tuple(names), arrays=tuple(arrays), missing=None)

    def numbers(self, unit: Part, number: Any) -> dict[str, Any]:
        """Return what becomes of a part by the endings of its names, ``sin`` and ``cos`` where it is cyclic."""
        if not self.cyclic or unit not in _LENGTHS:
            return {"": number}
        first = 1.0 if unit in ("month", "day", "dayofyear") else 0.0
        angle = (number - first) * (2.0 * np.pi / _LENGTHS[unit])
        return {"sin": np.sin(angle), "cos": np.cos(angle)}


def date_part(micros: Any, unit: Part) -> Any:
    """Return a part of dates, of their microseconds since 1970: an array, or a symbol of a formula.

    Example:
        >>> date_part(np.array([0, 951_868_800_000_000]), "dayofyear")  # 1970-01-01 and 2000-03-01
        array([ 1., 61.])

    Source:
        Hinnant, chrono-compatible low-level date algorithms (2013), civil_from_days: years begin in March there, so
        that a leap day is their last.
    """
    days = micros // 86_400_000_000
    rest = micros - days * 86_400_000_000
    if unit == "days":
        return days + rest / 86_400_000_000
    if unit == "weekday":
        return (days + 3) % 7 * 1.0  # 1 January 1970 was a Thursday
    if unit == "hour":
        return rest // 3_600_000_000 * 1.0
    if unit == "minute":
        return rest // 60_000_000 % 60 * 1.0
    if unit == "second":
        return rest % 60_000_000 / 1_000_000
    era = (days + 719_468) // 146_097  # of 400 years
    day = days + 719_468 - era * 146_097
    years = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day = day - (365 * years + years // 4 - years // 100)  # since 1 March
    month = (5 * day + 2) // 153  # since March
    year = years + 400 * era + (month >= 10) * 1
    if unit == "year":
        return year * 1.0
    if unit == "month":
        return np.where(month < 10, month + 3, month - 9) * 1.0
    if unit == "day":
        return (day - (153 * month + 2) // 5 + 1) * 1.0
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return np.where(month < 10, day + 60 + leap * 1, day - 305) * 1.0
