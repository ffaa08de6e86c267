"""Ctrl-C and SIGTERM wherever they come: training ends in order, says so, and goes on bit for bit."""

import asyncio
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from left_out import hooks_differ

from framework import (
    Activation,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Checkpoint,
    Dense,
    EarlyStopping,
    MeanSquaredError,
    Sequential,
    Sigmoid,
    Tanh,
    Trainer,
    latest,
    on,
)

pytestmark = hooks_differ

RNG = np.random.default_rng(0)
X = RNG.normal(size=(11, 3))
Y = (X[:, 0] > 0).astype(float)
HELD_OUT = (RNG.normal(size=(5, 3)), np.array([0, 1, 1, 0, 1]))
EPOCHS, BATCHES = 3, 3  # batches of 4, 4 and 3 rows
BOTH = (signal.SIGINT, signal.SIGTERM)
SIGNALS = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]


def recipe(*callbacks):
    callbacks = [EarlyStopping(patience=50), *callbacks]
    optimizer = AdamOptimizer(learning_rate=0.01)
    return Trainer(loss=BinaryCrossEntropy(), optimizer=optimizer, epochs=EPOCHS, batch_size=4, callbacks=callbacks)


def fit(*callbacks, held_out=None):
    return recipe(*callbacks).fit(network(), (X, Y), held_out or HELD_OUT)


def network():
    return Sequential(Dense(3, 4, Tanh()), BatchNorm(4), Dense(4, 1, Sigmoid()), seed=1)


def bits_of(run):
    """Everything that an interruption must not change."""
    memory = {name: array.tobytes() for name, array in run.optimizer.memory.items()}
    buffers = {name: array.tobytes() for name, array in run.model.buffers.items()}
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
    return run.model.parameters.vector.tobytes(), memory, buffers, rows, run.memories, run.epoch, run.step, run.batch


class Sender:
    """Sends one signal, or several at once, at its n-th call."""

    def __init__(self, number, call, times=1):
        self.number, self.call, self.times, self.calls = number, call, times, 0

    def __call__(self, *_arguments):
        self.calls += 1
        if self.calls == self.call:
            for _ in range(self.times):
                signal.raise_signal(self.number)


class HeldOut:
    """The held-out data as a Dataset that sends signals when it is read in one epoch's validation."""

    def __init__(self, number, epoch, times=1):
        self.send, self.epoch, self.reached = Sender(number, 1, times), epoch, 0

    def arming(self):
        return on("epoch_begin")(lambda run: setattr(self, "reached", run.epoch + 1))  # fit reads before training too

    def __len__(self):
        return len(HELD_OUT[0])

    def read(self, start, stop):
        if self.reached == self.epoch:
            self.send()
        return HELD_OUT[0][start:stop], HELD_OUT[1][start:stop]


def interrupted(error, train):
    """Return the run of an interruption, after a look at what must always hold."""
    before = [signal.getsignal(number) for number in BOTH]
    with pytest.raises(error) as caught:
        train()
    assert [signal.getsignal(number) for number in BOTH] == before
    assert caught.value.run.consistent
    assert error is not SystemExit or caught.value.code == 143
    return caught.value.run


@pytest.fixture(scope="module")
def uninterrupted():
    return bits_of(fit())


def resumed(run, held_out=HELD_OUT):
    return bits_of(recipe().resume(run, (X, Y), held_out))


