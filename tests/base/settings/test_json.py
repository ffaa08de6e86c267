"""Components as JSON: which class a tag means, and what is refused."""

import sys

import numpy as np
import pytest

from framework import Activation, Component, HalfSquaredError, SettingsError, SGDOptimizer, Sigmoid, Trainer, on
from framework.models import Glorot


class Leaning(Activation):
    beta: float = 1.0

    def __call__(self, h):
        return h / (1 + np.exp(-self.beta * h))

    def derivative(self, h):
        s = 1 / (1 + np.exp(-self.beta * h))
        return s + self.beta * h * s * (1 - s)


def define(base=Activation, **names):
    """Run the same notebook cell again."""
    return type("Again", (base,), {"__module__": "a_notebook", "__call__": lambda *_: 1.0, **names})


def test_of_a_class_defined_twice_the_newest_counts():
    older = define(Sigmoid), define(), define()
    for base in (Activation, Sigmoid, Activation):
        newest = define(base)
        assert type(Component.from_json('{"type": "a_notebook:Again"}')) is newest
    assert all(newest is not old for old in older)


def test_a_class_that_was_refused_is_never_found():
    with pytest.raises(SettingsError, match="could be changed in place"):
        define(__annotations__={"seen": list}, __qualname__="Refused")
    with pytest.raises(SettingsError, match="is not a class that this program has defined"):
        Component.from_json('{"type": "a_notebook:Refused"}')


def test_tags_tell_library_classes_from_others():
    assert Sigmoid.tag() == "Sigmoid"
    assert Leaning.tag() == f"{__name__}:Leaning"


def test_a_class_that_moved_between_modules_is_found_by_its_name():
    assert Component.from_json('{"type": "__main__:Leaning", "beta": 2.0}') == Leaning(beta=2.0)


def test_a_library_tag_always_means_the_librarys_class():
    own = type("Sigmoid", (Leaning,), {"__module__": "elsewhere"})
    assert type(Component.from_json('{"type": "Sigmoid"}')) is Sigmoid
    assert type(Component.from_json('{"type": "elsewhere:Sigmoid"}')) is own


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "Sigmod"}', "type 'Sigmod' is not a class .*did you mean 'Sigmoid'"),
        ('{"type": "this:Thing"}', "import the module that defines it first"),
        ('{"type": "os:system"}', "is not a class that this program has defined"),
        ('{"type": 3}', 'expected an object with "type"'),
        ("[]", 'expected an object with "type"'),
        ("{", "the text is not JSON"),
        ("[" * 100_000, "the text is not JSON"),
        ('{"type": "Sigmoid", "beta": 1}', "unknown setting 'beta'"),
        ('{"type": "Glorot", "gain": null}', "'gain' must be"),
        ('{"type": "Glorot", "gain": NaN}', "'gain' must be"),
        ('{"type": "Dense", "inputs": 3, "unts": 4}', "unknown setting 'unts'; did you mean 'units'"),
        ('{"type": "Dense", "inputs": 3}', "'units'"),
        (
            '{"type": "Dense", "inputs": 3, "units": 2, "activation": {"beta": 1}}',
            'JSON object of a component, with "type"',
        ),
        ('{"type": "Sequential", "layers": 5}', "'layers' must be a list"),
        ('{"type": "Sequential", "layers": [{"type": "Accuracy"}]}', "of class Model or Activation"),
    ],
)
def test_json_that_is_no_component_is_refused(text, message):
    with pytest.raises(SettingsError, match=message):
        Component.from_json(text)


def test_json_of_another_family_is_refused():
    with pytest.raises(SettingsError, match=r"Activation\.from_json: expected a Activation; got Glorot"):
        Activation.from_json(Glorot().to_json())


def test_nothing_is_imported_to_find_a_class():
    assert "this" not in sys.modules
    with pytest.raises(SettingsError):
        Component.from_json('{"type": "this:d"}')
    assert "this" not in sys.modules


def test_a_function_has_no_json():
    trainer = Trainer(
        loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), callbacks=[on("epoch_end")(print)]
    )
    with pytest.raises(SettingsError, match="cannot be written as JSON"):
        trainer.to_json()
