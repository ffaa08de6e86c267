"""Streams: the rows and the bits are those of the same arrays, however a function cuts and gives them."""

import signal
import threading
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from left_out import hooks_differ
from source_pieces import bits

from framework import (
    Checkpoint,
    DataError,
    Dense,
    MeanSquaredError,
    Neuron,
    OneHot,
    Preprocess,
    ProgressBar,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Standardize,
    Stream,
    Tanh,
    Trainer,
    latest,
    on,
)
from framework.base import UsageError
from framework.data.pieces import permutation

ROWS = 103
X = np.random.default_rng(0).standard_normal((ROWS, 2))
Y = X[:, 0] - X[:, 1] ** 2


def batches(size, x=X, y=Y, *more):
    def function(_epoch):
        for start in range(0, len(y), size):
            yield tuple(part[start : start + size] for part in (x, y, *more))

    return function


def recipe(**settings):
    default = {"optimizer": SGDOptimizer(learning_rate=0.05, momentum=0.9), "batch_size": 8, "epochs": 3}
    return Trainer(loss=MeanSquaredError(), **default | settings)


def network():
    return Sequential(Dense(units=3, activation=Tanh()), Neuron())


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("size", [1, 7, 8, 50, 500])
@pytest.mark.parametrize("window", [1, 20, 4096])
def test_a_stream_in_order_trains_like_its_arrays(size, window):
    data = Stream(batches(size), window=window, read_ahead=size == 7)
    run = recipe(shuffle=False).fit(network(), data, data)
    assert bits(run) == bits(recipe(shuffle=False).fit(network(), (X, Y), (X, Y)))
    assert (run.batches, run.step) == (13, 39)


def test_rows_are_shuffled_within_windows_by_a_function_of_seed_epoch_and_window():
    seen = []
    watch = on("batch_end")(lambda run: seen.extend(run.current[1].tolist()))
    recipe(callbacks=[watch], epochs=2, seed=4).fit(network(), Stream(batches(9), window=40))
    order = [
        start + permutation(min(40, ROWS - start), 4, epoch, number)
        for epoch in range(2)
        for number, start in enumerate(range(0, ROWS, 40))
    ]
    assert seen == Y[np.concatenate(order)].tolist()


def test_rows_one_by_one_are_rows():
    weight = np.arange(ROWS) % 3.0
    rows = Stream(lambda _: zip(X, Y, weight, strict=True), each="row")
    whole = Stream(batches(50, X, Y, weight))
    assert bits(recipe().fit(network(), rows)) == bits(recipe().fit(network(), whole))


def test_a_function_may_fill_the_same_memory_for_every_batch():
    def function(_epoch):
        x, y = np.empty((10, 2)), np.empty(10)
        for start in range(0, 100, 10):
            x[:], y[:] = X[start : start + 10], Y[start : start + 10]
            yield x, y

    assert bits(recipe().fit(network(), Stream(function))) == bits(
        recipe().fit(network(), Stream(batches(10, X[:100], Y[:100])))
    )


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("settings", [{}, {"shuffle": False}])
@pytest.mark.parametrize("read_ahead", [False, True])
@hooks_differ
def test_a_run_resumes_bit_for_bit_from_every_step(rows, settings, read_ahead):
    def data():
        return Stream(
            lambda epoch: batches(9, np.roll(X, epoch, 0), np.roll(Y, epoch))(0), rows, window=30, read_ahead=read_ahead
        )

    whole = recipe(**settings).fit(network(), data())
    for step in (1, 3, 4, 12, 13, 14, 31):
        stop = on("batch_end")(lambda run, step=step: run.stop("enough") if run.step == step else None)
        run = recipe(callbacks=[stop], **settings).fit(network(), data())
        assert run.step == step
        recipe(**settings).resume(run, data())
        assert bits(run) == bits(whole)


