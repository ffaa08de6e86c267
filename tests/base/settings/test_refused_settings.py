"""Settings and own classes: what makes no sense is refused in a line that says what to write, and nothing of it stays.

The table is read as: this call ends with an error of this setting or argument. tests/errors.txt has the texts.
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


SETTINGS = [
    ("batch_size", lambda: recipe(batch_size=0)),
    ("batch_size", lambda: recipe(batch_size=-1)),
    ("batch_size", lambda: recipe(batch_size=2.5)),
    ("batch_size", lambda: recipe(batch_size="32")),
    ("batch_size", lambda: recipe(batch_size=True)),
    ("batch_size", lambda: recipe(batch_size=None)),
    ("batch_size", lambda: recipe(batch_size=NAN)),
    ("epochs", lambda: recipe(epochs=0)),
    ("epochs", lambda: fit(epochs=0)),
    ("epochs", lambda: fit(epochs=2.5)),
    ("seed", lambda: recipe(seed=-1)),
    ("shuffle", lambda: recipe(shuffle="no")),
    ("learning_rate", lambda: sgd(0)),
    ("learning_rate", lambda: sgd(-0.1)),
    ("learning_rate", lambda: sgd(NAN)),
    ("learning_rate", lambda: sgd(INF)),
    ("learning_rate", lambda: sgd(10**400)),
    ("learning_rate", lambda: sgd(10**5000)),
    ("learning_rate", lambda: sgd("0.1")),
    ("learning_rate", lambda: sgd(True)),
    ("learning_rate", lambda: sgd(None)),
    ("learning_rate", lambda: sgd(1j)),
    ("learning_rate", lambda: sgd(list(range(10**5)))),
    ("momentum", lambda: sgd(0.1, momentum=1)),
    ("learning_rate", lambda: SGDOptimizer(momentum=0.9)),
    ("model", lambda: SGDOptimizer(0.1)),
    ("batchsize", lambda: recipe(batchsize=3)),
    ("lr", lambda: SGDOptimizer(lr=0.1)),
    ("eta", lambda: AdamOptimizer(eta=0.1)),
    ("eps", lambda: BatchNorm(2, eps=0.1)),
    ("in_features", lambda: Dense(in_features=2)),
    ("cls", lambda: Dense(2, 3, cls=1)),
    ("loss", lambda: recipe(loss="mse")),
    ("loss", lambda: recipe(loss=CrossEntropy)),
    ("metrics", lambda: recipe(metrics="accuracy")),
    ("metrics", lambda: recipe(metrics=Accuracy())),
    ("metrics", lambda: recipe(metrics=[Accuracy(), Accuracy()])),
    ("callbacks", lambda: recipe(callbacks=[print])),
    (None, lambda: fit(callbacks=[EarlyStopping(monitor="los")])),
    (None, lambda: fit(callbacks=[EarlyStopping()])),
    (
        "model",
        lambda: fit(Neuron),
    ),
    ("units", lambda: Dense(2, 0)),
    ("inputs", lambda: Dense("2", 1)),
    ("activation", lambda: Dense(2, 1, Softmax())),
    ("activation", lambda: Neuron(2, "relu")),
    (None, lambda: Neuron(2, Softmax())),
    ("dtype", lambda: Neuron(2, dtype="float16")),
    ("rate", lambda: Dropout(1.0)),
    ("units", lambda: LayerNorm(1)),
    ("units", lambda: GroupNorm(3, units=4)),
    (None, lambda: Embedding(2**25, 1, dtype="float32")),
    (None, lambda: Sequential(*[])),
    ("class_weights", lambda: CrossEntropy(class_weights=[1, 0])),
    ("k", lambda: TopK(k=0)),
    ("milestones", lambda: MultiStepSchedule(initial=1, milestones=(5, 3))),
    ("length", lambda: OneCycleSchedule(maximum=1, length=2)),
    (None, lambda: rate_at(gives(None), 3)),
    (None, lambda: rate_at(gives("0.1"), 3)),
    (None, lambda: rate_at(gives(value=True), 3)),
    (None, lambda: rate_at(gives(-0.1), 3)),
    (None, lambda: rate_at(gives(NAN), 3)),
    (None, lambda: rate_at(gives(10**400), 3)),
    (None, lambda: rate_at(gives(np.ones(2)), 3)),
    (None, lambda: WarmupSchedule(schedule=gives(None), length=2)(1)),
    ("width", renamed),
    ("type", typed),
    ("weights", listed),
    (None, lambda: Layer(seed=0)),
    ("fraction", lambda: split((X, Y), None)),
    (
        "fraction",
        lambda: split((X, Y), np.array([0.1, 0.2])),
    ),
    ("fraction", lambda: split((X, Y), 1)),
    ("seed", lambda: split((X, Y), seed="a")),
    ("seed", lambda: split((X, Y), seed=-1)),
]
OTHERS = [
    (ShapeError, None, lambda: Sequential(Dense(2, 3), Dense(4, 1))),
    (ShapeError, None, lambda: Residual(Dense(2, 3))),
    (ShapeError, "weights", lambda: Dense.from_weights([[1], [1, 2]])),
    (ShapeError, None, lambda: Neuron.from_weights([[1, 2]])),
    (DataError, "weights", lambda: Neuron.from_weights([1.0, NAN])),
    (DataError, "bias", lambda: Neuron.from_weights([1.0], bias=INF)),
    (DataError, "data[1]", lambda: split((X, [NAN, *Y[1:]]), stratify=True)),
    (UsageError, None, lambda: Scalar()([1.0], [0.0])),
]
ALL = [*((SettingsError, argument, call) for argument, call in SETTINGS), *OTHERS]


def trained():
    trainer = recipe(loss=BinaryCrossEntropy(), metrics=[Accuracy()], epochs=2, batch_size=4)
    return trainer.fit(Neuron(2, Sigmoid()), (X, Y)).model.parameters.vector.tobytes()


@pytest.mark.parametrize("place", range(len(ALL)), ids=[f"{i}: {row[1]}" for i, row in enumerate(ALL)])
def test_what_makes_no_sense_is_refused_and_leaves_nothing_behind(place):
    error, argument, call = ALL[place]
    before, state = trained(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert caught.value.argument == argument
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
