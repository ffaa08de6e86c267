"""A run of the compiled engine behaves as any run: hooks, stops, divergence, resume; and what falls back says so."""

import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest

from framework import (
    L2,
    Accuracy,
    Activation,
    AdamOptimizer,
    BinaryCrossEntropy,
    Callback,
    Dense,
    DivergedError,
    Dropout,
    EarlyStopping,
    HalfSquaredError,
    MeanSquaredError,
    Metric,
    NAdamOptimizer,
    Neuron,
    ResumeWarning,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Tanh,
    Trainer,
    UsageError,
    on,
    verify_resume,
)
from framework.compiled import engine as compiled_engine
from framework.compiled.cache import cache_folder, kernel_name, load
from framework.compiled.lower import CannotLower, lowered
from framework.compiled.source import Form, kernel_source

pytest.importorskip("numba")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = (X[:, 0] > 0).astype(float)
NEURON = Neuron(3, Sigmoid())
PLAIN = SGDOptimizer(learning_rate=0.1)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NUMBA_CACHE_DIR", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def trainer(**settings):
    settings = {"loss": BinaryCrossEntropy(), "optimizer": PLAIN, "batch_size": 8, "engine": "compiled"} | settings
    return Trainer(**settings)


def rows(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.history.rows]


def require_same(one, other):
    assert (one.model.parameters.vector == other.model.parameters.vector).all()
    for name, memory in one.optimizer.binding.memory.items():
        assert (memory == other.optimizer.binding.memory[name]).all()
    assert rows(one) == rows(other)
    assert (one.epoch, one.step, one.optimizer.steps) == (other.epoch, other.step, other.optimizer.steps)


def test_the_engine_is_numpy_unless_asked_otherwise():
    assert Trainer(loss=BinaryCrossEntropy(), optimizer=PLAIN).fit(NEURON.copy(), (X, Y)).engine == "numpy"
    assert trainer(engine="auto").fit(NEURON.copy(), (X, Y)).engine == "compiled"
    assert trainer().fit(NEURON.copy(), (X, Y)).engine == "compiled"


@pytest.mark.parametrize("optimizer", [PLAIN, AdamOptimizer(learning_rate=0.01)], ids=["sgd", "adam"])
def test_ten_epochs_and_ten_more_are_twenty(optimizer):
    one = trainer(optimizer=optimizer, epochs=20).fit(NEURON.copy(), (X, Y))
    half = trainer(optimizer=optimizer, epochs=10).fit(NEURON.copy(), (X, Y))
    require_same(trainer(optimizer=optimizer).resume(half, (X, Y), epochs=10), one)


def test_chunks_of_any_length_give_the_same_bits(monkeypatch):
    one = trainer(epochs=5, metrics=[Accuracy()]).fit(NEURON.copy(), (X, Y))
    monkeypatch.setattr(compiled_engine, "CHUNK_SECONDS", 0.0)
    require_same(trainer(epochs=5, metrics=[Accuracy()]).fit(NEURON.copy(), (X, Y)), one)


def test_resume_in_mid_epoch_keeps_the_engine():
    @on("batch_end")
    def stop(run):
        if run.step == 10:
            run.stop("enough")

    model = Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()))
    optimizer = AdamOptimizer(learning_rate=0.01)
    whole = trainer(optimizer=optimizer, epochs=4).fit(model.copy(), (X, Y))
    cut = trainer(optimizer=optimizer, epochs=4, callbacks=[stop]).fit(model.copy(), (X, Y))
    assert (cut.engine, cut.step, cut.batch, cut.stop_reason) == ("compiled", 10, 3, "enough")
    with pytest.warns(ResumeWarning, match=r"engine: began with 'compiled', now 'numpy'; the run's own goes on"):
        resumed = trainer(optimizer=optimizer, epochs=4, engine="numpy").resume(cut, (X, Y))
    assert resumed.engine == "compiled"
    require_same(resumed, whole)