@pytest.mark.parametrize("rows", [None, ROWS])
@pytest.mark.parametrize("step", [13, 26])
@hooks_differ
def test_a_run_that_a_signal_stops_in_the_last_smaller_batch_resumes(rows, step):
    stop = on("batch_end")(lambda run: signal.raise_signal(signal.SIGINT) if run.step == step else None)
    with pytest.raises(KeyboardInterrupt) as caught:
        recipe(callbacks=[stop]).fit(network(), Stream(batches(9), rows))
    run = caught.value.run
    assert (run.step, run.epoch) == (step, (step - 1) // 13)
    recipe().resume(run, Stream(batches(9), rows))
    assert bits(run) == bits(recipe().fit(network(), Stream(batches(9), rows)))


@hooks_differ
def test_a_resume_refuses_fewer_rows_than_were_trained_on():
    stop = on("batch_end")(lambda run: run.stop("enough") if run.step == 11 else None)
    run = recipe(callbacks=[stop]).fit(network(), Stream(batches(9), window=20))
    with pytest.raises(DataError, match="must give 81 or more rows; got 80 in epoch 0"):
        recipe().resume(run, Stream(batches(9, X[:80], Y[:80]), window=20))


def test_checkpoints_within_the_first_epoch_are_saved_though_its_length_is_not_known(tmp_path):
    saver = Checkpoint(folder=tmp_path / "run", every=5, keep=100)
    bar = ProgressBar()
    whole = recipe(callbacks=[saver, bar]).fit(network(), Stream(batches(9)))
    assert (tmp_path / "run" / "step-000000005.safetensors").exists()
    run = recipe(callbacks=[bar]).resume(tmp_path / "run" / "step-000000005.safetensors", Stream(batches(9)))
    assert bits(run) == bits(whole)
    assert latest(tmp_path / "run").name == "step-000000039.safetensors"


def test_an_endless_stream_ends_each_epoch_after_its_rows():
    def endless(_epoch):
        start = 0
        while True:
            rows = np.arange(start, start + 7) % ROWS
            yield X[rows], Y[rows]
            start += 7

    run = recipe().fit(network(), Stream(endless, ROWS))
    assert bits(run) == bits(recipe().fit(network(), Stream(batches(9))))


def test_a_stop_before_the_first_batch_ends_no_epoch():
    stop = on("epoch_begin")(lambda run: run.stop("enough"))
    run = recipe(callbacks=[stop]).fit(network(), Stream(batches(9), window=20))
    assert (run.epoch, run.step, run.batches) == (0, 0, 0)


def test_frames_in_a_stream_give_their_columns():
    import pandas as pd

    frame = pd.DataFrame(X, columns=["a", "b"])
    data = Stream(lambda _: [(frame[:50], Y[:50]), (frame[50:], Y[50:])])
    assert recipe().fit(network(), data).model.columns == ("a", "b")
    with pytest.raises(DataError, match="must have the columns of fit"):
        recipe().evaluate(run_of(data).model, Stream(lambda _: [(frame[["b", "a"]], Y)]))


def run_of(data):
    return recipe().fit(network(), data)


def test_an_iterable_without_a_function_trains_and_does_not_resume():
    run = recipe(epochs=1).fit(network(), batches(9)(0))
    assert bits(run) == bits(recipe(epochs=1).fit(network(), Stream(batches(9))))
    with pytest.raises(UsageError, match=r"resume: a generator cannot be read .* write Stream\(function\)"):
        recipe().resume(run, batches(9)(0), epochs=1)
    with pytest.raises(UsageError, match=r"fit: a generator can be read once, which is one epoch; got 3; write Stream"):
        run_of(batches(9)(0))
    with pytest.raises(UsageError, match=r"fit: validation: a generator can be read once"):
        recipe().fit(network(), (X, Y), batches(9)(0))
    assert recipe().evaluate(run.model, batches(9)(0)) == recipe().evaluate(run.model, (X, Y))
    rows = batches(9)(0)
    recipe(epochs=1).fit(network(), rows)
    with pytest.raises(DataError, match=r"got none in epoch 0; if it was read before, write Stream\(function\)"):
        recipe(epochs=1).fit(network(), rows)


def test_an_iterable_that_begins_anew_trains_several_epochs():
    class Again:
        def __iter__(self):
            return batches(9)(0)

    assert bits(run_of(Again())) == bits(run_of(Stream(batches(9))))
    with pytest.raises(UsageError, match="resume: a Again cannot be read"):
        recipe().resume(run_of(Again()), Again(), epochs=1)


@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize(
    ("function", "rows", "message"),
    [
        (lambda _: [], None, "must give at least one row; got none in epoch 0"),
        (lambda _: 3, None, "must return an iterable of batches .*got int"),
        (lambda _: ["text"], None, r"item 0 of epoch 0 must return \(x, y\) or \(x, y, weight\); got str"),
        (lambda _: [(X, Y), (X,)], None, "item 1 of epoch 0 must return .*got 1 parts"),
        (
            lambda _: [(X, Y), (X[:, :1], Y)],
            None,
            r"item 1 of epoch 0: argument 'x' must have the shape \(rows, 2\)",
        ),
        (lambda _: [(X, Y), (X, Y, Y * 0 + 1)], None, "weights for all rows or for none"),
        (
            lambda _: [(X, Y), (X, np.where(Y[3] == Y, np.nan, Y))],
            None,
            r"item 1 .* must be finite; got nan at y\[3\]",
        ),
        (lambda _: [(X, Y)], 104, "must give 104 rows in each epoch; got 103 in epoch 0"),
        (lambda epoch: [(X[epoch:], Y[epoch:])], None, "must give 103 rows in each epoch; got 102 in epoch 1"),
        (lambda _: [(X[0], 1.0)], None, "must have rows in y; got one number; for single rows write each='row'"),
    ],
)
def test_what_is_no_stream_of_rows_is_refused(function, rows, message, read_ahead):
    with pytest.raises(DataError, match=message):
        recipe().fit(network(), Stream(function, rows, read_ahead=read_ahead))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(X[0], 1.0), (X[0][:1], 1.0)], r"x must have one shape in each row; got \(1,\) in row 1, \(2,\) in row 0"),
        ([(X[0], 1.0), (X[0], 1.0, 1.0)], "row 1 must have 2 parts, as row 0 has; got 3"),
        ([(X[0], 1.0), X[0]], r"row 1 must be \(x, y\)"),
        (
            [({"a": 1}, 1.0), ({"b": 1}, 1.0)],
            r"the same names in each row; got \['b'\] in row 1, \['a'\] in row 0",
        ),
    ],
)
def test_rows_of_several_forms_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        run_of(Stream(lambda _: rows, each="row"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2],), "'function' must be a function of the epoch"),
        ((lambda: [(X, Y)],), r"'function' must take the epoch, as def function\(epoch\): too many positional"),
        ((batches(9), 0), "'rows' must be a whole number, 1 or more; got 0"),
        ((batches(9), 2.5), "'rows' must be a whole number"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        Stream(*arguments)


def test_an_error_of_the_function_keeps_its_traceback_and_the_run_resumes():
    broken = [True]

    def function(epoch):
        for number, batch in enumerate(batches(10)(epoch)):
            if number == 7 and broken[0]:
                raise OSError("the disk is gone")
            yield batch

    with pytest.raises(OSError, match="the disk is gone") as caught:
        recipe().fit(network(), Stream(function, window=20, read_ahead=True))
    assert "function" in [entry.name for entry in caught.traceback]
    run = caught.value.run
    assert (run.consistent, run.epoch, 0 < run.step < 13) == (True, 0, True)
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]
    broken[0] = False
    recipe().resume(run, Stream(function, window=20))
    assert bits(run) == bits(run_of(Stream(batches(10), window=20)))


