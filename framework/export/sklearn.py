"""Networks of scikit-learn as models of this framework. scikit-learn itself is not needed.

Its weights are (inputs, units), as ours are, and its activations are ours under other names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import SettingsError, brief
from framework.formulas.activations import Activation
from framework.formulas.activations.basic import Identity, Sigmoid, Softmax, Tanh
from framework.formulas.activations.formulas import ReLU
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.sequential import Sequential
from framework.preprocessing.categories import Classes
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.numbers import Standardize

_ACTIVATIONS: dict[str, Activation] = {
    "identity": Identity(),
    "logistic": Sigmoid(),
    "tanh": Tanh(),
    "relu": ReLU(),
    "softmax": Softmax(),
}


def from_sklearn(estimator: Any) -> Model:
    """Return a fitted MLPClassifier or MLPRegressor as a model, which predicts the same and can be trained further.

    ``model.predict(x)`` is ``predict(x)`` of a regressor, and ``predict_proba(x)`` of a classifier; of two classes, it
    is the probability of the second one, (rows,). Was the estimator fitted on a table, then ``model.preprocess`` has
    its columns and its classes: ``predict`` takes tables, and ``model.classify(table)`` gives the classes as they were.
    Otherwise ``model.classify(x)`` gives their places: ``estimator.classes_[model.classify(x)]``.

    Args:
        estimator: MLPClassifier or MLPRegressor, fitted; or a Pipeline of StandardScaler and one of them. The scaler
            becomes ``Standardize`` in ``model.preprocess``, or without a table a part of the first layer's weights.

    Returns:
        A Sequential of Dense layers in the dtype of the weights, which ends in a Neuron where there is one output. A
        regressor with ``loss="poisson"`` ends in ``Activation.of(numpy.exp)``, which cannot be saved.

    Raises:
        SettingsError: It is another estimator, it is not fitted, or the pipeline has another step.

    Example:
        >>> from sklearn.neural_network import MLPRegressor
        >>> x = np.linspace(-1, 1, 50)[:, None]
        >>> mlp = MLPRegressor(hidden_layer_sizes=(4,), activation="tanh", solver="lbfgs", random_state=0)
        >>> model = from_sklearn(mlp.fit(x, x[:, 0] ** 2))
        >>> model
        Sequential(Dense(inputs=1, activation=Tanh(), units=4), Neuron(inputs=4))
        >>> bool(np.allclose(model.predict(x), mlp.predict(x), rtol=1e-12))
        True

    Source:
        https://scikit-learn.org/stable/modules/neural_networks_supervised.html
    """
    mlp, mean, scale = _parts(estimator)
    weights = [np.array(array) for array in mlp.coefs_]
    biases = [np.array(array) for array in mlp.intercepts_]
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        biases[0] = (biases[0] - (mean / scale) @ weights[0]).astype(biases[0].dtype)
        weights[0] = (weights[0] / scale[:, None]).astype(weights[0].dtype)
    hidden, last = _ACTIVATIONS[mlp.activation], _ACTIVATIONS.get(mlp.out_activation_) or Activation.of(np.exp)
    layers: list[Model] = [
        Dense.from_weights(w, b, activation=hidden, dtype=w.dtype)
        for w, b in zip(weights[:-1], biases[:-1], strict=True)
    ]
    w, b = weights[-1], biases[-1]
    if w.shape[1] == 1:
        layers.append(Neuron.from_weights(w[:, 0], b[0], activation=last, dtype=w.dtype))
    else:
        layers.append(Dense.from_weights(w, b, activation=last, dtype=w.dtype))
    model = Sequential(*layers)
    if names is not None:
        model.preprocess = _preprocess(mlp, [str(name) for name in names], mean, scale)
    return model


def _parts(estimator: Any) -> tuple[Any, Array, Array]:
    """Return the network, and the mean and the scale of the inputs before it.

    Raises:
        SettingsError: It is another estimator, or not fitted.
    """
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)]) if step != "passthrough"]
    *before, mlp = steps or [estimator]
    if not (hasattr(mlp, "hidden_layer_sizes") and hasattr(mlp, "activation")):
        raise SettingsError(
            "from_sklearn: argument 'estimator' must be an MLPClassifier or an MLPRegressor, or a Pipeline of "
            f"StandardScaler and one of them; got {brief(estimator)}"
        )
    if not hasattr(mlp, "coefs_"):
        raise SettingsError(f"from_sklearn: argument 'estimator' must be fitted: {brief(mlp)}; call fit(X, y) first")
    if odd := [step for step in before if not {"with_mean", "with_std"} <= {*vars(step)}]:
        raise SettingsError(
            "from_sklearn: a Pipeline must have no other steps than StandardScaler before the network; got "
            f"{brief(odd[0])}; take the network alone, pipeline[-1], and give the model transformed rows"
        )
    inputs = len(mlp.coefs_[0])
    mean, scale = np.zeros(inputs), np.ones(inputs)
    for step in before:
        if step.with_mean:
            mean = mean + scale * step.mean_
        if step.with_std:
            scale = scale * step.scale_
    return mlp, mean, scale


def _preprocess(mlp: Any, names: list[str], mean: Array, scale: Array) -> FittedPreprocess:
    """Return the columns that the network was fitted with, and its classes."""
    plain = bool((mean == 0).all() and (scale == 1).all())
    columns = {
        name: [] if plain else [Standardize(mean=float(m), scale=float(s))]
        for name, m, s in zip(names, mean, scale, strict=True)
    }
    target: dict[str, list[Classes]] = {}
    kinds: list[str] = []
    if mlp.out_activation_ == "softmax" or (mlp.out_activation_ == "logistic" and mlp.n_outputs_ == 1):
        classes = mlp.classes_
        target = {"class": [Classes(classes.tolist())]}
        kinds = [{"b": "boolean", "i": "number", "u": "number", "f": "number"}.get(classes.dtype.kind, "text")]
    return FittedPreprocess(columns=columns, kinds=["number"] * len(names), target=target, target_kinds=kinds)
