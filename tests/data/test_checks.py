"""Checks of data: what becomes no array is refused by its name, and so are frames with other columns."""

import io

import numpy as np
import pytest
from oracles import stored

from framework import (
    GRU,
    Conv2D,
    CrossEntropy,
    DataError,
    Dense,
    DtypeError,
    Flatten,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Trainer,
)
from framework.arrays import real_array


class Unwilling:
    """An object that does not become an array."""

    def __array__(self, dtype=None, copy=None):
        raise KeyError("no array here")


class Tensor:
    """A tensor that does not become an array, and says so as PyTorch's does."""

    def __init__(self, kind):
        self.kind = kind

    def __array__(self, dtype=None, copy=None):
        error, words = (str(text) for text in stored("refusals")[self.kind].values())
        raise {"RuntimeError": RuntimeError, "TypeError": TypeError}[error](words)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Tensor("gradient"), "got Tensor, which says: Can't call numpy"),
        (Tensor("bfloat16"), "got Tensor, which says: Got unsupported ScalarType BFloat16"),
        (Unwilling(), "got Unwilling, which says: 'no array here'"),
    ],
    ids=["a tensor with a gradient", "a tensor of bfloat16", "an object"],
)
@pytest.mark.parametrize("argument", ["x", "y", "weight"])
def test_what_does_not_become_an_array_is_refused_by_name(value, said, argument):
    data = {"x": np.ones((2, 1)), "y": np.ones(2), "weight": np.ones(2)} | {argument: value}
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(DtypeError, match=f"fit: argument '{argument}' must be an array of real numbers.*{said}"):
        trainer.fit(Neuron(1), tuple(data.values()))


class Frame:
    """As much of a data frame as is looked at."""

    def __init__(self, **columns):
        self.columns = list(columns)
        self.values = np.column_stack(list(columns.values()))

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class Table:
    """A frame with a dtype for each column; as one array it is all floats, as polars gives it."""

    def __init__(self, **columns):
        self.columns, self.held = list(columns), columns

    def __getitem__(self, name):
        return self.held[name]

    def __array__(self, dtype=None, copy=None):
        return np.column_stack([np.asarray(column).astype(float) for column in self.held.values()])


DAYS = np.array(["2020-01-01", "2020-01-02"], "M8[us]")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (DAYS, "got dates, first np.datetime64('2020-01-01T00:00:00.000000') at x['when'][0]"),
        (DAYS - DAYS[0], "got durations, first np.timedelta64(0,'us') at x['when'][0]"),
        (np.array([1.0, "b"], object), "got Python objects, first 'b' at x['when'][1]"),
    ],
    ids=["dates", "durations", "text"],
)
def test_each_column_of_a_frame_is_judged_by_its_own_dtype(column, said):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    with pytest.raises(DtypeError) as caught:
        trainer.fit(Neuron(2), (Table(a=[0.5, 1.0], when=column), [0.0, 1.0]))
    assert str(caught.value) == f"fit: argument 'x': column 'when' must hold real numbers; {said}"


def test_a_frame_becomes_the_array_of_its_columns():
    frame = Table(a=np.array([1, 2], "int8"), b=np.array([True, False]))
    assert np.array_equal(real_array(frame, "x"), [[1, 1], [2, 0]])
    assert real_array(frame, "x").dtype == "int8"
    assert real_array(frame, "x", "float32").flags.c_contiguous
    with pytest.raises(ShapeError, match="x: column 'b' must hold one number a row; got shape"):
        real_array(Table(a=[1.0, 2.0], b=[[1.0], [2.0]]), "x")


def test_a_value_that_is_not_finite_is_named_by_its_column():
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    frame, good = Table(age=[1.0, 2.0], size=[0.5, np.nan]), [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(DataError, match=r"fit: argument 'x' must be finite; got nan at x\['size'\]\[1\] \(1 of 4"):
        trainer.fit(Neuron(2), (frame, [0.0, 1.0]))
    with pytest.raises(DataError, match=r"fit: argument 'y' must be finite; got nan at y\['size'\]\[1\] \(1 of 4"):
        trainer.fit(Dense(2, 2), (good, frame))


def test_a_column_name_cannot_command_the_terminal():
    trainer, model = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)), Neuron(1)
    trainer.fit(model, (Table(a=[1.0]), [1.0]))
    for action in (
        lambda: trainer.predict(model, Table(**{"\x1b[31ma": [1.0]})),
        lambda: trainer.fit(Neuron(1), (Table(**{"\x1b[31ma": [np.nan]}), [1.0])),
        lambda: trainer.fit(Neuron(1), (Table(**{"\x1b[31ma": ["b"]}), [1.0])),
    ):
        with pytest.raises(DataError, match=r"\\x1b\[31ma") as caught:
            action()
        assert "\x1b" not in str(caught.value)


