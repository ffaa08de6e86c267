"""PeriodicEmbedding: its formula number by number, what it embeds of a table, and every engine."""

import numpy as np
import pandas as pd
import pytest

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
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
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    load,
    on,
    save,
)
from framework.models import Ensemble, PeriodicEmbedding
from framework.preprocessing import Classes, Drop, Levels, RobustScale
from framework.training.gradients import check_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
DATA = X, np.sin(5 * X[:, :1]) + X[:, 1:2]
SOME = (True, False, True, False)
TABLE = pd.DataFrame(
    {
        "city": RNG.choice(["Oslo", "Rome", "Bern"], 40),
        "age": np.where(np.arange(40) % 7 == 0, np.nan, RNG.normal(40, 9, 40)),
        "member": RNG.random(40) < 0.5,
        "pay": RNG.exponential(3.0, 40),
        "late": RNG.choice(["no", "yes"], 40),
    }
)
COLUMNS = {"<number>": [Impute("median"), RobustScale()], "<boolean>": [Impute("median")]}


def network(numbers=SOME, **settings):
    return Sequential(PeriodicEmbedding(numbers=numbers, **settings), Dense(units=8, activation=ReLU()), Neuron())


def trainer(**settings):
    return Trainer(
        loss=MeanSquaredError(), optimizer=AdamOptimizer(learning_rate=0.01), epochs=5, batch_size=8, **settings
    )


def vector(model):
    return model.parameters.vector.tobytes()


@pytest.mark.parametrize("activation", [None, ReLU()])
def test_the_formula_is_that_of_the_paper_for_each_number(activation):
    settings = {} if activation is None else {"activation": activation}
    layer = PeriodicEmbedding(units=3, frequencies=5, numbers=SOME, **settings)
    p = layer.parameters
    expected = np.zeros((40, 8))
    expected[:, :4] = X
    for row in range(40):
        for place, column in enumerate((0, 2)):
            waves = [
                np.cos(p["frequency"][place, wave] * X[row, column] + p["phase"][place, wave]) for wave in range(5)
            ]
            embedded = np.array(waves) @ p["weights"][place] + p["bias"][place]
            expected[row, 4 + 2 * place : 6 + 2 * place] = embedded if activation is None else np.maximum(embedded, 0)
    np.testing.assert_allclose(layer(X), expected, rtol=1e-12)


def test_its_first_frequencies_and_phases_are_spread_as_in_the_paper():
    layer = PeriodicEmbedding(frequencies=400, numbers=[True] * 10)
    p = layer.parameters
    assert p["frequency"].std() == pytest.approx(2 * np.pi * 0.1, rel=0.05)
    assert abs(p["phase"]).max() == pytest.approx(np.pi, rel=0.01)
    assert abs(p["weights"]).max() == pytest.approx(1 / 20, rel=0.01)


def test_its_gradients_are_differences_of_the_loss():
    check_gradients(network(), MeanSquaredError(), *DATA)


@pytest.mark.parametrize("numbers", [SOME, (False,) * 4])
@pytest.mark.parametrize("engine", ["compiled", "jax"])
def test_an_engine_compiles_it_and_trains_as_numpy_does(engine, numbers):
    runs = [trainer(engine=kind).fit(network(numbers), DATA) for kind in ("numpy", engine)]
    assert runs[1].engine == engine
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-7, atol=1e-9)


def test_many_models_train_as_each_alone():
    models = [network() for _ in range(3)]
    runs = trainer(engine="compiled").fit_many(models, DATA, seeds=[1, 2, 3])
    alone = [trainer(engine="compiled", seed=seed).fit(network(), DATA) for seed in (1, 2, 3)]
    for one, other in zip(runs, alone, strict=True):
        np.testing.assert_allclose(one.model.parameters.vector, other.model.parameters.vector, rtol=1e-6, atol=1e-9)


def test_a_resume_continues_bit_for_bit(tmp_path):
    @on("batch_end")
    def cut(run):
        if run.step == 7:
            run.stop("enough")

    cutting = trainer(callbacks=[cut])
    save(cutting.fit(network(None), DATA), tmp_path / "run")
    assert load(tmp_path / "run").model[0].numbers == (True,) * 4
    assert vector(cutting.resume(tmp_path / "run", DATA).model) == vector(trainer().fit(network(None), DATA).model)


