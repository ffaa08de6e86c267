"""Predictions of many Parquet files as part files: by one process, by several, and by ones that are killed."""

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiment_pieces import command

from framework import Dense, Experiment, HalfSquaredError, Parquet, Sequential, SGDOptimizer, Tanh, Trainer
from framework.experiments import predictions, processes as claims
from framework.experiments.folder import RunFolder
from framework.experiments.predictions import is_folder, write_parts

GROUPS = {"a.parquet": [100, 0, 37, 1], "a.b.parquet": [64], "none.parquet": [], "year/b.parquet": [5, 130]}
"""How many rows each row group of the test's files has."""

PARTS = [f"{name}.{group:05}.parquet" for name in sorted(GROUPS) for group in range(max(1, len(GROUPS[name])))]


def rows(number, first=0):
    rng = np.random.default_rng([number, first])
    columns = {name: rng.normal(size=number) for name in ("x", "y")}
    return pa.table({**columns, "key": np.arange(first, first + number)})


def write_file(path, groups, first=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, rows(0).schema) as writer:
        for number in groups:
            writer.write_table(rows(number, first), row_group_size=max(number, 1))
            first += number
    assert [pq.read_metadata(path).row_group(each).num_rows for each in range(len(groups))] == groups


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, and the files of GROUPS in the folder data."""
    folder = tmp_path_factory.mktemp("made")
    known = rows(200)
    pq.write_table(known.append_column("z", pa.array(known["x"].to_numpy() * 2)), folder / "known.parquet")
    experiment = Experiment(
        data=Parquet(str(folder / "known.parquet"), target="z", columns=("x", "y")),
        model=Sequential(Dense(units=8, activation=Tanh()), Dense(units=1)),
        trainer=Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), epochs=1),
    )
    for name in ("run", "other"):
        run = RunFolder.create(folder / name, experiment.replace(trainer=experiment.trainer.replace(seed=len(name))))
        np.savez(folder / f"{name}.npz", **run.train().model.parameters)
    for place, (name, groups) in enumerate(GROUPS.items()):
        write_file(folder / "data" / name, groups, 1000 * place)
    return folder


@pytest.fixture
def workplace(made, tmp_path, monkeypatch):
    """A working directory with a copy of them; blocks have 48 rows."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predictions, "BLOCK_ROWS", 48)
    monkeypatch.setattr(predictions, "WAIT", 0.01)
    return tmp_path


def parts(folder="parts"):
    """All files of a folder, by their path in it."""
    return {str(path.relative_to(folder)): path for path in Path(folder).rglob("*") if path.is_file()}


def predicted(x):
    """What the trained model predicts, in plain NumPy."""
    with np.load("run.npz") as weights:
        weights_1, bias_1, weights_2, bias_2 = weights.values()
    return np.tanh(x @ weights_1 + bias_1) @ weights_2 + bias_2


def require_right(folder="parts"):
    """Check that nothing else is there, and each row group against plain NumPy and the bits of its blocks alone."""
    written, model = parts(folder), RunFolder("run").model()
    assert sorted(written) == PARTS
    for name, groups in GROUPS.items():
        file = pq.ParquetFile(Path("data", name))
        for group in range(max(1, len(groups))):
            table = file.read_row_group(group) if groups else rows(0)
            part = pq.read_table(written[f"{name}.{group:05}.parquet"])
            expected = predicted(np.stack([table["x"], table["y"]], axis=1))[:, 0]
            np.testing.assert_allclose(part["z"], expected, rtol=1e-12)
            blocks = [model.predict(table.select(["x", "y"]).slice(start, 48)) for start in range(0, len(table), 48)]
            assert part["z"].to_numpy().tobytes() == np.concatenate([np.empty((0, 1)), *blocks]).tobytes()
            if "key" in part.column_names:
                assert part["key"].to_pylist() == table["key"].to_pylist()


def state():
    """What files are there, and when they were written."""
    return {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in parts().items()}


