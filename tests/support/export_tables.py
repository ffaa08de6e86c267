"""Models with a Preprocess that are exported: one of every step, and small ones of one column."""

import numpy as np
import pandas as pd

from framework import (
    Dense,
    Embedding,
    Heads,
    Impute,
    Join,
    OneHot,
    Preprocess,
    Sequential,
    Sigmoid,
    Softmax,
    Standardize,
)
from framework.models import Input
from framework.preprocessing import (
    Bounds,
    Classes,
    Clip,
    ColumnStep,
    Dates,
    Drop,
    Levels,
    Log,
    MinMax,
    QuantileTransform,
    RobustScale,
    SmoothClip,
)

ROWS = 200


class Root(ColumnStep):
    def formula(self, x, index):
        return np.sign(x) * np.sqrt(np.abs(x))


COLUMNS = {
    "age": [Impute("mean"), Standardize(), Clip(1.5)],
    "income": [Log(unit=100.0), RobustScale(), SmoothClip(0.7)],
    "score": [QuantileTransform(20)],
    "depth": [Impute(0.0, flag=False), QuantileTransform(16, to="normal"), MinMax()],
    "size": [Root()],
    "wait": [Impute("median")],
    "city": [OneHot(2)],
    "note": [Impute("none"), OneHot(5)],
    "code": [OneHot(3)],
    "member": [OneHot()],
    "shop": [Levels(3)],
    "floor": [Levels(2)],
    "when": [Dates(["days", "year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]), Impute()],
    "day": [Dates(["month", "day", "dayofyear"], cyclic=False)],
    "id": [Drop()],
}


def table(seed, rows=ROWS):
    rng = np.random.default_rng(seed)
    holes = lambda values: np.where(rng.random(rows) < 0.1, np.nan, values)  # noqa: E731
    text = lambda *words: pd.Series(rng.choice(words, rows))  # noqa: E731
    when = pd.Series(rng.integers(-4 * 10**15, 4 * 10**15, rows).astype("datetime64[us]"))
    return pd.DataFrame(
        {
            "id": text("a", "b"),
            "age": holes(rng.normal(40, 9, rows)),
            "income": rng.normal(0, 1e4, rows),
            "score": rng.integers(0, 9, rows),
            "depth": holes(rng.normal(size=rows)),
            "size": rng.normal(size=rows),
            "wait": pd.Series(rng.integers(0, 10**9, rows).astype("timedelta64[us]")).where(rng.random(rows) < 0.9),
            "city": text("Bern", "Rome", "Oslo", "Paris", None),
            "note": text("x", "y", None),
            "code": holes(rng.choice([1.0, 2.5, np.float64(np.float32(0.1)), -7.0, 0.0], rows)),
            "member": rng.random(rows) < 0.5,
            "shop": text("a", "b", "c", "d", None).astype("category"),
            "floor": rng.integers(0, 4, rows),
            "when": when.where(rng.random(rows) < 0.9),
            "day": pd.Series(rng.integers(-9999, 9999, rows).astype("datetime64[D]")),
            "price": np.exp(rng.normal(3, 1, rows)),
            "late": text("yes", "no", "maybe"),
        }
    )


TARGET = {"price": [Bounds(), Log(), Standardize()], "late": [Classes()]}


def of_every_step(dtype):
    """Return a model of all columns, with two outputs."""
    model = Sequential(
        Join(numbers=Input(dtype=dtype), shop=Embedding(5, 2, dtype=dtype), floor=Embedding(4, 2, dtype=dtype)),
        Dense(units=8, activation=Sigmoid(), dtype=dtype),
        Heads(price=Dense(units=1, dtype=dtype), late=Dense(units=3, activation=Softmax(), dtype=dtype)),
    )
    model.preprocess = Preprocess(columns=COLUMNS, target=TARGET).fit((table(0), ["price", "late"]))
    return model


def of_one_target(steps, target, levels):
    """Return a model of one column and one target, and its table."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=50), "y": rng.choice(levels, 50)})
    last = Dense(units=1, activation=Sigmoid()) if len(levels) == 2 else Dense(units=3, activation=Softmax())
    ids = any(isinstance(step, Levels) for step in steps)
    model = Sequential(Join(x=Embedding(5, 2)), last) if ids else last
    model.preprocess = Preprocess(columns={"x": steps}, target=target).fit((rows, "y"))
    return model, rows


class Unwrapped(ColumnStep):
    def formula(self, x, index):
        return np.unwrap(x)
