"""NeuralClassifier and NeuralRegressor against the Trainer, scikit-learn's own networks, and its tools."""

import pickle
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from joblib import wrap_non_picklable_objects
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

import framework
from framework import (
    L2,
    R2,
    Accuracy,
    Activation,
    AdamOptimizer,
    BinaryCrossEntropy,
    Checkpoint,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Dropout,
    EarlyStopping,
    Flatten,
    FrameworkError,
    HalfSquaredError,
    Identity,
    MeanSquaredError,
    Neuron,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
    Trainer,
    export_python,
    latest,
    load_model,
    on,
    save,
)
from framework.base import ResumeWarning
from framework.formulas import ROCAUC, Hinge, OutputLosses, Poisson, Swish
from framework.models import Conv1D
from framework.sklearn import NeuralClassifier, NeuralRegressor

X, Y = make_classification(120, 5, n_informative=4, n_redundant=0, n_classes=3, n_clusters_per_class=1, random_state=0)
TWO = (Y > 0).astype(int)
NUMBERS = make_regression(60, 5, n_targets=2, random_state=0)[1] / 100
LABELS = make_multilabel_classification(120, 5, n_classes=3, random_state=0)[1]
RATE = SGDOptimizer(learning_rate=0.1)
PLAIN = {"layers": [Dense(units=6, activation=ReLU())], "optimizer": AdamOptimizer(learning_rate=0.003)}
"""A network without waves, at a constant rate."""
SMALL = {"hidden": (6,), "epochs": 3, "early_stopping": False, "random_state": 0}


class Bent(Activation):
    """A user's own."""

    slope: float = 1.0

    def __call__(self, h):
        return h / (1 + np.abs(self.slope * h))


def classifier(**params):
    return NeuralClassifier(**(SMALL | params))


def regressor(**params):
    return NeuralRegressor(**(SMALL | params))


@pytest.mark.parametrize(
    ("estimator", "y", "target", "loss", "head"),
    [
        (classifier, Y, Y, CrossEntropy(), Dense(units=3, activation=Softmax())),
        (classifier, TWO, TWO, BinaryCrossEntropy(), Neuron(activation=Sigmoid())),
        (classifier, np.array(["no", "yes"])[TWO], TWO, BinaryCrossEntropy(), Neuron(activation=Sigmoid())),
        (classifier, LABELS, LABELS, BinaryCrossEntropy(), Dense(units=3, activation=Sigmoid())),
        (regressor, NUMBERS[:, 0], NUMBERS[:, 0], MeanSquaredError(), Neuron()),
        (regressor, NUMBERS, NUMBERS, MeanSquaredError(), Dense(units=2)),
    ],
    ids=["three classes", "two classes", "text", "labels", "numbers", "several numbers"],
)
def test_fit_is_what_the_trainer_does_with_the_same_network(estimator, y, target, loss, head):
    rows = X[: len(y)]
    made = estimator(batch_size=16, random_state=3, **PLAIN).fit(rows, y)
    if estimator is regressor:
        scaler = StandardScaler().fit(y.reshape(len(y), -1))
        target = scaler.transform(y.reshape(len(y), -1)).reshape(y.shape)
    model = Sequential(Dense(units=6, activation=ReLU()), head.copy(), seed=3)
    settings = {"epochs": 3, "batch_size": 16, "seed": 3, "engine": "auto"}
    trainer = Trainer(loss=loss, optimizer=AdamOptimizer(learning_rate=0.003), **settings)
    run = trainer.fit(model, (rows, target))
    np.testing.assert_allclose(made.loss_curve_, run.history.column("loss"), rtol=1e-12)
    assert made.n_iter_ == 3
    outputs = trainer.predict(model, rows)
    if estimator is regressor:
        expected = scaler.inverse_transform(outputs.reshape(len(y), -1)).reshape(y.shape)
        np.testing.assert_allclose(made.predict(rows), expected, rtol=1e-9, atol=1e-12)
        return
    np.testing.assert_array_equal(made.model_.parameters.vector, model.parameters.vector)
    assert made.loss_curve_ == run.history.column("loss")
    if outputs.ndim == 1:
        np.testing.assert_array_equal(made.predict_proba(rows), np.column_stack([1 - outputs, outputs]))
        np.testing.assert_array_equal(made.predict(rows), np.unique(y)[(outputs > 0.5).astype(int)])
    else:
        np.testing.assert_array_equal(made.predict_proba(rows), outputs)


@pytest.mark.parametrize(
    ("peer", "ours", "y"),
    [
        (MLPClassifier, NeuralClassifier(), Y),
        (MLPClassifier, NeuralClassifier(), TWO),
        (MLPRegressor, NeuralRegressor(loss=HalfSquaredError()), StandardScaler().fit_transform(NUMBERS)[:, 0]),
    ],
    ids=["three classes", "two classes", "numbers"],
)
def test_from_equal_weights_the_loss_curve_is_that_of_scikit_learns_mlp(peer, ours, y):
    rows = X[: len(y)]
    ours = clone(ours).set_params(layers=[Dense(units=6, activation=Tanh())], optimizer=RATE, epochs=4, batch_size=20)
    ours.set_params(shuffle=False, random_state=0, early_stopping=False).fit(rows, y)
    settings = {"activation": "tanh", "solver": "sgd", "alpha": 0.0, "learning_rate_init": 0.1, "momentum": 0.0}
    mlp = peer(hidden_layer_sizes=(6,), batch_size=len(y), nesterovs_momentum=False, shuffle=False, **settings)
    mlp.partial_fit(rows, y, **({} if peer is MLPRegressor else {"classes": np.unique(y)}))  # makes the arrays
    first = ours.model_.replace(layers=tuple(layer.in_dtype("float64") for layer in ours.model_.layers))
    for place in (0, 1):
        mlp.coefs_[place][...] = first.parameters[f"{place}.weights"].reshape(mlp.coefs_[place].shape)
        mlp.intercepts_[place][...] = 0.0
    mlp.set_params(batch_size=20)
    for _ in range(4):
        mlp.partial_fit(rows, y)
    np.testing.assert_allclose(ours.loss_curve_, mlp.loss_curve_[1:], rtol=1e-12)
    np.testing.assert_allclose(ours.model_.parameters["0.weights"], mlp.coefs_[0], rtol=1e-10)
    method = "predict" if peer is MLPRegressor else "predict_proba"
    np.testing.assert_allclose(getattr(ours, method)(rows), getattr(mlp, method)(rows), rtol=1e-9)


