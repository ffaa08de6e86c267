"""Settings of a file as components: every error says where in the file its cause is."""

import json
import re

import pytest

from framework import (
    L2,
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    Heads,
    Join,
    MeanSquaredError,
    Sequential,
    SettingsError,
    Trainer,
)
from framework.base.settings.component import class_of
from framework.experiments.files.building import build, schema_of
from framework.experiments.files.text import read_settings, to_toml
from framework.formulas import OutputLosses


def built(text, kind=Trainer):
    settings, lines = read_settings(text, "e.toml")

    def where(path):
        return next((f"line {lines[path[:n]]}" for n in range(len(path), 0, -1) if path[:n] in lines), "e.toml")

    return build(settings, kind, where)


GOOD = """
loss = "BinaryCrossEntropy"
epochs = 3
metrics = ["Accuracy"]
regularizers = [{type = "L2", strength = 0.5}]

[optimizer]
type = "AdamOptimizer"
"""


def test_a_file_becomes_the_component_that_python_makes():
    made = Trainer(
        loss=BinaryCrossEntropy(),
        optimizer=AdamOptimizer(),
        epochs=3,
        metrics=[Accuracy()],
        regularizers=[L2(strength=0.5)],
    )
    assert built(GOOD) == made
    assert (
        built(to_toml({key: value for key, value in json.loads(made.to_json()).items() if value is not None})) == made
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 3", "epoch = 3"), "line 3: Trainer: unknown setting 'epoch'; did you mean 'epochs'?"),
        (("epochs = 3", 'epochs = "3"'), "line 3: Trainer: setting 'epochs' must be an integer; got '3'"),
        (("epochs = 3", "epochs = 3.5"), "line 3: Trainer: setting 'epochs' must be an integer; got 3.5"),
        (("epochs = 3", "epochs = {a = 1}"), "line 3: Trainer: setting 'epochs' must not be a table; got {'a': 1}"),
        (('"AdamOptimizer"', "7"), "line 8: the type of setting 'optimizer' must be the name of a class; got 7"),
        (("epochs = 3", "epochs = true"), "line 3: Trainer: setting 'epochs' must "),
        (("epochs = 3", "epochs = 1979-05-27"), "line 3: Trainer: setting 'epochs' must "),
        (
            ('"Accuracy"', '"Acuracy"'),
            "line 4: type 'Acuracy' is not a class that this program has defined; did you",
        ),
        (('"Accuracy"', '"ReLU"'), "line 4: Trainer: setting 'metrics' must be of class Metric or Loss; got ReLU()"),
        (("strength", "strenght"), "line 5: L2: unknown setting 'strenght'; did you mean 'strength'?"),
        (
            ('type = "AdamOptimizer"', ""),
            "line 7: setting 'optimizer' needs type = \"...\"; one of AdadeltaOptimizer, ",
        ),
        (
            ('type = "AdamOptimizer"', 'type = "mine:Own"'),
            "line 8: type 'mine:Own' is not a class that this pr",
        ),
        (('loss = "BinaryCrossEntropy"', ""), "e.toml: Trainer: setting 'loss' is missing; write loss=..."),
    ],
)
def test_a_mistake_is_named_with_its_line(change, message):
    assert change[0] in GOOD
    with pytest.raises(SettingsError) as caught:
        built(GOOD.replace(*change))
    assert str(caught.value).startswith(message)


def test_mistakes_in_different_places_are_named_at_once():
    with pytest.raises(SettingsError) as caught:
        built(GOOD.replace("strength", "s").replace('"AdamOptimizer"', '"Adam"'))
    assert [*dict.fromkeys(line.partition(":")[0] for line in str(caught.value).splitlines())] == ["line 5", "line 8"]


def test_a_class_that_is_not_defined_is_asked_for_by_import():
    with pytest.raises(SettingsError, match="give --import mine, the module that defines it"):
        built('type = "mine:Own"')
    with pytest.raises(SettingsError, match="has defined; write your own as module:Class"):
        built('type = "xyzzyq"')


def test_a_file_imports_nothing(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for tag in ("evil:Own", "evil", "os:system", "__main__:x"):
        with pytest.raises(SettingsError, match="is not a class"):
            built(GOOD.replace('"AdamOptimizer"', f'"{tag}"'))


def test_a_model_is_built_with_its_layers():
    text = 'layers = [{type = "Dense", units = 4, activation = "ReLU"}, "Tanh", {type = "Dense", units = 1}]'
    model = built(text, Sequential)
    assert isinstance(model[0], Dense)
    assert repr(model) == "Sequential(Dense(activation=ReLU(), units=4), Tanh(), Dense(inputs=4, units=1))"
    with pytest.raises(SettingsError, match=r"e\.toml: Sequential: layer 1 gives"):
        built(text.replace("units = 1", "units = 1, inputs = 7"), Sequential)


def test_parts_whose_names_the_user_chooses_may_be_names_of_classes():
    losses = built(
        'price = "MeanSquaredError"\nlate = {type = "BinaryCrossEntropy"}\nweights = {late = 2.0}', OutputLosses
    )
    assert losses == OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"late": 2.0})
    with pytest.raises(SettingsError, match=r"^line 1: type 'MeanSquareError' is not .*; did you mean 'MeanSquaredE"):
        built('price = "MeanSquareError"', OutputLosses)


def resolved(schema, node):
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return node


def test_the_schema_has_every_setting_of_every_class():
    schema = schema_of(Trainer)
    assert schema["$ref"] == "#/$defs/Trainer"
    for reference in re.findall(r'"\$ref": "#/\$defs/([^"]*)"', json.dumps(schema)):
        assert reference in schema["$defs"]
    tables = {name: table for name, table in schema["$defs"].items() if not name.startswith("any ")}
    for name, table in tables.items():
        assert {*table["properties"]} - {"type"} == {*class_of(name).model_fields}
        assert table["additionalProperties"] is False or issubclass(class_of(name), Heads | Join | OutputLosses)
    assert tables["OutputLosses"]["additionalProperties"] == {"$ref": "#/$defs/any Loss"}
    trainer = tables["Trainer"]["properties"]
    assert trainer["epochs"] == {"type": "integer", "minimum": 1, "default": 1}
    steps = {"type": "array", "items": {"$ref": "#/$defs/any ColumnStep"}}
    assert tables["Preprocess"]["properties"]["columns"] == {"type": "object", "additionalProperties": steps}
    choices = resolved(schema, trainer["loss"])["anyOf"]
    assert "CrossEntropy" in choices[0]["enum"]
    assert {"$ref": "#/$defs/Focal", "required": ["type"]} in choices


def test_the_schema_has_classes_of_the_user():
    class Mine(Accuracy):
        share: float = 0.5

    schema = schema_of(Trainer)
    assert schema["$defs"][Mine.tag()]["properties"]["share"] == {"type": "number", "default": 0.5}
