import copy
import inspect
import json
import math
import pickle
import re
from fractions import Fraction
from typing import Literal

import numpy as np
import pydantic
import pytest

import framework
from framework import (
    Accuracy,
    Activation,
    Component,
    CrossEntropy,
    Dense,
    EarlyStopping,
    HalfSquaredError,
    Layer,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Trainer,
)
from framework.base.lazy import families, import_all, import_public
from framework.base.settings.component import (
    Count,
    Dtype,
    Fraction as FractionSetting,
    NonNegative,
    Positive,
    Seed,
    belongs_to,
)
from framework.formulas import ExponentialSchedule
from framework.models import Glorot, Uniform


class Swish(Activation):
    beta: float = 1.0

    def __call__(self, h):
        return h / (1 + np.exp(-self.beta * h))

    def derivative(self, h):
        s = 1 / (1 + np.exp(-self.beta * h))
        return s + self.beta * h * s * (1 - s)


class Everything(Component):
    number: float = 0.5
    positive: Positive = 1.0
    non_negative: NonNegative = 0.0
    fraction: FractionSetting = 0.0
    count: Count = 1
    seed: Seed = 0
    dtype: Dtype = "float64"
    flag: bool = False
    choice: Literal["a", "b"] = "a"
    maybe: Positive | None = None
    numbers: tuple[float, ...] = ()
    part: Component | None = None


COMPONENTS = [
    Swish(beta=2.0),
    Everything(number=-1 / 3, numbers=(0.1, 2), part=Swish(beta=0.1), maybe=1e-300, flag=True, choice="b"),
    Sigmoid(),
    Glorot(gain=5 / 3),
    SGDOptimizer(learning_rate=ExponentialSchedule(initial=0.1, decay=0.5), momentum=0.9, nesterov=True),
    Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.1),
        metrics=[Accuracy(), MeanSquaredError()],
        callbacks=[EarlyStopping(patience=3)],
    ),
]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: type(component).__name__)
def test_json_and_repr_lead_back_to_an_equal_component(component):
    names = import_all() | {"Swish": Swish, "Everything": Everything}
    for twin in (
        Component.from_json(component.to_json()),
        type(component).from_json(component.to_json(indent=2).encode()),
        eval(repr(component), names),  # the point of the test
        pickle.loads(pickle.dumps(component)),
        copy.deepcopy(component),
        component.replace(),
    ):
        assert type(twin) is type(component)
        assert twin == component
        assert hash(twin) == hash(component)
        assert repr(twin) == str(twin) == repr(component)


def test_nested_components_keep_their_own_settings_in_json():
    data = json.loads(Dense(2, 3, Swish(beta=0.25)).to_json())
    assert data["type"] == "Dense"
    assert data["activation"] == {"type": f"{__name__}:Swish", "beta": 0.25}


def test_models_travel_as_json():
    model = Sequential(Dense(2, 3, ReLU(), seed=4), Sequential(Dense(3, 2, Softmax(), dtype="float64")), seed=5)
    twin = Component.from_json(model.to_json())
    assert repr(twin) == repr(model)
    assert np.array_equal(twin.parameters.vector, model.parameters.vector)
    assert repr(eval(repr(model), import_all())) == repr(model)


def test_equality_asks_for_class_and_settings():
    assert Swish(beta=2) == Swish(beta=2.0)
    assert Swish(beta=2) != Swish(beta=3)
    assert Sigmoid() != ReLU()
    assert len({Swish(), Swish(beta=1.0), Swish(beta=2.0)}) == 2


class Either(Activation):
    number: int | float

    def __call__(self, h):
        return h * self.number


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, 1.0)])
def test_numbers_that_a_formula_can_tell_apart_are_not_equal(one, other):
    inside = [Dense(1, 1, Either(number=number)).activation for number in (one, other)]
    assert inside[0] != inside[1]
    assert inside[0] == Either(number=one)
    assert len({*inside, Either(number=one)}) == 2


SCALARS = [2, 2.0, np.int8(2), np.uint64(2), np.float32(2), np.float16(2), np.longdouble(2), Fraction(2), np.array(2)]
NO_NUMBERS = {
    "bool": True,
    "NumPy bool": np.True_,
    "text": "1",
    "NumPy text": np.str_("1"),
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
    "NumPy nan": np.float32("nan"),
    "complex": 1j,
    "None": None,
    "list": [1.0],
    "huge": 10**400,
}