def test_params_reach_the_settings_of_components_at_any_depth():
    estimator = classifier(optimizer=AdamOptimizer(learning_rate=CosineSchedule(initial=0.1, length=10)))
    params = estimator.get_params()
    assert params["optimizer__beta1"] == 0.9
    assert params["optimizer__learning_rate__length"] == 10
    assert "optimizer__beta1" not in estimator.get_params(deep=False)
    estimator.set_params(optimizer__learning_rate__length=5, optimizer__beta1=0.5, epochs=7)
    assert (estimator.optimizer.learning_rate.length, estimator.optimizer.beta1, estimator.epochs) == (5, 0.5, 7)
    assert clone(estimator).set_params(**params).get_params() == params


def test_none_stands_for_a_default_whose_settings_can_be_set():
    estimator = classifier().set_params(optimizer__learning_rate=0.1)
    assert estimator.optimizer == AdamOptimizer(learning_rate=0.1)
    assert classifier().get_params()["optimizer__learning_rate__initial"] == 0.003


def test_a_component_and_its_settings_can_be_set_at_once_in_any_order():
    estimator = classifier().set_params(activation__slope=3.0, activation=Bent())
    assert estimator.activation == Bent(slope=3.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"hidden_layer_sizes": (64,), "max_iter": 200},
            "'hidden_layer_sizes'; did you mean 'hidden'? Settings:",
        ),
        ({"max_iter": 200}, "unknown setting 'max_iter'; did you mean 'epochs'?"),
        ({"solver": "adam"}, "unknown setting 'solver'; did you mean 'optimizer'?"),
        ({"learning_rate_init": 0.1}, "'learning_rate_init': write optimizer=AdamOptimizer(learning_rate=...)."),
        ({"alpha": 0.1}, "unknown setting 'alpha': write regularizers=[L2(...)]."),
        ({"warm_start": True}, "unknown setting 'warm_start'. Settings: hidden, "),
    ],
)
@pytest.mark.parametrize("estimator", [NeuralClassifier, NeuralRegressor])
def test_a_parameter_of_scikit_learns_networks_is_answered_with_ours(estimator, params, message):
    with pytest.raises(ValueError, match=f"^{estimator.__name__}: .*{re.escape(message)}"):
        estimator(**params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimiser": 1}, "NeuralClassifier: unknown setting 'optimiser'; did you mean 'optimizer'?"),
        ({"optimiser__learning_rate": 1}, "NeuralClassifier: unknown setting 'optimiser'; did you mean 'optimizer'?"),
        ({"max_iter": 200}, "NeuralClassifier: unknown setting 'max_iter'; did you mean 'epochs'?"),
        ({"optimizer__lr": 0.1}, "AdamOptimizer: unknown setting 'lr'; did you mean 'learning_rate'?"),
        ({"optimizer__learning_rate": -1.0}, "AdamOptimizer: setting 'learning_rate' must be greater than 0"),
        (
            {"loss__label_smoothing": 0.1},
            "'loss__label_smoothing' is a setting of 'loss'; set 'loss' to a component first",
        ),
        ({"epochs__x": 1}, "'epochs__x' is a setting of 'epochs'; it has no settings: 3"),
    ],
)
def test_set_params_refuses_unknown_names_and_changes_nothing(params, message):
    estimator = classifier()
    before = estimator.get_params()
    with pytest.raises(ValueError, match=re.escape(message)):
        estimator.set_params(hidden=(9,), **params)
    assert estimator.get_params() == before


def test_a_grid_search_finds_settings_of_the_optimizer_and_of_an_own_activation():
    pipeline = make_pipeline(StandardScaler(), classifier(activation=Bent(), epochs=10))
    grid = {
        "neuralclassifier__optimizer__learning_rate": [1e-6, 0.1],
        "neuralclassifier__activation__slope": [0.5, 2.0],
    }
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    assert search.best_params_["neuralclassifier__optimizer__learning_rate"] == 0.1
    assert search.best_estimator_[-1].activation.slope == search.best_params_["neuralclassifier__activation__slope"]
    assert search.score(X, Y) > 0.7


def test_cross_validation_scores_every_fold():
    scores = cross_val_score(classifier(optimizer=RATE, batch_size=20, epochs=20), X, Y, cv=3)
    assert scores.shape == (3,)
    assert scores.min() > 0.5


