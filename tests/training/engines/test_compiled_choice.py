"""What compiles and what falls back, with one notice; a changed formula is another kernel."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from compiled_pieces import NEURON, PLAIN, Branched, X, Y, trainer
from kernels_of import kernel_of

from framework import (
    GRU,
    Accuracy,
    Activation,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    HalfSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Tanh,
    on,
)
from framework.backends.native import kernels
from framework.base import UsageError
from framework.models import PositionalEncoding
from framework.training.engines.base import Engine
from framework.training.engines.records import CannotLower

pytest.importorskip("llvmlite")


class CountedError(HalfSquaredError):
    """A loss whose ``count`` a kernel does not know."""

    def count(self, shape, weight=None):
        return super().count(shape, weight)


class OfOneModel(SGDOptimizer):
    """An update of as many numbers as one model has."""

    def update(self, values, gradients, rate, step, *memory):
        if type(gradients) is np.ndarray and len(gradients) != 29:
            raise ValueError("29 numbers")
        values -= rate * gradients


def test_what_cannot_be_compiled_falls_back_with_one_notice():
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        run = trainer(loss=CountedError()).fit(Neuron(3), (X, Y))
    (notice,) = notices
    assert run.engine == "numpy"
    assert "CountedError.count" in str(notice.message)
    assert notice.filename == __file__
    assert trainer(engine="auto", loss=CountedError()).fit(Neuron(3), (X, Y)).engine == "numpy"


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer": Branched(learning_rate=0.1)}, "Branched.update cannot be recorded"),
        ({"optimizer": OfOneModel(learning_rate=0.1)}, "raises on 8 numbers ValueError: 29 numbers"),
    ],
)
def test_an_update_that_cannot_be_compiled_is_numpys_with_one_notice(settings, reason, monkeypatch):
    draws = Sequential(Dense(3, 4, Tanh()), BatchNorm(4), Dropout(0.5), Neuron(4, Sigmoid()))
    common = {"epochs": 2, "metrics": [Accuracy()], "batch_size": 10} | settings
    rows = X, Y, np.arange(len(X)) % 7.0
    plain = trainer(engine="numpy", **common).fit(draws.copy(), rows)
    monkeypatch.setattr(Engine, "fill", None)  # the kernel computes every gradient
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        run = trainer(**common).fit(draws.copy(), rows)
    (notice,) = notices
    assert str(notice.message).startswith("engine='compiled': falling back to NumPy for the update: ")
    assert reason in str(notice.message)
    assert notice.filename == __file__
    quiet = trainer(engine="auto", **common).fit(draws.copy(), rows)
    assert (run.engine, quiet.engine) == ("compiled", "compiled")
    assert quiet.model.parameters.vector.tobytes() == run.model.parameters.vector.tobytes()
    np.testing.assert_allclose(run.model.parameters.vector, plain.model.parameters.vector, rtol=1e-10, atol=1e-12)
    for name, buffer in plain.model.buffers.items():
        np.testing.assert_allclose(run.model.buffers[name], buffer, rtol=1e-12)
    for key in ("loss", "accuracy"):
        assert run.history[-1][key] == pytest.approx(plain.history[-1][key], rel=1e-10)


def test_factors_of_the_rate_that_a_hook_assigns_count():
    @on("epoch_begin")
    def halve(run):
        run.optimizer.rate_factors = (("*", 0.5),)

    settings = {"epochs": 2, "callbacks": [halve]}
    plain = trainer(engine="numpy", **settings).fit(NEURON.copy(), (X, Y))
    run = trainer(**settings).fit(NEURON.copy(), (X, Y))
    np.testing.assert_allclose(run.model.parameters.vector, plain.model.parameters.vector, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("engine", "warnings_of_fit"), [("compiled", 1), ("auto", 0)])
def test_a_setting_that_leaves_the_update_where_it_is_warns_no_more(engine, warnings_of_fit):
    @on("epoch_end")
    def clip(run):
        run.optimizer.clip_value = 1.0 + run.epoch

    own = trainer(engine=engine, optimizer=Branched(learning_rate=0.1), epochs=4, callbacks=[clip])
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        own.fit(NEURON.copy(), (X, Y))
    assert len(notices) == warnings_of_fit


@pytest.mark.filterwarnings("error")
def test_a_warning_that_is_an_error_names_the_update_alone():
    with pytest.raises(
        UserWarning, match=r"^engine='compiled': falling back to NumPy for the update: Branched\.update"
    ):
        trainer(optimizer=Branched(learning_rate=0.1)).fit(NEURON.copy(), (X, Y))


def test_without_llvmlite_the_compiled_engine_says_what_to_install(monkeypatch):
    half = trainer().fit(NEURON.copy(), (X, Y))
    monkeypatch.setattr(kernels, "find_spec", lambda _: None)
    for action in (lambda: trainer().fit(NEURON.copy(), (X, Y)), lambda: trainer().resume(half, (X, Y), epochs=1)):
        with pytest.raises(UsageError, match="needs llvmlite: pip install llvmlite"):
            action()
    assert trainer(engine="auto").fit(NEURON.copy(), (X, Y)).engine == "numpy"


def test_a_setting_that_a_hook_changes_at_the_start_counts():
    plain = trainer().fit(NEURON.copy(), (X, Y))

    def clip(run):
        run.optimizer.clip_norm = 1e-3

    run = trainer(callbacks=[on("train_begin")(clip)]).fit(NEURON.copy(), (X, Y))
    assert (plain.engine, run.engine) == ("compiled", "compiled")
    expected = trainer(optimizer=PLAIN.replace(clip_norm=1e-3)).fit(NEURON.copy(), (X, Y)).model.weights
    assert run.model.weights.tobytes() == expected.tobytes() != plain.model.weights.tobytes()


class Forgets(SGDOptimizer):
    """Sets its values to a number, which no step of descent does."""

    def update(self, values, gradients, rate, step, *memory):
        values[...] = 0.5


def test_an_update_may_set_numbers():
    model = trainer(optimizer=Forgets(learning_rate=0.1)).fit(NEURON.copy(), (X, Y)).model
    assert (model.parameters.vector == 0.5).all()


def kernel(activation=None, loss=None):
    return kernel_of(Sequential(Dense(3, 4, activation or Tanh()), Neuron(4)), loss)


class Scaled(Activation):
    factor: float = 1.3

    def __call__(self, h):
        return np.tanh(self.factor * h)


def test_a_changed_formula_is_another_kernel_and_a_changed_setting_is_not():
    one = kernel(Scaled())
    assert kernel(Scaled(factor=1.9)).text == one.text

    class Scaled2(Scaled):
        def __call__(self, h):
            return np.tanh(self.factor + h)

    assert kernel(Scaled2()).text != one.text


def test_a_formula_defined_anew_is_compiled_anew():
    def define(power):
        class Bent(Activation):
            def __call__(self, h):
                return h / (1.0 + np.abs(h) ** power)

        return Bent

    for power in (1.0, 2.0):
        model = Neuron(3, define(power)())
        runs = [trainer(engine=e, loss=HalfSquaredError()).fit(model.copy(), (X, Y)) for e in ("numpy", "compiled")]
        np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)


@pytest.mark.share(1 / 3)
def test_llvmlite_and_the_compiled_engine_are_imported_by_compiled_runs_alone():
    code = """
