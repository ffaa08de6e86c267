"""The command line: experiments; a step of a neuron, number by number; the parts; a checkpoint; a demonstration."""

from __future__ import annotations

import inspect
import io
import math
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import framework.data
from framework.base.files import leads_to
from framework.base.lazy import families, import_public
from framework.base.tables import as_text

COMMANDS = {  # imported when one runs, or prints its help
    "new": ("framework.experiments.commands:new", "Look at a table, and write an experiment for it."),
    "train": ("framework.experiments.commands:train", "Train the experiment of a file, in a new folder."),
    "sweep": ("framework.experiments.commands:sweep_runs", "Train an experiment with varied settings."),
    "evaluate": ("framework.experiments.commands:evaluate", "Print the loss and the metrics of a run's model."),
    "predict": ("framework.experiments.commands:predict", "Predict every row of a table, into another table."),
    "resume": ("framework.experiments.commands:resume", "Continue the run of a folder that was killed or stopped."),
    "show": ("framework.experiments.commands:show", "Print an experiment or a run, with every setting."),
    "compare": ("framework.experiments.commands:compare", "Print several runs as a table."),
    "report": ("framework.experiments.commands:report", "Write an HTML page about one run, or several side by side."),
    "watch": ("framework.experiments.commands:watch_runs", "Show runs in the terminal while they train."),
    "export": ("framework.experiments.commands:export", "Write a model for programs without this package."),
    "schema": ("framework.experiments.commands:schema", "Print the JSON schema of experiments, for editors."),
    "launch": ("framework.training.parallel.launching:launch", "Run a script on several workers."),
}

ACTIVATIONS = {name.lower(): name for name in ("Identity", "Sigmoid", "Tanh", "ReLU")}

KINDS = {
    "activations": "Activation",
    "callbacks": "Callback",
    "initializers": "Initializer",
    "losses": "Loss",
    "metrics": "Metric",
    "models": "Model",
    "optimizers": "Optimizer",
    "regularizers": "Regularizer",
    "schedules": "Schedule",
    "steps": "ColumnStep",
}


