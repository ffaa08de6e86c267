"""Datasets, predict, forward and backward against the five rules.

The table is read as: this call, made between two parts of a training, ends with this error; and then training goes on
to the last bit as if the call had not been made. Arrays are in test_refused_inputs, a loss's or metric's own call in
test_refused_calls.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from eleven_rows import DATES, INF, LABELS, NAN, X, Y, put

import framework.data.blocks
from framework import (
    Accuracy,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    Embedding,
    Flatten,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
)
from framework.base import DtypeError, UsageError
from framework.formulas import TopK

MASKED = np.ma.MaskedArray(X, X == 0)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 6 rows: two reads for 11 rows."""
    monkeypatch.setattr(framework.data.blocks, "BLOCK_ROWS", 6)


class Rows:
    """A Dataset of these arrays; ``change`` is what its reads give instead, from the number of the read on."""

    def __init__(self, *arrays, change=None, rows=11):
        self.arrays, self.change, self.rows = arrays, change, rows

    def __len__(self):
        return self.rows

    def read(self, start, stop):
        parts = tuple(array[start:stop] for array in self.arrays)
        return parts if self.change is None else self.change(start, *parts)


class World:
    """A binary classifier and one of three classes, both in the middle of their training."""

    def __init__(self):
        common = {"optimizer": SGDOptimizer(learning_rate=0.1, momentum=0.9), "epochs": 2, "batch_size": 4}
        self.trainer = Trainer(loss=BinaryCrossEntropy(), metrics=[Accuracy()], **common)
        self.three = Trainer(loss=CrossEntropy(), metrics=[Accuracy(), TopK(k=2)], **common)
        self.model, self.classes = Neuron(2, Sigmoid()), Dense(2, 3, Softmax())
        self.run = self.trainer.fit(self.model, (X, Y))
        self.other = self.three.fit(self.classes, (X, LABELS))
        self.words = Sequential(Embedding(5, 2), Flatten((2, 2)), Neuron(4, Sigmoid()))
        self.words_run = self.trainer.fit(self.words, (np.abs(X), Y))

    def bits(self):
        found = []
        for run in (self.run, self.other, self.words_run):
            rows = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
            memory = [array.tobytes() for array in run.optimizer.memory.values()]
            found.append((run.model.parameters.vector.tobytes(), memory, repr(rows), run.step))
        return found

    def go_on(self):
        self.trainer.resume(self.run, (X, Y), epochs=1)
        self.three.resume(self.other, (X, LABELS), epochs=1)
        self.trainer.resume(self.words_run, (np.abs(X), Y), epochs=1)
        return self.bits()

    def fit(self, data):
        return self.trainer.replace(shuffle=False).fit(self.model, data)

    def fit_classes(self, data):
        return self.three.replace(shuffle=False).fit(self.classes, data)

    def predict(self, x):
        return self.trainer.predict(self.model, x)

    def forward(self, x):
        return self.model.forward(x)

    def backward(self, gradient):
        self.model.forward(X)
        return self.model.backward(gradient)

    def learn(self, target, weight=None):
        self.model.forward(X)
        return BinaryCrossEntropy().backward(self.model, target, weight)


