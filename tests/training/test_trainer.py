"""The loop: what it computes, what it reports and what it refuses."""

import math

import numpy as np
import pytest
from training_pieces import EPOCHS, HELD_OUT, X, Y, network, recipe

from framework import (
    L2,
    Accuracy,
    BatchNorm,
    BinaryCrossEntropy,
    Callback,
    Checkpoint,
    CrossEntropy,
    DataError,
    Dense,
    DivergedError,
    EarlyStopping,
    HalfSquaredError,
    Identity,
    MeanSquaredError,
    Metric,
    Neuron,
    ProgressBar,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
)
from framework.formulas import RootMeanSquaredError
from framework.training import ReduceOnPlateau


def test_settings_that_are_not_given():
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))
    assert (trainer.epochs, trainer.batch_size, trainer.accumulate, trainer.seed) == (1, 32, 1, 0)
    assert (trainer.shuffle, trainer.engine) == (True, "numpy")
    assert trainer.metrics == trainer.regularizers == trainer.callbacks == ()


def test_fit_is_the_loop_that_one_writes_by_hand():
    trained, model = network(), network()
    recipe(shuffle=False).fit(trained, (X, Y))
    loss, optimizer = BinaryCrossEntropy(), SGDOptimizer(model, learning_rate=0.1, momentum=0.9)
    for _ in range(EPOCHS):
        for rows in (slice(0, 4), slice(4, 8), slice(8, 11)):
            model.forward(X[rows])
            loss.backward(model, Y[rows])
            optimizer.step()
    assert np.array_equal(trained.parameters.vector, model.parameters.vector)


def test_fit_trains_from_the_current_weights_with_new_memory():
    model = network()
    first = recipe().fit(model, (X, Y))
    before = model.parameters.vector.copy()
    second = recipe(epochs=1, optimizer=SGDOptimizer(learning_rate=1e-300)).fit(model, (X, Y))
    assert np.array_equal(model.parameters.vector, before)
    assert (first.step, second.step) == (9, 3)
    assert first.optimizer is not second.optimizer


def test_each_epochs_figures_weigh_batches_by_their_rows():
    still = recipe(epochs=2, optimizer=SGDOptimizer(learning_rate=1e-300), metrics=[Accuracy(), RootMeanSquaredError()])
    model = network()
    for data in ((X, Y), (X, Y, np.arange(11.0))):
        expected = still.evaluate(model, data)
        assert expected["loss"] == pytest.approx(BinaryCrossEntropy()(model(X)[:, 0], *data[1:]), rel=1e-14)
        for row in still.fit(model, data).history:
            assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-14)


def test_rows_hold_plain_numbers_under_keras_keys():
    run = recipe(metrics=[Accuracy(), MeanSquaredError()]).fit(network(), (X, Y), HELD_OUT)
    figures = ["loss", "accuracy", "mean_squared_error"]
    assert list(run.history[-1]) == ["epoch", *figures, *(f"val_{key}" for key in figures), "learning_rate", "seconds"]
    assert [type(value) for value in run.history[-1].values()] == [int] + [float] * 8
    assert {type(value) for value in recipe().evaluate(run.model, HELD_OUT).values()} == {float}


def test_float32_gives_plain_floats_too():
    run = recipe().fit(Neuron(2, Sigmoid(), dtype="float32"), (X, Y), HELD_OUT)
    assert {type(value) for value in run.history[-1].values()} == {int, float}
    assert type(run.loss) is float


class Mean(Metric):
    def sums(self, prediction, target, weight=None):
        return np.sum(prediction), np.float32(np.nan)

    def result(self, total, count):
        return total / count


def test_what_is_not_finite_is_recorded_as_it_is():
    model = Neuron.from_weights([1.0], activation=Identity())
    still = recipe(loss=MeanSquaredError(), metrics=[Mean()], optimizer=SGDOptimizer(learning_rate=1e-300), epochs=2)
    run = still.fit(model, ([[1.0]], [1.0]), ([[1e200]], [0.0]))
    assert run.epoch == 2
    assert run.history[0]["val_loss"] == math.inf
    assert math.isnan(run.history[0]["mean"])
    assert type(run.history[0]["mean"]) is float


