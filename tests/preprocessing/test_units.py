"""Metrics of a number are in the unit of the target, whatever the steps of its Preprocess are."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    mean_absolute_error,
    median_absolute_error,
    r2_score,
    root_mean_squared_error,
)

from framework import (
    R2,
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    DataError,
    Dense,
    Heads,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Neuron,
    Preprocess,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Standardize,
    Trainer,
)
from framework.formulas import OutputLosses, OutputMetric, RootMeanSquaredError
from framework.preprocessing import Bounds, Classes, Log, MinMax, QuantileTransform
from framework.training import DataParallel

RNG = np.random.default_rng(0)
ROWS = 120
TABLE = pd.DataFrame({"x": RNG.normal(size=ROWS), "z": RNG.normal(size=ROWS)})
TABLE["price"] = np.exp(3 + TABLE["x"] + 0.1 * RNG.normal(size=ROWS))
TABLE["late"] = TABLE["x"] + RNG.normal(size=ROWS) > 0
WEIGHTS = RNG.integers(1, 4, ROWS).astype(float)


def median_error(prediction, target):
    return np.median(np.abs(prediction - target))


METRICS = (MeanAbsoluteError(), RootMeanSquaredError(), R2())
ORACLES = (mean_absolute_error, root_mean_squared_error, r2_score)
STILL = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-300), metrics=METRICS, batch_size=50)
"""Its weights do not change, so that the figures of an epoch are those of the model."""


def recipe(*steps, **more):
    return Preprocess(columns={"x": [Standardize()], "z": []}, target={"price": [*steps], **more})


def expected(model, weight=None):
    predictions = model.predict(TABLE)
    predictions = predictions["price"] if isinstance(predictions, dict) else predictions
    return [oracle(TABLE["price"], predictions, sample_weight=weight) for oracle in ORACLES]


def test_bounds_hold_predictions_and_leave_targets_as_they_are():
    table = pd.DataFrame({"x": [-9.0, 0.0, 1.0, 2.0, 50.0], "y": [-4.0, 0.0, 1.0, 2.0, 70.0]})
    steps = Preprocess(columns={"x": []}, target=[Bounds(), Standardize()])
    trainer = Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=0.1),
        epochs=400,
        preprocess=steps,
        metrics=[RootMeanSquaredError(), Metric.of(median_error)],
    )
    model = Neuron()
    run = trainer.fit(model, (table[1:4], "y"), (table, "y"))
    np.testing.assert_allclose(model.predict(table), [0.0, 0.0, 1.0, 2.0, 2.0], atol=1e-6)
    errors = np.array([4.0, 0.0, 0.0, 0.0, 68.0])
    assert run.history[-1]["val_root_mean_squared_error"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-6)
    assert run.history[-1]["val_median_error"] == pytest.approx(0.0, abs=1e-6)  # of a whole metric
    assert type(model.preprocess).from_json(model.preprocess.to_json()) == model.preprocess


@pytest.mark.parametrize(
    "steps", [[Standardize()], [Log(), Standardize()], [MinMax()], [QuantileTransform(119)], [Bounds(), Log()]], ids=str
)
def test_metrics_are_scikit_learns_of_the_predictions(steps):
    trainer = STILL.replace(preprocess=recipe(*steps), metrics=[*METRICS, Metric.of(median_error)])
    model, data = Neuron(seed=3), (TABLE[["x", "z", "price"]], "price")
    row = trainer.fit(model, data, data).history[-1]
    figures = trainer.evaluate(model, data)
    keys = [metric.key for metric in METRICS]
    for found in ([row[key] for key in keys], [row[f"val_{key}"] for key in keys], [figures[key] for key in keys]):
        np.testing.assert_allclose(found, expected(model), rtol=1e-9)
    assert figures["median_error"] == pytest.approx(median_absolute_error(TABLE["price"], model.predict(TABLE)))
    changed = model.preprocess.transform_target(TABLE["price"])
    outputs = model(model.preprocess.transform(TABLE))
    assert figures["loss"] == pytest.approx(np.mean((outputs - changed) ** 2))  # of what is trained
    after = ", ".join(type(step).__name__ for step in steps)
    assert model.preprocess.unit == f"The loss is of 'price' after {after}; the metrics are in the unit of 'price'."


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("engine", ["compiled", "jax", "sharded"])
def test_every_engine_gives_the_figures_of_numpy(engine):
    trainer = STILL.replace(preprocess=recipe(Log(), Standardize()), optimizer=AdamOptimizer(learning_rate=0.1))
    other = trainer.replace(strategy=DataParallel(shards=3)) if engine == "sharded" else trainer.replace(engine=engine)
    data = (TABLE[["x", "z", "price"]], "price", WEIGHTS)
    rows = [each.fit(Neuron(seed=3), data, data, epochs=2).history[-1] for each in (trainer, other)]
    for key in rows[0].keys() - {"seconds"}:
        assert rows[1][key] == pytest.approx(rows[0][key], rel=1e-6), key


def test_the_kernel_for_many_models_keeps_the_preprocess_of_a_model():
    trainer, data = STILL.replace(preprocess=recipe(Standardize())), (TABLE[["x", "z", "price"]], "price")
    model = trainer.fit(Neuron(seed=3), data).model
    kept, trainer = model.preprocess, trainer.replace(preprocess=None, engine="compiled")
    (run,) = trainer.fit_many([model], data)
    assert run.model.preprocess is kept


def test_weights_count_and_a_dataset_gives_the_figures_of_arrays():
    class Rows:
        def __len__(self):
            return ROWS

        def read(self, start, stop):
            rows = slice(start, stop)
            return TABLE[["x", "z"]][rows], TABLE["price"][rows], WEIGHTS[rows]

    trainer, model = STILL.replace(preprocess=recipe(Log(), Standardize())), Neuron(seed=3)
    row = trainer.fit(model, Rows(), Rows()).history[-1]
    for prefix in ("", "val_"):
        found = [row[f"{prefix}{metric.key}"] for metric in METRICS]
        np.testing.assert_allclose(found, expected(model, WEIGHTS), rtol=1e-9)


def test_of_several_targets_each_has_its_unit_and_classes_stay():
    target = recipe(Log(), Standardize(), late=[Classes()])
    metrics = [*(OutputMetric("price", metric) for metric in METRICS), OutputMetric("late", Accuracy())]
    loss = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy())
    trainer = STILL.replace(preprocess=target, metrics=metrics, loss=loss)
    model, data = Sequential(Heads(price=Neuron(), late=Neuron(activation=Sigmoid()))), (TABLE, ["price", "late"])
    row = trainer.fit(model, data, data).history[-1]
    for prefix in ("", "val_"):
        np.testing.assert_allclose([row[f"{prefix}{each.key}"] for each in metrics[:3]], expected(model), rtol=1e-9)
        assert row[f"{prefix}late_accuracy"] == np.mean(model.classify(TABLE)["late"] == TABLE["late"])
    changed = model.preprocess.transform_target(TABLE[["price", "late"]])[:, 0]
    outputs = model(model.preprocess.transform(TABLE))["price"]
    assert row["val_price_loss"] == pytest.approx(np.mean((outputs - changed) ** 2))


def test_columns_of_one_output_have_a_unit_each():
    both = Preprocess(columns={"x": [], "z": []}, target={"price": [Standardize()], "double": [MinMax()]})
    table = TABLE.assign(double=2 * TABLE["price"])
    trainer, model = STILL.replace(preprocess=both), Dense(units=2, seed=1)
    row = trainer.fit(model, (table[["x", "z", "price", "double"]], ["price", "double"])).history[-1]
    predictions, targets = model.predict(table), table[["price", "double"]]
    assert row["mean_absolute_error"] == pytest.approx(mean_absolute_error(targets, predictions))
    assert row["r2"] == pytest.approx(r2_score(targets, predictions))


def test_a_metric_of_pre_activations_is_of_what_is_trained():
    trainer = STILL.replace(preprocess=recipe(MinMax()), metrics=[BinaryCrossEntropy(), MeanAbsoluteError()])
    model, data = Neuron(activation=Sigmoid(), seed=0), (TABLE[["x", "z", "price"]], "price")
    row = trainer.fit(model, data).history[-1]
    target = model.preprocess.transform_target(TABLE["price"])
    outputs = model(model.preprocess.transform(TABLE))
    assert row["binary_cross_entropy"] == pytest.approx(BinaryCrossEntropy()(outputs, target))
    assert row["mean_absolute_error"] == pytest.approx(expected(model)[0])


def test_a_target_whose_spread_is_lost_in_its_unit_is_refused_before_training():
    table = TABLE.assign(price=1e9 + TABLE["x"])
    trainer, model = STILL.replace(preprocess=recipe(Standardize())), Neuron(seed=0)
    with pytest.raises(DataError, match=r"then write R2\(center=1e\+09\)"):
        trainer.fit(model, (table[["x", "z", "price"]], "price"))
    assert model.preprocess is None
    run = trainer.replace(metrics=[R2(center=1e9)]).fit(model, (table[["x", "z", "price"]], "price"))
    assert run.history[-1]["r2"] == pytest.approx(r2_score(table["price"], model.predict(table)), rel=1e-6)


def test_metrics_and_predictions_of_a_float32_model_keep_the_digits_of_a_target_far_from_0():
    table = TABLE.assign(price=1.7e9 + 3 * TABLE["x"])
    trainer, model = (
        STILL.replace(preprocess=recipe(Standardize()), metrics=METRICS[:2]),
        Neuron(seed=3, dtype="float32"),
    )
    data = (table[["x", "z", "price"]], "price")
    row = trainer.fit(model, data, data).history[-1]
    predictions = model.predict(table)
    outputs = model(model.preprocess.transform(table, "float32")).astype(np.float64)
    assert np.array_equal(predictions, outputs * table["price"].std(ddof=0) + table["price"].mean())
    for oracle, metric in zip(ORACLES, trainer.metrics, strict=False):
        for figures, key in (
            (row, metric.key),
            (row, f"val_{metric.key}"),
            (trainer.evaluate(model, data), metric.key),
        ):
            assert figures[key] == pytest.approx(oracle(table["price"], predictions), rel=1e-6)
