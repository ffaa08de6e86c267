"""The commands of experiments: new, train, sweep, evaluate, predict, resume, show, compare, report, and more."""

from __future__ import annotations

import functools
import importlib
import json
import shlex
import sys
import warnings
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from click.core import ParameterSource

from framework.base.errors import FrameworkError, SettingsError
from framework.base.files import leads_to, write_whole
from framework.base.settings.messages import printable
from framework.base.tables import as_text, figure
from framework.data.csv import CSV
from framework.experiments.baselines import MODEL
from framework.experiments.experiment import Experiment
from framework.experiments.files.building import schema_of
from framework.experiments.folder import SETTINGS, RunFolder, compare_folders
from framework.experiments.predictions import SHOWN, is_folder, write_parts, write_predictions
from framework.experiments.processes import work_together
from framework.experiments.proposing import proposal
from framework.experiments.sweeps.space import parse_varied
from framework.experiments.sweeps.sweep import SWEEP, Sweep
from framework.experiments.tables import render_for_command, require_not_read, table_of
from framework.experiments.views.reporting import report_runs, report_sweep
from framework.experiments.views.watching import watch
from framework.export import export_onnx, export_python, save_torch
from framework.formulas.losses.rows import MultiQuantile
from framework.formulas.schedules import Schedule
from framework.models import Model
from framework.training.callbacks.progress import make_bars
from framework.training.checkpoint import load_model

Command = TypeVar("Command", bound=Callable[..., Any])


