"""A run of the compiled engine behaves as any run: hooks, stops, divergence, resume."""

import contextlib
import itertools
import os
import signal

import numpy as np
import pytest
from compiled_pieces import DEEP, NEURON, PLAIN, X, Y, require_same, trainer
from left_out import hooks_differ
from source_pieces import Squares

from framework import (
    L2,
    Accuracy,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Callback,
    Dense,
    DivergedError,
    Dropout,
    EarlyStopping,
    Embedding,
    FrameworkError,
    HalfSquaredError,
    Join,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Tanh,
    Trainer,
    on,
    verify_resume,
)
from framework.backends.native import products
from framework.base import ResumeWarning
from framework.models import L1, Input, Regularizer
from framework.training.engines import chunks
from framework.training.engines.base import Engine

pytestmark = pytest.mark.share(1 / 3)

pytest.importorskip("llvmlite")


def test_the_engine_is_numpy_unless_asked_otherwise():
    assert Trainer(loss=BinaryCrossEntropy(), optimizer=PLAIN).fit(NEURON.copy(), (X, Y)).engine == "numpy"
    assert trainer(engine="auto").fit(NEURON.copy(), (X, Y)).engine == "compiled"
    assert trainer().fit(NEURON.copy(), (X, Y)).engine == "compiled"


@pytest.mark.parametrize("optimizer", [PLAIN, AdamOptimizer(learning_rate=0.01)], ids=["sgd", "adam"])
def test_ten_epochs_and_ten_more_are_twenty(optimizer):
    one = trainer(optimizer=optimizer, epochs=20).fit(DEEP.copy(), (X, Y))
    half = trainer(optimizer=optimizer, epochs=10).fit(DEEP.copy(), (X, Y))
    require_same(trainer(optimizer=optimizer).resume(half, (X, Y), epochs=10), one)


def test_chunks_of_any_length_give_the_same_bits(monkeypatch):
    one = trainer(epochs=5, metrics=[Accuracy()]).fit(NEURON.copy(), (X, Y))
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(chunks, "COPIES", 0)
    require_same(trainer(epochs=5, metrics=[Accuracy()]).fit(NEURON.copy(), (X, Y)), one)


@pytest.mark.parametrize("optimizer", [PLAIN, AdamOptimizer(learning_rate=0.01)], ids=["sgd", "adam"])
@pytest.mark.parametrize("weight", [None, np.arange(50.0) % 3 + 1.0], ids=["plain", "weighted"])
@pytest.mark.parametrize("dropout", [0, 1])
@pytest.mark.parametrize("metrics", [(), (Accuracy(),)], ids=["loss", "metric"])
def test_chunks_that_use_the_arrays_of_earlier_ones_train_as_numpy_does(
    monkeypatch, optimizer, weight, dropout, metrics
):
    def differ(pace, *_):
        pace.length = next(lengths)

    lengths = itertools.cycle([3.0, 1.0, 3.0, 2.0, 1.0, 3.0])  # of seven batches, the last of which has two rows
    monkeypatch.setattr(chunks.Pace, "note", differ)
    data = (X, Y) if weight is None else (X, Y, weight)
    settings = {"optimizer": optimizer, "metrics": metrics, "epochs": 6}
    dropouts = [Dropout(rate=0.3) for _ in range(dropout)]
    model = Sequential(Dense(3, 4, Tanh(), seed=1), *dropouts, Neuron(4, Sigmoid(), seed=2), seed=3)
    runs = [trainer(engine=engine, **settings).fit(model.copy(), data) for engine in ("numpy", "compiled")]
    assert runs[1].engine == "compiled"
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-11)
    for key in {*runs[0].history.keys} - {"seconds"}:
        np.testing.assert_allclose(runs[1].history[key], runs[0].history[key], rtol=1e-11)


def test_resume_in_mid_epoch_keeps_the_engine():
    @on("batch_end")
    def stop(run):
        if run.step == 10:
            run.stop("enough")

    optimizer = AdamOptimizer(learning_rate=0.01)
    whole = trainer(optimizer=optimizer, epochs=4).fit(DEEP.copy(), (X, Y))
    cut = trainer(optimizer=optimizer, epochs=4, callbacks=[stop]).fit(DEEP.copy(), (X, Y))
    assert (cut.engine, cut.step, cut.batch, cut.stop_reason) == ("compiled", 10, 3, "enough")
    with pytest.warns(ResumeWarning, match=r"engine: was 'compiled', now 'numpy'; the run keeps its own"):
        resumed = trainer(optimizer=optimizer, epochs=4, engine="numpy", callbacks=[stop]).resume(cut, (X, Y))
    assert resumed.engine == "compiled"
    require_same(resumed, whole)


