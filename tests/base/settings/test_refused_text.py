"""JSON and the command line: bad text is refused in one message, and nothing of it stays.

The tables are read as: this text is refused with a message that begins with, or has, this line.
"""

import numpy as np
import pytest
from click.testing import CliRunner

from framework import Component, DataError, Optimizer, SettingsError, SGDOptimizer
from framework.cli import main
from framework.training import History

SGD = '{"type": "SGDOptimizer", "learning_rate": 1'
NOT_JSON = "Component.from_json: the text is not JSON: "
JSON = {
    "": f"{NOT_JSON}Expecting value",
    "{": f"{NOT_JSON}Expecting property name",
    b"\xff{": f"{NOT_JSON}'utf-8' codec can't decode byte 0xff",
    None: f"{NOT_JSON}the JSON object must be str, bytes",
    3: f"{NOT_JSON}the JSON object must be str, bytes",
    f'{SGD}, "learning_rate": 2}}': f"{NOT_JSON}the name 'learning_rate' comes twice in one object",
    f'{SGD}, "momentum": {"[" * 10**5}{"]" * 10**5}}}': NOT_JSON,
    f'{SGD}, "momentum": {"[" * 900}{"]" * 900}}}': "SGDOptimizer: setting 'momentum' must be a number; got ((((",
    "[]": "Component.from_json: expected an object with \"type\"; got '[]'",
    '{"beta": 1}': 'Component.from_json: expected an object with "type"; got',
    '{"type": 1}': 'Component.from_json: expected an object with "type"; got',
    '{"type": "Sigmoyd"}': "type 'Sigmoyd' is not a class that this program has defined; did you mean 'Sigmoid'?",
    '{"type": "os:system"}': "type 'os:system' is not a class that this program has defined; import the module",
    '{"type": "Component"}': "type 'Component' is not a class that this program has defined",
    '{"type": "Activation"}': "Activation is not complete: write '__call__' in the class",
    f'{SGD}, "nestrov": true}}': "SGDOptimizer: unknown setting 'nestrov'; did you mean 'nesterov'?",
    f'{SGD}, "self": 2}}': "SGDOptimizer: unknown setting 'self'. Settings: learning_rate",
    f'{SGD}, "model": 2}}': "SGDOptimizer: argument 'model' must be a model; got 2",
    f'{SGD}, "momentum": NaN}}': "SGDOptimizer: setting 'momentum' must be a finite number; got nan",
    f'{SGD}, "momentum": 1e999}}': "SGDOptimizer: setting 'momentum' must be a finite number; got inf",
    f'{SGD}, "momentum": "0.9"}}': "SGDOptimizer: setting 'momentum' must be a number; got '0.9'",
    f'{SGD}, "momentum": -1}}': "SGDOptimizer: setting 'momentum' must be greater than or equal to 0; got -1",
    f'{SGD}, "momentum": {{"a": 1}}}}': 'a dict must be the JSON object of a component, with "type"; got',
    f'{SGD}, "momentum": {{"type": "ReLU"}}}}': "SGDOptimizer: setting 'momentum' must be a number; got ReLU()",
    '{"type": "Dense", "inputs": 2}': "Dense: setting 'units' is missing; write Dense(64, 32)",
    '{"type": "Dense", "inputs": 2, "units": 2.0}': "Dense: setting 'units' must be an integer; got 2.0",
    '{"type": "Dense", "inputs": 2, "cls": 3}': "Dense: unknown setting 'cls'. Settings: inputs, units",
    '{"type": "Sequential", "layers": [1]}': "Sequential: setting 'layers' must be of class Model or Activation; got 1",
    '{"type": "Sequential", "layers": {"type": "ReLU"}}': "Sequential: setting 'layers' must be a list of layers",
}


@pytest.mark.parametrize("text", JSON, ids=[f"{i}: {text!r}"[:70] for i, text in enumerate(JSON)])
def test_json_that_makes_no_component_is_refused(text):
    with pytest.raises(SettingsError) as caught:
        Component.from_json(text)
    assert str(caught.value).startswith(JSON[text])
    assert Component.from_json(SGD + "}") == SGDOptimizer(learning_rate=1)