class Seen(Callback):
    def on_epoch_begin(self, run):
        run.memory(self).setdefault("hooks", []).append("epoch_begin")

    def on_batch_end(self, run):
        memory = run.memory(self)
        memory["hooks"].append("batch_end")
        memory.setdefault("rows", []).append(run.current[0].copy())
        memory.setdefault("losses", []).append(run.loss)
        memory.setdefault("gradients", []).append(run.model.parameters.gradient.copy())

    def on_epoch_end(self, run):
        run.memory(self)["hooks"].append("epoch_end")


class SeesGradients(Seen):
    def on_gradients(self, run):
        run.model.parameters.gradient *= 0.5


@pytest.mark.parametrize("callback", [Seen(), SeesGradients()], ids=["batch_end", "gradients"])
def test_hooks_are_called_as_by_the_numpy_engine(callback):
    model = Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()))
    runs = [
        trainer(engine=engine, epochs=2, callbacks=[callback], metrics=[Accuracy()]).fit(model.copy(), (X, Y))
        for engine in ("numpy", "compiled")
    ]
    expected, found = (run.memories[f"{callback.label}.0"] for run in runs)
    assert found["hooks"] == expected["hooks"]
    assert all(map(np.array_equal, found["rows"], expected["rows"]))
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-12)
    np.testing.assert_allclose(found["gradients"], expected["gradients"], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(runs[1].model.parameters.vector, runs[0].model.parameters.vector, rtol=1e-12, atol=1e-14)


def test_a_stop_before_the_first_batch_makes_no_step():
    @on("epoch_begin")
    def stop(run):
        run.stop("not yet")

    run = trainer(callbacks=[stop]).fit(NEURON.copy(), (X, Y))
    assert (run.step, run.epoch, run.stop_reason) == (0, 0, "not yet")


def test_ctrl_c_ends_at_a_step_and_the_run_goes_on():
    @on("epoch_begin")
    def press(run):
        if run.epoch == 2 and not run.memory(press):
            run.memory(press)["pressed"] = True
            os.kill(os.getpid(), signal.SIGINT)

    whole = trainer(epochs=4).fit(NEURON.copy(), (X, Y))
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer(epochs=4, callbacks=[press]).fit(NEURON.copy(), (X, Y))
    assert caught.value.run.step < whole.step
    require_same(trainer(epochs=4, callbacks=[press]).resume(caught.value.run, (X, Y)), whole)


def test_settings_assigned_in_a_hook_count():
    @on("epoch_end")
    def change(run):
        run.optimizer.learning_rate = 0.5 / run.epoch
        run.optimizer.momentum = 0.5

    optimizer = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    runs = [
        trainer(engine=engine, optimizer=optimizer, epochs=4, callbacks=[change]).fit(NEURON.copy(), (X, Y))
        for engine in ("numpy", "compiled")
    ]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)
    assert runs[1].history.column("learning_rate") == runs[0].history.column("learning_rate")


def test_validation_and_early_stopping():
    callbacks = [EarlyStopping(monitor="val_loss", patience=2)]
    runs = [
        trainer(engine=engine, epochs=50, optimizer=SGDOptimizer(learning_rate=5.0), callbacks=callbacks).fit(
            NEURON.copy(), (X, 1 - Y), validation=(X, Y)
        )
        for engine in ("numpy", "compiled")
    ]
    assert runs[0].epoch == runs[1].epoch < 50
    assert runs[1].history.column("val_loss") == pytest.approx(runs[0].history.column("val_loss"), rel=1e-9)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_divergence_raises_the_same_error_and_keeps_the_last_finite_weights(batch_size):
    errors = []
    x = X * 1e3
    for engine in ("numpy", "compiled"):
        model = Sequential(Dense(3, 4), Dense(4, 1))
        with pytest.raises(DivergedError) as caught:
            trainer(engine=engine, loss=MeanSquaredError(), batch_size=batch_size, epochs=50, shuffle=False).fit(
                model, (x, Y)
            )
        errors.append(caught.value)
        assert np.isfinite(model.parameters.vector).all()
        assert caught.value.run.consistent
    assert errors[0].run.step == errors[1].run.step > 0
    assert str(errors[0]).partition(";")[0] == str(errors[1]).partition(";")[0]
    assert errors[1].run.engine == "compiled"


