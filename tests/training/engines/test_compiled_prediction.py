"""Predictions in a kernel are those of NumPy, to a few units of the last place."""

import copy
import pickle
import threading
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from catalogue import catalogue
from export_pieces import EACH, made, of_integers, sample

from framework import (
    GRU,
    Accuracy,
    Activation,
    BatchNorm,
    Conv2D,
    CrossEntropy,
    DataError,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAverage,
    Heads,
    Identity,
    Layer,
    LayerNorm,
    MeanSquaredError,
    Neuron,
    Preprocess,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
    Trainer,
)
from framework.base import DtypeError, UsageError
from framework.base.trees import leaves, take
from framework.formulas import Sine
from framework.training import compile_model

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(700, 5))  # in blocks of 256 rows


def network(dtype="float64", last=None):
    model = Sequential(
        Dense(5, 7, Tanh(), dtype=dtype),
        BatchNorm(7, dtype=dtype),
        Dropout(0.5, dtype=dtype),
        Residual(Dense(7, 7, dtype=dtype)),
        LayerNorm(7, dtype=dtype),
        Dense(7, 3, last or Softmax(), dtype=dtype),
    )
    model.buffers["1.running_mean"][:] = RNG.normal(size=7)
    return model


def require_near(model, x=X):
    """Compare with NumPy, in units of the last place of the largest number in a row."""
    fast, x = compile_model(model), x.astype(model.dtype)
    assert fast.engine == "compiled"
    found, expected = fast(x), model(x)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    scale = np.maximum(np.abs(expected).max(axis=-1, keepdims=expected.ndim > 1), 1.0)
    assert (np.abs(found - expected) <= 16 * np.finfo(model.dtype).eps * scale).all()
    return fast, x, found


def require_rows_alone(fast, x, found):
    """The bits of a row do not depend on the rows beside it."""
    for rows in (1, 2, 3, 5, 8, 13, 16, 17, 31, 33, 64, 100, 255, 256, 257):
        np.testing.assert_array_equal(fast(x[:rows]), found[:rows])
        np.testing.assert_array_equal(fast(x[-rows:]), found[-rows:])
    for row in (0, 1, 699):
        for _ in range(2):  # the second time in memory that was kept
            np.testing.assert_array_equal(fast(x[row]), found[row])
            assert type(fast(x[row])) is type(fast.model(x[row]))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cls", catalogue(Activation), ids=lambda cls: cls.__name__)
def test_every_activation_within_and_at_the_end(cls, dtype):
    activation = Sine(frequency=1.0) if cls is Sine else cls()  # a fast sine magnifies the last bits of its argument
    model = Sequential(Dense(5, 7, activation, dtype=dtype), Dense(7, 3, activation, dtype=dtype))
    require_rows_alone(*require_near(model))