class Seen(Callback):
    def on_epoch_begin(self, run):
        run.memory(self).setdefault("hooks", []).append("epoch_begin")

    def on_batch_end(self, run):
        memory = run.memory(self)
        memory["hooks"].append("batch_end")
        memory.setdefault("rows", []).append(run.current[0].copy())
        memory.setdefault("losses", []).append(run.batch_loss)
        memory.setdefault("gradients", []).append(run.model.parameters.gradient.copy())

    def on_epoch_end(self, run):
        run.memory(self)["hooks"].append("epoch_end")


class SeesGradients(Seen):
    def on_gradients(self, run):
        run.model.parameters.gradient *= 0.5


def told(because):
    """Expect the notice that NumPy makes the update, or no notice where ``because`` is None."""
    if because is None:
        return contextlib.nullcontext()
    return pytest.warns(UserWarning, match=f"falling back to NumPy for the update: {because} must act within each step")


@pytest.mark.parametrize(
    ("callback", "because"),
    [(Seen(), None), (SeesGradients(), "on_gradients")],
    ids=["batch_end", "gradients"],
)
def test_hooks_are_called_as_by_the_numpy_engine(callback, because):
    settings = {"epochs": 2, "callbacks": [callback], "metrics": [Accuracy()]}
    with told(because):
        runs = [trainer(engine=engine, **settings).fit(NEURON.copy(), (X, Y)) for engine in ("numpy", "compiled")]
    expected, found = (run.memories[f"{callback.label}.0"] for run in runs)
    assert runs[1].engine == "compiled"
    assert found["hooks"] == expected["hooks"]
    assert all(map(np.array_equal, found["rows"], expected["rows"]))
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-12)
    np.testing.assert_allclose(found["gradients"], expected["gradients"], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(runs[1].model.parameters.vector, runs[0].model.parameters.vector, rtol=1e-12, atol=1e-14)


class Within(Callback):
    """Acts within steps: changes batches and gradients, freezes parameters, assigns settings, and stops."""

    def on_batch_begin(self, run):
        run.current[0][...] *= 1.0 + 0.01 * run.step
        if run.step == 3:
            run.model.parameters.freeze("0.*")
        if run.step == 6:
            run.model.parameters.unfreeze()
        if run.step == 9:
            run.optimizer.momentum = 0.5
            run.optimizer.clip_value = 0.02

    def on_gradients(self, run):
        run.memory(self).setdefault("losses", []).append(run.batch_loss)
        run.model.parameters.gradient *= 0.5
        if run.step == 7:
            run.optimizer.learning_rate = 0.3
        if run.step == 40:
            run.stop("enough")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_hooks_change_within_a_step_counts_as_with_numpy(accumulate, monkeypatch):
    model = Sequential(Dense(3, 4, Tanh()), Dense(4, 4, Sigmoid()), Neuron(4, Sigmoid()))
    rows = X, Y, np.where(np.arange(len(X)) % 5, 0.0, 1.0 + np.arange(len(X)) % 3)  # some batches have no weight
    settings = {
        "optimizer": SGDOptimizer(learning_rate=0.1, momentum=0.9, clip_norm=0.1),
        "regularizers": [L2(strength=0.1), L1(strength=0.01)],
        "metrics": [Accuracy()],
        "callbacks": [Within()],
        "batch_size": 2,
        "accumulate": accumulate,
        "epochs": 9,
    }
    plain = trainer(engine="numpy", **settings).fit(model.copy(), rows)
    monkeypatch.setattr(Engine, "fill", None)  # the kernel computes every gradient
    quiet = trainer(engine="auto", **settings).fit(model.copy(), rows)
    with pytest.warns(UserWarning, match="for the update: on_batch_begin, on_gradients must act within") as notices:
        run = trainer(**settings).fit(model.copy(), rows)
    assert len(notices) == 1
    assert (run.engine, run.step, run.epoch, run.batch) == ("compiled", plain.step, plain.epoch, plain.batch)
    assert run.stop_reason == plain.stop_reason == "enough"
    assert plain.step < plain.epoch * plain.batches + plain.batch
    require_same(quiet, run)
    np.testing.assert_allclose(run.model.parameters.vector, plain.model.parameters.vector, rtol=1e-11, atol=1e-13)
    assert run.memories["Within.0"]["losses"] == pytest.approx(plain.memories["Within.0"]["losses"], rel=1e-11)
    for key in ("loss", "penalty", "accuracy"):
        assert run.history.column(key) == pytest.approx(plain.history.column(key), rel=1e-11)


@hooks_differ
@pytest.mark.filterwarnings("ignore:engine='compiled'. falling back to NumPy for the update")
def test_a_run_with_hooks_within_a_step_resumes_bit_for_bit_in_mid_epoch():
    @on("gradients")
    def halve(run):
        run.model.parameters.gradient *= 0.5

    @on("batch_end")
    def stop(run):
        if run.step == 10:
            run.stop("enough")

    model = Sequential(Dense(3, 4, Tanh()), BatchNorm(4), Neuron(4, Sigmoid()))
    settings = {"epochs": 4, "optimizer": AdamOptimizer(learning_rate=0.01)}
    whole = trainer(callbacks=[halve], **settings).fit(model.copy(), (X, Y))
    cut = trainer(callbacks=[halve, stop], **settings).fit(model.copy(), (X, Y))
    assert (cut.engine, cut.step) == ("compiled", 10)
    require_same(trainer(callbacks=[halve], **settings).resume(cut, (X, Y)), whole)


@hooks_differ
def test_a_resumed_run_keeps_its_engine_with_hooks_within_a_step_and_without():
    watch = on("gradients")(ignore)
    numpy = trainer(engine="numpy", epochs=3).fit(DEEP.copy(), (X, Y))
    run = trainer(epochs=1).fit(DEEP.copy(), (X, Y))
    with pytest.warns(UserWarning, match="for the update: on_gradients must act within each step"):
        run = trainer(callbacks=[watch]).resume(run, (X, Y), epochs=1)
    run = trainer().resume(run, (X, Y), epochs=1)
    assert (run.engine, run.epoch) == ("compiled", 3)
    np.testing.assert_allclose(run.model.parameters.vector, numpy.model.parameters.vector, rtol=1e-11)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_ids_that_a_hook_changes_are_checked(engine):
    model = Sequential(Join(id=Embedding(3, 4), row=Input(3)), Neuron(7, Sigmoid()))
    rows = {"id": np.arange(len(X)) % 3, "row": X}, Y

    @on("batch_begin")
    def spoil(run):
        if run.step == 3:
            run.current[0]["id"][0] = 1_000_000

    with pytest.raises(FrameworkError, match="Embedding") as caught:
        trainer(engine=engine, callbacks=[spoil]).fit(model.copy(), rows)
    assert caught.value.run.step == 3


def test_a_stop_before_the_first_batch_makes_no_step():
    @on("epoch_begin")
    def stop(run):
        run.stop("not yet")

    run = trainer(callbacks=[stop]).fit(NEURON.copy(), (X, Y))
    assert (run.step, run.epoch, run.stop_reason) == (0, 0, "not yet")


def test_ctrl_c_ends_at_a_step_and_the_run_goes_on():
    pressed = []

    @on("epoch_begin")
    def press(run):
        if run.epoch == 2 and not pressed:
            pressed.append(run.step)
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


def test_between_epochs_of_one_batch_a_hook_may_change_all_that_a_step_takes():
    seen = {"numpy": [], "compiled": []}

    @on("epoch_end")
    def change(run):
        optimizer, parameters = run.optimizer, run.model.parameters
        seen[run.engine] += [parameters.gradient.copy(), parameters.vector.copy()]
        if run.epoch == 2:
            optimizer.learning_rate = 0.05
        elif run.epoch == 4:
            parameters.freeze("0.bias")
        elif run.epoch == 6:
            optimizer.memory["velocity"][...] = 1.0
        elif run.epoch == 8:
            optimizer.momentum = 0.5
        elif run.epoch == 10:
            parameters.unfreeze()

    for engine in seen:
        optimizer = SGDOptimizer(learning_rate=0.1, momentum=0.9)
        settings = {"epochs": 12, "batch_size": len(X), "optimizer": optimizer, "callbacks": [change]}
        assert trainer(engine=engine, **settings).fit(DEEP.copy(), (X, Y)).engine == engine
    for expected, array in zip(seen["numpy"], seen["compiled"], strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-11)


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


def test_a_dataset_trains_like_its_arrays():
    runs = [
        trainer(engine=engine, loss=MeanSquaredError(), batch_size=999).fit(Neuron(1), Squares())
        for engine in ("numpy", "compiled")
    ]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-11)
    assert runs[1].history[-1]["loss"] == pytest.approx(runs[0].history[-1]["loss"], rel=1e-11)


