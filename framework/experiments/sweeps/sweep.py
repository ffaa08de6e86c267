"""Sweep: many runs of one experiment with varied settings, shared by any number of processes.

sweep.toml        the varied settings, and the figure by which runs are judged
base.toml         the experiment
journal.log       the study of Optuna: the settings, the state and the figure of each trial
runs/NAME/        the folder of each run; failed.json in it says why it failed
claims/NAME.1     the process that works on a run
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from framework.base.errors import DataError, FrameworkError, SettingsError, brief
from framework.base.files import leads_to, read_text, write_folder, write_whole
from framework.base.settings.messages import warn
from framework.data.files import locate_files
from framework.data.table_files import TableFile
from framework.experiments.experiment import Experiment, choose_objective, score
from framework.experiments.files.text import alternatives, parse_change, read_settings, to_toml
from framework.experiments.folder import (
    SETTINGS,
    RunFolder,
    Watch,
    compare_folders,
    inside,
    json_of,
    require_one_process,
)
from framework.experiments.processes import Claim, Claims
from framework.experiments.sweeps import space
from framework.experiments.sweeps.space import Trial, Varied, changes_of, import_optuna, parse_varied, require_enough
from framework.training.callbacks.base import FunctionCallback
from framework.training.runs.contents import differing_settings
from framework.training.runs.run import Run
from framework.views import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWEEP = "sweep.toml"
BASE = "base.toml"
JOURNAL = "journal.log"
STUDY = "sweep"
FAILED = "failed.json"

NUMBERS = {
    "random": (1, ()),
    "halving": (2, ("trainer.epochs",)),
    "folds": (2, ("validation", "fold")),
    "optuna": (1, ()),
    "seed": (0, ()),
}
"""The smallest value of each number, and the settings that it sets."""

MOVABLE = {"data.path", "validation.path"}
"""The settings of base.toml that may change after a sweep was made."""

WAIT = 0.2
"""Seconds between two looks at runs that other processes train."""

EXAMPLES = 20
"""How many random trials are checked in place of those that Optuna will suggest."""

ATTEMPTS = 5
"""A run has failed when this many processes have ended while they trained it, without a new epoch."""

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of a disk that is full, can only be read, or is broken."""


