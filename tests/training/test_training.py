"""What surrounds the loop: the order of the hooks, stops, errors and signals."""

import os
import signal
import threading
from contextlib import ExitStack
from typing import ClassVar

import numpy as np
import pytest
from left_out import hooks_differ

from framework import Callback, DataError, EarlyStopping, MeanSquaredError, Neuron, SGDOptimizer, Trainer, on
from framework.training import HOOKS
from framework.training.training import Training

pytestmark = hooks_differ

X = np.arange(7.0)[:, None]
DATA = (X, 2.0 * X[:, 0])  # 3 batches: 3, 3 and 1 rows
STOPPABLE = [hook.removeprefix("on_") for hook in HOOKS]


def train(*callbacks, epochs=2, validation=None, model=None):
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), batch_size=3, callbacks=callbacks
    )
    return trainer.fit(model or Neuron(1), DATA, validation, epochs=epochs)


def recorder(seen, name=None, **fields):
    """A callback that appends (its name and) every hook to ``seen``."""

    def record(hook):
        return lambda _self, _run: seen.append(hook if name is None else (name, hook))

    return type("Recorder", (Callback,), {hook: record(hook) for hook in HOOKS} | fields)()


def at(hook, step, action):
    """Do something at one hook and one step."""

    @on(hook)
    def act(run):
        if run.step == step:
            action(run)

    return act


def fail(error):
    def action(_run):
        raise error

    return action


def test_hooks_come_in_the_order_of_the_flow():
    seen = []
    train(recorder(seen), epochs=1)
    batch = ["on_batch_begin", "on_gradients", "on_batch_end"]
    assert seen == ["on_train_begin", "on_epoch_begin", *batch * 3, "on_epoch_end", "on_train_end"]


def test_callbacks_are_called_in_the_lists_order_and_those_that_save_last():
    seen = []

    class Saver(Callback):
        writes: ClassVar[bool] = True

        def on_epoch_end(self, run):
            seen.append(("saver", "on_epoch_end"))

    train(Saver(), recorder(seen, "a"), recorder(seen, "b"), epochs=1)
    order = [name for name, hook in seen if hook == "on_epoch_end"]
    assert order == ["a", "b", "saver"]
    for hook in HOOKS:
        assert [name for name, called in seen if called == hook][:2] == ["a", "b"]


def test_only_hooks_that_somebody_overrides_are_registered():
    run = train()
    trainer = Trainer(loss=run.loss_function, optimizer=SGDOptimizer(learning_rate=0.01), callbacks=[EarlyStopping()])
    hooks = Training(trainer, ExitStack())._hooks
    used = {hook for hook, functions in hooks.items() if functions}
    assert used == {"on_train_begin", "on_epoch_end", "on_train_end"}


@pytest.mark.parametrize(
    ("hook", "steps", "epochs"),
    [
        ("train_begin", 0, 0),
        ("epoch_begin", 0, 0),
        ("batch_begin", 1, 0),
        ("gradients", 1, 0),
        ("batch_end", 1, 0),
        ("epoch_end", 3, 1),
        ("train_end", 6, 2),
    ],
)
def test_a_stop_takes_effect_at_the_next_batch_boundary(hook, steps, epochs):
    run = train(on(hook)(lambda run: run.stop(f"from {hook}")))
    assert (run.step, run.epoch, len(run.history)) == (steps, epochs, epochs)
    assert run.stop_reason == f"from {hook}"


ROWS = np.arange(50.0).reshape(-1, 1), np.arange(50.0)


@pytest.mark.parametrize(
    ("settings", "ordered"),
    [
        ({"batch_size": 50}, True),
        ({"batch_size": 25, "accumulate": 2}, True),
        ({"batch_size": 49}, False),
        ({"batch_size": 50, "sampling": "balanced"}, False),
    ],
)
def test_one_batch_of_all_rows_keeps_their_order_unless_they_are_drawn(settings, ordered):
    batches = []
    note = on("batch_end")(lambda run: batches.append(run.current[1].copy()))
    Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-6), epochs=2, callbacks=[note], **settings
    ).fit(Neuron(1), ROWS)
    rows = np.concatenate(batches).reshape(2, 50)
    assert np.array_equal(rows, [ROWS[1]] * 2) == ordered
    assert np.array_equal(rows[0], rows[1]) == ordered


