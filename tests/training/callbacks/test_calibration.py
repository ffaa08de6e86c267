"""RestoreBest, and the metrics RefinedLoss and Temperature against scipy's minimum of the log loss."""

import runpy

import numpy as np
import onnxruntime
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax, softmax

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    EarlyStopping,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    export_onnx,
    export_python,
    load,
    load_model,
    on,
    save,
)
from framework.formulas import RefinedLoss, Temperature
from framework.training import RestoreBest
from framework.training.runs.contents import epoch_of_weights

RNG = np.random.default_rng(0)
H = RNG.normal(size=(200, 3)) * 4
LABELS = np.where(RNG.random(200) < 0.5, H.argmax(axis=1), RNG.integers(0, 3, 200))
WEIGHT = RNG.random(200)
X = RNG.normal(size=(240, 6))
CLASSES = np.where(RNG.random(240) < 0.3, RNG.integers(0, 3, 240), np.digitize(X[:, 0] * X[:, 1], [-0.3, 0.3]))
CALIBRATING = RestoreBest(monitor="val_refined_loss", calibrate=True)


def mean_loss(h, labels, weight=None):
    return np.average(-log_softmax(h, axis=1)[np.arange(len(h)), labels], weights=weight)


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_the_temperature_has_the_least_log_loss(weight):
    best = minimize_scalar(lambda t: mean_loss(H / t, LABELS, weight), bounds=(0.25, 8), options={"xatol": 1e-10})
    p = softmax(H, axis=1)
    assert Temperature()(p, LABELS, weight) == pytest.approx(best.x, rel=1e-5)
    assert RefinedLoss()(p, LABELS, weight) == pytest.approx(best.fun, rel=1e-9)


def test_the_temperature_of_one_output_is_that_of_its_logit():
    h, y = H[:, 0], (LABELS == 0).astype(float)
    loss = lambda t: -np.mean(np.where(y == 1, log_expit(h / t), log_expit(-h / t)))  # noqa: E731
    best = minimize_scalar(loss, bounds=(0.25, 8), options={"xatol": 1e-10})
    p = 1 / (1 + np.exp(-h))
    for prediction in (p, p[:, None]):
        assert Temperature()(prediction, y) == pytest.approx(best.x, rel=1e-5)
        assert RefinedLoss()(prediction, y) == pytest.approx(best.fun, rel=1e-9)


def test_certain_predictions_have_a_finite_figure_within_the_range():
    assert Temperature()([[1.0, 0.0], [0.0, 1.0]], [0, 1]) == pytest.approx(0.25, rel=1e-6)
    assert Temperature()([1.0, 0.0], [0, 1]) == pytest.approx(8.0, rel=1e-6)
    assert 0.693 < RefinedLoss()([1.0, 0.0, 1.0, 0.0], [0, 1, 1, 0]) < 1.5


@pytest.mark.parametrize("prediction", [np.full((4, 3), 1 / 3), np.full(4, 0.5)])
def test_equal_probabilities_have_the_temperature_1(prediction):
    assert Temperature()(prediction, [0, 1, 1, 0]) == 1.0
    assert RefinedLoss()(prediction, [0, 1, 1, 0]) == pytest.approx(-np.log(prediction.ravel()[0]), rel=1e-9)


def test_numbers_that_are_no_probabilities_are_refused():
    with pytest.raises(DataError, match=r"RefinedLoss needs probabilities, as Softmax and Sigmoid give them"):
        RefinedLoss()(H, LABELS)


def network(last=None, seed=0):
    end = (Dense(units=3), Softmax()) if last is None else (last,)
    return Sequential(Dense(units=64, activation=ReLU()), Sequential(*end), seed=seed)


