"""ONNX Runtime computes with an exported file what the model computes."""

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from catalogue import catalogue
from export_pieces import (
    ACTIVATIONS,
    EACH,
    GRID,
    MODELS,
    OWN,
    Looped,
    every_step,
    made,
    of_integers,
    sample,
    side_by_side,
)
from formulas.derivatives.right_formulas import LAYERS

from framework import (
    LSTM,
    Activation,
    AdamOptimizer,
    CrossEntropy,
    Dense,
    Embedding,
    Heads,
    Join,
    Layer,
    MaxPool,
    Model,
    ReLU,
    Sequential,
    SettingsError,
    Softmax,
    Tanh,
    Trainer,
    export_onnx,
)
from framework.data import load_digits
from framework.export.operations import OPERATORS
from framework.models import Composite, Input

TOLERANCES = {"float32": 1e-6, "float64": 3e-15}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES)


def session(model, folder, **settings):
    path = folder / "model.onnx"
    export_onnx(model, path, **settings)
    return onnxruntime.InferenceSession(path)


def outputs(run, x):
    """Run a file on x, an array or a dict of arrays by name, and return the outputs by name."""
    dtypes = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(int64)": "int64"}
    feed = {i.name: np.asarray(x[i.name] if isinstance(x, dict) else x, dtypes[i.type]) for i in run.get_inputs()}
    return dict(zip([output.name for output in run.get_outputs()], run.run(None, feed), strict=True))


def require_close(found, expected, dtype):
    """Compare with a tolerance relative to max(1, |a|); NaN and infinities must be the same."""
    assert (found.shape, found.dtype) == (expected.shape, np.dtype(dtype))
    scale = np.where(np.isfinite(expected), np.maximum(1, np.abs(expected)), 1)
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=TOLERANCES[dtype])


@DTYPES
def test_digits_have_the_classes_of_the_model(tmp_path, dtype):
    x, y = load_digits()
    x = x / 16
    model = Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax()))
    optimizer = AdamOptimizer(learning_rate=0.003)
    Trainer(loss=CrossEntropy(), optimizer=optimizer, epochs=3).fit(model, (x, y))
    run = session(model, tmp_path, dtype=dtype, classes=[f"digit {n}" for n in range(10)])
    found = outputs(run, x)
    require_close(found["probabilities"], model(x).astype(dtype), dtype)
    assert found["label"].tolist() == [f"digit {n}" for n in model.classify(x)]
    assert run.get_modelmeta().custom_metadata_map["classes"].startswith('["digit 0", "digit 1",')


ARRAYS = [np.array([1, 2, 3], "int8"), np.array([0.5, 1, 2], "float32"), pd.Series(["a", "b", "c"])]


@pytest.mark.parametrize("names", ARRAYS, ids=lambda names: str(names.dtype))
def test_classes_may_be_an_array(names, tmp_path):
    model = Dense(2, 3, Softmax())
    x = np.random.default_rng(0).normal(size=(7, 2))
    label = outputs(session(model, tmp_path, classes=names), x)["label"]
    assert label.tolist() == [names[n] for n in model.classify(x)]


@pytest.mark.share(1 / 3)
@DTYPES
@EACH
def test_layers_compute_the_same_for_any_number_of_rows(make, shape, dtype, tmp_path):
    model = made(make, shape, dtype)
    run = session(model, tmp_path, shape=shape)
    for rows in (1, 7, 1000):
        x = sample(model, shape, rows)
        expected, found = model(x), outputs(run, x)
        for key, each in (expected if isinstance(expected, dict) else {"output": expected}).items():
            require_close(found[key], each, dtype)


def test_every_layer_of_the_library_is_among_them():
    def kinds(model):
        inside = model.parts.values() if isinstance(model, Composite) else ()
        return {type(model)}.union(*map(kinds, inside))

    tried = set().union(*(kinds(made(make, shape, "float32")) for make, shape in MODELS.values()))
    assert not {*catalogue(Model)} - tried


