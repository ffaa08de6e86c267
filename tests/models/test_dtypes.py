"""The dtype of a model: given to all its layers at once, or changed later with the numbers."""

import re

import numpy as np
import pytest

from framework import (
    BatchNorm,
    Component,
    DataError,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    HalfSquaredError,
    Heads,
    Join,
    Layer,
    Model,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Tanh,
    Trainer,
)
from framework.models import Input
from framework.models.composite import Composite

X = np.random.default_rng(3).normal(size=(6, 4))
WITHOUT_NUMBERS = (Reshape((2, 2)), Flatten(), Dropout(0.2), Tanh(), Residual(ReLU()), Layer.of(lambda x: 2.0 * x))


class Gated(Composite):
    value: Model
    gate: Model

    def children(self):
        return {"value": self.value, "gate": self.gate}

    def apply(self, x, values, record):
        record["parts"] = v, g = [self.forward_child(name, x, record) for name in ("value", "gate")]
        return v * g

    def apply_backward(self, gradient, values, record, gradients):
        v, g = record["parts"]
        dx = self.backward_child("value", gradient * g, record)
        return dx + self.backward_child("gate", gradient * v, record)


MODELS = {
    "sequential": lambda **d: Sequential(Dense(4, 5), BatchNorm(), Tanh(), Dense(units=3), Softmax(), **d),
    "residual": lambda **d: Residual(Dense(4, 4), Dropout(0.5), BatchNorm(), **d),
    "own": lambda **d: Gated(value=Dense(4, 3, seed=1), gate=Sequential(Dense(4, 3), BatchNorm()), **d),
    "nested": lambda **d: Sequential(Residual(Dense(4, 4), Tanh()), Heads(a=None, b=Dense(4, 2)), **d),
}
EACH = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def require_dtype(model, dtype):
    """Check every number of a model, and every model inside."""
    assert {inside.dtype for _, inside in model.walk_models()} == {dtype}
    arrays = [model.parameters.vector, model.parameters.gradient, *model.parameters.values(), *model.buffers.values()]
    assert {array.dtype.name for array in arrays} == {dtype}


@EACH
def test_a_model_gives_its_dtype_to_all_layers(make):
    model, wide = make(dtype=np.float32), make()
    require_dtype(model, "float32")
    assert np.array_equal(model.parameters.vector, wide.parameters.vector.astype("float32"))
    twin = Component.from_json(model.to_json())
    require_dtype(twin, "float32")
    assert np.array_equal(twin.parameters.vector, model.parameters.vector)
    require_dtype(model.copy(), "float32")


@EACH
def test_astype_keeps_settings_and_numbers(make):
    wide = make()
    wide.forward(X, key=(1, 2))  # which moves the buffers
    wide.parameters.freeze(next(iter(wide.parameters)))
    wide.columns = "abcd"
    narrow = wide.astype("float32")
    require_dtype(narrow, "float32")
    require_dtype(wide, "float64")
    assert np.array_equal(narrow.parameters.vector, wide.parameters.vector.astype("float32"))
    for name, value in wide.buffers.items():
        assert np.array_equal(narrow.buffers[name], value.astype("float32"))
    assert (narrow.parameters.frozen, narrow.columns) == (wide.parameters.frozen, wide.columns)
    assert narrow.to_json().replace("float32", "float64") == wide.to_json()
    again = narrow.astype("float64")
    require_dtype(again, "float64")
    assert np.array_equal(again.parameters.vector, narrow.parameters.vector)


def test_astype_of_a_layer_inside_a_model_leaves_the_model_as_it_is():
    model = Sequential(Dense(4, 5), Dense(5, 2))
    layer = model[1].astype("float32")
    assert np.array_equal(layer.weights, model[1].weights.astype("float32"))
    require_dtype(model, "float64")
    unsettled = Dense(units=3).astype(np.float32)
    assert (unsettled.dtype, unsettled.settled) == ("float32", False)


def test_layers_that_have_numbers_move_into_a_model_of_another_dtype():
    first, inner = Dense.from_weights(np.eye(4) / 3), Sequential(Dense.from_weights(np.eye(4)), Tanh())
    inner.parameters.freeze("0.bias")
    model = Sequential(first, inner, dtype="float32")
    assert model[0] is first
    assert np.shares_memory(model.parameters.vector, first.weights)
    assert np.array_equal(first.weights, (np.eye(4) / 3).astype("float32"))
    assert model.parameters.frozen == ("1.0.bias",)
    inner[0].weights[0, 0] = 7.0
    assert model.parameters["1.0.weights"][0, 0] == 7.0
    x = X.astype("float32")
    assert np.array_equal(inner(first(x)), model(x))


