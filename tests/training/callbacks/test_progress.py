"""The progress bar on a terminal, in a notebook, in a pipe."""

import contextlib
import importlib
import importlib.machinery
import os
import re
import struct
import sys
import types
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from left_out import hooks_differ
from source_pieces import bits

import framework.training.callbacks.progress
from framework import (
    R2,
    Callback,
    Dense,
    EarlyStopping,
    Layer,
    MeanSquaredError,
    Neuron,
    ProgressBar,
    Sequential,
    SGDOptimizer,
    Trainer,
    on,
)

fcntl, termios = map(pytest.importorskip, ("fcntl", "termios"))

X, Y = np.arange(5.0)[:, None], np.arange(5.0)


def recipe(*callbacks, **settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01), "batch_size": 2}
    return Trainer(**default | settings, callbacks=callbacks)


class Clock:
    """A time that moves as a test says."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    time = monotonic

    def move(self, seconds):
        self.now += seconds


def set_error_stream(monkeypatch, stream):
    """Let the bar see another standard error; pytest puts its own in the place of sys.stderr."""
    seen = types.SimpleNamespace(stderr=stream, stdout=sys.stdout, modules=sys.modules)
    monkeypatch.setattr(framework.training.callbacks.progress, "sys", seen)


@pytest.fixture
def terminal(monkeypatch):
    """Make standard error a terminal of some columns; returns a function that gives what was written to it."""
    master, slave = os.openpty()
    file = os.fdopen(slave, "w")
    set_error_stream(monkeypatch, file)
    monkeypatch.setenv("TERM", "xterm")

    def read(columns=None):
        if columns is not None:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            return ""
        file.write("\0")  # the end: the system hands on what is written a little later
        file.flush()
        written = b""
        while not written.endswith(b"\0"):
            written += os.read(master, 1_000_000)
        return written.removesuffix(b"\0").decode()

    read(120)
    yield read
    file.close()
    os.close(master)


@pytest.fixture
def pipe(monkeypatch):
    """Make standard error a pipe; returns a function that gives the lines written to it."""
    reader, writer = os.pipe()
    file = os.fdopen(writer, "w")
    set_error_stream(monkeypatch, file)

    def lines():
        file.flush()
        os.set_blocking(reader, False)
        try:
            return os.read(reader, 1_000_000).decode().splitlines()
        except BlockingIOError:
            return []

    yield lines
    file.close()
    os.close(reader)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(framework.training.callbacks.progress, "time", clock)
    return clock


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is opened, in order."""
    opened, make = [], framework.training.callbacks.progress._bar

    def open_bar(**options):
        opened.append(make(**options))
        return opened[-1]

    monkeypatch.setattr(framework.training.callbacks.progress, "_bar", open_bar)
    return opened


def final(text):
    """The last state of a line that is written again and again."""
    return text.replace("\r\n", "\n").rstrip("\n").rpartition("\r")[2]


def test_the_bar_counts_epochs_and_shows_rate_time_and_the_newest_row(bars, terminal):
    run = recipe(ProgressBar(), epochs=3).fit(Neuron(1), (X, Y), (X, Y))
    assert [(bar.n, bar.total) for bar in bars] == [(3, 3)]
    shown, row = final(terminal()), run.history[-1]
    assert re.match(r"100%\|.+\| epoch 3/3 \[00:00<00:00, +[\d.]+epoch/s, ", shown)
    assert shown.endswith(f"loss={row['loss']:.4g}, val_loss={row['val_loss']:.4g}]")


def test_the_bar_shows_the_keys_that_were_asked_for(terminal):
    recipe(ProgressBar(keys=("learning_rate",))).fit(Neuron(1), (X, Y))
    shown = final(terminal())
    assert "learning_rate=0.01]" in shown
    assert " loss=" not in shown


@pytest.mark.parametrize("columns", [40, 70, 85, 100, 120, 200])
def test_the_bar_is_as_wide_as_the_terminal_and_cuts_no_number(terminal, columns):
    terminal(columns)
    names = on("epoch_end")(lambda run: run.history[-1].update({f"figure_{n}": n + 0.125 for n in range(5)}))
    run = recipe(names, ProgressBar()).fit(Neuron(1), (X, Y))
    shown = final(terminal())
    assert len(shown) <= columns
    figures = dict(re.findall(r"(\w+)=([^,\]]*)", shown))
    assert columns < 85 or figures
    for name, text in figures.items():
        assert text == f"{run.history[-1][name]:.4g}"


