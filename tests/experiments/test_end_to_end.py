"""From a CSV file to predictions in a CSV file by commands alone: those of the README, and each way they may vary."""

import csv
import re
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from experiment_pieces import command

import framework
from framework import Experiment, load_model
from framework.data.sources import hold_out
from framework.experiments.files.text import read_settings
from framework.training.checkpoint import latest

pytestmark = pytest.mark.share(1 / 3)

ROOT = Path(framework.__file__).parents[1]


def table(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of examples/tables.py."""
    folder = tmp_path_factory.mktemp("tables")
    example = runpy.run_path(str(ROOT / "examples" / "tables.py"))
    example["cancer"](folder)
    example["digits"](folder)
    return folder


README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands_of_the_readme():
    section = README.partition("## Your own table")[2]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)[1]
    return [line.partition("#")[0].split() for line in block.splitlines() if line.startswith("framework ")]


def test_the_commands_of_the_readme_predict_breast_cancer(tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cancer.csv", "cancer_test.csv"):
        Path(name).write_bytes((tables / name).read_bytes())
    commands = commands_of_the_readme()
    assert [each[1] for each in commands] == ["new", "train", "evaluate", "predict"]
    printed = [command(*each[1:]) for each in commands]
    assert "The loss is of" not in printed[2]  # classes have no other unit
    accuracy = float(re.search(r"accuracy +(\S+)", printed[2])[1])
    assert f"# accuracy {accuracy:.3f}," in README
    truth, found = table("cancer_test.csv"), table("predictions.csv")
    right = np.mean([a == b for a, b in zip(truth["diagnosis"], found["diagnosis"], strict=True)])
    assert accuracy == pytest.approx(right, abs=1e-6)
    assert right > 0.93
    shares = np.array([found["diagnosis=benign"], found["diagnosis=malignant"]], float)
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, rtol=1e-6)  # of float32
    assert [["benign", "malignant"][place] for place in shares.argmax(axis=0)] == found["diagnosis"]


def test_digits_from_a_table_of_another_order_and_format(tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("new", tables / "digits.csv", "--target", "digit")
    command("train", "digits.toml", "--out", "run", "--set", "trainer.epochs=12")
    assert (
        float(re.search(r"accuracy +(\S+)", command("evaluate", "run", "--data", tables / "digits_test.csv"))[1]) > 0.9
    )
    command("predict", "run", tables / "digits_test.csv")
    test = pa.csv.read_csv(tables / "digits_test.csv")
    turned = test.select([*reversed(test.column_names)]).drop_columns("digit")
    pa.parquet.write_table(turned, "test.parquet")
    command("predict", "run", "test.parquet", "--out", "more.parquet", "--keep", "pixel_0_2")
    found, more = pa.csv.read_csv("predictions.csv"), pa.parquet.read_table("more.parquet")
    assert more.column_names == ["pixel_0_2", *found.column_names]
    assert more["pixel_0_2"].equals(test["pixel_0_2"])
    assert more["digit"].cast(pa.int64()).equals(found["digit"])
    assert more["digit=3"].type == pa.float32()
    np.testing.assert_array_equal(more["digit=3"], np.array(found["digit=3"], np.float32))
    model = load_model(latest("run/checkpoints"))
    np.testing.assert_array_equal(model.predict(turned)[:, 3], more["digit=3"])
    np.testing.assert_array_equal(model.classify(turned), more["digit"])


def test_new_writes_what_it_says_for_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    x = generator.normal(size=300)
    columns = {"x": x, "day": np.datetime64("2020-01-01") + np.arange(300), "price": 3 * x + 100}
    pa.csv.write_csv(pa.table(columns), "prices.csv")
    command("new", "prices.csv", "--target", "price")
    text = Path("prices.toml").read_text()
    assert "# prices.csv: 300 rows; 1 number column, 1 date column\n# price: a number\n" in text
    assert 'holdout = "last" ' in text
    command("train", "prices.toml", "--set", "trainer.epochs=40", "--set", 'trainer.preprocess.columns.day=["Drop"]')
    evaluated = command("evaluate", "runs/prices-1")
    assert float(re.search(r"r2 +(\S+)", evaluated)[1]) > 0.9
    assert "The loss is of 'price' after Standardize; the metrics are in the unit of 'price'." in evaluated
    command("predict", "runs/prices-1", "prices.csv", "--keep", "x", "--keep", "day")
    found = pa.csv.read_csv("predictions.csv")
    assert found.column_names == ["x", "day", "price"]
    assert np.corrcoef(found["price"], columns["price"])[0, 1] > 0.97  # in the unit of the target
    assert np.mean(np.abs(found["price"] - columns["price"])) < 1.5


def test_a_typing_error_in_a_held_out_row_does_not_end_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=400)
    y = 3 * x + 100
    held_out = hold_out((x, np.arange(400)), 0.2, 0, "hold_out")[1].given[1]
    x[held_out[0]] *= 1000
    pa.csv.write_csv(pa.table({"x": x, "y": y}), "a.csv")
    command("new", "a.csv", "--target", "y")
    command("train", "a.toml", "--out", "run")
    command("predict", "run", "a.csv")
    clean = np.arange(400) != held_out[0]
    errors = pa.csv.read_csv("predictions.csv")["y"].to_numpy() - y
    assert np.sqrt(np.mean(errors[clean] ** 2)) < 1.2  # 2.5 without Clip; the deviation of y is 3
    assert abs(errors[held_out[0]]) < 30


def test_names_of_columns_and_classes_cannot_leave_their_comment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = 'x\n[trainer]\nepochs = 1 # "\\'
    names = [evil, "a.b", 'q"', "ü =", "n"]
    rows = [[number, 1.5 * number, -number, number % 7, "a\nepochs = 9" if number % 2 else "b"] for number in range(60)]
    with Path("evil.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([names, *rows])
    command("new", "evil.csv", "--target", "n")
    settings = tomllib.loads(Path("evil.toml").read_text(encoding="utf-8"))
    assert settings["trainer"]["epochs"] == 200
    assert Experiment.read("evil.toml").data.target == "n"
    command("train", "evil.toml", "--set", "trainer.epochs=1")


def test_every_comment_of_a_new_file_stays_true(tables, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = command("new", tables / "cancer.csv", "--target", "diagnosis", "--out", "-")
    assert "427 rows; 1 text column, 30 number columns" in text
    assert "2 classes: benign (268 rows), malignant (159 rows)" in text
    assert 'clinic = ["OneHot"]  # 3 levels, ' in text
    settings, lines = read_settings(text, "cancer.toml")
    assert text.splitlines()[lines["trainer", "loss"] - 1] == 'loss = "BinaryCrossEntropy"'
    assert settings["model"]["layers"][-1] == {"type": "Neuron", "activation": "Sigmoid"}
    assert settings["trainer"]["engine"] == "auto"
    assert not [*tmp_path.iterdir()]


def lines(path, *rows):
    Path(path).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("labels", [("00", "01"), ("true", "false"), ("1", "2.0"), ("yes", "no")])
def test_a_label_is_predicted_as_its_cell_is_written(labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{number * number % 61},{labels[number % 2]}" for number in range(60)]
    lines("a.csv", "x,label", *rows)
    command("new", "a.csv", "--target", "label")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    command("predict", "run", "a.csv")
    found = Path("predictions.csv").read_text().splitlines()
    assert found[0] == ",".join(f'"{name}"' for name in ["label", *(f"label={label}" for label in sorted(labels))])
    assert {line.split(",")[0].strip('"') for line in found[1:]} <= {*labels}


@pytest.mark.parametrize("text", [["code", "y"], ["y"], []])
def test_a_file_of_one_row_without_target_is_read_as_the_training_data(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{['1', '2', 'A7'][number % 3]},{number},{number % 2}" for number in range(60)]
    lines("a.csv", "code,x,y", *rows)
    command("new", "a.csv", "--target", "y")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1", "--set", f"data.text={text}")
    command("predict", "run", "a.csv", "--out", "whole.csv")
    lines("one.csv", "x,code", "4,2")
    command("predict", "run", "one.csv", "--out", "one_predicted.csv")
    assert Path("one_predicted.csv").read_text().splitlines()[1] == Path("whole.csv").read_text().splitlines()[5]
    lines("two.csv", "x,code,y", "4,2,0", "7,1,1")
    assert "accuracy" in command("evaluate", "run", "--data", "two.csv")


def test_files_without_a_line_of_names_may_lack_the_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{number % 7},{number},{'ab'[number % 2]}" for number in range(60)]
    lines("a.csv", "p,q,y", *rows)
    command("new", "a.csv", "--target", "y")
    lines("bare.csv", *rows)
    names = ["--set", 'data.header=["p", "q", "y"]', "--set", "data.path=bare.csv"]
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1", *names)
    command("predict", "run", "bare.csv", "--out", "whole.csv")
    lines("less.csv", *(row.rpartition(",")[0] for row in rows))
    command("predict", "run", "less.csv", "--out", "less_predicted.csv")
    assert Path("less_predicted.csv").read_text() == Path("whole.csv").read_text()


def test_a_missing_column_of_text_is_named_as_a_column_and_not_as_a_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines("whole.csv", "x,sex,y", *(f"{row}.5,{'fm'[row % 2]},{row % 3}" for row in range(20)))
    command("new", "whole.csv", "--target", "y", "--task", "number", "--out", "a.toml")
    command("train", "a.toml", "--out", "run", "--set", "trainer.epochs=1")
    lines("less.csv", "x,y", "1.5,1")
    lines("other.csv", "x;Sex;y", "1.5;f;1")
    said = "must have the columns that the model was trained with; there is no "
    for arguments in (("predict", "run", "less.csv"), ("evaluate", "run", "--data", "less.csv")):
        assert command(*arguments, status=1) == f"Error: less.csv {said}'sex'. Columns: x, y\n"
    hint = "'x'; the line of names has no ',': write --set 'data.delimiter=;'"
    assert command("predict", "run", "other.csv", status=1) == f"Error: other.csv {said}{hint}\n"
    assert command("predict", "run", "other.csv", "--set", "data.delimiter=;", status=1) == (
        f"Error: other.csv {said}'sex'; did you mean 'Sex'?\n"
    )
