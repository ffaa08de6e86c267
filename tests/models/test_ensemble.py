"""Ensemble: the mean of several models."""

import numpy as np
import pytest

from framework import (
    LSTM,
    AdamOptimizer,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    Embedding,
    Heads,
    Identity,
    Join,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
    load_model,
    save,
)
from framework.base import UsageError
from framework.formulas import OutputLosses
from framework.models import Ensemble, Input


def network(seed, units=1, end=None, dtype="float64"):
    return Sequential(Dense(3, 8, ReLU()), Dense(8, units, end or Identity()), seed=seed, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("units", "end"), [(1, Identity()), (1, Sigmoid()), (4, Softmax())])
def test_it_gives_the_mean_of_its_members(units, end, dtype):
    x = np.random.default_rng(0).normal(size=(20, 3))
    members = [network(seed, units, end, dtype) for seed in range(3)]
    mean = np.mean([member.predict(x) for member in members], axis=0)
    ensemble = Ensemble(*(member.copy() for member in members))
    np.testing.assert_allclose(ensemble.predict(x), mean, rtol=2 * np.finfo(dtype).eps)
    assert (ensemble.dtype, ensemble.output_activation, ensemble.predict(x).dtype) == (dtype, end, dtype)
    assert len(ensemble) == 3


def test_members_may_have_several_inputs_and_several_outputs():
    def member(seed):
        heads = Heads(price=Neuron(), kind=Dense(units=3, activation=Softmax()))
        return Sequential(Join(numbers=Input(2), city=Embedding(5, 3)), heads, seed=seed)

    x = {"numbers": np.random.default_rng(0).normal(size=(6, 2)), "city": np.arange(6) % 5}
    members = [member(seed) for seed in range(2)]
    outputs = [each.predict(x) for each in members]
    ensemble = Ensemble(*members)
    for name, prediction in ensemble.predict(x).items():
        np.testing.assert_allclose(prediction, np.mean([output[name] for output in outputs], axis=0), rtol=1e-14)
    losses = OutputLosses(price=MeanSquaredError(), kind=CrossEntropy())
    trainer = Trainer(loss=losses, optimizer=SGDOptimizer(learning_rate=0.1))
    assert trainer.evaluate(ensemble, (x, {"price": np.ones(6), "kind": np.arange(6) % 3}))["loss"] > 0


def test_members_may_take_sequences_and_leave_out_their_number_of_inputs():
    steps = np.ones((2, 5, 3))
    ensemble = Ensemble(*(Sequential(LSTM(units=4), Dense(units=1), seed=seed) for seed in range(2)))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    trainer.fit(ensemble, (steps, np.ones((2, 1))))
    assert ensemble.predict(steps).shape == (2, 1)
    assert not np.array_equal(ensemble[0].parameters.vector, ensemble[1].parameters.vector)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_log_loss_of_a_wrong_certainty_is_finite(sign, dtype):
    members = [Neuron.from_weights([sign * 1e4], dtype=dtype, activation=Sigmoid()) for _ in range(2)]
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))
    figures = trainer.evaluate(Ensemble(*members), ([[1.0]], [0 if sign > 0 else 1]))
    assert figures["loss"] == pytest.approx(-np.log(np.finfo(dtype).eps), rel=1e-3)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_it_trains_as_a_whole_and_comes_back_from_a_file(engine, tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 3))
    ensemble = Ensemble(*(network(seed, end=Sigmoid()) for seed in range(2)))
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=30, engine=engine)
    run = trainer.fit(ensemble, (x, (x[:, 0] > 0).astype(float)))
    assert run.history[-1]["loss"] < 0.5 * run.history[0]["loss"]
    save(run, tmp_path / "run.safetensors")
    np.testing.assert_array_equal(load_model(tmp_path / "run.safetensors").predict(x), ensemble.predict(x))


def test_models_without_a_mean_are_refused():
    with pytest.raises(SettingsError, match="give the members one by one, without a list"):
        Ensemble([network(0), network(1)])
    with pytest.raises(SettingsError, match=r"give one member or more, e\.g\. Ensemble\(Dense\(4, 1\), Dense"):
        Ensemble()
    with pytest.raises(SettingsError, match=r"must end in the same activation; got Identity\(\), Sigmoid\(\)"):
        Ensemble(Dense(3, 1), Dense(3, 1, Sigmoid()))
    with pytest.raises(SettingsError, match="must be of class Model; got ReLU"):
        Ensemble(ReLU())
    with pytest.raises(ShapeError, match=r"must give outputs of one shape; got \(1,\), \(2,\)"):
        Ensemble(Dense(3, 1), Dense(3, 2)).predict(np.ones((4, 3)))
    with pytest.raises(ShapeError, match=r"takes samples of shape \(4,\); got \(3,\)"):
        Ensemble(Dense(3, 1), Dense(4, 1)).predict(np.ones((4, 3)))
    member = Dense(3, 1)
    with pytest.raises(UsageError, match=r"layer 1 already belongs to a model; give layer\.copy"):
        Ensemble(member, member)