def test_steps_too_large_for_the_kernel_are_made_by_numpy():
    x = np.full((8, 1), 1e150)
    runs = [
        trainer(engine=engine, loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-300), epochs=2).fit(
            Neuron.from_weights([1e-150]), (x, np.zeros(8))
        )
        for engine in ("numpy", "compiled")
    ]
    require_same(*runs)


class Squares:
    """A Dataset of several windows, whose batches span them."""

    def __len__(self):
        return 70_000

    def read(self, start, stop):
        x = np.arange(start, stop)[:, None] / 7e4
        return x, x[:, 0] ** 2, 1.0 + x[:, 0]


def test_a_dataset_trains_like_its_arrays():
    runs = [
        trainer(engine=engine, loss=MeanSquaredError(), batch_size=999).fit(Neuron(1), Squares())
        for engine in ("numpy", "compiled")
    ]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-11)
    assert runs[1].history[-1]["loss"] == pytest.approx(runs[0].history[-1]["loss"], rel=1e-11)


def test_regularizers_count():
    runs = [
        trainer(engine=engine, epochs=3, regularizers=[L2(strength=0.1)]).fit(NEURON.copy(), (X, Y))
        for engine in ("numpy", "compiled")
    ]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)
    assert runs[1].history[-1]["penalty"] == pytest.approx(runs[0].history[-1]["penalty"])


class Fails(Metric):
    def sums(self, prediction, target, weight=None):
        raise ZeroDivisionError("a metric's own mistake")

    def result(self, total, count):
        return total


def test_the_steps_of_a_metric_that_fails_are_not_made():
    model = NEURON.copy()
    before = model.parameters.vector.copy()
    with pytest.raises(ZeroDivisionError) as caught:
        trainer(metrics=[Fails()]).fit(model, (X, Y))
    assert (model.parameters.vector == before).all()
    assert caught.value.run.consistent
    assert caught.value.run.step == 0


class Branching(Activation):
    """A formula that cannot be recorded: it decides by all its elements."""

    def __call__(self, h):
        return h * 2.0 if np.all(np.asarray(h) > -1e9) else h

    def derivative(self, h):
        return 2.0 + 0.0 * h


def test_what_cannot_be_compiled_falls_back_with_one_notice():
    cases = [
        (Neuron(3, Branching()), HalfSquaredError(), PLAIN, "Branching"),
        (NEURON, BinaryCrossEntropy(), NAdamOptimizer(), "NAdamOptimizer.update"),
        (Sequential(Dense(3, 4), Dropout(rate=0.5), Neuron(4)), HalfSquaredError(), PLAIN, "Dropout"),
    ]
    for model, loss, optimizer, name in cases:
        with warnings.catch_warnings(record=True) as notices:
            warnings.simplefilter("always")
            run = trainer(loss=loss, optimizer=optimizer).fit(model.copy(), (X, Y))
        (notice,) = notices
        assert run.engine == "numpy"
        assert name in str(notice.message)
        assert notice.filename == __file__
        assert trainer(engine="auto", loss=loss, optimizer=optimizer).fit(model.copy(), (X, Y)).engine == "numpy"


def test_without_numba_the_compiled_engine_says_what_to_install(monkeypatch):
    half = trainer().fit(NEURON.copy(), (X, Y))
    monkeypatch.setattr(compiled_engine, "available", lambda: False)
    for action in (lambda: trainer().fit(NEURON.copy(), (X, Y)), lambda: trainer().resume(half, (X, Y), epochs=1)):
        with pytest.raises(UsageError, match=r"pip install 'framework\[compiled\]'"):
            action()
    assert trainer(engine="auto").fit(NEURON.copy(), (X, Y)).engine == "numpy"


class Forgets(SGDOptimizer):
    """Sets its values to a number, which no step of descent does."""

    def update(self, values, gradients, rate, step, *memory):
        values[...] = 0.5


