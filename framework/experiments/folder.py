"""RunFolder: everything of one run of an experiment, in one folder.

experiment.toml   the experiment as it ran, with every setting
run.json          when it started, the versions of the libraries, the command
history.jsonl     a line for each epoch
checkpoints/      the newest states, from which the run resumes and predicts
baselines/        a constant and a linear model, beside which the model is judged
metrics.json      the loss and the metrics of the final weights, and of the baselines
member-0, -1, ... the runs of the members, of which the checkpoint has the mean
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BeforeValidator

from framework.base.errors import DataError, SettingsError, UsageError
from framework.base.files import leads_to, read_text, real_path, write_folder, write_whole
from framework.base.settings.messages import warn
from framework.data.parts import explain_error
from framework.data.splits import rows_of_parts
from framework.experiments.baselines import BOOSTED, MODEL, Boosted, beside, judge, load_baselines, save_like
from framework.experiments.experiment import Experiment
from framework.experiments.files.text import drop_inferred_inputs, read_settings
from framework.experiments.members import MemberRows
from framework.experiments.tables import (
    as_trained,
    drop_unlabelled,
    in_memory,
    require_trained,
    table_of,
    table_read_as,
)
from framework.models import Model
from framework.models.branches import Ensemble
from framework.preprocessing.fitted import FittedPreprocess
from framework.training.callbacks import Callback
from framework.training.callbacks.base import CHUNK_END, FunctionCallback
from framework.training.callbacks.progress import ProgressBar
from framework.training.callbacks.reporting import JSONLog, text_of_path
from framework.training.callbacks.saving import Checkpoint
from framework.training.callbacks.stopping import EarlyStopping
from framework.training.checkpoint import latest, load, load_model
from framework.training.checkpoint.file import checkpoints
from framework.training.loop import train
from framework.training.parallel.strategy import count_processes
from framework.training.preconditions import settle_length
from framework.training.runs.contents import Side, comparison, epoch_of_weights
from framework.training.runs.run import Run

SETTINGS = "experiment.toml"
ABOUT = "run.json"
HISTORY = "history.jsonl"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.json"
BASELINES = "baselines"
MEAN = "mean.safetensors"

SAVING = Checkpoint(folder=CHECKPOINTS, every="5 seconds")
"""Saves a run whose experiment has no ``Checkpoint``: by the clock, as a save may last as long as many short epochs."""


OUT_OF_TIME = "--minutes"
"""How the reason of a run begins that was stopped by the clock."""


class Watch(FunctionCallback):
    """A function at a hook that changes nothing in the training."""

    observes: ClassVar[bool] = True


class RunFolder:
    """The folder of one run.

    Args:
        path: The folder; ``create`` makes a new one.

    Raises:
        SettingsError: It is not the folder of a run.

    Example:
        >>> RunFolder("no such folder")
        Traceback (most recent call last):
        framework.base.errors.SettingsError: 'no such folder' is not the folder of a run: it has no experiment.toml...
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()  # a hook may change the working directory
        there = leads_to(path)
        if leads_to(self.path / SETTINGS) != "file":
            experiment = self.path.suffix in (".toml", ".json") and there == "file"
            hint = f"; framework train {path if experiment else 'FILE'} makes one"
            if not there:
                hint = f"; there is nothing of this name{hint}"
            if leads_to(self.path / "sweep.toml"):
                hint = f"; it is a sweep: give one of the runs in {Path(path, 'runs')}"
            raise SettingsError(f"{os.fspath(path)!r} is not the folder of a run: it has no {SETTINGS}{hint}")

    def __repr__(self) -> str:
        epochs = 0
        with contextlib.suppress(SettingsError):  # it was removed, or damaged
            epochs = len(self.history())
        return f"RunFolder({str(self.path)!r}): {epochs} epochs, {'' if self.complete else 'not '}complete"

    @classmethod
    def create(cls, path: str | os.PathLike[str], experiment: Experiment, command: Sequence[str] = ()) -> RunFolder:
        """Make the folder of a new run, with its settings.

        Args:
            path: A folder that does not exist yet, or is empty.
            experiment: Paths of its callbacks are relative to the folder, and inside it. If it has no ``Checkpoint``,
                it gets one that saves every 5 seconds and at the end; without a ``JSONLog`` it gets one too.
            command: The command that started the run.

        Raises:
            SettingsError: The folder has contents, or cannot be written, or a callback would write elsewhere.
            UsageError: The experiment has a strategy, and this process is one of several.
        """
        require_one_process(experiment)
        folder = Path(path).absolute()
        callbacks: list[Callback] = [*experiment.trainer.callbacks]
        for kind, made in ((JSONLog, JSONLog(path=HISTORY)), (Checkpoint, SAVING)):
            if not any(isinstance(callback, kind) for callback in callbacks):
                callbacks.append(made)
        inside(callbacks, folder)
        trainer = experiment.trainer.replace(callbacks=callbacks)
        text = experiment.replace(model=experiment.model.copy(), trainer=trainer).to_toml()  # first: it may refuse
        versions = {"Python": sys.version.split()[0], "NumPy": np.__version__, "machine": platform.platform()}
        for name in ("framework", "pyarrow", "narwhals"):
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions[name] = metadata.version(name)
        about = {
            "history": next(callback.path for callback in callbacks if isinstance(callback, JSONLog)),
            "checkpoints": next(callback.folder for callback in callbacks if isinstance(callback, Checkpoint)),
            "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "command": [*command],
            "folder": str(Path.cwd()),
            "versions": versions,
        }
        advice = "framework resume continues a run"
        if (count := count_processes()) > 1:  # of several processes with one folder, only the first makes it
            advice = f"one process trains an experiment, and mpiexec or srun started {count}"
        files = {ABOUT: json.dumps(about, indent=2, ensure_ascii=False) + "\n", SETTINGS: text}
        write_folder(path, files, "the run", advice)
        return cls(folder)

    def discard(self) -> None:
        """Remove what ``create`` has made, if nothing was trained; other files stay, and so does their folder."""
        checkpoints = self.checkpoints
        for member in self.members:
            member.discard()
        if self.newest is None and not self.history() and not self.members:
            for name in (SETTINGS, ABOUT):
                (self.path / name).unlink(missing_ok=True)
            for folder in (checkpoints, self.path):
                with contextlib.suppress(OSError):  # it is not there, or not empty
                    folder.rmdir()

    @property
    def experiment(self) -> Experiment:
        """The experiment as it ran; the paths of its callbacks are relative to the folder."""
        return Experiment.read(self.path / SETTINGS)

    def train(
        self,
        *,
        epochs: int | None = None,
        minutes: float | None = None,
        callbacks: Sequence[Callback] = (),
        swept: bool = False,
    ) -> Run:
        """Begin the run, or resume it from its newest checkpoint, bit for bit; then write the metrics.

        Members are trained one after another, then the mean of them is saved.

        Args:
            epochs: How many more, for a run that is resumed; None trains up to the trainer's ``epochs``. If
                EarlyStopping has ended the run, it counts its patience again from there. A run of members takes None.
            minutes: When to stop, counted from now, at the end of a chunk of steps; members share the time. None is no
                limit. ``train`` continues such a run.
            callbacks: More callbacks than the experiment's.
            swept: Whether it is one of many, with no ``ProgressBar``, and no constant and linear model beside it.

        Raises:
            SettingsError: ``epochs`` is given for a run of members.
            UsageError: The experiment has a strategy, and this process is one of several.
        """
        experiment = self.experiment
        require_one_process(experiment)
        clock = Clock(minutes)
        if experiment.members == 1:
            return self._train(experiment, [*callbacks, *clock.stops(1)], epochs=epochs, swept=swept)
        if epochs is not None:
            raise SettingsError(
                f"--epochs {epochs}: members are trained up to trainer.epochs alone: leave --epochs out, or train a "
                "new run with --set trainer.epochs"
            )
        return self._train_members(experiment, callbacks, clock, swept=swept)

    def _train(
        self,
        experiment: Experiment,
        callbacks: Sequence[Callback],
        *,
        epochs: int | None = None,
        swept: bool,
        parts: tuple[Any, Any] | None = None,
        preprocess: FittedPreprocess | None = None,
    ) -> Run:
        """Train one model, whose rows and ``preprocess`` may be known already."""
        trainer = experiment.trainer
        own = [callback for callback in trainer.callbacks if not (swept and isinstance(callback, ProgressBar))]
        trainer = trainer.replace(callbacks=[*inside(own, self.path), *callbacks])
        data, validation = experiment.parts() if parts is None else parts
        newest = self.newest
        stopped = epochs is not None and self.stopped_early is not None
        with rows_of_parts(experiment.validation):
            kept = None if newest is None else load(newest)
            for memory in kept.memories.values() if kept is not None and stopped else ():
                if "waited" in memory:
                    memory["waited"] = 0  # as if no epoch without improvement had been counted yet
            if kept is not None and (kept.stop_reason or "").startswith(OUT_OF_TIME):
                kept.stop_reason = None
            model = experiment.model if kept is None else kept.model
            if kept is None and preprocess is not None:
                model.preprocess = preprocess
            if kept is not None and epochs is not None:
                settle_length(kept, kept.layout, kept.epoch + epochs)  # refuses before the figures are deleted
            (self.path / METRICS).unlink(missing_ok=True)  # so that a run that is killed is not taken for complete
            run = train(trainer, model, data, validation, epochs, kept)
        if run.lost:  # the other process writes them
            return run
        figures = {} if validation is None else trainer.evaluate(run.model, validation)
        metrics: dict[str, Any] = {"epochs": run.epoch, "epoch": epoch_of_weights(run), "stop_reason": run.stop_reason}
        metrics["validation"] = figures
        if not swept:
            metrics["baselines"] = beside(trainer, run.model, data, validation, self.path / BASELINES)
        self._write_metrics(metrics)
        return run

    def _write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json, with which the run is complete."""
        write_whole(self.path / METRICS, json.dumps(metrics, indent=2) + "\n")

    def _train_members(
        self, experiment: Experiment, callbacks: Sequence[Callback], clock: Clock, *, swept: bool
    ) -> Run:
        """Train each member that is not complete yet, and save the mean of all."""
        (self.path / METRICS).unlink(missing_ok=True)
        begun = next((member for member in self.members if member.newest is not None), None)
        rows = MemberRows(experiment)
        preprocess = rows.fit_preprocess() if begun is None else begun.model().preprocess
        complete = [number for number, member in enumerate(self.members) if member.complete]
        left = [number for number in range(experiment.members) if number not in complete]
        for index, number in enumerate(left):
            path = self.member_path(number)
            if leads_to(path / SETTINGS) != "file":
                RunFolder.create(path, experiment.member(number), self.about.get("command", ()))
            member, stops = RunFolder(path), clock.stops(len(left) - index)
            run = member._train(
                member.experiment, [*callbacks, *stops], swept=swept, parts=rows.of(number), preprocess=preprocess
            )
            if run.lost:
                return run
        return self._save_mean(experiment, rows, swept=swept)

    def _save_mean(self, experiment: Experiment, rows: MemberRows, *, swept: bool) -> Run:
        """Save the mean of the members and that of their baselines, and write the metrics."""
        trainer, models = experiment.trainer, self._models()

        def save_mean(name: str, path: Path) -> Run:
            members = models[name]
            return save_like(trainer, members[0], Ensemble(*[member.copy() for member in members]), path)

        run = save_mean(MODEL, self.checkpoints / MEAN)
        for name in (name for name in models if name != MODEL):
            save_mean(name, self.path / BASELINES / f"{name}.safetensors")
        judged = judge(trainer, models, *rows.out_of_fold())
        metrics = {"epochs": len(self.history()), "epoch": None, "stop_reason": None, "validation": judged.pop(MODEL)}
        if not swept:
            metrics["baselines"] = (self.members[0].metrics or {}).get("baselines", {}) | {"validation": judged}
        self._write_metrics(metrics)
        return run

    @property
    def members(self) -> list[RunFolder]:
        """The runs of the members, as far as they have begun; none in the folder of one model."""
        paths = map(self.member_path, itertools.count())
        return [*map(RunFolder, itertools.takewhile(lambda path: leads_to(path / SETTINGS) == "file", paths))]

    def member_path(self, number: int) -> Path:
        """Return the folder of a member, which may not be there yet."""
        return self.path / f"member-{number}"

    def _models(self) -> dict[str, list[Model]]:
        """Return the models of the members, and by name the baselines that all of them have."""
        members = self.members
        known = [load_baselines(member.path / BASELINES) for member in members]
        names = [name for name in known[0] if all(name in baselines for baselines in known)]
        baselines = {name: [member_baselines[name] for member_baselines in known] for name in names}
        return {MODEL: [member.model() for member in members]} | baselines

    def judge(self, data: str | None = None, changes: Sequence[str] = ()) -> dict[str, dict[str, float]]:
        """Return the loss and the metrics of the newest model, "the model", and of each baseline by its name.

        Args:
            data: The path of a table with the target; None is the validation data, of which each row is predicted by
                the members that did not train on it. Rows without a target are left out.
            changes: Settings of how that table is read, such as ``"data.delimiter=;"``.

        Raises:
            SettingsError: The run has no checkpoint, or no validation data.
            DataError: The table cannot be read, or lacks a column.
        """
        experiment, model = self.experiment, self.model()
        models = {MODEL: [model]} | {name: [base] for name, base in load_baselines(self.path / BASELINES).items()}
        if data is not None:
            table = table_read_as(table_of(data, as_trained(experiment.data, model)), changes)
            require_trained(table, model, data)
            rows = drop_unlabelled(table)
            try:
                return judge(experiment.trainer, models, in_memory(rows))
            except DataError as error:
                counted = None if rows is table else "rows are counted without those that have no target"
                raise explain_error(error, table).advise(counted) from None
        if changes:
            raise SettingsError(f"--set {changes[0]}: give --data, the table that is read so")
        if experiment.validation is None:
            raise SettingsError("the experiment has no validation data", advice="give --data, a table with the target")
        if experiment.members > 1:
            return judge(experiment.trainer, self._models(), *MemberRows(experiment).out_of_fold())
        _, rows = experiment.parts()
        return judge(experiment.trainer, models, rows)

    def judge_lightgbm(self, model: Model) -> dict[str, float]:
        """Fit LightGBM in place of the run's model, and return its figures on the validation data."""
        experiment, held = self.experiment, None
        if experiment.members > 1:
            members = MemberRows(experiment)
            training = [members.of(number)[0] for number in range(experiment.members)]
            data, held = members.out_of_fold()
        else:
            *training, data = experiment.parts()
        boosted = [Boosted(experiment.trainer, model, rows) for rows in training]
        return judge(experiment.trainer, {BOOSTED: boosted}, data, held, model)[BOOSTED]

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The content of metrics.json; None before the end of the run.

        ``validation`` has the figures of the final weights. ``epoch`` is the epoch at whose end the run had them, None
        if it was stopped within an epoch. ``baselines`` has the figures of the baselines by name, and the number of
        rows from which they were made; or the error that kept them from being made.
        """
        return json_of(self.path / METRICS)

    @property
    def beside(self) -> dict[str, dict[str, float]]:
        """The figures of the baselines on the validation data by name, as metrics.json has them."""
        return dict(((self.metrics or {}).get("baselines") or {}).get("validation") or {})

    @property
    def stopped_early(self) -> str | None:
        """Why EarlyStopping ended the run; None if it did not."""
        stop = (self.metrics or {}).get("stop_reason")
        return stop if isinstance(stop, str) and stop.startswith(EarlyStopping.__name__) else None

    @property
    def complete(self) -> bool:
        """Whether the run has ended, and not only because of the clock."""
        return self.metrics is not None and not self.out_of_time

    @property
    def out_of_time(self) -> bool:
        """Whether the clock stopped the run, or one of its members, so that it can be continued."""
        reasons = ((each.metrics or {}).get("stop_reason") for each in self.members or [self])
        return any(isinstance(reason, str) and reason.startswith(OUT_OF_TIME) for reason in reasons)

    @property
    def about(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            SettingsError: The file is not there, or was changed.
        """
        content = json_of(self.path / ABOUT)
        if content is None or not all(isinstance(content.get(name), str) for name in ("history", "checkpoints")):
            problem = f"{self.path / ABOUT} must be as the run has written it, with its history and checkpoints"
            raise SettingsError(problem, advice="put it back, or train again in a new folder")
        return content

    @property
    def checkpoints(self) -> Path:
        """Where the run is saved."""
        return Path(self.path, self.about["checkpoints"])

    @property
    def newest(self) -> Path | None:
        """The newest whole checkpoint, or None before the first."""
        return latest(self.checkpoints)

    def model(self) -> Model:
        """Return the model of the newest checkpoint.

        Raises:
            SettingsError: The run has no whole checkpoint yet.
        """
        return load_model(self.checkpoint())

    def checkpoint(self) -> Path:
        """Return the newest whole checkpoint.

        Raises:
            SettingsError: The run has no whole checkpoint yet.
        """
        newest = self.newest
        if newest is None:
            damaged = f"; {len(files)} damaged files are there" if (files := checkpoints(self.checkpoints)) else ""
            raise SettingsError(
                f"the run {str(self.path)!r} has no checkpoint yet{damaged}; framework resume trains it"
            )
        return newest

    def history(self) -> list[dict[str, Any]]:
        """Return a row for each finished epoch, of what the log holds whole; of members one after another."""
        if members := self.members:
            return [row for member in members for row in member.history()]
        try:
            return rows_of(self.log.read_bytes())
        except OSError:
            return []

    @property
    def log(self) -> Path:
        """The file of lines from which ``history`` comes."""
        return Path(self.path, self.about["history"])

    @property
    def settings(self) -> dict[str, Any]:
        """The experiment's settings as the file has them; classes of the user need not be defined."""
        settings, _ = read_settings(read_text(self.path / SETTINGS), str(self.path / SETTINGS))
        return settings

    def side(self, name: str) -> Side:
        """Return the run for a comparison, with the figures of the epoch of its final weights."""
        metrics, rows = self.metrics, self.history()
        row = rows[-1] if rows else {}
        if metrics is not None and metrics.get("epoch") is None:  # the final weights are from within an epoch
            row = {f"val_{key}": value for key, value in (metrics.get("validation") or {}).items()} or row
        elif metrics is not None:
            row = next((entry for entry in rows if entry.get("epoch") == metrics["epoch"]), row)
        return Side(name, drop_inferred_inputs(self.settings), len(rows), self.complete, row)