@pytest.mark.parametrize("value", SCALARS)
def test_any_real_scalar_is_a_number(value):
    assert Everything(number=value).number == 2.0
    assert type(Everything(number=value).number) is float


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3)])
def test_any_integer_scalar_is_a_count(value):
    assert type(Everything(count=value).count) is int
    assert Everything(count=value).count == 3


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("name", ["number", "positive", "numbers"])
def test_what_is_no_finite_real_number_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"Everything: setting '{name}' must be"):
        Everything(**{name: (value,) if name == "numbers" else value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("positive", 0, "greater than 0"),
        ("non_negative", -1e-9, "greater than or equal to 0"),
        ("fraction", 1, "less than 1"),
        ("count", 0, "greater than or equal to 1"),
        ("count", 2.5, "an integer"),
        ("count", 2.0, "an integer"),
        ("count", True, "an integer"),
        ("count", "32", "an integer"),
        ("seed", -1, "greater than or equal to 0"),
        ("dtype", "float16", "float"),
        ("dtype", 7, "'float32' or 'float64'"),
        ("flag", 1, "True or False"),
        ("choice", "c", "'a' or 'b'"),
        ("maybe", 0.0, "greater than 0"),
        ("part", "swish", r"of class Component.*write Swish\(\)"),
        ("part", Swish, r"write Swish\(\) with its brackets"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(name, value, expected):
    with pytest.raises(SettingsError, match=f"Everything: setting '{name}' must .*{expected}") as caught:
        Everything(**{name: value})
    assert repr(value) in str(caught.value)


def test_sequences_become_tuples():
    for value in ([1, 2.5], (1, 2.5), np.array([1, 2.5])):
        assert Everything(numbers=value).numbers == (1.0, 2.5)


@pytest.mark.parametrize("value", ["single", np.float32, np.dtype("f4")])
def test_dtypes_are_named_in_any_way(value):
    assert Everything(dtype=value).dtype == "float32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Swish(bata=1.0), "Swish: unknown setting 'bata'; did you mean 'beta'.*Settings: beta"),
        (lambda: Swish(zzz=1.0), "Swish: unknown setting 'zzz'. Settings: beta"),
        (lambda: Sigmoid(beta=1.0), "unknown setting 'beta'. Settings: none"),
        (lambda: SGDOptimizer(momentum=0.9), "'learning_rate' is missing; write learning_rate=..."),
        (lambda: Dense(2, 3, activaton=ReLU()), "Dense: unknown setting 'activaton'; did you mean 'activation'"),
        (lambda: Dense(2), "Dense: setting 'units' is missing; write Dense"),
        (lambda: Neuron(2, ReLU(), 3), "Neuron: the arguments without a name are inputs, activation; got 3"),
        (lambda: Neuron(2, "relu"), r"must be of class Activation; got 'relu'; write ReLU\(\)"),
        (lambda: Swish(beta=1.0).replace(bata=2.0), "did you mean 'beta'"),
        (lambda: Uniform(low=1.0, high=0.0), "'low' must be less than high"),
        (Activation, "Activation is not complete: write '__call__'"),
    ],
)
def test_wrong_settings_are_refused_in_readable_words(make, message):
    with pytest.raises(SettingsError, match=message) as caught:
        make()
    assert "pydantic" not in str(caught.value)


def test_every_wrong_setting_has_its_line():
    with pytest.raises(SettingsError) as caught:
        Everything(number="a", count=0, nmber=1)
    assert len(str(caught.value).splitlines()) == 3


def test_components_are_frozen():
    swish = Swish()
    with pytest.raises(SettingsError, match=r"Swish is frozen: use replace\(beta=2\.0\)"):
        swish.beta = 2.0
    with pytest.raises(SettingsError, match="no setting 'bata'; did you mean 'beta'"):
        swish.bata = 2.0
    with pytest.raises(SettingsError, match="'beta' cannot be deleted"):
        del swish.beta
    assert swish == Swish()


def test_replace_gives_a_new_component_and_validates():
    swish = Swish(beta=2.0)
    assert swish.replace(beta=3) == Swish(beta=3.0)
    assert swish == Swish(beta=2.0)
    with pytest.raises(SettingsError, match="'beta' must be a finite number"):
        swish.replace(beta=math.nan)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (list[float], "list"),
        (dict[str, float], "dict"),
        (set[int] | None, "set"),
        (np.ndarray, "ndarray"),
    ],
)
def test_a_setting_that_could_be_changed_in_place_is_refused_when_the_class_is_made(annotation, kind):
    with pytest.raises(SettingsError, match=f"setting 'seen' is a {kind}.*write a tuple"):
        type("Bad", (Component,), {"__annotations__": {"seen": annotation}, "__module__": __name__})