def test_the_thread_ends_with_the_training_also_after_an_error_or_a_stop():
    def stop(run):
        run.stop("enough")

    def fail(_run):
        raise RuntimeError("a callback")

    def alive():
        return [thread for thread in threading.enumerate() if thread.name == "read ahead"]

    data = Stream(batches(9), window=20, read_ahead=True)
    recipe(callbacks=[on("batch_end")(stop)]).fit(network(), data)
    assert not alive()
    with pytest.raises(RuntimeError, match="a callback"):
        recipe(callbacks=[on("batch_end")(fail)]).fit(network(), data)
    assert not alive()
    with pytest.raises(ShapeError):
        recipe().evaluate(Neuron(3), data)
    assert not alive()


def test_a_thread_that_is_ended_from_within_does_not_hang_the_training():
    def function(_epoch):
        yield X, Y
        raise SystemExit("the library gives up")

    with pytest.raises(SystemExit, match="the library gives up"):
        run_of(Stream(function, read_ahead=True))


def frames(size, rows=ROWS, make=pd.DataFrame):
    """Give a function of tables of ``size`` rows, with their target and their weights."""
    table = pd.DataFrame(X, columns=["a", "b"]).assign(c=[f"c{row % 4}" for row in range(ROWS)], y=Y)

    def function(_epoch):
        for start in range(0, rows, size):
            part = table[start : start + size].reset_index(drop=True)
            yield make(part), "y", np.arange(start, start + len(part)) % 3

    return table, function