def test_validation_figures_are_those_of_evaluate():
    run = recipe().fit(network(), (X, Y), (*HELD_OUT, np.arange(5)))
    expected = recipe().evaluate(run.model, (*HELD_OUT, np.arange(5)))
    assert expected == {"loss": run.history[-1]["val_loss"], "accuracy": run.history[-1]["val_accuracy"]}


def test_evaluation_in_parts_is_evaluation_at_once(monkeypatch):
    model = network()
    whole, predictions = recipe().evaluate(model, (X, Y)), recipe().predict(model, X)
    monkeypatch.setattr("framework.models.rows.EVALUATION_ROWS", 4)
    assert recipe().evaluate(model, (X, Y)) == pytest.approx(whole, rel=1e-14)
    assert recipe().predict(model, X) == pytest.approx(predictions, rel=1e-14)


@pytest.mark.parametrize(
    ("loss", "activation", "y"), [(BinaryCrossEntropy(), Sigmoid(), [[0, 1]]), (CrossEntropy(), Softmax(), [1])]
)
def test_a_saturated_network_has_a_finite_loss_in_evaluation_too(loss, activation, y):
    model = Dense.from_weights([[800.0, -800.0]], activation=activation)
    trainer = recipe(loss=loss, metrics=(), epochs=1, optimizer=SGDOptimizer(learning_rate=1e-300))
    assert math.isfinite(trainer.evaluate(model, ([[1.0]], y))["loss"])
    row = trainer.fit(model, ([[1.0]], y), ([[1.0]], y)).history[0]
    assert row["loss"] == row["val_loss"] == trainer.evaluate(model, ([[1.0]], y))["loss"]


@pytest.mark.parametrize(("model", "shape"), [(Neuron(2), (0,)), (Dense(2, 3), (0, 3)), (network(), (0, 1))])
def test_no_rows_give_no_predictions(model, shape):
    assert recipe().predict(model, np.empty((0, 2))).shape == shape


def test_predictions_are_the_callers_own():
    model, x = Sequential(Dense(2, 2)), X.copy()
    first = recipe().predict(model, x)
    kept = first.copy()
    recipe().predict(model, -x)
    first += 1.0
    assert np.array_equal(recipe().predict(model, x), kept)
    assert np.array_equal(x, X)


@pytest.mark.parametrize("callback", [EarlyStopping(monitor="val_los"), ProgressBar(keys=("val_los",))])
def test_a_monitor_that_will_be_missing_is_refused_before_training(callback):
    model = network()
    before = model.parameters.vector.copy()
    expected = (
        "reads 'val_los', which the history will not have; did you mean 'val_loss'. Columns: "
        "epoch, loss, accuracy, val_loss, val_accuracy, learning_rate, seconds"
    )
    with pytest.raises(SettingsError, match=expected):
        recipe(callbacks=[callback]).fit(model, (X, Y), HELD_OUT)
    assert np.array_equal(model.parameters.vector, before)


def test_a_validation_monitor_needs_validation_data():
    with pytest.raises(SettingsError, match=r"'val_loss', .*; give fit validation=\(x, y\)\. Columns: epoch, loss"):
        recipe(callbacks=[EarlyStopping()]).fit(network(), (X, Y))


def test_recipes_that_cannot_work_are_refused():
    with pytest.raises(SettingsError, match="'optimizer' must not be bound"):
        recipe(optimizer=SGDOptimizer(network(), learning_rate=0.1))
    with pytest.raises(SettingsError, match="different names; got 'accuracy' twice"):
        recipe(metrics=[Accuracy(), Accuracy(threshold=0.7)])
    with pytest.raises(SettingsError, match="BinaryCrossEntropy needs outputs in"):  # it would report NaN
        recipe(loss=MeanSquaredError(), metrics=[BinaryCrossEntropy()]).fit(Neuron(2), (X, Y))
    with pytest.raises(SettingsError, match=r"write EarlyStopping\(\) with its brackets"):
        recipe(callbacks=[EarlyStopping])
    for call in (recipe().fit, recipe().evaluate):
        with pytest.raises(SettingsError, match="'model' must be a Model; got"):
            call(Neuron, (X, Y))