class Clock:
    """Tells runs when to stop: ``minutes`` from now, or never."""

    def __init__(self, minutes: float | None) -> None:
        self._minutes, self._start = minutes, time.monotonic()

    def stops(self, runs: int) -> list[Callback]:
        """Return what stops a run when its share of the time is over, if ``runs`` are still to be trained."""
        if self._minutes is None:
            return []
        now, reason = time.monotonic(), f"{OUT_OF_TIME} {self._minutes:g} is over; framework resume continues"
        end = now + (self._start + 60 * self._minutes - now) / runs

        def stop(run: Run) -> None:
            if time.monotonic() >= end:
                run.stop(reason)

        return [Watch(function=stop, hook=CHUNK_END)]


def compare_folders(folders: Sequence[RunFolder], *, baselines: bool = False) -> list[dict[str, Any]]:
    """Return the comparison of some runs, for which their own classes need not be defined.

    Runs have the names of their folders, or their paths where two have the same name. The rows of
    ``baselines`` follow, with LightGBM where it is installed. One that differs from that of the first run has the name
    of its own run.
    """
    names = {folder.path.name: folder for folder in folders}
    runs = names if len(names) == len(folders) else {str(folder.path): folder for folder in folders}
    rows = comparison([folder.side(name) for name, folder in runs.items()])
    boosted: dict[str, dict[str, dict[str, float]]] = {}
    for name, folder in runs.items():
        for label, figures in (folder.beside | _judge_lightgbm(folder, boosted)).items() if baselines else ():
            values = {f"val_{key}": value for key, value in figures.items()}
            row = {key: values.get(key) for key in rows[0]} | {"run": label}
            if row not in rows:
                rows.append(row if all(old["run"] != label for old in rows) else row | {"run": f"{label}, {name}"})
    return rows


