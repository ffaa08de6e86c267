"""Models of several inputs: x is a dict of arrays by name."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest

from framework import (
    AdamOptimizer,
    BinaryCrossEntropy,
    Component,
    DataError,
    Dense,
    DerivativeError,
    DivergedError,
    Embedding,
    HalfSquaredError,
    Layer,
    MeanAbsoluteError,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Tanh,
    Trainer,
    check_gradients,
    compare_steps,
    load_model,
    on,
    save,
    split,
    verify_resume,
)
from framework.base import DtypeError
from framework.base.trees import map_leaves
from framework.models import Composite, Normal
from framework.testing import check_component

CITIES, NUMBERS = 5, 3


class Joined(Layer):
    """Join numbers with a row of a table for the city: ``[numbers, table[city]] weights + bias``.

    Example:
        >>> Joined(units=2)({"numbers": [0.0, 0.0, 0.0], "city": 1}).shape
        (2,)
    """

    units: int
    cities: int = CITIES
    inputs: int = NUMBERS

    @property
    def input_shape(self):
        return {"numbers": (self.inputs,), "city": ()}

    def shapes(self):
        return {"table": (self.cities, 2), "weights": (self.inputs + 2, self.units), "bias": (self.units,)}

    def initializers(self):
        return {"table": Normal(), "weights": Normal()}

    def formula(self, x, table, weights, bias):
        city = np.take(table, x["city"].astype(int), axis=0)
        return np.concatenate([x["numbers"], city], axis=1) @ weights + bias


def made(rows=40, seed=0):
    """Return inputs by name, and targets that depend on both."""
    rng = np.random.default_rng(seed)
    x = {"numbers": rng.normal(size=(rows, NUMBERS)), "city": rng.integers(0, CITIES, rows)}
    height = np.array([-1.0, 0.5, 2.0, 0.0, -2.0])
    return x, (x["numbers"].sum(axis=1) * 0.5 + height[x["city"]])[:, None]


def network(dtype="float64"):
    return Sequential(Joined(units=4, dtype=dtype), Tanh(), Dense(units=1, dtype=dtype))


def trainer(**settings):
    recipe = {"loss": HalfSquaredError(), "optimizer": AdamOptimizer(learning_rate=0.05), "batch_size": 8, "epochs": 3}
    return Trainer(**recipe | settings)


def expected_output(model, x):
    """Return the layer's output by NumPy alone."""
    p = model.parameters
    return np.hstack([x["numbers"], p["table"][x["city"]]]) @ p["weights"] + p["bias"]


def test_the_formula_receives_the_leaves_by_name():
    x, _ = made()
    model = Joined(units=2, seed=3)
    assert np.allclose(model(x), expected_output(model, x), rtol=1e-14)
    assert np.array_equal(model.forward(x), model(x))


def test_one_sample_gives_one_prediction():
    x, _ = made()
    model = Joined(units=2, seed=3)
    sample = {"numbers": x["numbers"][7], "city": x["city"][7]}
    assert model(sample).shape == (2,)
    assert np.allclose(model(sample), model(x)[7])
    gradient = model.forward(sample)
    back = model.backward(np.ones_like(gradient))
    assert back["numbers"].shape == (NUMBERS,)
    assert np.shape(back["city"]) == ()


def test_the_order_of_the_names_makes_no_difference():
    x, y = made()
    turned = {"city": x["city"], "numbers": x["numbers"]}
    ways = [trainer().fit(network(), (inputs, y)).model.parameters.vector for inputs in (x, turned)]
    assert np.array_equal(*ways)


def test_backward_returns_the_gradient_of_each_leaf():
    x, _ = made()
    model = Joined(units=2, seed=3)
    gradient = np.cos(np.arange(80.0)).reshape(40, 2)
    model.forward(x)
    back = model.backward(gradient)
    weights = model.parameters["weights"]
    assert list(back) == ["numbers", "city"]
    assert np.allclose(back["numbers"], gradient @ weights[:NUMBERS].T)
    assert np.array_equal(back["city"], np.zeros(40))
    table = np.zeros((CITIES, 2))
    np.add.at(table, x["city"], gradient @ weights[NUMBERS:].T)
    assert np.allclose(model.parameters.gradients["table"], table)


@pytest.mark.parametrize("model", [Joined(units=1, seed=1), network()], ids=["layer", "network"])
def test_gradients_are_those_of_differences(model):
    x, y = made(6)
    report = check_gradients(model, HalfSquaredError(), x, y)
    assert [row.parameter for row in report.rows][-2:] == ["x['numbers']", "x['city']"]


