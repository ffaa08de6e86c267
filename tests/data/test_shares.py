"""Shares: each worker reads the rows of its own shards, and all workers together train on the batches of one."""

import numpy as np
import pytest

from framework import CSV, DataError, Dense, MeanSquaredError, Neuron, Parquet, SGDOptimizer, Trainer, split
from framework.data import NPY, Indexed, blocks
from framework.data.pieces import Position, every
from framework.models.rows import EVALUATION_ROWS, prepare
from framework.training import DataParallel
from framework.training.parallel.shards import Shards
from framework.training.parallel.workers import Workers

ROWS = 50
ORDERS = pytest.mark.parametrize("order", [None, (0, 1)], ids=["in order", "shuffled"])


class Blocks:
    """A Dataset that counts the rows which it is asked for."""

    def __init__(self, rows=ROWS):
        self.x = np.arange(rows, dtype=float)
        self.asked = []

    def __len__(self):
        return len(self.x)

    def _of(self, rows):
        self.asked.extend(rows)
        return self.x[list(rows)][:, None], self.x[list(rows)]

    def read(self, start, stop):
        return self._of(range(start, stop))


class ByNumber(Blocks):
    """The same, whose rows can be read by number."""

    def read_rows(self, rows):
        return self._of(rows)


class Groups(Blocks):
    """The same, of parts that are read from their beginning."""

    starts = (0, 8, 19, 31, 40)


class Items(Blocks):
    """A map-style dataset."""

    def __getitem__(self, row):
        self.asked.append(row)
        return [self.x[row]], self.x[row]


KINDS = pytest.mark.parametrize("kind", [Blocks, ByNumber, Groups, Items])


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 3)
    monkeypatch.setattr(blocks, "WINDOW_NUMBERS", 12)
    monkeypatch.setattr(blocks, "WINDOW_BLOCKS", 2)


def source_of(data):
    source = prepare(Indexed(data) if isinstance(data, Items) else data, Neuron(1), (MeanSquaredError(),), "fit")
    if isinstance(data, Blocks):
        source._read_block(0, 1)
        data.asked = []
    return source


def worker(rank, size, shards=8):
    alone = Workers()
    alone.rank, alone.size = rank, size
    return Shards(alone, shards)


def taken(source, size, start, order, own):
    """Return the target of each batch, of which only the own rows are known; the others are -1."""
    found = []
    for piece in source.pieces(Position(size, start, order), own=own):
        while not piece.done:
            mine = own(piece.next_rows)
            x, y, _ = piece.take(mine)
            np.testing.assert_array_equal(x[mine][:, 0], y[mine])
            found.append(np.full(len(y), -1.0))
            found[-1][mine] = y[mine]
    return found


