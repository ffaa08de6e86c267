"""An exported file takes the columns of a table, and gives what the model predicts for it."""

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from framework import (
    Classes,
    ColumnStep,
    Dates,
    Dense,
    Drop,
    Embedding,
    Heads,
    Impute,
    Input,
    Join,
    Levels,
    Log,
    MinMax,
    OneHot,
    Preprocess,
    Quantiles,
    Sequential,
    SettingsError,
    Sigmoid,
    Softmax,
    Standardize,
    export_onnx,
)

ROWS = 200


class Root(ColumnStep):
    def formula(self, x, place):
        return np.sign(x) * np.sqrt(np.abs(x))


COLUMNS = {
    "age": [Impute("mean"), Standardize()],
    "income": [Log(unit=100.0)],
    "score": [Quantiles(20)],
    "depth": [Impute(0.0, flag=False), Quantiles(16, to="normal"), MinMax()],
    "size": [Root()],
    "wait": [Impute("median")],
    "city": [OneHot(2)],
    "note": [Impute("none"), OneHot(5)],
    "code": [OneHot(3)],
    "member": [OneHot()],
    "shop": [Levels(3)],
    "floor": [Levels(2)],
    "when": [Dates(["days", "year", "month", "day", "dayofyear", "weekday", "hour", "minute", "second"]), Impute()],
    "day": [Dates(["month", "day", "dayofyear"], cyclic=False)],
    "id": [Drop()],
}


def table(seed, rows=ROWS):
    rng = np.random.default_rng(seed)
    holes = lambda values: np.where(rng.random(rows) < 0.1, np.nan, values)  # noqa: E731
    text = lambda *words: pd.Series(rng.choice(words, rows))  # noqa: E731
    when = pd.Series(rng.integers(-4 * 10**15, 4 * 10**15, rows).astype("datetime64[us]"))
    return pd.DataFrame(
        {
            "id": text("a", "b"),
            "age": holes(rng.normal(40, 9, rows)),
            "income": rng.normal(0, 1e4, rows),
            "score": rng.integers(0, 9, rows),
            "depth": holes(rng.normal(size=rows)),
            "size": rng.normal(size=rows),
            "wait": pd.Series(rng.integers(0, 10**9, rows).astype("timedelta64[us]")).where(rng.random(rows) < 0.9),
            "city": text("Bern", "Rome", "Oslo", "Paris", None),
            "note": text("x", "y", None),
            "code": holes(rng.choice([1.0, 2.5, np.float64(np.float32(0.1)), -7.0, 0.0], rows)),
            "member": rng.random(rows) < 0.5,
            "shop": text("a", "b", "c", "d", None).astype("category"),
            "floor": rng.integers(0, 4, rows),
            "when": when.where(rng.random(rows) < 0.9),
            "day": pd.Series(rng.integers(-9999, 9999, rows).astype("datetime64[D]")),
            "price": np.exp(rng.normal(3, 1, rows)),
            "late": text("yes", "no", "maybe"),
        }
    )


def feed_of(run, rows):
    """Return the columns of a table as the inputs of a file."""
    feed = {}
    for each in run.get_inputs():
        column = rows[each.name]
        if each.type == "tensor(string)":
            feed[each.name] = column.astype(object).where(column.notna(), "").to_numpy(object)
        elif each.type == "tensor(int64)":
            feed[each.name] = column.to_numpy("datetime64[us]").astype(np.int64)
        elif column.dtype.kind == "m":
            feed[each.name] = column.dt.total_seconds().to_numpy()
        else:
            feed[each.name] = column.to_numpy(np.float64)
    return feed


def session(model, folder, **settings):
    export_onnx(model, folder / "model.onnx", **settings)
    return onnxruntime.InferenceSession(folder / "model.onnx")


def predicted(run, rows):
    return dict(zip([each.name for each in run.get_outputs()], run.run(None, feed_of(run, rows)), strict=True))


