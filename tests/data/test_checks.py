"""Checks of data: what becomes no array is refused by its name, and so are frames with other columns."""

import io

import numpy as np
import pandas as pd
import pytest
from oracles import stored

from framework import (
    GRU,
    Conv2D,
    CrossEntropy,
    DataError,
    Dense,
    Flatten,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    ShapeError,
    Softmax,
    Trainer,
)
from framework.base import DtypeError


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


HEIGHTS, WIDTHS = np.arange(4.0), np.arange(4.0) ** 2
DOORS = {
    "fit: validation": lambda trainer, model, data: trainer.fit(model, (np.ones((4, 1)), TARGETS), data),
    "evaluate": lambda trainer, model, data: trainer.evaluate(model, data),
    "fit": lambda trainer, model, data: trainer.fit(model, data),
    "resume": lambda trainer, model, data: trainer.resume(
        trainer.fit(model, (np.ones((4, 1)), TARGETS)), data, epochs=1
    ),
}
TARGETS = pd.DataFrame({"height": HEIGHTS, "width": WIDTHS})


@pytest.mark.parametrize("door", list(DOORS))
def test_targets_in_another_order_than_at_fit_are_refused_by_name(door):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01))
    model, x = Dense(1, 2), np.ones((4, 1))
    run = trainer.fit(model, (x, TARGETS))
    assert (model.columns, model.target_columns) == (None, ("height", "width"))
    with pytest.raises(
        DataError, match=f"{door}: argument 'y' must have the columns of fit, in that order: height, width; got width"
    ):
        DOORS[door](trainer, model, (x, TARGETS[["width", "height"]]))
    trainer.resume(run, (x, np.asarray(TARGETS)), epochs=1)  # an array has no names to compare
    assert model.target_columns == ("height", "width")


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2D(filters=4, kernel=3), (4, 8, 8), r"argument 'x' must have the shape \(rows, any, any, any\)"),
        (Conv2D(filters=4, kernel=3, inputs=1), (4, 8, 8), r"put Reshape\(\(1, 8, 8\)\) before Conv2D"),
        (GRU(units=4), (4, 8), r"fit: argument 'x' must have the shape \(rows, any, any\); got \(4, 8\); put Resh"),
        (GRU(units=4, inputs=1), (4, 8), r"put Reshape\(\(8, 1\)\) before GRU"),
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
