"""Beside the figures of a model stand those of a linear model and of a constant, as scikit-learn gives them."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    recall_score,
    root_mean_squared_error,
)
from sklearn.preprocessing import StandardScaler

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    Embedding,
    Heads,
    Identity,
    Join,
    MeanSquaredError,
    Neuron,
    Preprocess,
    Sequential,
    Sigmoid,
    Softplus,
    Standardize,
    Trainer,
)
from framework.cli import main
from framework.experiments import baselines
from framework.experiments.folder import RunFolder, compare_folders
from framework.formulas import OutputLosses
from framework.models import Input
from framework.preprocessing import Classes, Levels, Log

RNG = np.random.default_rng(0)
ROWS = 400
X = RNG.normal(size=(ROWS, 2)) * [1.0, 30.0] + [0.0, 1000.0]
SCORE = X[:, 0] + (X[:, 1] - 1000.0) / 30.0 + RNG.normal(size=ROWS)
KINDS = {"price": np.exp(4 + SCORE / 3), "late": np.where(SCORE > 1, "yes", "no"), "size": np.digitize(SCORE, [-1, 2])}
KINDS["size"] = np.array(["S", "M", "L"])[KINDS["size"]]
HEADS = {
    "price": ('{type = "Neuron"}', "MeanSquaredError", '"MeanAbsoluteError", "RootMeanSquaredError", "R2"'),
    "late": ('{type = "Neuron", activation = "Sigmoid"}', "BinaryCrossEntropy", '"Accuracy", "ROCAUC", "Recall"'),
    "size": ('{type = "Dense", units = 3, activation = "Softmax"}', "CrossEntropy", '"Accuracy", "Recall"'),
}
CONSTANTS = {"price": "the mean alone", "late": "the commonest class alone", "size": "the commonest class alone"}
LINEAR = "a linear model"


def command(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def table(target, start=0, stop=ROWS):
    rows = pd.DataFrame(X, columns=["a", "b"]).assign(**{target: KINDS[target]})
    return rows[start:stop]


def experiment(target, more="", trainer="", steps=None):
    """Write a table and its experiment, whose validation data is in a file of its own."""
    head, loss, metrics = HEADS[target]
    table(target, 0, 300).assign(w=np.arange(300) % 3 + 1.0).to_csv("train.csv", index=False)
    table(target, 300).to_csv("valid.csv", index=False)
    steps = steps or ('["Standardize"]' if target == "price" else '["Classes"]')
    text = f"""\
