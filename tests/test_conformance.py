"""Every concrete class of the library passes the checks that users' own classes can be put to."""

import itertools

import numpy as np
import pytest
from catalogue import catalogue, example

import framework
from framework import (
    Activation,
    Callback,
    Component,
    Dense,
    HalfSquaredError,
    Loss,
    Metric,
    Optimizer,
    Schedule,
    SettingsError,
    SGDOptimizer,
    Tanh,
)
from framework.base.lazy import import_public
from framework.formulas import ConstantSchedule
from framework.models import Initializer, Normal
from framework.models.base import Model
from framework.testing import ConformanceError, check_component, check_function, check_written

SETTINGS = {
    "AveragePool": {"window": (2, 2)},
    "BatchNorm": {"units": 3},
    "Bilinear": {"units": 2, "first": 1, "inputs": 3},
    "Conv1D": {"filters": 2, "kernel": 2, "inputs": 2},
    "Conv2D": {"filters": 2, "kernel": 2, "inputs": 2},
    "ConvTranspose1D": {"filters": 2, "kernel": 2, "inputs": 2},
    "ConvTranspose2D": {"filters": 2, "kernel": 2, "stride": 2, "groups": 2, "inputs": 2},
    "Dense": {"inputs": 3, "units": 2},
    "EarlyStopping": {"restore_best": True},
    "Flatten": {"shape": (2, 3)},
    "GRU": {"units": 2, "inputs": 3},
    "LSTM": {"units": 2, "inputs": 3, "returns": "all"},
    "GroupNorm": {"groups": 2, "units": 4},
    "LayerNorm": {"units": 3},
    "MaxPool": {"window": (2, 2), "stride": 1},
    "Neuron": {"inputs": 3},
    "RBF": {"units": 2, "inputs": 3},
    "RMSNorm": {"units": 3},
    "Reshape": {"shape": (3, -1)},
    "SGDOptimizer": {"learning_rate": 0.1, "momentum": 0.9},
    "SimpleRNN": {"units": 2, "inputs": 3, "masking": 0.0},
    "TraceSteps": {"limit": 3},
}
"""Settings that check more than the defaults, or than the example of the docstring."""


