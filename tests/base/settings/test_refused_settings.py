"""Settings and own classes: what makes no sense is refused in a line that says what to write, and nothing of it stays.

The table is read as: this call ends with an error whose message begins with this line.
"""

import copy
import inspect
import pickle

import numpy as np
import pytest
from pydantic import Field

from framework import (
    Accuracy,
    Activation,
    AdamOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    Dropout,
    EarlyStopping,
    Embedding,
    Layer,
    LayerNorm,
    Loss,
    MeanSquaredError,
    Metric,
    Neuron,
    Residual,
    Schedule,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Trainer,
    split,
)
from framework.base import UsageError
from framework.base.settings.messages import word_errors
from framework.formulas import MultiStepSchedule, OneCycleSchedule, TopK, WarmupSchedule
from framework.formulas.schedules import rate_at
from framework.models import GroupNorm

X = np.arange(22.0).reshape(11, 2) % 7 - 3
Y = np.arange(11) % 2.0
NAN, INF = float("nan"), float("inf")


def recipe(**settings):
    known = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.1)}
    return Trainer(**known | settings)


def fit(model=None, *, epochs=None, **settings):
    return recipe(**settings).fit(model or Neuron(2), (X, Y), epochs=epochs)


def sgd(value, **settings):
    return SGDOptimizer(learning_rate=value, **settings)


def gives(value):
    """A schedule that always gives the same."""

    class Given(Schedule):
        def __call__(self, step):
            return value

    return Given()


def typed():
    class Typed(Activation):
        type: str = "mine"

        def __call__(self, h):
            return h


def renamed():
    class Renamed(Activation):
        width: float = Field(default=1.0, alias="w")

        def __call__(self, h):
            return h


def listed():
    class Listed(Loss):
        weights: list = []  # noqa: RUF012 (what is refused)

        def value(self, prediction, target):
            return prediction


class Scalar(Metric):
    def sums(self, prediction, target, weight=None):
        return float(np.abs(prediction - target).sum())

    def result(self, total):
        return total