def test_a_diverging_candidate_of_a_grid_search_scores_nan():
    grid = {"optimizer": [SGDOptimizer(learning_rate=rate) for rate in (0.01, 1e200)]}
    search = GridSearchCV(regressor(), grid, cv=2)
    with pytest.warns(FitFailedWarning, match="DivergedError"), pytest.warns(UserWarning, match="non-finite"):
        search.fit(X[:60], NUMBERS)
    assert search.best_params_["optimizer"].learning_rate == 0.01


def test_an_estimator_reaches_other_processes_with_classes_of_its_program():
    class Local(Activation):  # which a process cannot import
        beta: float = 2.0

        def __call__(self, h):
            return h / (1 + np.exp(-self.beta * h))

    estimator = classifier(activation=Local())
    twin = pickle.loads(pickle.dumps(wrap_non_picklable_objects(estimator, keep_wrapper=False)))  # as joblib does
    np.testing.assert_array_equal(twin.fit(X, Y).predict_proba(X), estimator.fit(X, Y).predict_proba(X))
    swish = classifier(activation=Swish(beta=2.0)).fit(X, Y)
    np.testing.assert_allclose(twin.predict_proba(X), swish.predict_proba(X), rtol=1e-9)


def test_estimators_train_in_threads():
    alone = classifier().fit(X, Y).predict_proba(X)
    with ThreadPoolExecutor(2) as pool:
        for made in pool.map(lambda seed: classifier(random_state=seed).fit(X, Y), [0, 0, 0]):
            np.testing.assert_array_equal(made.predict_proba(X), alone)


def test_a_pickled_estimator_predicts_the_same_and_a_clone_is_not_fitted():
    estimator = classifier(
        callbacks=[EarlyStopping(monitor="loss")], layers=[Dense(units=4, activation=Bent()), Dropout(rate=0.1)]
    )
    estimator.fit(X, Y)
    twin = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(twin.predict_proba(X), estimator.predict_proba(X))
    np.testing.assert_array_equal(twin.partial_fit(X, Y).predict_proba(X), estimator.partial_fit(X, Y).predict_proba(X))
    with pytest.raises(NotFittedError, match="NeuralClassifier instance is not fitted yet"):
        clone(estimator).predict(X)


def test_a_clone_of_given_layers_starts_with_the_same_numbers():
    estimator, other = (classifier(layers=[Residual(Dense(5, 5, Tanh())), Dense(units=4)]) for _ in range(2))
    pickled = pickle.loads(pickle.dumps(other))  # which draws the numbers of a model within
    fits = [each.fit(X, Y).predict_proba(X) for each in (clone(estimator), estimator, estimator, pickled)]
    for each in fits[1:]:
        np.testing.assert_array_equal(each, fits[0])
    assert np.any(clone(estimator).set_params(random_state=1).fit(X, Y).predict_proba(X) != fits[0])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames_give_the_names_of_columns(frame):
    table = frame({name: X[:, place] for place, name in enumerate("abcde")})
    texts = frame({"y": np.array(["x", "y", "z"])[Y]})["y"]
    estimator = classifier().fit(table, texts)
    assert estimator.feature_names_in_.tolist() == list("abcde")
    assert estimator.model_.columns == tuple("abcde")
    assert estimator.classes_.tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(estimator.predict_proba(table), classifier().fit(X, Y).predict_proba(X))
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.predict(table[list("edcba")])


def test_a_pipeline_can_hand_on_frames():
    pipeline = make_pipeline(StandardScaler(), classifier()).set_output(transform="pandas")
    pipeline.fit(pd.DataFrame(X, columns=list("abcde")), Y)
    assert pipeline[-1].feature_names_in_.tolist() == list("abcde")


def test_a_pipeline_transforms_validation_data():
    with config_context(enable_metadata_routing=True):
        final = classifier().set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), final, transform_input=["X_val"]).fit(
            X, Y, X_val=X[:30], y_val=Y[:30]
        )
    scaled = StandardScaler().fit(X)
    by_hand = classifier().fit(scaled.transform(X), Y, X_val=scaled.transform(X[:30]), y_val=Y[:30])
    assert pipeline[-1].run_.history.column("val_loss") == by_hand.run_.history.column("val_loss")


def test_a_decision_boundary_is_drawn():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    for estimator in (classifier(), classifier(loss=Hinge(), output=Identity())):
        display = DecisionBoundaryDisplay.from_estimator(estimator.fit(X[:, :2], TWO), X[:, :2], grid_resolution=5)
        assert display.response.shape[:2] == (5, 5)
    pyplot.close("all")


def test_early_stopping_sees_the_rows_that_are_held_out():
    stopping = EarlyStopping(patience=1, min_delta=10.0)
    estimator = classifier(
        epochs=50, early_stopping=True, validation_fraction=0.25, callbacks=[stopping], metrics=[Accuracy(), ROCAUC()]
    )
    estimator.fit(X, TWO)
    assert estimator.n_iter_ == 2 == len(estimator.loss_curve_)
    assert "EarlyStopping" in estimator.run_.stop_reason
    assert {"val_loss", "val_accuracy", "val_roc_auc"} <= set(estimator.run_.history.keys)
    assert estimator.run_.layout[0] == 90


def test_held_out_rows_have_the_shares_of_the_classes():
    seen = []
    watch = on("epoch_end")(lambda run: seen.append(np.bincount(run.current[1].astype(int)) if run.current else None))
    rare = np.r_[np.zeros(100), np.ones(20)]
    classifier(early_stopping=True, validation_fraction=0.25, batch_size=None, epochs=1, callbacks=[watch]).fit(X, rare)
    assert seen[0].tolist() == [75, 15]


