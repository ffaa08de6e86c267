"""Reports of the folders of runs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.base.errors import DivergedError, FrameworkError, SettingsError
from framework.base.files import read_text
from framework.base.settings.messages import is_ours
from framework.experiments.experiment import Experiment, choose_objective, score
from framework.experiments.folder import SETTINGS, RunFolder, compare_folders
from framework.experiments.members import MemberRows, OutOfFold
from framework.experiments.sweeps.space import parse_varied
from framework.experiments.sweeps.sweep import Sweep
from framework.models.rows import prepare
from framework.training.callbacks import on
from framework.training.checkpoint import load
from framework.training.loop import train
from framework.training.runs import contents as reports
from framework.training.runs.history import History
from framework.training.runs.run import Run
from framework.training.trace import TraceSteps
from framework.views.reports.page import Cells, Contents, scatters, write_report

BEST = 5
"""Of how many runs of a sweep a report has the curves."""


def report_runs(folders: Sequence[RunFolder], path: str | Path) -> None:
    """Write a page about the runs of some folders; several, and members, are shown side by side, the best first.

    Raises:
        SettingsError: The file cannot be written, or is something else than a report.
    """
    folders = [run_folder for folder in folders for run_folder in (folder, *folder.members)]
    if len(folders) == 1:
        write_report(path, [_contents(folders[0], folders[0].path.name)])
        return
    try:
        objective, mode = choose_objective(folders[0].experiment, None, None)
    except (FrameworkError, ImportError):  # of classes that are not defined
        objective, mode = "val_loss", "min"
    ranked = sorted(folders, key=lambda folder: score(folder.side("").row.get(objective), mode))
    rows = compare_folders(ranked, baselines=True)
    columns = [*rows[0]]
    names = reports.short_names(columns[1 : columns.index("epochs")])  # of the settings, which stand between those two
    runs = [_contents(folder, _name_run(row, names)) for row, folder in zip(rows, ranked, strict=False)]
    write_report(path, runs, rows, (), _title(f"{len(runs)} runs", rows[0], objective, mode))


def report_sweep(sweep: Sweep, path: str | Path) -> None:
    """Write a page about the runs of a sweep, the best first, with the curves of the best ones.

    Raises:
        SettingsError: The file cannot be written, or is something else than a report.
    """
    objective, ranked = sweep.objective, sweep.ranked()
    names = reports.short_names(axis.setting for axis in map(parse_varied, sweep.settings["set"]) if axis.size > 1)
    further = [key for key in _SHOWN if any(row.get(key) is not None for row in ranked)]
    keys = {"run": "run", objective: objective} | names | {key: key for key in further}
    rows = [{name: row.get(key) for key, name in keys.items()} for row in ranked]
    best = [row for row in ranked[:BEST] if row.get(objective) is not None]
    runs = [_contents(sweep.folder_of(row), _name_run(row, names)) for row in best]
    title = _title(sweep.path.name, ranked[0], objective, sweep.settings["mode"])
    write_report(path, runs, rows, scatters(rows, names.values(), objective), title)


_SHOWN = ("deviation", "folds", "epochs", "state", "error")
"""The columns of a sweep's report beside the settings and the objective."""


def _title(name: str, best: Mapping[str, Any], objective: str, mode: str) -> str:
    """Return a title, which states the order if the best row has a finite figure, in a sweep that of a complete run."""
    ordered = best.get("state", "complete") == "complete" and score(best.get(objective), mode) < math.inf
    return f"{name}, the {'largest' if mode == 'max' else 'smallest'} {objective} first" if ordered else name


