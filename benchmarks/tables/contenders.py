"""Those that learn a table: each a function of the training rows, the rows to predict, the task and a seed.

All have their defaults. A contender returns its predictions of the test rows: numbers, or a frame with a probability
for each class. The commands get a CSV file; the others columns that are prepared in the usual way: numbers and dates
standardised with missing ones at the median, text as one-hot columns or, for boosting, as categories.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.proposals import processor_seconds
from benchmarks.tables.sources import TARGET


class Prediction(NamedTuple):
    """What a contender made of the test rows, and the processor seconds that it took.

    Attributes:
        values: Numbers, or a frame of probabilities with a column for each class.
        fit: Seconds of training; for the commands those of ``train`` with the start of Python.
        predict: Seconds of predicting the test rows.
        note: Anything worth a word.
    """

    values: Any
    fit: float
    predict: float
    note: str = ""


Contender = Callable[[pd.DataFrame, pd.DataFrame, str, int], Prediction]


def commands(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int, *flags: str) -> Prediction:
    """Run ``new``, ``train`` and ``predict``, with no flag but the target and, for other seeds than 0, the seed.

    Where ``new`` takes the target for something else, it runs again with ``--task``, and the note says so. ``flags``
    are more flags of ``train``.
    """
    with tempfile.TemporaryDirectory() as folder:

        def run(*arguments: str) -> float:
            before = processor_seconds()
            command = [sys.executable, "-m", "framework", *arguments]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()[-300:]}")
            return processor_seconds() - before

        train.to_csv(Path(folder, "train.csv"), index=False)
        test.to_csv(Path(folder, "test.csv"), index=False)
        run("new", "train.csv", "--target", TARGET)
        note, is_class = "", task == "class"
        if (" classes: " in Path(folder, "train.toml").read_text(encoding="utf-8")) is not is_class:
            note = "new needed --task"
            run("new", "train.csv", "--target", TARGET, "--task", "classes" if is_class else "number", "--overwrite")
        seeds = [f"--set={part}.seed={seed}" for part in ("trainer", "model") if seed]
        fit = run("train", "train.toml", "--out", "run", *seeds, *flags)
        predict = run("predict", "run", "test.csv", "--out", "predictions.parquet")
        frame = pd.read_parquet(Path(folder, "predictions.parquet"))
    begin = f"{TARGET}="
    if task == "number":
        return Prediction(frame[TARGET].to_numpy(), fit, predict, note)
    chances = frame[[name for name in frame if name.startswith(begin)]]
    return Prediction(chances.rename(columns=lambda name: name.removeprefix(begin)), fit, predict, note)


def member(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Run the commands with one network where ``new`` proposes the mean of several."""
    return commands(train, test, task, seed, "--set=members=1")


def _numbers_of_dates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the inputs with each date as the days since 2000, the month, the weekday and the hour."""
    frame = frame.drop(columns=TARGET)
    for name in frame.select_dtypes("datetime").columns:
        date = frame.pop(name).dt
        frame[f"{name}_days"] = (date.normalize() - pd.Timestamp("2000-01-01")).dt.days
        frame = frame.assign(**{f"{name}_{unit}": getattr(date, unit) for unit in ("month", "dayofweek", "hour")})
    return frame


def _text_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]


def _one_hot(frame: pd.DataFrame) -> Any:
    """Return the usual preparation for a network or a linear model."""
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415 (the other contenders are timed without it)
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: PLC0415

    text = _text_columns(frame)
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    levels = make_pipeline(SimpleImputer(strategy="constant", fill_value="missing"), encoder)
    return ColumnTransformer([("numbers", numbers, [c for c in frame if c not in text]), ("text", levels, text)])


def _fit(estimator: Any, train: pd.DataFrame, test: pd.DataFrame, task: str, prepared: Any) -> Prediction:
    """Fit an estimator on prepared columns and predict."""
    y = train[TARGET].to_numpy(dtype=object if task == "class" else np.float64)
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of iterations that the defaults limit, and of rare levels
        x = prepared.fit_transform(_numbers_of_dates(train))
        estimator.fit(x, y)
        fitted = time.process_time()
        later = prepared.transform(_numbers_of_dates(test))
        if task == "class":
            values: Any = pd.DataFrame(estimator.predict_proba(later), columns=estimator.classes_)
        else:
            values = estimator.predict(later)
    return Prediction(values, fitted - begun, time.process_time() - fitted)


def _with_scaled_target(estimator: Any, task: str) -> Any:
    """Return a regressor of scikit-learn that learns standardised numbers, as one would use it."""
    from sklearn.compose import TransformedTargetRegressor  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    return TransformedTargetRegressor(estimator, transformer=StandardScaler()) if task == "number" else estimator


def estimators(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Fit ``NeuralClassifier`` or ``NeuralRegressor``."""
    from framework.sklearn import NeuralClassifier, NeuralRegressor  # noqa: PLC0415

    made = NeuralClassifier(random_state=seed) if task == "class" else NeuralRegressor(random_state=seed)
    return _fit(made, train, test, task, _one_hot(_numbers_of_dates(train)))


