"""Ids: whole numbers that stand for things. They are checked before training, and have no gradient."""

import re
from typing import ClassVar

import numpy as np
import pytest

from framework import (
    DataError,
    Dense,
    DerivativeError,
    Embedding,
    Flatten,
    HalfSquaredError,
    Layer,
    Model,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Trainer,
    check_gradients,
)
from framework.models import Composite, Normal
from framework.testing import check_component

ROWS, CITIES, SHOPS = 12, 5, 3
RNG = np.random.default_rng(4)
NUMBERS = RNG.normal(size=(ROWS, 2))
CITY = RNG.integers(0, CITIES, (ROWS, 1)).astype(float)
SHOP = RNG.integers(0, SHOPS, (ROWS, 1)).astype(float)
Y = RNG.normal(size=(ROWS, 2))
TRAINER = Trainer(
    loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2, batch_size=4, shuffle=False
)


class Table(Layer):
    """A formula that looks ids up.

    Example:
        >>> Table(rows=3)([2.0]).shape
        (2,)
    """

    rows: int

    @property
    def cardinality(self):
        return self.rows

    @property
    def input_shape(self):
        return (1,)

    def shapes(self):
        return {"table": (self.rows, 2)}

    def initializers(self):
        return {"table": Normal()}

    def formula(self, x, table):
        return np.take(table, x[:, 0].astype(int), axis=0)


class Joined(Layer):
    """A formula of several inputs, one of which holds ids.

    Example:
        >>> Joined()({"numbers": [1.0, 2.0], "city": [3.0]}).shape
        (2,)
    """

    cardinality: ClassVar = {"city": CITIES}

    @property
    def input_shape(self):
        return {"numbers": (2,), "city": (1,)}

    def shapes(self):
        return {"table": (CITIES, 2)}

    def formula(self, x, table):
        return x["numbers"] ** 2 + np.take(table, x["city"][:, 0].astype(int), axis=0)


class Branches(Composite):
    """Numbers through one child, ids through the other."""

    numbers: Model
    city: Model

    def children(self):
        return {"numbers": self.numbers, "city": self.city}

    @property
    def input_shape(self):
        return {"numbers": (2,), "city": (1,)}

    def apply(self, x, values, record):
        return self.forward_child("numbers", x["numbers"], record) + self.forward_child("city", x["city"], record)

    def apply_backward(self, gradient, values, record, gradients):
        return {name: self.backward_child(name, gradient, record) for name in ("numbers", "city")}


class Columns(Branches):
    """The columns of one array: the ids of a shop, two numbers, the ids of a city."""

    shop: Model

    def children(self):
        return {"numbers": self.numbers, "city": self.city, "shop": self.shop}

    @property
    def input_shape(self):
        return (4,)

    def apply(self, x, values, record):
        parts = {"shop": x[:, :1], "numbers": x[:, 1:3], "city": x[:, 3:]}
        return sum(self.forward_child(name, part, record) for name, part in parts.items())

    def apply_backward(self, gradient, values, record, gradients):
        return np.hstack([self.backward_child(name, gradient, record) for name in ("shop", "numbers", "city")])


def embedding(rows=CITIES):
    return Sequential(Embedding(rows, 2), Flatten())


def columns():
    return Columns(numbers=Dense(units=2), city=embedding(), shop=Table(rows=SHOPS))


NAMED = {"numbers": NUMBERS, "city": CITY}
FLAT = np.hstack([SHOP, NUMBERS, CITY])
CASES = {
    "an embedding": (embedding, CITY, "x[{}, 0]", 0),
    "an own layer": (lambda: Sequential(Table(rows=CITIES)), CITY, "x[{}, 0]", 0),
    "an own layer in a residual": (lambda: Residual(Table(rows=CITIES), Dense(2, 1)), CITY, "x[{}, 0]", 0),
    "a layer of several inputs": (Joined, NAMED, "x['city'][{}, 0]", 0),
    "a composite": (lambda: Branches(numbers=Dense(2, 2), city=embedding()), NAMED, "x['city'][{}, 0]", 0),
    "in a composite": (
        lambda: Sequential(Branches(numbers=Dense(units=2), city=Table(rows=CITIES)), Dense(units=2)),
        NAMED,
        "x['city'][{}, 0]",
        0,
    ),
    "a column": (columns, FLAT, "x[{}, 3]", 3),
    "a column in a sequence": (lambda: Sequential(columns(), Dense(units=2)), FLAT, "x[{}, 3]", 3),
}


class Rows:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def read(self, start, stop):
        cut = slice(start, stop)
        return {n: v[cut] for n, v in self.x.items()} if isinstance(self.x, dict) else self.x[cut], self.y[cut]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("way", ["fit", "validation", "Dataset", "evaluate", "predict"])
@pytest.mark.parametrize("bad", [1.7, -1, CITIES, np.inf])
@pytest.mark.parametrize(("make", "x", "place", "column"), CASES.values(), ids=CASES)
def test_ids_are_checked_before_the_first_step(make, x, place, column, bad, way):
    model = make()
    y = Y[:, :1] if isinstance(model, Residual) else Y
    TRAINER.fit(model, (x, y))
    before = model.parameters.vector.copy()
    wrong = {name: leaf.copy() for name, leaf in x.items()} if isinstance(x, dict) else x.copy()
    (wrong["city"] if isinstance(x, dict) else wrong)[7, column] = bad
    ways = {
        "fit": lambda: TRAINER.fit(model, (wrong, y)),
        "validation": lambda: TRAINER.fit(model, (x, y), (wrong, y)),
        "Dataset": lambda: TRAINER.fit(model, Rows(wrong, y)),
        "evaluate": lambda: TRAINER.evaluate(model, (wrong, y)),
        "predict": lambda: TRAINER.predict(model, wrong),
    }
    message = f"whole ids in 0..{CITIES - 1}; got {float(bad)}" if np.isfinite(bad) else "must be finite; got inf"
    with pytest.raises(DataError, match=re.escape(f"{message} at {place.format(7)}")):
        ways[way]()
    assert np.array_equal(model.parameters.vector, before)