class Product(Layer):
    """Two inputs of one shape, one of them nested."""

    @property
    def input_shape(self):
        return {"left": (2,), "more": {"right": (2,), "unused": (3,)}}

    def formula(self, x):
        return x["left"] * x["more"]["right"]


def test_trees_may_hold_trees_and_a_leaf_may_be_unused():
    rng = np.random.default_rng(1)
    x = {"left": rng.normal(size=(4, 2)), "more": {"right": rng.normal(size=(4, 2)), "unused": np.ones((4, 3))}}
    model = Product()
    assert np.array_equal(model.forward(x), x["left"] * x["more"]["right"])
    back = model.backward(np.ones((4, 2)))
    expected = {"left": x["more"]["right"], "more": {"right": x["left"], "unused": np.zeros((4, 3))}}
    np.testing.assert_equal(back, expected)
    check_gradients(model, HalfSquaredError(), x, np.zeros((4, 2)))


class Sum(Layer):
    """Both inputs have the same gradient.

    Example:
        >>> Sum()({"a": [1.0, 2.0], "b": [3.0, 4.0]})
        array([4., 6.])
    """

    @property
    def input_shape(self):
        return {"a": (2,), "b": (2,)}

    def formula(self, x):
        return x["a"] + x["b"]


class Chosen(Layer):
    """An activation of one leaf alone ends the formula."""

    @property
    def input_shape(self):
        return {"a": (2,), "b": (2,)}

    def formula(self, x):
        return Sigmoid()(x["a"])


def test_an_activation_of_a_leaf_may_end_the_formula():
    rng = np.random.default_rng(2)
    x = {"a": rng.normal(size=(4, 2)), "b": rng.normal(size=(4, 2))}
    target = np.array([[0, 1], [1, 1], [0, 0], [1, 0]])
    model = Chosen()
    a = model.forward(x)
    assert np.allclose(a, 1 / (1 + np.exp(-x["a"])))
    back = model.backward(BinaryCrossEntropy().gradient(a, target))
    assert np.allclose(back["a"], (a - target) / 8)
    assert np.array_equal(back["b"], np.zeros((4, 2)))
    check_gradients(Chosen(), BinaryCrossEntropy(), x, target)


def test_gradients_of_several_leaves_are_arrays_of_their_own():
    model = Sum()
    gradient = np.ones((3, 2))
    model.forward({"a": np.ones((3, 2)), "b": np.ones((3, 2))})
    back = model.backward(gradient)
    assert not any(np.shares_memory(one, other) for one in back.values() for other in (gradient,))
    assert not np.shares_memory(back["a"], back["b"])


class ByHand(Layer):
    """A difference, with both passes written by hand."""

    sign: float = -1.0

    @property
    def input_shape(self):
        return {"a": (2,), "b": (2,)}

    @property
    def output_shape(self):
        return (2,)

    def apply(self, x, values, record):
        return x["a"] - x["b"]

    def apply_backward(self, gradient, values, record, gradients):
        return {"a": gradient, "b": self.sign * gradient}


def test_written_gradients_of_leaves_are_checked():
    ByHand()({"a": [1.0, 2.0], "b": [0.5, 0.0]})
    with pytest.raises(DerivativeError, match=re.escape("dL/dx['b'], which it returns, is wrong")):
        ByHand(sign=1.0)({"a": [1.0, 2.0], "b": [0.5, 0.0]})


def test_a_model_learns_from_several_inputs():
    x, y = made(200)
    train, held_out = split((x, y), 0.25)
    model = network()
    run = trainer(epochs=60, metrics=[MeanAbsoluteError()]).fit(model, train, held_out)
    assert run.history[-1]["val_loss"] < 0.05 * run.history[0]["val_loss"]
    alone = trainer(epochs=60).fit(Sequential(Dense(NUMBERS, 4, Tanh()), Dense(4, 1)), (train[0]["numbers"], train[1]))
    assert run.history[-1]["loss"] < 0.1 * alone.history[-1]["loss"]  # without the city it cannot
    figures = trainer(metrics=[MeanAbsoluteError()]).evaluate(model, held_out)
    assert figures["loss"] == run.history[-1]["val_loss"]
    assert np.array_equal(trainer().predict(model, held_out[0]), model(held_out[0]))