import sys
from framework import *
trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
trainer.fit(Neuron(1), ([[1.0]], [1.0]))
late = "llvmlite", "framework.training.engines.native"
print([name for name in sys.modules if name.startswith(late)])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


IDS, STEPS = np.arange(35).reshape(5, 7) % 11, np.arange(30.0).reshape(5, 3, 2) / 30
SEVERAL_AXES = {
    "ids before a layer of steps": (lambda: (Embedding(11, 3), GRU(units=3), Dense(units=2)), IDS),
    "ids before positions": (lambda: (Embedding(11, 2), PositionalEncoding(), Flatten(), Dense(units=2)), IDS),
    "ids before a row": (lambda: (Embedding(11, 2), Flatten(), BatchNorm(14), Dense(units=2)), IDS),
    "steps before a row": (lambda: (Dense(units=4), Flatten(), BatchNorm(12), Dense(units=2)), STEPS),
}


@pytest.mark.parametrize(("layers", "x"), SEVERAL_AXES.values(), ids=SEVERAL_AXES)
def test_samples_of_several_axes_are_trained_in_a_kernel(layers, x):
    trainers = [trainer(engine=engine, loss=HalfSquaredError()) for engine in ("numpy", "auto", "compiled")]
    runs = [each.fit(Sequential(*layers()), (x, np.ones((5, 2)))) for each in trainers]
    assert [run.engine for run in runs] == ["numpy", "compiled", "compiled"]
    for run in runs:
        np.testing.assert_allclose(run.model.parameters.vector, runs[0].model.parameters.vector, rtol=1e-10, atol=1e-12)


def test_a_class_that_replaces_a_loop_of_its_base_is_left_to_numpy():
    class SlowerError(HalfSquaredError):
        def backward(self, *args, **options):
            return super().backward(*args, **options)

    with pytest.raises(CannotLower, match=r"SlowerError\.backward replaces that of its base"):
        kernel(loss=SlowerError())