@contextmanager
def answering(file: str | None = None) -> Iterator[None]:
    """Turn errors into one message, and warnings into lines; ``file`` has the settings of a command without --set."""
    shown = set[str]()

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in shown:  # one may come with each block of a table
            shown.add(str(message))
            click.echo(f"Warning: {printable(str(message))}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except (FrameworkError, ImportError, MemoryError, OSError) as error:
            if isinstance(error, BrokenPipeError):  # the reader of the output has ended
                raise
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            raise click.ClickException(printable(render_for_command(error, file) + notes)) from None


def _import(modules: tuple[str, ...]) -> None:
    """Import the modules of ``--import``, also from the current folder, as ``python -m`` does."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        for module in modules:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name is None or not module.startswith(error.name):
                    raise
                hint = "; write it without .py" if module.endswith(".py") else ""
                raise click.ClickException(
                    f"--import {module}: no module of this name is in the current folder or installed{hint}"
                ) from None
    finally:
        sys.path.pop(0)


def _command(function: Command) -> Command:
    """Give a command ``--import``, and messages instead of tracebacks."""

    @functools.wraps(function)
    def call(imports: tuple[str, ...], **options: Any) -> Any:
        settable = "changes" in options and options.get("data", "") is not None
        folder = None if settable else options.get("folder")
        with answering(None if folder is None else str(Path(folder) / SETTINGS)):
            context = click.get_current_context()
            for param in context.command.params:
                value = options.get(param.name or "")
                if "" in (value if isinstance(value, tuple) else (value,)):
                    said = "expected a text; got an empty one, perhaps of a variable that is not set"
                    raise click.ClickException(f"{param.get_error_hint(context)}: {said}")
            _import(imports)
            return function(**options)

    help_text = "A module with classes of your own, to be imported first; may be given several times."
    option = click.option("--import", "imports", multiple=True, metavar="MODULE", help=help_text)
    return option(call)  # type: ignore[return-value]


def _changes(metavar: str, text: str) -> Callable[[Command], Command]:
    """Return the option ``--set``, which may be given several times."""
    return click.option("--set", "changes", multiple=True, metavar=metavar, help=text)


_set = _changes(
    "SETTING=VALUE",
    "A setting that replaces the file's, e.g. trainer.epochs=20; may be given several times, in any order.",
)
_read = _changes(
    "data.SETTING=VALUE",
    "How the table is read, e.g. data.thousands=, or 'data.delimiter=;'; may be given several times.",
)

_minutes = click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after this time; members share it."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_runs = click.argument("folders", metavar="FOLDER...", nargs=-1, required=True)


def _quantiles_of(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[float, ...]:
    """Return the quantiles of ``0.1,0.9``; () without the option."""
    if text is None:
        return ()
    with suppress(ValueError):  # of float, or of the loss
        return MultiQuantile(quantiles=tuple(map(float, text.split(",")))).quantiles
    raise click.BadParameter(f"expected two or more rising numbers between 0 and 1, e.g. 0.1,0.5,0.9; got {text!r}")


@click.command()
@click.argument("data", metavar="DATA")
@click.option("--target", required=True, help="The column to predict.")
@click.option("--out", help="The file to write; - prints it. [default: the name of DATA with .toml]")
@click.option("--task", type=click.Choice(["classes", "number"]), help="What the target is, if the guess is wrong.")
@click.option("--groups", metavar="COLUMN", help="Hold out all rows of a value together, such as those of a patient.")
@click.option("--quantiles", metavar="Q,Q,...", callback=_quantiles_of, help="Predict quantiles, such as 0.1,0.5,0.9.")
@_read
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_command
def new(
    data: str,
    target: str,
    out: str | None,
    task: Literal["classes", "number"] | None,
    groups: str | None,
    quantiles: tuple[float, ...],
    changes: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Look at the table DATA, CSV or Parquet, and write an experiment for it, with comments that say why."""
    if quantiles and task == "classes":
        raise click.UsageError("--quantiles predicts a number, and --task classes does not; leave one of them out.")
    path = Path(out or f"{Path(data).stem}.toml")
    if out == "-":
        click.echo(proposal(data, target, task, Path.cwd(), changes, out, groups, quantiles), nl=False)
        return
    _require_new(path, overwrite)
    require_not_read(table_of(data), f"--out {path}", path)
    write_whole(path, proposal(data, target, task, path.absolute().parent, changes, out, groups, quantiles))
    click.echo(f"wrote {path}; now: framework train {shlex.quote(str(path))}")


@click.command()
@click.argument("file", metavar="FILE")
@_set
@click.option("--out", metavar="FOLDER", help="The folder of the run. [default: runs/NAME-1, -2, ...]")
@_minutes
@_command
def train(file: str, changes: tuple[str, ...], out: str | None, minutes: float | None) -> None:
    """Train the experiment FILE, in a new folder that holds all there is to know of the run."""
    path = Path(file)
    try:
        experiment = Experiment.read(path, changes).moved(path.absolute().parent)
    except SettingsError as error:
        for change in changes:
            with suppress(SettingsError):
                if _is_of(error, change) and parse_varied(change).size > 1:
                    command = shlex.join(["framework", "sweep", str(path), "--set", change])
                    error.add_note(f"To train with each of several values: {command}")
        raise
    unused = (Path("runs", f"{path.stem}-{number}") for number in count(1))
    out = out or str(next(run for run in unused if not run.exists()))
    folder = RunFolder.create(out, experiment, sys.argv[1:])
    try:
        _run(folder, None, minutes)
    except Exception as error:
        if not hasattr(error, "run"):  # one that fit found before it began
            folder.discard()
        raise


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option("--epochs", type=click.IntRange(min=1), help="How many more. [default: up to the experiment's]")
@_minutes
@_command
def resume(folder: str, epochs: int | None, minutes: float | None) -> None:
    """Continue the run of FOLDER, bit for bit, where it was killed, interrupted or stopped."""
    _run(RunFolder(folder), epochs, minutes)


def _run(folder: RunFolder, epochs: int | None, minutes: float | None) -> None:
    shown = _relative(folder.path)
    if epochs is None and folder.complete:
        rate = folder.experiment.trainer.optimizer.learning_rate
        advice = "" if folder.members else "; --epochs 5 trains five more"
        if isinstance(rate, Schedule) and rate.open:
            advice = ", and its learning rate is at the end of its schedule; for more epochs train a new run"
        if folder.stopped_early is not None:
            advice = f" ({folder.stopped_early}); --epochs 5 trains up to five more, and counts the patience from there"
        raise click.ClickException(f"the run {shown} is complete{advice}")
    try:
        trainer = folder.experiment.trainer
        bars = make_bars(trainer.callbacks) if trainer.progress else []
        run = folder.train(epochs=epochs, minutes=minutes, callbacks=bars)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo(f"interrupted; to continue: framework resume {shlex.quote(shown)}", err=True)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else stop.code)
    for member in folder.members or [folder]:
        kept = member.metrics or {}
        epochs, best = kept.get("epochs", run.epoch), kept.get("epoch")
        reason = kept.get("stop_reason") or (
            f"the weights are those of epoch {best}" if best not in (None, epochs) else ""
        )
        click.echo(f"{_relative(member.path)}: {epochs} epochs{reason and f' ({reason})'}")
    kept = folder.metrics or {}
    figures = kept.get("validation") or (run.history[(kept.get("epoch") or 0) - 1] if run.history else {})
    click.echo(_held_out(folder) if kept.get("validation") else "on the training rows:")
    _print_figures(figures, run.model, folder.beside)
    if error := (kept.get("baselines") or {}).get("error"):
        click.echo(f"no baselines beside these figures: {error}", err=True)