@pytest.mark.parametrize(
    ("value", "hint"),
    [(0.1, "float = 0.1"), (3, "int = 3"), (True, "bool = True"), ("a", "str = 'a'"), (-1e-3, "float = -0.001")],
)
def test_a_setting_without_a_type_is_answered_with_how_to_write_it(value, hint):
    with pytest.raises(SettingsError, match=f"Bad: 'alpha = .*' has no type; write alpha: {hint}"):
        type("Bad", (Component,), {"alpha": value, "__module__": __name__})


def test_a_name_of_another_library_without_a_type_is_answered_with_what_to_write_here():
    with pytest.raises(SettingsError, match=r"'trainable = False' is not a setting: write model\.parameters\.freeze"):
        type("Bad", (Layer,), {"trainable": False, "__module__": __name__})


def test_a_method_belongs_to_the_formula_it_was_written_with():
    class Mixin:
        def derivative(self, h):
            return 1.0

    class Mixed(Mixin, Activation):
        def __call__(self, h):
            return h

    assert belongs_to(Sigmoid, "derivative", "__call__")
    assert belongs_to(Mixed, "derivative", "__call__")
    other = type("Other", (Sigmoid,), {"__call__": lambda *_: 1.0})
    assert other.derivative is Activation.derivative, "a derivative of another formula is derived anew"


@pytest.mark.parametrize("cls", [Neuron, Dense, SGDOptimizer, Sigmoid, Trainer])
def test_tab_completion_shows_nothing_of_pydantic(cls):
    made = {
        Trainer: lambda: Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)),
        SGDOptimizer: lambda: SGDOptimizer(learning_rate=0.1),
        Dense: lambda: Dense(2, 3),
        Neuron: lambda: Neuron(2),
    }.get(cls, cls)()
    foreign = {name for name in vars(pydantic.BaseModel) if not name.startswith("_")} - {"copy"}
    for shown in (dir(cls), dir(made)):
        assert not foreign & {*shown}
        assert {"replace", "to_json", "settings"} <= {*shown}
    assert {*made.settings()} <= {*dir(made)}


def test_a_signature_has_plain_types_and_defaults():
    class Scaled(Activation):
        factor: Positive = 1.0
        names: tuple[str, ...] | None = None
        kind: Literal["a", "b"] = "a"

        def __call__(self, h):
            return self.factor * h

    text = "(*, factor: float = 1.0, names: tuple[str, ...] | None = None, kind: Literal['a', 'b'] = 'a')"
    assert str(inspect.signature(Scaled)) == text
    assert str(inspect.signature(SGDOptimizer)).startswith("(model: Model | None = None, *, learning_rate: float | Sch")
    for name in families():
        value = import_public(name)
        if inspect.isclass(value) and issubclass(value, framework.Component):
            assert not re.search(r"Annotated|FieldInfo|typing|framework\.", str(inspect.signature(value))), name


def test_settings_of_settings_are_replaced_by_a_path():
    trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    changed = trainer.replace(epochs=3, optimizer__learning_rate=0.5, optimizer__momentum=0.9)
    assert changed == trainer.replace(epochs=3, optimizer=SGDOptimizer(learning_rate=0.5, momentum=0.9))
    assert trainer.optimizer == SGDOptimizer(learning_rate=0.1)
    with pytest.raises(SettingsError, match="SGDOptimizer: unknown setting 'lr'; did you mean 'learning_rate'"):
        trainer.replace(optimizer__lr=0.5)
    with pytest.raises(SettingsError, match=r"Trainer: unknown setting 'epochs__x'\. Settings: loss, "):
        trainer.replace(epochs__x=1)


class Scaled(Activation):
    factor: float = 1.0

    def __init__(self, factor: float = 5.0):
        super().__init__(factor=factor)

    def __call__(self, h):
        return self.factor * h


def test_a_repr_leaves_out_what_the_constructor_of_the_class_has_for_a_default():
    assert [repr(Scaled(factor)) for factor in (1.0, 5.0)] == ["Scaled(factor=1.0)", "Scaled()"]
    assert eval(repr(Scaled(1.0))) == Scaled(1.0)


class Gained(Layer):
    gain: float = 1

    def formula(self, x):
        return self.gain * x


def test_a_repr_leaves_out_a_whole_number_that_is_the_default_of_a_float():
    assert [repr(Gained(gain=gain)) for gain in (1.0, 2.0)] == ["Gained()", "Gained(gain=2.0)"]