class Quartic(Regularizer):
    """A user's penalty, whose slope is derived."""

    def value(self, values):
        return np.sum(values**4)


@pytest.mark.share(1 / 2)
@pytest.mark.parametrize("optimizer", [PLAIN, AdamOptimizer(clip_norm=0.5)], ids=["sgd", "adam"])
def test_regularizers_count(optimizer):
    """Also in the gradient that a callback sees, where a parameter that two of them act on is not part of a product."""
    seen = {"numpy": [], "compiled": []}
    model = Sequential(Dense(3, 4, Tanh()), BatchNorm(4), Neuron(4, Sigmoid()))
    penalties = [L2(strength=0.1, parameters="*"), Quartic(strength=0.2), L1(strength=0.01, parameters="1.*")]
    watch = on("epoch_end")(lambda run: seen[run.engine].append(run.model.parameters.gradient.copy()))
    settings = {"epochs": 3, "regularizers": penalties, "optimizer": optimizer, "callbacks": [watch]}
    runs = [trainer(engine=engine, **settings).fit(model.copy(), (X[:48], Y[:48])) for engine in seen]
    assert [run.engine for run in runs] == [*seen]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(seen["compiled"], seen["numpy"], rtol=1e-9, atol=1e-14)
    assert runs[1].history[-1]["penalty"] == pytest.approx(runs[0].history[-1]["penalty"])


