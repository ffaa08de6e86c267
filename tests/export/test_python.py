"""The file of export_python gives the bits of the model, and needs NumPy alone."""

import ast
import csv
import datetime as dt
import json
import re
import runpy
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from export_pieces import ACTIVATIONS, EACH, GRID, OWN, Looped, every_step, made, of_integers, sample, side_by_side
from export_tables import ROWS, Unwrapped, of_every_step, of_one_target, table
from formulas.derivatives.right_formulas import LAYERS

from framework import (
    LSTM,
    Activation,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    Impute,
    Join,
    Layer,
    MaxPool,
    MeanSquaredError,
    Model,
    Neuron,
    OneHot,
    Preprocess,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
    Trainer,
    export_onnx,
    export_python,
)
from framework.models import Composite, Input
from framework.preprocessing import Bounds, Classes, ColumnStep, Levels, Log, MinMax, QuantileTransform


class Mixed(Composite):
    """Two children, one of them called twice, with an output of the first one's weights, by name."""

    check = "off"

    parts_: Model
    turned: Model

    def children(self):
        return {"parts": self.parts_, "turned": self.turned}

    def apply(self, x, values, record):
        first = self.forward_child("parts", x, record)
        again = self.forward_child("parts", x[:, ::-1] - x.mean(axis=1, keepdims=True), record)
        tied = (first * again) @ values["parts.weights"].T
        return {"tied": tied, "turned": self.forward_child("turned", tied, record), "x": x}

    def apply_backward(self, gradient, values, record, gradients):
        return np.zeros(3)


class Folded(Composite):
    """A child that takes each number as a row."""

    check = "off"

    body: Model

    @property
    def input_shape(self):
        return (3,)

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        return self.forward_child("body", x.reshape(-1, 1), record).reshape(len(x), 3)

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


class Compared(Composite):
    """Outputs that are booleans, whole numbers, and views of x."""

    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        above = self.forward_child("body", x, record) > 0
        return {"above": above, "count": above.sum(axis=1), "turned": x[:, ::-1], "first": x[:, :1]}


class InMemory(Layer):
    """Written by hand, into memory that is kept from step to step."""

    check = "off"

    @property
    def input_shape(self):
        return (2,)

    def apply(self, x, values, record):
        output = record.array("output", x.shape)
        output[...] = x
        return output

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


class Placed(InMemory):
    """Written by hand, into an array that NumPy made."""

    def apply(self, x, values, record):
        output = np.zeros(x.shape)
        output[0, 0] = x.sum()
        return output


class Scaled(Layer):
    """Parameters with the names of functions of the file."""

    @property
    def input_shape(self):
        return (1,)

    def shapes(self):
        return {"numbers": (1,), "column": (1,), "transform": (1,), "np": (1,)}

    def formula(self, x, numbers, column, transform, np):
        return x * numbers + column + transform + np


DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def predict_of(model, folder, **settings):
    """Export a model, and return the function of the file; it imports NumPy alone."""
    path = folder / "network.py"
    export_python(model, path, **settings)
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported <= {"numpy", "base64", "io", "datetime", "zoneinfo", "__future__"}
    return runpy.run_path(path)["predict"]


