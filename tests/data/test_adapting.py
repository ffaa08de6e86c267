"""Datasets and loaders of other libraries: the same bits as the arrays that they hold, or a refusal with advice."""

import numpy as np
import pyarrow as pa
import pytest
from left_out import hooks_differ
from source_pieces import bits, regression

from framework import DataError, MeanSquaredError, SettingsError, SGDOptimizer, Stream, Trainer, on
from framework.base import UsageError
from framework.data import Indexed

ROWS = 60
X = np.random.default_rng(0).standard_normal((ROWS, 2))
Y = X[:, 0] - X[:, 1] ** 2
WEIGHT = np.arange(ROWS) % 3.0


class Items:
    """A map-style dataset, as those of PyTorch are."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, row):
        return tuple(array[row] for array in self.arrays)


class Table:
    """What of a dataset of Hugging Face is used: an Arrow table under another class, with a format."""

    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def __getitem__(self, rows):
        return self.table[rows]

    def with_format(self, name):
        assert name == "arrow"
        return self


def test_items_by_number_train_like_their_arrays():
    assert bits(regression(Items(X, Y))) == bits(regression((X, Y)))
    assert bits(regression(Items(X, Y, WEIGHT))) == bits(regression((X, Y, WEIGHT)))
    assert bits(regression(Indexed(Items(X, Y), read_ahead=True))) == bits(regression((X, Y)))


def test_rows_with_names_need_the_name_of_the_target():
    rows = [{"x": x, "y": y, "w": w} for x, y, w in zip(X, Y, WEIGHT, strict=True)]
    x, y, weight = Indexed(rows, "y", "w").read(2, 5)
    assert np.array_equal(x["x"], X[2:5])
    assert (y.tolist(), weight.tolist()) == (Y[2:5].tolist(), WEIGHT[2:5].tolist())
    assert Indexed(rows, ("y", "w")).read(0, 2)[1].tolist() == [[Y[0], 0.0], [Y[1], 1.0]]
    with pytest.raises(DataError, match=r"rows have names; write Indexed\(data, target=...\)\. Names: x, y, w"):
        Indexed(rows).read(0, 1)
    with pytest.raises(DataError, match=r"row 0 has no 'z'\. Names: x, y, w"):
        Indexed(rows, "z").read(0, 1)
    with pytest.raises(DataError, match="'y' is the name of a value; but rows have no names"):
        Indexed(Items(X, Y), "y").read(0, 1)


def test_a_dataset_of_hugging_face_is_a_table():
    table = Table(pa.table({"a": X[:, 0], "b": X[:, 1], "y": Y, "w": WEIGHT}))
    run = regression(Indexed(table, "y", "w"))
    assert bits(run) == bits(regression((X, Y, WEIGHT)))
    assert run.model.columns == ("a", "b")
    assert regression((table, "y")).model.columns == ("a", "b", "w")
    with pytest.raises(DataError, match=r"the dataset has no 'z'\. Names: a, b, y, w"):
        regression((table, "z"))
    with pytest.raises(DataError, match="write Indexed"):
        regression(table)


@pytest.mark.parametrize("data", [3, object(), np.array(1.0), iter(()), range(3), {"x": X}, "text", [X], X])
def test_other_objects_are_refused(data):
    with pytest.raises(DataError):
        regression(data, epochs=1)


def test_an_object_without_rows_by_number_is_refused():
    with pytest.raises(SettingsError, match=r"'data' must have len\(\) and rows by number; got 3"):
        Indexed(3)


@hooks_differ
def test_pytorch():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, IterableDataset, TensorDataset

    data = TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))
    assert bits(regression(data)) == bits(regression((X, Y)))
    expected = bits(regression(Stream(lambda _: [(X, Y)])))
    assert bits(regression(DataLoader(data, batch_size=7))) == expected  # the trainer shuffles, and cuts batches
    in_order = bits(regression((X, Y), shuffle=False))
    assert bits(regression(DataLoader(data, batch_size=7), shuffle=False)) == in_order
    dropped = DataLoader(data, batch_size=7, drop_last=True)
    assert bits(regression(dropped)) == bits(regression(Stream(lambda _: [(X[:56], Y[:56])])))
    stop = on("batch_end")(lambda run: run.stop("enough") if run.step == 3 else None)
    run = regression(DataLoader(data, batch_size=7), callbacks=[stop])
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.05, momentum=0.9), batch_size=8)
    trainer.replace(epochs=2).resume(run, DataLoader(data, batch_size=7))
    assert bits(run) == expected

    with pytest.raises(DataError, match=r"got a RandomSampler, whose order .* write fit\(model, loader.dataset\)"):
        regression(DataLoader(data, batch_size=7, shuffle=True))
    with pytest.raises(DataError, match=r"write validation=loader.dataset"):
        trainer.fit(run.model, (X, Y), DataLoader(data, batch_size=7, shuffle=True))

    class Numbers(IterableDataset):
        def __iter__(self):
            return zip(X, Y, strict=True)

    loader = DataLoader(Numbers(), batch_size=7)
    assert bits(regression(loader, shuffle=False)) == in_order
    with pytest.raises(UsageError, match="resume: a DataLoader cannot be read from the middle of an epoch"):
        trainer.resume(regression(loader), loader, epochs=1)
    assert bits(regression(Stream(lambda _: loader), shuffle=False)) == in_order
