"""Engines by name: which there are, and the record of a run that falls back."""

import sys
import typing
import warnings

import numpy as np
import pytest

from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, Trainer
from framework.training.engines import ENGINES, Engine, engine_for, engine_of
from framework.training.engines.base import AUTO
from framework.training.engines.native.engine import CompiledEngine

X, Y = np.linspace(-1.0, 1.0, 40).reshape(20, 2), np.arange(20) % 2


def test_a_trainer_takes_every_engine_that_is_registered():
    offered = {*typing.get_args(Trainer.model_fields["engine"].annotation)}
    assert offered - {AUTO} == ENGINES.keys()


def test_an_engine_has_the_name_under_which_it_is_registered():
    assert [engine_of(name).name for name in ("numpy", "compiled")] == ["numpy", "compiled"]


def test_numpy_computes_the_shards_of_workers_where_an_engine_does_not():
    class Refusing(Engine):
        name, computes_shards = "refusing", False

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "refusing", typing.cast("typing.Any", type("module", (), {"Refusing": Refusing})))
        patch.setitem(ENGINES, "refusing", ("refusing", "Refusing"))
        with pytest.warns(UserWarning, match="^engine='refusing': falling back to NumPy: it does not compute"):
            assert engine_for("refusing", shards=True) is Engine
        assert engine_for("refusing", shards=False) is Refusing


def test_a_run_that_falls_back_at_its_first_step_is_recorded_and_resumed_as_one_of_numpy(monkeypatch):
    def refused(*_):
        raise OSError("libLLVM is broken")

    monkeypatch.setattr(CompiledEngine, "compile", staticmethod(refused))
    settings = {"loss": BinaryCrossEntropy(), "optimizer": SGDOptimizer(learning_rate=0.1), "progress": False}
    run = Trainer(engine="auto", **settings).fit(Neuron(2, Sigmoid()), (X, Y))
    plain = Trainer(**settings).fit(Neuron(2, Sigmoid()), (X, Y))
    assert run.engine == plain.engine
    names = run.recipe.keys() | plain.recipe.keys()
    different = {name for name in names if run.recipe.get(name) != plain.recipe.get(name)}
    assert different == {"engine"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(engine="auto", **settings).resume(run, (X, Y), epochs=1)
