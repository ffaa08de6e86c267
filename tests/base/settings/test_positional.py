"""The setting that may be given without its name: the only one that is required, or else the only one there is."""

import inspect
from typing import Literal

import numpy as np
import pytest
from pydantic import Field

from framework import (
    GRU,
    L2,
    Activation,
    AdamOptimizer,
    Callback,
    Checkpoint,
    Component,
    Conv2D,
    CrossEntropy,
    CSVLog,
    Dense,
    Dropout,
    EarlyStopping,
    Huber,
    Layer,
    Loss,
    MaxPool,
    MeanSquaredError,
    MultiHeadAttention,
    Neuron,
    ReLU,
    SettingsError,
    SGDOptimizer,
    Softmax,
    Trainer,
)
from framework.base.lazy import families, import_public
from framework.formulas import ELU, CosineRestartsSchedule, OutputLosses, Precision, StepSchedule, TopK
from framework.models import Normal, PositionalEncoding, Uniform
from framework.preprocessing import MinMax
from framework.training import DataParallel

OBVIOUS = """
Accuracy threshold, AveragePool window, BatchNorm units, CELU alpha, CSVLog path, Cauchy scale, Checkpoint folder,
Classes levels, Clip limit, ConfusionMatrix num_classes, Constant value, ConstantSchedule rate, CosineSchedule
initial, Dates parts, Dropout rate, ELU alpha, ExponentialSchedule initial, Flatten shape, GELU approximate, GRU
units, GroupNorm groups, He distribution, Huber delta, Impute fill, Input inputs, JSONLog path, L1 strength, L2
strength, LSTM units, LayerNorm units, LeCun distribution, LeakyReLU negative_slope, Levels n, Log unit, MaxPool
window, MultiHeadAttention heads, MultiQuantile quantiles, OneCycleSchedule maximum, OneHot n, Orthogonal gain,
Permute axes, PolynomialSchedule initial, Quantile quantile, QuantileTransform n, R2 center, RBF units, RMSNorm units,
Regularizer strength, Reshape shape, SimpleRNN units, Sine frequency, SmoothClip limit, Softplus beta, Swish beta,
TensorBoard folder, TopK k
"""
"""The classes that take a setting without its name and write no constructor, with the setting."""


def test_the_classes_that_take_a_setting_without_its_name():
    taken = {}
    for name in families():
        cls = import_public(name)
        if inspect.isclass(cls) and issubclass(cls, Component) and "args" in inspect.signature(cls.__init__).parameters:
            parameters = inspect.signature(cls).parameters.values()
            taken[name] = " ".join(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)
    assert sorted(f"{name} {setting}" for name, setting in taken.items() if setting) == sorted(
        OBVIOUS.replace("\n", " ").strip().split(", ")
    )


@pytest.mark.parametrize(
    ("cls", "name", "value", "others"),
    [
        (MaxPool, "window", 2, {}),
        (MaxPool, "window", (2, 3), {"stride": 1}),
        (GRU, "units", 16, {"seed": 3}),
        (Dropout, "rate", 0.5, {"dtype": "float32"}),
        (L2, "strength", 0.01, {}),
        (TopK, "k", np.int64(5), {}),
        (Huber, "delta", 2, {}),
        (CSVLog, "path", "a.csv", {}),
        (Checkpoint, "folder", "runs", {"every": 10}),
    ],
)
def test_a_setting_without_its_name_is_the_setting(cls, name, value, others):
    assert cls(value, **others).to_json() == cls(**{name: value}, **others).to_json()


def test_users_classes_take_it_by_the_same_rule():
    class Power(Activation):
        exponent: float = 2.0

        def __call__(self, h):
            return np.abs(h) ** self.exponent

    class Scale(Layer):
        inputs: int | None = None
        units: int

        def formula(self, x):
            return x

    class Weighted(Loss):
        low: float
        high: float = 1.0

        def value(self, prediction, target):
            return self.low * (prediction - target) ** 2

    class Every(Callback):
        kind: Literal["a", "b"] = "a"
        steps: int = 1

    class Named(Activation):
        base: float = Field(default=2.0, kw_only=True)

        def __call__(self, h):
            return self.base**h

    assert (Power(3).exponent, Scale(4).units, Weighted(2).low) == (3.0, 4, 2.0)
    with pytest.raises(SettingsError, match=r"settings go by name: Every\(.*\); got 3 without a name$"):
        Every(3)
    with pytest.raises(SettingsError, match=r"settings go by name: Named\(base=...\); got 3 without a name$"):
        Named(3)


def test_a_subclass_never_gives_a_call_of_its_base_another_meaning():
    class Base(Component):
        a: float = 1.0

    class Sub(Base):
        b: float

    class Same(Base):
        a: float = 2.0

    assert (Base(3).a, Same(3).a) == (3.0, 3.0)
    with pytest.raises(SettingsError, match=r"settings go by name: Sub\(.*\); got 3 without a name"):
        Sub(3)
    assert str(inspect.signature(Sub)) == "(*, a: float = 1.0, b: float)"


def test_a_setting_may_have_any_name_that_a_class_does_not_use():
    class Plan(Component):
        obvious: float = 1.0

    assert Plan(3).obvious == 3.0


def test_a_refused_call_of_a_users_class_makes_no_further_instance():
    calls = []

    class Base(Callback):
        kind: str = "a"
        steps: int = 1

        def __init__(self, *args, **settings):
            calls.append(settings)
            super().__init__(*args, **settings)
            raise KeyError("steps")

    with pytest.raises(SettingsError, match=r"settings go by name: Base\(.*\); got 'b' without a name$"):
        Base("b")
    assert calls == [{}]


