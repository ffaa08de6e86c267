"""Arrays at random: what is harmless gives the bits of its plain form, and one bad value is named with its place.

Every door that takes arrays is tried with any real dtype, byte order, memory order, stride, read-only or as lists, with
any number of rows; then with one bad value at a random place.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from framework import (
    F1,
    R2,
    Accuracy,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    FrameworkError,
    MeanSquaredError,
    Neuron,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
)
from framework.base import DtypeError
from framework.formulas import RootMeanSquaredError, TopK

settings.register_profile("hazards", derandomize=True, deadline=None, max_examples=60, database=None)
quick = settings(settings.get_profile("hazards"))

DTYPES = [*"bBhHiIlLqQ?efdg", ">f8", ">f4", ">i4", ">u2", "<f8", "object"]
ORDERS = {
    "plain": lambda a: a,
    "fortran": np.asfortranarray,
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "reversed all": lambda a: np.flip(np.flip(a).copy()),
    "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "part of a larger array": lambda a: np.pad(a, [(1, 2)] * a.ndim)[tuple(slice(1, 1 + size) for size in a.shape)],
    "transposed": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
    "list": lambda a: a.tolist(),
    "list of rows": list,
    "tuple": lambda a: tuple(map(tuple, a.tolist())) if a.ndim == 2 else tuple(a.tolist()),
    "buffer": lambda a: a if a.dtype.kind == "O" or a.dtype.char == "g" else memoryview(np.ascontiguousarray(a)),
}


def formed(array, dtype, order, *, writeable=True):
    """The same numbers in another dtype and layout."""
    made = array.astype(dtype)
    made.setflags(write=writeable)
    return ORDERS[order](made)


@st.composite
def forms(draw):
    """What a caller does to an array of small whole numbers."""
    dtype, order = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(sorted(ORDERS)))
    if dtype in {">f8", ">f4", ">i4", ">u2"} and order == "buffer":
        order = "plain"  # memoryview knows no byte order
    return dtype, order, draw(st.booleans())


def small(draw, *shape, most=3):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(0, most + 1, shape).astype(float)


def changed(array, form):
    """Return an array in a form, and the plain array of the same numbers."""
    dtype, order, writeable = form
    plain = (array != 0).astype(float) if dtype == "?" else array
    return formed(plain, dtype, order, writeable=writeable), plain.copy()


@st.composite
def cases(draw, labels=1, outputs=1):
    """(x, y, weight) in three forms, and plainly."""
    rows = draw(st.integers(1, 9))
    x, weight = small(draw, rows, 2), small(draw, rows) + 1.0
    y = np.eye(outputs)[small(draw, rows, most=labels).astype(int)] if outputs > 1 else small(draw, rows, most=labels)
    both = [changed(array, draw(forms())) for array in (x, y, weight)]
    return tuple(form for form, _ in both), tuple(plain for _, plain in both)


def trainer(loss):
    return Trainer(
        loss=loss, optimizer=SGDOptimizer(learning_rate=0.1, momentum=0.9), epochs=2, batch_size=4, metrics=[Accuracy()]
    )


def bits(run):
    rows = [[value for key, value in row.items() if key != "seconds"] for row in run.history]
    return run.model.parameters.vector.tobytes(), run.optimizer.memory["velocity"].tobytes(), repr(rows)


def through_all_doors(loss, make, x, y, weight):
    model = make()
    recipe = trainer(loss)
    run = recipe.fit(model, (x, y, weight), (x, y, weight))
    before = bits(run)
    figures = recipe.evaluate(model, (x, y, weight))
    given = [recipe.predict(model, x), model(x), model.forward(x)]
    assert bits(run) == before
    return before, figures, [(a.tobytes(), a.shape, a.dtype) for a in given]


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@quick
@given(cases())
def test_one_output_takes_any_harmless_form(dtype, case):
    given_form, plain = case
    doors = [through_all_doors(BinaryCrossEntropy(), lambda: Neuron(2, Sigmoid(), dtype=dtype), *a) for a in case]
    assert doors[0] == doors[1], (given_form, plain)


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("outputs", [1, 3])
@quick
@given(st.data())
def test_classes_take_any_harmless_form(outputs, data):
    given_form, plain = data.draw(cases(labels=2, outputs=outputs))
    doors = [through_all_doors(CrossEntropy(), lambda: Dense(2, 3, Softmax()), *a) for a in (given_form, plain)]
    assert doors[0] == doors[1], (given_form, plain)


CALLS = {
    "mean squared error": MeanSquaredError(),
    "its gradient": lambda *a: MeanSquaredError().gradient(*a).tobytes(),
    "root mean squared error": RootMeanSquaredError(),
    "r2": R2(),
    "accuracy": lambda p, t, w: Accuracy(threshold=1.0)(p, np.asarray(t) != 0, w),
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", CALLS)
@quick
@given(st.data())
def test_calls_of_losses_and_metrics_take_any_harmless_form(name, data):
    rows = data.draw(st.integers(2, 9))
    prediction, weight = small(data.draw, rows), small(data.draw, rows) + 1.0
    target = np.arange(rows) % 2 * 3.0
    both = [changed(a, data.draw(forms())) for a in (prediction, target, weight)]
    given_forms, plain = (list(parts) for parts in zip(*both, strict=True))
    if np.asarray(given_forms[0]).dtype.newbyteorder("=") == np.float32:
        plain[0] = plain[0].astype(np.float32)  # predictions in float32 have results in float32
    assert CALLS[name](*given_forms) == CALLS[name](*plain), both


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("metric", [Accuracy(), TopK(k=2), F1(), CrossEntropy()])
@quick
@given(st.data())
def test_calls_with_classes_take_any_harmless_form(metric, data):
    rows = data.draw(st.integers(1, 9))
    labels, weight = small(data.draw, rows, most=2), small(data.draw, rows) + 1.0
    prediction = np.full((rows, 3), 0.25) + 0.25 * np.eye(3)[small(data.draw, rows, most=2).astype(int)]
    dtype, order, writeable = data.draw(forms())
    form = formed(prediction, dtype if dtype in "edg" else "d", order, writeable=writeable)
    both = [(form, prediction), *(changed(a, data.draw(forms())) for a in (labels, weight))]
    assert metric(*(form for form, _ in both)) == metric(*(plain for _, plain in both)), both


@quick
@given(forms(), st.sampled_from(["float32", "float64"]))
def test_no_rows_give_no_predictions(form, dtype):
    recipe, model = trainer(MeanSquaredError()), Neuron(2, dtype=dtype)
    none = formed(
        np.zeros((0, 2)), form[0], "plain" if "list" in form[1] or form[1] in {"tuple", "buffer"} else form[1]
    )
    for given_rows in (recipe.predict(model, none), model(none), model.forward(none)):
        assert (given_rows.shape, given_rows.dtype) == ((0,), np.dtype(dtype))
    for data in ((none, np.zeros(0)), (none, np.zeros(0), np.zeros(0))):
        with pytest.raises(FrameworkError, match="argument 'x' must have at least one row"):
            recipe.fit(model, data)


BAD = [np.nan, np.inf, -np.inf, None, "text", b"bytes", 1j, np.datetime64("2020-01-01"), np.timedelta64(3, "s")]
X, Y = np.arange(22.0).reshape(11, 2) % 7 - 3, np.arange(11) % 2.0
MODEL = Neuron(2, Sigmoid())
RUN = trainer(BinaryCrossEntropy()).fit(MODEL, (X, Y, Y + 1))


def spoiled(draw, array):
    """Return an array with one bad value, and where it is."""
    place = tuple(draw(st.integers(0, size - 1)) for size in array.shape)
    bad = draw(st.sampled_from(BAD))
    if isinstance(bad, float):
        made = array.copy()
        made[place] = bad
        return formed(made, draw(st.sampled_from("efdg")), draw(st.sampled_from(sorted(ORDERS)))), place, bad
    made = array.astype(object)
    made[place] = bad
    return made.tolist() if draw(st.booleans()) else made, place, bad


ARGUMENTS = {"x": 0, "y": 1, "weight": 2}
RECIPE = trainer(BinaryCrossEntropy())
DOORS = {
    "fit": lambda data: RECIPE.fit(MODEL, data),
    "fit: validation": lambda data: RECIPE.fit(MODEL, (X, Y), data),
    "evaluate": lambda data: RECIPE.evaluate(MODEL, data),
    "predict": lambda data: RECIPE.predict(MODEL, data[0]),
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("argument", ARGUMENTS)
@quick
@given(st.data())
def test_one_bad_value_is_refused_with_its_place(door, argument, data):
    argument = "x" if door == "predict" else argument
    good = [X, Y, Y + 1]
    bad, place, value = spoiled(data.draw, good[ARGUMENTS[argument]])
    good[ARGUMENTS[argument]] = bad
    before = bits(RUN)
    with pytest.raises(FrameworkError) as caught:
        DOORS[door](tuple(good))
    message = str(caught.value)
    assert message.startswith(f"{door}: argument '{argument}' must ")
    assert f"{argument}[{', '.join(map(str, place))}]" in message
    assert isinstance(caught.value, DtypeError) is not isinstance(value, float)
    assert bits(RUN) == before


FORMULAS = {
    "mean squared error": MeanSquaredError(),
    "gradient": MeanSquaredError().gradient,
    "binary cross-entropy": BinaryCrossEntropy(),
    "accuracy": Accuracy(),
    "root mean squared error": RootMeanSquaredError(),
    "r2": R2(),
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", FORMULAS)
@quick
@given(st.data())
def test_one_bad_value_in_a_call_is_refused_with_its_place(name, data):
    arguments = {"prediction": Y / 2, "target": Y, "weight": Y + 1}
    argument = data.draw(st.sampled_from(sorted(arguments)))
    arguments[argument], place, _ = spoiled(data.draw, arguments[argument])
    with pytest.raises(FrameworkError) as caught:
        FORMULAS[name](*arguments.values())
    assert str(caught.value).startswith(f"{argument} must ")
    assert f"{argument}[{place[0]}]" in str(caught.value)


@quick
@given(st.data())
def test_one_value_that_is_no_number_is_refused_by_the_model_itself(data):
    bad, place, value = spoiled(data.draw, X)
    assume(not isinstance(value, float))  # a model's own call lets it through for speed; loss and optimizer refuse it
    for use in (MODEL, MODEL.forward):
        with pytest.raises(DtypeError) as caught:
            use(bad)
        assert str(caught.value).startswith("x must hold real numbers")
        assert f"x[{place[0]}, {place[1]}]" in str(caught.value)


@quick
@given(st.integers(0, 10), st.integers(0, 4).filter(lambda size: size != 2))
def test_one_row_of_another_length_is_named(row, size):
    rows = X.tolist()
    rows[row] = [0.0] * size
    place = 1 if row == 0 else row
    for door, call in DOORS.items():
        with pytest.raises(ShapeError) as caught:
            call((rows, Y))
        assert str(caught.value).startswith(
            f"{door}: argument 'x' must be a full grid of numbers; got rows of different"
        )
        assert f"x[{place}] has length" in str(caught.value)