@pytest.mark.usefixtures("workplace")
def test_each_row_group_becomes_a_part_in_the_order_of_the_rows():
    printed = command("predict", "run", "data", "--out", "parts", "--keep", "key")
    assert printed == f"parts: {len(PARTS)} parts, {sum(map(sum, GROUPS.values()))} rows; this process wrote 8 parts\n"
    require_right()
    command("predict", "run", "data", "--out", "whole.parquet", "--keep", "key")
    whole = pq.read_table("whole.parquet")
    assert pa.concat_tables([pq.read_table(Path("parts", name)) for name in PARTS]).equals(whole)
    assert pq.read_table(Path("parts", "none.parquet.00000.parquet")).schema.equals(whole.schema)


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("workplace")
def test_several_runs_write_the_mean_of_their_predictions_and_any_process_may_be_killed():
    for run in ("run", "other"):
        command("predict", run, "data", "--out", f"of_{run}")
    flags = ["predict", "run", "other", "data", "--out", "parts", "--workers", "2"]
    command(*flags)
    name = "a.parquet.00001.parquet"
    Path("parts", name).unlink()
    Path("parts/.claims", f"{name}.1").write_text(f"{claims._machine()}\n")  # of a killed process
    assert command(*flags).startswith(f"parts: {len(PARTS)} parts, ")
    assert sorted(parts()) == PARTS
    for name in PARTS:
        one, two = (pq.read_table(Path(folder, name)).column("z").to_numpy() for folder in ("of_run", "of_other"))
        mean = pq.read_table(Path("parts", name)).column("z").to_numpy()
        np.testing.assert_array_equal(mean, np.mean([one, two], axis=0))
        assert not len(one) or not np.array_equal(one, two)
    said = command("predict", "run", "data", "--out", "parts", status=1)
    assert "is a part with another checkpoint" in said


@pytest.mark.usefixtures("workplace")
def test_a_pattern_and_a_file_have_the_parts_of_their_folder():
    command("predict", "run", "data/**/*.parquet", "--out", "parts")
    require_right()
    command("predict", "run", "data/year/b.parquet", "--out", "one")
    assert sorted(parts("one")) == ["b.parquet.00000.parquet", "b.parquet.00001.parquet"]


@pytest.mark.usefixtures("workplace")
def test_parts_that_are_there_are_skipped():
    command("predict", "run", "data", "--out", "parts")
    before = state()
    write_file(Path("data", "c.parquet"), [10, 20])
    assert command("predict", "run", "data", "--out", "parts").endswith("; this process wrote 2 parts\n")
    after = state()
    assert {name: after[name] for name in before} == before
    assert {*after} - {*before} == {"c.parquet.00000.parquet", "c.parquet.00001.parquet"}


@pytest.mark.parametrize("left", [0, 3, 200])
@pytest.mark.usefixtures("workplace")
def test_a_damaged_part_is_written_again(left):
    command("predict", "run", "data", "--out", "parts")
    damaged = Path("parts", "a.parquet.00002.parquet")
    damaged.write_bytes(damaged.read_bytes()[:left])
    assert command("predict", "run", "data", "--out", "parts").endswith("; this process wrote 1 parts\n")
    require_right()


@pytest.mark.share(1 / 3)
@pytest.mark.usefixtures("workplace")
def test_a_part_with_flipped_bits_is_written_again():
    command("predict", "run", "data/a.parquet", "--out", "parts", "--keep", "key")
    part = Path("parts", "a.parquet.00002.parquet")
    sound, expected, draws = part.read_bytes(), pq.read_table(part), random.Random(7)
    again = 0
    for place in draws.sample(range(len(sound)), 30):
        flipped = bytearray(sound)
        flipped[place] ^= 1 << draws.randrange(8)
        part.write_bytes(flipped)
        said = command("predict", "run", "data/a.parquet", "--out", "parts", "--keep", "key")
        again += "wrote 1 parts" in said
        assert pq.read_table(part).equals(expected), place
    assert again > 10