LAYERS = lambda dtype: [  # noqa: E731
    Join(numbers=Input(dtype=dtype), shop=Embedding(5, 2, dtype=dtype), floor=Embedding(4, 2, dtype=dtype)),
    Dense(units=8, activation=Sigmoid(), dtype=dtype),
    Heads(price=Dense(units=1, dtype=dtype), late=Dense(units=3, activation=Softmax(), dtype=dtype)),
]
TARGET = {"price": [Log(), Standardize()], "late": [Classes()]}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
def test_every_step_and_its_inverse_compute_the_same(dtype, tolerance, tmp_path):
    model = Sequential(*LAYERS(dtype))
    model.preprocess = Preprocess(columns=COLUMNS, target=TARGET).fit((table(0), ["price", "late"]))
    run = session(model, tmp_path)
    for seed, rows in [(1, ROWS), (2, 7), (3, 1)]:
        new = table(seed, rows)
        found, expected = predicted(run, new), model.predict(new)
        for key, values in expected.items():
            assert found[key].dtype == values.dtype == np.dtype(dtype)
            np.testing.assert_allclose(found[key], values, rtol=tolerance, atol=tolerance)
        assert found["late label"].tolist() == model.classify(new)["late"].tolist()
    notes = run.get_modelmeta().custom_metadata_map
    assert notes["classes"] == '{"late": ["maybe", "no", "yes"]}'
    assert '"when": "date"' in notes["columns"]


def of_one_target(steps, target, levels):
    """Return a model of one column and one target, and its table."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=50), "y": rng.choice(levels, 50)})
    model = Dense(units=1, activation=Sigmoid()) if len(levels) == 2 else Dense(units=3, activation=Softmax())
    model.preprocess = Preprocess(columns={"x": steps}, target=target).fit((rows, "y"))
    return model, rows


@pytest.mark.parametrize("levels", [["no", "yes"], [False, True], [3, 5], ["a", "b", "c"], [0.5, 1.5, 2.5]])
def test_labels_are_the_classes_of_the_target(levels, tmp_path):
    model, rows = of_one_target([Standardize()], [Classes()], levels)
    found = predicted(session(model, tmp_path), rows)
    assert found["label"].tolist() == model.classify(rows).tolist()
    np.testing.assert_array_equal(found["probabilities"].shape, model.predict(rows).shape)


def test_a_missing_value_that_predict_refuses_gives_nan_and_no_label(tmp_path):
    model, rows = of_one_target([Standardize()], [Classes()], ["no", "yes"])
    rows.loc[3, "x"] = np.nan
    found = predicted(session(model, tmp_path), rows)
    assert np.flatnonzero(np.isnan(found["probabilities"])).tolist() == [3]
    assert found["label"][3] == ""


def test_a_level_that_predict_refuses_gives_nan(tmp_path):
    rows = pd.DataFrame({"x": ["a", "b", "a"], "y": [1.0, 2.0, 3.0]})
    model = Dense(units=1)
    model.preprocess = Preprocess(columns={"x": [OneHot(other=False)]}).fit((rows, "y"))
    found = predicted(session(model, tmp_path), pd.DataFrame({"x": ["b", "new", "a"]}))
    assert np.isnan(found["output"][:, 0]).tolist() == [False, True, False]


def test_several_targets_of_one_output_come_back_in_their_units(tmp_path):
    rows = pd.DataFrame({"x": [1.0, 2.0, 4.0], "a": [10.0, 20.0, 60.0], "b": [1.0, 9.0, 0.0]})
    model = Dense(units=2)
    targets = {"a": [Standardize()], "b": [Quantiles(4, to="normal")]}
    model.preprocess = Preprocess(columns={"x": []}, target=targets).fit((rows, ["a", "b"]))
    np.testing.assert_allclose(predicted(session(model, tmp_path), rows)["output"], model.predict(rows), rtol=1e-13)


class Sorted(ColumnStep):
    def formula(self, x, place):
        return np.sort(x)


def test_a_step_without_a_graph_is_refused_with_its_column(tmp_path):
    rows = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]})
    model = Dense(units=1)
    model.preprocess = Preprocess(columns={"x": [Sorted()]}).fit((rows, "y"))
    with pytest.raises(
        SettingsError, match=r"column 'x': the formula cannot be traced through np\.sort .*; write it with"
    ):
        export_onnx(model, tmp_path / "model.onnx")
    model, rows = of_one_target([Standardize()], [Classes()], ["no", "yes"])
    with pytest.raises(SettingsError, match="leave argument 'classes' out"):
        export_onnx(model, tmp_path / "model.onnx", classes=["no", "yes"])
    assert not [*tmp_path.iterdir()]
