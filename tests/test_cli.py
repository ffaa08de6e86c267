import json
import subprocess
import sys

import click
import pytest
from catalogue import catalogue
from click.testing import CliRunner

from framework import MeanSquaredError, Neuron, SGDOptimizer, Trainer, describe, save
from framework.base.lazy import import_public
from framework.cli import COMMANDS, KINDS, main


def run(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize(
    ("y", "weights", "error"),
    [
        ("1", [0.2040310638675848, 0.3040310638675848], 0.3756479177846611),
        ("5", [1.1818643106305684, 1.2818643106305683], 4.078440380493933),
    ],
)
def test_step_prints_the_reference_step(y, weights, error):
    result = run("step", "--y", y, "--format", "json")
    assert result.exit_code == 0
    step = json.loads(result.output)
    assert (step["output"], step["new_weights"], step["new_error"]) == (0.574442516811659, weights, error)


def test_step_takes_every_quantity():
    options = "--x 1,2,3 --w 0.1,0,-0.1 --b 0.5 --y 0 --learning-rate 0.25 --activation tanh --format json"
    step = json.loads(run("step", *options.split()).output)
    assert step["x"] == [1.0, 2.0, 3.0]
    assert step["h"] == pytest.approx(0.3)
    assert step["learning_rate"] == 0.25
    assert step["new_bias"] == 0.5


@pytest.mark.parametrize(("form", "start"), [("text", "x  "), ("markdown", "| quantity | value |")])
def test_step_prints_tables(form, start):
    assert run("step", "--format", form).output.startswith(start)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--x", "1,2,3"], "--w must have as many numbers as --x; got 2, and 3 in --x"),
        (["--x", "1,b"], "expected numbers with commas"),
        (["--w", "nan,1"], "expected a finite number; got nan"),
        (["--learning-rate", "0"], "'learning_rate' must be greater than 0"),
        (["--activation", "sigmod"], "'sigmoid'"),
    ],
)
def test_step_refuses_bad_options_in_one_message(arguments, message):
    result = run("step", *arguments)
    assert result.exit_code != 0
    assert message in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        ("train a.toml --epochs 5", "; for a setting, write --set trainer.epochs=VALUE."),
        ("sweep a.toml --batch-size 5", "; for a setting, write --set trainer.batch_size=VALUE."),
        ("show a.toml --lr 5", "; for a setting, write --set SETTING=VALUE."),
        ("new a.csv --epochs 5", ""),
        ("step --epochs 5", ""),
    ],
)
def test_an_option_that_is_a_setting_is_answered_with_set(arguments, advice):
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert "No such option" in result.output
    assert advice in result.output
    assert ("--set" in result.output) == bool(advice)


def test_every_command_is_found_by_its_name():
    context = click.Context(main)
    for name in main.list_commands(context):
        assert main.get_command(context, name).name == name
    assert {*COMMANDS} < {*main.list_commands(context)}


@pytest.mark.parametrize("kind", KINDS)
def test_list_prints_every_class_of_a_kind(kind):
    lines = run("list", kind).output.splitlines()
    listed = {line.split()[0] for line in lines}
    assert {cls.__name__ for cls in catalogue(import_public(KINDS[kind]))} - {KINDS[kind]} <= listed
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.share(1 / 3)
def test_demo_shows_a_step_a_neuron_and_a_network():
    result = run("demo")
    assert result.exit_code == 0
    assert "new error       0.3756479177846611" in result.output
    assert "malignant" in result.output
    assert result.output.count("held-out accuracy 0.9") == 2


@pytest.mark.share(1 / 3)
def test_the_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "framework", "step"], capture_output=True, text=True, check=True)
    assert "new error       0.3756479177846611" in done.stdout
    assert not done.stderr


def test_describe_prints_what_a_checkpoint_holds(tmp_path):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    path = tmp_path / "run.safetensors"
    save(trainer.fit(Neuron(1), ([[1.0]], [2.0])), path)
    result = run("describe", str(path))
    assert result.exit_code == 0
    assert result.output == f"{describe(path)}\n"
    path.write_bytes(b"no checkpoint")
    result = run("describe", str(path))
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: '{path}' cannot be loaded: ")


def test_describe_names_the_newest_checkpoint_of_a_folder(tmp_path):
    said = f"Error: PATH must be a checkpoint; got the folder {tmp_path}; "
    assert run("describe", str(tmp_path)).output == f"{said}it has none\n"
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    path = tmp_path / "checkpoints" / "step-1.safetensors"  # as in the folder of a run
    path.parent.mkdir()
    save(trainer.fit(Neuron(1), ([[1.0]], [2.0])), path)
    assert run("describe", str(tmp_path)).output == f"{said}its newest is {path}\n"
    assert run("describe", str(path.parent)).output.endswith(f"; its newest is {path}\n")


def test_names_that_an_output_cannot_hold_are_escaped(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"epoch": 1, "löss日": 0.5}\n', encoding="utf-8")
    done = CliRunner(charset="ascii").invoke(main, ["watch", str(path), "--once"])
    assert done.exception is None
    assert r"l\xf6ss\u65e5" in done.output