def test_a_refused_call_with_the_name_of_a_users_class_makes_no_instance_of_it():
    calls = []

    class Fragile(Activation):
        def __init__(self):
            calls.append(self)

        def __call__(self, h):
            return h

    with pytest.raises(SettingsError, match=r"^Dense: .*got 'fragile'"):
        Dense(32, "fragile")
    assert calls == []


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: Dense(32, ReLU()), "got ReLU(); write Dense(units=32, activation=ReLU())"),
        (lambda: Dense(32, ReLU(), seed=1), "; write Dense(units=32, activation=ReLU(), seed=1)"),
        (
            lambda: Trainer(CrossEntropy(), AdamOptimizer()),
            "without a name; write Trainer(loss=CrossEntropy(), optimizer=AdamOptimizer())",
        ),
        (lambda: Dense(64), "setting 'units' is missing; write Dense(units=64)"),
        (lambda: Dense(64, activation=ReLU()), "'units' is missing; write Dense(units=64, activation=ReLU())"),
        (lambda: Dense(64, activation="relu"), "got 'relu'; write Dense(units=64, activation=ReLU())"),
        (lambda: Dense(32, inputs=64), "; write Dense(units=32, inputs=64)"),
        (lambda: Trainer("mse", "adam"), "; write Trainer(loss=MeanSquaredError(), optimizer=AdamOptimizer())"),
        (lambda: SGDOptimizer(0.2), "got 0.2; write SGDOptimizer(learning_rate=0.2)"),
        (lambda: AdamOptimizer(0.003), "; write AdamOptimizer(learning_rate=0.003)"),
        (lambda: EarlyStopping("val_loss"), "without a name; write EarlyStopping(monitor='val_loss')"),
        (lambda: CosineRestartsSchedule(0.1, 9), "; write CosineRestartsSchedule(initial=0.1, length=9)"),
        (lambda: StepSchedule(0.1, 10), "without a name; write StepSchedule(initial=0.1, every=10)"),
        (lambda: Precision("macro"), "without a name; write Precision(average='macro')"),
        (lambda: Conv2D(32, 3), "without a name; write Conv2D(filters=32, kernel=3)"),
        (lambda: L2(0.1, "*"), "got '*' without a name; write L2(strength=0.1, parameters='*')"),
    ],
)
def test_a_refused_call_is_answered_with_the_names_that_work(call, answer):
    with pytest.raises(SettingsError) as caught:
        call()
    assert str(caught.value).endswith(answer)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: EarlyStopping(5), "restore_best=...); got 5 without a name"),  # patience, or min_delta
        (lambda: Conv2D(1, 32, 3), "dtype=...); got 3 without a name"),  # elsewhere the first is the number of inputs
        (lambda: MultiHeadAttention(64, 4), "dtype=...); got 4 without a name"),
        (lambda: PositionalEncoding(512), "dtype=...); got 512 without a name"),  # not the base
        (lambda: Uniform(-1, 1), "Uniform(low=..., high=...); got 1 without a name"),
        (lambda: Dense(2, 1, Softmax()), "Softmax() over a row of 1 unit is constant: use Sigmoid for two classes"),
        (lambda: MaxPool(2, 2), "dtype=...); got 2 without a name"),  # stride, or padding
        (
            lambda: SGDOptimizer(Neuron(2), 0.1),
            "the arguments without a name are model; got 2; settings go by name: lear",
        ),
        (lambda: Normal(0.02), "Normal(mean=..., deviation=...); got 0.02 without a name"),
        (lambda: MinMax(0), "MinMax(low=..., high=...); got 0 without a name"),
        (lambda: DataParallel(8), "timeout=...); got 8 without a name"),
        (lambda: Dropout(1.5), "setting 'rate' must be less than 1; got 1.5"),
        (lambda: Dense(0, 3), "must be greater than or equal to 1; got 0"),
        (lambda: MaxPool(2, window=3), "MaxPool: setting 'window' is given twice; write it once"),
        (lambda: ELU(1.0, 2.0), "settings go by name: ELU(alpha=...); got 2.0 without a name"),
        (lambda: OutputLosses(MeanSquaredError()), "without a name"),
    ],
)
def test_an_ambiguous_or_wrong_call_is_not_answered_with_a_guess(call, answer):
    with pytest.raises(SettingsError) as caught:
        call()
    assert answer in str(caught.value)
    assert "; write " not in str(caught.value).replace("; write it once", "").replace("; write OutputLosses(", "")


def test_help_shows_the_setting_first_and_without_a_star():
    assert str(inspect.signature(GRU)).startswith("(units: int, *, seed: int | None = None, ")
    assert str(inspect.signature(Huber)) == "(delta: float = 1.0)"
    assert str(inspect.signature(Trainer)).startswith("(*, loss: Loss, optimizer: Optimizer, ")


def test_a_repr_leaves_out_defaults_and_makes_an_equal_component():
    trainer = Trainer(
        loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, callbacks=[EarlyStopping(patience=2)]
    )
    text = (
        "Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=3, "
        "callbacks=(EarlyStopping(patience=2),))"
    )
    assert repr(trainer) == text
    assert eval(text) == trainer


def test_a_repr_shows_what_is_equal_to_the_default_and_yet_another_number():
    class Signed(Component):
        zero: float = 0.0
        twice: float = Field(default_factory=lambda settings: 2 * settings["zero"])

    assert (repr(Signed()), repr(Signed(zero=-0.0, twice=0.0))) == ("Signed()", "Signed(zero=-0.0, twice=0.0)")
    assert (repr(Signed(zero=1.0)), repr(Signed(zero=1.0, twice=3.0))) == (
        "Signed(zero=1.0)",
        "Signed(zero=1.0, twice=3.0)",
    )
