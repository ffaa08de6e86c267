"""An exported file takes the columns of a table, and gives what the model predicts for it."""

import runpy

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from export_tables import ROWS, Unwrapped, of_every_step, of_one_target, table

from framework import Dense, Neuron, OneHot, Preprocess, SettingsError, Standardize, export_onnx, export_python
from framework.preprocessing import Bounds, Classes, Levels, QuantileTransform


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


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
def test_every_step_and_its_inverse_compute_the_same(dtype, tolerance, tmp_path):
    model = of_every_step(dtype)
    run = session(model, tmp_path)
    for seed, rows in [(1, ROWS), (2, 7), (3, 1)]:
        new = table(seed, rows)
        found, expected = predicted(run, new), model.predict(new)
        for key, values in expected.items():
            assert found[key].dtype == values.dtype == np.dtype(dtype if key == "late" else "float64")
            np.testing.assert_allclose(found[key], values, rtol=tolerance, atol=tolerance)
        assert found["late label"].tolist() == model.classify(new)["late"].tolist()
    notes = run.get_modelmeta().custom_metadata_map
    assert notes["classes"] == '{"late": ["maybe", "no", "yes"]}'
    assert '"when": "date"' in notes["columns"]


@pytest.mark.parametrize("levels", [["no", "yes"], [False, True], [3, 5], ["a", "b", "c"], [0.5, 1.5, 2.5]])
def test_labels_are_the_classes_of_the_target(levels, tmp_path):
    model, rows = of_one_target([Standardize()], [Classes()], levels)
    found = predicted(session(model, tmp_path), rows)
    assert found["label"].tolist() == model.classify(rows).tolist()
    np.testing.assert_array_equal(found["probabilities"].shape, model.predict(rows).shape)


def test_an_output_of_any_number_has_no_label_as_classify_refuses_it(tmp_path):
    rows = pd.DataFrame({"x": [1.0, 2.0], "y": ["no", "yes"]})
    model = Neuron(1)
    with pytest.raises(SettingsError, match="argument 'classes' is for a model that ends in an activation from 0 to 1"):
        export_onnx(model, tmp_path / "model.onnx", classes=["no", "yes"])
    model.preprocess = Preprocess(columns={"x": []}, target=[Classes()]).fit((rows, "y"))
    with pytest.raises(SettingsError, match="from 0 to 1"):
        model.classify(rows)
    assert [*predicted(session(model, tmp_path), rows)] == ["y"]
    scores = Dense(1, 2)
    scores.preprocess = model.preprocess
    found = predicted(session(scores, tmp_path), rows)
    assert ([*found], found["label"].tolist()) == (["scores", "label"], scores.classify(rows).tolist())
    export_python(model, tmp_path / "network.py")
    assert "classify" not in runpy.run_path(tmp_path / "network.py")


@pytest.mark.parametrize("steps", [[Standardize()], [QuantileTransform(4)], [OneHot(3)], [Levels(3)]])
@pytest.mark.parametrize("levels", [["no", "yes"], [0.5, 1.5, 2.5]])
def test_a_value_that_predict_refuses_gives_nan_and_no_label(steps, levels, tmp_path):
    model, rows = of_one_target(steps, [Classes()], levels)
    refused = [2, 3, 4] if steps[0].takes == ("numbers",) else [2, 4]  # the others take a missing value
    rows.loc[2:4, "x"] = [np.inf, np.nan, -np.inf]
    found = predicted(session(model, tmp_path), rows)
    assert np.flatnonzero(np.isnan(found["probabilities"]).any(axis=-1)).tolist() == refused
    label = found["label"]
    assert np.flatnonzero(label == "" if label.dtype == object else np.isnan(label)).tolist() == refused


def test_a_number_that_float32_does_not_hold_gives_nan(tmp_path):
    model, rows = of_one_target([], [Classes()], ["no", "yes"])
    run = session(model, tmp_path, dtype="float32")
    assert np.isnan(predicted(run, rows.assign(x=1e39))["probabilities"]).all()


def test_a_level_that_predict_refuses_gives_nan(tmp_path):
    rows = pd.DataFrame({"x": ["a", "b", "a"], "y": [1.0, 2.0, 3.0]})
    model = Dense(units=1)
    model.preprocess = Preprocess(columns={"x": [OneHot(other=False)]}).fit((rows, "y"))
    found = predicted(session(model, tmp_path), pd.DataFrame({"x": ["b", "new", "a"]}))
    assert np.isnan(found["output"][:, 0]).tolist() == [False, True, False]


def test_a_column_may_have_the_name_of_a_parameter_and_none_that_of_an_output(tmp_path):
    model, rows = of_one_target([], [Classes()], ["no", "yes"])
    named = rows.rename(columns={"x": "bias"})
    model.preprocess = Preprocess(columns={"bias": []}, target=[Classes()]).fit((named, "y"))
    found = predicted(session(model, tmp_path), named[:1])
    np.testing.assert_allclose(found["probabilities"], model.predict(named[:1]), rtol=1e-13)
    for name, said in {"label": "two inputs or outputs", "": "an input or output"}.items():
        named = rows.rename(columns={"x": name})
        model.preprocess = Preprocess(columns={name: []}, target=[Classes()]).fit((named, "y"))
        with pytest.raises(SettingsError, match=f"{said} of the file would have the name '{name}'"):
            export_onnx(model, tmp_path / "other.onnx")


def test_several_targets_of_one_output_come_back_in_their_units(tmp_path):
    rows = pd.DataFrame({"x": [1.0, 2.0, 4.0], "a": [10.0, 20.0, 60.0], "b": [1.0, 9.0, 0.0]})
    model = Dense(units=2)
    targets = {"a": [Bounds(low=15, high=20), Standardize()], "b": [QuantileTransform(4, to="normal")]}
    model.preprocess = Preprocess(columns={"x": []}, target=targets).fit((rows, ["a", "b"]))
    np.testing.assert_allclose(predicted(session(model, tmp_path), rows)["output"], model.predict(rows), rtol=1e-13)


def test_a_step_without_a_graph_is_refused_with_its_column(tmp_path):
    rows = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0]})
    model = Dense(units=1)
    model.preprocess = Preprocess(columns={"x": [Unwrapped()]}).fit((rows, "y"))
    with pytest.raises(
        SettingsError, match=r"column 'x': the formula cannot be traced through np\.unwrap .*; write it with"
    ):
        export_onnx(model, tmp_path / "model.onnx")
    model, rows = of_one_target([Standardize()], [Classes()], ["no", "yes"])
    with pytest.raises(SettingsError, match="leave argument 'classes' out"):
        export_onnx(model, tmp_path / "model.onnx", classes=["no", "yes"])
    assert not [*tmp_path.iterdir()]
