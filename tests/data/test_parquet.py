"""Parquet files as a Dataset: the rows are those that pyarrow reads, in whatever pieces they are asked for."""

import os
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_pieces import bits, classifier, numbers

import framework.data.blocks
import framework.data.parquet
from framework import (
    Component,
    DataError,
    Parquet,
    Preprocess,
    SettingsError,
    Standardize,
    on,
)
from framework.data import blocks

ROWS = 2000
X, LATE = numbers(ROWS)
TABLE = pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "late": LATE, "importance": np.arange(ROWS) % 3.0})


@pytest.fixture
def folder(tmp_path):
    """Three files with row groups of odd sizes, one file without rows."""
    folder = tmp_path / "flights"
    folder.mkdir()
    for name, start, stop, group in (
        ("1", 0, 700, 100),
        ("2", 700, 701, 1),
        ("3", 701, 701, 10),
        ("4", 701, ROWS, 333),
    ):
        pq.write_table(TABLE[start:stop], folder / f"{name}.parquet", row_group_size=group)
    (folder / "_SUCCESS").touch()
    return folder


@pytest.mark.parametrize("read_ahead", [True, False])
def test_it_trains_like_the_arrays_in_memory(folder, read_ahead):
    data = Parquet(folder, target="late", columns=["a", "b", "c"], read_ahead=read_ahead)
    assert bits(classifier(data)) == bits(classifier((X, LATE)))
    assert bits(classifier(data, shuffle=False)) == bits(classifier((X, LATE), shuffle=False))


def test_predictions_are_made_in_blocks(folder, monkeypatch):
    monkeypatch.setattr("framework.models.rows.BLOCK_ROWS", 64)
    model = classifier(Parquet(folder, "late", columns=("a", "b", "c"))).model
    expected = model.predict(X)
    for data in (Parquet(folder, columns=("a", "b", "c")), Parquet(folder, "late", columns=("a", "b", "c"))):
        assert np.array_equal(model.predict(data), expected)
        assert np.array_equal(model.classify(data), expected > 0.5)

    class Rows:
        def __len__(self):
            return ROWS

        def read(self, start, stop):
            return X[start:stop], LATE[start:stop]

    assert np.array_equal(model.predict(Rows()), expected)
    recipe = Preprocess(columns={"<number>": [Standardize()]})
    model = classifier(Parquet(folder, "late"), preprocess=recipe).model
    assert np.array_equal(model.predict(Parquet(folder)), model.predict(TABLE))


@pytest.mark.parametrize("recipe", [None, Preprocess(columns={"*": [Standardize()]})])
def test_an_error_of_a_prediction_counts_rows_from_the_first_of_the_file(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("framework.models.rows.BLOCK_ROWS", 64)
    width = np.arange(300.0)
    table = pa.table({"width": width, "late": width > 100})
    model = classifier((table, "late"), preprocess=recipe).model
    pq.write_table(pa.table({"width": np.where(width == 200, np.inf, width)}), tmp_path / "new.parquet")
    where = "column 'width', row 8 .*; rows count from row 192 of the data" if recipe is None else "in row 200;"
    with pytest.raises(DataError, match=where):
        model.predict(Parquet(tmp_path / "new.parquet"))


def test_weights_are_a_column(folder):
    weight = np.arange(ROWS) % 3.0
    assert bits(classifier(Parquet(folder, "late", weight="importance"))) == bits(classifier((X, LATE, weight)))


def test_any_range_of_rows_can_be_read(folder):
    data = Parquet(folder, "late")
    rng = np.random.default_rng(1)
    for start, stop in [
        (0, ROWS),
        (0, 1),
        (1, 2),
        (50, 60),
        (60, 61),
        (700, 701),
        (699, 702),
        (ROWS - 1, ROWS),
        (5, 5),
    ]:
        assert data.rows.read(start, stop).equals(TABLE[start:stop])
    for _ in range(30):
        start, stop = sorted(rng.integers(0, ROWS + 1, 2))
        assert data.rows.read(start, stop).equals(TABLE[start:stop])


def test_rows_are_decoded_once_when_they_are_read_in_order(folder, monkeypatch):
    data, opened = Parquet(folder, "late"), []
    rows = data.rows
    real_open = framework.data.parquet._open_file
    monkeypatch.setattr(
        framework.data.parquet, "_open_file", lambda file: opened.append(rows.files.index(file)) or real_open(file)
    )
    decoded, real = [], rows._next
    monkeypatch.setattr(rows, "_next", lambda most: decoded.append((part := real(most)).num_rows) or part)
    for start in range(0, ROWS, 64):
        data.read(start, min(start + 64, ROWS))
    assert opened == [0, 1, 3]
    assert sum(decoded) == ROWS


def test_rows_do_not_carry_what_pandas_noted_on_its_index(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0]}, index=[7, 8]).to_parquet(tmp_path / "a.parquet")
    frame = Parquet(tmp_path / "a.parquet").frame()
    assert frame.schema.metadata is None
    assert [*frame.to_pandas().index] == [0, 1]