def test_loss_and_val_loss_stand_before_other_figures(terminal):
    run = recipe(ProgressBar(), metrics=[R2()]).fit(Neuron(1), (X, Y), (X, Y))
    order = ("loss", "val_loss", "r2", "val_r2")
    assert final(terminal()).endswith(", ".join(f"{key}={run.history[-1][key]:.4g}" for key in order) + "]")


def test_within_an_epoch_the_bar_shows_the_batch_and_the_mean_loss_so_far(terminal, clock):
    losses = []
    tick = on("batch_end")(lambda run: (clock.move(1.0), losses.append(run.batch_loss)))
    run = recipe(tick, ProgressBar(), epochs=2).fit(Neuron(1), (X, Y))
    shown = terminal()
    for batch, percent in enumerate((17, 33), 1):
        mean = np.average(losses[:batch], weights=[2, 2, 1][:batch])
        assert re.search(rf" {percent}%\|[^\r]*\| epoch 1/2, batch {batch}/3 [^\r]*, loss={mean:.4g}\]", shown)
    assert run.history[0]["loss"] == np.average(losses[:3], weights=[2, 2, 1])


@hooks_differ
@pytest.mark.usefixtures("terminal")
def test_the_bars_of_a_resumed_run_go_on(bars):
    stop = on("batch_end")(lambda run: run.stop("now") if run.step == 4 else None)
    run = recipe(ProgressBar(), stop, epochs=2).fit(Neuron(1), (X, Y))
    recipe(ProgressBar(), epochs=2).resume(run, (X, Y))
    counts = [(bar.initial, bar.n, bar.total) for bar in bars]
    assert counts == [(0, pytest.approx(4 / 3), 2), (pytest.approx(4 / 3), 2, 2)]


@pytest.mark.parametrize("hook", ["batch_begin", "batch_end", "epoch_begin", "epoch_end", "train_end"])
@pytest.mark.usefixtures("terminal")
def test_bars_are_closed_after_errors_too(bars, hook):
    closed = []

    @on(hook)
    def fail(run):
        closed.extend(bool(bar.disable) for bar in bars[:1])
        raise OSError(run.step)

    with pytest.raises(OSError):  # noqa: PT011 (which step does not matter)
        recipe(fail, ProgressBar(), epochs=2).fit(Neuron(1), (X, Y))
    assert closed == [False]
    assert all(bar.disable for bar in bars)


def test_why_training_stopped_is_said_below_the_bar(terminal):
    stop = on("epoch_end")(lambda run: run.stop("this is enough"))
    recipe(stop, ProgressBar(), epochs=9).fit(Neuron(1), (X, Y))
    assert terminal().replace("\r", "").endswith("]\nstopped: this is enough\n")


def test_tqdm_s_own_switch_turns_the_bars_off(terminal, monkeypatch):
    importlib.import_module("tqdm")  # so that the modules without the switch come back after the test
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)  # tqdm reads it when it is imported
    monkeypatch.setenv("TQDM_DISABLE", "1")
    recipe(ProgressBar(), epochs=2).fit(Neuron(1), (X, Y))
    assert terminal() == ""


def test_a_pipe_gets_a_line_after_the_first_and_the_last_epoch(pipe):
    run = recipe(ProgressBar(), epochs=50).fit(Neuron(1), (X, Y), (X, Y))
    first, last = pipe()
    row = run.history[-1]
    assert first.startswith(f"epoch 1/50: loss={run.history[0]['loss']:.4g}, ")
    assert re.search(r"[(][\d.,e+]+ epochs/s, [\d.]+ m?s left[)]$", first)
    assert last.startswith(f"epoch 50/50: loss={row['loss']:.4g}, val_loss={row['val_loss']:.4g} (")


def test_lines_of_a_log_come_at_intervals_that_grow_with_the_time_so_far(pipe, clock):
    tick = on("epoch_end")(lambda _: clock.move(4.0))
    recipe(tick, ProgressBar(), epochs=1000).fit(Neuron(1), (X, Y))
    lines = pipe()
    epochs = [int(re.match(r"epoch (\d+)/1000: ", line)[1]) for line in lines]
    assert epochs[:4] == [1, 4, 7, 10]  # 10 s are three epochs
    assert epochs[-1] == 1000
    gaps = np.diff(epochs[:-1]) * 4.0
    assert all(gap >= max(10.0, 4.0 * epoch / 20) for gap, epoch in zip(gaps, epochs[1:], strict=False))
    assert len(lines) < 80
    assert lines[1].endswith("(4 s an epoch, 1 h 6 min left)")
    assert lines[-1].endswith("(4 s an epoch, 1 h 6 min in all)")


