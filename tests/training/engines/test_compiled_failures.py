"""What fails in the middle of a compiled run fails at the same step as by NumPy; kernels are not made in vain."""

import warnings

import numpy as np
import pytest
from compiled_pieces import NEURON, X, Y, require_same, trainer

from framework import (
    L2,
    Accuracy,
    Dense,
    DivergedError,
    Loss,
    MeanSquaredError,
    Metric,
    Neuron,
    Schedule,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Trainer,
    on,
)
from framework.backends.native.compiler import KernelError
from framework.base import UsageError
from framework.training.engines.native.engine import CompiledEngine
from framework.training.engines.native.memory import Call, Memory
from framework.training.engines.native.program import StepKernel

pytest.importorskip("llvmlite")


class Fails(Metric):
    """Fails at the batch that has a certain target."""

    target: float

    def sums(self, prediction, target, weight=None):
        if self.target in target:
            raise ZeroDivisionError("a metric's own mistake")
        return float(prediction.sum()), 1.0

    def result(self, total, count):
        return total


@pytest.mark.parametrize("place", [0, 5, 7, 17])
def test_where_a_metric_fails_the_steps_before_it_are_made_and_no_other(place):
    models, runs = [NEURON.copy(), NEURON.copy()], []
    y = np.abs(Y - np.arange(len(Y)) / 1024)  # each once
    for engine, model in zip(("numpy", "compiled"), models, strict=True):
        with pytest.raises(ZeroDivisionError) as caught:
            trainer(engine=engine, epochs=3, metrics=[Fails(target=y[place])]).fit(model, (X, y))
        runs.append(caught.value.run)
    assert runs[0].step == runs[1].step
    assert runs[1].consistent
    assert runs[1].sums.keys() == runs[0].sums.keys()
    for key, sums in runs[0].sums.items():
        assert runs[1].sums[key] == pytest.approx(sums, rel=1e-12)
    np.testing.assert_allclose(*(model.parameters.vector for model in models), rtol=1e-12)


@pytest.mark.parametrize("metrics", [(), (Accuracy(),)])
def test_steps_that_an_interruption_leaves_uncounted_are_undone_or_make_the_run_inconsistent(monkeypatch, metrics):
    make_steps, calls = Call.__call__, []

    def and_interrupt(*arguments, **named):
        done = make_steps(*arguments, **named)
        calls.append(done)
        if len(calls) == 4:  # as a second Ctrl-C, which acts when the kernel returns
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Call, "__call__", and_interrupt)
    recipe, model = trainer(epochs=9, metrics=metrics), NEURON.copy()
    with pytest.raises(KeyboardInterrupt) as caught:
        recipe.fit(model, (X, Y))
    run = caught.value.run
    assert run.consistent == bool(metrics)
    if metrics:
        require_same(recipe.resume(run, (X, Y)), recipe.fit(NEURON.copy(), (X, Y)))
    else:
        with pytest.raises(UsageError, match="interrupted in the middle of an update"):
            recipe.resume(run, (X, Y))


@pytest.mark.parametrize("metrics", [(), (Accuracy(),)])
def test_an_interruption_before_the_kernel_is_called_undoes_no_counted_step(monkeypatch, metrics):
    prepare, calls = CompiledEngine._prepare_chunk, []

    def or_interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return prepare(*arguments)

    monkeypatch.setattr(CompiledEngine, "_prepare_chunk", or_interrupt)
    recipe = trainer(epochs=9, metrics=metrics)
    with pytest.raises(KeyboardInterrupt) as caught:
        recipe.fit(NEURON.copy(), (X, Y))
    assert caught.value.run.consistent
    require_same(recipe.resume(caught.value.run, (X, Y)), recipe.fit(NEURON.copy(), (X, Y)))


class Given(Schedule):
    """Gives rates that are none from step 10 on."""

    kind: str

    def __call__(self, step):
        wrong = {"text": "0.1", "array": np.array([0.1]), "negative": -0.1, "nothing": None}
        return 0.1 if step < 10 else wrong[self.kind]


@pytest.mark.parametrize("kind", ["text", "array", "negative", "nothing", "no such kind"])
def test_what_is_no_rate_ends_a_run_at_the_same_step_with_the_same_error(kind):
    errors = []
    for engine in ("numpy", "compiled"):
        with pytest.raises((SettingsError, KeyError)) as caught:
            trainer(engine=engine, optimizer=SGDOptimizer(learning_rate=Given(kind=kind)), epochs=2).fit(
                NEURON.copy(), (X, Y)
            )
        assert caught.value.run.consistent
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    assert errors[0].run.step == errors[1].run.step == 10