def test_no_row_is_lost_after_an_interrupt(folder, monkeypatch):
    monkeypatch.setattr(framework.data.blocks, "READ_NUMBERS", 50)  # 10 rows of 5 columns
    data = Parquet(folder, "late")
    data.frame(0, 10)
    decoded = data.rows._tables

    class Interrupted:
        def __next__(self):
            next(decoded)
            raise KeyboardInterrupt

    data.rows._tables = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        data.frame(10, 20)
    data.rows._tables = decoded
    assert data.frame(10, 20).equals(TABLE[10:20].select(data.names))


def test_columns_are_selected_in_their_order(folder):
    x, y = Parquet(folder, ("late", "c"), columns=("b", "a")).read(2, 4)
    assert (x.column_names, y.column_names) == (["b", "a"], ["late", "c"])
    assert classifier(Parquet(folder, "late", columns=("b", "a"))).model.columns == ("b", "a")
    assert Parquet(folder, "late", weight="importance").names == ("a", "b", "c")
    assert Parquet(folder).frame(3, 5).equals(TABLE[3:5])


@pytest.mark.parametrize(
    "path", ["flights", "flights/*.parquet", ["flights/1.parquet", "flights/2.parquet", "flights/4.parquet"]]
)
def test_folders_patterns_and_lists_name_files(folder, monkeypatch, path):
    monkeypatch.chdir(folder.parent)
    data = Parquet(path, "late")
    assert data.rows.read(0, ROWS).equals(TABLE)
    monkeypatch.chdir(folder)  # a hook may change the working directory
    assert data.rows.read(0, ROWS).equals(TABLE)


def test_a_part_of_a_partitioned_table_is_read_where_it_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "year=2020").mkdir()
    save("year=2020/1.parquet", x=[1.0], y=[1])
    assert len(Parquet("year=2020/*.parquet", "y")) == len(Parquet("year=2020", "y")) == 1


def test_files_are_read_through_fsspec(folder):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for file in sorted(folder.glob("*.parquet")):
        memory.pipe(f"/flights/{file.name}", file.read_bytes())
    for path in ("memory://flights/*.parquet", "memory://flights", "memory:///flights/"):
        assert Parquet(path, "late").rows.read(0, ROWS).equals(TABLE)
    with pytest.raises(DataError, match=r"no file has the path 'memory://nowhere/x.parquet'"):
        len(Parquet("memory://nowhere/x.parquet", "late"))


def test_a_category_may_have_other_codes_in_each_file(tmp_path):
    for name, values in (("1", ["x", "y"]), ("2", ["z", "x", None])):
        frame = pd.DataFrame({"city": pd.Categorical(values), "y": range(len(values))}, index=[7] * len(values))
        frame.to_parquet(tmp_path / f"{name}.parquet")
    x, _ = Parquet(tmp_path, "y").read(0, 5)
    assert x.column_names == ["city"]  # without the index of the frames
    assert x.to_pydict() == {"city": ["x", "y", "z", "x", None]}


