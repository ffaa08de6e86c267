"""What every layer of the catalogue does besides its formula: JSON, repr, pickles, freezing, resuming, inference."""

import pickle

import numpy as np
import pytest

import framework
from framework import (
    GRU,
    LSTM,
    Component,
    Conv2D,
    Dense,
    Flatten,
    GlobalAverage,
    HalfSquaredError,
    MaxPool,
    MultiHeadAttention,
    Reshape,
    Sequential,
    SGDOptimizer,
    SimpleRNN,
    Tanh,
    Trainer,
    formulas,
    load,
    models,
    save,
)
from framework.base import UsageError
from framework.models import (
    RBF,
    AveragePool,
    Bidirectional,
    Bilinear,
    Conv1D,
    ConvTranspose1D,
    ConvTranspose2D,
    GroupNorm,
    PeriodicEmbedding,
    Permute,
    PositionalEncoding,
    RMSNorm,
)

# (the model, the shape of a sample); inputs are left out everywhere, and come with the data
MODELS = {
    "convolution": (lambda: (Conv2D(filters=3, kernel=2), MaxPool(window=2), Flatten(), Dense(units=2)), (2, 5, 5)),
    "convolution over steps": (lambda: (Conv1D(filters=3, kernel=2), GlobalAverage(), Dense(units=2)), (2, 6)),
    "overlapping pools": (
        lambda: (MaxPool(window=2, stride=1), AveragePool(window=2, padding=1), Flatten(), Dense(units=2)),
        (2, 5, 5),
    ),
    "groups of channels": (
        lambda: (
            Conv2D(filters=4, kernel=3, groups=2),
            Conv2D(filters=4, kernel=1, groups=4),
            Flatten(),
            Dense(units=2),
        ),
        (2, 5, 4),
    ),
    "causal": (lambda: (Conv1D(filters=3, kernel=3, padding="causal"), Flatten(), Dense(units=2)), (2, 6)),
    "embedded numbers": (lambda: (PeriodicEmbedding(units=3, frequencies=5, activation=Tanh()), Dense(units=2)), (4,)),
    "transposed": (
        lambda: (
            *(Conv2D(filters=4, kernel=3, stride=2), ConvTranspose2D(filters=2, kernel=3, stride=2, groups=2)),
            *(Flatten(), Dense(units=2)),
        ),
        (2, 5, 6),
    ),
    "transposed over steps": (
        lambda: (ConvTranspose1D(filters=2, kernel=4, stride=2, padding="same"), Flatten(), Dense(units=2)),
        (2, 4),
    ),
    "normalized groups": (
        lambda: (Conv2D(filters=4, kernel=2), GroupNorm(2), Flatten(), RMSNorm(), Dense(units=2)),
        (2, 5, 5),
    ),
    "rnn": (lambda: (SimpleRNN(units=3), Dense(units=2)), (5, 4)),
    "gru": (lambda: (GRU(units=3, returns="all", masking=0.0), GRU(units=3), Dense(units=2)), (5, 4)),
    "lstm": (lambda: (LSTM(units=3), Dense(units=2)), (5, 4)),
    "both directions": (
        lambda: (Bidirectional(GRU(units=3, returns="all")), Bidirectional(LSTM(units=2)), Dense(units=2)),
        (5, 4),
    ),
    "attention": (
        lambda: (PositionalEncoding(), MultiHeadAttention(heads=2, causal=True), Flatten(), Dense(units=2)),
        (5, 4),
    ),
    "quadratic": (lambda: (RBF(units=3), Bilinear(units=3, first=1), Dense(units=2)), (4,)),
    "shaping": (lambda: (Reshape((2, -1)), Permute((2, 1)), Flatten(), Dense(units=2)), (2, 3)),
}
EACH = pytest.mark.parametrize(("layers", "shape"), MODELS.values(), ids=MODELS)


def data_for(shape, rows=11):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, *shape)), rng.normal(size=(rows, 2))


def trainer(**settings):
    optimizer = SGDOptimizer(learning_rate=0.05, momentum=0.9)
    return Trainer(loss=HalfSquaredError(), optimizer=optimizer, batch_size=4, **settings)  # the last batch has 3 rows