def test_training_makes_the_steps_of_plain_numpy():
    x, y = made(20)
    w = {name: view.copy() for name, view in Joined(units=1, seed=2).parameters.items()}

    def step(x, y):
        ids = x["city"].astype(int)
        inputs = np.hstack([x["numbers"], w["table"][ids]])
        slope = (inputs @ w["weights"] + w["bias"] - y) / len(y)
        table = np.zeros_like(w["table"])
        np.add.at(table, ids, slope @ w["weights"][NUMBERS:].T)
        new = {"table": table, "weights": inputs.T @ slope, "bias": slope.sum(axis=0)}
        for name, gradient in new.items():
            w[name] = w[name] - 0.1 * gradient
        return w

    recipe = trainer(optimizer=SGDOptimizer(learning_rate=0.1))
    found = compare_steps(recipe, step, model=Joined(units=1, seed=2), data=(x, y), steps=9)
    assert found.steps == 9
    assert found.largest_ulps < 100


def test_weights_of_rows_count():
    x, y = made(6)
    weight = np.array([2.0, 0.0, 1.0, 3.0, 0.0, 1.0])
    rows = np.repeat(np.arange(6), weight.astype(int))
    recipe = trainer(batch_size=100, shuffle=False)
    weighted = recipe.fit(network(), (x, y, weight)).model.parameters.vector
    repeated = recipe.fit(network(), (map_leaves(lambda leaf: leaf[rows], x), y[rows])).model.parameters.vector
    assert np.allclose(weighted, repeated, rtol=1e-9)


class Blocks:
    """The made-up data as a Dataset that fills the same memory at every read."""

    def __init__(self, rows=9000):
        self.x, self.y = made(rows)
        self.memory = map_leaves(np.empty_like, self.x)

    def __len__(self):
        return len(self.y)

    def read(self, start, stop):
        for name, leaf in self.memory.items():
            leaf[: stop - start] = self.x[name][start:stop]
        return map_leaves(lambda leaf: leaf[: stop - start], self.memory), self.y[start:stop]


def test_a_dataset_gives_the_batches_that_arrays_give():
    data = Blocks()
    recipe = trainer(batch_size=700, shuffle=False, epochs=2)
    ways = [recipe.fit(network(), given).model.parameters.vector for given in (data, (data.x, data.y))]
    assert np.array_equal(*ways)


def test_a_shuffled_dataset_keeps_rows_together():
    data, seen = Blocks(), []

    @on("batch_end")
    def look(run):
        x, y, _ = run.current
        seen.append((x["numbers"].copy(), x["city"].copy(), y.copy()))

    trainer(batch_size=700, epochs=1, callbacks=[look]).fit(network(), data)
    numbers, city, y = map(np.concatenate, zip(*seen, strict=True))
    place = {row.tobytes(): i for i, row in enumerate(data.x["numbers"])}
    order = np.array([place[row.tobytes()] for row in numbers])
    assert sorted(order) == list(range(9000))
    assert not np.array_equal(order, np.arange(9000))
    assert np.array_equal(city, data.x["city"][order])
    assert np.array_equal(y, data.y[order])


def test_a_batch_is_a_dict_and_a_shuffle_keeps_rows_together():
    x, y = made(20)
    seen = []

    @on("batch_end")
    def look(run):
        batch, target, _ = run.current
        assert list(batch) == ["numbers", "city"]
        seen.append((batch["numbers"].copy(), batch["city"].copy(), target.copy()))

    trainer(epochs=1, callbacks=[look]).fit(network(), (x, y))
    numbers, city, target = map(np.concatenate, zip(*seen, strict=True))
    order = [int(np.flatnonzero((x["numbers"] == row).all(axis=1))[0]) for row in numbers]
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    assert np.array_equal(city, x["city"][order])
    assert np.array_equal(target, y[order])


@pytest.mark.share(1 / 3)
def test_training_resumes_bit_for_bit(tmp_path):
    x, y = made()
    straight = trainer(epochs=4).fit(network(), (x, y))
    first = trainer(epochs=2).fit(network(), (x, y))
    save(first, tmp_path / "run")
    resumed = trainer(epochs=4).resume(tmp_path / "run", (x, y))
    assert np.array_equal(resumed.model.parameters.vector, straight.model.parameters.vector)
    assert verify_resume(trainer(), network(), (x, y), (x, y))


@pytest.mark.parametrize("leaf", ["numbers", "city"])
def test_a_change_in_a_leaf_is_noticed_on_resume(leaf):
    x, y = made()
    run = trainer(epochs=1).fit(network(), (x, y))
    with pytest.warns(match="data"):
        trainer(epochs=2).resume(run, ({**x, leaf: np.roll(x[leaf], 1, axis=0)}, y))