@pytest.mark.parametrize("optimizer", [PLAIN, AdamOptimizer(learning_rate=0.01)], ids=["sgd", "adam"])
def test_a_callback_that_watches_every_step_changes_no_bit_and_sees_the_gradients(optimizer):
    seen = []

    @on("batch_end")
    def watch(run):
        seen.append(run.model.parameters.gradient.copy())

    runs = [
        trainer(optimizer=optimizer, engine=engine, callbacks=callbacks).fit(DEEP.copy(), (X, Y))
        for engine, callbacks in (("compiled", []), ("compiled", [watch]), ("numpy", [watch]))
    ]
    require_same(*runs[:2])
    compiled, numpy = np.array(seen[: len(seen) // 2]), np.array(seen[len(seen) // 2 :])
    np.testing.assert_allclose(compiled, numpy, rtol=1e-9, atol=1e-14)


@pytest.mark.share(1 / 3)
def test_verify_resume_proves_a_compiled_training_too():
    assert verify_resume(trainer(optimizer=PLAIN), DEEP.copy(), (X, Y)) != ()


def test_at_the_end_of_an_epoch_the_last_gradient_and_batch_are_there():
    seen = {}

    @on("epoch_end")
    def watch(run):
        x, y, weight = run.current
        assert weight is None
        seen.setdefault(run.engine, []).append((run.model.parameters.gradient.copy(), x.copy(), y.copy()))

    for engine in ("numpy", "compiled"):
        trainer(engine=engine, epochs=3, callbacks=[watch]).fit(NEURON.copy(), (X, Y))
    assert len(seen["compiled"]) == 3
    for expected, found in zip(seen["numpy"], seen["compiled"], strict=True):
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-10)
        assert found[0].any()


@hooks_differ
def test_a_float32_run_and_a_dataset_resume_bit_for_bit_in_mid_epoch():
    def stop_at(step):
        return on("batch_end")(lambda run: run.stop("enough") if run.step == step else None)

    def require_resume(step, model, data, **settings):
        whole = trainer(**settings).fit(model.copy(), data)
        cut = trainer(callbacks=[stop_at(step)], **settings).fit(model.copy(), data)
        assert cut.step == step
        require_same(trainer(**settings).resume(cut, data), whole)

    require_resume(10, Neuron(3, Sigmoid(), dtype="float32"), (X, Y), epochs=4)
    require_resume(68, Neuron(1), Squares(), loss=MeanSquaredError(), batch_size=999, epochs=2)


def ignore(_run):
    pass


def test_a_run_records_what_takes_large_products():
    run = trainer().fit(NEURON.copy(), (X, Y))
    assert run.recipe["products"] == products()
    assert "products" not in trainer(engine="numpy").fit(NEURON.copy(), (X, Y)).recipe
    stepped = trainer(engine="auto", callbacks=[on("gradients")(ignore)]).fit(NEURON.copy(), (X, Y))
    assert (stepped.engine, stepped.recipe["products"]) == ("compiled", products())