def test_divergence_stops_before_the_bad_update_and_keeps_the_run():
    model = Neuron.from_weights([1.0])
    trainer = recipe(loss=MeanSquaredError(), metrics=(), epochs=1000, optimizer=SGDOptimizer(learning_rate=1e6))
    with pytest.raises(DivergedError, match="loss is not finite, first at row") as caught:
        trainer.fit(model, (X[:, :1], Y))
    run = caught.value.run
    assert caught.value.__notes__[0] == f"in epoch {run.epoch + 1}, step {run.step + 1}: the loss is inf"
    assert np.isfinite(model.parameters.vector).all()
    assert all(math.isfinite(row["loss"]) for row in run.history)
    assert run.consistent


def test_hooks_that_nobody_overrides_are_not_called():
    class Two(Callback):
        def on_epoch_end(self, run):
            pass

        def on_gradients(self, run):
            pass

    assert set(Two().hooks()) == {"on_epoch_end", "on_gradients"}
    assert Callback().hooks() == {}
    assert set(ProgressBar().hooks()) == {"on_train_begin", "on_train_end"}


def test_an_epoch_in_which_every_weight_is_zero_is_refused():
    class Data:
        def __len__(self):
            return 11

        def read(self, start, stop):
            return X[start:stop], Y[start:stop], np.zeros(stop - start)

    with pytest.raises(DataError, match="needs a row of positive weight"):
        recipe().fit(network(), Data())


@pytest.mark.parametrize(
    "inside",
    [lambda: Sequential(Dense(2, 2), BatchNorm(2)), lambda: Residual(BatchNorm(2))],
    ids=["in a sequence", "in a residual"],
)
def test_a_last_batch_too_small_for_a_layer_is_refused_at_fit(inside):
    model, x = inside(), np.ones((5, 2))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), batch_size=4)
    with pytest.raises(ShapeError, match="5 rows in batches of 4 leave a last batch of 1, and the model needs 2 rows"):
        trainer.fit(model, (x, x))
    assert trainer.replace(batch_size=3).fit(model, (x, x)).step == 2


def test_an_argument_that_fit_does_not_have_is_refused_with_the_one_that_was_meant():
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(SettingsError, match=r"unknown argument .validation_data.; did you mean .validation."):
        trainer.fit(Neuron(1), ([[1.0]], [1.0]), validation_data=([[1.0]], [1.0]))
    with pytest.raises(SettingsError, match="fit: argument 'run' must be a Run or None; got 3"):
        trainer.fit(Neuron(1), ([[1.0]], [1.0]), run=3)


@pytest.mark.parametrize(
    "callback",
    [
        EarlyStopping(monitor="val_accuracy"),
        ReduceOnPlateau(monitor="accuracy"),
        Checkpoint(folder="never", monitor="val_accuracy"),
    ],
    ids=lambda callback: type(callback).__name__,
)
def test_a_callback_that_takes_the_worst_for_the_best_is_refused(callback, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SettingsError, match=r"accuracy' by mode='min', but it is better when it is greater; write mode"
    ):
        recipe(metrics=[Accuracy()], callbacks=[callback]).fit(Neuron(2, Sigmoid()), (X, Y), HELD_OUT)
    right = callback.replace(mode="max")
    assert recipe(metrics=[Accuracy()], callbacks=[right]).fit(Neuron(2, Sigmoid()), (X, Y), HELD_OUT).epoch == EPOCHS


@pytest.mark.parametrize("monitor", ["loss", "val_loss", "penalty", "half_squared_error", "val_half_squared_error"])
def test_a_callback_that_takes_the_largest_loss_for_the_best_is_refused(monitor):
    stopping = EarlyStopping(monitor=monitor, mode="max")
    trainer = recipe(metrics=[HalfSquaredError()], regularizers=[L2(strength=0.1)], callbacks=[stopping])
    with pytest.raises(SettingsError, match=rf"'{monitor}' by mode='max', but it is better when it is smaller"):
        trainer.fit(Neuron(2, Sigmoid()), (X, Y), HELD_OUT)