@pytest.mark.share(1 / 3)
@KINDS
@ORDERS
@pytest.mark.parametrize("size", [1, 7, 30, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.usefixtures("small_windows")
def test_the_workers_together_have_the_batches_of_the_epoch(kind, order, size, count):
    whole = [y.astype(int).tolist() for _, y, _ in source_of(kind()).cut_batches(size, 0, order)]
    for done in (0, 1):
        parts = [taken(source_of(kind()), size, done * size, order, worker(i, count).rows_of) for i in range(count)]
        together = np.max([np.concatenate([*part, []]) for part in parts], axis=0)
        found = np.split(together.astype(int), np.cumsum([len(batch) for batch in whole[done:]]))[:-1]
        assert [sorted(batch) for batch in found] == [sorted(batch) for batch in whole[done:]]
        if order is None:
            assert [batch.tolist() for batch in found] == whole[done:]
        numbers = source_of(kind())
        for place, batch in enumerate(found[:9]):
            rows = numbers.rows_of(Position(size, (done + place) * size, order), shared=True)
            assert rows.tolist() == batch.tolist()


@pytest.mark.parametrize("kind", [ByNumber, Items])
@ORDERS
@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.usefixtures("small_windows")
def test_of_rows_by_number_each_is_read_by_one_worker(kind, order, count):
    asked = []
    for rank in range(count):
        data = kind()
        own = worker(rank, count).rows_of
        mine = taken(source_of(data), 8, 0, order, own)
        assert sorted(data.asked) == sorted(row for batch in mine for row in batch if row >= 0)
        asked += data.asked
    assert sorted(asked) == [*range(ROWS)]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", [Blocks, Groups])
@pytest.mark.filterwarnings("ignore:.*rows are read in order from their beginning:UserWarning")
def test_of_blocks_a_worker_reads_its_part_and_some_more(kind, count, monkeypatch):
    monkeypatch.setattr(blocks, "WINDOW_ROWS", 70_000)  # three windows; two batches span two of them
    for rank in range(count):
        data = kind(200_000)
        for _ in source_of(data).pieces(Position(1200, 0, (0, 0)), own=worker(rank, count).rows_of):
            pass
        assert len(set(data.asked)) == len(data.asked)
        assert 1 / count <= len(data.asked) / 200_000 < 1 / count + 0.1


@KINDS
@pytest.mark.parametrize("count", [1, 2, 3, 9])
@pytest.mark.usefixtures("small_windows")
def test_each_row_of_validation_is_read_by_one_worker(kind, count, monkeypatch):
    monkeypatch.setattr("framework.training.runs.figures.EVALUATION_ROWS", 4)
    parts, asked = {}, []
    for rank in range(count):
        data = kind()
        for (_, y, _), number in source_of(data).shares(EVALUATION_ROWS, worker(rank, count).parts):
            parts.setdefault(number, []).extend(y)
        asked += data.asked
    assert sorted(asked) == [*range(ROWS)]
    assert [y for number in sorted(parts) for y in parts[number]] == [*range(ROWS)]
    assert [len(parts[number]) for number in sorted(parts)] == [7, 6, 6, 6, 7, 6, 6, 6]
    assert EVALUATION_ROWS > ROWS


@ORDERS
def test_arrays_have_the_same_batches_as_a_dataset(order):
    x = np.arange(ROWS, dtype=float)
    for start in (0, 7):
        arrays, dataset = source_of((x[:, None], x)), source_of(Blocks())
        expected = taken(dataset, 7, start, order, every)
        for found, batch in zip(taken(arrays, 7, start, order, every), expected, strict=True):
            np.testing.assert_array_equal(found, batch)
        assert arrays.rows_of(Position(7, start, order), shared=True).tolist() == expected[0].tolist()


@KINDS
@pytest.mark.usefixtures("small_windows")
def test_the_whole_batch_is_read_again_where_its_rows_are_asked_for(kind):
    own = worker(1, 2).rows_of
    for piece in source_of(kind()).pieces(Position(7, 7, (0, 0)), own=own):
        while not piece.done:
            mine = own(piece.next_rows)
            y = piece.take(mine)[1]
            _, whole, _ = piece.part(piece.place - 7, piece.place)
            assert len(whole) == len(y)
            np.testing.assert_array_equal(whole[mine], y[mine])
            assert len(set(whole)) == len(whole)


@pytest.mark.parametrize("kind", [ByNumber, Items])
@pytest.mark.parametrize("size", [2, 8])
@pytest.mark.usefixtures("small_windows")
def test_a_bad_row_is_named_by_the_worker_that_reads_it(kind, size):
    told = []
    for rank in range(2):  # in order, and of two rows a batch, a worker needs each second row
        data = kind()
        data.x[32] = np.nan
        try:
            taken(source_of(data), size, 0, None, worker(rank, 2).rows_of)
        except DataError as error:
            told.append(str(error))
    (text,) = told
    assert f"{'ByNumber' if kind is ByNumber else 'Indexed'}.read(32, 3" in text
    assert "nan at x[0, 0]" in text
    assert text.endswith("rows count from row 32 of the data")


@pytest.mark.usefixtures("small_windows")
def test_rows_of_another_number_than_asked_for_are_refused():
    data = ByNumber()
    data.read_rows = lambda rows: data._of(rows[:-1])
    with pytest.raises(DataError, match=r"ByNumber\.read_rows of rows from \d+ to \d+ must return \d+ rows; got"):
        [*source_of(data).pieces(Position(8, 0, (0, 0)), own=worker(0, 2).rows_of)]


@pytest.mark.usefixtures("small_windows")
def test_chances_need_all_rows():
    data = ByNumber()
    data.x %= 3
    source = prepare(data, Neuron(1), (MeanSquaredError(),), "fit", sampling="balanced")
    source._read_block(0, 1)
    data.asked = []
    for piece in source.pieces(Position(8, 0, (0, 0)), own=worker(0, 2).rows_of):
        assert piece.reread is None
    assert sorted(data.asked) == [*range(ROWS)]


@pytest.mark.parametrize("kind", [Items, ByNumber])
def test_a_held_out_part_of_rows_by_number_reads_only_those(kind):
    data = kind(1000)
    train, held = split(Indexed(data) if kind is Items else data, 0.25)
    assert len(train) + len(held) == 1000
    data.asked = []
    x, y = held.read_rows([3, 5, 200])
    assert data.asked == y.tolist() == x[:, 0].tolist()
    assert y.tolist() == held.read(0, 250)[1][[3, 5, 200]].tolist()
    assert not hasattr(split(Blocks(1000), 0.25)[0], "read_rows")


@pytest.mark.parametrize("count", [1, 2])
def test_shards_of_a_dataset_train_as_the_whole_batch_does(count):
    settings = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=1e-4), "batch_size": 16}
    straight, parts = Dense.from_weights([[0.5]]), Dense.from_weights([[0.5]])
    Trainer(**settings).fit(straight, Blocks())
    Trainer(**settings, strategy=DataParallel(shards=8 // count)).fit(parts, Blocks())
    np.testing.assert_allclose(parts.parameters.vector, straight.parameters.vector, rtol=1e-12)


def in_files(kind, folder, rows=ROWS, group=6):
    """Return the same rows in files."""
    x = np.arange(rows, dtype=float)
    if kind == "npy":
        np.save(folder / "x.npy", x[:, None])
        return NPY(str(folder / "x.npy"), x)
    if kind == "csv":
        lines = "".join(f"{number},{number}\n" for number in x)
        (folder / "rows.csv").write_text(f"x,y\n{lines}", "utf-8")
        return CSV(folder / "rows.csv", target="y")
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"x": x, "y": x}), folder / "rows.parquet", row_group_size=group)
    data = Parquet(folder / "rows.parquet", target="y")
    return split(data, 0.2)[0] if kind == "held out" else data