def trainer(*callbacks, **settings):
    return Trainer(
        loss=CrossEntropy(),
        optimizer=AdamOptimizer(learning_rate=0.02),
        epochs=40,
        metrics=[RefinedLoss(), Temperature()],
        callbacks=callbacks,
        **settings,
    )


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
@pytest.mark.parametrize("last", [None, lambda: Dense(units=3, activation=Softmax())])
def test_the_model_of_the_best_epoch_is_calibrated(engine, last, tmp_path):
    data, held_out = (X[:160], CLASSES[:160]), (X[160:], CLASSES[160:])
    make = lambda: network(last and last())  # noqa: E731
    training = trainer(CALIBRATING, engine=engine)
    run = training.fit(make(), data, held_out)
    best = min(run.history.rows, key=lambda row: row["val_refined_loss"])
    assert run.epoch == 40
    assert best["val_temperature"] > 1.2  # else there is nothing to see
    figures = training.evaluate(run.model, held_out)
    assert figures["temperature"] == pytest.approx(1.0, rel=1e-6)
    assert figures["loss"] == pytest.approx(best["val_refined_loss"], rel=1e-6)
    plain = trainer(engine=engine).fit(make(), data, held_out, epochs=best["epoch"]).model
    np.testing.assert_allclose(
        run.model(X), softmax(np.log(plain(X)) / best["val_temperature"], axis=1), rtol=1e-9, atol=1e-12
    )
    save(run, tmp_path / "run")
    assert epoch_of_weights(load(tmp_path / "run")) == best["epoch"] < 40
    assert np.array_equal(load_model(tmp_path / "run")(X), run.model(X))
    export_python(run.model, tmp_path / "model.py")
    np.testing.assert_allclose(runpy.run_path(tmp_path / "model.py")["predict"](X), run.model(X), rtol=1e-9)
    export_onnx(run.model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(found, run.model(X), rtol=1e-9)


def test_a_sigmoid_is_calibrated_too():
    y = (CLASSES > 0).astype(float)
    training = trainer(CALIBRATING).replace(loss=BinaryCrossEntropy())
    run = training.fit(network(Neuron(activation=Sigmoid())), (X[:160], y[:160]), (X[160:], y[160:]))
    assert training.evaluate(run.model, (X[160:], y[160:]))["temperature"] == pytest.approx(1.0, rel=1e-6)


def test_many_models_are_calibrated_each_by_its_own_temperature():
    data, held_out = (X[:160], CLASSES[:160]), (X[160:], CLASSES[160:])
    training = trainer(CALIBRATING, engine="compiled")
    for run in training.fit_many([network(seed=seed) for seed in (0, 1)], data, held_out):
        assert training.evaluate(run.model, held_out)["temperature"] == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("stop", [122, 125])  # within an epoch, or at its end
@pytest.mark.parametrize("callback", [CALIBRATING, EarlyStopping(patience=100, restore_best=True)])
def test_a_run_that_is_resumed_equals_one_that_was_not_stopped(callback, stop, tmp_path):
    data, held_out = (X[:160], CLASSES[:160]), (X[160:], CLASSES[160:])
    training = trainer(callback, on("batch_end")(lambda run: run.stop("over") if run.step == 122 == stop else None))
    whole = trainer(callback).fit(network(), data, held_out)
    save(training.fit(network(), data, held_out, epochs=25), tmp_path / "run")
    stopped = load(tmp_path / "run")
    assert stopped.step == stop
    stopped.stop_reason = None
    resumed = training.resume(stopped, data, held_out, epochs=40 - stopped.epoch)
    assert resumed.model.parameters.vector.tobytes() == whole.model.parameters.vector.tobytes()
    assert resumed.history.columns()["val_loss"].tobytes() == whole.history.columns()["val_loss"].tobytes()


@pytest.mark.parametrize("callback", [CALIBRATING, EarlyStopping(patience=100, restore_best=True)])
def test_a_resume_keeps_the_weights_that_the_user_has_set(callback):
    training = trainer(callback).replace(optimizer=SGDOptimizer(learning_rate=1e-300))
    run = training.fit(network(), (X, CLASSES), validation=0.2, epochs=3)
    run.model.parameters.vector[:] = 0.5
    training.resume(run, (X, CLASSES), validation=0.2, epochs=1)
    assert run.memory(callback)["last"]["values"].tolist() == [0.5] * run.model.parameters.vector.size


def test_without_calibration_it_restores_what_early_stopping_restores():
    data, held_out = (X[:160], CLASSES[:160]), (X[160:], CLASSES[160:])
    models = [
        trainer(callback).fit(network(), data, held_out).model
        for callback in (RestoreBest(), EarlyStopping(patience=100, restore_best=True))
    ]
    assert models[0].parameters.vector.tobytes() == models[1].parameters.vector.tobytes()


@pytest.mark.parametrize(
    "layers",
    [
        (Dense(6, 3, Tanh()), Softmax()),
        (Dense(6, 3, Softmax()), Softmax()),
        (Dense(6, 3), Softmax(), Sequential(Softmax())),
    ],
)
def test_a_model_whose_last_numbers_cannot_be_divided_is_refused(layers):
    with pytest.raises(SettingsError, match="'calibrate' divides the numbers before a Softmax"):
        trainer(CALIBRATING).fit(Sequential(*layers), (X, CLASSES), validation=0.2)


def test_the_missing_temperature_is_named():
    training = trainer(CALIBRATING).replace(metrics=[RefinedLoss()])
    message = "RestoreBest reads 'val_temperature', which the history will not have; "
    with pytest.raises(SettingsError, match=f"{message}add Temperature to the trainer's metrics"):
        training.fit(network(), (X, CLASSES), validation=0.2)


def test_two_callbacks_that_restore_weights_are_refused():
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=AdamOptimizer(),
        callbacks=[RestoreBest(monitor="loss"), EarlyStopping(monitor="loss", restore_best=True)],
    )
    model = Sequential(Dense(units=3, activation=Softmax()))
    with pytest.raises(SettingsError, match=r"RestoreBest and EarlyStopping put weights back.* restore_best=False"):
        trainer.fit(model, (X, CLASSES))