def test_training_stops_early_by_itself_and_keeps_the_best_epoch():
    noise = np.random.default_rng(0).permutation(TWO)
    estimator = NeuralClassifier((50,), batch_size=16, n_iter_no_change=3, random_state=0).fit(X, noise)
    losses = estimator.run_.history.column("val_loss")
    assert 4 <= estimator.n_iter_ == int(np.argmin(losses)) + 4 < 60
    assert estimator.run_.layout[0] == 96
    given = NeuralClassifier((50,), batch_size=16, n_iter_no_change=3, random_state=0)
    given.fit(X, noise, X_val=X[:40], y_val=noise[::-1][:40])  # those rows in place of some that are held out
    assert given.run_.layout[0] == 120
    assert given.trainer_.evaluate(given.model_, (X[:40], noise[::-1][:40]))["loss"] == pytest.approx(
        min(given.run_.history.column("val_loss")), rel=1e-12
    )


@pytest.mark.parametrize("rows", [3, 9, 99, 100])
def test_few_rows_train_without_any_that_are_held_out(rows):
    y = np.arange(rows) % min(rows, 40)  # classes of one to three rows
    for estimator, target in ((NeuralClassifier(epochs=2), y), (NeuralRegressor(epochs=2), X[:rows, 0])):
        fitted = clone(estimator).set_params(hidden=(4,), random_state=0).fit(X[:rows], target)
        assert fitted.run_.layout[0] == (80 if rows == 100 else rows)
        assert fitted.predict(X[:rows]).shape == (rows,)


def by_hand(y, weight=None):
    mean = np.average(y, axis=0, weights=weight)
    return mean, np.sqrt(np.average((y - mean) ** 2, axis=0, weights=weight))


@pytest.mark.parametrize("loss", [None, HalfSquaredError()])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_regressor_learns_y_of_any_size(scale, loss):
    y = np.add(NUMBERS, [3.0, -50.0]) * [scale, 1.0]
    settings = {"loss": loss, "batch_size": None, "epochs": 100, "engine": "numpy", "random_state": 0}
    estimator = NeuralRegressor((20,), **settings).fit(X[:60], y)
    reference = NeuralRegressor((20,), **settings).fit(X[:60], (y - by_hand(y)[0]) / by_hand(y)[1])
    predictions = reference.predict(X[:60]) * by_hand(y)[1] + by_hand(y)[0]
    np.testing.assert_allclose(estimator.predict(X[:60]) / [scale, 1.0], predictions / [scale, 1.0], rtol=1e-6)
    assert estimator.score(X[:60], y) > 0.2
    np.testing.assert_array_equal(estimator.model_.predict(X[:60]), estimator.predict(X[:60]))


@pytest.mark.parametrize("y", [np.full(60, 0.1), np.full(60, 7), np.full((60, 2), -1e9)])
def test_a_constant_y_moves_to_0_and_keeps_its_size(y):
    estimator, centred = regressor().fit(X[:60], y), regressor().fit(X[:60], y * 0.0)
    np.testing.assert_allclose(estimator.predict(X[:60]), centred.predict(X[:60]) + y, rtol=1e-12)


def test_a_regressor_takes_whole_numbers_and_float32():
    whole = np.random.default_rng(0).integers(1000, 1100, 60)
    np.testing.assert_array_equal(
        regressor().fit(X[:60], whole).predict(X[:60]), regressor().fit(X[:60], whole * 1.0).predict(X[:60])
    )
    small = regressor().fit(X[:60].astype(np.float32), whole.astype(np.float32)).predict(X[:60].astype(np.float32))
    assert small.dtype == np.float32
    np.testing.assert_allclose(small, regressor().fit(X[:60], whole).predict(X[:60]), rtol=1e-5)


def test_a_row_of_weight_2_is_two_rows_for_the_mean_of_y():
    weight = 1.0 + (X[:60, 0] > 0)
    twice = np.repeat(np.arange(60), weight.astype(int))
    weighted = regressor(batch_size=None).fit(X[:60], NUMBERS, weight)
    repeated = regressor(batch_size=None).fit(X[twice], NUMBERS[twice])
    np.testing.assert_allclose(weighted.predict(X[:60]), repeated.predict(X[:60]), rtol=1e-9)


def test_passes_of_partial_fit_see_y_as_the_first_one_does():
    y = NUMBERS[:, 0] * 1000 + 5
    parts = regressor(shuffle=False, batch_size=30, **PLAIN)
    for _ in range(3):
        parts.partial_fit(X[:60], y)
    whole = regressor(shuffle=False, batch_size=30, **PLAIN).fit(X[:60], y)
    np.testing.assert_allclose(parts.predict(X[:60]), whole.predict(X[:60]), rtol=1e-9)
    np.testing.assert_allclose(parts.loss_curve_, whole.loss_curve_, rtol=1e-9)
    before = parts.model_.parameters.vector.copy()
    interrupt = on("batch_begin")(lambda run: 1 / run.recipe.get("no", 0))
    with pytest.raises(ZeroDivisionError):
        parts.set_params(callbacks=[interrupt]).partial_fit(X[:60], y)
    np.testing.assert_array_equal(parts.model_.parameters.vector, before)


def test_callbacks_of_a_regressor_see_standardised_numbers_and_a_saved_run_the_unit_of_y(tmp_path):
    y = NUMBERS[:, 0] * 1e3 + 1e6
    estimator = regressor(callbacks=[Checkpoint(folder=tmp_path / "kept")]).fit(X[:60], y)
    kept = load_model(latest(tmp_path / "kept")).predict(X[:60])
    mean, scale = by_hand(y)
    np.testing.assert_allclose(kept * scale + mean, estimator.predict(X[:60]), rtol=1e-12)
    save(estimator.run_, tmp_path / "fitted.safetensors")
    np.testing.assert_array_equal(
        load_model(tmp_path / "fitted.safetensors").predict(X[:60]), estimator.predict(X[:60])
    )