FORM = "fit: argument 'data' must be (x, y), (x, y, weight) or a Dataset with len() and read(start, stop); got"
READ = "fit: Rows.read(0, 6)"
SECOND = "fit: Rows.read(6, 11) must return one form, and weights for all rows or for none; got"
DATASETS = [
    (DataError, f"{FORM} ndarray; write fit(model, (x, y))", lambda w: w.fit(X)),
    (DataError, f"{FORM} list of 11; write fit(model, (x, y))", lambda w: w.fit(X.tolist())),
    (DataError, f"{FORM} tuple of 4; write fit(model, (x, y))", lambda w: w.fit((X, Y, Y, Y))),
    (DataError, f"{FORM} dict", lambda w: w.fit({"x": X, "y": Y})),
    (UsageError, "fit: a generator can be read once, which is one epoch; got 2", lambda w: w.fit(p for p in (X, Y))),
    (DataError, f"{FORM} NoneType", lambda w: w.fit(None)),
    (DataError, f"{FORM} DataFrame; write fit(model, (table, 'target'))", lambda w: w.fit(pd.DataFrame(X))),
    (DataError, "fit: validation: argument 'data' must", lambda w: w.trainer.fit(w.model, (X, Y), [X])),
    (DataError, "fit: argument 'data' must have at least one row; got a Data", lambda w: w.fit(Rows(X, Y, rows=0))),
    (DataError, "fit: argument 'data' must have a number of rows; its", lambda w: w.fit(Rows(X, Y, rows=2.5))),
    (DataError, "fit: argument 'data' must have a number of rows; its", lambda w: w.fit(Rows(X, Y, rows=-1))),
    (DataError, "fit: argument 'data' must have a number of rows; its", lambda w: w.fit(Rows(X, Y, rows=10**30))),
    (DataError, "fit: argument 'data' must have a number of rows; its", lambda w: w.fit(Rows)),
    (DataError, f"{READ} must return (x, y) or (x, y, weight); got 1 parts", lambda w: w.fit(Rows(X))),
    (DataError, f"{READ} must return (x, y) or (x, y, weight); got No", lambda w: w.fit(Rows(change=lambda *_: None))),
    (ShapeError, f"{READ} must return 6 rows; got 3", lambda w: w.fit(Rows(X[:3], Y[:3]))),
    (
        DataError,
        f"{READ}: argument 'x' must be finite; got nan at x[5, 1]",
        lambda w: w.fit(Rows(put(X, (5, 1), NAN), Y)),
    ),
    (DataError, f"{READ}: argument 'y' must be finite; got inf at y[2]", lambda w: w.fit(Rows(X, put(Y, 2, INF)))),
    (DataError, f"{READ}: argument 'y' must lie in [0, 1]; got 2.0 at row 2", lambda w: w.fit(Rows(X, LABELS))),
    (DtypeError, f"{READ}: argument 'x' must have no masked values", lambda w: w.fit(Rows(MASKED, Y))),
    (DtypeError, f"{READ}: argument 'y' must hold real numbers; got dates", lambda w: w.fit(Rows(X, DATES))),
    (DtypeError, f"{READ}: argument 'x' must hold real numbers; got text", lambda w: w.fit(Rows(X.astype(str), Y))),
    (ShapeError, f"{READ}: argument 'x' must have the shape (rows, 2)", lambda w: w.fit(Rows(np.ones((11, 3)), Y))),
    (DataError, f"{READ}: argument 'weight' must not be negative", lambda w: w.fit(Rows(X, Y, -Y))),
    (DataError, f"{READ}: argument 'y' must have integer labels in 0..2", lambda w: w.fit_classes(Rows(X, LABELS + 1))),
    (
        DataError,
        "evaluate: Rows.read(0, 6): argument 'x' must",
        lambda w: w.trainer.evaluate(w.model, Rows(X * NAN, Y)),
    ),
]
IDS = "argument 'x' must hold whole ids in 0..4; got"
MODELS = [
    (DtypeError, "predict: argument 'x' must hold real numbers; got Python objects", lambda w: w.predict(None)),
    (DataError, "predict: argument 'x' must be finite; got nan at x[2, 0]", lambda w: w.predict(put(X, (2, 0), NAN))),
    (ShapeError, "predict: argument 'x' must have the shape (rows, 2); got (2,)", lambda w: w.predict(X[0])),
    (ShapeError, "predict: argument 'x' must have the shape (rows, 2); got (0,)", lambda w: w.predict([])),
    (ShapeError, "predict: argument 'x' must be a full grid", lambda w: w.predict((X, Y))),
    (DtypeError, "x must hold real numbers; got text, first 'a' at x[0]", lambda w: w.forward(["a", "b"])),
    (DtypeError, "x must hold real numbers; got Python objects, first None at x[1]", lambda w: w.forward([1, None])),
    (DtypeError, "x must hold real numbers; got complex numbers", lambda w: w.forward(X * 1j)),
    (DtypeError, "x must hold real numbers; got dates", lambda w: w.model(np.stack([DATES, DATES], 1))),
    (DtypeError, "x must have no masked values", lambda w: w.model([*MASKED])),
    (ShapeError, "x must be a full grid of numbers", lambda w: w.model([[1.0, 2.0], [1.0]])),
    (ShapeError, "x must be one sample of shape (2,) or a batch", lambda w: w.model(np.ones((2, 3)))),
    (DataError, "x must be finite; got a whole number too large", lambda w: w.model([10**400, 0])),
    (ShapeError, "gradient must have the shape of the prediction, (11,)", lambda w: w.backward(X)),
    (DtypeError, "gradient must hold real numbers; got text", lambda w: w.backward(["a"] * 11)),
    (DtypeError, "gradient must have no masked values", lambda w: w.backward(MASKED[:, 0])),
    (UsageError, "backward: call Neuron.forward(x) first", lambda w: w.model.backward(Y)),
    (DataError, "target must be finite; got nan at target[3]", lambda w: w.learn(put(Y, 3, NAN))),
    (DataError, "target must lie in [0, 1]; got 2.0 at row 2", lambda w: w.learn(LABELS)),
    (ShapeError, "target must be a full grid of numbers", lambda w: w.learn([[1], [1, 2], *[[1]] * 9])),
    (ShapeError, "target must have the shape of the output, (11,)", lambda w: w.learn(Y[:10])),
    (DataError, "weight must not be negative; got -1.0 at row 1", lambda w: w.learn(Y, -Y)),
    (DataError, "argument 'weight' must have a positive sum", lambda w: w.learn(Y, 0 * Y)),
    (UsageError, "backward: the first argument must be the model", lambda w: w.trainer.loss.backward(Y, Y)),
    (DataError, f"fit: {IDS} 5.0 at x[4, 0] (1 of", lambda w: w.trainer.fit(w.words, (put(np.abs(X), (4, 0), 5), Y))),
    (DataError, f"fit: {IDS} -3.0 at x[0, 0] (10 of", lambda w: w.trainer.fit(w.words, (X, Y))),
    (
        DataError,
        f"fit: validation: {IDS} 3.5 at x[0, 0] (22 of",
        lambda w: w.trainer.fit(w.words, (np.abs(X), Y), (np.abs(X) + 0.5, Y)),
    ),
    (DataError, f"predict: {IDS} 7.0 at x[0, 0] (22 of", lambda w: w.trainer.predict(w.words, 0 * X + 7)),
]
ALL = [*DATASETS, *MODELS]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("place", range(len(ALL)), ids=[f"{i}: {row[1][:60]}" for i, row in enumerate(ALL)])
def test_a_bad_call_obeys_the_five_rules(place):
    error, line, call = ALL[place]
    world, twin = World(), World()
    before = world.bits(), pickle.dumps((X, Y, LABELS, MASKED)), pickle.dumps(np.random.get_state())  # noqa: NPY002
    with pytest.raises(error) as caught:
        call(world)
    assert type(caught.value) is error
    assert str(caught.value).startswith(line)
    after = world.bits(), pickle.dumps((X, Y, LABELS, MASKED)), pickle.dumps(np.random.get_state())  # noqa: NPY002
    assert after == before
    assert world.go_on() == twin.go_on()