@pytest.mark.usefixtures("workplace")
def test_a_part_with_another_column_is_written_again():
    command("predict", "run", "data/a.parquet", "--out", "parts")
    part = Path("parts", "a.parquet.00002.parquet")
    table = pq.read_table(part)
    pq.write_table(table.rename_columns(["y"]).replace_schema_metadata(table.schema.metadata), part)
    assert command("predict", "run", "data/a.parquet", "--out", "parts").endswith("wrote 1 parts\n")
    assert pq.read_table(part).equals(table)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda: command("predict", "other", "data/a.parquet", "--out", "parts"), "checkpoint"),
        (lambda: command("predict", "run", "data/a.parquet", "--out", "parts", "--keep", "key"), "keep"),
        (lambda: None, "size and time"),
        (lambda: pq.write_table(rows(3), "parts/a.parquet.00000.parquet"), "checkpoint, target"),
    ],
    ids=["model", "keep", "data", "foreign"],
)
@pytest.mark.usefixtures("workplace")
def test_a_part_of_something_else_is_an_error_until_it_is_replaced(change, difference):
    Path("parts").mkdir()
    if difference == "size and time":
        command("predict", "run", "data/a.parquet", "--out", "parts")
        write_file(Path("data", "a.parquet"), GROUPS["a.parquet"], 77)
    else:
        change()
    before = state()
    printed = command("predict", "run", "data", "--out", "parts", status=1)
    assert f"parts/a.parquet.00000.parquet is a part with another {difference}" in printed
    assert f"Error: parts: files or parts of data without predictions: {len(before)}; " in printed
    assert {name: value for name, value in state().items() if name in before} == before
    assert sorted(parts()) == sorted({*before, *PARTS} if len(before) > 1 else PARTS)
    printed = command("predict", "run", "data", "--out", "parts", "--overwrite")
    assert printed.endswith(f"; this process wrote {len(before)} parts\n")
    require_right()
    assert command("predict", "run", "data", "--out", "parts", "--overwrite").endswith("; this process wrote 0 parts\n")


@pytest.mark.usefixtures("workplace")
def test_a_file_that_cannot_be_predicted_is_named_and_the_others_are_written():
    pq.write_table(rows(20).drop_columns(["y"]), "data/short.parquet", row_group_size=5)
    pq.write_table(pa.table({"x": [1.0, np.nan], "y": [1.0, 2.0]}), "data/nan.parquet", row_group_size=1)
    Path("data", "text.parquet").write_text("no table")
    printed = command("predict", "run", "data", "--out", "parts", status=1)
    missing, unreadable = "data/short.parquet must have the columns", "data/text.parquet is not a Parquet file"
    assert printed.count(missing) == printed.count(unreadable) == 1
    assert printed.count("Error: data/nan.parquet, row group 1: ") == 1
    assert "row 0 (1 of 2 values); drop the rows" in printed
    assert "; rows count from row 1 of the data" in printed
    assert printed.endswith("of data without predictions: 6; the first error of each kind is above\n")
    Path("parts", "nan.parquet.00000.parquet").unlink()
    require_right()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run empty --out parts", "Parquet: the folder 'empty' has no file that ends in .parquet"),
        ("run no/*.parquet --out parts", "Parquet: no file has the path 'no/*.parquet'"),
        ("run known.csv --out parts", "--out parts is a folder, which is written from Parquet files; got known.csv;"),
        ("run data --out data", "--out data: its parts would be read as files of data; give a folder outside of it"),
        ("run data --out data/year/parts", "--out data/year/parts: its parts would be read as files of data; "),
        ("run data/**/*.parquet --out data/year", "--out data/year: its parts would be read as files of data/**"),
        ("run data --out known.parquet/parts", "--out known.parquet/parts must be a folder that can be written; "),
        ("run data --out all.csv --workers 2", "--workers is for a folder of parts; --out all.csv is one file"),
        ("empty data --out parts", "'empty' is not the folder of a run"),
    ],
)
@pytest.mark.usefixtures("workplace")
def test_what_cannot_be_done_is_refused_before_anything_changes(arguments, message):
    Path("empty").mkdir()
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert message in command("predict", *arguments.split(), status=1)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_a_name_without_an_ending_or_a_folder_that_is_there_is_a_folder(tmp_path):
    (tmp_path / "v1.2").mkdir()
    assert is_folder(str(tmp_path / "v1.2"))
    assert is_folder(f"{tmp_path}/v1.3/")
    assert not is_folder(str(tmp_path / "a.xls"))