def test_lines_within_a_long_epoch_say_the_batch(pipe, clock):
    tick = on("batch_end")(lambda _: clock.move(6.0))
    recipe(tick, ProgressBar(seconds=3.0), epochs=2).fit(Neuron(1), (X, Y))
    places = [line.partition(": ")[0] for line in pipe()]
    places_of = ("epoch {}/2, batch 1/3", "epoch {}/2, batch 2/3", "epoch {}/2")
    assert places == [text.format(epoch) for epoch in (1, 2) for text in places_of]


def test_a_run_that_is_stopped_ends_with_its_newest_row_and_the_reason(pipe):
    stop = on("epoch_end")(lambda run: run.stop("this is enough") if run.epoch == 3 else None)
    recipe(stop, ProgressBar(), epochs=9).fit(Neuron(1), (X, Y))
    lines = pipe()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/9", "epoch 3/9", "stopped"]


def test_a_terminal_that_cannot_go_back_in_a_line_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    recipe(ProgressBar(), epochs=3).fit(Neuron(1), (X, Y))
    assert [line.partition(":")[0] for line in terminal().splitlines()] == ["epoch 1/3", "epoch 3/3"]


def test_a_terminal_without_a_width_gets_lines(terminal):
    terminal(0)
    recipe(ProgressBar(), epochs=3).fit(Neuron(1), (X, Y))
    assert [line.partition(":")[0] for line in terminal().splitlines()] == ["epoch 1/3", "epoch 3/3"]


def test_names_and_reasons_command_no_terminal(pipe):
    add = on("epoch_end")(lambda run: run.history[-1].update({"a\x1b[31m": 1.0}))
    end = on("epoch_end")(lambda run: run.stop("b\x1b[31m"))
    recipe(add, end, ProgressBar(), epochs=3).fit(Neuron(1), (X, Y))
    first, last = pipe()
    assert r"a\x1b[31m=1" in first
    assert last == r"stopped: b\x1b[31m"


def test_without_standard_error_nothing_is_written(monkeypatch):
    set_error_stream(monkeypatch, None)
    assert recipe(ProgressBar(), epochs=2).fit(Neuron(1), (X, Y)).epoch == 2


@pytest.fixture
def notebook(monkeypatch):
    """A kernel of Jupyter, as far as the bar sees one."""
    kernel = types.SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: kernel))


@pytest.mark.usefixtures("notebook")
def test_a_notebook_without_widgets_gets_one_bar_of_text(capsys, monkeypatch):
    monkeypatch.setattr(framework.training.callbacks.progress, "find_spec", lambda _: None)
    recipe(ProgressBar(), epochs=2).fit(Neuron(1), (X, Y))
    written = capsys.readouterr()
    assert "2/2" in final(written.out)
    assert written.err == ""
    assert "\x1b" not in written.out  # one line: many notebooks cannot move up


@pytest.mark.usefixtures("notebook")
def test_a_notebook_is_written_to_twice_a_second_at_most(capsys, clock, monkeypatch):
    tqdm = pytest.importorskip("tqdm.std")
    monkeypatch.setattr(framework.training.callbacks.progress, "find_spec", lambda _: None)
    monkeypatch.setattr(tqdm, "time", clock.monotonic)
    tick = on("batch_end")(lambda _: clock.move(0.3))
    recipe(tick, ProgressBar(), batch_size=1, epochs=10).fit(Neuron(1), (X, Y))
    written = capsys.readouterr().out
    assert "batch 3/5" in written
    assert written.count("\r") <= 15 / 0.5 + 3


@pytest.mark.usefixtures("notebook")
def test_a_notebook_with_widgets_gets_those(monkeypatch):
    made = []
    monkeypatch.setattr(
        framework.training.callbacks.progress, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None)
    )

    class Widget:
        """In the place of tqdm's, which needs ipywidgets."""

        disable = False

        def __init__(self, **options):
            made.append(options)
            self.n = 0
            self.format_dict = {"ncols": None}

        def set_description_str(self, text, refresh):
            assert text.startswith("epoch ")

        def set_postfix_str(self, text, refresh):
            made.append(text)

        def update(self, count):
            made.append("update")

        def close(self):
            made.append("close")

    monkeypatch.setitem(sys.modules, "tqdm.notebook", types.SimpleNamespace(tqdm=Widget))
    run = recipe(ProgressBar()).fit(Neuron(1), (X, Y))
    row = f"loss={run.history[-1]['loss']:.4g}"
    assert made[0]["total"] == 1
    assert made[1:] == ["", "update", row, "update", "close"]