def require_same_bits(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, each in expected.items():
            require_same_bits(found[key], each)
        return
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.share(1 / 3)
@DTYPES
@EACH
def test_layers_give_the_same_bits(make, shape, dtype, tmp_path):
    model = made(make, shape, dtype)
    predict = predict_of(model, tmp_path, shape=shape)
    for rows in (1, 7, 300):
        x = sample(model, shape, rows)
        require_same_bits(predict(x), model(x))


@pytest.mark.share(1 / 3)
@DTYPES
@pytest.mark.parametrize("chosen", [ACTIVATIONS, OWN], ids=["of the library", "own"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_activations_give_the_same_bits(chosen, dtype, tmp_path):
    model, x = side_by_side(chosen, dtype), GRID.astype(dtype)
    require_same_bits(predict_of(model, tmp_path, shape=(2,))(x), model(x))


@pytest.mark.share(1 / 3)
@DTYPES
def test_every_operation_gives_the_same_bits(dtype, tmp_path):
    model = every_step(dtype)
    predict = predict_of(model, tmp_path)
    for rows in (1, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 2, 3, 4)).astype(dtype)
        require_same_bits(predict(x), model(x))


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_written_by_hand_give_the_same_numbers(layer, tmp_path):
    x = np.random.default_rng(3).normal(size=(7, *layer.input_shape))
    x = x if layer.cardinality is None else np.abs(x).astype(int)
    np.testing.assert_allclose(predict_of(layer, tmp_path)(x), layer(x), rtol=0, atol=1e-15)


@DTYPES
def test_own_composites_give_the_same_bits(dtype, tmp_path):
    model = Heads(first=Mixed(parts_=Dense(3, 2, Tanh()), turned=Dense(3, 2, Softmax())), second=Dense(3, 1))
    model = Sequential(model).in_dtype(dtype)
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(dtype)
    require_same_bits(predict_of(model, tmp_path)(x), model(x))


def test_a_child_may_take_each_number_as_a_row(tmp_path):
    model, x = Folded(body=Dense(1, 1, Tanh())), np.random.default_rng(0).normal(size=(7, 3))
    require_same_bits(predict_of(model, tmp_path)(x), model(x))


@DTYPES
def test_outputs_are_floats_and_no_views_of_x(dtype, tmp_path):
    model = Compared(body=Dense(3, 2)).in_dtype(dtype)
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(dtype)
    found, expected = predict_of(model, tmp_path)(x), model(x)
    require_same_bits(found, expected)
    for output in (found, expected):
        assert not any(np.may_share_memory(leaf, x) for leaf in output.values())
    export_onnx(model, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    for key, each in zip(expected, session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(each, expected[key], rtol=1e-6)
        assert each.dtype == dtype


LAID_OUT = {
    "views between layers": (
        lambda: [Conv2D(filters=3, kernel=2), MaxPool(window=2), Flatten(), Dropout(0.5), Dense(units=2)],
        (2, 5, 5),
        ["0 Conv2D windows matmul", "1 MaxPool maximum maximum", "2 Flatten", "4 Dense dot"],
    ),
    "a child that is called twice": (
        lambda: [Mixed(parts_=Dense(3, 2, Tanh()), turned=Dense(3, 2))],
        (3,),
        ["0.parts Dense dot tanh", "0 Mixed add", "0.parts Dense dot tanh", "0 Mixed dot", "0.turned Dense dot"],
    ),
}


@pytest.mark.parametrize(("make", "shape", "blocks"), LAID_OUT.values(), ids=LAID_OUT)
def test_each_line_stands_under_the_layer_that_computes_it(make, shape, blocks, tmp_path):
    model = Sequential(*make())
    model.settle(shape)
    export_python(model, tmp_path / "network.py", shape=shape)
    text = (tmp_path / "network.py").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"\n    # (.*(?:\n    .+)+)", text):
        names = re.findall(r"\b(windows(?=\()|matmul|maximum|dot|tanh|add)\b", block.partition("\n")[2])
        found.append(" ".join([*re.findall(r"^[\d.\w]+ \w+", block), *names]))
    assert found == blocks


def test_the_formula_can_be_read(tmp_path):
    model = Sequential(Dense(3, 2, Sigmoid()), Dense(2, 1))
    model.parameters.vector[:] = np.arange(11.0)
    export_python(model, tmp_path / "network.py")
    text = (tmp_path / "network.py").read_text(encoding="utf-8")
    assert text.startswith('"""A Sequential, written by export_python of framework ')
    assert "    # 0 Dense(inputs=3, activation=Sigmoid(), units=2)\n    h0 = x.dot(weights_0) + bias_0\n" in text
    assert "    # 1 Dense(inputs=2, units=1)\n    a1 = a0.dot(weights_1) + bias_1\n\n    return a1\n" in text
    assert "bias_1 = np.array([10.0], np.float64)\n" in text


def test_large_parameters_stand_at_the_end(tmp_path):
    model = Sequential(Dense(70, 40, Tanh(), dtype="float32"), Dense(40, 2, dtype="float32"))
    predict = predict_of(model, tmp_path)
    lines = (tmp_path / "network.py").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == 'weights_1 = _arrays["weights_1"]'
    assert max(map(len, lines)) <= 120
    x = np.random.default_rng(0).normal(size=(33, 70))
    require_same_bits(predict(x), model(x))


@pytest.mark.parametrize("export", [export_python, export_onnx])
def test_a_run_or_an_estimator_is_refused_with_the_name_of_its_model(export, tmp_path):
    for given, name in [(SimpleNamespace(model=Dense(1, 1)), "model"), (SimpleNamespace(model_=Dense(1, 1)), "model_")]:
        with pytest.raises(
            SettingsError, match=f"argument 'model' must be a Model; got .*; write simplenamespace.{name}$"
        ):
            export(given, tmp_path / "file")


def test_other_shapes_and_ids_are_refused(tmp_path):
    predict = predict_of(Sequential(Embedding(4, 2), Flatten((3, 2))), tmp_path, shape=(3,))
    with pytest.raises(ValueError, match=r"x must have the shape \(rows, 3\); got \(2, 4\)"):
        predict(np.zeros((2, 4)))
    for odd in (-1, 4, 0.5):
        with pytest.raises(ValueError, match="whole numbers from 0 to 3"):
            predict([[0, 1, odd]])


@pytest.mark.parametrize("made", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "arrow"])
def test_a_table_with_columns_in_another_order_is_refused(made, tmp_path):
    columns = {"a": [1.0, 2.0, 3.0], "b": [4.0, 0.0, 1.0]}
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=1)
    model = trainer.fit(Neuron(2), (made(columns), [1.0, 2.0, 3.0])).model
    predict = predict_of(model, tmp_path)
    rows = np.stack([*columns.values()], axis=1)
    require_same_bits(predict(made(columns)), model(rows))
    require_same_bits(predict(rows), model(rows))
    with pytest.raises(ValueError, match=r"x must have the columns \['a', 'b'\], in that order; got \['b', 'a'\]"):
        predict(made(dict(reversed(columns.items()))))
    export_onnx(model, tmp_path / "network.onnx")
    notes = {note.key: note.value for note in onnx.load(tmp_path / "network.onnx").metadata_props}
    assert [*json.loads(notes["columns"])] == ["a", "b"]


class Doubled(Activation):
    def __call__(self, h):
        return np.vectorize(lambda number: 2.0 * number, otypes=[float])(h)

    def derivative(self, h):
        return np.full_like(h, 2.0)


REFUSED = {
    "a function without a graph": (
        lambda: Sequential(Dense(2, 3, Doubled())),
        "layer 0 Dense: Doubled is a Python fun",
    ),
    "a layer without a graph": (
        lambda: Sequential(Dense(2, 3), Looped()),
        r"layer 1 Looped has no graph: .*an 'if', .* on an array .*; write it with the functions of docs/operations.md",
    ),
    "a class inside others": (
        lambda: Sequential(Dense(2, 2), Residual(InMemory())),
        r"layer 1\.block\.0 InMemory has no graph: InMemory\.apply .*: TypeError: .*; write it with the functions of",
    ),
    "numbers written one by one": (
        lambda: Sequential(Dense(2, 2), Residual(Placed())),
        r"layer 1\.block\.0 Placed has no graph: .* through float\(x\), .*; write it with the functions of docs",
    ),
    "a step without a source": (
        lambda: of_one_target([Unwrapped()], [Classes()], ["a", "b"])[0],
        r"column 'x': .*np\.unwrap",
    ),
    "an open shape": (lambda: LSTM(units=2, inputs=3), "leaves the shape of a sample open"),
    "no model": (ReLU, "'model' must be a Model; got ReLU"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_source_is_refused_before_anything_is_written(make, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        export_python(make(), tmp_path / "network.py")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(SettingsError, match="cannot be written"):
        export_python(Dense(1, 1), tmp_path / "no folder" / "network.py")


@pytest.mark.share(1 / 3)
@DTYPES
def test_a_table_gives_the_bits_of_predict(dtype, tmp_path):
    model = of_every_step(dtype)
    predict = predict_of(model, tmp_path)
    for seed, rows in [(1, ROWS), (2, 7), (3, 1), (4, 0)]:
        new = table(seed, rows)
        require_same_bits(predict(pl.from_pandas(new)), model.predict(new))
        new["wait"] = new["wait"].astype("timedelta64[ns]") + pd.Timedelta(3, "ns")
        expected = model.predict(new)
        dense = new.convert_dtypes()  # its missing values are pandas' NA
        forms = (new, dense, {name: list(values) for name, values in new.items()}, new.to_dict("records"))
        for form in (*forms, pa.Table.from_pandas(new)):
            require_same_bits(predict(form), expected)


def test_a_time_of_day_is_the_time_since_midnight(tmp_path):
    clock = [dt.time(1, 20), dt.time(23, 59, 59, 500_001), None, dt.time(0, 0)]
    rows = pd.DataFrame({"x": clock, "y": [1.0, 2.0, 3.0, 4.0]})
    model = Neuron(2)
    model.preprocess = Preprocess(columns={"x": [Impute(), Standardize()]}).fit((rows, "y"))
    predict, expected = predict_of(model, tmp_path), model.predict(rows)
    text = {"x": ["01:20", "23:59:59.500001", None, "00:00:00"]}
    for form in (rows, pa.Table.from_pandas(rows), pl.from_pandas(rows), text):
        require_same_bits(predict(form), expected)
    for value in ("25:00", "01", "01:20+02:00", dt.time(1, tzinfo=dt.UTC)):
        with pytest.raises(ValueError, match=r"column 'x' must hold durations; got .* in row 1"):
            predict({"x": ["01:20", value]})


class Cube(ColumnStep):
    def formula(self, x, index):
        return np.cbrt(x)

    def inverse(self, y, index):
        return y * y * y


STEPS = [
    Standardize(),
    Bounds(low=-0.1, high=0.2),
    MinMax(),
    Log(unit=2.0),
    QuantileTransform(8),
    QuantileTransform(8, to="normal"),
    Cube(),
]


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_the_inverse_of_a_step_gives_the_same_bits(step, tmp_path):
    model, rows = of_one_target([Standardize()], [Standardize(), step], [1.0, 2.5, 7.0])
    require_same_bits(predict_of(model, tmp_path)(rows), model.predict(rows))


@pytest.mark.parametrize("name", ["\0", "a\nb\r\x85", "q\"'\\", "\u2028", "{x}", "numbers", "class", "1", "x", "table"])
def test_a_column_may_have_any_name(name, tmp_path):
    model, rows = of_one_target([], [Classes()], ["no", f"yes{name}!"])
    named = rows.rename(columns={"x": name, "y": f"y{name}"})
    model.preprocess = Preprocess(columns={name: [Impute(flag=False)]}, target=[Classes()]).fit((named, f"y{name}"))
    require_same_bits(predict_of(model, tmp_path)(named), model.predict(named))
    assert runpy.run_path(tmp_path / "network.py")["classify"](named).tolist() == model.classify(named).tolist()


def test_parameters_may_have_the_names_of_functions(tmp_path):
    model, rows = of_one_target([Standardize()], [], [1.0, 2.0, 3.0])
    model = Scaled()
    model.preprocess = Preprocess(columns={"x": [Standardize()]}).fit((rows, "y"))
    require_same_bits(predict_of(model, tmp_path)(rows), model.predict(rows))


@pytest.mark.parametrize("step", [OneHot(3), Levels(3)], ids=repr)
@pytest.mark.parametrize("export", [export_python, export_onnx])
def test_a_level_that_float64_does_not_hold_is_refused(step, export, tmp_path):
    model = Dense(units=1) if isinstance(step, OneHot) else Join(x=Embedding(5, 1))
    rows = pd.DataFrame({"x": [2**53 + 1, 2**53 + 3, 5], "y": [1.0, 2.0, 3.0]})
    model.preprocess = Preprocess(columns={"x": [step]}).fit((rows, "y"))
    with pytest.raises(SettingsError, match=r"column 'x': the level 90071992547409.. is a larger whole number"):
        export(model, tmp_path / "file")


@pytest.mark.parametrize("levels", [["no", "yes"], [False, True], [3, 5], ["a", "b", "c"], [0.5, 1.5, 2.5]])
def test_classify_gives_the_classes_of_the_target(levels, tmp_path):
    model, rows = of_one_target([Standardize()], [Classes()], levels)
    predict_of(model, tmp_path)
    classify = runpy.run_path(tmp_path / "network.py")["classify"]
    assert classify(rows).tolist() == model.classify(rows).tolist()


def test_rows_are_computed_in_the_blocks_of_predict(tmp_path):
    model, rows = of_one_target([QuantileTransform(8)], [MinMax()], [1.0, 2.5, 7.0])
    many = pd.concat([rows] * 90, ignore_index=True)
    require_same_bits(predict_of(model, tmp_path)(many), model.predict(many))


def test_a_table_that_predict_refuses_is_refused(tmp_path):
    predict = predict_of(of_every_step("float64"), tmp_path)
    new = table(1, 4)
    new["score"], new["day"] = [1.0, 2.0, 3.0, 4.0], pd.Timestamp("2013-01-01")
    for column, value, message in [
        ("score", None, "column 'score' has a missing value in row 2"),
        ("income", float("inf"), "column 'income' has an infinite number in row 2"),
        ("income", "1.5", r"'income' must hold numbers, as float\(...\) makes them of text; got '1.5' in row 2"),
        ("income", [1.5], r"column 'income' must hold numbers, .*; got \[1.5\] in row 2"),
        ("city", 3, "column 'city' must hold text, or None for a missing value; got 3 in row 2"),
        ("wait", 3.0, "column 'wait' must hold durations; got 3.0 in row 2"),
        ("day", 2013, "column 'day' must hold dates; got 2013 in row 2"),
        ("day", "21.09.2019", "column 'day' has '21.09.2019' in row 2: Error parsing datetime string"),
        ("day", pd.Timestamp("2013-01-01", tz="UTC"), "column 'day' must hold local times without a time zone"),
    ]:
        broken = {name: list(values) for name, values in new.items()}
        broken[column][2] = value
        with pytest.raises(ValueError, match=message):
            predict(broken)
    with pytest.raises(ValueError, match=r"must be a list of values; got .*; write \[record\] for one row"):
        predict(new.to_dict("records")[0])
    for other in (new.drop(columns="age"), new.drop(columns="age").to_dict("records"), None):
        with pytest.raises(ValueError, match="the table must have the column 'age'"):
            predict(other)


@pytest.mark.parametrize("kind", [str, "category"])
@pytest.mark.parametrize("step", [OneHot(2), Levels()])
def test_an_empty_text_of_a_record_is_refused_unless_it_is_a_level(kind, step, tmp_path):
    def predict_of_levels(*levels):
        rows = pd.DataFrame({"x": pd.Series([*levels], dtype=kind), "y": [1.0, 2.0, 3.0, 4.0]})
        model = Dense(units=1) if isinstance(step, OneHot) else Join(x=Embedding(5, 1))
        model.preprocess = Preprocess(columns={"x": [step]}).fit((rows, "y"))
        return model, predict_of(model, tmp_path)

    _, predict = predict_of_levels("a", "b", "a", "b")
    records = [*csv.DictReader(["x,y", "a,1", ",2"])]
    for form in (records, {"x": ["a", ""]}):
        with pytest.raises(ValueError, match="'x' must hold text, or None for a missing value; got '' in row 1"):
            predict(form)
    model, predict = predict_of_levels("a", "", "a", "")
    require_same_bits(predict(records), model.predict(pd.DataFrame(records)))


def test_an_unknown_level_that_predict_refuses_is_refused(tmp_path):
    model, _ = of_one_target([Standardize()], [Classes()], ["no", "yes"])
    rows = pd.DataFrame({"x": ["a", "a"], "y": ["no", "yes"]})
    model.preprocess = Preprocess(columns={"x": [OneHot(other=False)]}).fit((rows, "y"))
    with pytest.raises(ValueError, match="column 'x' has an unknown level, 'c', in row 1"):
        predict_of(model, tmp_path)({"x": ["a", "c"]})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_integers_and_booleans_give_the_same_bits(dtype, tmp_path):
    model, x = of_integers(dtype), np.random.default_rng(0).normal(size=(7, 3, 4)).astype(dtype)
    require_same_bits(predict_of(model, tmp_path)(x), model(x))


def test_names_of_functions_may_be_names_of_inputs(tmp_path):
    model = Sequential(Join(range=LSTM(units=2, inputs=3), len=Dense(2, 2), np=Input(1)))
    x = {"range": np.ones((4, 5, 3)), "len": np.ones((4, 2)), "np": np.ones((4, 1))}
    predict = predict_of(model, tmp_path, shape={"range": (5, 3), "len": (2,), "np": (1,)})
    require_same_bits(predict(x), model(x))
    with pytest.raises(ValueError, match=r"^x\['len'\] must have the shape \(rows, 2\); got \(4, 3\)$"):
        predict(x | {"len": np.ones((4, 3))})


def test_a_wrong_shape_names_the_input_whatever_its_name_is(tmp_path):
    names = ["{a}", "\"b'", "\n\\", "\0"]
    predict = predict_of(Join(**{name: Input(1) for name in names}), tmp_path)
    for name in names:
        with pytest.raises(ValueError, match=f"^{re.escape(f'x[{name!r}]')} must have the shape"):
            predict({other: np.ones((4, 1 + (other == name))) for other in names})