def test_a_model_in_float32_trains_as_one_whose_layers_were_written_so():
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, batch_size=2)
    written = Sequential(Dense(4, 5, dtype="float32"), Tanh(), BatchNorm(5, dtype="float32"))
    model = Sequential(Dense(4, 5), Tanh(), BatchNorm(), dtype="float32")
    first, second = (trainer.fit(each, (X, X @ np.ones((4, 5)))) for each in (written, model))
    assert np.array_equal(first.model.parameters.vector, second.model.parameters.vector)


def test_layers_without_numbers_follow_the_others():
    for dtype in ("float32", "float64"):
        model = Sequential(Dense(4, 4, dtype=dtype), *(each.copy() for each in WITHOUT_NUMBERS[:3]), Tanh())
        require_dtype(model, dtype)
        free = [each.copy() if isinstance(each, Model) else each for each in WITHOUT_NUMBERS]
        require_dtype(Sequential(*free, Dense(4, 2, dtype=dtype)), dtype)
    assert Sequential(Flatten(), Dropout(0.1, dtype="float32"), Tanh()).dtype == "float32"
    require_dtype(Join(numbers=Input(2), city=Embedding(3, 2, dtype="float32")), "float32")
    assert Sequential(Dense(4, 4), Dropout(0.1, dtype="float32")).dtype == "float64"


def test_an_input_may_be_named_dtype():
    join = Join(dtype=Embedding(3, 2), shape=None)
    assert [*join.parts] == ["dtype", "shape"]
    assert isinstance(Heads(dtype=None)["dtype"], Input)


def test_different_dtypes_are_refused_with_the_layers_and_the_cure():
    layers = Dense(4, 5), Tanh(), Dense(5, 5, dtype="float32"), Residual(Dense(5, 5))
    message = re.escape(
        "Sequential: layers must have one dtype; got float64 (0 Dense, 3 Residual) and float32 (2 Dense); write "
        "Sequential(..., dtype='float32'), or layer.astype('float64') for the latter"
    )
    with pytest.raises(SettingsError, match=message):
        Sequential(*layers)
    with pytest.raises(SettingsError, match=re.escape("got float64 (dtype='float64') and float32 (2 Dense)")):
        Sequential(*layers, dtype="float64")
    require_dtype(Sequential(layers[0].copy(), layers[2].astype("float64"), Residual(Dense(5, 5))), "float64")
    require_dtype(Sequential(layers[0].copy(), *layers[1:], dtype="float32"), "float32")
    with pytest.raises(SettingsError, match="Sequential: argument 'dtype' must be 'float32' or 'float64'; got 'half'"):
        Sequential(Dense(4, 5), dtype="half")
    with pytest.raises(SettingsError, match="astype: argument 'dtype' must be 'float32' or 'float64'; got 'half'"):
        Dense(4, 5).astype("half")


def test_a_refused_model_leaves_its_layers_in_their_dtype():
    layer = Dense.from_weights(np.eye(4) / 3)
    many = Embedding(2**24 + 1, 1)
    with pytest.raises(SettingsError, match="float32 holds at most"):
        Join(numbers=layer, ids=many, dtype="float32")
    with pytest.raises(ShapeError):
        Sequential(layer, Dense(5, 5), dtype="float32")
    assert (layer.dtype, many.dtype) == ("float64", "float64")
    assert np.array_equal(layer.weights, np.eye(4) / 3)
    require_dtype(Sequential(layer), "float64")


def test_numbers_beyond_float32_are_refused():
    layer = Dense.from_weights([[1e300]])
    with pytest.raises(DataError, match=r"Dense in float32: parameter 'weights' must be finite; got inf at .*\[0, 0\]"):
        layer.astype("float32")
    with pytest.raises(DataError, match="Dense in float32"):
        Sequential(layer, dtype="float32")
    assert layer.weights[0, 0] == 1e300


def test_a_layer_that_was_used_before_computes_in_its_new_dtype():
    used, new = (Dense(4, 3, Softmax(), seed=1) for _ in range(2))
    used.forward(X)
    models = Sequential(used, dtype="float32"), Sequential(new, dtype="float32"), used.astype("float32")
    x = X.astype("float32")
    outputs = [model.forward(x) for model in models]
    assert {output.dtype.name for output in outputs} == {"float32"}
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])
