"""Errors are data, and one file has the texts of many of them: ``pytest tests/base/test_errors.py --update-errors``."""

import copy
import gc
import pickle
import re
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from base.settings.test_refused_settings import ALL as SETTINGS
from test_refused_calls import ALL as CALLS

from framework import (
    Accuracy,
    Activation,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    EarlyStopping,
    Embedding,
    Layer,
    Loss,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Trainer,
    describe,
    load,
    load_model,
    split,
)
from framework.base.errors import (
    Advice,
    CheckpointError,
    DataError,
    DivergedError,
    FrameworkError,
    Setting,
    SettingsError,
    Text,
    within,
)
from framework.data import CSV, NPY, Parquet
from framework.experiments.experiment import Experiment
from framework.experiments.files.text import parse_change
from framework.experiments.tables import render_for_command, table_of, table_read_as
from framework.formulas import OutputLosses
from framework.models import Conv2D, Reshape
from framework.preprocessing import OneHot, Preprocess, Standardize
from framework.sklearn import NeuralClassifier
from framework.training.parallel.workers import failure_of

FILE = Path(__file__).parents[1] / "errors.txt"
X, Y = np.arange(12.0).reshape(6, 2), np.array([0.0, 1.0] * 3)
NAN_X = np.where(X == 5.0, np.nan, X)
TABLE = pd.DataFrame({"age": [31.0, 25.0, 40.0], "city": ["Rome", "Oslo", "Rome"]})


def trainer(**settings):
    return Trainer(**{"loss": BinaryCrossEntropy(), "optimizer": SGDOptimizer(learning_rate=0.1)} | settings)


def fit(data=(X, Y), model=None, validation=None, **settings):
    return trainer(**settings).fit(model or Neuron(2, Sigmoid()), data, validation)


def csv(text, **settings):
    Path("a.csv").write_text(text, encoding="utf-8")
    return CSV("a.csv", **settings)


def experiment(text, *changes):
    Path("e.toml").write_text(text, encoding="utf-8")
    return Experiment.read("e.toml", changes)


def fitted(**columns):
    return Preprocess(columns=columns).fit(TABLE)


def layer(formula):
    return type("Own", (Layer,), {"formula": lambda _, x: formula(x)})()


def checkpoint(contents):
    Path("run.safetensors").write_bytes(contents)
    return load("run.safetensors")


class Odd(Activation):
    def __call__(self, h):
        return np.linalg.eigvals(h)


class Looping(Loss):
    def value(self, prediction, target):
        return sum(prediction - target)