@pytest.mark.parametrize("cls", catalogue(), ids=lambda cls: cls.__name__)
def test_every_class_passes_every_check_of_its_kinds(cls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # CSVLog writes a file
    component = cls(**SETTINGS[cls.__name__]) if cls.__name__ in SETTINGS else example(cls)
    expected = {name for (kind, name) in BROKEN if isinstance(component, kind)}
    assert {*check_component(component)} == expected


@pytest.mark.parametrize("name", ["Sequential", "Residual"])
def test_models_made_of_layers_pass_too(name):
    check_component(import_public(name)(Dense(3, 4, Tanh()), Dense(4, 3)))


class Swish(Activation):
    """h / (1 + exp(-beta h)).

    Example:
        >>> Swish(beta=2.0).beta
        2.0
    """

    beta: float = 1.0

    def __call__(self, h):
        return h / (1 + np.exp(-self.beta * h))


def test_a_users_class_passes():
    names = check_component(Swish(beta=2.0))
    assert "its derivative is that of its formula" in names


class Undocumented(Activation):
    def __call__(self, h):
        return np.tanh(h)


class Wrong(Swish):
    """As Swish, with a wrong derivative.

    Example:
        >>> Wrong().beta
        1.0
    """

    def derivative(self, h):
        return 1 / (1 + np.exp(-self.beta * h))


class NotAdditive(Metric):
    """The mean of batch means.

    Example:
        >>> NotAdditive().key
        'not_additive'
    """

    def sums(self, prediction, target, weight=None):
        return (float(np.mean(np.abs(prediction - target))),)

    def result(self, *sums):
        return sums[0]


class SumsOverAll(Optimizer):
    """Claims to be elementwise but divides by the norm of what it is given.

    Example:
        >>> SumsOverAll(learning_rate=0.1).learning_rate
        0.1
    """

    elementwise = True

    def update(self, values, gradients, rate, step):
        values -= rate * gradients / np.linalg.norm(gradients)


class Forgetful(Callback):
    """Counts in a way that a resume does not restore.

    Example:
        >>> Forgetful()
        Forgetful()
    """

    def on_train_begin(self, run):
        run.memory(self)["count"] = 0

    def on_epoch_end(self, run):
        run.memory(self)["count"] += 1


class WrongSlope(Loss):
    """The absolute error with the squared error's slope.

    Example:
        >>> WrongSlope().key
        'wrong_slope'
    """

    def value(self, prediction, target):
        return np.abs(prediction - target)

    def slope(self, prediction, target):
        return prediction - target


@pytest.mark.parametrize(
    ("component", "failure"),
    [
        (Undocumented(), "the class has no docstring"),
        (Wrong(), "- its derivative is that of its formula; it keeps .*; a layer .*: DerivativeError"),
        (NotAdditive(), "sums over uneven batches"),
        (SumsOverAll(learning_rate=0.1), "in blocks"),
        (Forgetful(), "'Forgetful.0: count' is 2 after a resume, 4 without"),
        (WrongSlope(), "its slope is that of its formula: DerivativeError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Component) else "",
)
def test_what_is_wrong_is_named(component, failure):
    with pytest.raises(ConformanceError, match=failure):
        check_component(component)


COUNT = itertools.count(1)
SGD = SGDOptimizer(learning_rate=0.1)


def broken(component, **body):
    """Make an instance with the same settings, of a class of its own with other methods."""
    base, name = type(component), f"Broken{next(COUNT)}"
    globals()[name] = type(name, (base,), {"__module__": __name__, "__doc__": base.__doc__, **body})  # for pickle
    return globals()[name](**component.settings())


def ignore_weight(_, prediction, target, *_further):
    return prediction - target


def square_rows(_, prediction, *_further):
    return len(prediction) ** 2, len(prediction)


def count_calls(*_):
    return float(next(COUNT))


def count_calls_in_shape(_, shape, *_further):
    return np.full(shape, float(next(COUNT)))


def change_argument(_, h):
    h += 1.0
    return h


def move_all(_, values, gradients, *_further):
    whole = values if values.base is None else values.base
    whole -= 0.1 * gradients.mean()


def subtract_calls(_, values, *_further):
    values -= next(COUNT)


BROKEN = {
    (Component, "its JSON gives it back"): broken(Swish(), to_json=lambda *_, **__: Swish(beta=2.0).to_json()),
    (Component, "its repr evaluates back"): broken(Tanh(), __repr__=lambda _: "ReLU()"),
    (Component, "equal settings are equal"): broken(Tanh(), __hash__=lambda _: next(COUNT)),
    (Component, "its settings are frozen"): broken(Swish(), __setattr__=object.__setattr__),
    (Component, "it copies and pickles"): broken(Tanh(), __copy__=lambda _: framework.ReLU()),
    (Component, "its docstring has an example"): Undocumented(),
    (Activation, "its derivative is that of its formula"): Wrong(),
    (Activation, "it keeps dtype, shape and argument"): broken(Tanh(), __call__=change_argument),
    (Activation, "it works on numbers and on any shape"): broken(Tanh(), __call__=lambda _, h: h * (np.ndim(h) > 0)),
    (Activation, "a layer with it has right gradients"): broken(Tanh(), derivative=lambda _, h: np.ones_like(h)),
    (Loss, "its slope is that of its formula"): WrongSlope(),
    (Loss, "its gradient is that of the weighted mean"): broken(HalfSquaredError(), gradient=ignore_weight),
    (Loss, "its sums add up"): broken(HalfSquaredError(), sums=square_rows),
    (Metric, "its sums add up"): NotAdditive(),
    (Initializer, "it is a pure function of shape and generator"): broken(Normal(), __call__=count_calls_in_shape),
    (Schedule, "it is a pure function of the step"): broken(ConstantSchedule(rate=0.1), __call__=count_calls),
    (Optimizer, "it continues after a copy or a pickle"): broken(SGD, update=subtract_calls),
    (Optimizer, "it leaves frozen parameters alone"): broken(SGD, update=move_all),
    (Optimizer, "it may be called in blocks if it says so"): SumsOverAll(learning_rate=0.1),
    (Model, "its gradients are right and it pickles"): broken(Dense(2, 2), shape_after=lambda *_: (7,)),
    (Callback, "it remembers across a resume"): Forgetful(),
}
"""A component that fails each check."""


@pytest.mark.parametrize(("check", "component"), [(name, component) for (_, name), component in BROKEN.items()])
def test_every_check_can_fail(check, component):
    with pytest.raises(ConformanceError, match=rf"(?m)^- (.*; )?{check}[:;] "):
        check_component(component)


@pytest.mark.parametrize("given", [Tanh, Dense])
def test_a_class_in_place_of_a_component_is_refused_not_passed_without_a_check(given):
    with pytest.raises(SettingsError, match=rf"must be a Component; got .*; write {given.__name__}\("):
        check_component(given)


H = np.array([[1.0, -2.0], [0.5, 3.0]])


def changes(h):
    h += 1
    return h - 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda _: None, r"returns nothing; write return$"),
        (lambda _: "one", "must give a number or an array; got 'one'$"),
        (lambda h: h.astype(str), r"must give a number or an array; got array\("),
        (lambda h: h[0], r"must give an array of the shape \(2, 2\); got an array of the shape \(2,\)$"),
        (lambda h: h[0, 0], r"must give an array of the shape \(2, 2\); got one number$"),
        (lambda h: np.where(h == 0.5, np.nan, h), r"must give 0.5 at \[1, 0\]; got nan$"),
        (lambda h: h * (1 + 1e-8), r"must give 1.0 at \[0, 0\]; got 1.00000001; all of it is 1.00000001 times"),
        (lambda h: -h, r"got -1; the sign is wrong$"),
        (lambda h: 3 * h, r"got 3; all of it is 3 times the right result$"),
        (changes, r"changes\(array\(.*\) changes its arguments; make a new array instead$"),
    ],
)
def test_a_function_that_differs_from_its_reference_is_refused(function, message):
    with pytest.raises(ConformanceError, match=message):
        check_function(function, lambda h: h, [(H,)])