DIE = """
import os, signal, sys
from framework.experiments import predictions
from framework.experiments.folder import RunFolder

predictions.BLOCK_ROWS, place, left = 48, sys.argv[1], int(sys.argv[2])

def dying(after, function):
    def call(*arguments):
        global left
        left -= 1
        if after:
            function(*arguments)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return None if after else function(*arguments)
    return call

if place == "block":
    predictions.columns_of = dying(False, predictions.columns_of)  # with a part of a file written
else:
    os.replace = dying(place == "after", os.replace)
predictions.write_parts([RunFolder("run")], "data", "parts", report=print)
"""


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("workplace")
def test_a_killed_process_leaves_whole_parts_and_the_next_one_goes_on(seed):
    draw = random.Random(seed)
    for _ in range(2):
        place = draw.choice(["block", "before", "after"])
        done = subprocess.run([sys.executable, "-c", DIE, place, str(draw.randint(1, 4))], timeout=120, check=False)
        assert done.returncode == -signal.SIGKILL
        for name, path in parts().items():
            if not name.startswith(".claims") and not Path(name).name.startswith("."):
                pq.read_table(path)
    assert any(name.startswith(".claims") for name in parts())  # the claim of the last one
    command("predict", "run", "data", "--out", "parts")
    require_right()


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("workplace")
def test_two_processes_write_each_part_once():
    shutil.rmtree("data")
    write_file(Path("data", "many.parquet"), [20] * 40)
    start = [sys.executable, "-m", "framework", "predict", "run", "data", "--out", "parts"]
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    counts = []
    for each in both:
        printed, _ = each.communicate(timeout=120)
        assert each.returncode == 0
        assert printed.startswith("parts: 40 parts, 800 rows; this process wrote ")
        counts.append(int(printed.split()[-2]))
    assert sum(counts) == 40
    assert len(parts()) == 40


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("workplace")
def test_workers_write_all_parts_and_errors_are_told_once():
    Path("data", "text.parquet").write_text("no table")
    printed = command("predict", "run", "data", "--out", "parts", "--workers", "2", status=1)
    assert printed.count("data/text.parquet is not a Parquet file") == 1
    require_right()
    Path("data", "text.parquet").unlink()
    assert command("predict", "run", "data", "--out", "parts").endswith("; this process wrote 0 parts\n")


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("workplace")
def test_parts_of_killed_workers_are_written():
    Path("dies.py").write_text(
        f"import os, signal\nif os.getpid() != {os.getpid()}:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    printed = command("predict", "run", "data", "--out", "parts", "--workers", "2", "--import", "dies")
    assert "Warning: 2 of 2 processes were ended; this one writes missing parts\n" in printed
    require_right()


def claimed(machine, name="a.parquet.00000.parquet"):
    claim = Path("parts", ".claims", f"{name}.1")
    claim.parent.mkdir(parents=True, exist_ok=True)
    claim.write_text(f"{machine}\n")
    return claim


def write():
    return write_parts([RunFolder("run")], "data", "parts", report=pytest.fail)


@pytest.mark.usefixtures("workplace")
def test_a_claim_of_a_process_of_this_machine_that_has_ended_is_taken_over(monkeypatch):
    monkeypatch.setattr(predictions.time, "sleep", lambda _: pytest.fail("it waits"))
    claimed(claims._machine())
    claimed(claims._machine(), "year/b.parquet.00000.parquet")
    assert write().written == len(PARTS)
    require_right()


@pytest.mark.parametrize("machine", ["elsewhere", ""])
@pytest.mark.usefixtures("workplace")
def test_a_claim_is_taken_over_when_it_has_not_been_renewed_for_long(monkeypatch, machine):
    clock, waits = [1000.0], []
    claim = claimed(machine)

    def sleep(_):
        waits.append(clock[0])
        clock[0] += 100
        if len(waits) < 5:  # its holder is at work
            os.utime(claim, ns=(0, len(waits)))

    monkeypatch.setattr(predictions.time, "sleep", sleep)
    monkeypatch.setattr(predictions.time, "monotonic", lambda: clock[0])
    assert write().written == len(PARTS)
    assert len(waits) == 4 + math.ceil(claims.SILENCE / 100)
    require_right()


@pytest.mark.usefixtures("workplace")
def test_a_part_that_another_process_writes_is_awaited(monkeypatch):
    write_parts([RunFolder("run")], "data", "theirs", report=pytest.fail)
    claim = claimed("elsewhere")

    def sleep(_):
        shutil.copy(Path("theirs", "a.parquet.00000.parquet"), "parts")
        claim.unlink()

    monkeypatch.setattr(predictions.time, "sleep", sleep)
    found = write()
    counts = (found.count, found.rows, found.written, found.failed)
    assert counts == (len(PARTS), sum(map(sum, GROUPS.values())), len(PARTS) - 1, 0)
    require_right()


@pytest.mark.usefixtures("workplace")
def test_a_process_whose_claim_was_taken_over_goes_on(monkeypatch):
    blocks = predictions.blocks
    monkeypatch.setattr(claims, "lock", lambda *_, **__: True)

    def taken(*arguments):
        monkeypatch.setattr(predictions, "blocks", blocks)
        for block in blocks(*arguments):
            yield block
            write()  # as a process that takes this one for ended; it clears its temporary file away

    monkeypatch.setattr(predictions, "blocks", taken)
    write()
    require_right()


@pytest.mark.usefixtures("workplace")
def test_a_file_that_changes_meanwhile_is_an_error(monkeypatch):
    written = predictions.write_table

    def changing(*arguments):
        found = written(*arguments)
        write_file(Path("data", "a.parquet"), [8])
        return found

    monkeypatch.setattr(predictions, "write_table", changing)
    errors = []
    found = write_parts([RunFolder("run")], "data/a.parquet", "parts", report=errors.append)
    assert (found.written, found.failed) == (1, 3)
    assert [*map(str, errors)] == ["data/a.parquet was changed after the command began; start the command again"]


@pytest.mark.usefixtures("workplace")
def test_a_part_says_what_it_was_made_of():
    command("predict", "run", "data", "--out", "parts", "--keep", "key")
    about = json.loads(pq.read_schema(Path("parts", "a.parquet.00002.parquet")).metadata[b"framework.predictions"])
    assert len(about.pop("checkpoint")) == 64
    size, time = Path("data", "a.parquet").stat().st_size, Path("data", "a.parquet").stat().st_mtime_ns
    assert about == {
        "target": ["z"],
        "keep": ["key"],
        "file": "a.parquet",
        "size and time": f"{size} {time}",
        "row group": 2,
        "rows": 37,
    }


@pytest.mark.usefixtures("workplace")
def test_of_many_kinds_of_errors_ten_are_printed():
    Path("bad").mkdir()
    for number in range(12):
        pq.write_table(pa.table({f"column {number}": [1.0]}), Path("bad", f"{number:02}.parquet"))
    printed = command("predict", "run", "bad", "--out", "parts", status=1)
    assert printed.count("must have the columns") == 10
    assert printed.endswith("without predictions: 12; the first errors of 10 of 12 kinds are above\n")


@pytest.mark.usefixtures("workplace")
def test_of_errors_that_differ_in_the_names_of_files_one_is_printed():
    printed = command("predict", "run", "data", "--out", "parts", "--keep", "nothing", status=1)
    assert printed.count("must have the columns of --keep; there is no 'nothing'") == 1
    assert printed.endswith(f"without predictions: {len(PARTS)}; the first error of each kind is above\n")
    command("predict", "run", "data", "--out", "parts")
    printed = command("predict", "run", "data", "--out", "parts", "--keep", "key", status=1)
    assert printed.count(" is a part with another keep: ") == 1


@pytest.mark.usefixtures("workplace")
def test_one_kind_of_damage_is_printed_once():
    Path("bad").mkdir()
    content = bytearray(Path("data", "a.parquet").read_bytes())
    content[4:40] = bytes(36)
    for name in ("a.parquet", "b.parquet"):
        Path("bad", name).write_bytes(content)
    printed = command("predict", "run", "bad", "--out", "parts", status=1)
    assert printed.count("cannot be read") == 1
