"""A run of the JAX engine behaves as any run: hooks, stops, divergence, resume, what falls back to NumPy."""

import os
import signal
import sys

import jax
import numpy as np
import pytest
from jax_pieces import RNG, both, quick, require_close  # noqa: F401 (quick is a fixture)
from left_out import hooks_differ
from source_pieces import Squares

from framework import (
    Accuracy,
    Activation,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Callback,
    Dense,
    DivergedError,
    Dropout,
    Layer,
    MeanSquaredError,
    Metric,
    Neuron,
    Optimizer,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Trainer,
    on,
    save,
)
from framework.base import ResumeWarning, UsageError
from framework.data import blocks
from framework.training.engines import chunks
from framework.training.engines.jax import engine as jax_engine, program
from framework.training.verification import differences

pytestmark = pytest.mark.share(1 / 3)

X = RNG.normal(size=(50, 3))  # in batches of 8 the last one has 2 rows
Y = (X[:, 0] > 0).astype(float)
MODEL = Sequential(Dense(3, 4), BatchNorm(4), Dropout(0.2), Dense(4, 1, Sigmoid()))
PLAIN = SGDOptimizer(learning_rate=0.1)


def trainer(**settings):
    adam = AdamOptimizer(learning_rate=0.01)
    settings = {"loss": BinaryCrossEntropy(), "optimizer": adam, "batch_size": 8, "engine": "jax"} | settings
    return Trainer(metrics=[Accuracy()], **settings)


def stop_at(step):
    return on("batch_end")(lambda run: run.stop("enough") if run.step == step else None)


def require_same(one, other):
    assert list(differences(one, other)) == []


@pytest.fixture(scope="module")
def whole():
    return trainer(epochs=4).fit(MODEL.copy(), (X, Y))


@hooks_differ
@pytest.mark.parametrize("step", [3, 7, 13])
def test_a_run_that_stops_in_mid_epoch_resumes_bit_for_bit_also_from_a_file(step, whole, tmp_path):
    cut = trainer(epochs=4, callbacks=[stop_at(step)]).fit(MODEL.copy(), (X, Y))
    assert (cut.step, cut.engine) == (step, "jax")
    save(cut, tmp_path / "run.safetensors")
    require_same(trainer(epochs=4).resume(tmp_path / "run.safetensors", (X, Y)), whole)


def test_chunks_of_any_length_give_the_same_bits(monkeypatch, whole):
    monkeypatch.setattr(chunks, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(chunks, "COPIES", 0)
    require_same(trainer(epochs=4).fit(MODEL.copy(), (X, Y)), whole)


def test_ctrl_c_ends_at_a_step_and_the_run_goes_on(whole):
    pressed = []

    @on("epoch_begin")
    def press(run):
        if run.epoch == 2 and not pressed:
            pressed.append(run.step)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        trainer(epochs=4, callbacks=[press]).fit(MODEL.copy(), (X, Y))
    assert caught.value.run.step < whole.step
    require_same(trainer(epochs=4, callbacks=[press]).resume(caught.value.run, (X, Y)), whole)


class Seen(Callback):
    def on_batch_end(self, run):
        memory = run.memory(self)
        memory.setdefault("rows", []).append(run.current[0].copy())
        memory.setdefault("losses", []).append(run.batch_loss)
        memory.setdefault("gradients", []).append(run.model.parameters.gradient.copy())


class Halves(Seen):
    def on_gradients(self, run):
        run.model.parameters.gradient *= 0.5


@pytest.mark.parametrize("callback", [Seen(), Halves()], ids=["batch_end", "gradients"])
def test_hooks_see_and_do_what_they_do_with_numpy(callback):
    runs = both(MODEL.copy, (X, Y), loss=BinaryCrossEntropy(), optimizer=PLAIN, callbacks=[callback])
    require_close(runs)
    expected, found = (run.memories[f"{callback.label}.0"] for run in runs)
    assert all(map(np.array_equal, found["rows"], expected["rows"]))
    for name in ("losses", "gradients"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-10, atol=1e-14)


def test_settings_assigned_in_a_hook_count():
    @on("epoch_end")
    def change(run):
        run.optimizer.learning_rate = 0.5 / run.epoch
        run.optimizer.momentum = 0.5

    optimizer = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    settings = {"loss": BinaryCrossEntropy(), "optimizer": optimizer, "epochs": 3, "callbacks": [change]}
    require_close(both(lambda: Neuron(3, Sigmoid()), (X[:48], Y[:48]), **settings))


def test_divergence_raises_the_same_error_and_keeps_the_state_before_it():
    errors = []
    for engine in ("numpy", "jax"):
        model = Sequential(Dense(3, 4), BatchNorm(4), Dense(4, 1))
        diverges = trainer(
            engine=engine, loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=9.0), epochs=200
        )
        with pytest.raises(DivergedError) as caught:
            diverges.fit(model, (X[:48], Y[:48]))
        assert np.isfinite(model.parameters.vector).all()
        assert all(np.isfinite(buffer).all() for buffer in model.buffers.values())
        assert caught.value.run.consistent
        errors.append(caught.value)
    assert errors[0].run.step == errors[1].run.step > 0
    assert str(errors[0]).partition(":")[0] == str(errors[1]).partition(":")[0]
    assert errors[0].__notes__[0] == errors[1].__notes__[0]


