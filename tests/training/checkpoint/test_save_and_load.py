"""Checkpoints: what is saved comes back, in this program's own words and for other programs' eyes."""

import numpy as np
import pandas as pd
import pytest
from oracles import jax
from safetensors.numpy import load_file
from saved_pieces import X, Y, network, recipe

from framework import (
    Activation,
    BatchNorm,
    CheckpointError,
    Component,
    Dense,
    EarlyStopping,
    Embedding,
    Flatten,
    HalfSquaredError,
    Neuron,
    ReLU,
    Residual,
    Sequential,
    describe,
    load,
    load_model,
    save,
)
from framework.training.runs.memory import Memory
from framework.training.verification import differences


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


def test_a_run_comes_back_with_everything(path):
    run = recipe(EarlyStopping(monitor="loss"), epochs=2).fit(network(), (X, Y))
    run.model.parameters.freeze("0.bias")
    save(run, path)
    again = load(path)
    assert list(differences(run, again)) == []
    assert again.model.to_json() == run.model.to_json()
    assert again.model.parameters.frozen == ("0.bias",)
    assert again.loss_function == run.loss_function
    assert again.optimizer.recipe == run.optimizer.recipe
    assert again.optimizer.model is again.model
    for name in (
        "seed",
        "target_epoch",
        "batches",
        "layout",
        "recipe",
        "batch_loss",
        "ended",
        "engine",
        "epoch_begun",
        "sums",
    ):
        assert getattr(again, name) == getattr(run, name), name
    assert np.array_equal(load_model(path)(X), run.model(X))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (lambda: Neuron(2), X),
        (lambda: Dense(2, 1, ReLU(), dtype="float32"), X),
        (lambda: Sequential(Embedding(vocabulary=5, units=2), Flatten(shape=(2, 2)), Dense(4, 1)), X),
        (lambda: Residual(Dense(2, 2)), X),
    ],
)
def test_every_kind_of_model_comes_back(model, x, path):
    model = model()
    y = np.zeros(model(x).shape)
    run = recipe().fit(model, (x, y))
    save(run, path)
    twin = load_model(path)
    assert np.array_equal(twin(x), model(x))
    assert twin(x).dtype == model(x).dtype
    twin.parameters.vector[0] += 1
    assert not np.array_equal(twin.parameters.vector, model.parameters.vector)


def test_a_frames_columns_come_back(path):
    x, y = pd.DataFrame(X, columns=["a", "b"]), pd.DataFrame({"price": Y})
    save(recipe().fit(Neuron(2), (x, y)), path)
    assert load_model(path).columns == ("a", "b")
    assert load_model(path).target_columns == ("price",)


def test_other_programs_read_the_arrays(path):
    from safetensors.flax import load_file as jax_load_file

    run = recipe().fit(network(), (X, Y))
    save(run, path)
    for name, array in run.model.parameters.items():
        assert np.array_equal(load_file(path)[f"parameters.{name}"], array)
        with jax.enable_x64(True):
            assert np.array_equal(jax_load_file(path)[f"parameters.{name}"], array)


def test_a_description_builds_nothing(path, monkeypatch):
    save(recipe(EarlyStopping(monitor="loss"), epochs=3).fit(network(), (X, Y), epochs=2), path)
    monkeypatch.setattr(Component, "__init__", None)
    text = describe(path)
    for line in (
        f"{path}: 2 of 2 epochs, 4 steps, 0 of 2 batches of the next epoch",
        "remembered by EarlyStopping.0: best, best_epoch, waited",
        "  parameters.1.block.0.weights        float64 (3, 3)",
        "  optimizer.velocity",
    ):
        assert line in text
    assert "saved_pieces:Swish(beta=2.0)" in text


@pytest.mark.parametrize("batch_size", [1, 6, 7])
def test_a_run_of_any_size_of_batches_comes_back(path, batch_size):
    save(recipe(batch_size=batch_size).fit(Neuron(2), (X, Y)), path)
    assert load(path).batches == -(-6 // batch_size)


def test_a_description_has_the_reason_of_a_stop(path):
    run = recipe(EarlyStopping(monitor="loss", patience=1, min_delta=1e9), epochs=9).fit(Neuron(2), (X, Y))
    save(run, path)
    assert f"\nstopped: {run.stop_reason}\n" in describe(path)
    save(recipe().fit(Neuron(2), (X, Y)), path)
    assert "stopped" not in describe(path)


def test_arrays_of_every_dtype_come_back(path):
    run = recipe().fit(Neuron(2), (X, Y))
    dtypes = ["bool", *(f"{kind}{size}" for kind in "ui" for size in (1, 2, 4, 8)), "f2", "f4", "f8"]
    values = {dtype: np.array([[0, 1, 100]], dtype) for dtype in dtypes}
    run.memories["own"] = Memory("own", dict(values))
    save(run, path)
    again = load(path).memories["own"]
    for dtype, value in values.items():
        np.testing.assert_array_equal(again[dtype], value)
        assert again[dtype].dtype == value.dtype


def test_a_setting_that_is_a_function_cannot_be_saved_and_nothing_is_written(path):
    class FunctionError(HalfSquaredError):
        function: object = print

    run = recipe(loss=FunctionError()).fit(Neuron(2), (X, Y))
    with pytest.raises(CheckpointError, match="the run cannot be saved: FunctionError cannot be written as JSON"):
        save(run, path)
    assert not path.exists()


def test_what_is_no_run_is_refused(path):
    with pytest.raises(CheckpointError, match="argument 'run' must be a Run; got Neuron; write save"):
        save(Neuron(1), path)
    run = recipe().fit(Neuron(2), (X, Y))
    with pytest.raises(CheckpointError, match=r"7.5 cannot be written"):
        save(run, 7.5)
    with pytest.raises(CheckpointError, match=r"'.*missing/run' cannot be written: No such file or directory"):
        save(run, path.parent / "missing" / "run")


def test_a_class_that_changed_since_is_refused_with_every_difference(path, monkeypatch):
    save(recipe().fit(Sequential(Dense(2, 3), BatchNorm(3), Dense(3, 1)), (X, Y)), path)
    shapes = Dense.shapes

    def wider(self):
        return {name: (*shape[:-1], shape[-1] + 1) for name, shape in shapes(self).items()}

    monkeypatch.setattr(Dense, "shapes", wider)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert "parameters.0.weights: float64 (2, 4) here, float64 (2, 3) in the file" in str(caught.value)
    assert "parameters.2.bias: float64 (2,) here, float64 (1,) in the file" in str(caught.value)


def defined(factor):
    """Define a class anew, as a notebook's cell that is run again does."""

    class Bend(Activation):
        def __call__(self, h):
            return factor * h / (1 + np.abs(h))

    return Bend


@pytest.mark.parametrize(
    "model",
    [lambda bend: Neuron(2, bend()), lambda bend: Sequential(Dense(2, 3), Residual(Dense(3, 3, bend())), Dense(3, 1))],
    ids=["a setting", "a setting of a layer inside"],
)
def test_a_class_that_was_defined_again_is_refused_because_the_file_would_be_another_function(model, path):
    run = recipe().fit(model(defined(1.0)), (X, Y))
    save(run, path)
    before = path.read_bytes()
    defined(2.0)
    with pytest.raises(CheckpointError, match="the class Bend has been defined again since this one was made"):
        save(run, path)
    assert path.read_bytes() == before