RATE, ROWS = "SGDOptimizer: setting 'learning_rate' must be", "Trainer: setting 'batch_size' must be"
LESS = "greater than or equal to 1; got"
SETTINGS = [
    (f"{ROWS} {LESS} 0", lambda: recipe(batch_size=0)),
    (f"{ROWS} {LESS} -1", lambda: recipe(batch_size=-1)),
    (f"{ROWS} an integer; got 2.5", lambda: recipe(batch_size=2.5)),
    (f"{ROWS} an integer; got '32'", lambda: recipe(batch_size="32")),
    (f"{ROWS} an integer; got True", lambda: recipe(batch_size=True)),
    (f"{ROWS} an integer; got None", lambda: recipe(batch_size=None)),
    (f"{ROWS} an integer; got nan", lambda: recipe(batch_size=NAN)),
    (f"Trainer: setting 'epochs' must be {LESS} 0", lambda: recipe(epochs=0)),
    (f"Trainer: setting 'epochs' must be {LESS} 0", lambda: fit(epochs=0)),
    ("Trainer: setting 'epochs' must be an integer; got 2.5", lambda: fit(epochs=2.5)),
    ("Trainer: setting 'seed' must be greater than or equal to 0; got -1", lambda: recipe(seed=-1)),
    ("Trainer: setting 'shuffle' must be True or False; got 'no'", lambda: recipe(shuffle="no")),
    (f"{RATE} greater than 0 or a Schedule; got 0", lambda: sgd(0)),
    (f"{RATE} greater than 0 or a Schedule; got -0.1", lambda: sgd(-0.1)),
    (f"{RATE} a finite number or a Schedule; got nan", lambda: sgd(NAN)),
    (f"{RATE} a finite number or a Schedule; got inf", lambda: sgd(INF)),
    (f"{RATE} a number or a Schedule; got 1000000", lambda: sgd(10**400)),
    (f"{RATE} a number or a Schedule; got a value too long to show", lambda: sgd(10**5000)),
    (f"{RATE} a number or a Schedule; got '0.1'", lambda: sgd("0.1")),
    (f"{RATE} a number or a Schedule; got True", lambda: sgd(True)),
    (f"{RATE} a number or a Schedule; got None", lambda: sgd(None)),
    (f"{RATE} a number or a Schedule; got 1j", lambda: sgd(1j)),
    (f"{RATE} a number or a Schedule; got (0, 1, 2, 3, ", lambda: sgd(list(range(10**5)))),
    ("SGDOptimizer: setting 'momentum' must be less than 1; got 1", lambda: sgd(0.1, momentum=1)),
    ("SGDOptimizer: setting 'learning_rate' is missing; write learning_rate=...", lambda: SGDOptimizer(momentum=0.9)),
    ("SGDOptimizer: argument 'model' must be a model; got 0.1; settings go by name", lambda: SGDOptimizer(0.1)),
    ("Trainer: unknown setting 'batchsize'; did you mean 'batch_size'?", lambda: recipe(batchsize=3)),
    ("SGDOptimizer: unknown setting 'lr'; did you mean 'learning_rate'?", lambda: SGDOptimizer(lr=0.1)),
    ("AdamOptimizer: unknown setting 'eta'; did you mean 'learning_rate'?", lambda: AdamOptimizer(eta=0.1)),
    ("BatchNorm: unknown setting 'eps'; did you mean 'epsilon'?", lambda: BatchNorm(2, eps=0.1)),
    ("Dense: unknown setting 'in_features'; did you mean 'inputs'?", lambda: Dense(in_features=2)),
    ("Dense: unknown setting 'cls'. Settings: inputs, units, activation", lambda: Dense(2, 3, cls=1)),
    ("Trainer: setting 'loss' must be of class Loss; got 'mse'; write MeanSquaredError()", lambda: recipe(loss="mse")),
    ("Trainer: setting 'loss' must be of class Loss; got <class", lambda: recipe(loss=CrossEntropy)),
    ("Trainer: setting 'metrics' must be a list or a tuple; got 'accuracy'", lambda: recipe(metrics="accuracy")),
    ("Trainer: setting 'metrics' must be a list or a tuple: write [Accuracy(...)]", lambda: recipe(metrics=Accuracy())),
    ("Trainer: setting 'metrics' must have different names; got", lambda: recipe(metrics=[Accuracy(), Accuracy()])),
    ("Trainer: setting 'callbacks' must be of class Callback; got <built-in", lambda: recipe(callbacks=[print])),
    ("fit: EarlyStopping reads 'los', which the", lambda: fit(callbacks=[EarlyStopping(monitor="los")])),
    ("fit: EarlyStopping reads 'val_loss', which the", lambda: fit(callbacks=[EarlyStopping()])),
    (
        "fit: argument 'model' must be a Model; got <class",
        lambda: fit(Neuron),
    ),
    (f"Dense: setting 'units' must be {LESS} 0", lambda: Dense(2, 0)),
    ("Dense: setting 'inputs' must be an integer; got '2'", lambda: Dense("2", 1)),
    ("Dense: setting 'activation' must work on 1 unit; Softmax()", lambda: Dense(2, 1, Softmax())),
    ("Neuron: setting 'activation' must be of class Activation; got 'relu'; write ReLU()", lambda: Neuron(2, "relu")),
    ("Neuron: setting 'activation' must work on one unit; Softmax()", lambda: Neuron(2, Softmax())),
    ("Neuron: setting 'dtype' must be 'float32' or 'float64'; got 'float16'", lambda: Neuron(2, dtype="float16")),
    ("Dropout: setting 'rate' must be less than 1; got 1.0", lambda: Dropout(1.0)),
    ("LayerNorm: setting 'units' must be 2 or more", lambda: LayerNorm(1)),
    ("GroupNorm: setting 'units' must be a multiple of groups=3; got 4", lambda: GroupNorm(3, units=4)),
    ("Embedding: float32 holds at most 16777216 different ids", lambda: Embedding(2**25, 1, dtype="float32")),
    ("Sequential: give one layer or more", lambda: Sequential(*[])),
    ("CrossEntropy: setting 'class_weights' must be greater than 0; got 0", lambda: CrossEntropy(class_weights=[1, 0])),
    (f"TopK: setting 'k' must be {LESS} 0", lambda: TopK(k=0)),
    ("MultiStepSchedule: setting 'milestones' must rise", lambda: MultiStepSchedule(initial=1, milestones=(5, 3))),
    ("OneCycleSchedule: setting 'length' must be more than 1 / rise", lambda: OneCycleSchedule(maximum=1, length=2)),
    ("Given() must give a rate of 0 or more; got None at step 3", lambda: rate_at(gives(None), 3)),
    ("Given() must give a rate of 0 or more; got '0.1' at step 3", lambda: rate_at(gives("0.1"), 3)),
    ("Given() must give a rate of 0 or more; got True at step 3", lambda: rate_at(gives(value=True), 3)),
    ("Given() must give a rate of 0 or more; got -0.1 at step 3", lambda: rate_at(gives(-0.1), 3)),
    ("Given() must give a rate of 0 or more; got nan at step 3", lambda: rate_at(gives(NAN), 3)),
    ("Given() must give a rate of 0 or more; got 100000", lambda: rate_at(gives(10**400), 3)),
    ("Given() must give a rate of 0 or more; got array([1., 1.]) at step 3", lambda: rate_at(gives(np.ones(2)), 3)),
    ("Given() must give a rate of 0 or more; got None", lambda: WarmupSchedule(schedule=gives(None), length=2)(1)),
    ("Renamed: setting 'width' has an alias; leave it out, a setting has one name", renamed),
    ("Typed: setting 'type' has the name of the class's tag in JSON; choose another name", typed),
    ("Listed: setting 'weights' is a list, which could be changed in place; write a tuple", listed),
    ("Layer is not complete: write 'formula' in the class", lambda: Layer(seed=0)),
    ("split: argument 'fraction' must be between 0 and 1; got None", lambda: split((X, Y), None)),
    (
        "split: argument 'fraction' must be between 0 and 1; got array([0.1, 0.2])",
        lambda: split((X, Y), np.array([0.1, 0.2])),
    ),
    ("split: argument 'fraction' must be between 0 and 1; got 1", lambda: split((X, Y), 1)),
    ("split: argument 'seed' must be a whole number, 0 or more; got 'a'", lambda: split((X, Y), seed="a")),
    ("split: argument 'seed' must be a whole number, 0 or more; got -1", lambda: split((X, Y), seed=-1)),
]
OTHERS = [
    (ShapeError, "Sequential: layer 0 gives (3,) but layer 1 takes (4,)", lambda: Sequential(Dense(2, 3), Dense(4, 1))),
    (ShapeError, "Residual: the layers must give the shape that they take", lambda: Residual(Dense(2, 3))),
    (ShapeError, "weights must be a full grid of numbers; got rows", lambda: Dense.from_weights([[1], [1, 2]])),
    (ShapeError, "weights must have the shape (inputs,); got (1, 2)", lambda: Neuron.from_weights([[1, 2]])),
    (DataError, "weights must be finite; got nan at weights[1] (1 of 2", lambda: Neuron.from_weights([1.0, NAN])),
    (DataError, "bias must be finite; got inf at bias (1 of 1", lambda: Neuron.from_weights([1.0], bias=INF)),
    (DataError, "split: argument 'data[1]' must be finite", lambda: split((X, [NAN, *Y[1:]]), stratify=True)),
    (
        UsageError,
        "Scalar.sums must return a tuple of plain numbers, which result takes",
        lambda: Scalar()([1.0], [0.0]),
    ),
]
ALL = [*((SettingsError, line, call) for line, call in SETTINGS), *OTHERS]


