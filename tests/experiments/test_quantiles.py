"""Quantiles: several outputs for one number, from the experiment to the predictions and exports."""

import contextlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from experiment_pieces import command
from sklearn.metrics import mean_absolute_error, mean_pinball_loss

from framework import AdamOptimizer, Dense, SettingsError, ShapeError, Trainer, load_model
from framework.experiments.folder import RunFolder
from framework.formulas import Coverage, MiddleError, MultiQuantile, Sort

LEVELS = (0.05, 0.5, 0.9)
NAMES = ["price_q5", "price_q50", "price_q90"]
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with two tables, in which the spread of a number depends on the row, an experiment, and its run."""
    path = tmp_path_factory.mktemp("quantiles")
    x, kind = RNG.uniform(-1, 1, 900), RNG.choice([*"uv"], 900)
    price = 1000 + 200 * x + (20 + 100 * (kind == "u")) * RNG.normal(size=900)
    table = pd.DataFrame({"x": x, "kind": kind, "price": price})
    with contextlib.chdir(path):
        table[:600].to_csv("old.csv", index=False)
        table[600:].to_csv("new.csv", index=False)
        command("new", "old.csv", "--target", "price", "--quantiles", "0.05,0.5,0.9")
        command("train", "old.toml", "--out", "run", "--set", "trainer.epochs=30", "--set", "members=2")
        command("predict", "run", "new.csv", "--keep", "price", "--out", "predictions.csv")
    return path


@pytest.fixture(autouse=True)
def here(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


def pinball(target, predictions, weight=None):
    """The mean pinball loss of scikit-learn over the quantiles."""
    losses = [
        mean_pinball_loss(target, prediction, alpha=level, sample_weight=weight)
        for level, prediction in zip(LEVELS, np.asarray(predictions).T, strict=True)
    ]
    return np.mean(losses)


@pytest.mark.parametrize("weight", [None, RNG.uniform(size=50)])
def test_the_figures_are_those_of_scikit_learn(weight):
    prediction, target = np.sort(RNG.normal(size=(50, 3)), axis=1), RNG.normal(size=50)
    assert MultiQuantile(quantiles=LEVELS)(prediction, target, weight) == pytest.approx(
        pinball(target, prediction, weight)
    )
    inside = (prediction[:, 0] <= target) & (target <= prediction[:, 2])
    assert Coverage()(prediction, target, weight) == pytest.approx(np.average(inside, weights=weight))
    expected = mean_absolute_error(target, prediction[:, 1], sample_weight=weight)
    assert MiddleError()(prediction, target, weight) == pytest.approx(expected)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_a_constant_learns_the_quantiles_of_numpy(engine):
    target = RNG.exponential(size=2000)
    model = Dense(1, len(LEVELS), Sort())
    trainer = Trainer(
        loss=MultiQuantile(quantiles=LEVELS),
        optimizer=AdamOptimizer(learning_rate=0.003),
        epochs=3000,
        batch_size=2000,
        engine=engine,
    )
    trainer.fit(model, (np.zeros((2000, 1)), target))
    np.testing.assert_allclose(model.predict(np.zeros((1, 1)))[0], np.quantile(target, LEVELS), atol=0.02)


def test_predictions_have_a_column_for_each_quantile_and_do_not_cross():
    table = pd.read_csv("predictions.csv")
    assert [*table] == ["price", *NAMES]
    assert (np.diff(table[NAMES], axis=1) >= 0).all()
    command("predict", "run", "new.csv", "--out", "parts.csv")
    pd.read_csv("new.csv").to_parquet("new.parquet")
    command("predict", "run", "new.parquet", "--out", "parts")
    (part,) = Path("parts").glob("*.parquet")
    np.testing.assert_allclose(pd.read_parquet(part)[NAMES], table[NAMES], rtol=1e-6)


def test_evaluate_gives_the_figures_of_the_predictions_in_the_unit_of_the_target():
    table = pd.read_csv("predictions.csv")
    figures = json.loads(command("evaluate", "run", "--data", "new.csv", "--json"))
    assert figures["multi_quantile"] == pytest.approx(pinball(table["price"], table[NAMES]), rel=1e-5)
    inside = table["price"].between(table["price_q5"], table["price_q90"])
    assert figures["coverage"] == pytest.approx(inside.mean())
    assert figures["middle_error"] == pytest.approx(mean_absolute_error(table["price"], table["price_q50"]), rel=1e-5)
    assert abs(figures["coverage"] - 0.85) < 0.06
    constant = figures["baselines"]["the quantiles alone"]
    prices = pd.read_csv("old.csv")["price"]
    assert constant["multi_quantile"] == pytest.approx(
        pinball(table["price"], np.tile(np.quantile(prices, LEVELS), (300, 1))), rel=0.01
    )
    assert figures["multi_quantile"] < 0.7 * constant["multi_quantile"]
    command("report", "run")
    assert "middle_error" in Path("report.html").read_text()


def test_exports_give_the_same_quantiles():
    table, expected = pd.read_csv("new.csv"), pd.read_csv("predictions.csv")[NAMES].to_numpy()
    command("export", "run", "run.py")
    command("export", "run", "run.onnx")
    scope = {"__name__": "exported"}
    exec(Path("run.py").read_text(), scope)
    columns = {name: table[name].to_numpy() for name in ("x", "kind")}
    np.testing.assert_allclose(scope["predict"](columns), expected, rtol=1e-6)
    session = onnxruntime.InferenceSession("run.onnx")
    feeds = {
        each.name: columns[each.name].astype(object if "string" in each.type else float)
        for each in session.get_inputs()
    }
    (values,) = session.run(None, feeds)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_quantiles_of_one_of_several_outputs_have_its_name():
    table = pd.read_csv("old.csv").assign(size=lambda frame: frame["x"] * 3)
    table.to_csv("two.csv", index=False)
    Path("two.toml").write_text("""\