@pytest.fixture
def at_once(monkeypatch):
    """Let the bar of a trainer without one appear without a delay."""
    monkeypatch.setattr(framework.training.callbacks.progress, "DELAY", 0.0)


@pytest.mark.parametrize(("engine", "needs"), [("numpy", "numpy"), ("compiled", "llvmlite"), ("jax", "jax")])
@pytest.mark.usefixtures("at_once")
def test_a_trainer_shows_a_bar_by_itself(terminal, engine, needs):
    pytest.importorskip(needs)
    run = recipe(epochs=3, engine=engine).fit(Neuron(1), (X, Y), (X, Y))
    shown = final(terminal())
    assert "| epoch 3/3 [" in shown
    assert shown.endswith(f"loss={run.history[-1]['loss']:.4g}, val_loss={run.history[-1]['val_loss']:.4g}]")


@pytest.mark.usefixtures("clock")
def test_a_short_training_shows_no_bar_by_itself(terminal, bars):
    recipe(epochs=3).fit(Neuron(1), (X, Y))
    assert (terminal(), bars) == ("", [])


def test_the_bar_of_a_trainer_appears_after_a_second_with_the_time_from_the_start(terminal, clock, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("tqdm.std"), "time", clock.monotonic)
    tick = on("epoch_end")(lambda _: clock.move(0.4))
    recipe(tick, epochs=4).fit(Neuron(1), (X, Y))
    shown = terminal()
    assert "epoch 2/4" not in shown
    assert "epoch 3/4 [00:01<00:00,  2.50epoch/s" in shown


@pytest.mark.usefixtures("at_once")
def test_a_trainer_without_progress_shows_none(terminal):
    recipe(epochs=3, progress=False).fit(Neuron(1), (X, Y))
    recipe().find_learning_rate(Neuron(1), (X, Y))
    assert terminal() == ""


@pytest.mark.usefixtures("at_once")
def test_a_trainer_shows_nothing_in_a_pipe(pipe):
    recipe(epochs=3).fit(Neuron(1), (X, Y))
    assert pipe() == []


@pytest.mark.usefixtures("at_once", "terminal")
def test_a_progress_bar_among_the_callbacks_takes_the_place_of_the_trainer_s(bars):
    recipe(ProgressBar(keys=("loss",)), epochs=3).fit(Neuron(1), (X, Y))
    assert len(bars) == 1


@pytest.mark.usefixtures("at_once", "terminal")
def test_the_bar_changes_neither_numbers_nor_the_record_of_the_run(bars):
    shown, hidden = (recipe(epochs=3, progress=progress).fit(Neuron(1), (X, Y), (X, Y)) for progress in (True, False))
    assert len(bars) == 1
    assert bits(shown) == bits(hidden)
    assert shown.recipe == hidden.recipe
    assert shown.memories == hidden.memories == {}


@pytest.mark.parametrize(("engine", "needs"), [("numpy", "numpy"), ("compiled", "llvmlite")])
@pytest.mark.usefixtures("at_once", "terminal")
def test_many_models_of_one_kernel_share_a_bar(bars, engine, needs):
    pytest.importorskip(needs)
    models = [Sequential(Dense(1, 2, seed=seed), Neuron(2)) for seed in range(3)]
    recipe(epochs=4, engine=engine).fit_many(models, (X, Y))
    assert [(bar.n, bar.total) for bar in bars] == [(4, 4)] * (1 if engine == "compiled" else 3)


@pytest.mark.usefixtures("at_once")
def test_estimators_of_scikit_learn_show_no_bar(terminal):
    pytest.importorskip("sklearn")
    from framework.sklearn import NeuralRegressor

    NeuralRegressor(epochs=2).fit(X, Y)
    assert terminal() == ""


@pytest.fixture
def program(terminal, monkeypatch):
    """A context in which the program's own text goes to the terminal too; what it gives reads the terminal."""
    stream = framework.training.callbacks.progress.sys.stderr
    monkeypatch.setattr(framework.training.callbacks.progress, "sys", sys)

    @contextlib.contextmanager
    def context():
        with os.fdopen(os.dup(stream.fileno()), "w", buffering=1) as out, redirect_stdout(out), redirect_stderr(stream):
            yield terminal

    return context


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_text_that_a_callback_prints_stands_above_the_bar(program, clock, stream):
    def say(run):
        print(run.hook, run.epoch, file=getattr(sys, stream))

    tick = on("batch_begin")(lambda _: clock.move(1.0))
    with program() as terminal:
        recipe(on("epoch_begin")(say), tick, on("epoch_end")(say), epochs=2).fit(Neuron(1), (X, Y))
    *lines, bar = screen(terminal())
    assert lines == ["on_epoch_begin 0", "on_epoch_end 1", "on_epoch_begin 1", "on_epoch_end 2"]
    assert bar.startswith("100%|")