PREPROCESS = Preprocess(columns={"<number>": [Standardize()], "c": [OneHot()]}, target=[Standardize()])


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("make", "size"), [(pd.DataFrame, 7), (pl.from_pandas, 50), (pa.Table.from_pandas, 500)], ids=range(3)
)
def test_a_preprocess_is_learnt_from_a_stream_as_from_its_rows(size, make, monkeypatch):
    monkeypatch.setattr("framework.preprocessing.reading.BLOCK_ROWS", 40)
    table, function = frames(size, make=make)
    trainer = recipe(preprocess=PREPROCESS, shuffle=False)
    expected = trainer.fit(network(), (table, "y", np.arange(ROWS) % 3))
    run = trainer.fit(network(), Stream(function))
    assert run.model.preprocess.columns == expected.model.preprocess.columns
    assert [steps for _, steps in run.model.preprocess.target] == [s for _, s in expected.model.preprocess.target]
    assert bits(run) == bits(expected)

    def endless(epoch):
        yield from function(epoch)
        raise AssertionError("read beyond its rows")

    assert PREPROCESS.fit(Stream(endless, rows=ROWS)).columns == PREPROCESS.fit(Stream(function)).columns
    part = PREPROCESS.fit(Stream(function, rows=60))
    assert part.columns == PREPROCESS.fit((table[:60], "y", np.arange(60) % 3)).columns


@pytest.mark.parametrize("given", [PREPROCESS, None], ids=["the same", "none"])
def test_a_preprocess_that_a_model_has_is_used_on_a_stream(given):
    table, function = frames(9)
    model = Sequential(Dense(6, 3, Tanh()), Neuron(3))
    model.preprocess = PREPROCESS.fit((table, "y"))
    recipe(shuffle=False, preprocess=given).fit(model, Stream(function))
    expected = network()
    expected.preprocess = model.preprocess
    recipe(shuffle=False).fit(expected, (table, "y", np.arange(ROWS) % 3))
    assert model.parameters.vector.tobytes() == expected.parameters.vector.tobytes()


def test_a_preprocess_is_not_learnt_from_rows_that_come_once():
    _, function = frames(9)
    with pytest.raises(
        UsageError, match=r"got a generator; write Stream\(function\), or model.preprocess = recipe.fit"
    ):
        recipe(preprocess=PREPROCESS, epochs=1).fit(network(), function(0))
    stream = Stream(batches(9))
    with pytest.raises(DataError, match=r"fit: a Preprocess takes a table of pandas, polars or Arrow.*; got ndarray"):
        recipe(preprocess=PREPROCESS).fit(network(), stream)


@pytest.mark.parametrize("make", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas], ids=range(3))
def test_tables_of_a_stream_that_do_not_fit_together_are_refused(make):
    table, _ = frames(9)
    parts = [(make(table[:9]), "y"), (make(table[:9].rename(columns={"b": "d"})), "y")]
    with pytest.raises(
        DataError, match=r"the tables of a Stream must have the same columns of the same types|column 'd'"
    ):
        recipe(preprocess=PREPROCESS).fit(network(), Stream(lambda _: parts))
    some = [(make(table[:9]), "y", np.ones(9)), (make(table[9:18]), "y")]
    with pytest.raises(DataError, match="must return one form, and weights for all rows or for none"):
        recipe(preprocess=PREPROCESS).fit(network(), Stream(lambda _: some))


def test_a_function_is_told_to_be_a_stream():
    with pytest.raises(DataError, match=r"got function; write fit\(model, Stream\(function\)\) for a function"):
        recipe().fit(network(), batches(9))


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("read_ahead", [False, True])
@pytest.mark.parametrize(("stop_at", "changed"), [(3, 0), (3, 30), (5, 30), (5, 57), (9, 57)])
@hooks_differ
def test_a_resume_tells_of_rows_that_were_others_before(changed, stop_at, read_ahead, tmp_path):
    def data(x):
        return Stream(batches(9, x), window=20, read_ahead=read_ahead)

    stop = on("batch_end")(lambda run: run.stop("enough") if run.step == stop_at else None)
    run = recipe(callbacks=[stop, Checkpoint(folder=tmp_path)]).fit(network(), data(X))
    newest = latest(tmp_path)
    other = X.copy()
    other[changed] += 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe().resume(newest, data(other), epochs=2)
    told = [each for each in caught if "gives other rows of epoch 0 than it gave before" in str(each.message)]
    trained = 20 * -(-8 * stop_at // 20)  # whole windows of 20 rows, which 8 rows in a batch have reached
    assert len(told) == (changed < trained)
    assert bits(recipe().resume(newest, data(X), epochs=3)) == bits(recipe().resume(run, data(X)))