def test_a_function_that_agrees_with_its_reference_passes():
    odd = np.array([np.inf, -np.inf, np.nan, 1e300, 1.0])
    assert check_function(np.array, lambda h: h, [(H,), (0.0,), (odd,)], tolerance=0) == 3
    assert check_function(lambda h: h * (1 + 1e-12), lambda h: h, [(H,)]) == 1
    with pytest.raises(ConformanceError):
        check_function(lambda h: h * (1 + 1e-12), lambda h: h, [(H,)], tolerance=0)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (np.ones((3, 3)), r"<array [(]3, 3[)]>"),
        ([1.0] * 9, "<list of 9>"),
        ([1.0], r"\[1.0\]"),
        (np.float64(1 / 3), "0.333333"),
    ],
)
def test_large_arguments_stand_in_a_message_by_their_size(argument, text):
    with pytest.raises(ConformanceError, match=rf"^sin\({text}\) must give 0"):
        check_function(np.sin, np.zeros_like, [(argument,)])


def a_return():
    return ...


def a_factor(x):
    y = 2 * ...
    return x * y


def a_body(x): ...


def an_index(x):
    """Twice x: 2 * ..."""
    x[..., 0] = x[...]  # and so on: x = ...
    return 2 * x


@pytest.mark.parametrize("answer", [..., {"a": [1, ...]}, np.array([1, ...]), a_return, a_factor, a_body])
def test_a_gap_in_an_answer_is_refused(answer):
    with pytest.raises(ConformanceError, match=r"^exercise 7 is still open: replace the \.\.\. by your answer$"):
        check_written("exercise 7", an_index, answer)


def test_answers_without_a_gap_are_not_refused():
    check_written("exercise 7", an_index, np.sin, Tanh(), Tanh.__call__, {"a": [1.0]}, None)


@pytest.mark.parametrize("cases", [[], [1.0]])
def test_cases_are_tuples_of_arguments(cases):
    with pytest.raises(framework.base.UsageError, match="cases"):
        check_function(np.sin, np.sin, cases)
