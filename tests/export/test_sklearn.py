"""Models of fitted networks of scikit-learn, compared with what these predict."""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from framework import Component, HalfSquaredError, SettingsError, SGDOptimizer, Trainer
from framework.export import from_sklearn

RNG = np.random.default_rng(0)
X = RNG.normal(3.0, 2.0, size=(60, 3))
TWO = np.where(X[:, 0] > X[:, 1], "yes", "no")
THREE = np.array(["low", "mid", "top"])[np.digitize(X[:, 0], [2.0, 4.0])]
FRAME = pd.DataFrame(X, columns=["age", "size", "rate"])


def fitted(cls, x, y, *before, **settings):
    mlp = cls(**{"hidden_layer_sizes": (5, 4), "max_iter": 3, "random_state": 0} | settings)
    pipeline = make_pipeline(*before, mlp) if before else mlp
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return pipeline.fit(x, y)


def require_same(ours, theirs, tolerance=1e-12):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("y", [X[:, 0], X[:, :2]], ids=["one", "two"])
def test_a_regressor_predicts_the_same(activation, y):
    mlp = fitted(MLPRegressor, X, y, activation=activation)
    require_same(from_sklearn(mlp).predict(X), mlp.predict(X))


@pytest.mark.parametrize(
    ("y", "theirs"),
    [
        (TWO, lambda mlp: mlp.predict_proba(X)[:, 1]),
        (THREE, lambda mlp: mlp.predict_proba(X)),
        (np.array(X[:, :2] > 3.0, int), lambda mlp: mlp.predict_proba(X)),
    ],
    ids=["two classes", "three classes", "several labels"],
)
def test_a_classifier_gives_the_same_probabilities(y, theirs):
    mlp = fitted(MLPClassifier, X, y)
    model = from_sklearn(mlp)
    require_same(model.predict(X), theirs(mlp))
    if y.ndim == 1:
        assert np.array_equal(mlp.classes_[model.classify(X)], mlp.predict(X))


@pytest.mark.skipif("loss" not in MLPRegressor().get_params(), reason="scikit-learn 1.6 has one loss")
def test_a_poisson_regressor_predicts_the_same():
    mlp = fitted(MLPRegressor, X, np.abs(X[:, 0]), loss="poisson")
    assert mlp.out_activation_ == "exp"
    require_same(from_sklearn(mlp).predict(X), mlp.predict(X))


def test_a_network_of_float32_stays_one():
    x = X.astype("float32")
    mlp = fitted(MLPClassifier, x, THREE)
    model = from_sklearn(mlp)
    assert model.dtype == "float32" == mlp.coefs_[0].dtype
    require_same(model.predict(x), mlp.predict_proba(x), 1e-6)


def test_a_network_without_hidden_layers_and_a_scaler_of_arrays():
    pipeline = fitted(MLPClassifier, X, TWO, StandardScaler(), hidden_layer_sizes=())
    model = from_sklearn(pipeline)
    assert repr(model) == "Sequential(Neuron(inputs=3, activation=Sigmoid()))"
    require_same(model.predict(X), pipeline.predict_proba(X)[:, 1])


@pytest.mark.parametrize(
    "before", [(), (StandardScaler(),), (StandardScaler(with_mean=False), StandardScaler(with_std=False))]
)
@pytest.mark.parametrize("y", [TWO, THREE, np.digitize(X[:, 0], [2.0, 4.0]), X[:, 0] > 3.0])
def test_a_network_of_a_table_keeps_columns_and_classes(before, y):
    theirs = fitted(MLPClassifier, FRAME, y, *before)
    model = from_sklearn(theirs)
    rows = pl.DataFrame({"extra": X[:, 0], **{name: FRAME[name].to_numpy() for name in ["rate", "size", "age"]}})
    assert np.array_equal(model.classify(rows), theirs.predict(FRAME))
    expected = theirs.predict_proba(FRAME)
    require_same(model.predict(rows), expected if expected.shape[1] == 3 else expected[:, 1])
    assert model.preprocess == Component.from_json(model.preprocess.to_json())


def test_the_model_can_be_trained_further():
    model = from_sklearn(fitted(MLPRegressor, X, X[:, 0]))
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), epochs=3)
    run = trainer.fit(model, (X, X[:, 0]))
    assert run.history[-1]["loss"] < run.history[0]["loss"]


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (StandardScaler(), "argument 'estimator' must be an MLPClassifier or an MLPRegressor"),
        (None, "argument 'estimator' must be an MLPClassifier or an MLPRegressor"),
        (Pipeline([("nothing", "passthrough")]), "argument 'estimator' must be an MLPClassifier or an MLPRegressor"),
        (MLPRegressor(), "argument 'estimator' must be fitted: MLPRegressor(); call fit(X, y) first"),
        (fitted(MLPRegressor, X, X[:, 0], MinMaxScaler()), "must have no other steps than StandardScaler"),
    ],
    ids=["scaler", "none", "no step", "not fitted", "other step"],
)
def test_other_estimators_are_refused(estimator, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        from_sklearn(estimator)