MODELS = {
    "layers of each kind": network,
    "one unit": lambda dtype: Sequential(Dense(5, 4, ReLU(), dtype=dtype), Neuron(4, Sigmoid(), dtype=dtype)),
    "a neuron": lambda dtype: Neuron(5, Sigmoid(), dtype=dtype),
    "an activation at the end": lambda dtype: Sequential(LayerNorm(5, dtype=dtype), Softmax()),
    "no activation": lambda dtype: Sequential(Dense(5, 9, dtype=dtype), BatchNorm(9, dtype=dtype)),
    "of a size for BLAS": lambda dtype: Sequential(Dense(5, 600, ReLU(), dtype=dtype), Dense(600, 300, dtype=dtype)),
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_models_of_several_layers(make, dtype):
    require_rows_alone(*require_near(make(dtype)))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@EACH
def test_every_layer_of_the_library_predicts_in_a_kernel(make, shape, dtype):
    """``test_onnx`` checks that these models have every layer."""
    model = made(make, shape, dtype)
    if model.by_python:
        return
    x = sample(model, shape, 40)
    fast, expected = compile_model(model), model(x)
    found = fast(x)
    assert fast.engine == "compiled"
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for ours, theirs in zip(leaves(found), leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    for rows in (1, 2, 7, 17, 39):
        for part, whole in zip(leaves(fast(take(x, slice(rows)))), leaves(found), strict=True):
            np.testing.assert_array_equal(part, whole[:rows])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_integers_and_booleans_are_computed_in_a_kernel(dtype):
    model, x = of_integers(dtype), RNG.normal(size=(7, 3, 4)).astype(dtype)
    fast, tolerance = compile_model(model), 1e-13 if dtype == "float64" else 2e-5
    for key, found in fast(x).items():
        np.testing.assert_allclose(found, model(x)[key], rtol=tolerance, atol=tolerance, err_msg=key)
    assert fast.engine == "compiled"


def test_many_rows_of_large_samples_take_little_memory():
    model = Sequential(Conv2D(filters=8, kernel=3, inputs=1, padding="same"), Tanh(), GlobalAverage())
    first, x = compile_model(model), RNG.normal(size=(40, 1, 200, 200))
    expected, fast = first(x), copy.copy(first)
    tracemalloc.start()
    found = fast(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # the outputs of the convolution for all rows are 102 MB
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(found, model(x), rtol=1e-12, atol=1e-15)  # a mean of 40,000 numbers may be near 0


def test_each_length_of_a_sequence_is_compiled(monkeypatch):
    model = GRU(3, inputs=2)
    fast, expected = compile_model(model), {}
    for steps in (*range(1, 11), 1):
        x = np.linspace(-1.0, 1.0, 8 * steps).reshape(4, steps, 2)
        expected[steps] = model(x)
        with monkeypatch.context() as patched:
            patched.setattr(GRU, "__call__", None)  # NumPy would call it
            for _ in range(2):
                np.testing.assert_allclose(fast(x), expected[steps], rtol=1e-13, atol=1e-15)
    assert fast.engine == "compiled"


@pytest.mark.parametrize("heads", [False, True])
def test_a_wrong_id_raises_the_error_of_the_model(heads):
    model = Sequential(Embedding(6, 3), Flatten(), Heads(a=Dense(12, 2), b=Neuron(12)) if heads else Dense(12, 2))
    fast, x = compile_model(model), RNG.integers(0, 6, (9, 4)).astype(float)
    for _ in range(2):
        for rows in (x, x[0]):
            for ours, theirs in zip(leaves(fast(rows)), leaves(model(rows)), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-13)
        for wrong in (6.0, -1.0, 0.5, np.nan):
            bad = x.copy()
            bad[3, 1] = wrong
            for predict in (model, fast, fast.outputs):
                with pytest.raises(DataError, match="Embedding: argument 'x' must hold whole ids"):
                    predict(bad)
            with pytest.raises(DataError, match="Embedding: argument 'x' must hold whole ids"):
                fast(bad[3])


@pytest.mark.parametrize(
    "formula",
    [
        lambda x, w: (w @ x.T).T,  # one column of a product is summed in another order than several
        lambda x, w: (w @ np.pad(x.T[2:], ((1, 1), (0, 0)))).T,  # zeros that lie elsewhere for other numbers of rows
        lambda x, w: np.einsum("ijr,kij->kr", np.stack([w @ x.T, -w @ x.T])[:, :5], w[:, :10].reshape(7, 2, 5)).T,
    ],
    ids=["product", "padding", "tables"],
)
def test_rows_along_the_last_axis_have_the_same_bits(formula):
    weights = np.linspace(-1.0, 1.0, 55 * 7).reshape(7, 55)
    layer = Layer.of(formula, shapes={"w": (7, 55)})
    layer.parameters["w"][:] = weights
    fast, x = compile_model(layer), RNG.normal(size=(700, 55))
    np.testing.assert_allclose(fast(x), formula(x, weights), rtol=1e-12, atol=1e-13)
    require_rows_alone(fast, x, fast(x))


@pytest.mark.parametrize("first", [Dropout(0.2), Tanh(), Flatten()], ids=repr)
@pytest.mark.parametrize("last", [BatchNorm, LayerNorm])
def test_a_later_layer_says_how_long_a_row_is(first, last):
    model = Sequential(first.replace(), last(5))
    compiled = compile_model(model)
    assert compiled.engine == "compiled"
    for x in (X, X[:3], X[0]):
        np.testing.assert_allclose(compiled(x), model(x), rtol=1e-12, atol=1e-14)
    predicted = trainer("auto").predict(model, X)
    np.testing.assert_allclose(predicted, model(X), rtol=1e-12, atol=1e-14)


def test_any_form_of_the_input_has_the_same_bits():
    fast = compile_model(network())
    found = fast(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    wide = np.repeat(X, 2, axis=1)
    unaligned = np.frombuffer(b"0" + X.tobytes(), np.uint8)[1:].view(np.float64).reshape(X.shape)
    for rows in (3, 700):
        for x in (read_only, np.asfortranarray(X), wide[:, ::2], X.astype(">f8"), unaligned, X.view(np.matrix)):
            np.testing.assert_array_equal(fast(x[:rows]), found[:rows])
        np.testing.assert_array_equal(fast(X[:rows].tolist()), found[:rows])
        np.testing.assert_array_equal(fast(X[::-1][:rows]), found[::-1][:rows])
    whole = np.arange(15).reshape(3, 5)
    np.testing.assert_array_equal(fast(whole), fast(whole.astype(float)))


@pytest.mark.parametrize("rows", [0, 1, 700])
def test_a_result_belongs_to_the_caller(rows):
    fast = compile_model(network())
    first = fast(X[:rows])
    kept = first.copy()
    first[:] = 7.0
    np.testing.assert_array_equal(fast(X[:rows]), kept)
    assert first.shape == (rows, 3)


@pytest.mark.parametrize(
    ("x", "error"),
    [(np.zeros(4), ShapeError), (np.zeros((2, 6)), ShapeError), (["a"] * 5, DtypeError), (1.0, ShapeError)],
)
def test_errors_are_those_of_the_model(x, error):
    model = network()
    fast = compile_model(model)
    fast(X[:2])
    messages = []
    for predict in (model, fast, model.predict, fast.predict):
        with pytest.raises(error) as caught:
            predict(x)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[2] == messages[3]


@pytest.mark.parametrize("shape", [(4,), (2, 6), (50, 4), (50, 6), (2, 3, 5)])
def test_a_model_that_leaves_its_width_open_refuses_what_a_later_layer_cannot_take(shape):
    model, x = Sequential(Softmax(), Dropout(0.5), Dense(5, 3, Softmax())), np.ones(shape)
    assert model.input_shape == (None,)
    fast = compile_model(model)
    assert fast.engine == "compiled"
    for _ in range(2):
        if shape[-1] == 5:
            np.testing.assert_allclose(fast(x), model(x), rtol=1e-13)
            continue
        with pytest.raises(ShapeError, match="Dense takes samples of shape"):
            fast(x)
        with pytest.raises(ShapeError):
            fast.predict(x)
        with pytest.raises(ShapeError):
            trainer("compiled").predict(model, x)
        with pytest.raises(ShapeError):
            trainer("compiled").evaluate(model, (x, np.zeros(len(x), int)))


def test_numbers_that_are_not_finite_are_refused_by_predict_and_pass_through_a_call():
    fast = compile_model(Dense(5, 2))
    bad = np.full((2, 5), np.nan)
    assert np.isnan(fast(bad)).all()
    with pytest.raises(DataError, match="must be finite"):
        fast.predict(bad)


def test_samples_of_further_axes_are_those_of_the_model():
    model = Dense(5, 2, Tanh())
    fast, x = compile_model(model), RNG.normal(size=(3, 4, 5))
    np.testing.assert_allclose(fast(x), model(x), rtol=1e-13)


def test_weights_buffers_and_moves_are_seen():
    model, layer = Sequential(Dense(5, 3), BatchNorm(3)), Dense(3, 2)
    fast, part = compile_model(model), compile_model(layer)
    for rows in (X[0], X[:9], X):
        before = fast(rows)
        model.parameters.vector *= 2.0
        model.buffers["1.running_mean"][:] += 1.0
        assert (fast(rows) != before).all()
        np.testing.assert_allclose(fast(rows), model(rows), rtol=1e-13, atol=1e-13)
    z = np.ones(3)
    before = part(z)
    whole = Sequential(Dense(5, 3), layer)
    whole.parameters["1.bias"][:] += 1.0  # which lie in the vector of the whole now
    np.testing.assert_array_equal(part(z), before + 1.0)


def test_training_with_another_engine_is_seen():
    model = network()
    fast = compile_model(model)
    before = fast(X[0])
    y = RNG.integers(0, 3, len(X))
    Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (X, y))
    assert (fast(X[0]) != before).all()
    np.testing.assert_allclose(fast(X), model(X), rtol=1e-12, atol=1e-14)


def test_a_layer_of_another_size_is_compiled_anew():
    layer = Dense(units=2)
    with pytest.raises(UsageError):
        compile_model(layer)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    trainer.fit(layer, (X, X[:, :2]))
    fast = compile_model(layer)
    fast(X)
    layer.unsettle([layer])
    trainer.fit(layer, (X[:, :3], X[:, :2]))
    np.testing.assert_allclose(fast(X[:, :3]), layer(X[:, :3]), rtol=1e-13)


FACTOR = 2.0
FACTORS = {"further": 1.0}


class Scaled(Activation):
    """An activation that reads globals."""

    def __call__(self, h):
        return FACTOR * FACTORS["further"] * h


@pytest.mark.parametrize(("names", "name"), [(globals(), "FACTOR"), (FACTORS, "further")], ids=["bound", "in place"])
def test_compile_model_traces_the_formulas_again(monkeypatch, names, name):
    model = Dense(5, 2, Scaled())
    fast = compile_model(model)
    assert fast.engine == "compiled"
    before = fast(X)
    monkeypatch.setitem(names, name, 4.0 * names[name])
    fast = compile_model(model)
    for x in (X[0], X[:3], X):
        np.testing.assert_allclose(fast(x), model(x), rtol=1e-13)
    np.testing.assert_allclose(fast(X), 4.0 * before, rtol=1e-13)
    Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01)).fit(model, (X, X[:, :2]))
    fast = compile_model(model)
    assert fast.engine == "compiled"
    np.testing.assert_allclose(fast(X), model(X), rtol=1e-13)


def test_threads_may_call_at_once():
    model = network()
    fast = compile_model(model)
    found, wrong = fast(X), []

    def call(seed):
        sizes = np.random.default_rng(seed).integers(1, 60, 200)
        wrong.extend(rows for rows in sizes if not np.array_equal(fast(X[:rows]), found[:rows]))

    threads = [threading.Thread(target=call, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("output", [None, Softmax(), ReLU()])
def test_outputs_are_the_preactivations_and_the_predictions(output):
    model = Sequential(Dense(5, 3, Tanh()), Dense(3, 2, output) if output else Dense(3, 2))
    for x in (X, X[:1], X[::-3], np.round(X).astype(int)):
        for found, expected in zip(compile_model(model).outputs(x), model.output(x.astype(float)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_only_a_model_can_be_compiled():
    with pytest.raises(SettingsError, match="'model' must be a model; got 5"):
        compile_model(5)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fast: pickle.loads(pickle.dumps(fast))])
def test_a_compiled_model_can_be_copied_and_pickled(copied):
    fast = compile_model(network())
    other = copied(fast)
    np.testing.assert_array_equal(other(X), fast(X))
    other.model.parameters.vector[:] = 0.0
    assert not np.array_equal(other(X), fast(X))


def test_copies_and_files_have_their_own_weights():
    model = network()
    fast = compile_model(model)
    for other in (model.copy(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.parameters.vector *= 0.5
        found = compile_model(other)(X)
        np.testing.assert_allclose(found, other(X), rtol=1e-12, atol=1e-14)
        assert not np.array_equal(found, fast(X))


class Twice(Layer):
    """A layer whose passes Python runs."""

    def apply(self, x, values, record):
        return 2.0 * x

    def apply_backward(self, gradient, values, record, gradients):
        return 2.0 * gradient


class Centred(Layer):
    """A layer whose predictions depend on the other rows."""

    mixes_rows = True

    def formula(self, x):
        return x - x.mean(axis=0)


def test_a_residual_of_an_own_layer_predicts_in_a_kernel():
    own = Layer.of(lambda x, shift: x + shift, shapes={"shift": (3,)})
    model = Sequential(Dense(5, 3), Residual(own, Tanh()), Dense(3, 2))
    fast = compile_model(model)
    assert fast.engine == "compiled"
    np.testing.assert_allclose(fast(X), model(X), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("model", "x", "reason"),
    [
        (Sequential(Dense(5, 3), Twice()), X, "Python runs 1 Twice, which has no graph"),
        (Sequential(Dense(5, 3), Centred()), X, "layer 1 Centred mixes rows, by mean over the rows"),
    ],
)
def test_what_has_no_kernel_is_computed_by_numpy(model, x, reason):
    with pytest.warns(UserWarning, match=f"compile_model: falling back to NumPy: .*({reason})"):
        fast = compile_model(model)
    assert fast.engine == "numpy"
    np.testing.assert_array_equal(fast(x), model(x))
    np.testing.assert_array_equal(fast.predict(x), model.predict(x))


@pytest.mark.parametrize(
    ("model", "x", "weights"),
    [
        (Sequential(Dense(5, 1025), Dense(1025, 1024)), X[:2], "1,049,600"),
        (Conv2D(filters=171, kernel=3, inputs=171), np.ones((1, 171, 3, 4)), "263,169"),
    ],
)
def test_numpy_computes_large_layers_without_a_warning_and_the_reason_says_so(model, x, weights):
    fast = compile_model(model)
    assert fast.engine == "numpy"
    assert fast.reason.endswith(f"NumPy is faster for a layer of {weights} weights")
    np.testing.assert_array_equal(fast(x), model(x))


def trainer(engine, **settings):
    settings = {"loss": CrossEntropy(), "metrics": [Accuracy()]} | settings
    return Trainer(optimizer=SGDOptimizer(learning_rate=0.1), engine=engine, **settings)


def test_a_trainer_predicts_and_evaluates_with_its_engine():
    model, y = Sequential(network(last=Identity()), Softmax()), RNG.integers(0, 3, len(X))
    found = {engine: trainer(engine).predict(model, X) for engine in ("numpy", "compiled", "auto")}
    np.testing.assert_array_equal(found["compiled"], found["auto"])
    np.testing.assert_array_equal(found["compiled"], compile_model(model)(X))
    assert not np.array_equal(found["compiled"], found["numpy"])
    np.testing.assert_allclose(found["compiled"], found["numpy"], rtol=1e-12)
    figures = [trainer(engine).evaluate(model, (X, y)) for engine in ("numpy", "compiled")]
    assert figures[1] == pytest.approx(figures[0], rel=1e-12)
    run = trainer("compiled").fit(model, (X, y), validation=(X, y))
    assert run.history.rows[-1]["val_loss"] == trainer("compiled").evaluate(model, (X, y))["loss"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_loss_that_needs_h_gets_it(dtype):
    """Where a probability rounds to 0 or 1, only h tells the loss."""
    x, y = X.astype(dtype) * 100, RNG.integers(0, 3, len(X))
    for model in (Dense(5, 3, Softmax(), dtype=dtype), Sequential(Dense(5, 3, dtype=dtype), Tanh(), Softmax())):
        figures = [trainer(engine, metrics=[]).evaluate(model, (x, y)) for engine in ("numpy", "compiled")]
        assert figures[1] == pytest.approx(figures[0], rel=1e-4 if dtype == "float32" else 1e-12)


def test_a_preprocess_transforms_and_inverts():
    model, y = Sequential(Dense(5, 4, Tanh()), Neuron(4)), 100 * X[:, 0] + 50
    settings = {
        "loss": MeanSquaredError(),
        "metrics": [],
        "preprocess": Preprocess(columns={"*": [Standardize()]}, target=[Standardize()]),
    }
    table, x = pd.DataFrame(X, columns=[*"abcde"]), pd.DataFrame(X[:9], columns=[*"abcde"])
    run = trainer("compiled", **settings).fit(model, (table, pd.Series(y, name="y")))
    assert run.engine == "compiled"
    expected = model.predict(x)
    assert abs(expected.mean()) > 10
    np.testing.assert_allclose(trainer("compiled", **settings).predict(model, x), expected, rtol=1e-12)
    np.testing.assert_allclose(compile_model(model).predict(x), expected, rtol=1e-12)


def test_a_trainer_falls_back_by_name_and_auto_does_so_silently():
    model, x = Sequential(Dense(5, 3), Twice(), Softmax()), X[:2]
    for call in (lambda t: t.predict(model, x), lambda t: t.evaluate(model, (x, [0, 1]))):
        with pytest.warns(UserWarning, match="engine='compiled': falling back to NumPy"):
            found = call(trainer("compiled"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = call(trainer("auto"))
        np.testing.assert_equal(found, again)


def test_compile_model_says_what_to_give_in_place_of_a_run_or_a_file():
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    run = trainer.fit(Neuron(), (np.arange(4.0)[:, None], np.arange(4.0)))
    with pytest.raises(SettingsError, match=r"argument 'model' must be a model; got Run\(.*; write run\.model"):
        compile_model(run)
    with pytest.raises(SettingsError, match=r"got 'run\.safetensors'; load_model reads one from a file"):
        compile_model("run.safetensors")