def test_an_update_may_set_numbers():
    model = trainer(optimizer=Forgets(learning_rate=0.1)).fit(NEURON.copy(), (X, Y)).model
    assert (model.parameters.vector == 0.5).all()


def plan(activation=None, optimizer=PLAIN):
    return lowered(Sequential(Dense(3, 4, activation or Tanh()), Neuron(4)), HalfSquaredError(), optimizer)


FORM = Form(single=False, classes=False, weighted=False, keeps=False)


class Scaled(Activation):
    factor: float = 1.3

    def __call__(self, h):
        return np.tanh(self.factor * h)


def test_a_changed_formula_is_another_kernel_and_a_changed_setting_is_not():
    one = kernel_source(plan(Scaled()), FORM)
    other = kernel_source(plan(Scaled(factor=1.9)), FORM)
    assert (one.text, one.constants != other.constants) == (other.text, True)

    class Scaled2(Scaled):
        def __call__(self, h):
            return np.tanh(self.factor + h)

    assert kernel_name(kernel_source(plan(Scaled2()), FORM).text) != kernel_name(one.text)


def test_a_formula_defined_anew_is_compiled_anew():
    def define(power):
        class Bent(Activation):
            def __call__(self, h):
                return h / (1.0 + np.abs(h) ** power)

        return Bent

    for power in (1.0, 2.0):
        model = Sequential(Dense(3, 2, define(power)()), Neuron(2))
        runs = [trainer(engine=e, loss=HalfSquaredError()).fit(model.copy(), (X, Y)) for e in ("numpy", "compiled")]
        np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)


def test_where_nothing_can_be_written_kernels_are_compiled_all_the_same(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(compiled_engine, "load", lambda text: load(f"{text}# not cached\n"))
    assert trainer().fit(NEURON.copy(), (X, Y)).engine == "compiled"


def test_the_cache_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path / "framework"


def test_another_process_reads_the_kernel_from_the_disk(tmp_path):
    code = """
import sys
import numpy as np
from framework import *
trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), engine="compiled")
trainer.fit(Neuron(2), (np.ones((4, 2)), np.ones(4)))
(kernel,) = [module for name, module in sys.modules.items() if name.startswith("framework_kernel")]
print(sum(kernel.train.stats.cache_hits.values()))
"""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    outputs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    assert [output.stdout.strip() for output in outputs] == ["0", "1"]


def test_numba_is_imported_by_compiled_runs_alone():
    code = """
import sys
from framework import *
trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
trainer.fit(Neuron(1), ([[1.0]], [1.0]))
print("numba" in sys.modules, "scipy" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_class_that_replaces_a_loop_of_its_base_is_left_to_numpy():
    class Slow(SGDOptimizer):
        def step(self):
            super().step()

    with pytest.raises(CannotLower, match=r"Slow\.step replaces Optimizer\.step"):
        plan(optimizer=Slow(learning_rate=0.1))


@pytest.mark.parametrize("optimizer", [PLAIN, AdamOptimizer(learning_rate=0.01)], ids=["sgd", "adam"])
def test_a_callback_that_watches_every_step_changes_no_bit_and_sees_the_gradients(optimizer):
    seen = []

    @on("batch_end")
    def watch(run):
        seen.append(run.model.parameters.gradient.copy())

    model = Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()))
    runs = [
        trainer(optimizer=optimizer, engine=engine, callbacks=callbacks).fit(model.copy(), (X, Y))
        for engine, callbacks in (("compiled", []), ("compiled", [watch]), ("numpy", [watch]))
    ]
    require_same(*runs[:2])
    compiled, numpy = np.array(seen[: len(seen) // 2]), np.array(seen[len(seen) // 2 :])
    np.testing.assert_allclose(compiled, numpy, rtol=1e-9, atol=1e-14)


def test_verify_resume_proves_a_compiled_training_too():
    model = Sequential(Dense(3, 4, Tanh()), Neuron(4, Sigmoid()))
    assert verify_resume(trainer(optimizer=PLAIN), model, (X, Y)) != ()
