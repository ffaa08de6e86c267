"""Several inputs and several targets: ids for an Embedding beside numbers, and a loss for each target."""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    Embedding,
    Heads,
    Impute,
    Join,
    MeanSquaredError,
    Neuron,
    OneHot,
    Preprocess,
    ReLU,
    Sequential,
    SettingsError,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    load_model,
    save,
)
from framework.formulas import OutputLosses
from framework.models import Input
from framework.preprocessing import Classes, Levels

RNG = np.random.default_rng(0)
ROWS = 300
TABLE = pd.DataFrame(
    {
        "age": np.where(np.arange(ROWS) % 40 == 0, np.nan, RNG.normal(40, 10, ROWS)),
        "city": RNG.choice(["Rome", "Oslo", "Bern", None], ROWS),
        "size": RNG.choice(["S", "M", "L"], ROWS),
    }
)
TABLE["late"] = TABLE["city"].isin(["Rome", "Oslo"])
TABLE["price"] = 100.0 + 20.0 * (TABLE["size"] == "L") + 10.0 * (TABLE["size"] == "M")
TRAINER = Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.02), epochs=40)


def test_ids_and_numbers_go_into_a_join(tmp_path):
    columns = {"age": [Impute("median"), Standardize()], "city": [Levels(10)]}
    recipe = Preprocess(columns=columns, target=[Classes()])
    model = Sequential(Join(numbers=Input(), city=Embedding(12, 2)), Neuron(activation=Sigmoid()))
    run = TRAINER.replace(preprocess=recipe).fit(model, (TABLE[["age", "city", "late"]], "late"))
    assert np.mean(model.classify(TABLE) == TABLE["late"]) > 0.99
    save(run, tmp_path / "run")
    assert np.array_equal(load_model(tmp_path / "run").predict(pl.from_pandas(TABLE)), model.predict(TABLE))


def test_an_embedding_that_is_too_small_is_refused_before_training():
    recipe = Preprocess(columns={"city": [Levels(10)]}, target=[Classes()])
    model = Sequential(Join(city=Embedding(4, 2)), Neuron(activation=Sigmoid()))
    with pytest.raises(SettingsError, match=r"'city' has 5 ids, and its Embedding takes 4; write Embedding\(5, "):
        TRAINER.replace(preprocess=recipe).fit(model, (TABLE[["city", "late"]], "late"))
    assert model.preprocess is None


@pytest.mark.parametrize("inputs", [None, 2, 3])
def test_a_model_that_does_not_take_what_a_preprocess_gives_is_refused_with_what_to_write(inputs):
    data = (TABLE[["age", "city", "late"]], "late")
    model = Sequential(Dense(inputs, 2, ReLU()), Neuron(2, activation=Sigmoid()))
    age = [Impute(flag=False), Standardize()]
    ids = Preprocess(columns={"age": age, "city": [Levels(10)]}, target=[Classes()])
    said = (
        r"fit: Levels gives ids of 'city', .* begin the model with (Join\(numbers=Input\(\), city=Embedding\(5, 4\)\))"
    )
    with pytest.raises(ShapeError, match=said) as caught:
        TRAINER.replace(preprocess=ids).fit(model, data)
    advised = eval(re.search(said, str(caught.value))[1])
    TRAINER.replace(preprocess=ids, epochs=1).fit(Sequential(advised, Neuron(activation=Sigmoid())), data)
    columns = TRAINER.replace(
        preprocess=Preprocess(columns={"age": age, "city": [OneHot()]}, target=[Classes()]), epochs=1
    )
    if inputs is None:
        columns.fit(model, data)
        return
    with pytest.raises(
        ShapeError, match=rf"the Preprocess gives 5 numbers for a row, .*, and the model takes {inputs};"
    ):
        columns.fit(model, data)


def test_the_flag_of_ids_is_a_number():
    recipe = Preprocess(columns={"city": [Impute("none"), Levels(10)], "size": [Levels(2)]}).fit(
        TABLE[["city", "size"]]
    )
    assert recipe.names == ("city missing",)
    x = recipe.transform(TABLE)
    assert sorted(x) == ["city", "numbers", "size"]
    assert np.array_equal(x["numbers"][:, 0], TABLE["city"].isna())


def test_a_column_of_ids_cannot_have_the_name_of_the_numbers():
    table = pd.DataFrame({"numbers": ["a", "b"], "x": [1, 2]})
    with pytest.raises(SettingsError, match="column 'numbers' has Levels, but x holds the other columns by this name"):
        Preprocess(columns={"numbers": [Levels()], "x": []}).fit(table)