ONE_HOT = np.eye(3)[LABELS]
FORMS = {
    "classes, then one-hot rows": (
        lambda s, x, y: (x, ONE_HOT[s : s + len(x)] if s else y),
        "x (rows, 2), y (rows, 3), no w",
    ),
    "one-hot rows, then classes": (
        lambda s, x, y: (x, y if s else ONE_HOT[:6]),
        "x (rows, 2), y (rows,), no weights; before",
    ),
    "weights, then none": (
        lambda s, x, y: (x, y) if s else (x, y, y + 1),
        "x (rows, 2), y (rows,), no weights; before x",
    ),
    "no weights, then some": (
        lambda s, x, y: (x, y, y + 1) if s else (x, y),
        "x (rows, 2), y (rows,), weights; before x",
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_a_dataset_that_changes_its_form_is_refused_before_the_step_that_would_use_it(case):
    change, said = FORMS[case]
    trainer = World().three.replace(shuffle=False, batch_size=6)
    model = Dense(2, 3, Softmax())
    before = model.parameters.vector.tobytes()
    with pytest.raises(DataError) as caught:
        trainer.fit(model, Rows(X, LABELS, change=change))
    assert str(caught.value).startswith(f"{SECOND} {said}")
    assert model.parameters.vector.tobytes() == before
    assert trainer.fit(model, Rows(X, LABELS)).epoch == 2


def test_the_columns_of_a_dataset_of_frames_are_those_of_its_first_block(monkeypatch):
    monkeypatch.setattr(framework.data.blocks, "BLOCK_ROWS", 6)

    class Frames:
        def __init__(self, later):
            self.later = later

        def __len__(self):
            return 12

        def read(self, start, stop):
            columns = ["a", "b"] if start == 0 else self.later
            return pd.DataFrame(np.ones((stop - start, 2)), columns=columns), np.zeros(stop - start)

    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    model = Neuron(2)
    with pytest.raises(DataError, match="must have the columns of fit, in that order: a, b; got b, a"):
        trainer.fit(model, Frames(["b", "a"]))
    trainer.fit(model, Frames(["a", "b"]))
    assert model.columns == ("a", "b")
    with pytest.raises(DataError, match="must have the columns of fit, in that order: a, b; got b, a"):
        trainer.predict(model, pd.DataFrame({"b": [1.0], "a": [1.0]}))