def _name_run(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Return a run's name with the first of the settings in which it differs from others."""
    values = [(name, row.get(key)) for key, name in names.items()]
    texts = [f"{name} {f'{value:.4g}' if isinstance(value, float) else value}" for name, value in values]
    return f"{row['run']}: {', '.join(text for text in texts[: reports.FEW] if len(text) < 40)}".removesuffix(": ")


def _contents(folder: RunFolder, name: str) -> Contents:
    """Return the contents of a folder's run, as far as its classes can be imported and its data can be read."""
    rows, metrics = [] if folder.members else folder.history(), folder.metrics
    contents, missing = Contents(name), []
    if metrics is None:
        missing.append("The run is not complete: it is in training, was interrupted, or was ended by an error.")
    try:
        run = None if folder.newest is None else load(folder.newest)
    except FrameworkError as error:
        run = None
        missing.append(f"The checkpoint cannot be loaded, so the model is not shown. {error}")
    if run is not None:
        contents = reports.contents_of(run, name)
        if members := folder.members:
            contents.facts = [("members", str(len(members))), ("epochs", f"{len(folder.history()):,} in all")]
        try:
            _add_data(contents, folder, run)
        except (FrameworkError, ImportError) as error:
            missing.append(f"The data cannot be used, so what is computed from it is not shown. {error}")
    contents.alarms += missing
    history = History([{key: math.nan if value is None else value for key, value in row.items()} for row in rows])
    contents.columns = {key: history[key] for key in history.keys}
    contents.settings = read_text(folder.path / SETTINGS)
    contents.facts = [*contents.facts, *_describe_start(folder)]
    final = (metrics or {}).get("validation") or {}
    contents.final = {key: value for key, value in final.items() if isinstance(value, int | float)}
    contents.beside = folder.beside
    return contents


def _describe_start(folder: RunFolder) -> Cells:
    """Return when and how the run started, and with which versions."""
    try:
        about = folder.about
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        command = shlex.join(["framework", *about["command"]])
        return [("started", str(about["started"])), ("command", command), ("installed", versions)]
    except (SettingsError, LookupError, TypeError, AttributeError):
        return []


def _add_data(contents: Contents, folder: RunFolder, run: Run) -> None:
    """Add the confusion matrix and the first steps; say so where the data has changed since the run."""
    experiment, members = folder.experiment, [member.model() for member in folder.members]
    outputs = reports.outputs_of_classes(run.model, run.loss_function)
    if outputs and experiment.validation is None:
        contents.unconfused = (
            "It is counted on validation data, which the experiment does not have: write validation = 0.2 in its file, "
            "and train it again."
        )
    if members:
        if outputs:
            validation, held = MemberRows(experiment).out_of_fold()
            source = prepare(validation, run.model, (run.loss_function,), "report")
            compute = OutOfFold(members, held, "numpy")
            contents.confusions = reports.confusions_of(run.model, outputs, source, "report", compute=compute)
        return
    data, validation = experiment.parts()
    if outputs and validation is not None:
        source = prepare(validation, run.model, (run.loss_function,), "report", fingerprinted=True)
        contents.confusions = reports.confusions_of(run.model, outputs, source, "report")
        if source.fingerprint() != run.recipe.get("validation"):
            said = "The validation data has changed since the run: the confusion matrix is of what it is now."
            contents.alarms.append(said)
    callbacks = experiment.trainer.callbacks  # those of a user may change the steps, which are made again without them
    if isinstance(data, tuple) and all(is_ours(type(callback).__module__) for callback in callbacks):
        replay = _replay_first_steps(experiment, data, run)
        if replay.recipe["data"] == run.recipe.get("data"):
            contents.steps = reports.first_steps(replay)
        else:
            contents.alarms.append("The data has changed since the run, so its first steps are not shown.")


def _replay_first_steps(experiment: Experiment, data: Any, run: Run) -> Run:
    """Train again for ``reports.STEPS`` steps, which depend on the settings and the data alone; return the run."""
    stop = on("batch_end")(lambda run: run.stop("these are enough") if run.step == reports.STEPS else None)
    experiment.model.preprocess = run.model.preprocess
    tracing = {"callbacks": [TraceSteps(limit=reports.STEPS), stop], "engine": "numpy", "metrics": []}
    trainer = experiment.trainer.replace(**tracing)
    try:
        return train(trainer, experiment.model, data, epochs=1)
    except DivergedError as error:
        diverged: Run = vars(error)["run"]
        return diverged