class Fails(Metric):
    def sums(self, prediction, target, weight=None):
        if target.all():
            raise RuntimeError("all are 1")
        return 0.0, 1.0

    def result(self, total, count):
        return total / count


def test_a_metric_that_fails_ends_the_run_at_the_same_step():
    y = np.zeros(50)
    y[32:40] = 1.0
    runs = []
    for engine in ("numpy", "jax"):
        fails = trainer(engine=engine, optimizer=PLAIN, shuffle=False).replace(metrics=[Fails()])
        with pytest.raises(RuntimeError, match="all are 1") as caught:
            fails.fit(MODEL.copy(), (X, y))
        runs.append(caught.value.run)
    require_close(runs)
    assert [run.step for run in runs] == [4, 4]


def test_a_dataset_trains_like_its_arrays_and_its_windows_share_a_program(monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_ROWS", 10_000)
    functions = []

    def compiled(given):
        functions.append(program.compile_program(given))
        return functions[-1]

    monkeypatch.setattr(jax_engine, "compile_program", compiled)
    settings = {"loss": BinaryCrossEntropy(), "batch_size": 999, "epochs": 2}
    require_close(both(lambda: Neuron(1, Sigmoid()), Squares(), **settings), 1e-11)
    assert max(train._cache_size() for train, _ in functions) <= 2  # for the first window, and for all others


class Ranks(Layer):
    check = "off"

    def apply(self, x, values, record):
        return x

    def apply_backward(self, gradient, values, record, gradients):
        return -gradient


class Shrinking(Optimizer):
    def update(self, values, gradients, rate, step):
        values -= rate * gradients / np.sum(np.abs(gradients))


class Rooted(Activation):
    def __call__(self, h):
        return np.vectorize(lambda x: x**3)(h)

    def derivative(self, h):
        return 3.0 * h**2


@pytest.mark.parametrize(
    ("model", "optimizer", "because"),
    [
        (Sequential(Dense(3, 3, Rooted()), Dense(3, 1, Sigmoid())), PLAIN, r"Rooted is a function of Python"),
        (
            Sequential(Dense(3, 3), Ranks(), Dense(3, 1, Sigmoid())),
            PLAIN,
            r"layer 1 Ranks has no graph: its gradients differ",
        ),
        (Neuron(3, Sigmoid()), Shrinking(learning_rate=0.1), r"Shrinking\.update"),
    ],
    ids=["only on arrays", "gradients on purpose", "update over all elements"],
)
def test_what_has_no_graph_falls_back_to_numpy_by_name(model, optimizer, because):
    with pytest.warns(UserWarning, match=f"engine='jax': falling back to NumPy: {because}"):
        run = trainer(optimizer=optimizer).fit(model, (X, Y))
    assert run.engine == "numpy"
    assert "device" not in run.recipe
    assert run.step == 7


def test_a_step_that_jax_cannot_compute_falls_back_to_numpy(monkeypatch):
    def refuses(*_):
        raise NotImplementedError("not on this device\nand more")

    monkeypatch.setattr(program.Program, "run", refuses)
    with pytest.warns(UserWarning, match=r"falling back to NumPy: JAX cannot compute the step: .* not on this device"):
        run = trainer(seed=7, batch_size=10).fit(Neuron(3, Sigmoid()), (X, Y))
    assert (run.engine, run.step) == ("numpy", 5)


def test_jax_keeps_its_own_settings():
    before = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
    trainer().fit(MODEL.copy(), (X, Y))
    assert (jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision) == before
    assert jax.numpy.ones(1).dtype == np.float32


def test_a_resume_keeps_the_engine_and_warns_of_another_device(whole):
    run = trainer(epochs=1).fit(MODEL.copy(), (X, Y))
    run.recipe["device"] = "JAX 0.1, gpu"
    with pytest.warns(ResumeWarning, match=r"device: was JAX 0.1, gpu, now JAX"):
        run = trainer(epochs=4, engine="numpy").resume(run, (X, Y))
    assert run.engine == "jax"
    np.testing.assert_array_equal(run.model.parameters.vector, whole.model.parameters.vector)


def test_without_jax_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    model = MODEL.copy()
    with pytest.raises(UsageError, match=r"engine='jax' needs jax: pip install jax"):
        trainer().fit(model, (X, Y))