validation = {{type = "CSV", path = "valid.csv", target = "{target}"}}
[data]
type = "CSV"
path = "train.csv"
target = "{target}"
{more}
[model]
type = "Sequential"
layers = [{{type = "Dense", units = 4, activation = "ReLU"}}, {head}]
[trainer]
epochs = 3
loss = "{loss}"
metrics = [{metrics}]
optimizer = "AdamOptimizer"
{trainer}
[trainer.preprocess]
target = {{{target} = {steps}}}
columns = {{"w" = ["Drop"], "<number>" = ["Standardize"]}}
"""
    Path("e.toml").write_text(text.replace('"w" = ["Drop"], ', "") if more else text)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("framework.experiments.folder.find_spec", lambda _: None)  # test_boosting.py is of LightGBM


def judged(target, **settings):
    experiment(target, **settings)
    command("train", "e.toml", "--out", "run")
    return RunFolder("run")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("steps", ['["Standardize"]', '["Log", "Standardize"]'])
def test_a_number_stands_beside_its_mean_and_a_ridge_regression(steps, weighted):
    x = StandardScaler()
    weight = np.arange(300) % 3 + 1.0 if weighted else None
    scaled = x.fit(X[:300], sample_weight=weight).transform(X)
    forward, back = (np.log1p, np.expm1) if "Log" in steps else (lambda y: y, lambda y: y)
    y = forward(KINDS["price"])
    center, scale = np.average(y[:300], weights=weight), None
    scale = np.sqrt(np.average((y[:300] - center) ** 2, weights=weight))
    sample = None if weight is None else weight / weight.mean()
    linear = Ridge(alpha=0.5).fit(scaled[:300], (y[:300] - center) / scale, sample_weight=sample)
    constant = DummyRegressor().fit(scaled[:300], KINDS["price"][:300], sample_weight=weight)
    expected = {
        LINEAR: back(linear.predict(scaled[300:]) * scale + center),
        "the mean alone": constant.predict(scaled[300:]),
    }
    found = judged("price", steps=steps, more='weight = "w"' if weighted else "").beside
    assert [*found] == [*expected]
    for name, prediction in expected.items():
        for key, oracle in (
            ("mean_absolute_error", mean_absolute_error),
            ("root_mean_squared_error", root_mean_squared_error),
            ("r2", r2_score),
        ):
            rel = 3e-3 if name == LINEAR else 1e-9
            assert found[name][key] == pytest.approx(oracle(KINDS["price"][300:], prediction), rel=rel), (name, key)


@pytest.mark.parametrize("target", ["late", "size"])
@pytest.mark.parametrize("sampling", ["", 'sampling = "balanced"'])
def test_a_class_stands_beside_the_commonest_and_a_logistic_regression(target, sampling):
    found = judged(target, trainer=sampling).beside
    x = StandardScaler().fit(X[:300]).transform(X)
    y, balanced = KINDS[target], "balanced" if sampling else None
    constant = DummyClassifier(strategy="prior").fit(x[:300], y[:300])
    linear = LogisticRegression(C=1.0, class_weight=balanced).fit(x[:300], y[:300])
    prior, scores = constant.predict_proba(x[300:]), linear.predict_proba(x[300:])
    assert [*found] == [LINEAR, "the commonest class alone"]
    assert found[CONSTANTS[target]]["loss"] == pytest.approx(log_loss(y[300:], prior), rel=1e-6)
    assert found[CONSTANTS[target]]["accuracy"] == accuracy_score(y[300:], constant.predict(x[300:]))
    assert found[LINEAR]["loss"] == pytest.approx(log_loss(y[300:], scores), rel=0.02)
    assert found[LINEAR]["accuracy"] == pytest.approx(accuracy_score(y[300:], linear.predict(x[300:])), abs=0.01)
    average = {"average": "macro"} if target == "size" else {"pos_label": "yes"}
    for name, model in ((LINEAR, linear), (CONSTANTS[target], constant)):
        recall = recall_score(y[300:], model.predict(x[300:]), **average)
        assert found[name]["recall"] == pytest.approx(recall, abs=0.03 * (name == LINEAR)), name


def test_every_command_shows_them():
    experiment("late")
    trained = command("train", "e.toml", "--out", "run")
    beside = RunFolder("run").beside
    shown = [f"{name}: {beside[name]['accuracy']:.4g}" for name in (LINEAR, "the commonest class alone")]
    assert f"({'; '.join(shown)})" in trained
    assert f"({'; '.join(shown)})" in command("evaluate", "run")
    assert json.loads(command("evaluate", "run", "--json"))["baselines"] == beside
    other = json.loads(command("evaluate", "run", "--data", "train.csv", "--json"))["baselines"]
    commonest = DummyClassifier().fit(X[:300], KINDS["late"][:300]).score(X[:300], KINDS["late"][:300])
    assert other["the commonest class alone"]["accuracy"] == commonest
    command("train", "e.toml", "--out", "more", "--set", "trainer.epochs=4")
    command("train", "e.toml", "--out", "third", "--set", 'trainer.preprocess.columns.b=["Drop"]')
    rows = compare_folders([*map(RunFolder, ("run", "more", "third"))], baselines=True)
    assert [row["run"] for row in rows] == ["run", "more", "third", *beside, f"{LINEAR}, third"]
    assert rows[3]["val_loss"] == beside[LINEAR]["loss"]
    assert (rows[3]["epochs"], rows[3]["accuracy"]) == (None, None)
    assert all(row["run"] in command("compare", "run", "more", "third") for row in rows)
    assert len(json.loads(command("compare", "run", "more", "third", "--json"))) == 3
    command("report", "run", "--out", "one.html")
    command("report", "run", "more", "--out", "two.html")
    assert f'<th class="group" scope="colgroup">{LINEAR}</th>' in Path("one.html").read_text()
    assert f'<th scope="col">{LINEAR}</th>' in Path("two.html").read_text()


def test_runs_without_validation_and_old_folders_are_judged_by_new_rows():
    experiment("price")
    text = Path("e.toml").read_text()
    Path("e.toml").write_text(text[text.index("[data]") :])
    command("train", "e.toml", "--out", "run")
    assert RunFolder("run").beside == {}
    assert "(a linear model: " in command("evaluate", "run", "--data", "valid.csv")
    for path in RunFolder("run").path.joinpath("baselines").iterdir():
        path.unlink()
    old = command("evaluate", "run", "--data", "valid.csv")
    assert "r2" in old
    assert "linear" not in old


def test_a_baseline_that_fails_ends_no_training(monkeypatch):
    def fail(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(baselines, "_train", fail)
    run = judged("late")
    assert run.metrics["baselines"] == {"error": "MemoryError: no room"}
    assert "no baselines beside these figures: MemoryError: no room" in command("resume", "run", "--epochs", "1")
    assert math.isfinite(run.metrics["validation"]["loss"])


def test_an_interrupted_baseline_is_made_when_the_run_is_resumed(monkeypatch):
    whole = judged("late").metrics

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(baselines, "_train", interrupt)
        assert "framework resume again" in command("train", "e.toml", "--out", "again", code=130)
    command("resume", "again")
    assert RunFolder("again").metrics == whole


def test_large_tables_give_some_of_their_rows(monkeypatch):
    monkeypatch.setattr(baselines, "ROWS", 2_000)
    experiment("price")
    pd.concat([pd.read_csv("train.csv")] * 10).to_csv("train.csv", index=False)
    command("train", "e.toml", "--out", "run")
    run = RunFolder("run")
    assert run.metrics["baselines"]["rows"] == 2_000
    assert 0.3 < run.beside[LINEAR]["r2"] < 1.0


def test_rows_of_one_class_alone_and_constant_columns_are_no_obstacle():
    experiment("late")
    pd.read_csv("train.csv").assign(late="no", a=1.0).to_csv("train.csv", index=False)
    command(
        "train",
        "e.toml",
        "--out",
        "run",
        "--set",
        'trainer.preprocess.target.late=[{type = "Classes", levels = ["no", "yes"]}]',
    )
    found = RunFolder("run").beside["the commonest class alone"]
    missed = np.mean(KINDS["late"][300:] == "yes")
    assert (found["accuracy"], found["loss"]) == (1 - missed, pytest.approx(-missed * np.log(1e-12), rel=1e-4))


def constant_of(model, target, loss, names, columns=None):
    """Return the predictions of the baselines of a model, each with its name."""
    data = (TABLE[["a", "city", *([names] if isinstance(names, str) else names)]], names)
    recipe = Preprocess(columns=columns or {"a": [Standardize()], "city": [Levels(5)]}, target=target)
    trainer = Trainer(loss=loss, optimizer=AdamOptimizer(), preprocess=recipe)
    baselines.make_baselines(trainer, trainer.fit(model, data).model, data, Path("made"))
    return {name: model.predict(TABLE) for name, model in baselines.load_baselines(Path("made")).items()}


TABLE = pd.DataFrame({"a": X[:, 0], "city": RNG.choice(["Rome", "Oslo", "Bern"], ROWS), "price": KINDS["price"]})
TABLE["late"] = (TABLE["city"] == "Oslo") & (RNG.random(ROWS) < 0.9)
TABLE["price"] += 100.0 * (TABLE["city"] == "Rome")


def test_of_several_outputs_and_ids_each_has_its_constant_and_its_linear_model():
    front = Join(numbers=Input(), city=Embedding(7, 2))
    model = Sequential(front, Heads(price=Neuron(), late=Dense(units=1, activation=Sigmoid())))
    target = {"price": [Log(), Standardize()], "late": [Classes()]}
    made = constant_of(
        model, target, OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy()), ["price", "late"]
    )
    assert {*made} == {LINEAR, "a constant"}
    np.testing.assert_allclose(made["a constant"]["price"], TABLE["price"].mean(), rtol=1e-9)
    np.testing.assert_allclose(made["a constant"]["late"], TABLE["late"].mean(), rtol=1e-9)
    assert r2_score(TABLE["price"], made[LINEAR]["price"]) > 0.5
    assert np.mean((made[LINEAR]["late"][:, 0] > 0.5) == TABLE["late"]) > 0.93


@pytest.mark.parametrize("activation", [Identity(), Softplus()], ids=str)
@pytest.mark.parametrize("units", [None, 1])
def test_an_output_activation_and_its_shape_change_no_mean(activation, units):
    end = {"activation": activation} | ({} if units is None else {"units": units})
    model = Sequential(Join(numbers=Input(), city=Embedding(7, 2)), (Neuron if units is None else Dense)(**end))
    made = constant_of(model, {"price": []}, MeanSquaredError(), "price")
    np.testing.assert_allclose(made["the mean alone"], TABLE["price"].mean(), rtol=1e-9)
