"""scikit-learn's own checks of estimators: ours, its MLP, and the wrappers of Keras and skorch.

    python benchmarks/estimator_checks.py             # a table in Markdown; about three minutes
    python benchmarks/estimator_checks.py --reasons   # with the first line of each failure below it

Libraries that are not installed are left out; Keras runs on PyTorch unless KERAS_BACKEND names another. Keras and
skorch wrap a plain network of 100 units with ReLU, as the others have it, that takes rows of any size and dtype.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.estimator_checks import check_estimator

from framework import Identity
from framework.formulas import Hinge
from framework.sklearn import NeuralClassifier, NeuralRegressor

try:
    import torch
except ImportError:
    torch = None

UNITS = 100


def ours() -> Iterator[tuple[str, Any]]:
    """Give ours: the defaults, mini-batches and scores."""
    yield "NeuralClassifier", NeuralClassifier()
    yield "NeuralRegressor", NeuralRegressor()
    yield "NeuralClassifier, batch_size=8", NeuralClassifier(batch_size=8)
    yield "NeuralRegressor, batch_size=8", NeuralRegressor(batch_size=8)
    yield "NeuralClassifier, Hinge", NeuralClassifier(loss=Hinge(), output=Identity())


def scikit_learn() -> Iterator[tuple[str, Any]]:
    """Give scikit-learn's."""
    yield "MLPClassifier", MLPClassifier()
    yield "MLPRegressor", MLPRegressor()


def keras_network(X: Any, y: Any, loss: str, end: str | None) -> Any:
    """Return a compiled network for such rows."""
    import keras  # noqa: PLC0415 (it may be missing)

    outputs = y.shape[1] if y.ndim > 1 else 1
    layers = [keras.Input((X.shape[1],)), keras.layers.Dense(UNITS, "relu"), keras.layers.Dense(outputs, end)]
    model = keras.Sequential(layers)
    model.compile("adam", loss)
    return model


def keras() -> Iterator[tuple[str, Any]]:
    """Give the wrappers of Keras. A clone loses ``fit_kwargs``, so that most checks train for one epoch."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    from keras.wrappers import SKLearnClassifier, SKLearnRegressor  # noqa: PLC0415

    fit = {"epochs": 100, "verbose": 0}
    settings = {"loss": "categorical_crossentropy", "end": "softmax"}
    yield "Keras SKLearnClassifier", SKLearnClassifier(keras_network, model_kwargs=settings, fit_kwargs=fit)
    settings = {"loss": "mse", "end": None}
    yield "Keras SKLearnRegressor", SKLearnRegressor(keras_network, model_kwargs=settings, fit_kwargs=fit)


if torch is not None:

    class Module(torch.nn.Module):
        """A plain network that takes rows of any size and dtype."""

        def __init__(self, outputs: int | None = None) -> None:
            """Make a network of some classes, or of one number per row."""
            super().__init__()
            self.outputs = outputs
            layers = [torch.nn.LazyLinear(UNITS), torch.nn.ReLU(), torch.nn.LazyLinear(outputs or 1)]
            self.layers = torch.nn.Sequential(*layers).double()

        def forward(self, x: Any) -> Any:
            """Return probabilities, or numbers of the shape of y."""
            a = self.layers(x.double())
            return a.squeeze(-1) if self.outputs is None else a.softmax(-1)


def skorch() -> Iterator[tuple[str, Any]]:
    """Give the estimators of skorch."""
    import skorch  # noqa: PLC0415 (it may be missing)

    given = {"max_epochs": 100, "lr": 0.1, "train_split": None, "verbose": 0}
    yield "skorch NeuralNetClassifier", skorch.NeuralNetClassifier(Module, module__outputs=3, **given)
    yield "skorch NeuralNetRegressor", skorch.NeuralNetRegressor(Module, **given)


def checked(estimator: Any) -> list[dict[str, Any]]:
    """Return a record for each check."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # Keras prints
        warnings.simplefilter("ignore")
        found: list[dict[str, Any]] = check_estimator(estimator, on_fail=None)
        return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--reasons", action="store_true", help="print the first line of each failure")
    parser.add_argument("groups", nargs="*", help="some of: ours, scikit_learn, keras, skorch")
    options = parser.parse_args()
    reasons = []
    print(f"With scikit-learn {sklearn.__version__}.\n")
    print("| estimator | passed | failed | skipped | checks that fail |\n|---|---|---|---|---|")
    groups: tuple[Callable[[], Iterator[tuple[str, Any]]], ...] = (ours, scikit_learn, keras, skorch)
    for group in groups:
        if options.groups and group.__name__ not in options.groups:
            continue
        try:
            estimators = [*group()]
        except ImportError as error:
            reasons.append(f"left out: {error}")
            continue
        for name, estimator in estimators:
            records = checked(estimator)
            count = Counter(record["status"] for record in records)
            failed = [record for record in records if record["status"] == "failed"]
            names = dict.fromkeys(record["check_name"].removeprefix("check_") for record in failed)
            text = ", ".join([f"`{check}`" for check in names][:6]) + (" and others" if len(names) > 6 else "")
            print(f"| {name} | {count['passed']} | {count['failed']} | {count['skipped']} | {text} |", flush=True)
            reasons += [f"{name}: {r['check_name']}: {str(r['exception']).strip()[:200]!r}" for r in failed]
    print("", *(reasons if options.reasons else [r for r in reasons if r.startswith("left out")]), sep="\n")


if __name__ == "__main__":
    main()
