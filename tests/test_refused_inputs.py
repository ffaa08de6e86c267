"""Bad input, form by form, against the five rules, and harmless input against its plain form.

A bad input is refused before the first update with a line that names the argument, what was expected, what came and
the first bad place; weights, memory and history stay as they are to the last bit; the caller's data and NumPy's random
state are untouched; and the same objects train on with good data as if nothing had been. What is harmless gives the
bits of its plain form.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from eleven_rows import DATES, LABELS, X, Y, mask, put

from framework import (
    Accuracy,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    Identity,
    Neuron,
    ReLU,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
)
from framework.base import DtypeError

WEIGHT = np.arange(11) % 4.0


class Masked:
    """An object that becomes a masked array."""

    def __array__(self, dtype=None, copy=None):
        return mask(X)


def frame(array, columns=("a", "b")):
    return pd.DataFrame(array, columns=columns)


def binary(dtype="float64"):
    trainer = Trainer(
        loss=BinaryCrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.1, momentum=0.9),
        epochs=2,
        batch_size=4,
        metrics=[Accuracy()],
    )
    return trainer, Neuron(2, Sigmoid(), dtype=dtype), (X, Y, WEIGHT)


def classes():
    trainer, _, _ = binary()
    return trainer.replace(loss=CrossEntropy()), Dense(2, 3, Softmax()), (X, LABELS)


def single():
    """float32, which holds less."""
    return binary("float32")


RAGGED = [[1.0, 2.0], [3.0], *[[0.0, 0.0]] * 9]
GRID = "must be a full grid of numbers; got rows of different lengths"
REAL = "must hold real numbers; got"
MASKED = "must have no masked values; got a masked array; fill or drop them first"
DROP = "; drop the rows with missing values"
RANGE = "Binary labels are 0 and 1; for more classes use CrossEntropy"

BAD_X = {
    "nan": (
        put(X, (1, 0), np.nan),
        DataError,
        f"must be finite; got nan at x[1, 0] (1 of 22 values){DROP}, or fill these, as np.nan_to_num(x) does by 0",
    ),
    "inf": (put(X, 3, -np.inf), DataError, "must be finite; got -inf at x[3, 0] (2 of 22 values)"),
    "text": (X.astype(str), DtypeError, f"{REAL} text, first '-3.0' at x[0, 0]"),
    "bytes": (X.astype("S4"), DtypeError, f"{REAL} bytes, first b'-3.0' at x[0, 0]"),
    "None": (put(X, (4, 1), None, object), DtypeError, f"{REAL} Python objects, first None at x[4, 1]"),
    "complex": (X + 0j, DtypeError, f"{REAL} complex numbers, first np.complex128(-3+0j) at x[0, 0]"),
    "dates": (np.stack([DATES, DATES], 1), DtypeError, f"{REAL} dates, first np.datetime64('2020-01-01') at x[0, 0]"),
    "durations": (X.astype("m8[s]"), DtypeError, f"{REAL} durations, first np.timedelta64(-3,'s') at x[0, 0]"),
    "masked": (mask(X), DtypeError, MASKED),
    "masked rows in a list": ([*mask(X)], DtypeError, MASKED),
    "masked numbers in lists": ([[1.0, np.ma.masked], *X.tolist()[1:]], DtypeError, MASKED),
    "an object that gives a masked array": (Masked(), DtypeError, MASKED),
    "text among numbers": ([*X.tolist()[:10], [1.0, "2"]], DtypeError, f"{REAL} text, first '2' at x[10, 1]"),
    "a date among numbers": ([*X.tolist()[:10], [1.0, DATES[0]]], DtypeError, f"{REAL} Python objects, first np.date"),
    "a duration among objects": (
        put(X, (3, 1), DATES[1] - DATES[0], object),
        DtypeError,
        f"{REAL} Python objects, fir",
    ),
    "a table with nan": (
        frame(put(X, (7, 1), np.nan)),
        DataError,
        "must be finite; got nan in column 'b', row 7 (1 of",
    ),
    "records": (X.view([("a", float)]), DtypeError, f"{REAL} records, first np.void((-3.0,), dtype=[('a', '<f8')]) at"),
    "text of variable width": (X.astype(np.dtypes.StringDType()), DtypeError, f"{REAL} text, first '-3.0' at x[0, 0]"),
    "a set": ({1.0, 2.0}, DtypeError, f"{REAL} Python objects, first {{1.0, 2.0}} at x"),
    "a dict": ({"a": 1.0}, ShapeError, "must be a batch of shape (rows, 2); got a dict of x['a']"),
    "nothing": (None, DtypeError, f"{REAL} Python objects, first None at x"),
    "a word": ("ab", DtypeError, f"{REAL} text, first 'ab' at x"),
    "too large for a float": ([[10**400, 1]] * 11, DataError, "must be finite; got a whole number too large"),
    "ragged": (RAGGED, ShapeError, f"{GRID}: x[1] has length 1, x[0] has length 2"),
    "a number among rows": ([[1.0, 2.0]] * 10 + [3.0], ShapeError, f"{GRID}: x[10] is a single value, x[0] has"),
    "flat": (X[:, 0], ShapeError, "must have the shape (rows, 2); got (11,); one feature is x.reshape(-1, 1)"),
    "a column more": (np.ones((11, 3)), ShapeError, "must have the shape (rows, 2); got (11, 3)"),
    "no columns": (X[:, :0], ShapeError, "must have the shape (rows, 2); got (11, 0)"),
}
BAD_Y = {
    "nan": (put(Y, 3, np.nan), DataError, f"must be finite; got nan at y[3] (1 of 11 values){DROP}"),
    "text": (["no", "yes"] * 5 + ["no"], DtypeError, f"{REAL} text, first 'no' at y[0]"),
    "None": ([*Y[:10], None], DtypeError, f"{REAL} Python objects, first None at y[10]"),
    "dates": (DATES, DtypeError, f"{REAL} dates, first np.datetime64('2020-01-01') at y[0]"),
    "masked": (mask(Y), DtypeError, MASKED),
    "masked numbers in a list": ([*Y[:10], np.ma.masked], DtypeError, MASKED),
    "complex": (Y + 1j, DtypeError, f"{REAL} complex numbers, first np.complex128(1j) at y[0]"),
    "inf": (put(Y, 9, np.inf), DataError, "must be finite; got inf at y[9] (1 of 11 values)"),
    "ragged": ([[0.0], [1.0, 0.0], *[[0.0]] * 9], ShapeError, f"{GRID}: y[1] has length 2, y[0] has length 1"),
    "two columns": (X, ShapeError, "must have the shape of the output, (11,); got (11, 2)"),
    "-1 and 1": (2 * Y - 1, DataError, f"must lie in [0, 1]; got -1.0 at row 0. {RANGE}"),
    "0, 1 and 2": (LABELS, DataError, f"must lie in [0, 1]; got 2.0 at row 2. {RANGE}"),
}
BAD_CLASSES = {
    "too high": (put(LABELS, 6, 3, int), DataError, "must have integer labels in 0..2; got 3 at row 6 (1 of 11 rows)"),
    "negative": (LABELS - 1, DataError, "must have integer labels in 0..2; got -1 at row 0 (4 of 11 rows)"),
    "fraction": (LABELS / 2, DataError, "must have integer labels in 0..2; got 0.5 at row 1 (4 of 11 rows)"),
    "nan": (put(LABELS, 5, np.nan, float), DataError, "must be finite; got nan at y[5] (1 of 11 values)"),
    "two at once": (put(np.eye(3)[LABELS], (4, 0), 1), DataError, "must have rows that sum to 1; row 4 sums to 2"),
    "two of three": (
        np.ones((11, 2)) / 2,
        ShapeError,
        "must be classes (11,) or have the output's shape, (11, 3); got (11, 2)",
    ),
}
BAD_WEIGHT = {
    "nan": (put(WEIGHT, 2, np.nan), DataError, f"must be finite; got nan at weight[2] (1 of 11 values){DROP}"),
    "inf": (put(WEIGHT, 4, np.inf), DataError, "must be finite; got inf at weight[4] (1 of 11 values)"),
    "too large a sum": (np.full(11, 1e308), DataError, "must have a sum that float64 holds; got inf; divide"),
    "masked": (mask(WEIGHT), DtypeError, MASKED),
    "ragged": ([[1.0], [1.0, 2.0], *[[1.0]] * 9], ShapeError, f"{GRID}: weight[1] has length 2, weight[0] has"),
    "a row less": (WEIGHT[:10], ShapeError, "must have one weight per row, (11,); got (10,)"),
    "a number": (1.0, ShapeError, "must have one weight per row, (11,); got ()"),
    "negative": (put(WEIGHT, 2, -1), DataError, "must not be negative; got -1.0 at row 2"),
    "all zero": (0 * WEIGHT, DataError, "must have a positive sum; all 11 weights are 0"),
    "one a value": (X, ShapeError, "must have one weight per row, (11,); got (11, 2)"),
    "text": (["1"] * 11, DtypeError, f"{REAL} text, first '1' at weight[0]"),
}
LARGE_X, LARGE_Y = put(X, (2, 1), 1e300), put(Y, 3, 1e300)

BAD = {
    **{f"x: {k}": (binary, (x, Y), error, f" 'x' {line}") for k, (x, error, line) in BAD_X.items()},
    **{f"y: {k}": (binary, (X, y), error, f" 'y' {line}") for k, (y, error, line) in BAD_Y.items()},
    **{f"class: {k}": (classes, (X, y), error, f" 'y' {line}") for k, (y, error, line) in BAD_CLASSES.items()},
    **{f"weight: {k}": (binary, (X, Y, w), error, f" 'weight' {line}") for k, (w, error, line) in BAD_WEIGHT.items()},
    "x: too large": (single, (LARGE_X, Y), DataError, " 'x' must be finite; got inf at x[2, 1] (1 of 22 values)"),
    "y: too large": (single, (X, LARGE_Y), DataError, " 'y' must be finite; got inf at y[3] (1 of 11 values)"),
    "weight: too large a sum in float32": (
        single,
        (X, Y, np.full(11, 1e38)),
        DataError,
        " 'weight' must have a sum that float32 holds; got 1.1e+39; divide",
    ),
    "no rows": (binary, (X[:0], Y[:0]), DataError, " 'x' must have at least one row; got shape (0, 2)"),
    "a row less": (binary, (X, Y[:10]), ShapeError, "s 'x' and 'y' must have the same number of rows; got shapes (11"),
    "a number": (binary, (X, 1.0), ShapeError, "s 'x' and 'y' must have the same number of rows; got shapes (11"),
}
CALLS = ["fit", "resume", "validation", "evaluate"]


def bits_of(run):
    rows = [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
    memory = [array.tobytes() for array in run.optimizer.memory.values()]
    return run.model.parameters.vector.tobytes(), memory, rows, run.step


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("case", BAD)
def test_a_bad_input_obeys_the_five_rules(case, call):
    make, bad, error, line = BAD[case]
    trainer, model, good = make()
    run = trainer.fit(model, good, good)
    twin = trainer.fit(make()[1], good, good)
    calls = {
        "fit": lambda: trainer.fit(model, bad),
        "resume": lambda: trainer.resume(run, bad, epochs=1),
        "validation": lambda: trainer.fit(model, good, bad),
        "evaluate": lambda: trainer.evaluate(model, bad),
    }
    before = bits_of(run), pickle.dumps(bad), pickle.dumps(np.random.get_state())  # noqa: NPY002
    with pytest.raises(error) as caught:
        calls[call]()
    assert type(caught.value) is error
    prefix = {"validation": "fit: validation"}.get(call, call)
    assert str(caught.value).startswith(f"{prefix}: argument{line}")
    assert (bits_of(run), pickle.dumps(bad), pickle.dumps(np.random.get_state())) == before  # noqa: NPY002
    trainer.resume(run, good, good, epochs=1)
    trainer.resume(twin, good, good, epochs=1)
    assert bits_of(run) == bits_of(twin)


@pytest.mark.parametrize("case", [case for case in BAD if case.startswith("x: ")])
def test_predict_refuses_what_fit_refuses(case):
    make, bad, error, line = BAD[case]
    trainer, model, _ = make()
    with pytest.raises(error) as caught:
        trainer.predict(model, bad[0])
    assert str(caught.value).startswith(f"predict: argument{line}")


WITHOUT_NEGATIVES = np.abs(X)
FORMS = {
    "int": lambda a: a.astype(int),
    "uint8": lambda a: a.astype("uint8"),
    "float16": lambda a: a.astype("float16"),
    "float32": lambda a: a.astype("float32"),
    "longdouble": lambda a: a.astype("longdouble"),
    "big-endian float": lambda a: a.astype(">f8"),
    "big-endian int": lambda a: a.astype(">i4"),
    "objects": lambda a: a.astype(object),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "list": lambda a: a.tolist(),
    "list of rows": list,
    "frame": lambda a: frame(a) if a.ndim == 2 else pd.Series(a),
    "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
}


def trained(make, x, y, weight=None):
    """Every number that training, evaluation and prediction give."""
    trainer, model, _ = make()
    run = trainer.fit(model, (x, y, weight), (x, y, weight))
    return bits_of(run), trainer.evaluate(model, (x, y, weight)), trainer.predict(model, x).tobytes()


@pytest.mark.parametrize("make", [binary, single])
@pytest.mark.parametrize("form", FORMS)
def test_a_harmless_form_gives_the_bits_of_the_plain_one(make, form):
    change = FORMS[form]
    plain = trained(make, WITHOUT_NEGATIVES, Y, WEIGHT)
    assert trained(make, change(WITHOUT_NEGATIVES), change(Y), change(WEIGHT)) == plain


def test_truth_values_are_zeros_and_ones():
    x = X > 0
    assert trained(binary, x, Y == 1, WEIGHT > 0) == trained(binary, x.astype(float), Y, (WEIGHT > 0).astype(float))


COLUMNS = {
    "column": lambda y: y[:, None],
    "list": lambda y: y[:, None].tolist(),
    "bool": lambda y: y[:, None] == 1,
}


@pytest.mark.parametrize("form", COLUMNS)
def test_targets_of_one_output_may_be_a_column(form):
    assert trained(binary, X, COLUMNS[form](Y)) == trained(binary, X, Y)


CLASS_FORMS = {
    "int8": lambda y: y.astype("int8"),
    "uint64": lambda y: y.astype("uint64"),
    "big-endian": lambda y: y.astype(">i2"),
    "float": lambda y: y.astype(float),
    "column": lambda y: y[:, None],
    "list": lambda y: y.tolist(),
    "one-hot": lambda y: np.eye(3)[y],
    "one-hot bool": lambda y: np.eye(3, dtype=bool)[y],
}


@pytest.mark.parametrize("form", CLASS_FORMS)
def test_classes_may_come_in_any_form(form):
    assert trained(classes, X, CLASS_FORMS[form](LABELS)) == trained(classes, X, LABELS)


def test_a_frames_columns_must_keep_their_order():
    trainer, model, _ = binary()
    good, swapped = frame(X), frame(X[:, ::-1], ["b", "a"])
    line = "argument 'x' must have the columns of fit, in that order: a, b; got b, a; choose them by their names"
    with pytest.raises(DataError) as caught:
        trainer.fit(model, (good, Y), (swapped, Y))
    assert str(caught.value) == f"fit: validation: {line}"
    run = trainer.fit(model, (good, Y), (good, Y))
    for name, call in {
        "predict": lambda: trainer.predict(model, swapped),
        "evaluate": lambda: trainer.evaluate(model, (swapped, Y)),
        "resume": lambda: trainer.resume(run, (swapped, Y), epochs=1),
    }.items():
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == f"{name}: {line}"
    assert np.array_equal(trainer.predict(model, good), trainer.predict(model, X))


@pytest.mark.parametrize(
    ("loss", "model", "y"),
    [
        (BinaryCrossEntropy(), Neuron(2, Identity()), Y),
        (BinaryCrossEntropy(), Neuron(2), Y),
        (BinaryCrossEntropy(), Neuron(2, Tanh()), Y),
        (BinaryCrossEntropy(), Neuron(2, ReLU()), Y),
        (CrossEntropy(), Dense(2, 3, ReLU()), LABELS),
        (CrossEntropy(), Dense(2, 3), LABELS),
        (CrossEntropy(), Dense(2, 3, Sigmoid()), LABELS),
    ],
)
def test_an_output_that_cannot_serve_the_loss_is_refused(loss, model, y):
    trainer = binary()[0].replace(loss=loss)
    before = model.parameters.vector.copy()
    for call in (trainer.fit, trainer.evaluate):
        with pytest.raises(
            SettingsError, match=f"{type(loss).__name__} needs .* the loss works on the logits by itself"
        ):
            call(model, (X, y))
    assert np.array_equal(model.parameters.vector, before)


def test_a_softmax_of_one_unit_is_refused():
    with pytest.raises(SettingsError, match="use Sigmoid for two classes"):
        Dense(2, 1, Softmax())