def test_a_resumed_run_of_a_regressor_keeps_the_unit_of_y():
    y = X[:, 0] * 1e3 + 1e6
    estimator = NeuralRegressor((8,), epochs=20, optimizer=PLAIN["optimizer"], random_state=0).fit(X, y)
    with pytest.warns(ResumeWarning, match="data"):
        run = estimator.trainer_.resume(estimator.run_, (X, y), (X, y), epochs=2)
    assert abs(run.model.predict(X).mean() - 1e6) < 1e4


def test_early_stopping_says_when_there_are_too_few_rows_to_hold_out():
    for estimator in (classifier(early_stopping=True), regressor(early_stopping=True)):
        with pytest.raises(ValueError, match=r"validation_fraction=0.2 of 2 rows.* or early_stopping=False"):
            estimator.fit(X[1:3], TWO[1:3])


def test_the_export_of_a_fitted_regressor_gives_the_unit_of_y(tmp_path):
    y = NUMBERS * [1000.0, 1.0] + [5000.0, 0.0]
    estimator = regressor(epochs=5).fit(X[:60], y)
    export_python(estimator.model_, tmp_path / "model.py")
    spec = spec_from_file_location("exported", tmp_path / "model.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    np.testing.assert_allclose(module.predict(X[:60]), estimator.predict(X[:60]), rtol=1e-9)


def test_regularizers_schedules_and_metrics_take_part():
    schedule = CosineSchedule(initial=0.1, length=3)
    estimator = regressor(
        regularizers=[L2(strength=0.1)], metrics=[R2()], optimizer=SGDOptimizer(learning_rate=schedule)
    )
    row = estimator.fit(X[:60], NUMBERS[:, 0]).run_.history[-1]
    assert row["penalty"] > 0
    assert row["learning_rate"] < 0.1
    assert np.isfinite(row["r2"])


@pytest.mark.parametrize("batch_size", [None, 7])
def test_rows_of_weight_0_are_as_if_they_were_not_there(batch_size):
    weight = np.where(Y == 2, 0.0, 1.0 + (X[:, 0] > 0))
    kept = weight > 0
    weighted = classifier(batch_size=batch_size).fit(X, Y, weight)
    without = classifier(batch_size=batch_size).fit(X[kept], Y[kept], weight[kept])
    assert weighted.classes_.tolist() == [0, 1]
    np.testing.assert_array_equal(weighted.predict_proba(X), without.predict_proba(X))


@pytest.mark.parametrize(("y", "loss"), [(Y, None), (TWO, None), (TWO, MeanSquaredError())])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.5, 2: 1.0}])
def test_class_weights_count_as_the_weights_of_rows(y, loss, class_weight):
    if class_weight != "balanced":
        class_weight = {name: class_weight[name] for name in np.unique(y)}
    settings = {"loss": loss, "batch_size": None, "epochs": 20} | PLAIN
    by_class = classifier(class_weight=class_weight, **settings).fit(X, y)
    by_row = classifier(**settings).fit(X, y, compute_sample_weight(class_weight, y))
    np.testing.assert_allclose(by_class.predict_proba(X), by_row.predict_proba(X), rtol=1e-4)


def test_balanced_weights_count_a_row_of_weight_2_as_two_rows():
    weight = np.where(X[:, 0] > 0, 2.0, 1.0)
    twice = np.repeat(np.arange(len(X)), weight.astype(int))
    settings = {"class_weight": "balanced", "batch_size": None}
    weighted = classifier(**settings).fit(X, Y, weight)
    repeated = classifier(**settings).fit(X[twice], Y[twice])
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-9)
    assert weighted.run_.loss_function == repeated.run_.loss_function
    expected = compute_class_weight("balanced", classes=np.arange(3), y=Y[twice])
    np.testing.assert_allclose(weighted.run_.loss_function.class_weights, expected)


def test_class_weights_and_sample_weights_multiply():
    weight, by_class = 1.0 + (X[:, 0] > 0), {0: 3.0, 1: 0.5}
    settings = {"loss": MeanSquaredError(), "batch_size": 20} | PLAIN
    both = classifier(class_weight=by_class, **settings).fit(X, TWO, weight)
    by_row = classifier(**settings).fit(X, TWO, weight * compute_sample_weight(by_class, TWO))
    np.testing.assert_array_equal(both.predict_proba(X), by_row.predict_proba(X))


def test_partial_fit_makes_one_pass_and_keeps_the_optimizers_memory():
    parts = classifier(shuffle=False, batch_size=30, **PLAIN)
    for _ in range(3):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    whole = classifier(shuffle=False, batch_size=30, **PLAIN).fit(X, Y)
    np.testing.assert_array_equal(parts.predict_proba(X), whole.predict_proba(X))
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == 3


