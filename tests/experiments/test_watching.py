"""framework watch: what it reads while a run writes, what it shows, and when it ends."""

import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from experiment_pieces import command

import framework.experiments.views.watching
from framework.base import UsageError
from framework.experiments.views.watching import HEIGHT, Tail, braille, sparkline, watch


def line(epoch, **figures):
    return json.dumps({"epoch": epoch, "loss": 1 / epoch, "val_loss": 2 / epoch, "seconds": 0.5} | figures) + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a run of 4 epochs that has not begun."""
    monkeypatch.chdir(tmp_path)
    make("run")
    return tmp_path / "run"


def make(name):
    Path(name).mkdir()
    Path(name, "experiment.toml").write_text('[trainer]\nepochs = 4\nloss = "own:Loss"\n')
    Path(name, "run.json").write_text(json.dumps({"history": "history.jsonl", "checkpoints": "checkpoints"}))


def write(folder, *lines):
    with (folder / "history.jsonl").open("a") as file:
        file.writelines(lines)


def end(folder, reason=None):
    (folder / "metrics.json").write_text(json.dumps({"epochs": 4, "stop_reason": reason, "validation": {}}))


@pytest.fixture
def meanwhile(monkeypatch):
    """Do something each time the watcher waits, then end the run."""

    def plan(*actions):
        left = [*actions]

        def sleep(_):
            assert left, "it watches on, though the run has ended"
            left.pop(0)()

        monkeypatch.setattr(framework.experiments.views.watching.time, "sleep", sleep)
        return left

    return plan


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def shown(text):
    """The rows of a printed table, by their first cells."""
    rows = [cells for cells in map(str.split, text.splitlines()) if cells]
    return {cells[0]: cells[1:] for cells in reversed(rows)}  # the first of each name


def test_lines_are_read_once_they_are_whole(tmp_path):
    path = tmp_path / "history.jsonl"
    tail = Tail(path)
    assert (tail.read(), tail.rows.rows) == (False, [])
    path.write_bytes(b'{"epoch": 1, "gr\xc3')
    assert (tail.read(), tail.rows.rows) == (False, [])
    path.write_bytes('{"epoch": 1, "größe": 2}\n{"ep'.encode())
    assert (tail.read(), tail.rows.rows) == (True, [{"epoch": 1, "größe": 2}])
    assert not tail.read()
    path.write_bytes('{"epoch": 1, "größe": 2}\n{"epoch": 2}\n'.encode())
    assert (tail.read(), tail.rows.rows) == (True, [{"epoch": 1, "größe": 2}, {"epoch": 2}])


@pytest.mark.parametrize("longer", [False, True])
def test_a_file_that_another_run_has_written_anew_is_read_anew(tmp_path, longer):
    path = tmp_path / "history.jsonl"
    path.write_text(line(1) + line(2))
    tail = Tail(path)
    tail.read()
    other = [line(1, seconds=0.7), *([line(2, seconds=0.8), line(3)] if longer else [])]
    path.write_text("".join(other))
    assert tail.read()
    assert tail.rows.rows == [*map(json.loads, other)]
    path.unlink()
    assert (tail.read(), tail.rows.rows) == (True, [])


def test_the_rows_that_a_resumed_run_writes_again_come_once(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(line(1) + line(2) + '{"epoch": 3, "lo')
    tail = Tail(path)
    tail.read()
    path.write_text(line(1) + line(2) + line(3))
    tail.read()
    assert [row["epoch"] for row in tail.rows] == [1, 2, 3]


def test_a_line_that_is_not_json_is_left_out(tmp_path):
    path = tmp_path / "history.jsonl"
    odd = "half a li\n[3]\n" + "[" * 100_000 + "\n"
    path.write_text(line(1) + odd + line(2, loss="low") + line(3, val_loss=10**400))
    tail = Tail(path)
    tail.read()
    assert [row["epoch"] for row in tail.rows] == [1, 2, 3]
    assert math.isnan(tail.rows[1]["loss"])


def test_columns_are_those_of_all_rows_also_of_a_file_that_is_replaced(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text(line(1) + line(2, late=7.0, val_loss=None))
    tail = Tail(path)
    tail.read()
    np.testing.assert_array_equal(tail.rows.columns()["late"], [math.nan, 7.0])
    np.testing.assert_array_equal(tail.rows.columns()["val_loss"], [2.0, math.nan])
    path.write_text(line(1))
    tail.read()
    assert {key: column.tolist() for key, column in tail.rows.columns().items()} == {
        key: [value] for key, value in json.loads(line(1)).items()
    }


def test_times_that_are_not_finite_are_left_out(folder):
    write(folder, line(1, seconds=math.nan), line(2, seconds=math.inf), line(3))
    assert "500 ms an epoch, 500 ms left" in command("watch", "run", "--once")


def test_once_prints_the_figures_of_a_folder_or_of_a_file_and_ends(folder):
    write(folder, line(1, loss=9.0), line(2), line(3, loss=None), '{"epoch": 4, "lo')
    for path in (folder, folder / "history.jsonl"):
        rows = shown(command("watch", path, "--once"))
        assert rows["loss"][:5] == ["not", "finite", "0.5", "2", "9"]
        assert rows["val_loss"][:5] == ["0.66667", "0.66667", "3", "2", "1"]
        assert rows[path.name][:2] == ["epoch", "3/4" if path == folder else "3"]
    end(folder, "EarlyStopping: val_loss was best")
    assert "complete: EarlyStopping: val_loss was best" in command("watch", folder, "--once")
    assert "'nowhere' is neither the folder of a run" in command("watch", "nowhere", "--once", status=1)


def test_a_narrow_screen_shortens_the_curve_and_no_figure(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name, cells in [("val_accuracy", 5), ("val_mean_absolute_error", 2)]:  # the longer one leaves out the largest
        write(folder, *(line(epoch, **{name: -1.2345e-5}) for epoch in range(1, 40)))
        text = command("watch", folder, "--once")
        assert shown(text)[name][:-1] == ["-1.2345e-05", "-1.2345e-05", "1", "-1.2345e-05", "1"][:cells]
        assert "\u2026" not in text


def test_several_runs_are_the_rows_of_a_table(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    make("other")
    write(folder, line(1), line(2))
    write(Path("other"), *map(line, (1, 2, 3, 4)))
    end(Path("other"), "EarlyStopping: a long reason: with colons")
    text = command("watch", "run", "other", "--once")
    rows = shown(text)
    assert rows["run"] == ["epoch", "val_loss", "loss", "curve", "state"]
    assert ["run", "2/4", "1", "0.5"] in [row.split()[:4] for row in text.splitlines()]
    assert rows["other"][:3] == ["4/4", "0.5", "0.25"]
    assert rows["other"][-2:] == ["complete:", "EarlyStopping"]
    assert "long reason" not in text


def test_runs_without_figures_have_no_curves(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n')
    shown = command("watch", path, path, "--once")
    assert shown.count("history.jsonl") == 2
    assert "⠀" not in shown


def test_a_figure_that_a_run_does_not_have_is_left_out_and_a_null_is_not_finite(folder, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    make("other")
    write(folder, line(1), line(2))
    write(Path("other"), line(1, f1=0.25), line(2, f1=None))
    rows = {row.split()[0]: row for row in command("watch", "run", "other", "--once").splitlines() if row.split()}
    assert "not finite" in rows["other"]
    assert "not finite" not in rows["run"]


def test_a_pipe_gets_what_is_there_and_a_line_for_each_new_epoch(folder, meanwhile):
    write(folder, line(1), line(2))
    left = meanwhile(
        lambda: write(folder, line(3)[:20]),
        lambda: write(folder, line(3)[20:] + line(4)),
        lambda: end(folder, "enough"),
    )
    stream = io.StringIO()
    watch([folder], stream=stream)
    table, _, lines = stream.getvalue().partition("run: epoch 3: ")
    assert shown(table)["loss"][:3] == ["0.5", "0.5", "2"]
    assert lines.splitlines() == [
        "loss=0.33333, val_loss=0.66667",
        "run: epoch 4: loss=0.25, val_loss=0.5",
        "run: complete: enough",
    ]
    assert not left


@pytest.mark.usefixtures("folder")
def test_a_terminal_is_drawn_until_the_run_ends_from_before_its_folder_is_there(meanwhile, terminal):
    def begin():
        make("later")

    later = Path("later")
    meanwhile(begin, lambda: write(later, line(1), line(2)), lambda: write(later, line(3)), lambda: end(later))
    watch([later], stream=terminal)
    text = terminal.getvalue()
    places = [text.find(part) for part in ("nothing is there yet", "waiting for its first", "epoch 2/4", "complete")]
    assert -1 not in places
    assert places == sorted(places)
    assert "500 ms an epoch, 1 s left" in text


def test_ctrl_c_ends_it_without_an_error(folder, meanwhile):
    def interrupt():
        raise KeyboardInterrupt

    write(folder, line(1))
    meanwhile(interrupt)
    assert "epoch 1/4" in command("watch", folder, status=0)


def test_a_run_that_writes_no_more_lines_says_since_when(folder, monkeypatch):
    write(folder, line(1))
    now = (folder / "history.jsonl").stat().st_mtime
    monkeypatch.setattr(framework.experiments.views.watching.time, "time", lambda: now + 600)
    assert "no new line for 10 min 0 s" in command("watch", folder, "--once")


def test_names_are_text_and_an_output_without_such_characters_gets_others(folder):
    write(folder, *(line(epoch, **{"[red]x": 1.0, "\x1b[31mred": 2.0}) for epoch in (1, 2)))
    assert "[red]x" in command("watch", folder, "--once")
    assert "\x1b" not in command("watch", folder, "--once")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    watch([folder], once=True, stream=stream)
    stream.flush()
    assert b"loss" in stream.buffer.getvalue()


def test_without_rich_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(UsageError, match="framework watch needs rich: pip install rich"):
        watch([folder])


def dots(curves, width, low, high):
    """The dots of a plot, as an array of booleans."""
    lines = ["".join(text for text, _ in parts) for parts in braille(curves, width, HEIGHT, low, high)]
    cells = np.array([[ord(char) - 0x2800 if char != " " else 0 for char in text] for text in lines])
    bits = np.array([[0, 3], [1, 4], [2, 5], [6, 7]])
    return ((cells[:, None, :, None] >> bits[None, :, None, :]) & 1).astype(bool).reshape(4 * HEIGHT, 2 * width)


def test_a_plot_of_a_line_is_that_line():
    height = 4 * HEIGHT
    plot = dots([(np.arange(height, dtype=float), "red")], height // 2, 0.0, height - 1.0)
    rising = np.eye(height, dtype=bool)[::-1]
    assert (plot & rising).sum() == height
    assert not (plot & ~(rising | np.roll(rising, 1, axis=1))).any()  # beside it only what joins two values


def test_a_plot_keeps_the_peak_of_many_values_and_leaves_gaps():
    values = np.zeros(10_000)
    values[6_000] = 1.0
    values[2_000:3_000] = np.nan
    plot = dots([(values, "red")], 50, 0.0, 1.0)
    assert plot[0].nonzero()[0].tolist() in ([59], [60], [60, 61])
    assert not plot[:, 21:29].any()
    assert plot[-1, :19].all()


def test_values_of_any_size_can_be_drawn():
    huge = np.array([-1.7e308, 1.7e308, np.inf, np.nan])
    assert sparkline(huge, 10) == "▁█  "
    assert sparkline(np.array([np.nan]), 10) == " "
    assert sparkline(np.array([3.0, 3.0]), 10) == "▁▁"
    plot = dots([(huge, "red")], 4, -1.7e308, 1.7e308)
    assert plot[-1, 0]
    assert plot[0, 1:5].any()