def test_a_hook_before_a_batch_of_all_rows_may_write_into_it():
    @on("batch_begin")
    def halve(run):
        run.current[1][...] *= 0.5

    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=1e-4), batch_size=50)
    halved = trainer.replace(callbacks=[halve]).fit(Neuron(1), ROWS)
    expected = trainer.fit(Neuron(1), (ROWS[0], ROWS[1] / 2))
    assert halved.loss == pytest.approx(expected.loss, rel=1e-12)


def test_a_stop_is_sticky_whatever_comes_after_it():
    @on("batch_end")
    def second(run):
        run.stop("second")
        train(epochs=1)  # another run in a hook

    run = train(at("batch_begin", 1, lambda run: run.stop("first")), second)
    assert (run.stop_reason, run.step) == ("second", 1)
    run = train(at("batch_begin", 0, lambda run: run.stop("first")), second)
    assert (run.stop_reason, run.step) == ("first", 1)


@pytest.mark.parametrize("step", [1, 2])
def test_a_stop_in_mid_epoch_ends_there(step):
    seen = []
    run = train(recorder(seen), at("batch_end", step, lambda run: run.stop("now")), validation=DATA)
    assert seen.count("on_epoch_begin") == 1
    assert "on_epoch_end" not in seen
    assert seen[-1] == "on_train_end"
    assert (run.batch, run.epoch, len(run.history)) == (step, 0, 0)


def test_a_stop_at_the_last_batch_still_finishes_the_epoch():
    seen = []
    run = train(recorder(seen), at("batch_end", 3, lambda run: run.stop("now")), validation=DATA)
    assert (run.step, run.epoch, seen.count("on_epoch_end")) == (3, 1, 1)
    assert "val_loss" in run.history[0]


def test_resume_finishes_the_epoch_without_beginning_it_again():
    seen = []
    run = train(at("epoch_begin", 0, lambda run: run.stop("at once")))
    Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), batch_size=3, callbacks=[recorder(seen)]
    ).resume(run, DATA, epochs=1)
    assert seen[:2] == ["on_train_begin", "on_batch_begin"]
    assert run.stop_reason is None


@pytest.mark.parametrize("hook", STOPPABLE)
def test_an_error_keeps_its_type_and_says_where_it_happened(hook):
    class Failing(Callback):
        depth: int = 2

    setattr(Failing, f"on_{hook}", lambda _self, _run: {}["missing"])
    with pytest.raises(KeyError, match="missing") as caught:
        train(Failing())
    run = caught.value.run
    assert caught.value.__notes__ == [f"in on_{hook} of Failing(), {run.epoch} epochs and {run.step} steps finished"]
    assert run.error is caught.value
    assert run.consistent


@pytest.mark.parametrize("hook", STOPPABLE)
def test_training_ends_for_all_who_started(hook):
    seen = []
    failing = at(hook, {"epoch_end": 3, "train_end": 6, "batch_end": 1}.get(hook, 0), fail(OSError("full")))
    with pytest.raises(OSError, match="full"):
        train(recorder(seen, "before"), failing, recorder(seen, "after"))
    ended = [name for name, called in seen if called == "on_train_end"]
    assert ended == (["before"] if hook == "train_begin" else ["before", "after"])


def test_a_callback_without_on_train_begin_has_started_when_its_turn_came():
    ended = []
    end = on("train_end")(lambda run: ended.append(type(run.error)))
    with pytest.raises(OSError, match="full"):
        train(end, on("train_begin")(fail(OSError("full"))), end.replace(every=2))
    assert ended == [OSError]


def test_the_first_error_leaves_and_later_ones_are_notes_on_it():
    with pytest.raises(OSError, match="full") as caught:
        train(
            on("batch_end")(fail(OSError("full"))),
            on("train_end")(fail(ValueError("late"))),
            on("train_end")(fail(KeyboardInterrupt("later"))),
        )
    where, late, later = caught.value.__notes__
    assert where.startswith("in on_batch_end of on('batch_end')")
    assert late.startswith("then ValueError: late (in on_train_end of on('train_end')")
    assert later.startswith("then KeyboardInterrupt: later (in on_train_end")