def test_partial_fit_takes_other_rows_each_time_and_needs_no_class_of_them_all():
    estimator = classifier()
    for name in range(3):
        estimator.partial_fit(X[name == Y], Y[name == Y], classes=range(3))
    assert estimator.classes_.tolist() == [0, 1, 2]
    last = classifier(optimizer=RATE)
    for _ in range(20):
        last.partial_fit(X[Y == 2], Y[Y == 2], classes=range(3))
    assert np.mean(last.predict(X) == 2) > 0.9
    estimator.run_.optimizer.learning_rate = 0.25  # as a callback may
    assert estimator.partial_fit(X, Y).run_.optimizer.learning_rate == 0.25
    assert estimator.set_params(optimizer__learning_rate=0.5).partial_fit(X, Y).run_.optimizer.learning_rate == 0.5
    assert estimator.run_.history[-1]["learning_rate"] == 0.5
    assert regressor().partial_fit(X[:60], NUMBERS).partial_fit(X[:9], NUMBERS[:9]).n_iter_ == 2
    labels = classifier().partial_fit(X, LABELS).partial_fit(X, csr_array(LABELS))
    assert labels.predict(X).shape == LABELS.shape


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda e: e.set_params(hidden=(9,)),
            RuntimeError,
            "'hidden' was (6,) when the network was made, now it is (9,)",
        ),
        (lambda e: e.set_params(optimizer=RATE), RuntimeError, "was AdamOptimizer, now it is SGDOptimizer"),
        (lambda e: e.set_params(early_stopping=True), ValueError, "give early_stopping='auto' or False, not True"),
        (
            lambda e: e.set_params(optimizer__learning_rate=CosineSchedule(initial=0.1)),
            ValueError,
            "schedule a 'length'",
        ),
        (lambda e: e.set_params(class_weight="balanced"), ValueError, "not 'balanced'"),
        (lambda e: e.partial_fit(X, Y, classes=[0, 1]), ValueError, "those of the first call, [0, 1, 2]; got [0, 1]"),
        (
            lambda e: clone(e).partial_fit(X, LABELS).partial_fit(X, LABELS * 2),
            ValueError,
            "0 or 1 for each label; got 2",
        ),
        (lambda e: e.partial_fit(X, Y + 1), ValueError, "must hold the classes [0, 1, 2]; got 3 at row"),
        (lambda e: e.partial_fit(X[:, :3], Y), ValueError, "X has 3 features"),
        (lambda e: clone(e).partial_fit(X, Y), ValueError, "needs all classes in its first call"),
    ],
)
def test_partial_fit_refuses_what_does_not_continue_and_changes_nothing(change, error, message):
    estimator = classifier().partial_fit(X, Y, classes=[0, 1, 2])
    before = estimator.model_.parameters.vector.copy()
    with pytest.raises(error) as raised:
        change(estimator).partial_fit(X, Y)
    assert message in str(raised.value)
    np.testing.assert_array_equal(estimator.model_.parameters.vector, before)


@pytest.mark.parametrize(
    ("loss", "y", "output"),
    [
        (CrossEntropy(label_smoothing=0.1), TWO, Dense(6, 2, Softmax())),
        (BinaryCrossEntropy(), Y, Dense(6, 3, Sigmoid())),
        (MeanSquaredError(), Y, Dense(6, 3, Softmax())),
        (MeanSquaredError(), TWO, Neuron(6, Sigmoid())),
    ],
)
def test_any_loss_trains_probabilities_that_sum_to_1(loss, y, output):
    estimator = (
        classifier(loss=loss, epochs=30, optimizer__learning_rate=0.05) if False else classifier(loss=loss, epochs=60)
    )
    estimator.fit(X, y)
    assert repr(estimator.model_.layers[-1]) == repr(output)
    np.testing.assert_allclose(estimator.predict_proba(X).sum(axis=1), 1.0, rtol=1e-12)
    assert estimator.score(X, y) > 1.2 * max(np.bincount(y)) / len(y)


def test_margin_losses_give_scores():
    two = classifier(loss=Hinge(), output=Identity(), epochs=60).fit(X, TWO)
    np.testing.assert_array_equal(two.predict(X), (two.decision_function(X) > 0).astype(int))
    assert two.score(X, TWO) > 0.8
    assert not hasattr(two, "predict_proba")
    assert not hasattr(classifier(), "decision_function")
    three = classifier(loss=Hinge(), output=Identity(), epochs=60).fit(X, Y)
    np.testing.assert_array_equal(three.predict(X), three.decision_function(X).argmax(axis=1))
    assert three.score(X, Y) > 0.6


def test_a_regressor_predicts_counts():
    counts = np.random.default_rng(0).poisson(np.exp(X[:, 0]))
    estimator = regressor(loss=Poisson(), output=Softplus(), optimizer=RATE, epochs=60).fit(X, counts)
    assert np.all(estimator.predict(X) > 0)
    assert estimator.score(X, counts) > 0.2


def test_float32_rows_make_a_float32_network():
    estimator = classifier().fit(X.astype(np.float32), Y)
    assert estimator.model_.dtype == "float32"
    assert estimator.predict_proba(X).dtype == np.float32
    assert classifier(layers=[Dense(units=4, dtype="float32"), ReLU()]).fit(X, Y).model_.dtype == "float32"


def test_the_default_engine_compiles_and_gives_the_same_probabilities():
    compiled, interpreted = classifier().fit(X, Y), classifier(engine="numpy").fit(X, Y)
    assert (compiled.run_.engine, interpreted.run_.engine) == ("compiled", "numpy")
    np.testing.assert_allclose(compiled.predict_proba(X), interpreted.predict_proba(X), rtol=1e-9)