def mlp(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Fit scikit-learn's network."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: PLC0415

    made = MLPClassifier(random_state=seed) if task == "class" else MLPRegressor(random_state=seed)
    return _fit(_with_scaled_target(made, task), train, test, task, _one_hot(_numbers_of_dates(train)))


def linear(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Fit a logistic regression, or a ridge regression."""
    from sklearn.linear_model import LogisticRegression, Ridge  # noqa: PLC0415

    made = LogisticRegression(max_iter=1000, random_state=seed) if task == "class" else Ridge(random_state=seed)
    return _fit(made, train, test, task, _one_hot(_numbers_of_dates(train)))


class Categories:
    """Text as pandas's categories of the training rows, for boosting; everything else as it is."""

    def fit_transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Learn the levels, and return the columns."""
        self.levels = {name: sorted(frame[name].dropna().unique()) for name in _text_columns(frame)}
        return self.transform(frame)

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the columns; an unknown level is missing."""
        known = {name: pd.Categorical(frame[name], levels) for name, levels in self.levels.items()}
        return frame.assign(**known).rename(columns=lambda name: f"{frame.columns.get_loc(name)}")


def lightgbm(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Fit LightGBM."""
    from lightgbm import LGBMClassifier, LGBMRegressor  # noqa: PLC0415

    kind = LGBMClassifier if task == "class" else LGBMRegressor
    return _fit(kind(random_state=seed, n_jobs=1, verbose=-1), train, test, task, Categories())


def histogram(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Fit scikit-learn's HistGradientBoosting; text of more than 255 levels is a number by its order."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor  # noqa: PLC0415

    class Coded(Categories):
        """Long lists of levels as codes, which this library does not take as categories."""

        def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
            frame = super().transform(frame)
            many = [name for name in frame.select_dtypes("category") if len(frame[name].cat.categories) > 255]
            return frame.assign(**{name: frame[name].cat.codes.astype(float) for name in many})

    kind = HistGradientBoostingClassifier if task == "class" else HistGradientBoostingRegressor
    return _fit(kind(random_state=seed, categorical_features="from_dtype"), train, test, task, Coded())


def catboost(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
    """Fit CatBoost, which takes text that is missing as one more level."""
    from catboost import CatBoostClassifier, CatBoostRegressor  # noqa: PLC0415

    class Levels:
        """Text with "missing" for missing levels; everything else as it is."""

        def fit_transform(self, frame: pd.DataFrame) -> pd.DataFrame:
            return frame.assign(**{name: frame[name].fillna("missing").astype(object) for name in _text_columns(frame)})

        transform = fit_transform

    kind = CatBoostClassifier if task == "class" else CatBoostRegressor
    text = _text_columns(_numbers_of_dates(train))
    made = kind(random_seed=seed, thread_count=1, verbose=0, allow_writing_files=False, cat_features=text)
    return _fit(made, train, test, task, Levels())


def _network(name: str) -> Contender:
    """Return a contender that fits a network of pytabkit, which needs numbers without missing ones, and categories."""

    class Filled(Categories):
        """Numbers with missing ones at the median of the training rows, and categories."""

        def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
            frame = super().transform(frame)
            if not hasattr(self, "medians"):
                self.medians = frame.select_dtypes("number").median()
            return frame.fillna(self.medians)

    def fit(train: pd.DataFrame, test: pd.DataFrame, task: str, seed: int) -> Prediction:
        import pytabkit  # noqa: PLC0415
        import torch  # noqa: PLC0415

        torch.set_num_threads(1)
        kind = getattr(pytabkit, name + ("_Classifier" if task == "class" else "_Regressor"))
        return _fit(kind(device="cpu", random_state=seed, n_threads=1, verbosity=0), train, test, task, Filled())

    return fit


CONTENDERS: dict[str, Contender] = {
    "commands": commands,
    "estimators": estimators,
    "lightgbm": lightgbm,
    "histogram": histogram,
    "mlp": mlp,
    "linear": linear,
}
"""Those that every table has."""

OTHERS: dict[str, Contender] = {
    "member": member,
    "catboost": catboost,
    "realmlp": _network("RealMLP_TD"),
    "realmlp_s": _network("RealMLP_TD_S"),
    "tabm": _network("TabM_D"),
}
"""Those that need ``--contenders``: minutes for each table, and an environment with catboost and pytabkit."""