MODEL = '[data]\ntype = "CSV"\npath = "a.csv"\ntarget = "y"\n[model]\ntype = "Sequential"\n'
LAYERS = 'layers = [{type = "Dense", units = 1}]\n'
TRAINER = '[trainer]\nloss = "MeanSquaredError"\noptimizer = {type = "SGDOptimizer", learning_rate = 0.1}\n'
WHOLE = MODEL + LAYERS + TRAINER
OTHERS = [
    lambda: fit((NAN_X, Y)),
    lambda: fit((X, Y), validation=(NAN_X, Y)),
    lambda: fit((NAN_X, Y), validation=0.5),
    lambda: fit((X, Y + 2)),
    lambda: fit((X, Y[:5])),
    lambda: fit((X, Y), Neuron(3)),
    lambda: fit((X[:0], Y[:0])),
    lambda: fit(([["a", "b"]] * 6, Y)),
    lambda: fit((X[:, 0], Y)),
    lambda: fit((X, Y, -Y)),
    lambda: fit((X, Y, Y[:3])),
    lambda: fit((TABLE, "income")),
    lambda: fit((TABLE, [0, 1, 0])),
    lambda: fit((X, Y), callbacks=[EarlyStopping(monitor="val_loss")]),
    lambda: fit((X, Y), callbacks=[EarlyStopping(monitor="val_los")], validation=(X, Y)),
    lambda: fit((X, Y), callbacks=[EarlyStopping(monitor="loss", mode="max")]),
    lambda: fit((X, Y), Sequential(Embedding(3, 2), Dense(units=1))),
    lambda: fit((X, Y + 1), Dense(2, 2, Softmax()), loss=CrossEntropy()),
    lambda: fit((X, Y), loss=OutputLosses(price=MeanSquaredError())),
    lambda: fit((X, Y), Neuron(2, Odd())),
    lambda: fit((X, Y), loss=Looping()),
    lambda: Trainer.fit_many(trainer(), [Neuron(2), Neuron(2)], (X, Y), seeds=[0, -1]),
    lambda: Trainer.fit_many(trainer(), [Neuron(2)], (X, Y), optimizers=["adam"]),
    lambda: trainer().predict(Neuron(2), NAN_X),
    lambda: trainer().evaluate(Neuron(2), (X, NAN_X)),
    lambda: split((X, Y), 2.0),
    lambda: split((X, Y), stratify="yes"),
    lambda: Sequential(Dense(units=3), "relu"),
    lambda: Sequential(Dense(2, 3), Dense(4, 1))(X),
    lambda: Sequential(Reshape(shape=(5,)))(X),
    lambda: Conv2D(filters=2, kernel=5)(np.zeros((1, 3, 2, 2))),
    lambda: layer(lambda x: x.sum())(X),
    lambda: layer(lambda x: x - x.mean(axis=0))(X),
    lambda: layer(np.linalg.inv)(X),
    lambda: layer(lambda x: x if x.any() else -x)(X),
    lambda: Neuron(2).parameters["wieghts"],
    lambda: SGDOptimizer(Neuron(2), learning_rate=0.1, momentun=0.9),
    lambda: Dense.from_json('{"type": "Dense", "units": 1, "unit": 2}'),
    lambda: Dense.from_json('{"type": "Dens", "units": 1}'),
    lambda: Dense.from_json('{"type": "own:Bent"}'),
    lambda: Dense.from_json("{"),
    lambda: load("nowhere.safetensors"),
    lambda: checkpoint(b"text"),
    lambda: checkpoint(b"\x08" + bytes(15)),
    lambda: describe("nowhere.safetensors"),
    lambda: load_model("nowhere.safetensors", names="0.*"),
    lambda: len(CSV("nowhere.csv")),
    lambda: len(Parquet("nowhere.parquet")),
    lambda: NPY("nowhere.npy", Y),
    lambda: CSV("a.csv", delimiter=";;"),
    lambda: CSV("a.csv", thousands=".", decimal="."),
    lambda: CSV("a.csv", dates=("%d/%m/%Y", "%m/%d/%Y")),
    lambda: CSV("a.csv", enconding="latin-1"),
    lambda: len(csv("a;b\n1;2\n", target="b")),
    lambda: len(csv("1,2\n3,4\n", target="y")),
    lambda: len(csv("a,b\n1,2,3\n")),
    lambda: len(csv("a,a\n1,2\n")),
    lambda: len(csv('a,b\n"1,2\n')),
    lambda: len(csv("sep=;\na;b\n1;2\n")),
    lambda: len(csv("")),
    lambda: len(csv("a\n\0\n")),
    lambda: len(csv('a,b\n"1,234.5",1\n"2,000",2\n', target="b")),
    lambda: len(csv("a\n30/02/2021\n", dates=("%d/%m/%Y",))),
    lambda: fit(csv("a,b,y\n1,2,0\nold,3,1\n5,6,0\n", target="y")),
    lambda: table_of("a.csv.gz"),
    lambda: table_of("a"),
    lambda: table_read_as(CSV("a.csv"), ["data.delimitr=;"]),
    lambda: table_read_as(CSV("a.csv"), ["trainer.epochs=3"]),
    lambda: parse_change("trainer.epochs"),
    lambda: parse_change("trainer.callbacks[0].monitor=1"),
    lambda: parse_change('trainer.loss="Mean'),
    lambda: experiment("x ="),
    lambda: experiment(MODEL + TRAINER),
    lambda: experiment(WHOLE.replace("units", "unit")),
    lambda: experiment(WHOLE.replace("MeanSquaredError", "MeanSquareError")),
    lambda: experiment(WHOLE.replace("MeanSquaredError", "own:Loss")),
    lambda: experiment(WHOLE, "trainer.epochs=0"),
    lambda: experiment(WHOLE, "trainer.metrics=Accuracy"),
    lambda: experiment(WHOLE, "trainer.epochs=0", "model.layers.0.activation=RelU"),
    lambda: experiment(WHOLE, "model.layers.3.units=2"),
    lambda: experiment(WHOLE, "holdout=last"),
    lambda: experiment(WHOLE, "units=3"),
    lambda: Experiment.read("nowhere.toml"),
    lambda: fitted(age=[Standardize()], city=[OneHot()], height=[Standardize()]),
    lambda: fitted(age=[Standardize()], city=[Standardize()]),
    lambda: fitted(age=[Standardize()], city=[OneHot()]).transform(TABLE[["age"]]),
    lambda: fitted(age=[Standardize()], city=[OneHot()]).transform(TABLE.assign(age=["a", "b", "c"])),
    lambda: fitted(age=[Standardize()], city=[OneHot()]).transform(TABLE.assign(age=[1.0, np.inf, 2.0])),
    lambda: NeuralClassifier(hidden=0).fit(X, Y),
    lambda: NeuralClassifier(batch_size=-1).fit(X, Y),
    lambda: NeuralClassifier(metrics=[Accuracy()], callbacks=[EarlyStopping(monitor="val_loss")]).fit(X, Y),
    lambda: ReLU(3),
]