def test_without_a_seed_the_global_generator_of_numpy_gives_one():
    def fitted():
        np.random.seed(3)  # noqa: NPY002 (scikit-learn's convention for random_state=None)
        return classifier(random_state=None).fit(X, Y).predict_proba(X)

    state = np.random.get_state()  # noqa: NPY002
    try:
        np.testing.assert_array_equal(fitted(), fitted())
        once = classifier(random_state=np.random.RandomState(3)).fit(X, Y).predict_proba(X)
        np.testing.assert_array_equal(once, fitted())
    finally:
        np.random.set_state(state)  # noqa: NPY002


CODES = {
    "booleans": TWO > 0,
    "huge integers": np.where(TWO, np.uint64(2**64 - 1), np.uint64(2**63)),
    "floats": TWO * 0.0 + Y,
}
CODES |= {"categories": pd.Series(np.array(["b", "a"])[TWO], dtype="category"), "one column": TWO.tolist()}
CODES |= {"texts of pandas": pd.Series(np.array(["b", "a"])[TWO]), "polars": pl.Series(np.array(["b", "a"])[TWO])}


@pytest.mark.parametrize("name", CODES)
def test_classes_come_back_in_the_form_of_y(name):
    y = CODES[name]
    estimator = classifier(epochs=1).fit(X, y)
    assert estimator.classes_.tolist() == sorted(set(np.asarray(y).tolist()))
    assert set(estimator.predict(X).tolist()) <= set(np.asarray(y).tolist())


def hostile(name, params, x, y, message, **fit):
    return pytest.param(params, x, y, fit, message, id=name)


DATES = np.array(["2020-01-01"], "M8[D]").repeat(len(X))
MIXED = np.array([None, "a", "b"] * 40, object)