validation = 0.2
[data]
type = "CSV"
path = "two.csv"
target = ["price", "size"]
[model]
type = "Sequential"
layers = [{type = "Heads", price = {type = "Dense", units = 2, activation = "Sort"}, size = {type = "Neuron"}}]
[trainer]
epochs = 2
optimizer = {type = "AdamOptimizer", learning_rate = 0.01}
loss = {type = "OutputLosses", price = {type = "MultiQuantile", quantiles = [0.025, 0.5]}, size = "MeanSquaredError"}
[trainer.preprocess]
target = {"*" = ["Standardize"]}
columns = {kind = ["OneHot"], "<number>" = ["Standardize"]}
""")
    command("train", "two.toml", "--out", "two")
    command("predict", "two", "two.csv", "--out", "two_predictions.csv")
    assert [*pd.read_csv("two_predictions.csv")] == ["price_q2.5", "price_q50", "size"]
    assert len(load_model(RunFolder("two").checkpoint()).predict(table)["price"][0]) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('model.layers.3.activation="Softmax"', "MultiQuantile needs outputs in rising order; Softmax() does not give"),
        (
            'model.layers.3={type="Dense", units=3}',
            "MultiQuantile needs outputs in rising order; Identity() does not give",
        ),
        ("model.layers.3.units=4", "MultiQuantile needs an output for each of (0.05, 0.5, 0.9); got outputs (480, 4)"),
        ("trainer.loss.quantiles=[0.9, 0.1]", "'quantiles' must be two or more rising numbers, as (0.1, 0.5, 0.9)"),
        ("trainer.loss.quantiles=[0.5]", "'quantiles' must be two or more rising numbers, as (0.1, 0.5, 0.9)"),
    ],
)
def test_train_refuses_outputs_that_are_not_the_quantiles(change, said):
    flags = ("--out", "refused", "--set", "trainer.epochs=1", "--set", "members=1")
    assert said in command("train", "old.toml", "--set", change, *flags, status=1)
    assert not Path("refused").exists()


def test_metrics_of_quantiles_refuse_one_output():
    for metric in (Coverage(), MiddleError()):
        with pytest.raises(ShapeError, match="needs several outputs and one target for each row"):
            metric([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(SettingsError, match="for one, use Quantile"):
        MultiQuantile(quantiles=[0.5])


def test_new_refuses_quantiles_of_classes():
    assert "must hold numbers; it holds text" in command(
        "new", "old.csv", "--target", "kind", "--quantiles", "0.1,0.9", "--out", "-", status=1
    )
    for quantiles in ("a", "", "0.5", "0.5,0.5", "0.9,0.1", "0,0.5", "0.5,1"):
        assert "expected two or more rising numbers between 0 and 1" in command(
            "new", "old.csv", "--target", "price", "--quantiles", quantiles, "--out", "-", status=2
        )
    assert "leave one of them out" in command(
        "new", "old.csv", "--target", "price", "--quantiles", "0.1,0.9", "--task", "classes", "--out", "-", status=2
    )


def test_models_of_other_quantiles_have_no_mean():
    command(
        "train",
        "old.toml",
        "--out",
        "others",
        "--set",
        "trainer.epochs=1",
        "--set",
        "members=1",
        *(f"--set={name}.quantiles=[0.1, 0.5, 0.9]" for name in ("trainer.loss", "trainer.metrics.0")),
    )
    assert "the same quantiles" in command("predict", "run", "others", "new.csv", "--out", "mean.csv", status=1)
    assert not Path("mean.csv").exists()


def test_quantiles_that_differ_in_late_digits_have_columns_of_their_own():
    near = "[0.3333331, 0.3333332, 0.9999999]"
    command(
        "train",
        "old.toml",
        "--out",
        "near",
        "--set",
        "trainer.epochs=1",
        "--set",
        "members=1",
        *(f"--set={name}.quantiles={near}" for name in ("trainer.loss", "trainer.metrics.0")),
    )
    command("predict", "near", "new.csv", "--out", "near.csv")
    assert [*pd.read_csv("near.csv")] == ["price_q33.33331", "price_q33.33332", "price_q99.99999"]