def test_a_setting_that_is_assigned_at_every_step_takes_one_kernel(monkeypatch):
    made = []

    class Counted(StepKernel):
        def __init__(self, *arguments):
            made.append(self)
            super().__init__(*arguments)

    @on("batch_end")
    def slow_down(run):
        run.optimizer.momentum = 0.9 - run.step / 1000

    monkeypatch.setattr(CompiledEngine, "compile", staticmethod(Counted))
    optimizer = SGDOptimizer(learning_rate=0.1, momentum=0.9)
    runs = [
        trainer(engine=engine, optimizer=optimizer, epochs=3, callbacks=[slow_down]).fit(NEURON.copy(), (X, Y))
        for engine in ("numpy", "compiled")
    ]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-12)
    assert len(made) == 1


def test_an_error_before_a_chunk_of_steps_ends_training_there(monkeypatch):
    bind = Memory.bind

    def failing(self, steps, *arguments):
        if steps.first > 2:
            raise MemoryError("no room")
        return bind(self, steps, *arguments)

    monkeypatch.setattr(Memory, "bind", failing)
    with pytest.raises(MemoryError, match="no room") as caught:
        trainer(epochs=1, batch_size=1).fit(NEURON.copy(), (X, Y))
    run = caught.value.run
    monkeypatch.undo()
    assert run.consistent
    trainer(epochs=1, batch_size=1).resume(run, (X, Y))
    np.testing.assert_array_equal(
        run.model.parameters.vector,
        trainer(epochs=1, batch_size=1).fit(NEURON.copy(), (X, Y)).model.parameters.vector,
    )


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_a_run_whose_kernel_cannot_be_compiled_is_numpys(monkeypatch, engine):
    def refused(*_):
        raise KernelError("function f, line 3 of the kernel: no function cosine\nin the text ...")

    monkeypatch.setattr(CompiledEngine, "compile", staticmethod(refused))
    with warnings.catch_warnings(record=True) as notices:
        warnings.simplefilter("always")
        run = trainer(engine=engine, epochs=2).fit(NEURON.copy(), (X, Y))
    assert (run.engine, run.step) == ("numpy", 14)
    reason = "function f, line 3 of the kernel: no function cosine"
    expected = [f"engine='compiled': falling back to NumPy: {reason}"] if engine == "compiled" else []
    assert [str(notice.message) for notice in notices] == expected


def test_a_fault_of_the_framework_is_said(monkeypatch):
    def faulty(*_):
        raise KeyError("divide")

    monkeypatch.setattr(CompiledEngine, "compile", staticmethod(faulty))
    with pytest.warns(UserWarning, match=r"a fault of the framework: KeyError: 'divide'; please report it") as notices:
        run = trainer(engine="auto", epochs=1).fit(NEURON.copy(), (X, Y))
    assert run.engine == "numpy"
    assert notices[0].filename == __file__


class Limited(Loss):
    """A loss that is infinite for targets above 5, with a finite slope, so that only its value tells."""

    def value(self, prediction, target):
        return 0.5 * (prediction - target) ** 2 - np.log(np.where(target > 5.0, 0.0, 1.0))


@pytest.mark.parametrize("regularizers", [[], [L2(strength=0.1)]], ids=["plain", "with a penalty"])
def test_a_step_on_one_row_whose_loss_is_infinite_is_not_made(regularizers):
    x, y = np.random.default_rng(0).normal(size=(50, 3)), np.linspace(0.0, 1.0, 50)
    y[37] = 6.0
    settings = {"loss": Limited(), "optimizer": SGDOptimizer(learning_rate=0.1), "batch_size": 1, "shuffle": False}
    runs = []
    for engine in ("numpy", "compiled"):
        trainer = Trainer(engine=engine, regularizers=regularizers, **settings)
        with pytest.raises(DivergedError) as caught:
            trainer.fit(Neuron.from_weights([0.1, 0.2, 0.3]), (x, y))
        runs.append(caught.value.run)
    numpy, native = runs
    assert (native.engine, native.step, numpy.step) == ("compiled", 37, 37)
    np.testing.assert_allclose(native.model.parameters.vector, numpy.model.parameters.vector, rtol=1e-12)


@pytest.mark.parametrize("columns", [2, 4, 7])
def test_rows_of_another_width_raise_where_the_first_layer_takes_any(columns):
    model, x = Sequential(Softmax(), Dense(3, 2)), np.ones((20, columns))
    before = model.parameters.vector.copy()
    with (
        pytest.warns(UserWarning, match=rf"Dense takes samples of shape \(3,\); got \({columns},\)"),
        pytest.raises(ShapeError, match=rf"Dense takes samples of shape \(3,\); got \({columns},\)"),
    ):
        trainer(loss=MeanSquaredError()).fit(model, (x, np.zeros((20, 2))))
    np.testing.assert_array_equal(model.parameters.vector, before)
