"""Loading a part of a checkpoint into another model."""

import numpy as np
import pytest

from framework import (
    BatchNorm,
    CheckpointError,
    Dense,
    HalfSquaredError,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Trainer,
    load_model,
    save,
)
from framework.base import UsageError

X, Y = np.random.default_rng(0).normal(size=(9, 3)), np.ones((9, 2))


@pytest.fixture
def saved(tmp_path):
    """Return a trained model and the file that holds it."""
    model = Sequential(Dense(3, 4, ReLU(), seed=1), BatchNorm(4), Dense(4, 2, seed=2))
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2)
    run = trainer.fit(model, (X, Y))
    save(run, tmp_path / "run.safetensors")
    return run.model, tmp_path / "run.safetensors"


def body(dtype="float64"):
    return Sequential(
        Dense(3, 4, ReLU(), dtype=dtype), BatchNorm(4, dtype=dtype), Dense(4, 5, dtype=dtype), Dense(5, 1, dtype=dtype)
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_names_that_fit_are_loaded_and_the_others_listed(saved, dtype):
    source, path = saved
    model = body(dtype)
    before = {name: value.copy() for name, value in model.parameters.items()}
    report = load_model(path, into=model, names=("0.*", "1.*"))
    names = ("0.weights", "0.bias", "1.scale", "1.shift")
    assert report.loaded == (*names, "1.running_mean", "1.running_variance")
    assert report.kept == ("2.weights", "2.bias", "3.weights", "3.bias")
    assert report.unused == ("2.bias", "2.weights")
    for name in names:
        np.testing.assert_array_equal(model.parameters[name], source.parameters[name].astype(dtype))
    for name in report.kept:
        np.testing.assert_array_equal(model.parameters[name], before[name])
    np.testing.assert_array_equal(model.buffers["1.running_mean"], source.buffers["1.running_mean"].astype(dtype))
    assert str(report).splitlines()[2] == "unused: 2.bias, 2.weights"


def test_all_names_make_an_equal_model(saved):
    source, path = saved
    twin = source.replace()
    twin.parameters.vector[:] = 0.0
    report = load_model(path, into=twin)
    assert (report.kept, report.unused) == ((), ())
    np.testing.assert_array_equal(twin(X), source(X))


def test_the_loaded_part_can_be_frozen_and_the_rest_trained(saved):
    source, path = saved
    model = body()
    report = load_model(path, into=model, names="0.*")
    for name in report.loaded:
        model.parameters.freeze(name)
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2)
    trained = trainer.fit(model, (X, Y[:, :1])).model
    np.testing.assert_array_equal(trained.parameters["0.weights"], source.parameters["0.weights"])
    assert not np.array_equal(trained.parameters["2.weights"], body().parameters["2.weights"])


def test_shapes_that_differ_are_named_and_nothing_is_changed(saved):
    _, path = saved
    model = body()
    before = model.parameters.vector.copy()
    with pytest.raises(CheckpointError, match=r"2.weights: \(4, 5\) in the model, \(4, 2\) in the file") as caught:
        load_model(path, into=model)
    assert "2.bias" in str(caught.value)
    assert "choose names without these" in str(caught.value)
    np.testing.assert_array_equal(model.parameters.vector, before)


def test_numbers_that_are_too_large_are_named_and_nothing_is_changed(tmp_path):
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=1)
    save(trainer.fit(Sequential(Dense.from_weights([[1e300]])), ([[0.0]], [[0.0]])), tmp_path / "large.safetensors")
    model = Sequential(Dense(1, 1, dtype="float32", seed=3))
    before = model.parameters.vector.copy()
    with pytest.raises(CheckpointError, match=r"0.weights holds numbers that are not finite in float32"):
        load_model(tmp_path / "large.safetensors", into=model)
    np.testing.assert_array_equal(model.parameters.vector, before)


def test_wrong_arguments_say_what_to_write(saved):
    _, path = saved
    with pytest.raises(CheckpointError, match=r"a name like '9\.\*'\nthe file has: 0.bias, .*\nthe model has: 0.w"):
        load_model(path, into=body(), names="9.*")
    with pytest.raises(UsageError, match="write into=model"):
        load_model(path, names="0.*")
    with pytest.raises(SettingsError, match=r"'into' must be a Model or None; got 'model'$"):
        load_model(path, into="model")
    with pytest.raises(UsageError, match="number of inputs is not known"):
        load_model(path, into=Sequential(Dense(units=4)))