@pytest.mark.share(1 / 3)
@DTYPES
@pytest.mark.parametrize("chosen", [ACTIVATIONS, OWN], ids=["of the library", "own"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_activations_compute_the_same(chosen, dtype, tmp_path):
    x = GRID.astype(dtype)
    found = outputs(session(side_by_side(chosen, dtype), tmp_path, shape=(2,)), x)
    for place, each in enumerate(chosen):
        require_close(found[f"f{place}"], np.asarray(each(x)), dtype)


@pytest.mark.share(1 / 3)
@DTYPES
def test_every_operation_computes_the_same_in_own_layers(dtype, tmp_path):
    model = every_step(dtype)
    run = session(model, tmp_path)
    for rows in (1, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 2, 3, 4)).astype(dtype)
        found = outputs(run, x)
        for key, layer in model.parts.items():
            require_close(found[key], layer.formula(x, **layer.parameters), dtype)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_written_by_hand_compute_the_same(layer, tmp_path):
    x = np.random.default_rng(3).normal(size=(7, *layer.input_shape))
    x = x if layer.cardinality is None else np.abs(x).astype(int)
    require_close(outputs(session(layer, tmp_path), x)["output"], layer(x), "float64")


class Extremes(Layer):
    """The extremes of the last axis, and their places."""

    mixes_rows = True

    def formula(self, x):
        found = [np.max(x, axis=-1), np.min(x, axis=-1), 1.0 * np.argmax(x, axis=-1), 1.0 * np.argmin(x, axis=-1)]
        return np.stack(found, axis=-1)


class Opaque(Activation):
    def __call__(self, h):
        return np.vectorize(lambda x: x * 2.0, otypes=[float])(h)

    def derivative(self, h):
        return np.full_like(h, 2.0)


REFUSED = {
    "a function without a graph": (
        lambda: (Sequential(Dense(2, 3), Dense(3, 1, Opaque())), {}),
        r"layer 1 Dense: .* is a Python function without a graph",
    ),
    "a layer without a graph": (
        lambda: (Sequential(Dense(2, 3), Looped(), Dense(3, 1)), {}),
        r"layer 1 Looped has no graph: .*an 'if', .* on an array .*; write it with the functions of docs/operations.md",
    ),
    "an open shape": (lambda: (LSTM(units=2, inputs=3), {}), r"leaves the shape .* open, \(any, 3\); give shape"),
    "another shape": (lambda: (Dense(2, 3), {"shape": (3,)}), r"'shape' must fit \(2,\); got \(3,\)"),
    "a number for a shape": (lambda: (Dense(2, 3), {"shape": 2}), "'shape' must be a tuple of sizes, as .*; got 2"),
    "another dtype": (lambda: (Dense(2, 3), {"dtype": "float16"}), "'dtype' must be 'float32' or 'float64'"),
    "a dtype of NumPy": (lambda: (Dense(2, 3), {"dtype": np.float32}), r"must be a str or None; got .*float32'>$"),
    "no model": (lambda: (Tanh(), {}), r"'model' must be a Model; got Tanh\(\)"),
    "too many classes": (lambda: (Dense(2, 3), {"classes": [*"abcd"]}), "must have 3 names, one a class"),
    "a text for classes": (
        lambda: (Dense(2, 3), {"classes": "abc"}),
        "must have 3 names, one a class; got 'abc'",
    ),
    "classes in no order": (
        lambda: (Dense(2, 3), {"classes": {*"abc"}}),
        "must be a list, in the order of the outputs; got",
    ),
    "classes of several kinds": (lambda: (Dense(2, 3), {"classes": [1, "a", 2]}), r"different texts, .*; got \[1, 'a'"),
    "a class that comes twice": (lambda: (Dense(2, 3), {"classes": [*"aab"]}), "different texts, .*; got"),
    "a class that is missing": (lambda: (Dense(2, 3), {"classes": [None, "a", "b"]}), "different texts, .*; got"),
    "large classes": (lambda: (Dense(2, 3), {"classes": [2**70, 1, 2]}), "whole numbers below 2\\^63"),
    "classes of several outputs": (
        lambda: (Heads(a=Dense(2, 1), b=Dense(2, 1)), {"classes": "ab"}),
        "for a model of one output; this one has a, b",
    ),
    "an output named as an input": (
        lambda: (Sequential(Join(a=Input(2), b=Input(2)), Heads(a=Dense(4, 1), b=Dense(4, 1))), {}),
        "would have the name 'a'",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_form_is_refused_by_name_before_anything_is_written(make, message, tmp_path):
    model, settings = make()
    with pytest.raises(SettingsError, match=message):
        export_onnx(model, tmp_path / "model.onnx", **settings)
    assert not [*tmp_path.iterdir()]


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"model\.onnx' cannot be written: No such file"):
        export_onnx(Dense(2, 3), tmp_path / "no folder" / "model.onnx")


def test_what_depends_on_parameters_alone_is_stored(tmp_path):
    export_onnx(made(*MODELS["running statistics"], "float32"), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [node.op_type for node in graph.node] == ["Sub", "Mul", "Add", "Identity"]


def test_convolutions_are_one_operator(tmp_path):
    for name in ("gaps and steps", "zeros around", "no later step", "groups of channels"):
        make, shape = MODELS[name]
        model = made(make, shape, "float32")
        export_onnx(model, tmp_path / "model.onnx", shape=shape)
        operators = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
        assert operators == [*["Conv", "Add"] * len(model), "Identity"]


def test_an_operation_without_a_row_is_refused_by_its_name(tmp_path, monkeypatch):
    monkeypatch.delitem(OPERATORS, "tanh")
    with pytest.raises(SettingsError, match=r"layer 1 Dense: np\.tanh has no operator in ONNX"):
        export_onnx(Sequential(Dense(2, 3), Dense(3, 1, Tanh())), tmp_path / "model.onnx")


def test_no_rows_give_no_outputs(tmp_path):
    model = Sequential(Dense(2, 3, Tanh()), Dense(3, 2, Softmax()))
    found = outputs(session(model, tmp_path, classes=["no", "yes"]), np.zeros((0, 2)))
    assert (found["probabilities"].shape, found["label"].shape) == ((0, 2), (0,))


def test_odd_names_of_inputs_and_outputs_are_kept(tmp_path):
    model = Sequential(Join(**{"a][b": Input(1), "it's": Input(1)}), Heads(**{"[x]": Dense(2, 1), "y": Dense(2, 1)}))
    run = session(model, tmp_path)
    assert [each.name for each in run.get_inputs()] == ["a][b", "it's"]
    assert [each.name for each in run.get_outputs()] == ["[x]", "y"]


def test_integers_and_booleans_compute_the_same(tmp_path):
    model, x = of_integers(), np.random.default_rng(0).normal(size=(7, 3, 4))
    found = outputs(session(model, tmp_path), x)
    for key, expected in model(x).items():
        np.testing.assert_allclose(found[key], expected, rtol=1e-14, err_msg=key)


def test_inputs_may_have_the_names_of_parameters_and_of_values_inside(tmp_path):
    model = Sequential(Join(**{"/Add_1": Input(1), "1-bias": Input(1)}), Dense(2, 1, Tanh()))
    run = session(model, tmp_path)
    x = {"/Add_1": np.array([[0.5], [1.0]]), "1-bias": np.array([[2.0], [3.0]])}
    require_close(outputs(run, x)["output"], model(x), "float64")


@DTYPES
def test_ids_out_of_range_are_refused(dtype, tmp_path):
    run = session(Embedding(5, 2, dtype=dtype), tmp_path, shape=(1,))
    for odd in (-1, 5):
        with pytest.raises(Exception, match="out of data bounds"):
            outputs(run, [[odd]])


@DTYPES
def test_extremes_of_nan_are_those_of_numpy(dtype, tmp_path):
    model = Sequential(MaxPool(window=2), Extremes()).in_dtype(dtype)
    x = np.array([[[1.0, 2.0, np.inf, 4.0, 3.0, 0.0]], [[1.0, 2.0, np.inf, 4.0, np.nan, 0.0]]], dtype)
    found = outputs(session(model, tmp_path, shape=(1, 6)), x)["output"]
    np.testing.assert_array_equal(found, model(x))
    np.testing.assert_array_equal(found, [[[np.inf, 2, 1, 0]], [[np.nan, np.nan, 2, 2]]])
