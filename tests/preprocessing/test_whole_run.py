"""A table to a model and back: fit, save, load, predict, resume, with the preprocessing that belongs to the model."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from checkpoint_pieces import forged
from sklearn.metrics import accuracy_score

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    CheckpointError,
    CrossEntropy,
    DataError,
    Dense,
    Embedding,
    Impute,
    Join,
    MeanSquaredError,
    Neuron,
    OneHot,
    Preprocess,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    load_model,
    on,
    save,
)
from framework.base import ResumeWarning
from framework.experiments.predictions import columns_of
from framework.preprocessing import Classes, Drop, Levels, Log
from framework.training.checkpoint.file import decode

RNG = np.random.default_rng(0)
ROWS = 300
AGE = RNG.normal(40, 10, ROWS).round(1)
CITY = RNG.choice(["Rome", "Oslo", "Bern"], ROWS)
TABLE = pd.DataFrame(
    {
        "age": np.where(np.arange(ROWS) % 50 == 0, np.nan, AGE),
        "city": CITY,
        "late": np.where((AGE > 45) | (CITY == "Oslo"), "yes", "no"),
        "price": 1000.0 + 50.0 * AGE,
    }
)
INPUTS = {"age": [Impute("median"), Standardize()], "<text>": [OneHot(20)]}
TRAIN, HELD_OUT = TABLE[:200], TABLE[200:]
TRAINER = Trainer(
    loss=BinaryCrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=0.02),
    epochs=30,
    preprocess=Preprocess(columns=INPUTS, target=[Classes()]),
)


def classes(table):
    return table[["age", "city", "late"]]


def network(head=None):
    return Sequential(Dense(units=8, activation=ReLU()), head or Neuron(activation=Sigmoid()))


@pytest.fixture(scope="module")
def trained():
    model = network()
    return TRAINER.fit(model, (classes(TRAIN), "late"), (classes(HELD_OUT), "late"))


def test_a_model_learns_from_a_table_and_gives_the_names_of_classes(trained):
    found = trained.model.classify(HELD_OUT)
    assert np.mean(found == HELD_OUT["late"].to_numpy()) > 0.9
    assert set(found) == {"no", "yes"}


@pytest.mark.parametrize("names", [[3, 5], [3.0, 5.0], [False, True], ["no", "yes"]], ids=str)
@pytest.mark.parametrize(
    "library", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas], ids=["pandas", "polars", "Arrow"]
)
def test_classify_gives_classes_as_the_target_has_them(names, library):
    x = np.r_[np.linspace(-1, -0.5, 20), np.linspace(0.5, 1, 20)]
    table = pd.DataFrame({"x": x, "y": np.array(names)[(x > 0).astype(int)]})
    model = Neuron(activation=Sigmoid())
    recipe = Preprocess(columns={"x": []}, target=[Classes()])
    adam = AdamOptimizer(learning_rate=0.5)
    Trainer(loss=BinaryCrossEntropy(), optimizer=adam, epochs=20, preprocess=recipe).fit(model, (library(table), "y"))
    y = table["y"].to_numpy()
    found = model.classify(library(table))
    assert accuracy_score(y, found) == np.mean(found == y) == 1.0
    written = columns_of(model, model.predict(library(table)), ["y"])
    assert written["y"].dtype == found.dtype
    assert np.array_equal(written["y"], found)
    assert [*written] == ["y", *(f"y={name}" for name in sorted({*found.tolist()}))]


def test_the_preprocess_knows_the_training_rows_alone(trained):
    fitted = trained.model.preprocess
    assert fitted.inputs == trained.model.columns == ("age", "city")
    assert trained.model.target_columns == ("late",)
    (_, (impute, _)), _ = fitted.columns
    assert impute.values == (TRAIN["age"].median(),)
    assert impute.values != (TABLE["age"].median(),)


def test_a_loaded_model_predicts_the_same_bits_from_a_table(trained, tmp_path):
    save(trained, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.preprocess == trained.model.preprocess
    assert model.columns == ("age", "city")
    assert np.array_equal(model.predict(HELD_OUT), trained.model.predict(HELD_OUT))
    assert np.array_equal(model.classify(HELD_OUT), trained.model.classify(HELD_OUT))


@pytest.mark.parametrize("library", [pd.DataFrame, pl.from_pandas, pa.Table.from_pandas], ids=range(3))
def test_columns_are_found_by_name_in_any_order_and_others_ignored(trained, library):
    other = library(HELD_OUT[["price", "city", "age"]].reset_index(drop=True))
    assert np.array_equal(trained.model.predict(other), trained.model.predict(HELD_OUT))
    assert np.array_equal(TRAINER.predict(trained.model, other), trained.model.predict(HELD_OUT))


def test_evaluate_transforms_the_table_and_the_target(trained):
    figures = TRAINER.evaluate(trained.model, (classes(HELD_OUT), "late"))
    assert figures["loss"] == trained.history[-1]["val_loss"]
    assert figures == TRAINER.evaluate(trained.model, (classes(HELD_OUT)[["city", "age"]], HELD_OUT["late"]))


def test_a_resumed_run_keeps_its_preprocess_and_continues_to_the_same_bits(trained, tmp_path):
    half = TRAINER.fit(network(), (classes(TRAIN), "late"), epochs=10)
    save(half, tmp_path / "run")
    more = TRAINER.resume(tmp_path / "run", (classes(TRAIN), "late"), epochs=20)
    assert np.array_equal(more.model.parameters.vector, trained.model.parameters.vector)
    other = TRAINER.replace(preprocess=Preprocess(columns=INPUTS | {"age": [Impute(0.0)]}, target=[Classes()]))
    with pytest.warns(ResumeWarning, match="preprocess: was .*; the run keeps its own"):
        run = other.resume(more, (classes(TRAIN), "late"), epochs=1)
    assert run.model.preprocess == half.model.preprocess


def test_a_trainer_without_a_recipe_keeps_that_of_the_model(trained):
    model = trained.model.copy()
    TRAINER.replace(preprocess=None, epochs=1).fit(model, (classes(HELD_OUT), "late"))
    assert model.preprocess == trained.model.preprocess


def test_a_later_fit_keeps_the_scales_and_the_classes_that_the_weights_belong_to(trained, tmp_path):
    save(trained, tmp_path / "run")
    model = load_model(tmp_path / "run")
    other = classes(HELD_OUT).assign(age=lambda table: table["age"] * 10 + 100)
    TRAINER.replace(optimizer=AdamOptimizer(learning_rate=1e-12), epochs=1).fit(model, (other, "late"))
    assert model.preprocess == trained.model.preprocess
    assert model.preprocess.recipe == TRAINER.preprocess
    assert np.array_equal(model.classify(HELD_OUT), trained.model.classify(HELD_OUT))


def test_two_fits_of_the_same_rows_are_one_longer_training():
    twice, once = network(), network()
    trainer = TRAINER.replace(optimizer=SGDOptimizer(learning_rate=0.1), shuffle=False)
    for _ in range(2):
        trainer.fit(twice, (classes(TRAIN), "late"), epochs=2)
    trainer.fit(once, (classes(TRAIN), "late"), epochs=4)
    assert np.array_equal(twice.parameters.vector, once.parameters.vector)
    assert twice.preprocess == once.preprocess


MISFITS = {
    "another class": (
        lambda t: t.assign(late=t["late"].str.replace("yes", "maybe")),
        "target 'late' has 'maybe', which",
    ),
    "a column less": (lambda t: t[["age", "late"]], "must have the column 'city', as in fit"),
    "another kind": (lambda t: t.assign(city=1), "column 'city' held text in fit, and holds numbers now"),
}


@pytest.mark.parametrize("recipe", [TRAINER.preprocess, None], ids=["the same recipe", "none"])
@pytest.mark.parametrize("name", MISFITS)
def test_data_that_does_not_fit_the_kept_preprocess_is_refused_before_anything_changes(trained, name, recipe):
    change, message = MISFITS[name]
    model = trained.model.copy()
    with pytest.raises(DataError, match=rf"{message}.*train a new model, or write model\.preprocess = None"):
        TRAINER.replace(preprocess=recipe).fit(model, (change(classes(TRAIN)), "late"))
    assert model.preprocess == trained.model.preprocess
    assert np.array_equal(model.parameters.vector, trained.model.parameters.vector)


def test_another_recipe_is_refused_before_anything_changes_and_both_ways_out_work(trained):
    model = trained.model.copy()
    other = TRAINER.replace(
        preprocess=Preprocess(columns=INPUTS | {"age": [Impute(0.0)]}, target=[Classes()]), epochs=1
    )
    with pytest.raises(
        SettingsError,
        match=r"another recipe than the trainer's.* leave preprocess out .* or write model\.preprocess = None",
    ):
        other.fit(model, (classes(TRAIN), "late"))
    assert model.preprocess == trained.model.preprocess
    assert np.array_equal(model.parameters.vector, trained.model.parameters.vector)
    model.preprocess = model.preprocess.replace(recipe=None)
    with pytest.raises(SettingsError, match="does not say which recipe it comes from"):
        TRAINER.fit(model, (classes(TRAIN), "late"))
    model.preprocess = trained.model.preprocess
    other.replace(preprocess=None).fit(model, (classes(TRAIN), "late"))
    assert model.preprocess == trained.model.preprocess
    model.preprocess = None
    other.fit(model, (classes(TRAIN), "late"))
    assert model.preprocess.recipe == other.preprocess


def test_copies_of_an_untrained_model_each_learn_from_their_own_rows():
    model = network()
    parts = [model.copy(), model.copy()]
    for copy, rows in zip(parts, (TRAIN, HELD_OUT), strict=True):
        TRAINER.fit(copy, (classes(rows), "late"), epochs=1)
    assert [copy.preprocess for copy in parts] == [
        TRAINER.preprocess.fit((classes(rows), "late")) for rows in (TRAIN, HELD_OUT)
    ]


def test_predictions_come_in_the_unit_of_the_target():
    recipe = Preprocess(columns=INPUTS, target=[Log(), Standardize()])
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.02), epochs=60, preprocess=recipe
    )
    table = TABLE[["age", "city", "price"]].dropna()
    model = network(Neuron())
    trainer.fit(model, (table, "price"))
    assert np.abs(model.predict(table) / table["price"].to_numpy() - 1).mean() < 0.05


def test_more_than_two_classes_take_a_softmax():
    recipe = Preprocess(columns={"age": INPUTS["age"]}, target=[Classes()])
    trainer = TRAINER.replace(loss=CrossEntropy(), preprocess=recipe, epochs=2)
    model = network(Dense(units=3, activation=Softmax()))
    trainer.fit(model, (TABLE[["age", "city"]], "city"))
    assert set(model.classify(TABLE)) <= {"Bern", "Oslo", "Rome"}
    with pytest.raises(ShapeError, match="target 'city' has 3 classes, and the model gives 4 numbers"):
        trainer.fit(network(Dense(units=4, activation=Softmax())), (TABLE[["age", "city"]], "city"))


class Blocks:
    """A Dataset whose blocks are tables."""

    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def read(self, start, stop):
        part = self.table[start:stop]
        return part[["age", "city"]], part["late"]


def test_a_dataset_of_tables_trains_to_the_same_bits_as_the_table(trained):
    model = network()
    TRAINER.fit(model, Blocks(TRAIN))
    assert np.array_equal(model.parameters.vector, trained.model.parameters.vector)
    assert model.preprocess == trained.model.preprocess


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(HELD_OUT), "x must hold numbers that are transformed already; .* model.predict"),
        (lambda m: m.predict(HELD_OUT[["age"]]), "predict: the table must have the column 'city', as in fit"),
        (lambda m: m.predict(HELD_OUT.rename(columns={"city": "City"})), "did you mean 'City'"),
        (lambda m: m.predict(np.ones((2, 5))), "a Preprocess takes a table"),
        (lambda m: TRAINER.evaluate(m, (np.ones((2, 5)), [0, 1])), "a Preprocess takes a table"),
        (lambda m: m.predict(HELD_OUT.assign(city=1)), "column 'city' held text in fit, and holds numbers now"),
        (
            lambda m: m.predict(HELD_OUT.assign(age=["1", None, "old", *"3" * (len(HELD_OUT) - 3)])),
            "column 'age' held numbers in fit, and holds text now, first 'old' in row 2; cast it before$",
        ),
        (lambda m: m.predict(HELD_OUT.assign(age="1")), "held numbers in fit, and holds text now; cast it before$"),
        (
            lambda m: TRAINER.evaluate(m, (classes(HELD_OUT).assign(late="maybe"), "late")),
            "target 'late' has 'maybe', which is not among the levels of fit, .* in row 0",
        ),
    ],
    ids=range(9),
)
def test_what_does_not_fit_the_preprocess_is_refused_by_column(trained, call, message):
    with pytest.raises(DataError, match=message):
        call(trained.model)


def test_a_refused_fit_leaves_the_model_as_it_was(trained):
    model = trained.model.copy()
    before = model.preprocess, model.parameters.vector.copy()
    with pytest.raises(DataError, match="column 'age' has an infinite number in row 3"):
        TRAINER.fit(model, (classes(TRAIN).assign(age=np.where(np.arange(200) == 3, np.inf, 1.0)), "late"))
    assert model.preprocess == before[0]
    assert np.array_equal(model.parameters.vector, before[1])


@pytest.mark.parametrize("inputs", [None, 4], ids=["open inputs", "given inputs"])
def test_a_refused_first_fit_leaves_no_preprocess(inputs):
    model = Sequential(Dense(inputs=inputs, units=8, activation=ReLU()), Neuron(activation=Sigmoid()))
    data = classes(TRAIN)[["city", "late"]]
    recipe = Preprocess(columns={"city": [OneHot(20)]}, target=[Classes()])
    trainer = TRAINER.replace(preprocess=recipe, epochs=1)
    data = data.assign(city=data["city"].where(np.arange(len(data)) > 0))  # a fourth output, for the missing one
    with pytest.raises(
        DataError, match="class 'maybe' of target 'late' is only among the held-out rows, first in row 0"
    ):
        trainer.fit(model, (data, "late"), (data.assign(late="maybe"), "late"))
    assert model.preprocess is None
    assert model.list_unsettled() if inputs is None else model.columns is None
    trainer.fit(model, (data, "late"))
    assert model.preprocess.recipe == recipe


def test_the_preprocess_goes_with_copies_and_can_be_taken_away(trained):
    model = trained.model.copy()
    assert model.preprocess == trained.model.preprocess
    model.preprocess = None
    assert model.columns is None
    x = trained.model.preprocess.transform(HELD_OUT)
    assert np.array_equal(model.predict(x), trained.model.predict(HELD_OUT))


class Thousandfold:
    """A transformation that no file could hold."""

    inputs = targets = ("age",)

    def blocks(self, x, dtype, name):
        yield np.asarray(x["age"], dtype)[:, None] * 1000


@pytest.mark.parametrize("other", [Thousandfold(), TRAINER.preprocess, {"age": [Standardize()]}], ids=range(3))
def test_a_model_takes_a_fitted_preprocess_alone(trained, other):
    model = trained.model.copy()
    with pytest.raises(SettingsError, match=r"must be a FittedPreprocess, as recipe.fit\(data\) gives, or None; got"):
        model.preprocess = other
    assert model.preprocess == trained.model.preprocess


def test_a_trainer_sends_a_fitted_preprocess_to_the_model(trained):
    with pytest.raises(SettingsError, match=r"the numbers belong to a model: model\.preprocess = fitted"):
        TRAINER.replace(preprocess=trained.model.preprocess)


def test_a_preprocess_can_be_given_to_a_model_whose_inputs_are_open():
    recipe = Preprocess(columns=INPUTS, target=[Classes()]).fit((classes(TRAIN), "late"))
    model = network()
    model.preprocess = recipe
    assert model.input_shape == (len(recipe.names),)
    TRAINER.replace(preprocess=None, epochs=1).fit(model, (classes(HELD_OUT), "late"))
    assert model.preprocess == recipe
    ids = Preprocess(columns={"age": [Impute()], "city": [Levels(5)]}).fit(TRAIN[["age", "city"]])
    joined = Sequential(Join(numbers=Dense(units=2), city=Embedding(7, 2)), Neuron())
    joined.preprocess = ids
    assert joined.predict(HELD_OUT).shape == (100,)


def test_predicting_no_rows_gives_no_predictions(trained):
    assert trained.model.predict(HELD_OUT[:0]).shape == (0,)


FORGED = {
    "another class": (lambda _: {"type": "Standardize", "mean": [0.0], "scale": [1.0]}, "expected a FittedPreprocess"),
    "a class of nobody": (lambda p: p | {"type": "os:system"}, "is not a class that this program has defined"),
    "a step that has learnt nothing": (
        lambda p: p | {"columns": p["columns"] | {"age": [{"type": "Standardize"}]}},
        "column 'age': .* has learnt nothing yet",
    ),
    "a kind too few": (lambda p: p | {"kinds": ["number"]}, "'kinds' must have one kind per column"),
    "a kind that there is not": (lambda p: p | {"kinds": ["number", "words"]}, "'kinds"),
    "a column that ends as text": (lambda p: p | {"columns": p["columns"] | {"city": []}}, "column 'city' holds text"),
    "another setting": (lambda p: p | {"code": "import os"}, "unknown setting 'code'"),
    "a step for more arrays": (
        lambda p: p | {"columns": p["columns"] | {"age": [p["columns"]["age"][0] | {"values": [1.0, 2.0]}]}},
        "numbers for more or fewer arrays",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_preprocess_is_refused_when_it_is_loaded(trained, tmp_path, name):
    save(trained, tmp_path / "run")
    arrays, text = decode((tmp_path / "run").read_bytes())
    (change, message), document = FORGED[name], json.loads(text)
    (tmp_path / "forged").write_bytes(forged(arrays, document | {"preprocess": change(document["preprocess"])}))
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "forged")


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_model_trained_on_arrays_learns_no_preprocess_under_its_weights(tmp_path, loaded, failed):
    numbers = TRAIN[["age"]].fillna(0.0).to_numpy(), (TRAIN["late"] == "yes").to_numpy(float)
    run = TRAINER.replace(preprocess=None, epochs=1, metrics=[]).fit(Neuron(1, Sigmoid()), numbers)
    save(run, tmp_path / "run")
    model = load_model(tmp_path / "run") if loaded else run.model
    if failed:  # before its first step
        fails = on("train_begin")(lambda run: run.no_such_name)
        with pytest.raises(AttributeError):
            TRAINER.replace(preprocess=None, metrics=[], callbacks=[fails]).fit(model, numbers)
    before = model.parameters.vector.copy()
    recipe = Preprocess(columns={"age": [Impute(flag=False)], "*": [Drop()]}, target=[Classes()])
    again = TRAINER.replace(preprocess=recipe, epochs=1)
    table = (classes(TRAIN), "late")
    with pytest.raises(SettingsError, match=r"fit: the model was trained without a Preprocess, .*; train a new model"):
        again.fit(model, table)
    assert model.preprocess is None
    assert np.array_equal(model.parameters.vector, before)
    again.fit(Neuron(1, Sigmoid()), table)
    model.preprocess = recipe.fit(table)  # as the message says
    again.fit(model.copy(), table)