def _judge_lightgbm(folder: RunFolder, known: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the figures of LightGBM by its name, where it is installed; ``known`` are those of other runs."""
    if not folder.beside or find_spec("lightgbm") is None:
        return {}
    settings, model = folder.settings, folder.model()
    trainer = settings.pop("trainer", {})
    settings["model"] = model.output_shape, model.output_activation, model.dtype
    key = repr([settings, *map(trainer.get, ("seed", "preprocess", "loss", "metrics"))])
    if key not in known:
        known[key] = {}
        try:
            known[key] = {BOOSTED: folder.judge_lightgbm(model)}
        except Exception as error:  # noqa: BLE001 (whatever fails, the runs can be compared)
            warn(f"{folder.path.name}: {BOOSTED} is not shown: {error}")
    return known[key]


def json_of(path: Path) -> dict[str, Any] | None:
    """Return the object of a JSON file, or None if the file has none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def require_one_process(experiment: Experiment) -> None:
    """Refuse to train the folder of a run by several workers, of which each would make and write it."""
    if experiment.trainer.strategy is not None and (count := count_processes()) > 1:
        raise UsageError(
            f"an experiment with a strategy is trained by one process, with the same bits; this one is one of {count} "
            "that mpiexec or srun started; to train with all of them, call Trainer.fit in a script: framework launch "
            f"-n {count} script.py"
        )
    from framework.training.parallel.mpi import expect_alone  # noqa: PLC0415 (which a training without others does not need)

    expect_alone()  # each process trains runs of its own


def inside(callbacks: Sequence[Callback], folder: Path) -> list[Callback]:
    """Put all that callbacks write into a folder.

    Raises:
        SettingsError: A path leads out of the folder, or to what another callback or the run itself writes.
    """
    root = real_path(folder)
    paths = {
        (number, name): real_path(folder / getattr(callback, name))
        for number, callback in enumerate(callbacks)
        for name, field in type(callback).model_fields.items()
        if any(isinstance(rule, BeforeValidator) and rule.func is text_of_path for rule in field.metadata)
    }
    moved = [*callbacks]
    for (number, name), path in paths.items():
        others = {root / own for own in (SETTINGS, ABOUT, METRICS, BASELINES)}
        others |= {other for key, other in paths.items() if key != (number, name)} - {root}
        if not path.is_relative_to(root) or others & {path, *path.parents}:
            expected = "be of its own" if path.is_relative_to(root) else "lead to a place inside the folder of the run"
            problem = f"must {expected}, such as 'own/{path.name}'; got {getattr(callbacks[number], name)!r}"
            raise SettingsError(problem, name=f"{type(callbacks[number]).__name__}: setting {name!r}")
        moved[number] = moved[number].replace(**{name: path})
    return moved


def rows_of(lines: bytes) -> list[dict[str, float | None]]:
    r"""Return the rows in lines of JSON, without lines that are something else, such as one that a kill has cut off.

    A value is None if it is not finite, which JSON has as null.

    Example:
        >>> rows_of(b'{"epoch": 1, "loss": 0.5}\n{"epoch": 2, "loss": null}\n{"epoch": 3, "lo')
        [{'epoch': 1, 'loss': 0.5}, {'epoch': 2, 'loss': None}]
    """
    rows, largest = [], sys.float_info.max
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            row = json.loads(line).items()
            known = {key: value for key, value in row if isinstance(value, int | float) and abs(value) <= largest}
            numbers = {key: int(value) if key == "epoch" else float(value) for key, value in known.items()}
            rows.append({key: numbers.get(key) for key, _ in row})
    return rows