def _numbers(_context: click.Context, _option: click.Parameter, text: str) -> list[float]:
    """Return the numbers of ``0.1,0.2`` as a list."""
    try:
        numbers = [float(item) for item in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected numbers with commas between them, e.g. 0.1,0.2; got {text!r}") from None
    for number in numbers:
        _finite(_context, _option, number)
    return numbers


def _finite(_context: click.Context, _option: click.Parameter, number: float) -> float:
    """Return the number, or refuse one that is not finite."""
    if not math.isfinite(number):
        raise click.BadParameter(f"expected a finite number; got {number}")
    return number


class _Commands(click.Group):
    """The commands; a name from elsewhere is answered with the name here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *COMMANDS])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: command.get_short_help_str() for name, command in self.commands.items()}
        lines = own | {name: line for name, (_, line) in COMMANDS.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module, _, name = COMMANDS[cmd_name][0].partition(":")
            command: click.Command = getattr(import_module(module), name)
            return command
        if cmd_name not in self.commands and not ctx.resilient_parsing:  # which completes names
            from framework.base.settings.messages import elsewhere

            if advice := elsewhere(_Commands, cmd_name):
                ctx.fail(f"No such command {cmd_name!r}; {advice}")
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; for an option that it does not have, say how to change a setting."""
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            options = [] if error.ctx is None else error.ctx.command.params
            if not any((option.metavar or "").startswith("SETTING=") for option in options):
                raise
            name = error.option_name.lstrip("-").replace("-", "_")
            setting = f"trainer.{name}" if name in framework.Trainer.model_fields else "SETTING"
            said = f"{error.message.rstrip('.')}; for a setting, write --set {setting}=VALUE."
            raise click.NoSuchOption(error.option_name, said, error.possibilities, error.ctx) from None


@click.group(cls=_Commands)
@click.version_option(package_name="framework")
def main() -> None:
    """Train small models on NumPy."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names may have characters that an output in ASCII or cp1252 lacks
        sys.stdout.reconfigure(errors="backslashreplace")


@main.command(short_help="Print one step of one neuron, number by number.")
@click.option("--x", callback=_numbers, default="1,1", show_default=True, help="The inputs.")
@click.option("--w", callback=_numbers, default="0.1,0.2", show_default=True, help="The weights, as many as inputs.")
@click.option(
    "--b", type=float, callback=_finite, default=0.0, show_default=True, help="The bias, which stays where it is."
)
@click.option("--y", type=float, callback=_finite, default=1.0, show_default=True, help="The target.")
@click.option(
    "--learning-rate", type=float, callback=_finite, default=1.0, show_default=True, help="The rate of the step."
)
@click.option("--activation", type=click.Choice(list(ACTIVATIONS)), default="sigmoid", show_default=True, help="f.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
def step(x: list[float], w: list[float], b: float, y: float, learning_rate: float, activation: str, form: str) -> None:
    """Print one step of gradient descent on one neuron, number by number.

    The loss is the half squared error; the defaults are the reference step, and --y 5 its other column.
    """
    if len(x) != len(w):
        raise click.ClickException(f"--w must have as many numbers as --x; got {len(w)}, and {len(x)} in --x")
    import numpy as np

    from framework.experiments.commands import answering
    from framework.training.trace import LABELS

    with answering():
        function = getattr(framework, ACTIVATIONS[activation])()
        neuron = framework.Neuron.from_weights(w, b, activation=function, train_bias=False)
        with np.errstate(all="ignore"):  # what is not finite is said below, in one line
            traced = framework.trace_step(neuron, x, y, learning_rate=learning_rate)
    for name, value in traced.to_dict().items():
        if not np.isfinite(value).all():
            raise click.ClickException(f"the step overflows: '{LABELS[name]}' is {value}; give smaller numbers")
    click.echo({"text": traced.to_text, "markdown": traced.to_markdown, "json": traced.to_json}[form]())


@main.command(name="list", short_help="Print every class of a KIND, such as losses.")
@click.argument("kind", metavar="KIND", type=click.Choice(list(KINDS)))
def list_parts(kind: str) -> None:
    """Print every class of a KIND with the first line of its documentation.

    KIND is activations, callbacks, initializers, losses, metrics, models, optimizers, regularizers, schedules or steps
    (of a Preprocess).
    """
    parts = [cls for cls in (import_public(name) for name in families()) if inspect.isclass(cls)]
    base = import_public(KINDS[kind])
    bases = {base, *filter(inspect.isabstract, parts)}
    parts = [cls for cls in parts if issubclass(cls, base) and cls not in bases]
    click.echo(as_text([(cls.__name__, (inspect.getdoc(cls) or "").splitlines()[0]) for cls in parts], left=2))
    click.echo(f"  All are in {families()[KINDS[kind]]}, and the most used ones in framework too.")


@main.command(name="describe", short_help="Print what a checkpoint holds.")
@click.argument("path")
def describe_checkpoint(path: str) -> None:
    """Print what the checkpoint PATH holds, without building anything of it."""
    from framework.experiments.commands import answering
    from framework.experiments.folder import CHECKPOINTS

    with answering():
        if leads_to(path) == "folder":
            newest = framework.latest(path) or framework.latest(Path(path, CHECKPOINTS))
            hint = f"its newest is {newest}" if newest else "it has none"
            raise click.ClickException(f"PATH must be a checkpoint; got the folder {path}; {hint}")
        click.echo(framework.describe(path))


@main.command(short_help="Show a step, then train on the two data sets.")
def demo() -> None:
    """Show a step, then train a neuron and a network on the data sets in the package."""
    start = time.perf_counter()
    click.echo("1. One step of one sigmoid neuron (framework step)\n")
    neuron = framework.Neuron.from_weights([0.1, 0.2], activation=framework.Sigmoid(), train_bias=False)
    click.echo(framework.trace_step(neuron, [1.0, 1.0], 1.0))
    _demo_neuron()
    _demo_network()
    click.echo(f"\nAll this took {time.perf_counter() - start:.1f} s.")


def _trainer(loss: framework.Loss, rate: float) -> framework.Trainer:
    optimizer = framework.SGDOptimizer(learning_rate=rate, momentum=0.9)
    return framework.Trainer(
        loss=loss, optimizer=optimizer, epochs=50, metrics=[framework.Accuracy()], callbacks=[framework.ProgressBar()]
    )


def _demo_neuron() -> None:
    click.echo("\n2. One neuron on the Wisconsin breast cancer set: 30 measurements of a cell sample, 2 classes\n")
    (x, y), (x_test, y_test) = framework.split(framework.data.load_breast_cancer(), 0.25, seed=0, stratify=True)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    trainer = _trainer(framework.BinaryCrossEntropy(), 0.1)
    neuron = framework.Neuron(30, framework.Sigmoid())
    trainer.fit(neuron, (x, y))
    click.echo(
        f"held-out accuracy {trainer.evaluate(neuron, (x_test, y_test))['accuracy']:.3f} on {len(y_test)} rows\n"
    )
    counts = framework.ConfusionMatrix(num_classes=2)(trainer.predict(neuron, x_test), y_test)
    classes = framework.data.BREAST_CANCER_CLASSES
    rows = [(name, *map(str, row)) for name, row in zip(classes, counts, strict=True)]
    click.echo(as_text([("actual / predicted", *classes), *rows], left=1))


def _demo_network() -> None:
    click.echo("\n3. A network on optical digits: 8 x 8 pixels, 10 classes\n")
    x, y = framework.data.load_digits()
    train, test = framework.split((x / 16.0, y), 0.25, seed=0, stratify=True)
    model = framework.Sequential(
        framework.Dense(64, 64, framework.ReLU()), framework.Dense(64, 10, framework.Softmax())
    )
    click.echo(model.summary())
    trainer = _trainer(framework.CrossEntropy(), 0.05)
    trainer.fit(model, train)
    click.echo(f"\nheld-out accuracy {trainer.evaluate(model, test)['accuracy']:.3f} on {len(test[1])} rows")