@click.command(name="sweep")
@click.argument("path", metavar="PATH")
@_changes(
    "SETTING=VALUES",
    "A setting to vary, e.g. trainer.epochs=5,10 or model.seed=int(0,99); one value sets it for all runs.",
)
@click.option("--random", type=click.IntRange(min=1), metavar="N", help="Draw N trials. [default: all combinations]")
@click.option("--halving", type=click.IntRange(min=2), metavar="ETA", help="Train the best 1/ETA ETA times as long.")
@click.option("--folds", type=click.IntRange(min=2), metavar="K", help="Cross-validate each trial, with K parts.")
@click.option("--optuna", type=click.IntRange(min=1), metavar="N", help="Let Optuna suggest N trials.")
@click.option("--seed", default=0, show_default=True, help="The seed of the draws.")
@click.option("--objective", metavar="COLUMN", help="The figure that counts. [default: a callback's monitor, val_loss]")
@click.option("--mode", type=click.Choice(["min", "max"]), help="Which is better. [default: as the metric says]")
@click.option("--out", metavar="FOLDER", help="The folder of the sweep. [default: sweeps/NAME]")
@click.option("--index", type=click.IntRange(min=0), metavar="I", help="Train run I alone, as in an array of jobs.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="How many processes.")
@click.option("--retry", is_flag=True, help="Train failed runs again.")
@_json
@_command
def sweep_runs(
    path: str,
    changes: tuple[str, ...],
    out: str | None,
    index: int | None,
    workers: int,
    retry: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train the experiment PATH once for each combination of the varied settings; or continue the sweep of folder PATH.

    Start the same command several times, also on several machines with a shared folder: each takes the next run. Any
    of them may be killed; its run is resumed by another.
    """
    sweep = _sweep_of(path, changes, out, options)
    if index is not None and workers > 1:
        raise click.ClickException("--index trains one run, in this process; leave --workers out")
    if retry:
        sweep.retry()
    shown, well = _relative(sweep.path), True
    try:
        if workers > 1:
            flags = [f"--import={module}" for module in click.get_current_context().params["imports"]]
            runs = len(sweep.trials)
            codes = work_together(
                ["sweep", str(sweep.path), "--json", *flags], min(workers, runs), restarts=5 * runs, stderr=None
            )
            well = not any(codes)
        else:
            for row in sweep.work(None if index is None else [sweep.name(index)]):
                figure = f"{sweep.objective} {_cell(row.get(sweep.objective))}"
                said = f"failed: {row['error']}" if row["state"] == "failed" else figure
                click.echo(f"{shown}/runs/{row['run']}: {said}", err=True)
    except (KeyboardInterrupt, SystemExit) as stop:
        click.echo(f"interrupted; to continue: framework sweep {shlex.quote(shown)}", err=True)
        sys.exit(130 if isinstance(stop, KeyboardInterrupt) else stop.code)
    rows = sweep.ranked()
    _print_rows(rows, as_json, {axis.setting for axis in map(parse_varied, sweep.settings["set"])})
    sys.exit(0 if well and any(row["state"] != "failed" for row in rows) else 1)


def _is_of(error: FrameworkError, change: str) -> bool:
    """Return whether a change by ``--set`` is wrong."""
    return any(f"--set {change}" in fault.where for fault in error.errors)


def _sweep_of(path: str, changes: tuple[str, ...], out: str | None, options: dict[str, Any]) -> Sweep:
    """Return the sweep of a folder, or that of an experiment's file, whose folder is made if it is not there."""
    context = click.get_current_context()
    if leads_to(path) == "folder":
        sweep = Sweep(path)
        for name in ("changes", "out", *options):
            if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
                flag = name.replace("changes", "set")
                raise click.ClickException(f"--{flag}: the folder {path} has the settings of its sweep; leave this out")
        return sweep
    read = {change: parse_varied(change) for change in changes}
    fixed = [change for change in changes if read[change].size == 1]
    varying = [change for change in changes if change not in fixed]
    if twice := {read[change].setting for change in fixed} & {read[change].setting for change in varying}:
        raise click.ClickException(f"--set {twice.pop()} is given with one value and with several; give one of them")
    try:
        experiment = Experiment.read(path, fixed).moved(Path(path).absolute().parent)
    except SettingsError as error:
        if any(_is_of(error, change) for change in fixed):
            error.add_note("A --set with one value sets it in all runs; to vary it, write --set SETTING=VALUE,VALUE")
        raise
    return Sweep.create(out or Path("sweeps") / Path(path).stem, experiment, varying, **options)


@click.command()
@click.argument("folder", metavar="FOLDER")
@click.option("--data", metavar="FILE", help="A table with the target. [default: the validation data]")
@_read
@_json
@_command
def evaluate(folder: str, data: str | None, changes: tuple[str, ...], as_json: bool) -> None:
    """Print the loss and the metrics of the model of FOLDER, and beside them those of its baselines.

    The metrics are in the unit of the target. Where steps such as Standardize change it, the loss is of the changed
    numbers, and a last line says so.
    """
    run = RunFolder(folder)
    judged = run.judge(data, changes)
    figures = judged.pop(MODEL)
    if as_json:
        click.echo(json.dumps(figures | ({"baselines": judged} if judged else {})))
    else:
        click.echo(f"{_held_out(run)}\n" * (data is None), nl=False)
        _print_figures(figures, run.model(), judged)


@click.command()
@click.argument("folders", metavar="FOLDER...", nargs=-1)
@click.argument("data", metavar="DATA")
@click.option(
    "--out", default="predictions.csv", show_default=True, help="The table to write, .csv or .parquet; or a folder."
)
@click.option(
    "--keep", multiple=True, metavar="COLUMN", help="A column of DATA to write too; may be given several times."
)
@_read
@click.option("--overwrite", is_flag=True, help="Replace an existing file, or parts of another model or of other data.")
@click.option("--workers", type=click.IntRange(min=1), help="How many processes write the parts of a folder.")
@_command
def predict(
    folders: tuple[str, ...],
    data: str,
    out: str,
    keep: tuple[str, ...],
    changes: tuple[str, ...],
    overwrite: bool,
    workers: int | None,
) -> None:
    """Predict every row of the table DATA with the model of FOLDER; of several FOLDERs, with the mean of their models.

    The rows stay in their order. For classes, the column of the target has the most probable one, and a column for
    each class, such as income=yes, has its probability.

    If OUT is a folder, a name without an ending, DATA is Parquet: a file, a folder or a pattern. Each row group becomes
    a file of OUT, a part. Parts that are there already are skipped. The same command may run several times at once:
    the processes share the parts.
    """
    if not folders:
        raise click.ClickException(f"expected the FOLDER of a run and DATA; got {data} alone")
    runs = [RunFolder(folder) for folder in folders]
    if not is_folder(out):
        if workers is not None:
            raise click.ClickException(f"--workers is for a folder of parts; --out {out} is one file")
        _require_new(out, overwrite)
        rows = write_predictions(runs, data, out, keep, changes)
        click.echo(f"wrote {out}: {rows} rows")
        return
    flags = {"--import": click.get_current_context().params["imports"], "--keep": keep, "--set": changes}
    command = ["predict", *(str(run.path) for run in runs), data, "--out", out, *["--overwrite"] * overwrite]
    command += [text for flag, values in flags.items() for value in values for text in (flag, value)]

    def report(error: FrameworkError) -> None:
        click.echo(f"Error: {printable(render_for_command(error))}", err=True)

    codes = work_together(command, workers) if workers is not None and workers > 1 else []
    if killed := [code for code in codes if code not in (0, 1)]:
        click.echo(f"Warning: {len(killed)} of {workers} processes were ended; this one writes missing parts", err=True)
    # After them, this process counts the parts, writes missing ones, and prints the errors that each of them met.
    parts = write_parts(runs, data, out, keep, changes, overwrite=overwrite, checked=bool(codes), report=report)
    if parts.failed:
        kinds = len(parts.kinds)
        which = "see above" if parts.failed == kinds else "the first error of each kind is above"
        if kinds > SHOWN:
            which = f"the first errors of {SHOWN} of {kinds} kinds are above"
        raise click.ClickException(f"{out}: files or parts of {data} without predictions: {parts.failed}; {which}")
    written = "" if codes else f"; this process wrote {parts.written} parts"
    click.echo(f"{out}: {parts.count} parts, {parts.rows} rows{written}")


@click.command()
@click.argument("path", metavar="PATH")
@_set
@_command
def show(path: str, changes: tuple[str, ...]) -> None:
    """Print the experiment of the file PATH with every setting, or the run of the folder PATH."""
    if leads_to(path) != "folder":
        click.echo(Experiment.read(path, changes).to_toml(), nl=False)
        return
    folder = RunFolder(path)
    click.echo(Experiment.read(folder.path / SETTINGS, changes).to_toml())
    rows = folder.history()
    click.echo(f"# {len(rows)} epochs{', complete' if folder.complete else ''}")
    if rows:
        row = folder.side("").row if folder.members else rows[-1]
        click.echo("\n".join(f"# {key} = {value}" for key, value in row.items()))
    if folder.newest is not None:
        click.echo(folder.model().summary())


@click.command()
@_runs
@_json
@_command
def compare(folders: tuple[str, ...], as_json: bool) -> None:
    """Print the runs of several FOLDERs as a table: the settings in which they differ, and their figures.

    The last rows are the baselines, which --json leaves out: a linear model, the commonest class or the mean alone, and
    LightGBM with its default settings, where lightgbm is installed. Its fit takes some seconds.
    """
    _print_rows(compare_folders([RunFolder(folder) for folder in folders], baselines=not as_json), as_json)


@click.command()
@_runs
@click.option("--out", default="report.html", show_default=True, help="The page to write; it replaces an older report.")
@_command
def report(folders: tuple[str, ...], out: str) -> None:
    """Write an HTML page about the runs of FOLDERs: curves, figures, model, columns, settings, confusion matrix.

    The page holds all it needs, and loads nothing. Several runs are shown side by side, the best first. The folder of a
    sweep gives its trials, the objective over each setting, and the best runs.
    """
    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise click.ClickException(f"--out {out}: the page is HTML; give a name that ends in .html")
    if len(folders) == 1 and leads_to(Path(folders[0], SWEEP)) == "file":
        report_sweep(Sweep(folders[0]), out)
    else:
        report_runs([RunFolder(folder) for folder in folders], out)
    click.echo(f"wrote {out}")


def _shape(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """Return the sizes of ``28,28``."""
    try:
        return None if text is None else tuple(int(size) for size in text.split(",") if size)
    except ValueError:
        raise click.BadParameter(f"expected sizes with commas between them, e.g. 28,28; got {text!r}") from None


@click.command()
@click.argument("source", metavar="RUN")
@click.argument("out", metavar="OUT")
@click.option("--shape", callback=_shape, help="The shape of a sample, e.g. 28,28, where the model leaves sizes open.")
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="Of an ONNX file. [default: the model's]")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@_command
def export(source: str, out: str, shape: tuple[int, ...] | None, dtype: str | None, overwrite: bool) -> None:
    """Write the model of RUN, the folder of a run or a checkpoint, to the file OUT.

    The ending of OUT chooses the format: .onnx for ONNX, .py for a Python file that needs NumPy alone, .safetensors for
    the weights in PyTorch's layout.
    """
    ending = Path(out).suffix
    if ending not in (".onnx", ".py", ".safetensors"):
        raise click.ClickException(f"OUT must end in .onnx, .py or .safetensors; got {out}")
    if dtype is not None and ending != ".onnx":
        raise click.ClickException(f"--dtype is for a file that ends in .onnx; got {out}")
    _require_new(out, overwrite, "OUT")
    run = RunFolder(source) if leads_to(source) == "folder" else None
    model = load_model(source) if run is None else run.model()
    if ending == ".onnx":
        export_onnx(model, out, shape=shape, dtype=dtype)
    elif ending == ".py":
        table = None if run is None else run.experiment.data
        export_python(model, out, shape=shape, dates=table.dates if isinstance(table, CSV) else ())
    else:
        save_torch(model, out)
    bare = ending == ".safetensors" and model.preprocess is not None
    click.echo(f"wrote {out}{'; it takes numbers that the Preprocess has transformed' if bare else ''}")


@click.command(name="watch")
@click.argument("paths", metavar="FOLDER...", nargs=-1, required=True)
@click.option("--once", is_flag=True, help="Show them once, as they are.")
@click.option("--log", is_flag=True, help="Draw the curves on a log scale.")
@_command
def watch_runs(paths: tuple[str, ...], once: bool, log: bool) -> None:
    """Show the figures and the curves of the runs of FOLDERs until they have ended, or until Ctrl-C.

    A FOLDER may also be a file that JSONLog writes. The files are only read: training is not slower. Where the output
    is not a terminal, there is a line for each new epoch.
    """
    with suppress(KeyboardInterrupt):
        watch(paths, once=once, log=log)


@click.command()
@_command
def schema() -> None:
    """Print the JSON schema of experiment files, with which editors complete names and mark mistakes."""
    click.echo(json.dumps(schema_of(Experiment), indent=2))


def _require_new(path: str | Path, overwrite: bool, argument: str = "--out") -> None:
    """Refuse to replace a file without --overwrite."""
    if leads_to(path) and not overwrite:
        raise click.ClickException(f"{path} exists already; give {argument} another file, or --overwrite")


def _relative(path: Path) -> str:
    """Return a path as short as it can be written here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _held_out(folder: RunFolder) -> str:
    """Return the line above figures of the validation data."""
    apart = folder.members and isinstance(folder.settings.get("validation"), float)
    return f"on the held-out rows{', each judged by the members that held it out' if apart else ''}:"


def _print_figures(figures: dict[str, Any], model: Model, baselines: dict[str, dict[str, float]]) -> None:
    """Print the figures of a model; those of its baselines stand in brackets."""
    names, values = max(map(len, figures), default=0), max(len(_cell(value)) for value in (*figures.values(), ""))
    for name, value in figures.items():
        beside = "; ".join(f"{label}: {figure(row[name], 4)}" for label, row in baselines.items() if name in row)
        click.echo(f"{name:<{names}}  {_cell(value):<{values}}  {beside and f'({beside})'}".rstrip())
    if model.preprocess is not None and model.preprocess.unit:
        click.echo(model.preprocess.unit)


def _print_rows(rows: Sequence[dict[str, Any]], as_json: bool, written: Container[str] = ()) -> None:
    """Print a table; the columns ``written`` hold settings, which are printed as --set takes them."""
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    columns = [name for name in rows[0] if name != "error"]
    cells = [[(_write_setting if name in written else _cell)(row[name]) for name in columns] for row in rows]
    click.echo(as_text([columns, *cells]))


def _write_setting(value: Any) -> str:
    """Return a setting as --set takes it."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def _cell(value: Any) -> str:
    return figure(value) if isinstance(value, int | float | None) else str(value)