def test_text_between_two_draws_of_the_bar_is_printed_whole(program, clock):
    def say(run):
        clock.move(0.02)
        sys.stdout.write(f"step {run.step}\n")

    with program() as terminal:
        recipe(on("batch_end")(say), ProgressBar(), epochs=4).fit(Neuron(1), (X, Y))
    *lines, bar = screen(terminal())
    assert lines == [f"step {step}" for step in range(1, 13)]
    assert bar.startswith("100%|")


def test_text_of_the_end_of_training_is_printed_whole(program):
    class Ending(Callback):
        def on_train_end(self, run):
            sys.stdout.write("the end\n")

    with program() as terminal:
        recipe(Ending(), ProgressBar()).fit(Neuron(1), (X, Y))
    text, bar = screen(terminal())
    assert text == "the end"
    assert bar.startswith("100%|")


@pytest.mark.usefixtures("clock", "terminal")
def test_the_bar_stays_where_only_callbacks_of_the_library_are_called(bars, monkeypatch):
    cleared = []
    monkeypatch.setattr(pytest.importorskip("tqdm").tqdm, "clear", lambda bar: cleared.append(bar.n))
    recipe(EarlyStopping(monitor="loss"), ProgressBar(), epochs=3).fit(Neuron(1), (X, Y))
    assert (len(bars), cleared) == (1, [])
    recipe(on("epoch_end")(lambda _: None), ProgressBar(), epochs=3).fit(Neuron(1), (X, Y))
    assert cleared == [0]  # once: no bar stands until it is drawn again


@pytest.mark.usefixtures("at_once")
def test_the_streams_of_the_program_stay_its_own(bars, program):
    with program():
        before, seen = (sys.stdout, sys.stderr), []
        look = on("epoch_end")(lambda _: seen.append((sys.stdout, sys.stderr)))
        recipe(look, epochs=2).fit(Neuron(1), (X, Y))
    assert len(bars) == 1
    assert seen == [before] * 2


@pytest.mark.usefixtures("at_once")
def test_the_first_draw_of_the_bar_says_the_epoch(terminal):
    recipe(epochs=3).fit(Neuron(1), (X, Y))
    assert "| epoch 0/3 [" in terminal().split("\r")[1]


@pytest.mark.usefixtures("at_once")
def test_the_bar_stays_above_the_text_of_an_error(program):
    def fail(_):
        raise ValueError("no")

    with program() as terminal:
        with pytest.raises(ValueError, match="no"):
            recipe(on("epoch_end", every=2)(fail), epochs=3).fit(Neuron(1), (X, Y))
        sys.stderr.write("Traceback\n")
    bar, text = screen(terminal())
    assert "| epoch 2/3 [" in bar
    assert text == "Traceback"


@pytest.mark.usefixtures("at_once")
def test_the_bar_of_a_training_within_another_one_goes_at_its_end(bars, program):
    inner = on("epoch_end")(lambda _: recipe(epochs=2).fit(Neuron(1), (X, Y)))
    with program() as terminal:
        recipe(inner, epochs=3).fit(Neuron(1), (X, Y))
        (bar,) = [line for line in screen(terminal()) if line]
    assert len(bars) == 4
    assert "| epoch 3/3 [" in bar


def screen(text):
    """The lines of a terminal to which a text was written."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[A|\r\n|[\r\n]|[^\x1b\r\n]+", text):
        if part == "\x1b[A":
            row -= 1
        elif part in ("\r\n", "\n"):
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif part == "\r":
            column = 0
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in (lines if lines[-1] else lines[:-1])]


class Halved(Layer):
    def apply(self, x, values, record):
        return 0.5 * x

    def apply_backward(self, gradient, values, record, gradients):
        return 0.5 * gradient


def test_the_layers_that_python_runs_are_listed_and_named_once(capsys):
    model = Sequential(Dense(2, 3), Halved(), Sequential(Halved(), Neuron(3)))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), callbacks=[ProgressBar()])
    run = trainer.fit(model, (np.ones((4, 2)), np.ones(4)), epochs=3)
    assert run.recipe["python"] == "1 Halved, 2.0 Halved"
    assert capsys.readouterr().err.count("layer 1 Halved, 2.0 Halved") == 1
    assert "python" not in trainer.fit(Neuron(2), (np.ones((4, 2)), np.ones(4))).recipe