class Arrow(Table):
    """A frame whose ``columns`` are the data, as pyarrow's are."""

    column_names = property(lambda self: list(self.held))

    def __init__(self, **columns):
        super().__init__(**columns)
        self.columns = list(columns.values())


class Nulls(list):
    null_count = 1


def test_a_frame_with_names_apart_from_its_columns_is_known_by_its_names():
    trainer, model = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)), Neuron(2)
    trainer.fit(model, (Arrow(a=[1.0, 2.0], b=[0.5, 1.0]), [0.0, 1.0]))
    assert model.columns == ("a", "b")
    with pytest.raises(DataError, match="predict: argument 'x': column 'b' must have no nulls; got 1"):
        trainer.predict(model, Arrow(a=[1.0], b=Nulls([1.0])))


HEIGHTS, WIDTHS = np.arange(4.0), np.arange(4.0) ** 2
DOORS = {
    "fit: validation": lambda trainer, model, data: trainer.fit(model, (np.ones((4, 1)), TARGETS), data),
    "evaluate": lambda trainer, model, data: trainer.evaluate(model, data),
    "fit": lambda trainer, model, data: trainer.fit(model, data),
    "resume": lambda trainer, model, data: trainer.resume(
        trainer.fit(model, (np.ones((4, 1)), TARGETS)), data, epochs=1
    ),
}
TARGETS = Frame(height=HEIGHTS, width=WIDTHS)


@pytest.mark.parametrize("door", list(DOORS))
def test_targets_in_another_order_than_at_fit_are_refused_by_name(door):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01))
    model, x = Dense(1, 2), np.ones((4, 1))
    run = trainer.fit(model, (x, TARGETS))
    assert (model.columns, model.target_columns) == (None, ("height", "width"))
    with pytest.raises(
        DataError, match=f"{door}: argument 'y' must have the columns of fit, in that order: height, width; got width"
    ):
        DOORS[door](trainer, model, (x, Frame(width=WIDTHS, height=HEIGHTS)))
    trainer.resume(run, (x, np.asarray(TARGETS)), epochs=1)  # an array has no names to compare
    assert model.target_columns == ("height", "width")


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2D(filters=4, kernel=3), (4, 8, 8), r"argument 'x' must have the shape \(rows, any, any, any\)"),
        (Conv2D(filters=4, kernel=3, inputs=1), (4, 8, 8), r"x\[:, None\] for one channel"),
        (GRU(units=4), (4, 8), r"fit: argument 'x' must have the shape \(rows, any, any\); got \(4, 8\); add the axis"),
        (GRU(units=4, inputs=1), (4, 8), r"x\[..., None\] for one number a step"),
        (Dense(units=4), (4,), r"one feature is x.reshape\(-1, 1\)"),
    ],
)
def test_samples_of_another_number_of_axes_are_refused_by_name_whether_inputs_are_known_or_not(layer, shape, message):
    model = Sequential(layer.replace(), Flatten(), Dense(units=2), Softmax())
    trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))
    settled = model.settled
    with pytest.raises(ShapeError, match=message):
        trainer.fit(model, (np.zeros(shape), [0, 1, 0, 1]))
    assert model.settled == settled


class Empty:
    """A Dataset whose read returns nothing."""

    def __len__(self):
        return 4

    def read(self, start, stop):
        return None


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (([[1.0, 2.0], [3.0]], [1.0, 2.0]), ShapeError, r"x\[1\] has length 1, x\[0\] has length 2"),
        ((None, [1.0, 2.0]), DtypeError, "argument 'x' must hold real numbers; got Python objects"),
        ((np.ones((3, 0)), np.ones(3)), ShapeError, r"argument 'x' must not have an empty axis; got \(3, 0\)"),
        (Empty(), DataError, r"Empty\.read\(0, 1\) must return \(x, y\) or \(x, y, weight\); got NoneType"),
        (io.StringIO("1, 2"), DataError, "or a Dataset with len"),
    ],
    ids=["ragged", "None", "empty", "read", "file"],
)
def test_data_that_gives_no_sizes_is_refused_and_leaves_them_open(data, error, message):
    model = Dense(units=1)
    with pytest.raises(error, match=message):
        Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, data)
    assert not model.settled