@EACH
def test_inputs_come_from_the_data(layers, shape):
    model = Sequential(*layers())
    assert not model.settled
    with pytest.raises(UsageError, match="number of inputs is not known"):
        _ = model.parameters
    fitted = trainer(epochs=1).fit(model, data_for(shape)).model
    assert fitted.settled
    assert fitted.shape_after(shape) == (2,)
    assert fitted(data_for(shape)[0]).shape == (11, 2)
    if not fitted.leading_axes:  # otherwise an array is always a batch
        assert fitted(data_for(shape)[0][0]).shape == (2,)


PUBLIC = {name: getattr(room, name) for room in (framework, models, formulas) for name in dir(room)}


@EACH
def test_json_repr_and_pickle_give_it_back(layers, shape):
    model = Sequential(*layers())
    model.settle(shape)
    x, _ = data_for(shape)
    twin = Component.from_json(model.to_json())
    assert repr(twin) == repr(model)
    assert repr(eval(repr(model), PUBLIC)) == repr(model)
    np.testing.assert_array_equal(twin(x), model(x))
    model.parameters.vector[:] += 0.01
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(x), model(x))
    np.testing.assert_array_equal(model.copy()(x), model(x))


@EACH
def test_a_resumed_run_has_the_bits_of_one_that_went_through(layers, shape, tmp_path):
    data = data_for(shape)
    straight = trainer(epochs=4).fit(Sequential(*layers()), data)
    save(trainer(epochs=4).fit(Sequential(*layers()), data, epochs=2), tmp_path / "run")
    resumed = trainer(epochs=4).resume(tmp_path / "run", data)
    np.testing.assert_array_equal(resumed.model.parameters.vector, straight.model.parameters.vector)
    np.testing.assert_array_equal(load(tmp_path / "run").model(data[0]).shape, (11, 2))


@EACH
def test_it_trains_in_a_kernel_as_with_numpy(layers, shape):
    pytest.importorskip("llvmlite")
    numpy, compiled = (
        trainer(epochs=3, engine=engine).fit(Sequential(*layers()), data_for(shape)) for engine in ("numpy", "compiled")
    )
    assert compiled.engine == "compiled"
    np.testing.assert_allclose(compiled.model.parameters.vector, numpy.model.parameters.vector, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(compiled.history[-1]["loss"], numpy.history[-1]["loss"], rtol=1e-10)


@EACH
def test_frozen_parameters_stay(layers, shape):
    model = Sequential(*layers())
    model.settle(shape)
    frozen = next(iter(model.parameters))
    model.parameters.freeze(frozen)
    kept = model.parameters[frozen].copy()
    fitted = trainer(epochs=1).fit(model, data_for(shape)).model
    np.testing.assert_array_equal(fitted.parameters[frozen], kept)


@EACH
def test_float32_stays_float32_and_is_close_to_float64(layers, shape):
    x, y = data_for(shape)
    wide = Sequential(*layers())
    narrow = Sequential(*layers(), dtype="float32")
    for model in (wide, narrow):
        model.settle(shape)
    narrow.parameters.vector[:] = wide.parameters.vector
    gradients = []
    for model in (wide, narrow):
        a = model.forward(x.astype(model.dtype))
        dx = model.backward(y.astype(model.dtype))
        assert a.dtype == dx.dtype == model.parameters.gradient.dtype == model.dtype
        gradients.append((a, dx, model.parameters.gradient.copy()))
    for ours, theirs in zip(*gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(theirs).max()))


@EACH
def test_a_row_is_treated_alone_in_batches_of_any_size(layers, shape):
    model = Sequential(*layers())
    model.settle(shape)
    x, _ = data_for(shape)
    whole = model(x)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 11)):
        np.testing.assert_allclose(model(x[rows]), whole[rows], rtol=1e-12, atol=1e-12)


@EACH
def test_it_appears_in_the_summary(layers, shape):
    model = Sequential(*layers())
    model.settle(shape)
    lines = model.summary().splitlines()
    layers = [*model.walk_models()][1:]
    assert len(lines) == len(layers) + 3
    for (place, layer), line in zip(layers, lines[1:], strict=False):
        assert line.startswith(f"{place} {type(layer).__name__}")


def test_data_that_is_refused_leaves_the_model_unsettled():
    model = Sequential(GRU(units=3), Dense(units=2))
    with pytest.raises(framework.FrameworkError):
        trainer(epochs=1).fit(model, (np.ones((5, 4)), np.ones((5, 2))))
    assert not model.settled