def test_json_of_another_kind_is_refused():
    with pytest.raises(SettingsError, match=r"Optimizer\.from_json: expected a Optimizer; got ReLU"):
        Optimizer.from_json('{"type": "ReLU"}')


HISTORIES = {
    "[{": "History.from_json: the text is not JSON: Expecting property name",
    None: "History.from_json: the text is not JSON: the JSON object must be str",
    "[" * 10**5: "History.from_json: the text is not JSON: ",
    '[{"loss": 1, "loss": 2}]': "History.from_json: the text is not JSON: the name 'loss' comes twice",
    "{}": "History.from_json: expected a list of objects; got '{}'",
    "[1]": "History.from_json: expected a list of objects; got '[1]'",
}


@pytest.mark.parametrize("text", HISTORIES, ids=[f"{i}: {text!r}"[:70] for i, text in enumerate(HISTORIES)])
def test_json_that_makes_no_history_is_refused(text):
    with pytest.raises(DataError) as caught:
        History.from_json(text)
    assert str(caught.value).startswith(HISTORIES[text])


def test_rows_that_are_none_make_no_history():
    with pytest.raises(DataError, match="History: rows must be dicts of columns; got 1"):
        History([{"loss": 0.1}, 1])


FINITE = "expected a finite number; got"
NUMBERS = "expected numbers with commas between them, e.g. 0.1,0.2; got"
COMMANDS = {
    "step --y nan": f"Invalid value for '--y': {FINITE} nan",
    "step --y inf": f"Invalid value for '--y': {FINITE} inf",
    "step --y 1e309": f"Invalid value for '--y': {FINITE} inf",
    "step --y text": "Invalid value for '--y': 'text' is not a valid float.",
    "step --y 1e308": "Error: HalfSquaredError: the loss is not finite",
    "step --x nan,1": f"Invalid value for '--x': {FINITE} nan",
    "step --x inf,1": f"Invalid value for '--x': {FINITE} inf",
    "step --x 1,,2": f"Invalid value for '--x': {NUMBERS} '1,,2'",
    "step --x 1;2": f"Invalid value for '--x': {NUMBERS} '1;2'",
    "step --x 1,2,3": "Error: --w must have as many numbers as --x; got 2, and 3 in --x",
    "step --x 1e200,1 --activation identity": "Error: HalfSquaredError: the loss is not finite",
    "step --w nan,1": f"Invalid value for '--w': {FINITE} nan",
    "step --w 1": "Error: --w must have as many numbers as --x; got 1, and 2 in --x",
    "step --b -inf": f"Invalid value for '--b': {FINITE} -inf",
    "step --learning-rate 0": "Error: SGDOptimizer: setting 'learning_rate' must be greater than 0",
    "step --learning-rate nan": f"Invalid value for '--learning-rate': {FINITE} nan",
    "step --learning-rate 1e308 --activation identity --y 9": "Error: the step overflows: 'increment' is",
    "step --activation sigmod": "'sigmod' is not one of 'identity', 'sigmoid', 'tanh', 'relu'",
    "step --format xml": "'xml' is not one of 'text', 'markdown', 'json'",
    "step --weights 1": "No such option",
    "step more": "Got unexpected extra argument (more)",
    "stop": "No such command 'stop'",
    "fit points.toml": "No such command 'fit'; write framework train\n",
    "demo now": "Got unexpected extra argument (now)",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_refuses_in_one_message(command):
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code in {1, 2}
    assert isinstance(result.exception, SystemExit)  # and no traceback; a NumPy warning would be an error here
    assert COMMANDS[command] in result.output
    assert not result.stdout


@pytest.mark.parametrize("command", ["step --x 1e308,1", "step --w 1e308,-1e308", "step --x 1e-320,0", "step --y -0.0"])
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_extreme_numbers_that_fit_are_shown_without_a_warning(command, form):
    with np.errstate(all="warn"):
        result = CliRunner().invoke(main, [*command.split(), "--format", form])
    assert result.exit_code == 0
    assert not any(word in result.output for word in ("nan", "inf", "NaN", "Infinity", "Warning"))