def test_each_column_has_its_own_ids():
    wrong = FLAT.copy()
    wrong[4, 0] = SHOPS
    with pytest.raises(DataError, match=re.escape(f"whole ids in 0..{SHOPS - 1}; got 3.0 at x[4, 0] (1 of 24 ids)")):
        TRAINER.fit(columns(), (wrong, Y))


def test_ids_of_two_tables_fit_the_smaller_one():
    class Both(Branches):
        check = "off"  # the numbers get no gradient

        def apply(self, x, values, record):
            return self.forward_child("numbers", x["city"], record) + self.forward_child("city", x["city"], record)

    model = Both(numbers=Table(rows=3), city=Table(rows=4))
    with pytest.raises(DataError, match=re.escape("0..2; got 3.0 at x['city'][1, 0]")):
        TRAINER.fit(model, ({"numbers": NUMBERS[:3], "city": [[0], [3], [1]]}, Y[:3]))


@pytest.mark.parametrize("bad", [1.7, -1])
def test_a_call_checks_ids(bad):
    for model in (Joined(), Branches(numbers=Dense(2, 2), city=Table(rows=CITIES))):
        for function in (model, model.forward):
            with pytest.raises(DataError, match=re.escape(f"must hold whole ids in 0..4; got {float(bad)}")):
                function({"numbers": [[1.0, 2.0]], "city": [[bad]]})


def test_rows_like_those_before_are_checked_again():
    good = {"numbers": [[1.0, 2.0]], "city": [[4]]}
    for model in (Joined(), Branches(numbers=Dense(2, 2), city=Table(rows=CITIES))):
        model.predict(good)
        with pytest.raises(DataError, match=re.escape("must hold whole ids in 0..4; got 5.0")):
            model.predict(good | {"city": [[5]]})
        with pytest.raises(ShapeError):
            model.predict({"number": good["numbers"], "city": good["city"]})


def test_gradients_by_numbers_beside_ids_are_checked():
    class Wrong(Columns):
        check = "off"

        def apply_backward(self, gradient, values, record, gradients):
            dx = super().apply_backward(gradient, values, record, gradients)
            return dx * [1.0, 1.0, self.factor, 1.0]

        factor: float = 1.0

    for model, x in ((Joined(), NAMED), (columns(), FLAT), (Sequential(columns(), Dense(units=2)), FLAT)):
        TRAINER.fit(model, (x, Y), epochs=1)
        report = check_gradients(model, HalfSquaredError(), x, Y)
        assert report.rows[-1].parameter == ("x" if x is FLAT else "x['numbers']")
    report = check_gradients(embedding(), HalfSquaredError(), CITY, Y)
    assert [row.parameter for row in report.rows] == ["0.weights"]
    wrong = Wrong(numbers=Dense(2, 2), city=embedding(), shop=Table(rows=SHOPS), factor=1.1)
    with pytest.raises(DerivativeError, match=r"x +\[\d+, 2\]"):
        check_gradients(wrong, HalfSquaredError(), FLAT, Y, elements=100)


def test_float32_refuses_more_ids_than_it_can_tell_apart():
    many = {"numbers": 2**24, "city": 2**24 + 1}

    class Many(Joined):
        cardinality = many

    Many()
    with pytest.raises(SettingsError, match=r"Many: float32 holds at most 16777216 different ids; got 16777217"):
        Many(dtype="float32")
    with pytest.raises(DataError, match=re.escape("0..16777215; got 16777216.0")):
        Embedding(2**24, 1, dtype="float32")([2**24 + 1])  # 2**24 after the cast


@pytest.mark.parametrize("named", [{"town": CITIES}, CITIES])
def test_a_cardinality_names_inputs(named):
    class Misspelt(Joined):
        cardinality = named

    with pytest.raises(SettingsError, match=re.escape("but the inputs are x['numbers'], x['city']")):
        Misspelt()(NAMED)


def test_conformance_checks_choose_ids():
    for layer in (Joined(), Table(rows=3)):
        assert "its gradients are right and it pickles" in check_component(layer)


class Looked(Layer):
    """A table that is looked up by hand."""

    rows: int
    factor: float = 1.0

    @property
    def input_shape(self):
        return (1,)

    @property
    def cardinality(self):
        return self.rows

    def shapes(self):
        return {"table": (self.rows, 2)}

    @property
    def output_shape(self):
        return (2,)

    def apply(self, x, values, record):
        record["ids"] = x[:, 0].astype(int)
        if np.any(record["ids"] != x[:, 0]):
            raise ValueError("ids are whole numbers")
        return values["table"][record["ids"]]

    def apply_backward(self, gradient, values, record, gradients):
        gradients["table"][...] = 0.0
        np.add.at(gradients["table"], record["ids"], self.factor * gradient)
        return np.zeros((len(gradient), 1))


def test_a_hand_written_layer_of_ids_is_checked():
    assert Looked(rows=3)([[2]]).shape == (1, 2)
    with pytest.raises(DerivativeError, match=r"Looked.apply_backward: gradients\['table'\] is wrong"):
        Looked(rows=3, factor=1.1)([[2]])
