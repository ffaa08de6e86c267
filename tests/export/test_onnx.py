"""ONNX Runtime computes with an exported file what the model computes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from catalogue import catalogue, example
from derivatives.own_formulas import activation
from derivatives.right_formulas import DERIVED, FROM_OUTPUT, LAYERS, ROW_ACTIVATIONS
from graph.random_formulas import STEPS

from framework import (
    GRU,
    LSTM,
    RBF,
    Activation,
    AdamOptimizer,
    AveragePool,
    BatchNorm,
    Bilinear,
    CheckpointError,
    Composite,
    Conv1D,
    Conv2D,
    CrossEntropy,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAverage,
    Heads,
    Input,
    Join,
    Layer,
    LayerNorm,
    MaxPool,
    Model,
    MultiHeadAttention,
    Neuron,
    Permute,
    PositionalEncoding,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SettingsError,
    Sigmoid,
    SimpleRNN,
    Softmax,
    Tanh,
    Trainer,
    export_onnx,
)
from framework.datasets import load_digits
from framework.models.composite import ActivationLayer

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


class Shared(Composite):
    """body(x) body(2 x): one child with two calls."""

    body: Model

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        record["ab"] = a, b = [self.forward_child("body", part, record) for part in (x, 2 * x)]
        return a * b

    def apply_backward(self, gradient, values, record, gradients):
        a, b = record["ab"]
        dx = 2 * self.backward_child("body", gradient * a, record)
        return dx + self.backward_child("body", gradient * b, record)


# (the layers, the shape of a sample)
MODELS = {
    "units": (lambda: [Dense(units=5, activation=Tanh()), Neuron(activation=Sigmoid())], (4,)),
    "units for each step": (lambda: [Dense(4, 3)], (6, 4)),
    "an image": (lambda: [Conv2D(filters=3, kernel=2), MaxPool(window=2), Flatten(), Dense(units=2)], (2, 5, 5)),
    "gaps and steps": (
        lambda: [Conv2D(filters=3, kernel=(2, 3), stride=(2, 1), dilation=(1, 2), padding="same")],
        (2, 7, 7),
    ),
    "zeros around": (lambda: [Conv2D(filters=2, kernel=3, stride=2, padding=1)], (2, 8, 7)),
    "a signal": (lambda: [Conv1D(filters=3, kernel=2), GlobalAverage(), Dense(units=2)], (2, 6)),
    "overlapping pools": (
        lambda: [MaxPool(window=2, stride=1), AveragePool(window=2, padding=1), MaxPool(window=3, stride=2, padding=1)],
        (2, 5, 5),
    ),
    "rnn": (lambda: [SimpleRNN(units=3, returns="all"), SimpleRNN(units=3)], (5, 4)),
    "gru": (lambda: [GRU(units=3, returns="all", masking=0.0), GRU(units=3)], (5, 4)),
    "lstm": (lambda: [LSTM(units=3, returns="all"), LSTM(units=2)], (5, 4)),
    "attention": (
        lambda: [PositionalEncoding(), MultiHeadAttention(heads=2, causal=True, masking=0.0), Flatten()],
        (5, 4),
    ),
    "distances and products": (lambda: [RBF(units=3), Bilinear(units=3, first=1)], (4,)),
    "shaping": (lambda: [Reshape((2, -1)), Permute((2, 1)), Flatten()], (2, 3)),
    "ids": (lambda: [Embedding(6, 3), Flatten()], (4,)),
    "running statistics": (lambda: [BatchNorm(4), Dropout(0.5)], (4,)),
    "rows normalized": (lambda: [LayerNorm(16)], (16,)),
    "a residual": (lambda: [Residual(Dense(4, 4, ReLU()), Dense(4, 4)), ReLU()], (4,)),
    "several inputs and outputs": (
        lambda: [
            Join(numbers=Input(4), city=Embedding(5, 3), age=Dense(1, 2)),
            Dense(units=3),
            Heads(price=Dense(units=1), late=Dense(units=2, activation=Softmax())),
        ],
        {"numbers": (4,), "city": (), "age": ()},
    ),
    "an own composite": (lambda: [Shared(body=Residual(Shared(body=Dense(2, 2, Tanh()))))], (2,)),
}


def made(make, shape, dtype):
    model = Sequential(*make()).in_dtype(dtype)
    model.settle(shape)
    rng = np.random.default_rng(0)
    model.parameters.vector[:] += 0.1 * rng.normal(size=model.parameters.vector.size)
    for value in model.buffers.values():
        value[...] = rng.uniform(0.5, 2.0, value.shape)
    return model


def sample(shape, rows):
    rng = np.random.default_rng(rows)
    x = {
        key: rng.normal(size=(rows, *size)) for key, size in (shape if isinstance(shape, dict) else {"": shape}).items()
    }
    x |= {"city": rng.integers(5, size=rows)} if "city" in x else {}
    if isinstance(shape, dict):
        return x
    if len(shape) == 2:
        x[""][:, 3:] = 0.0  # steps that masking hides
    return x[""]


@DTYPES
@pytest.mark.parametrize(("make", "shape"), MODELS.values(), ids=MODELS)
def test_layers_compute_the_same_for_any_number_of_rows(make, shape, dtype, tmp_path):
    model = made(make, shape, dtype)
    run = session(model, tmp_path, shape=shape)
    for rows in (1, 7, 1000):
        x = sample(shape, rows)
        x = (
            np.abs(x).astype(int) % 6
            if model.cardinalities(shape) is not None and isinstance(model[0], Embedding)
            else x
        )
        expected, found = model(x), outputs(run, x)
        for key, each in (expected if isinstance(expected, dict) else {"output": expected}).items():
            require_close(found[key], each, dtype)


def test_every_layer_of_the_library_is_among_them():
    def kinds(model):
        inside = model.parts.values() if isinstance(model, Composite) else ()
        return {type(model)}.union(*map(kinds, inside))

    tried = set().union(*(kinds(made(make, shape, "float32")) for make, shape in MODELS.values()))
    assert not {*catalogue(Model)} - tried


ACTIVATIONS = [example(cls) for cls in catalogue(Activation)]
OWN = [activation(formula) for formula, _ in DERIVED.values()] + [*ROW_ACTIVATIONS.values(), *FROM_OUTPUT.values()]


@DTYPES
@pytest.mark.parametrize("chosen", [ACTIVATIONS, OWN], ids=["of the library", "own"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_activations_compute_the_same(chosen, dtype, tmp_path):
    x = np.concatenate([np.linspace(-30, 30, 997), [88.0, -88.0, 200.0, -200.0, 0.0]]).reshape(-1, 2).astype(dtype)
    parts = {f"f{place}": ActivationLayer(activation=each, dtype=dtype) for place, each in enumerate(chosen)}
    found = outputs(session(Heads(**parts), tmp_path, shape=(2,)), x)
    for place, each in enumerate(chosen):
        require_close(found[f"f{place}"], np.asarray(each(x)), dtype)


class Step(Layer):
    """One of the steps of random formulas, on two arrays and an axis."""

    mixes_rows = True
    check = "off"

    place: int

    @property
    def input_shape(self):
        return (2, 3, 4)

    def shapes(self):
        return {"w": (4, 4), "v": (3, 3), "c": (4,), "s": ()}

    def formula(self, x, **parameters):
        step = STEPS[self.place]
        given = {"a": x[:, 0], "b": x[:, 1], "axis": 1 + self.place % 2, **parameters}
        return step(*(given[name] for name in step.__code__.co_varnames[: step.__code__.co_argcount]))


@DTYPES
def test_every_operation_computes_the_same_in_own_layers(dtype, tmp_path):
    steps = {f"step{place}": Step(place=place, dtype=dtype) for place in range(len(STEPS))}
    model = Heads(**steps)
    model.parameters.vector[:] = np.random.default_rng(0).normal(size=model.parameters.vector.size)
    run = session(model, tmp_path)
    for rows in (1, 7):
        x = np.random.default_rng(rows).normal(size=(rows, 2, 3, 4)).astype(dtype)
        found = outputs(run, x)
        for key, layer in steps.items():
            require_close(found[key], layer.formula(x, **layer.parameters), dtype)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_layers_written_by_hand_compute_the_same(layer, tmp_path):
    x = np.random.default_rng(3).normal(size=(7, *layer.input_shape))
    require_close(outputs(session(layer, tmp_path), x)["output"], layer(x), "float64")


class Looped(Layer):
    """Written by hand, with what no graph has: a choice by the numbers themselves."""

    check = "off"

    def apply(self, x, values, record):
        return x if x.sum() > 0 else -x

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


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
    "another dtype": (lambda: (Dense(2, 3), {"dtype": "float16"}), "'dtype' must be 'float32' or 'float64'"),
    "no model": (lambda: (Tanh(), {}), r"'model' must be a model; got Tanh\(\)"),
    "too many classes": (lambda: (Dense(2, 3), {"classes": "abcd"}), "tells 3 classes apart; got 4"),
    "classes of several outputs": (
        lambda: (Heads(a=Dense(2, 1), b=Dense(2, 1)), {"classes": "ab"}),
        "for a model of one output; this one has a, b",
    ),
    "an output named as an input": (
        lambda: (Sequential(Join(a=Input(2), b=Input(2)), Heads(a=Dense(4, 1), b=Dense(4, 1))), {}),
        "have the name of another",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_form_is_refused_by_name_before_anything_is_written(make, message, tmp_path):
    model, settings = make()
    with pytest.raises(SettingsError, match=message):
        export_onnx(model, tmp_path / "model.onnx", **settings)
    assert not [*tmp_path.iterdir()]


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.onnx' cannot be written: No such file"):
        export_onnx(Dense(2, 3), tmp_path / "no folder" / "model.onnx")


def test_what_depends_on_parameters_alone_is_stored(tmp_path):
    export_onnx(made(*MODELS["running statistics"], "float32"), tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert [node.op_type for node in graph.node] == ["Sub", "Mul", "Add", "Identity"]


def test_convolutions_are_one_operator(tmp_path):
    for name in ("gaps and steps", "zeros around"):
        make, shape = MODELS[name]
        export_onnx(made(make, shape, "float32"), tmp_path / "model.onnx", shape=shape)
        assert [n.op_type for n in onnx.load(tmp_path / "model.onnx").graph.node] == ["Conv", "Add", "Identity"]
