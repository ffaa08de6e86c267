"""Metrics that need all rows, regularizers, and buffers, as the Trainer uses them."""

import numpy as np
import pytest
from left_out import hooks_differ
from sklearn.metrics import roc_auc_score

from framework import (
    L2,
    Accuracy,
    AdamOptimizer,
    AdamWOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Dense,
    DivergedError,
    Dropout,
    MeanSquaredError,
    Neuron,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Trainer,
    on,
)
from framework.formulas import ROCAUC
from framework.training import AdadeltaOptimizer, AdagradOptimizer, NAdamOptimizer, RMSPropOptimizer

rng = np.random.default_rng(0)
X = rng.normal(size=(41, 3))
Y = (X @ [1.0, -2.0, 0.5] + rng.normal(size=41) > 0).astype(float)
TRAINER = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=3, batch_size=8)


def test_a_metric_of_all_rows_is_found_in_validation_and_evaluation():
    trainer = TRAINER.replace(metrics=(Accuracy(), ROCAUC()))
    model = Neuron(3, Sigmoid())
    row = trainer.fit(model, (X, Y), (X[:20], Y[:20])).history[-1]
    assert row["val_rocauc" if "val_rocauc" in row else f"val_{ROCAUC().key}"] == pytest.approx(
        roc_auc_score(Y[:20], model(X[:20]))
    )
    assert ROCAUC().key not in row
    assert trainer.evaluate(model, (X, Y))[ROCAUC().key] == pytest.approx(roc_auc_score(Y, model(X)))


def test_a_metric_of_all_rows_needs_validation_data():
    with pytest.raises(SettingsError, match="needs all rows at once"):
        TRAINER.replace(metrics=(ROCAUC(),)).fit(Neuron(3, Sigmoid()), (X, Y))


def test_a_regularizer_is_the_coupled_weight_decay_and_is_reported_apart_from_the_loss():
    models = [Neuron(3, Sigmoid()), Neuron(3, Sigmoid())]
    for model in models:
        model.parameters.freeze("bias")
    run = TRAINER.replace(regularizers=(L2(strength=0.1),)).fit(models[0], (X, Y))
    TRAINER.replace(optimizer=SGDOptimizer(learning_rate=0.5, weight_decay=0.1)).fit(models[1], (X, Y))
    np.testing.assert_allclose(models[0].weights, models[1].weights, rtol=1e-12)
    assert run.history[-1]["penalty"] == pytest.approx(0.05 * np.sum(models[0].weights ** 2))
    assert "penalty" not in TRAINER.fit(Neuron(3, Sigmoid()), (X, Y)).history[-1]


def test_a_regularizer_that_matches_no_parameter_is_refused_before_training():
    model = Neuron(3, Sigmoid())
    before = model.parameters.vector.copy()
    with pytest.raises(SettingsError, match="weights, bias"):
        TRAINER.replace(regularizers=(L2(strength=0.1, parameters="0.*"),)).fit(model, (X, Y))
    assert np.array_equal(model.parameters.vector, before)


@hooks_differ
def test_buffers_go_back_when_the_step_was_not_made():
    def model():
        return Sequential(Dense(3, 4), BatchNorm(units=4), Dense(4, 1, Sigmoid()))

    @on("gradients")
    def fail(run):
        if run.step == 7:
            raise OSError("the disk is full")

    straight = TRAINER.fit(model(), (X[:40], Y[:40]))
    with pytest.raises(OSError, match="disk is full") as caught:
        TRAINER.replace(callbacks=(fail,)).fit(model(), (X[:40], Y[:40]))
    run = TRAINER.resume(caught.value.run, (X[:40], Y[:40]))
    assert np.array_equal(run.model.parameters.vector, straight.model.parameters.vector)
    for name, array in straight.model.buffers.items():
        assert np.array_equal(run.model.buffers[name], array), name


def test_a_layer_that_keeps_its_shape_does_not_hide_a_mismatch():
    with pytest.raises(ShapeError, match=r"layer 1 gives \(8,\) but layer 2 takes \(9,\)"):
        Sequential(Dense(4, 8), Dropout(rate=0.5), Dense(9, 1))
    assert Sequential(Dense(4, 8), Dropout(rate=0.5)).output_shape == (8,)


@pytest.mark.parametrize(
    "kind",
    [AdamOptimizer, AdamWOptimizer, NAdamOptimizer, RMSPropOptimizer, AdagradOptimizer, AdadeltaOptimizer],
)
def test_a_gradient_whose_square_overflows_is_refused_by_optimizers_that_square_it(kind):
    neuron = Neuron.from_weights([1.0], dtype="float32")
    optimizer = kind(neuron, learning_rate=0.1)
    neuron.parameters.gradient[:] = 1e20
    with pytest.raises(DivergedError, match="square overflows float32"):
        optimizer.step()
    assert neuron.weights[0] == 1.0
    clipped = kind(neuron, learning_rate=0.1, clip_value=1.0)
    clipped.step()
    assert neuron.weights[0] != 1.0


def test_a_column_of_the_history_is_found_by_its_name():
    run = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2).fit(Neuron(3), (X, Y))
    assert run.history["loss"] == [row["loss"] for row in run.history]