def trained():
    trainer = recipe(loss=BinaryCrossEntropy(), metrics=[Accuracy()], epochs=2, batch_size=4)
    return trainer.fit(Neuron(2, Sigmoid()), (X, Y)).model.parameters.vector.tobytes()


@pytest.mark.parametrize("place", range(len(ALL)), ids=[f"{i}: {line[:60]}" for i, (_, line, _) in enumerate(ALL)])
def test_what_makes_no_sense_is_refused_and_leaves_nothing_behind(place):
    error, line, call = ALL[place]
    before, state = trained(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()[0]) < 500
    assert (trained(), pickle.dumps(np.random.get_state())) == (before, state)  # noqa: NPY002


def test_an_argument_of_another_library_is_known():
    @word_errors
    def fit(model, data, validation=None, *, epochs=None):
        return model, data, validation, epochs

    for name, expected in {"validation_data": "validation", "n_epochs": "epochs", "epoch": "epochs"}.items():
        with pytest.raises(SettingsError, match=f"fit: unknown argument '{name}'; did you mean '{expected}'"):
            fit(1, 2, **{name: 3})
    assert fit(1, 2, epochs=3) == (1, 2, None, 3)


def test_a_call_that_fits_binds_no_signature_and_keeps_its_own_type_error(monkeypatch):
    @word_errors
    def fit(model: str, data):
        return len(model) + data

    with pytest.raises(TypeError, match="unsupported operand"):
        fit("a", "b")
    monkeypatch.setattr(inspect.Signature, "bind", None)
    assert fit("a", data=2) == 3


def test_a_refused_replacement_leaves_the_recipe_as_it_was():
    trainer = recipe(metrics=[Accuracy()])
    before = copy.deepcopy(trainer)
    for change in ({"epochs": 0}, {"batchsize": 1}, {"loss": "mse"}, {"metrics": [Accuracy(), Accuracy()]}):
        with pytest.raises(SettingsError):
            trainer.replace(**change)
        assert trainer == before


def test_rates_of_any_real_kind_are_rates():
    for value in (0.5, np.float32(0.5), np.array(0.5), np.float64(0.5), np.longdouble(0.5)):
        assert rate_at(gives(value), 0) == 0.5
    assert rate_at(gives(0), 0) == 0.0


def test_an_unknown_setting_is_named_whatever_its_value():
    with pytest.raises(SettingsError, match=r"Dense: unknown setting 'unit'; did you mean 'units'\?"):
        Dense(3, 2, unit={"a": 1})


def test_an_unknown_table_is_the_only_error():
    """Lists beside it are as good as without it."""
    with pytest.raises(SettingsError) as caught:
        recipe(optimiser={"learning_rate": 0.1}, metrics=[Accuracy()])
    assert str(caught.value).startswith("Trainer: unknown setting 'optimiser'; did you mean 'optimizer'? Settings: ")
    assert "\n" not in str(caught.value)