def save(path, **columns):
    pq.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "nowhere"}, "Parquet: no file has the path 'nowhere'"),
        ({"path": "*.pq"}, r"no file has the path '\*.pq'"),
        ({"path": "empty"}, "the folder 'empty' has no file that ends in .parquet"),
        ({"path": "parts"}, "'parts' is partitioned: the path 'year=2020/1.parquet' holds the value of a column"),
        (
            {"path": "parts/*/*.parquet"},
            r"the pattern 'parts/\*/\*.parquet' is partitioned: the path 'year=2020/1.parq",
        ),
        ({"path": "**/*.parquet"}, r"the pattern .* is partitioned"),
        ({"path": "text.parquet"}, "text.parquet is not a Parquet file, or is damaged"),
        (
            {"path": "a.parquet", "target": "z"},
            "names the column 'z', which a.parquet does not have.*Columns: x, y",
        ),
        ({"path": "a.parquet", "columns": ["xx"]}, "'columns' names the column 'xx'.*did you mean 'x'"),
        ({"path": "a.parquet", "weight": "w"}, "'weight' names the column 'w'"),
        ({"path": ["a.parquet", "b.parquet"]}, r"b.parquet has no column 'x', which a.parquet has"),
        ({"path": ["b.parquet", "a.parquet"]}, r"a.parquet has a column 'x', which b.parquet does not have"),
        (
            {"path": ["a.parquet", "c.parquet"]},
            "'x' must have one type .* string in c.parquet, double in a.parquet",
        ),
    ],
)
def test_what_cannot_be_a_table_is_refused_with_file_and_column(tmp_path, monkeypatch, settings, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts" / "year=2020").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("x,y\n1,2\n")
    save("a.parquet", x=[1.0], y=[1])
    save("b.parquet", y=[1])
    save("c.parquet", x=["1.0"], y=[1])
    save("parts/year=2020/1.parquet", x=[1.0], y=[1])
    with pytest.raises(DataError, match=message):
        classifier(Parquet(**{"target": "y"} | settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": ()}, "'target' must name at least one column"),
        ({"columns": ()}, "'columns' must name at least one column"),
        ({"target": "a", "columns": ("a", "b")}, "the column 'a' is named twice"),
        ({"target": ("a", "a")}, "the column 'a' is named twice"),
        ({"target": 3}, "'target' must be"),
        ({"traget": "a"}, "unknown setting 'traget'; did you mean 'target'"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Parquet("a.parquet", **settings)


def test_a_table_without_rows_or_without_a_target_trains_nothing(tmp_path):
    save(tmp_path / "none.parquet", x=pa.array([], "double"), y=pa.array([], "double"))
    with pytest.raises(DataError, match="at least one row"):
        classifier(Parquet(tmp_path, "y"))
    save(tmp_path / "one.parquet", x=[1.0], y=[1.0])
    classifier(Parquet(tmp_path, "y"))
    with pytest.raises(DataError, match=r"'target' must name the column to predict. Columns: x, y"):
        classifier(Parquet(tmp_path))


def test_damaged_pages_are_noticed_where_the_file_has_checksums(tmp_path):
    table = pa.table({"x": np.arange(5000.0), "y": np.arange(5000.0)})
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(table, tmp_path / "a.parquet", **options)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[10_000] ^= 1
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"rows of .*a.parquet cannot be read: .*[Cc][Rr][Cc]"):
        Parquet(tmp_path, "y").read(0, 10)


def test_two_columns_of_one_name_are_refused(tmp_path):
    twice = pa.Table.from_arrays([pa.array([1.0])] * 3, names=["x", "x", "y"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice.parquet has 2 columns 'x'; rename them"):
        len(Parquet(tmp_path, "y"))


def test_a_file_that_is_written_again_is_noticed(folder):
    data = Parquet(folder, "late")
    first = data.fingerprint()
    pq.write_table(TABLE[1:701], folder / "1.parquet", row_group_size=100)
    with pytest.raises(DataError, match=r"1.parquet was changed after it was opened; make a new Parquet"):
        data.read(0, 10)
    assert Parquet(folder, "late").fingerprint() != first
    (folder / "1.parquet").unlink()
    with pytest.raises(DataError, match=r"1.parquet cannot be read"):
        data.read(0, 10)


def test_a_fingerprint_depends_on_contents_and_roles_and_not_on_the_path(folder, tmp_path):
    moved = tmp_path / "moved"
    os.rename(folder, moved)  # noqa: PTH104
    first = Parquet(moved, "late").fingerprint()
    assert Parquet(str(moved / "*.parquet"), "late").fingerprint() == first
    assert Parquet(moved, "late", columns=("a", "b")).fingerprint() != first


def test_settings_travel_as_json_and_what_is_open_does_not(folder):
    data = Parquet(folder, ("late",), columns=["a"])
    assert len(data) == ROWS
    twin = pickle.loads(pickle.dumps(data))
    assert twin == data == Component.from_json(data.to_json())
    assert twin.read(0, 2)[0].equals(data.read(0, 2)[0])


def test_row_groups_are_shuffled_and_each_is_read_from_its_beginning(folder, monkeypatch):
    small = {"BLOCK_ROWS": 64, "WINDOW_BLOCKS": 4, "WINDOW_NUMBERS": 3 * 350, "READ_NUMBERS": 3 * 128}
    for constant, number in small.items():
        monkeypatch.setattr(blocks, constant, number)
    data, reads = Parquet(folder, "late", columns=("a", "b", "c")), []

    class Watched:
        starts = data.starts

        def __len__(self):
            return len(data)

        def read(self, start, stop):
            reads.append((start, stop))
            return data.read(start, stop)

    seen = []
    watch = on("batch_end")(lambda run: seen.append(run.current[0].copy()))
    classifier(Watched(), callbacks=[watch])
    del reads[:3]  # those that look at the form of the data
    ends = np.cumsum([stop - start for start, stop in reads]).tolist()
    epochs = reads[: ends.index(ROWS) + 1], reads[ends.index(ROWS) + 1 :]
    for epoch in epochs:
        assert sum(stop - start for start, stop in epoch) == ROWS
        groups = [start for start, _ in epoch if start in data.starts]
        assert groups != sorted(groups)
        for (start, stop), before in zip(epoch, [(0, -1), *epoch], strict=False):
            assert start in data.starts or start == before[1]  # nothing is decoded twice
            assert stop - start <= 128
    assert epochs[0] != epochs[1]
    assert np.array_equal(np.sort(np.concatenate(seen[: len(seen) // 2]), axis=0), np.sort(X, axis=0))