@pytest.mark.parametrize(
    ("params", "x", "y", "fit", "message"),
    [
        hostile("one class", {}, X, Y * 0, "needs 2 classes or more; got 1 class, 0"),
        hostile("one class of weight", {}, X, Y, "got 1 class, 1", sample_weight=Y == 1),
        hostile("no weight", {}, X, Y, "all 120 weights are zero", sample_weight=np.zeros(120)),
        hostile(
            "missing class", {}, X, MIXED, "y must hold classes of one type, and none that is missing; got NoneType"
        ),
        hostile("sparse rows", {}, csr_array(X), Y, "Use '.toarray()'"),
        hostile("dates", {}, DATES[:, None], Y, "got datetime64[D]"),
        hostile("a column of dates", {}, pd.DataFrame({"a": X[:, 0], "day": DATES}), Y, "'day'"),
        hostile("masked rows", {}, np.ma.masked_less(X, 0), Y, "masked"),
        hostile(
            "several columns of classes", {}, X, np.column_stack([Y, Y]), "sklearn.multioutput.MultiOutputClassifier"
        ),
        hostile("activation by name", {"activation": "relu"}, X, Y, "got 'relu'; write ReLU()"),
        hostile("loss by name", {"loss": "mse"}, X, Y, "NeuralClassifier: setting 'loss'"),
        hostile(
            "units", {"hidden": (0,)}, X, Y, "NeuralClassifier: setting 'hidden' must be greater than or equal to 1"
        ),
        hostile("fraction", {"validation_fraction": 1}, X, Y, "setting 'validation_fraction' must be less than 1"),
        hostile("a layer without a list", {"layers": ReLU()}, X, Y, "write [ReLU(...)]"),
        hostile("output for the loss", {"loss": Hinge()}, X, Y, "setting 'output': Hinge needs outputs of both signs"),
        hostile("output above 0", {"output": ReLU()}, X, Y, "must give probabilities, as Sigmoid does, or scores"),
        hostile("labels", {"loss": CrossEntropy()}, X, LABELS, "for several labels per row, setting 'loss'"),
        hostile("weights of labels", {"class_weight": "balanced"}, X, LABELS, "class_weight is for one class per row"),
        hostile(
            "negative class weight", {"class_weight": {0: -1, 1: 1, 2: 1}}, X, Y, "class_weight must not be negative"
        ),
        hostile("nothing held out", {"callbacks": [EarlyStopping()]}, X, Y, "set early_stopping=True, or call fit(X"),
        hostile("half of the held-out data", {}, X, Y, "X_val and y_val go together; got only X_val", X_val=X),
        hostile("unknown class", {}, X, Y, "y_val must hold the classes [0, 1, 2]; got 3", X_val=X, y_val=Y + 1),
        hostile("another word", {"early_stopping": "yes"}, X, Y, "NeuralClassifier: setting 'early_stopping'"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(params, x, y, fit, message):
    estimator = classifier(**params)
    with pytest.raises((ValueError, TypeError)) as raised:
        estimator.fit(x, y, **fit)
    assert message in str(raised.value)
    assert not hasattr(estimator, "model_")


def test_a_fit_that_is_refused_leaves_the_earlier_one():
    estimator = classifier().fit(pd.DataFrame(X, columns=list("abcde")), Y)
    before = estimator.predict_proba(pd.DataFrame(X, columns=list("abcde")))
    with pytest.raises(ValueError, match="1 class"):
        estimator.fit(X[:, :2], Y * 0)
    assert estimator.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_array_equal(estimator.predict_proba(pd.DataFrame(X, columns=list("abcde"))), before)
    unfitted = classifier()
    with pytest.raises(ValueError, match="1 class"):
        unfitted.fit(X, Y * 0)
    assert not hasattr(unfitted, "n_features_in_")


def test_predict_refuses_what_fit_refuses():
    estimator = classifier().fit(X, Y)
    for rows, message in ((np.ma.masked_less(X, 0), "masked"), (X[:, :3], "3 features"), (X * np.nan, "NaN")):
        with pytest.raises(ValueError, match=message):
            estimator.predict(rows)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "Arrow"])
@pytest.mark.parametrize(("values", "place"), [([1.0, None, 2.0], "row 1"), (["a", "b", "c"], "row 0: 'a'")])
def test_the_error_of_a_frame_names_the_column_and_the_row(frame, values, place):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the words are scikit-learn's)
        classifier().fit(frame({"size": [1.0, 2.0, 3.0], "age": values}), [0, 1, 0])
    assert f"is in column 'age', {place}" in raised.value.__notes__[0]


def test_layers_that_do_not_end_in_rows_of_numbers_are_refused_with_what_to_do():
    images = [Reshape((1, 5)), Conv1D(filters=2, kernel=2)]
    for y in (TWO, Y):
        with pytest.raises(ShapeError) as raised:
            classifier(layers=images).fit(X, y)
        assert "must end in rows of numbers, as after Flatten()" in raised.value.__notes__[0]
    assert classifier(layers=[*images, Flatten()]).fit(X, Y).predict(X).shape == (120,)


def test_the_error_of_held_out_rows_says_which_they_are():
    with pytest.raises(ValueError, match="X has 2 features") as raised:
        classifier().fit(X, Y, X_val=X[:, :2], y_val=Y)
    assert raised.value.__notes__ == ["in the validation data, X_val and y_val"]


def test_poisson_says_which_setting_to_give():
    with pytest.raises(FrameworkError, match=r"NeuralRegressor: setting 'output': Poisson .* Use Softplus"):
        regressor(loss=Poisson()).fit(X, TWO)


def test_a_loss_of_several_outputs_is_refused():
    for estimator in (
        classifier(loss=OutputLosses(a=CrossEntropy())),
        regressor(loss=OutputLosses(a=MeanSquaredError())),
    ):
        with pytest.raises(FrameworkError, match="setting 'loss' must be a loss of one output; got OutputLosses"):
            estimator.fit(X, Y)


def test_read_only_rows_and_foreign_memory_orders_are_taken():
    expected = classifier().fit(X, Y).predict_proba(X)
    frozen = X.copy()
    frozen.setflags(write=False)
    for form in (frozen, np.asfortranarray(X), X.astype(">f8"), X.tolist(), np.repeat(X, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(classifier().fit(form, Y).predict_proba(form), expected)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    spec = spec_from_file_location("imported_again", framework.sklearn.__file__)
    with pytest.raises(ImportError, match=r"framework\.sklearn needs scikit-learn 1.6 or newer: pip install"):
        spec.loader.exec_module(module_from_spec(spec))


def test_waves_of_the_columns_do_not_depend_on_their_unit():
    size, shift = 10.0 ** np.arange(-3, 2), np.array([0.0, 5.0, -3.0, 1e3, 1.0])
    still = SGDOptimizer(learning_rate=1e-300)
    waves = []
    for rows in (X[:60], X[:60] * size + shift):
        model = regressor(epochs=1, optimizer=still).fit(rows, NUMBERS[:, 0]).model_
        assert model.parameters["0.frequency"].shape == (5, 16)
        waves.append(np.cos(rows[:, :, None] * model.parameters["0.frequency"] + model.parameters["0.phase"]))
    np.testing.assert_allclose(waves[1], waves[0], atol=1e-9)


def test_columns_of_two_values_get_no_waves():
    rows = np.column_stack([X[:, 0] > 0, X[:, 1], X[:, 2] * 0])
    assert classifier().fit(rows, Y).model_.layers[0].numbers == (False, True, False)
    assert len(classifier().fit(rows[:, ::2], Y).model_.layers) == 2
    assert len(classifier(hidden=()).fit(rows, Y).model_.layers) == 1  # a linear model
    assert len(classifier().partial_fit(rows, Y, classes=range(3)).model_.layers) == 2  # later rows may differ


def test_the_default_loss_is_calibrated_where_enough_rows_judge_it():
    rows, y = make_classification(2600, 4, n_informative=3, n_redundant=0, flip_y=0.2, random_state=0)
    made = NeuralClassifier(epochs=3, random_state=0).fit(rows, y)
    best = min(made.run_.history.rows, key=lambda row: row["val_refined_loss"])
    held_out = rows[2000:], y[2000:]
    given = NeuralClassifier(epochs=3, random_state=0).fit(rows[:2000], y[:2000], X_val=held_out[0], y_val=held_out[1])
    figure = min(row["val_refined_loss"] for row in given.run_.history.rows)
    assert log_loss(held_out[1], given.predict_proba(held_out[0])) == pytest.approx(figure, rel=1e-3)
    assert best["val_refined_loss"] <= best["val_loss"]
    weighted = NeuralClassifier(epochs=2, class_weight="balanced", random_state=0).fit(rows, y)
    assert "val_refined_loss" not in weighted.run_.history[-1]


def test_none_and_auto_take_more_rows_in_fewer_and_larger_steps():
    layouts = {}
    for rows in (60, 2_400, 12_000):
        made = NeuralRegressor((1,), random_state=0, early_stopping=False)
        made.fit(np.resize(X, (rows, 5)), np.resize(X[:, 0], rows))
        layouts[rows] = made.n_iter_, made.trainer_.batch_size
    assert layouts == {60: (200, 64), 2_400: (40, 64), 12_000: (40, 256)}


def test_columns_of_a_tiny_scale_have_waves_that_do_not_overflow():
    tiny = (X * 1e-40).astype(np.float32)
    assert np.isfinite(classifier().fit(tiny, Y).model_.parameters.vector).all()