@ORDERS
@pytest.mark.parametrize("kind", ["npy", "csv", "parquet", "held out"])
@pytest.mark.usefixtures("small_windows")
@pytest.mark.filterwarnings("ignore:.*rows are read in order from their beginning:UserWarning")
def test_workers_share_the_rows_of_files(kind, order, tmp_path):
    data = in_files(kind, tmp_path)
    expected = np.concatenate(taken(source_of(data), 7, 0, order, every))
    assert len({*expected}) == len(data)
    parts = [np.concatenate(taken(source_of(data), 7, 0, order, worker(rank, 3).rows_of)) for rank in range(3)]
    np.testing.assert_array_equal(np.max(parts, axis=0), expected)


@pytest.mark.parametrize("kind", ["parquet", "held out"])
def test_a_worker_decodes_the_row_groups_of_its_rows(kind, tmp_path, monkeypatch):
    data = in_files(kind, tmp_path, 100_000, 2000)
    rows = (data if kind == "parquet" else data.dataset).rows
    decoded = []
    decode = type(rows)._next
    monkeypatch.setattr(
        type(rows), "_next", lambda self, most: (found := decode(self, most), decoded.append(found.num_rows))[0]
    )
    for rank in range(2):
        source = source_of(data)
        for give in (
            lambda source=source, rank=rank: taken(source, 1000, 0, (0, 0), worker(rank, 2).rows_of),
            lambda source=source, rank=rank: [*source.shares(EVALUATION_ROWS, worker(rank, 2).parts)],
        ):
            decoded.clear()
            give()
            assert 0.45 <= sum(decoded) / 100_000 <= 0.62
