"""Arrays in .npy files: the rows of the arrays, from files, folders, memory maps and other file systems."""

import numpy as np
import pytest
from source_pieces import bits, regression

import framework.data.npy
from framework import DataError, Dense, Join, Neuron, Sequential, SettingsError, ShapeError, Tanh
from framework.data import NPY

ROWS = 50
X = np.random.default_rng(0).standard_normal((ROWS, 2))
Y = X[:, 0] - X[:, 1] ** 2
WEIGHT = np.arange(ROWS) % 3


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, array in (("x", X), ("y", Y), ("w", WEIGHT)):
        np.save(f"{name}.npy", array)
    return tmp_path


def test_files_and_memory_maps_train_like_the_arrays():
    expected = bits(regression((X, Y, WEIGHT)))
    assert bits(regression(NPY("x.npy", "y.npy", "w.npy"))) == expected
    assert bits(regression(NPY(np.load("x.npy", mmap_mode="r"), Y, "w.npy", read_ahead=False))) == expected


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 3), (6, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_shape_and_order_are_read_by_rows(shape, order):
    array = np.asarray(np.random.default_rng(0).integers(0, 9, shape), order=order)
    np.save("a.npy", array)
    data = NPY("a.npy", np.zeros(6))
    for start in range(7):
        for stop in range(start, 7):
            assert np.array_equal(data.read(start, stop)[0], array[start:stop])


def test_files_of_a_folder_follow_one_another(here):
    (here / "x").mkdir()
    for number, (start, stop) in enumerate([(0, 7), (7, 7), (7, 30), (30, ROWS)]):
        np.save(here / "x" / f"{number}.npy", X[start:stop])
    for path in ("x", "x/*.npy", [f"x/{number}.npy" for number in range(4)]):
        data = NPY(path, "y.npy")
        assert bits(regression(data)) == bits(regression((X, Y)))
        for start, stop in [(0, 0), (0, 7), (6, 8), (7, 30), (29, ROWS)]:
            assert np.array_equal(data.read(start, stop)[0], X[start:stop])


def test_files_are_read_through_fsspec(here):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe("/arrays/x.npy", (here / "x.npy").read_bytes())
    assert bits(regression(NPY("memory://arrays/x.npy", "y.npy"))) == bits(regression((X, Y)))


def test_several_inputs_by_name():
    data = NPY({"x1": "x.npy", "x2": X[:, :1]}, "y.npy")
    joined = Sequential(Join(x1=Dense(units=3, activation=Tanh()), x2=Dense(units=2)), Neuron())
    assert bits(regression(data, joined.copy())) == bits(regression(({"x1": X, "x2": X[:, :1]}, Y), joined))
    x, _ = data.read(3, 5)
    assert {name: part.tolist() for name, part in x.items()} == {"x1": X[3:5].tolist(), "x2": X[3:5, :1].tolist()}


def test_a_file_is_never_read_as_a_whole(monkeypatch):
    reads, real = [], framework.data.npy._File.__getitem__
    monkeypatch.setattr(framework.data.npy._File, "__getitem__", lambda *a: reads.append(a[1]) or real(*a))
    NPY("x.npy", "y.npy").read(10, 12)
    assert reads == [slice(10, 12), slice(10, 12)]


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ("none.npy", DataError, r"no file has the path 'none.npy'"),
        ("text.npy", DataError, r"argument 'x': text.npy is not a .npy file of numbers, or is damaged"),
        ("objects.npy", DataError, r"objects.npy holds Python objects; save an array of real numbers"),
        ("short.npy", DataError, r"short.npy ends before row 50; is it complete\?"),
        ("number.npy", ShapeError, "'x' must have rows; got one number in number.npy"),
        ("half.npy", ShapeError, "must have the same number of rows; got 25 in x, 50 in y"),
        (["x.npy", "y.npy"], ShapeError, r"rows of one form; got float64 \(\) in y.npy, float64 \(2,\) in x.npy"),
        (3, SettingsError, "'x' must be a path, a list of paths or an array; got 3"),
    ],
)
def test_what_has_no_rows_of_numbers_is_refused(here, x, error, message):
    (here / "text.npy").write_text("x,y")
    np.save("objects.npy", np.array([["a", 1]] * ROWS, object))
    np.save("half.npy", X[:25])
    np.save("number.npy", 3.0)
    (here / "short.npy").write_bytes((here / "x.npy").read_bytes()[:-8])
    with pytest.raises(error, match=message):
        regression(NPY(x, "y.npy"))


def test_a_file_that_is_written_again_is_noticed():
    data = NPY("x.npy", "y.npy")
    np.save("x.npy", X[:10])
    with pytest.raises(DataError, match=r"x.npy was changed after it was opened; make a new NPY"):
        data.read(0, 1)