def test_without_numbers_it_changes_nothing():
    layers = lambda: (Dense(units=8, activation=ReLU(), seed=1), Dense(units=1, seed=2))  # noqa: E731
    plain = trainer().fit(Sequential(*layers()), DATA)
    ours = trainer().fit(Sequential(PeriodicEmbedding(numbers=[False] * 4), *layers()), DATA)
    assert vector(ours.model) == vector(plain.model)
    only_numbers = PeriodicEmbedding(units=1, numbers=SOME)
    assert np.array_equal(only_numbers(X), X)


def test_it_takes_from_the_preprocess_what_is_a_number():
    recipe = Preprocess(columns=COLUMNS | {"<text>": [OneHot()]}, target=[Classes()])
    model = Sequential(Sequential(PeriodicEmbedding()), Dense(units=8, activation=ReLU()), Neuron(activation=Sigmoid()))
    trainer(preprocess=recipe).replace(loss=BinaryCrossEntropy()).fit(model, (TABLE, "late"))
    names = ("city=Bern", "city=Oslo", "city=Rome", "age", "age missing", "member", "pay")
    assert model.preprocess.names == names
    assert dict(zip(names, model[0][0].numbers, strict=True)) == {name: name in ("age", "pay") for name in names}
    assert model.layout()["1.weights"] == (7 + 2 * 3, 8)


def test_it_takes_it_from_a_preprocess_that_the_model_has_before_the_fit():
    recipe = Preprocess(columns=COLUMNS | {"<text>": [OneHot()]}, target=[Classes()])
    model = Sequential(PeriodicEmbedding(), Neuron(activation=Sigmoid()))
    model.preprocess = recipe.fit((TABLE, "late"))
    assert model[0].numbers == (False, False, False, True, False, False, True)


def test_each_member_of_an_ensemble_takes_it_too():
    recipe = Preprocess(columns=COLUMNS | {"<text>": [Drop()]}, target=[Classes()])
    members = [Sequential(PeriodicEmbedding(), Neuron(activation=Sigmoid()), seed=seed) for seed in (0, 1)]
    model = Ensemble(*members)
    trainer(preprocess=recipe).replace(loss=BinaryCrossEntropy()).fit(model, (TABLE, "late"))
    assert [member[0].numbers for member in model] == [(True, False, False, True)] * 2


def test_it_takes_the_numbers_beside_ids_in_a_join():
    recipe = Preprocess(columns=COLUMNS | {"<text>": [Levels(5)]}, target=[Classes()])
    model = Sequential(Join(numbers=PeriodicEmbedding(), city=Embedding(5, 2)), Neuron(activation=Sigmoid()))
    trainer(preprocess=recipe).replace(loss=BinaryCrossEntropy()).fit(model, (TABLE, "late"))
    assert model[0]["numbers"].numbers == (True, False, False, True)  # age, age missing, member, pay


def test_a_table_without_numbers_gives_the_model_without_the_layer():
    recipe = Preprocess(columns={"city": [OneHot()], "*": [Drop()]}, target=[Classes()])
    model = Sequential(PeriodicEmbedding(), Neuron(activation=Sigmoid()))
    run = trainer(preprocess=recipe, engine="compiled").replace(loss=BinaryCrossEntropy()).fit(model, (TABLE, "late"))
    assert run.engine == "compiled"
    assert list(model.parameters) == ["1.weights", "1.bias"]


def test_a_refused_fit_forgets_what_the_preprocess_called_numbers():
    model = Sequential(PeriodicEmbedding(), Dense(units=1))
    recipe = Preprocess(columns={"pay": [Standardize()], "*": [Drop()]})
    with pytest.raises(ShapeError, match="y"):
        trainer(preprocess=recipe).fit(model, (TABLE[["pay"]], np.zeros((40, 3))))
    assert model[0].numbers is None
    trainer().fit(model, DATA)
    assert model[0].numbers == (True,) * 4


def test_numbers_of_another_count_than_the_columns_are_refused():
    with pytest.raises(ShapeError, match=r"must have the shape \(rows, 3\); got \(40, 4\)"):
        trainer().fit(network((True, False, True)), DATA)


def test_an_activation_over_all_units_is_refused():
    with pytest.raises(SettingsError, match="'activation' must work on each number alone; got Softmax"):
        PeriodicEmbedding(activation=Softmax())