def test_the_first_error_of_the_end_leaves_when_training_went_well():
    seen = []
    with pytest.raises(ValueError, match="first") as caught:
        train(
            on("train_end")(fail(ValueError("first"))),
            on("train_end")(fail(OSError("second"))),
            on("train_end")(lambda run: seen.append(run.error)),
        )
    assert seen == [caught.value]
    assert caught.value.__notes__[1].startswith("then OSError: second")


def test_memory_that_cannot_be_saved_is_refused_and_the_session_still_ends():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    errors, warned = [], np.geterr()

    class Forgetful(Callback):
        def on_batch_end(self, run):
            run.memory(self)["file"] = os.devnull.encode()

        def on_train_end(self, run):
            errors.append(run.error)

    with pytest.raises(
        DataError, match=r"run.memory of Forgetful.0: 'file' must be .*; got bytes; .* run.live"
    ) as caught:
        train(Forgetful())
    assert errors == [caught.value]
    assert caught.value.run.step == 1  # at once, and not when somebody saves
    assert caught.value.__notes__[0].startswith("in on_batch_end of Forgetful()")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert np.geterr() == warned


SIGNALS = [
    (signal.SIGINT, KeyboardInterrupt, "interrupted by Ctrl-C"),
    (signal.SIGTERM, SystemExit, "ended by SIGTERM"),
]


@pytest.mark.parametrize(("number", "error", "reason"), SIGNALS)
@pytest.mark.parametrize(
    ("hook", "step", "steps", "epochs"),
    [
        ("train_begin", 0, 0, 0),
        ("epoch_begin", 0, 0, 0),
        ("batch_begin", 1, 2, 0),
        ("gradients", 1, 2, 0),
        ("batch_end", 1, 1, 0),
        ("batch_end", 3, 3, 0),  # the epoch's last: validation can wait
        ("epoch_end", 3, 3, 1),
        ("train_end", 6, 6, 2),
    ],
)
def test_a_signal_takes_effect_at_a_step_boundary(number, error, reason, hook, step, steps, epochs):
    handlers = [signal.getsignal(found) for found, _, _ in SIGNALS]
    ended = []
    end = on("train_end")(lambda run: ended.append(run.step))
    sent = at(hook, step, lambda _run: os.kill(os.getpid(), number))
    with pytest.raises(error) as caught:
        train(sent, end)
    run = caught.value.run
    assert (run.step, run.epoch, run.stop_reason, run.consistent) == (steps, epochs, reason, True)
    assert ended == [steps]
    assert [signal.getsignal(found) for found, _, _ in SIGNALS] == handlers
    if error is SystemExit:
        assert caught.value.code == 128 + number
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), batch_size=3, epochs=2)
    assert trainer.resume(run, DATA).epoch == 2


@pytest.mark.parametrize(("number", "error", "reason"), SIGNALS)
def test_a_second_signal_acts_at_once(number, error, reason):
    reached = []

    @on("batch_begin")
    def impatient(run):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(number)
        reached.append(run.step)

    with pytest.raises(error) as caught:
        train(impatient)
    assert reached == []
    assert caught.value.run.stop_reason == reason
    assert caught.value.run.consistent


class Interrupted(SGDOptimizer):
    def update(self, values, gradients, rate, step, *memory):
        super().update(values, gradients, rate, step, *memory)
        if step == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


def test_a_run_cut_off_in_an_update_is_not_consistent_and_resume_refuses_it():
    trainer = Trainer(loss=MeanSquaredError(), optimizer=Interrupted(learning_rate=0.01), batch_size=3)
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(Neuron(1), DATA)
    assert not caught.value.run.consistent
    with pytest.raises(RuntimeError, match="interrupted in the middle of an update; start again with fit"):
        trainer.resume(caught.value.run, DATA)


def test_a_signal_that_the_program_ignores_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert train(at("batch_end", 1, lambda _run: signal.raise_signal(signal.SIGTERM))).step == 6
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_fit_in_a_thread_leaves_the_signals_alone():
    before, seen = signal.getsignal(signal.SIGINT), []
    look = on("batch_end")(lambda _run: seen.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(target=train, args=(look,))
    thread.start()
    thread.join()
    assert seen == [before] * 6