def test_several_targets_have_a_head_and_a_loss_each():
    columns = {"city": [OneHot()], "age": [Impute(), Standardize()]}
    recipe = Preprocess(columns=columns, target={"late": [Classes()], "price": [Standardize()]})
    model = Sequential(Dense(units=8, activation=ReLU()), Heads(late=Neuron(8, Sigmoid()), price=Neuron(8)))
    loss = OutputLosses(late=BinaryCrossEntropy(), price=MeanSquaredError())
    trainer = TRAINER.replace(loss=loss, preprocess=recipe)
    data = (TABLE[["city", "age", "price", "late"]], ["price", "late"])
    trainer.fit(model, data, data)
    found = model.predict(TABLE)
    assert abs(found["price"].mean() / TABLE["price"].mean() - 1) < 0.05
    assert np.mean(model.classify(TABLE)["late"] == TABLE["late"]) > 0.99
    assert sorted(model.classify(TABLE)) == ["late"]
    with pytest.raises(DataError, match=r"argument 'y' must be a table, or name columns of x, as \(table, \['late'"):
        trainer.fit(model, (TABLE[["city", "age"]], {"late": TABLE["late"], "price": TABLE["price"]}))


def test_targets_without_steps_are_named_by_the_table_in_every_call():
    table = pd.DataFrame({"x": np.arange(20.0), "a": np.arange(20.0) / 10, "b": np.arange(20.0) / 5})
    recipe = Preprocess(columns={"x": [Standardize()]})
    trainer = TRAINER.replace(loss=MeanSquaredError(), preprocess=recipe, epochs=1)
    run = trainer.fit(Dense(units=2), (table, ["a", "b"]))
    for call in (trainer.fit, trainer.evaluate):
        call(run.model, (table, ["a", "b"]))
    run = trainer.resume(trainer.fit(Dense(units=2), (table, ["a", "b"])), (table, ["a", "b"]), epochs=1)
    with pytest.raises(DataError, match="must have the columns of fit, in that order"):
        trainer.evaluate(run.model, (table, ["b", "a"]))


def test_several_targets_are_proposed_each_by_its_kind():
    recipe = Preprocess.of(TABLE, ["price", "late", "size"])
    assert str(recipe).endswith(
        """\
    target={
        "price": [Classes()],
        "late": [Classes()],
        "size": [Classes()],
    },
)"""
    )


def test_a_head_of_another_number_of_classes_is_refused():
    recipe = Preprocess(columns={"age": [Impute()]}, target=[Classes()])
    model = Heads(late=Neuron(2, Sigmoid()), size=Dense(2, 2, Softmax()))
    trainer = TRAINER.replace(loss=OutputLosses(late=BinaryCrossEntropy(), size=CrossEntropy()), preprocess=recipe)
    with pytest.raises(ShapeError, match="target 'size' has 3 classes, and the model gives 2 numbers"):
        trainer.fit(model, (TABLE[["age", "late", "size"]], ["late", "size"]))


def test_target_columns_are_found_by_name_too():
    table = pd.DataFrame({"x": [1.0, 2.0], "a": [10.0, 30.0], "b": [-1.0, 1.0]})
    recipe = Preprocess(columns={"x": []}, target={"a": [Standardize()], "b": []}).fit((table, ["a", "b"]))
    assert np.array_equal(recipe.transform_target(table[["b", "a"]]), [[-1, -1], [1, 1]])
    assert np.array_equal(recipe.inverse(np.array([[0.0, 5.0]])), [[20.0, 5.0]])
    with pytest.raises(ShapeError, match="must have the columns 'a', 'b', as in fit; got 'a', 'x'"):
        recipe.transform_target(table[["a", "x"]])


def test_a_target_of_one_class_is_refused():
    with pytest.raises(DataError, match="target 'c' must have two classes or more; got 'a'"):
        Preprocess(columns={"x": []}, target=[Classes()]).fit((pd.DataFrame({"x": [1, 2], "c": ["a", "a"]}), "c"))


def test_whole_numbers_beyond_2_to_the_53_stay_apart_as_levels():
    table = pd.DataFrame({"c": np.array([2**60, 2**60 + 1])})
    assert Preprocess(columns={"c": [OneHot()]}).fit(table).transform(table).tolist() == [[1, 0], [0, 1]]