class Sweep:
    r"""The folder of a sweep.

    Every process that runs the same sweep takes the next run that no other one has claimed. A process may be killed at
    any moment: another one resumes its run from the newest checkpoint. A finished run is never repeated.

    Args:
        path: The folder; ``create`` makes a new one.

    Raises:
        SettingsError: It is not the folder of a sweep, or its settings were changed after it was made.
        UsageError: Optuna is not installed.

    Attributes:
        path: The folder.
        settings: The settings that ``create`` has written.

    Example:
        >>> from framework import CSV, Experiment, HalfSquaredError, Neuron, SGDOptimizer, Trainer
        >>> _ = Path("line.csv").write_text("x,y\n0,1\n1,3\n2,5\n")
        >>> experiment = Experiment(
        ...     data=CSV("line.csv", target="y"),
        ...     model=Neuron(),
        ...     trainer=Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=9),
        ... )
        >>> sweep = Sweep.create("line", experiment, ["trainer.optimizer.learning_rate=0.01,0.3"])
        >>> [(row["run"], row["state"], row["epochs"]) for row in sweep.run()]
        [('0', 'complete', 9), ('1', 'complete', 9)]
        >>> sweep.best.path.name
        '1'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        if missing := next((name for name in (SWEEP, BASE, JOURNAL) if leads_to(self.path / name) != "file"), None):
            raise SettingsError(
                f"{os.fspath(path)!r} is not the folder of a sweep: it has no {missing}; framework sweep makes one "
                "of an experiment's file"
            )
        self._storage = storage_of(self.path / JOURNAL)
        self._study = import_optuna().load_study(study_name=STUDY, storage=self._storage)
        files = {name: read_text(self.path / name) for name in (SWEEP, BASE)}
        self.settings, _ = read_settings(files[SWEEP], str(self.path / SWEEP))
        if differences(self._study.user_attrs["settings"], settings_of(files)).keys() - MOVABLE:
            raise SettingsError(
                f"{os.fspath(path)!r} is a sweep whose {SWEEP} or {BASE} was changed after it was made, so its runs "
                "would not be those of its table; undo the change, or make another sweep in another folder. Only the "
                "paths of the data may change"
            )
        self._space = [parse_varied(text) for text in self.settings["set"]]
        self._folds = folds_of(self.settings.get("folds"))
        self._claims = Claims(self.path / "claims")
        self._stamps: list[str] = []  # of the data, when it was read last

    def __repr__(self) -> str:
        finished = sum(self._state(run) in ("complete", "failed") for run in self._runs)
        return f"Sweep({str(self.path)!r}): {finished} of {len(self._runs)} runs finished, judged by {self.objective}"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        experiment: Experiment,
        changes: Sequence[str],
        *,
        random: int | None = None,
        halving: int | None = None,
        folds: int | None = None,
        optuna: int | None = None,
        seed: int = 0,
        objective: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ) -> Sweep:
        """Make the folder of a sweep, or open it if it has the same settings.

        Args:
            path: A folder that does not exist yet, or is empty, or has this sweep.
            experiment: The settings that all runs share.
            changes: The varied settings: values such as ``"trainer.epochs=5,10"``, or ranges of numbers such as
                ``"trainer.optimizer.learning_rate=loguniform(1e-4, 1e-1)"``; also ``uniform``, and ``int`` and
                ``logint`` for whole numbers, with both ends.
            random: How many trials are drawn; None trains every combination of the values.
            halving: Successive halving by this factor, such as 3: a trial ends after a few epochs if it is not in the
                best third of those so far, and again after three times as many, up to the trainer's ``epochs``. With
                ``folds``, the first fold decides. None trains all of them to the end.
            folds: Cross-validation: the number of parts of the data. Each trial is trained once for each part, which is
                held out. None trains it once.
            optuna: How many trials the TPE sampler of Optuna suggests, each from the figures of those before.
            seed: The seed of the draws.
            objective: The column of the history by which runs are judged. None is that of the experiment's first
                callback with a ``monitor``, else ``"val_loss"``, or ``"loss"`` without validation.
            mode: ``"min"`` or ``"max"``; None is what the metric says.

        Raises:
            SettingsError: The experiment of a trial is wrong, the objective is not a column, or the folder has
                something else.
            DataError: The data cannot be read, or was changed after the sweep in the folder was made.
            UsageError: Optuna is not installed.
        """
        inside(experiment.trainer.callbacks, Path(path, "runs", "0"))
        numbers = {"random": random, "halving": halving, "folds": folds, "optuna": optuna, "seed": seed}
        files = files_of(experiment, changes, numbers, objective, mode)
        write_folder(path, files, "the sweep", "give another one with --out", shared=True)
        sweep = cls(path)
        old = settings_of({name: read_text(sweep.path / name) for name in (SWEEP, BASE)})
        if said := differences(old, settings_of(files)).values():
            raise SettingsError(
                f"the folder {os.fspath(path)!r} has a sweep with other settings: {'; '.join(said)}. To continue that "
                f"sweep: framework sweep {os.fspath(path)}; to start this one, give another folder with --out"
            )
        sweep._require_data()
        return sweep

    @property
    def trials(self) -> dict[str, tuple[str, ...]]:
        """The changes of each run, by the name of its folder; empty until Optuna has suggested them."""
        known = self._trials
        return {run: self._changes(run, known.get(name)) for run, name in self._runs.items()}

    @property
    def _trials(self) -> dict[str, Any]:
        """The trials of Optuna by name; one that is trained again has a successor of the same name."""
        return {trial.user_attrs["name"]: trial for trial in self._study.get_trials(deepcopy=False)}

    def _changes(self, run: str, trial: Any) -> tuple[str, ...]:
        """Return the changes of a run of a trial; none if Optuna has not suggested them yet."""
        fold = self._folds[run.removeprefix(self._runs[run])]
        return () if trial is None else (*changes_of(self._space, trial.params), *fold)

    @cached_property
    def _runs(self) -> dict[str, str]:
        """The name of the trial of each run."""
        return {run: name for name in names_of(self._space, self.settings) for run in self._runs_of(name)}

    def _runs_of(self, name: str) -> list[str]:
        """Return the runs of a trial: one, or one for each fold."""
        return [f"{name}{fold}" for fold in self._folds]

    def _require_data(self) -> None:
        """Check that the data was not changed; files that were not written since the last check are not read.

        Raises:
            DataError: It was changed after the sweep was made.
        """
        tables = [table.replace() for table in self._tables]
        stamps = [
            file.stamp() for table in tables for file in locate_files(table.path, table.ending, type(table).__name__)
        ]
        if stamps != self._stamps:
            digests, names = self._study.user_attrs["data"], [str(table.path) for table in tables]
            if len(tables) == len(digests):
                pairs = zip(tables, digests, strict=True)
                names = [str(table.path) for table, digest in pairs if table.rows.digest != digest]
            if names:
                raise DataError(
                    f"the data of the sweep {str(self.path)!r} was changed after the sweep was made, so its runs "
                    f"could not be compared: {', '.join(names)}",
                    advice="put the old rows back, or start another sweep in another folder with --out",
                )
            self._stamps = stamps

    @cached_property
    def _tables(self) -> list[TableFile]:
        """The tables that the runs read."""
        return tables_of(Experiment.read(self.path / BASE), self._space, self._folds)

    def name(self, number: int) -> str:
        """Return the name of a run.

        Raises:
            SettingsError: There is no run of this number.
        """
        if not 0 <= number < len(self._runs):
            raise SettingsError(f"the sweep has {len(self._runs)} runs, numbered from 0; got {number}")
        return [*self._runs][number]

    @property
    def objective(self) -> str:
        """The column by which runs are judged."""
        return str(self.settings["objective"])

    def run(self) -> list[dict[str, Any]]:
        """Train all runs, together with other processes that do so, and return the results."""
        for _ in self.work():
            pass
        return self.results()

    def work(self, names: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Train each run that no other process has claimed, until all runs are finished, also those of others.

        Args:
            names: The runs; None is all.

        Yields:
            The row of each run that this process has finished, as in ``results``.

        Raises:
            CheckpointError: A run cannot be saved, for instance because the disk is full.
            DataError: The data was changed after the sweep was made.
            UsageError: The experiment has a strategy, and this process is one of several.
        """
        (self.path / "claims").mkdir(exist_ok=True)
        while waiting := self._waiting(names):
            worked = False
            for run in waiting:
                claim = self._claims.take(run, self._epochs(run))
                if claim is None:
                    continue
                worked = True
                with claim:
                    if run not in self._waiting([run]):  # another process was faster, before the claim
                        continue
                    self._require_data()
                    self._train(run, claim)
                self._waiting([run])  # before the next suggestion
                if self._state(run) in ("complete", "failed") and not claim.lost:
                    yield self._row(run, self._trials[self._runs[run]])
            if not worked:
                time.sleep(WAIT)

    def _waiting(self, names: Sequence[str] | None = None) -> list[str]:
        """Return which runs are to be trained, and write down the figure of each of their trials that has ended."""
        known, waiting, wanted = self._trials, list[str](), self._runs if names is None else names
        worst = -math.inf if self.settings["mode"] == "max" else math.inf
        for name in dict.fromkeys(self._runs[run] for run in wanted):
            trial = known.get(name)
            if trial is None or not trial.state.is_finished():
                first, *_ = runs = self._runs_of(name)
                states = {run: self._state(run) for run in runs}
                unfinished = [run for run, state in states.items() if state not in ("complete", "failed")]
                if "failed" in states.values():
                    self._note(trial, "COMPLETE", worst)
                elif not unfinished:
                    figure = mean([RunFolder(self._path(run)).side(run).row.get(self.objective) for run in states])
                    self._note(trial, "COMPLETE", worst if figure is None else figure)
                else:
                    waiting += [first] if "halving" in self.settings and first in unfinished else unfinished
        return [run for run in waiting if run in wanted]

    def _note(self, trial: Any, state: str, *figures: float) -> None:
        """Write down the state of a trial, unless another process has ended it."""
        optuna = import_optuna()
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState[state], figures or None)

    def _suggest(self, name: str) -> None:
        """Let Optuna suggest a trial, in one process at a time."""
        while name not in self._trials:
            claim = self._claims.take("suggest")
            if claim is None:
                time.sleep(WAIT)
                continue
            with claim:
                if name not in (before := self._trials):
                    mode, seed = self.settings["mode"], self.settings["seed"]
                    trial = next(space.suggestions(self._space, [*before.values()], "TPESampler", mode, seed))
                    if not claim.lost:
                        self._study.add_trial(new_trial(self._space, name, trial))

    def _train(self, run: str, claim: Claim) -> None:
        """Train or resume a run, and write down an error that is the run's own.

        Raises:
            CheckpointError, OSError: The folder cannot be written, for instance because the disk is full.
        """
        name, path = self._runs[run], self._path(run)
        self._suggest(name)
        trial = self._trials[name]
        self._note(trial, "RUNNING")
        if not is_begun(path):
            self._begin(run, trial)
        folder, epochs = RunFolder(path), self._epochs(run)
        experiment = folder.experiment
        require_one_process(experiment)
        if claim.notes()[-ATTEMPTS:] == [epochs] * ATTEMPTS:
            fail(path, f"{ATTEMPTS} processes ended while they trained it, after {epochs} epochs")
            return
        callbacks = watch_claim(claim)
        if "halving" in self.settings and run == self._runs_of(name)[0]:
            callbacks.append(self._pruning(trial, experiment.trainer.epochs))
        try:
            folder.train(callbacks=callbacks, swept=True)
        except _Left:
            pass
        except Exception as error:
            if not claim.lost:
                if is_of_the_disk(error):  # which is not the run's own
                    raise
                kind = "" if isinstance(error, FrameworkError) else f"{type(error).__name__}: "
                fail(path, f"{kind}{error}")
        if claim.lost:
            warn(
                f"the run {str(path)!r} is trained by another process: this one seemed dead, because it did not touch "
                "its claim for two minutes, perhaps while it was suspended; it leaves the run, and goes to the next one"
            )

    def _begin(self, run: str, trial: Any) -> None:
        """Make the folder of a run."""
        path, base, changes = self._path(run), self.path / BASE, self._changes(run, trial)
        flags = [flag for change in changes for flag in ("--set", change)]
        try:
            RunFolder.create(path, Experiment.read(base, changes), ["train", str(base), *flags])
        except SettingsError:
            if not is_begun(path):  # else by another process, because this one seemed dead
                raise

    def _pruning(self, frozen: Any, epochs: int) -> Watch:
        """Return the callback that leaves a run where the pruner of Optuna drops its trial.

        With halving by eta, the pruner compares trials at the epochs r, r eta, r eta^2, ... with r = ceil(epochs /
        eta^s), where eta^s is at most the number of trials and at most the epochs.

        Source:
            Li et al., A system for massively parallel hyperparameter tuning (2020), as SuccessiveHalvingPruner.
        """
        optuna, eta = import_optuna(), self.settings["halving"]
        rungs = next(s for s in itertools.count() if eta ** (s + 1) > min(len({*self._runs.values()}), epochs))
        first = -(-epochs // eta**rungs)
        self._study.pruner = optuna.pruners.SuccessiveHalvingPruner(first, eta)
        trial = optuna.trial.Trial(self._study, frozen._trial_id)

        def prune(run: Run) -> None:
            if run.epoch in (first * eta**rung for rung in range(rungs)):
                if run.epoch not in frozen.intermediate_values:
                    trial.report(run.history[-1][self.objective], run.epoch)
                if trial.should_prune():
                    self._note(frozen, "PRUNED")
                    raise _Left

        return Watch(function=prune, hook="on_epoch_begin")  # when the files have all of the epoch before

    def retry(self) -> None:
        """Forget the errors of failed runs, so that they are trained again or resumed when the cause is gone."""
        for name in dict.fromkeys(self._runs.values()):
            states = {run: self._state(run) for run in self._runs_of(name)}
            for run in (run for run, state in states.items() if state == "failed"):
                if (claim := self._claims.take(run)) is not None:
                    with claim:  # which comes between those of ended processes, so they are counted from here
                        (self._path(run) / FAILED).unlink(missing_ok=True)
            trial = self._trials.get(name)
            if trial is not None and trial.state.name == "COMPLETE" and {*states.values()} != {"complete"}:
                self._study.add_trial(new_trial(self._space, name, trial.params))

    def results(self) -> list[dict[str, Any]]:
        """Return a row for each run: its name, its settings, its state, and its figures in the epoch of its weights.

        ``pandas.DataFrame(sweep.results())`` makes a table of them. Settings and figures are numbers, except for
        settings that are something else, such as the name of a class.

        The state is ``"complete"``, ``"failed"``, ``"begun"``, ``"new"``, or ``"dropped"`` by successive halving. A
        failed run has its ``error``.
        """
        known = self._trials
        rows = [self._row(run, known.get(name)) for run, name in self._runs.items()]
        columns = dict.fromkeys(key for row in rows for key in row)
        return [{key: row.get(key) for key in columns} for row in rows]

    @property
    def best(self) -> RunFolder:
        """The complete run with the best objective; with folds, the first one of the best trial.

        Raises:
            SettingsError: No run is complete with a finite objective yet.
        """
        best = self.ranked()[0]
        if self._rank(best)[0] == math.inf:
            raise SettingsError(f"the sweep {str(self.path)!r} has no complete run with a finite {self.objective} yet")
        return self.folder_of(best)

    def folder_of(self, row: Mapping[str, Any]) -> RunFolder:
        """Return the run of a row of ``ranked``; with folds, the first one of the trial."""
        return RunFolder(self._path(row["run"] if "folds" not in row else f"{row['run']}-0"))

    def ranked(self) -> list[dict[str, Any]]:
        """Return the results, the best first; of equal ones the first trial.

        With folds, there is a row for each trial, with the means of the figures over the folds, and the standard
        deviation of the objective, that of a sample.
        """
        rows, folds = self.results(), self.settings.get("folds")
        if folds is not None:
            settings = [axis.setting for axis in self._space]
            rows = [average_folds(rows[i : i + folds], settings, self.objective) for i in range(0, len(rows), folds)]
        return sorted(rows, key=self._rank)

    def _rank(self, row: Mapping[str, Any]) -> tuple[float, ...]:
        """Return numbers that are smaller for a better row: first the objective of a complete run."""
        figure = score(row.get(self.objective), self.settings["mode"])
        return figure if row["state"] == "complete" else math.inf, -(row.get("epochs") or 0), figure

    def plot(self, setting: str | None = None, *, axis: Axes | None = None) -> Axes:
        """Draw the objective over a setting, None is the first one that varies; see ``plots.trials``.

        Raises:
            SettingsError: No trial has this setting, or no setting varies.
        """
        if setting is None and not self._space:
            raise SettingsError("plot: no setting varies in this sweep; write setting=..., a column of results()")
        return plots.trials(self.ranked(), setting or self._space[0].setting, self.objective, axis=axis)

    def _state(self, run: str) -> str:
        """Return the state of a run by its folder: "complete", "failed", "begun" or "new"."""
        path = self._path(run)
        if json_of(path / FAILED) is not None:
            return "failed"
        if not is_begun(path):
            return "new"
        return "begun" if RunFolder(path).metrics is None else "complete"

    def _row(self, run: str, trial: Any) -> dict[str, Any]:
        """Return the row of a run in ``results``."""
        path, settings, state = self._path(run), self._changes(run, trial), self._state(run)
        if state in ("new", "begun") and trial is not None and trial.state.name == "PRUNED":
            state = "dropped"
        row = {
            "run": run,
            **{alternatives(setting)[0]: parse_change(setting)[1] for setting in settings},
            "state": state,
        }
        figures = compare_folders([RunFolder(path)])[0] if is_begun(path) else {}
        row |= {key: value for key, value in figures.items() if key not in ("run", "complete")}
        return row | (json_of(path / FAILED) or {})

    def _epochs(self, run: str) -> str:
        """Return the number of finished epochs, as a claim notes it."""
        return str(len(RunFolder(self._path(run)).history()) if is_begun(self._path(run)) else 0)

    def _path(self, name: str) -> Path:
        return self.path / "runs" / name


def is_begun(path: Path) -> bool:
    """Return whether a run has a folder."""
    return (path / SETTINGS).is_file()


def fail(path: Path, error: str) -> None:
    """Write down why a run has failed."""
    write_whole(path / FAILED, json.dumps({"error": error}, ensure_ascii=False) + "\n")


def is_of_the_disk(error: BaseException) -> bool:
    """Return whether an error, or one that it comes from, says that the disk cannot be read or written."""
    if isinstance(error, OSError):
        return True
    cause = error.__cause__ or error.__context__
    while cause is not None and getattr(cause, "errno", None) not in DISK:
        cause = cause.__cause__ or cause.__context__
    return cause is not None


class _Left(Exception):  # noqa: N818 (not an error)
    """Ends training as a kill would: nothing is done that belongs to the end, such as to restore the best weights."""


def watch_claim(claim: Claim) -> list[FunctionCallback]:
    """Return callbacks that leave a run that another process has taken over, before anything is written."""

    def look(run: Run) -> None:
        run.lost = run.lost or claim.lost

    def leave(run: Run) -> None:
        look(run)
        if run.lost:
            raise _Left

    hooks = {"on_train_begin": leave, "on_epoch_end": leave, "on_train_end": look}
    return [Watch(function=function, hook=hook) for hook, function in hooks.items()]


class JournalLock:
    """The lock of a journal, also on network drives; it removes a line that a full disk has cut off."""

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, import_optuna().storages.journal.JournalFileOpenLock(str(path))

    def acquire(self) -> bool:
        """Wait for the lock; that of a killed process is taken over after half a minute."""
        self._lock.acquire()
        with self.path.open("r+b") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            if file.read() != b"\n":  # the next line would be appended to it
                file.truncate(self.path.read_bytes().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


def storage_of(path: Path) -> Any:
    """Return the storage of Optuna in a file."""
    storages = import_optuna().storages
    return storages.JournalStorage(storages.journal.JournalFileBackend(str(path), JournalLock(path)))


def files_of(
    experiment: Experiment,
    changes: Sequence[str],
    numbers: Mapping[str, int | None],
    objective: str | None,
    mode: str | None,
) -> dict[str, str]:
    """Return the files of a sweep by name, after all checks; see ``Sweep.create``."""
    varying, folds, optuna = [parse_varied(text) for text in changes], folds_of(numbers["folds"]), numbers["optuna"]
    _require_right(varying, numbers, mode)
    drawn = space.trials(varying, numbers["random"] if optuna is None else min(optuna, EXAMPLES), numbers["seed"] or 0)
    runs = [(*changes_of(varying, trial), *fold) for trial in drawn for fold in folds.values()]
    columns = {choose_objective(variant, objective, mode) for variant in experiment.variants(runs)}
    if len(columns) != 1:
        raise SettingsError("sweep: trials have different columns to judge them by; give --objective and --mode")
    column, direction = columns.pop()
    tables = tables_of(experiment, varying, folds)
    least = len(folds) + (experiment.holdout == "last")
    if len(folds) > 1 and (few := next((table for table in tables if len(table) < least), None)):
        raise SettingsError(f"--folds {len(folds)}: each part needs a row; {few.path} has {len(few)} rows")
    settings = {"set": [*changes], **numbers, "objective": column, "mode": direction}
    files = {BASE: to_toml(experiment.bare()), SWEEP: to_toml(settings)}
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder, JOURNAL)
        study = space.new_study(direction, study_name=STUDY, storage=storage_of(journal))
        study.set_user_attr("settings", settings_of(files))
        study.set_user_attr("data", [table.rows.digest for table in tables])
        if optuna is None:
            study.add_trials(map(partial(new_trial, varying), names_of(varying, numbers), drawn))
        return {JOURNAL: read_text(journal), **files}


def _require_right(space: Sequence[Varied], numbers: Mapping[str, int | None], mode: str | None) -> None:
    """Check the arguments that need no experiment."""
    names = [axis.setting for axis in space]
    if len({*names}) < len(names):
        raise SettingsError("sweep: a setting is varied twice; give all its values at once, as trainer.epochs=5,10")
    for argument, number in numbers.items():
        least, fixed = NUMBERS[argument]
        if (number is not None or argument == "seed") and (type(number) is not int or number < least):
            raise SettingsError(f"sweep: argument '{argument}' must be a whole number, {least} or more; got {number!r}")
        if number is not None and (twice := {*fixed} & {*names}):
            raise SettingsError(f"--set {twice.pop()}: --{argument} sets it in each run; leave one of the two out")
    if mode not in (None, "min", "max"):
        raise SettingsError("must be 'min' or 'max'", name="sweep: argument 'mode'", got=mode)
    optuna = numbers["optuna"]
    if optuna is not None:
        if numbers["random"] is not None or not space:
            raise SettingsError("--optuna N needs varied settings, and no --random")
        require_enough(space, "optuna", optuna)
    import_optuna()


def names_of(space: Sequence[Varied], numbers: Mapping[str, Any]) -> list[str]:
    """Return the names of the trials, which are numbers of the same width."""
    combinations = math.prod(len(axis.values) for axis in space)
    count = numbers.get("optuna") or numbers.get("random") or combinations
    return [f"{number:0{len(str(count - 1))}}" for number in range(count)]


def new_trial(varying: Sequence[Varied], name: str, trial: Trial) -> Any:
    """Return a trial of Optuna that is not begun."""
    create, state = import_optuna().trial.create_trial, import_optuna().trial.TrialState.WAITING
    distributions = space.distributions_of(varying)
    return create(params=trial, distributions=distributions, state=state, user_attrs={"name": name})


def tables_of(experiment: Experiment, space: Sequence[Varied], folds: Mapping[str, Sequence[str]]) -> list[TableFile]:
    """Return the tables that the runs of a sweep read, each once."""
    own = [axis for axis in space if axis.setting.startswith(("data", "validation"))]
    values = ([f"{axis.setting}={value}" for value in axis.values] for axis in own)
    variants = experiment.variants((*changes, *next(iter(folds.values()))) for changes in itertools.product(*values))
    used = [table for variant in variants for table in (variant.data, variant.validation)]
    return [*{str(table.path): table for table in used if isinstance(table, TableFile)}.values()]


def settings_of(files: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of a sweep, as flags, and of its experiment."""
    flags, shared = (read_settings(files[name], name)[0] for name in (SWEEP, BASE))
    return {f"--{name}": value for name, value in flags.items()} | shared


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Return what to say of each setting that differs."""
    texts = {
        key: ["none" if value in (None, "") else brief(value).strip("'") for value in values]
        for key, values in differing_settings([old, new])
    }
    return {key: f"{key}: {was} there, {now} now" for key, (was, now) in texts.items()}


def folds_of(number: int | None) -> dict[str, tuple[str, ...]]:
    """Return the changes of each fold, by what stands behind the name of the trial in that of the run."""
    if number is None:
        return {"": ()}
    return {f"-{fold}": (f"validation={1 / number!r}", f"fold={fold}") for fold in range(number)}


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if a value is missing or not finite."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(finite) if len(finite) == len(values) else None


def average_folds(rows: Sequence[dict[str, Any]], settings: Sequence[str], objective: str) -> dict[str, Any]:
    """Return the row of a trial from those of its folds."""
    first, states = rows[0], [row["state"] for row in rows]
    figures = [key for key in first if key not in ("run", "state", "error", "validation", "fold", *settings)]
    values = [row.get(objective) for row in rows]
    return {
        "run": first["run"].rpartition("-")[0],
        **{key: first.get(key) for key in settings},
        "state": min(states, key=("failed", "dropped", "new", "begun", "complete").index),
        "folds": states.count("complete"),
        **{key: mean([row[key] for row in rows]) for key in figures},
        "deviation": None if mean(values) is None else statistics.stdev(v for v in values if v is not None),
        "error": next((row["error"] for row in rows if row.get("error") is not None), None),
    }