@pytest.mark.parametrize(("number", "error"), SIGNALS)
@pytest.mark.parametrize("step", range(1, EPOCHS * BATCHES + 1))
def test_in_a_step_it_waits_for_its_end(uninterrupted, monkeypatch, number, error, step):
    send = Sender(number, 1)
    update = AdamOptimizer.update

    def sending(self, values, gradients, rate, now, *memory):
        if now == step:  # not each n-th call: a first fit tries the update before it steps
            send()
        update(self, values, gradients, rate, now, *memory)

    monkeypatch.setattr(AdamOptimizer, "update", sending)
    run = interrupted(error, fit)
    assert run.step == step
    monkeypatch.undo()
    assert resumed(run) == uninterrupted


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(("number", "error"), SIGNALS)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("hook", ["epoch_begin", "batch_begin", "gradients", "batch_end", "epoch_end"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_in_a_hook_whatever_the_place(uninterrupted, number, error, times, hook, call):
    run = interrupted(error, lambda: fit(on(hook)(Sender(number, call, times))))
    assert resumed(run) == uninterrupted


def test_a_second_one_in_a_forward_puts_the_buffers_back(uninterrupted, monkeypatch):
    send = Sender(signal.SIGINT, 5, times=2)
    apply = BatchNorm.apply

    def sending(self, x, values, record):
        a = apply(self, x, values, record)  # has moved the running mean and variance
        if record.training:
            send()
        return a

    monkeypatch.setattr(BatchNorm, "apply", sending)
    monkeypatch.setattr(BatchNorm, "check", "off")  # the check of its gradients would count as forwards
    run = interrupted(KeyboardInterrupt, fit)
    monkeypatch.undo()
    assert run.step == 4
    assert run.recipe.pop("python") == "1 BatchNorm"  # it ran this apply
    assert resumed(run) == uninterrupted


def test_a_second_one_while_a_checkpoint_is_made_stays_itself(tmp_path):
    armed = []

    class Slow(Activation):
        def __call__(self, h):
            return np.tanh(h)

        @classmethod
        def tag(cls):
            while armed:
                signal.raise_signal(armed.pop())
            return super().tag()

    arm = on("batch_end")(lambda run: armed.extend([signal.SIGINT] * 2) if run.step == 2 else None)
    trainer = recipe(arm, Checkpoint(folder=tmp_path, every=1)).replace(loss=MeanSquaredError())
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer.fit(Dense(3, 1, Slow()), (X, Y), HELD_OUT)
    assert caught.value.run.step == 2


@pytest.mark.parametrize(("number", "error"), SIGNALS)
@pytest.mark.parametrize(("times", "finished"), [(1, 2), (2, 1)])
def test_in_validation_the_epoch_is_finished_unless_a_second_one_comes(uninterrupted, number, error, times, finished):
    held_out = HeldOut(number, 2, times)
    run = interrupted(error, lambda: fit(held_out.arming(), held_out=held_out))
    assert (run.epoch, len(run.history), run.step) == (finished, finished, 6)
    assert resumed(run, held_out) == uninterrupted


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_at_the_end_every_callback_still_ends_and_the_third_one_acts_at_once(before, times):
    seen, first, more = [], Sender(signal.SIGINT, 1, before), Sender(signal.SIGINT, 1, times)
    hang, end = (lambda _run: seen.append(more() or "not cut off")), (lambda _run: seen.append("end"))
    run = interrupted(KeyboardInterrupt, lambda: fit(on("batch_end")(first), *map(on("train_end"), (hang, end))))
    assert seen == ["not cut off"] * (before + times < 3) + ["end"]
    assert run.epoch == (0 if before else EPOCHS)


@pytest.mark.parametrize(("number", "error"), SIGNALS)
def test_beside_an_error_it_is_a_note_on_it(number, error):
    @on("batch_end")
    def both(_run):
        signal.raise_signal(number)
        raise OSError("full")

    with pytest.raises(OSError, match="full") as caught:
        fit(both)
    assert f"then {error.__name__}: {143 if error is SystemExit else ''}" in caught.value.__notes__


PROCESS = """
import numpy as np, signal, sys
from framework import Checkpoint, Dense, MeanSquaredError, SGDOptimizer, Trainer, on
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background passes on an ignored one

@on("batch_end")
def started(run):
    if run.step == 3:
        print("started", flush=True)

end = on("train_end")(lambda run: print(run.stop_reason, type(run.error).__name__, flush=True))
sgd = SGDOptimizer(learning_rate=1e-6)
calls = [started, end, *(Checkpoint(folder) for folder in sys.argv[1:])]
trainer = Trainer(loss=MeanSquaredError(), optimizer=sgd, epochs=10**9, callbacks=calls)
trainer.fit(Dense(3, 1), (np.ones((100, 3)), np.ones(100)))
"""


ENDS = [("ended by SIGTERM SystemExit", 143), ("interrupted by Ctrl-C KeyboardInterrupt", -signal.SIGINT)]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize(("number", "told", "status"), [(signal.SIGTERM, *ENDS[0]), (signal.SIGINT, *ENDS[1])])
def test_a_process_ends_in_order_with_the_status_that_shells_know(tmp_path, number, told, status, saves):
    folder = str(tmp_path / "a")
    command = [sys.executable, "-c", PROCESS, *([folder] if saves else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "started\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out.strip()) == (status, told)
    assert ("Traceback" in err) == (number == signal.SIGINT)  # as Python does for Ctrl-C
    if saves:
        said = f"the run is saved: trainer.resume(latest({folder!r}), data) continues from {latest(folder).name}"
    else:
        said = "the run is not saved, but is error.run: trainer.resume(error.run, data) continues it; Trainer("
    assert ("ended by SIGTERM; " if number == signal.SIGTERM else "") + said in err.splitlines()[-1]


def test_any_error_of_a_users_part_says_where_the_run_is_kept(tmp_path, uninterrupted):
    def fail(run):
        if run.step == 3:
            raise KeyError("missing")

    with pytest.raises(KeyError) as caught:
        fit(Checkpoint(str(tmp_path)), on("batch_end")(fail))
    *_, note = caught.value.__notes__
    assert note.startswith(f"the run is saved: trainer.resume(latest({str(tmp_path)!r}), data) continues from step-")
    assert resumed(latest(tmp_path)) == uninterrupted
    with pytest.raises(KeyError) as caught:
        fit(on("batch_end")(fail))
    assert [note for note in caught.value.__notes__ if "the run is" in note] == []  # it is no interruption


@pytest.fixture
def handlers():
    """Handlers of the program's own, as a kernel of Jupyter or a server has; what they are called with."""
    called = []
    own = {number: lambda *arguments: called.append(arguments) for number in BOTH}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    yield own, called
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error"), SIGNALS)
def test_handlers_of_the_program_rest_during_training_and_come_back(handlers, uninterrupted, number, error):
    own, called = handlers
    run = interrupted(error, lambda: fit(on("batch_end")(Sender(number, 2))))
    assert (called, {number: signal.getsignal(number) for number in BOTH}) == ([], own)
    assert resumed(run) == uninterrupted
    signal.raise_signal(number)
    assert len(called) == 1


@pytest.mark.parametrize("error", [OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_handlers_come_back_after_every_error(handlers, error):
    @on("batch_end")
    def fail(_run):
        raise error("here")

    with pytest.raises(error, match="here"):
        fit(fail)
    assert {number: signal.getsignal(number) for number in BOTH} == handlers[0]


def test_handlers_come_back_when_a_signal_comes_between_them(monkeypatch, handlers):
    """The moment after SIGINT has its handler again and before all is done: Ctrl-C may act there already."""
    own, _ = handlers
    real, warned = signal.signal, np.geterr()

    def hasty(number, handler):
        result = real(number, handler)
        if number == signal.SIGINT and handler is own[number]:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(signal, "signal", hasty)
    with pytest.raises(KeyboardInterrupt):
        fit()
    monkeypatch.undo()
    assert {number: signal.getsignal(number) for number in BOTH} == own
    assert np.geterr() == warned


@pytest.mark.filterwarnings("ignore:resume. nothing is left to do")
@pytest.mark.parametrize("outcome", ["well", "error", "signal"])
def test_fit_within_fit_hands_the_handlers_on_and_back(handlers, uninterrupted, outcome):
    own, _ = handlers
    seen = []

    @on("batch_end")
    def fail(run):
        if run.step == 2 and outcome == "error":
            raise OSError("inside")
        if run.step == 2 and outcome == "signal":
            signal.raise_signal(signal.SIGINT)

    @on("batch_begin")
    def inner(run):
        if run.step != 4:
            return
        before = [signal.getsignal(number) for number in BOTH]
        try:
            fit(fail)
        finally:
            seen.append(before == [signal.getsignal(number) for number in BOTH] != list(own.values()))

    error = {"error": OSError, "signal": KeyboardInterrupt}.get(outcome)
    run = fit(inner) if error is None else interrupted(error, lambda: fit(inner))
    assert run.step == (EPOCHS * BATCHES if error is None else 4)
    assert seen == [True]
    assert {number: signal.getsignal(number) for number in BOTH} == own
    assert resumed(run) == uninterrupted


def test_in_a_thread_no_handler_is_touched_and_everything_else_works(handlers, uninterrupted):
    own, called = handlers
    runs, touched = [], []
    look = on("batch_end")(lambda _run: touched.append({number: signal.getsignal(number) for number in BOTH} != own))

    def train():
        stop = on("batch_end")(lambda run: run.stop("enough") if run.step == 4 else None)
        runs.append(fit(look, stop))
        try:
            fit(look, on("gradients")(Sender(signal.SIGINT, 2)), fail)
        except OSError as error:
            runs.append(error.run)

    @on("batch_end")
    def fail(run):
        if run.step == 5:
            raise OSError("full")

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not any(touched)
    assert runs[0].stop_reason == "enough"
    assert [run.step for run in runs] == [4, 5]
    assert all(run.consistent for run in runs)
    assert [resumed(run) for run in runs] == [uninterrupted] * 2
    assert called


@pytest.mark.parametrize(("number", "error"), SIGNALS)
@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("kernel", ["asyncio's", "Python's", "the loop's"])
def test_in_a_running_event_loop_as_in_a_notebook(uninterrupted, number, error, kernel):
    """A kernel runs a cell inside its event loop, under a handler of Python's, of asyncio's or of its own."""
    heard = []

    async def cell():
        loop = asyncio.get_running_loop()
        if kernel == "Python's":
            signal.signal(signal.SIGINT, signal.default_int_handler)
        elif kernel == "the loop's":
            loop.add_signal_handler(number, heard.append, number)
        run = interrupted(error, lambda: fit(on("batch_end")(Sender(number, 2))))
        assert run.step == 2
        for _ in range(9):  # turns of the loop, which reads of the signal, then calls
            await asyncio.sleep(0)
        loop.remove_signal_handler(number)
        return resumed(run)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio.run replaces this one alone
    assert asyncio.run(cell()) == uninterrupted
    assert heard == ([number] if kernel == "the loop's" else [])  # it hears of every signal, whoever handles it