def test_models_travel_as_json_copies_and_pickles(tmp_path):
    x, y = made()
    layer = Joined(units=2, cities=7, seed=1)
    assert Component.from_json(layer.to_json()).input_shape == {"numbers": (3,), "city": ()}
    run = trainer(epochs=1).fit(network(), (x, y))
    save(run, tmp_path / "run")
    for twin in (copy.deepcopy(run.model), pickle.loads(pickle.dumps(run.model)), load_model(tmp_path / "run")):
        assert np.array_equal(twin(x), run.model(x))


def test_the_conformance_checks_pass():
    assert "its gradients are right and it pickles" in check_component(Sum())


def test_float32_casts_every_leaf():
    x, y = made()
    dtypes = []

    @on("batch_end")
    def look(run):
        dtypes.extend(leaf.dtype.name for leaf in run.current[0].values())

    trainer(epochs=1, callbacks=[look]).fit(network("float32"), (x, y))
    assert set(dtypes) == {"float32"}


def test_an_error_names_the_column_of_a_frame_among_several_inputs():
    x, y = made()
    numbers = np.where(np.arange(120) == 50, np.nan, 1.0).reshape(40, 3)
    x["numbers"] = pd.DataFrame(numbers, columns=["age", "height", "weight"])
    with pytest.raises(DataError, match=r"argument x\['numbers'\] must be finite; got nan in column 'weight', row 16"):
        trainer().fit(network(), (x, y))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"city": None}, ShapeError, "{'numbers': (rows, 3), 'city': (rows,)}; got a dict of x['numbers']"),
        ({"town": np.zeros(40)}, ShapeError, "got a dict of x['numbers'], x['city'], x['town']"),
        ({"city": np.zeros(39)}, ShapeError, "the same number of rows in each array; got 40 in x['numbers'] and 39 in"),
        ({"city": np.zeros((40, 1))}, ShapeError, "x['city'] must have the shape (rows,) in a batch; got (40, 1)"),
        (
            {"numbers": np.zeros((40, 4))},
            ShapeError,
            "x['numbers'] must have the shape (rows, 3) in a batch; got (40, 4)",
        ),
        (
            {"numbers": np.where(np.arange(120) == 50, np.nan, 1.0).reshape(40, 3)},
            DataError,
            "nan at x['numbers'][16, 2]",
        ),
        ({"city": ["a"] * 40}, DtypeError, "x['city'] must hold real numbers; got text, first 'a' at x['city'][0]"),
        ({"city": {"id": np.zeros(40)}}, ShapeError, "got a dict of x['numbers'], x['city']['id']"),
    ],
)
@pytest.mark.parametrize("way", ["fit", "evaluate", "validation", "predict", "Dataset"])
def test_errors_name_the_leaf(way, change, error, message):
    good, y = made()
    x = {name: leaf for name, leaf in {**good, **change}.items() if leaf is not None}
    model = network()
    before = model.parameters.vector.copy()

    class Bad(Blocks):
        def __init__(self):
            pass

        def __len__(self):
            return 40

        def read(self, start, stop):
            return x, y

    ways = {
        "fit": lambda: trainer().fit(model, (x, y)),
        "evaluate": lambda: trainer().evaluate(model, (x, y)),
        "validation": lambda: trainer().fit(model, (good, y), (x, y)),
        "predict": lambda: trainer().predict(model, x),
        "Dataset": lambda: trainer().fit(model, Bad()),
    }
    with pytest.raises(error) as caught:
        ways[way]()
    assert message in str(caught.value)
    assert str(caught.value).startswith("fit: " if way in ("validation", "Dataset") else way)
    assert np.array_equal(model.parameters.vector, before)


def test_calls_name_the_leaf():
    x, _ = made()
    model = Joined(units=2)
    for function in (model, model.forward):
        with pytest.raises(ShapeError, match=re.escape("x['numbers'] must have the shape (rows, 3) in a batch")):
            function({**x, "numbers": np.zeros((40, 2))})
        with pytest.raises(ShapeError, match=re.escape("got one array of shape (40, 3)")):
            function(x["numbers"])
        with pytest.raises(
            ShapeError, match=re.escape("x['numbers'] must have the shape (rows, 3) in a batch; got (3,)")
        ):
            function({"numbers": x["numbers"][0], "city": x["city"]})


def test_a_layer_of_several_inputs_stands_first():
    with pytest.raises(ShapeError, match=re.escape("layer 0 gives (3,) but layer 1 takes {'numbers': ")):
        Sequential(Dense(3, 3), Joined(units=2))