def refused(call):
    """Return the error of a call."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (an absent name or file is another one)
        call()
    return caught.value


def entry(error):
    """Return the class, the fields and the texts of an error, without what differs between machines."""
    command = render_for_command(error)
    fields = [type(error).__name__]
    for fault in (error, *getattr(error, "faults", ())):
        known = {name: getattr(fault, name, None) for name in ("where", "argument", "row")}
        fields += [f"{name}={value!r}" for name, value in known.items() if value not in (None, ())]
    texts = [str(error), *[f"command: {command}"] * (command != str(error))]
    plain = re.sub(r"\(line \d+ of [^:)]*", "(line N of FILE", "\n".join([" ".join(fields), *texts]))
    return re.sub(r"0x[0-9a-f]+", "0x0", plain).replace(str(Path.cwd()), ".").replace("\n", "\n    ")


@pytest.mark.filterwarnings("ignore")
def test_the_texts_of_errors_are_those_of_the_file(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(tmp_path)
    calls = [*(call for *_, call in (*SETTINGS, *CALLS)), *OTHERS]
    texts = "\n".join(entry(refused(call)) for call in calls) + "\n"
    if pytestconfig.option.update_errors:
        FILE.write_text(texts, encoding="utf-8")
    assert texts.splitlines() == FILE.read_text(encoding="utf-8").splitlines()


def test_an_error_that_names_a_row_has_its_number():
    entries = re.findall(r"^(\w.*)\n +(.*)", FILE.read_text(encoding="utf-8"), re.MULTILINE)
    named = [(fields, re.search(r" row (\d+)", text)) for fields, text in entries if not text.startswith("CSV: ")]
    assert sum(row is not None for _, row in named) >= 20
    assert [fields for fields, row in named if row and f"row={row[1]}" not in fields.split()] == []


def test_a_name_says_where_and_which_argument():
    error = DataError("must be finite", name="fit: validation: argument 'x'", got=np.nan, row=3)
    assert (error.where, error.argument, error.subject, error.row) == (("fit", "validation"), "x", "argument 'x'", 3)
    assert str(error) == "fit: validation: argument 'x' must be finite; got nan"


@pytest.mark.parametrize("name", ["path", "b: c", "it's", "a 'b': \"c\""])
def test_a_column_may_have_any_name(name):
    error = DataError("holds text", name=f"fit: validation: column {name!r}")
    assert (error.where, error.subject) == (("fit", "validation"), f"column {name!r}")
    assert error.argument == repr(name)[1:-1]
    assert str(error) == f"fit: validation: column {name!r} holds text"


@pytest.mark.parametrize("name", ["CSV", "output 'price'", "CSV: data.csv", "argument 'x' or 'y', together"])
def test_a_name_without_an_argument_has_none(name):
    assert DataError("is wrong", name=name).argument is None


def test_an_error_says_where_it_happened_from_the_outside_to_the_inside():
    error = DataError("must be finite", name="target")
    with pytest.raises(DataError) as caught, within("fit", ""), within("output 'price'"):
        raise error
    assert caught.value is error
    assert error.where == ("fit", "output 'price'")
    assert str(error) == "fit: output 'price': target must be finite"


def test_each_line_of_a_list_says_where_it_happened():
    error = SettingsError(faults=[SettingsError(name="setting 'a'"), SettingsError(name="setting 'b'")])
    assert str(error.within("fit", "Trainer")) == "fit: Trainer: setting 'a' \nfit: Trainer: setting 'b' "
    assert [fault.where for fault in error.faults] == [("fit", "Trainer")] * 2
    assert str(SettingsError.of(error, "worker 1")).count("worker 1: ") == 2


def test_what_came_is_text_when_the_error_is_raised():
    came = [1, 2]
    error = DataError("must be one", got=came)
    came.append(3)
    assert str(error) == "must be one; got [1, 2]"
    assert str(DataError("must be one", got=...)) == "must be one; got Ellipsis"
    assert str(DataError("must be one", got="")) == "must be one; got ''"
    bad = type("Bad", (), {"__repr__": lambda _: 1 / 0})()
    assert str(DataError("must be one", got=bad)) == "must be one; got a Bad"
    assert len(pickle.dumps(DataError("must be short", got="long" * 1_000_000))) < 1000


def test_an_error_does_not_keep_an_array_alive():
    array = np.zeros(1000)
    alive, error = weakref.ref(array), DataError("must be one", got=array)
    del array
    gc.collect()
    assert alive() is None
    assert str(error).startswith("must be one; got array([0., 0.,")


def test_errors_of_users_need_no_fields():
    class OwnError(DataError):
        def __init__(self, code):
            self.code = code
            Exception.__init__(self, "is odd")

    error = OwnError(3)
    assert str(error.within("fit")) == "fit: is odd"
    assert (error.code, error.row, error.argument) == (3, None, None)
    failure = failure_of(error)
    assert (type(failure), str(failure), failure.where) == (DataError, "fit: is odd", ("fit",))
    assert str(DataError("a", 3)) == "('a', 3)"
    error = CheckpointError(2, "No such file", where="load")
    assert (error.errno, str(error)) == (2, "load: [Errno 2] No such file")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_python_and_the_command_line_write_one_advice():
    advice = Advice("write ", Setting("nulls", (..., "old")), " or ", Setting("delimiter", ";"))
    error = DataError("CSV: column 'a' is text", advice=advice)
    assert str(error) == "CSV: column 'a' is text; write nulls=(..., 'old') or delimiter=';'"
    said = render_for_command(error.within("validation"), "e.toml")
    assert re.search(r'; write nulls = \["", .*"old"\] or delimiter = ";" in \[validation\] of e.toml$', said)
    assert render_for_command(error).endswith(" or --set 'validation.delimiter=;'")
    assert render_for_command(OSError("no disk")) == "no disk"


def test_only_a_file_that_is_not_there_may_have_been_moved():
    absent = render_for_command(refused(lambda: len(CSV("nowhere.csv"))), "e.toml")
    assert absent.endswith("; if it was moved, write its new path in [data] of e.toml")
    assert "moved" not in render_for_command(DataError("holds text", name="column 'path'"), "e.toml")


@pytest.mark.parametrize("of", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_has_the_fields(of):
    error = CheckpointError("is damaged", name="load: argument 'path'", got=len, row=2, advice="save it again")
    errors = error, SettingsError(faults=[SettingsError("is missing", name="Dense: setting 'units'")])
    for original, made in zip(errors, map(of, errors), strict=True):
        assert type(made) is type(original)
        assert str(made) == str(original)
        kept = ("where", "subject", "problem", "argument", "row", "advice", "expected")
        assert [getattr(made, name) for name in kept] == [getattr(original, name) for name in kept]
        assert [fault.argument for fault in made.faults] == [fault.argument for fault in original.faults]


def test_a_row_that_diverges_counts_from_the_first_one_of_the_batch():
    error = DivergedError("not finite, first at row {row} of the batch", row=3, advice="Clip it")
    error.row += 4
    assert str(error) == "not finite, first at row 7 of the batch. Clip it"
    assert pickle.loads(pickle.dumps(error)).row == 7


def test_an_error_of_another_class_keeps_the_fields():
    error = CheckpointError.of(DataError("is empty", name="fit: argument 'x'", got=Text("0 rows")), "run.safetensors")
    assert (type(error), error.argument, error.where) == (CheckpointError, "x", ("run.safetensors", "fit"))
    assert str(error) == "run.safetensors: fit: argument 'x' is empty; got 0 rows"
    assert str(FrameworkError.of(KeyError("x"))) == "KeyError: 'x'"
    diverged = DivergedError("is not finite, first at row {row}", row=3)
    assert str(CheckpointError.of(diverged, "a")) == "a: is not finite, first at row 3"


def test_each_setting_that_is_wrong_is_a_fault():
    error = refused(lambda: trainer(epochs=0, batch_size=0, rate=1))
    assert isinstance(error, SettingsError)
    assert [(fault.where, fault.argument, fault.got) for fault in error.faults] == [
        (("Trainer",), "rate", ""),
        (("Trainer",), "epochs", 0),
        (("Trainer",), "batch_size", 0),
    ]