def test_a_model_of_one_input_refuses_a_dict():
    x, y = made()
    with pytest.raises(
        ShapeError, match=re.escape("x must be a batch of shape (rows, 3); got a dict of x['numbers'], x['city']")
    ):
        Dense(3, 1)(x)
    with pytest.raises(ShapeError, match=re.escape("'x' must be a batch of shape (rows, 3); got a dict of x['num")):
        trainer().fit(Dense(3, 1), (x, y))
    with pytest.raises(
        ShapeError,
        match=re.escape("fit: argument 'x' must be a batch of shape (rows, any); got a dict of x['num"),
    ):
        trainer().fit(Dense(units=1), (x, y))
    with pytest.raises(DataError, match="names"):
        Dense(3, 1)({})


def test_targets_are_one_array():
    x, y = made()
    with pytest.raises(DataError, match=re.escape("argument 'y' must be one array")):
        trainer().fit(network(), (x, {"price": y}))


class Open(Joined):
    """Joined, whose number of inputs comes from the data."""

    inputs: int | None = None

    def inputs_of(self, shape):
        return shape["numbers"][-1]

    def shapes(self):
        return {"weights": (self.inputs, self.units)}

    def initializers(self):
        return {}

    def formula(self, x, weights):
        return x["numbers"] @ weights + x["city"][:, None]


def test_inputs_may_come_from_the_data():
    x, y = made()
    model = Sequential(Open(units=4), Dense(units=1))
    trainer(epochs=1).fit(model, (x, y))
    assert model.layers[0].inputs == 3

    class Silent(Open):
        inputs_of = Layer.inputs_of

    with pytest.raises(SettingsError, match=re.escape("write inputs_of(shape) in the class")):
        trainer(epochs=1).fit(Silent(units=1), (x, y))


def test_layers_of_several_inputs_train_in_a_kernel_as_with_numpy():
    x, y = made()
    runs = [trainer(engine=engine).fit(network(), (x, y)) for engine in ("numpy", "compiled")]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    np.testing.assert_allclose(*(run.model.parameters.vector for run in runs), rtol=1e-10, atol=1e-12)


class Branches(Composite):
    """A composite that leads each input its own way."""

    table: Embedding
    dense: Dense

    def children(self):
        return {"table": self.table, "dense": self.dense}

    @property
    def input_shape(self):
        return {"numbers": (NUMBERS,), "city": (1,)}

    def apply(self, x, values, record):
        city = self.forward_child("table", x["city"], record)
        return self.forward_child("dense", x["numbers"], record) + city[:, 0]

    def apply_backward(self, gradient, values, record, gradients):
        city = self.backward_child("table", gradient[:, None], record)
        return {"city": city, "numbers": self.backward_child("dense", gradient, record)}


def test_a_composite_leads_each_leaf_its_own_way():
    x, _ = made()
    x["city"] = x["city"][:, None]
    model = Branches(table=Embedding(CITIES, 2), dense=Dense(NUMBERS, 2))
    assert np.allclose(model(x), model["dense"](x["numbers"]) + model["table"](x["city"])[:, 0])
    run = trainer(epochs=20).fit(model, (x, np.hstack([x["city"], x["numbers"][:, :1]])))
    assert run.history[-1]["loss"] < 0.3 * run.history[0]["loss"]


def test_a_divergence_names_the_layer_and_the_rows():
    x, y = made(8)
    x["numbers"][3] = 1e200
    model = Sequential(Joined(units=4, seed=1), Dense(units=4), Dense(units=1))
    for layer in (0, 1):
        model.parameters[f"{layer}.weights"][:] = 1e100
    with pytest.raises(DivergedError) as caught:
        trainer(shuffle=False).fit(model, (x, y))
    notes = " ".join(caught.value.__notes__)
    assert "row 3 of the data" in notes
    assert "could not be examined" not in notes


class Spoiled(Joined):
    """Joined, whose gradients are spoiled in row 3."""

    check = "off"

    def apply_backward(self, gradient, values, record, gradients):
        found = super().apply_backward(gradient, values, record, gradients)
        gradients["bias"][0] = np.nan
        return {**found, "numbers": np.where(np.arange(len(gradient))[:, None] == 3, np.nan, found["numbers"])}


def test_a_divergence_names_the_leaf_whose_gradient_is_not_finite():
    x, y = made()
    with pytest.raises(DivergedError) as caught:
        trainer(shuffle=False).fit(Sequential(Spoiled(units=1)), (x, y))
    line = "layer 0 Spoiled returns a gradient for x['numbers'] of nan in 1 of 8 rows: row 3 of the data"
    assert line in caught.value.__notes__


def test_a_split_names_the_leaf_that_differs_in_rows():
    x, y = made()
    with pytest.raises(ShapeError, match=re.escape("got data[0]['numbers'] (40, 3), data[0]['city'] (3,), data[1]")):
        split(({**x, "city": x["city"][:3]}, y))
