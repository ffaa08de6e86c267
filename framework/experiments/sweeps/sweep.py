"""Sweep: many runs of one experiment with varied settings, shared by any number of processes.

sweep.toml        the varied settings, and the figure by which runs are judged
base.toml         the experiment
runs/NAME/        the folder of each run; failed.json in it says why it failed
claims/NAME.1     the process that works on a run
trials/NAME.json  a trial that Optuna has suggested
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from framework import plots
from framework.callbacks import Callback
from framework.data.files import located
from framework.data.table_files import TableFile
from framework.errors import DataError, FrameworkError, SettingsError, nearest
from framework.experiments.experiment import Experiment
from framework.experiments.files.text import read_settings, to_toml
from framework.experiments.folder import SETTINGS, RunFolder, compared, inside, json_of, require_one_process
from framework.experiments.processes import Claim, Claims
from framework.experiments.sweeps.space import Trial, Varied, by_setting, require_enough, suggested, trials, varied
from framework.extras import required
from framework.files import leads_to, read_text, write_folder, write_whole
from framework.reports.contents import differing_settings
from framework.runs.run import Run
from framework.settings.messages import brief, warn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SWEEP = "sweep.toml"
BASE = "base.toml"

NUMBERS = {
    "random": (1, ()),
    "halving": (2, ("trainer.epochs",)),
    "folds": (2, ("validation", "fold")),
    "optuna": (1, ()),
    "seed": (0, ()),
}
"""The smallest value of each number, and the settings that it sets."""

WAIT = 0.2
"""Seconds between two looks at runs that other processes train."""


class Sweep:
    r"""The folder of a sweep.

    Every process that runs the same sweep takes the next run that no other one has claimed. A process may be killed at
    any moment: another one resumes its run from the newest checkpoint. A finished run is never repeated.

    Args:
        path: The folder; ``create`` makes a new one.

    Raises:
        SettingsError: It is not the folder of a sweep, or its settings were changed after it was made.

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
        if missing := next((name for name in (SWEEP, BASE) if leads_to(self.path / name) != "file"), None):
            raise SettingsError(
                f"{os.fspath(path)!r} is not the folder of a sweep: it has no {missing}; framework sweep makes one "
                "of an experiment's file"
            )
        text, base = (read_text(self.path / name) for name in (SWEEP, BASE))
        self.settings, _ = read_settings(text, str(self.path / SWEEP))
        if self.settings.pop("checksum", None) != checksum(text, base):
            raise SettingsError(
                f"{os.fspath(path)!r} is a sweep whose {SWEEP} or {BASE} was changed after it was made, so its runs "
                "would not be those of its table; undo the change, or make another sweep in another folder. Only the "
                "paths of the data may change"
            )
        self._claims = Claims(self.path / "claims")
        self._stamps: list[str] = []  # of the data, when it was read last

    def __repr__(self) -> str:
        finished = sum(is_finished(self._path(name)) for name in self._names)
        return f"Sweep({str(self.path)!r}): {finished} of {len(self._names)} runs finished, judged by {self.objective}"

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
            halving: Successive halving by this factor, such as 3: all trials are trained briefly, the best third of
                them three times as long, and so on, up to the trainer's ``epochs``. None trains all of them so long.
            folds: Cross-validation: the number of parts of the data. Each trial is trained once for each part, which is
                held out. None trains it once.
            optuna: How many trials Optuna suggests, each from the figures of those before.
            seed: The seed of the draws.
            objective: The column of the history by which runs are judged. None is that of the experiment's first
                callback with a ``monitor``, else ``"val_loss"``, or ``"loss"`` without validation.
            mode: ``"min"`` or ``"max"``; None is what the metric says.

        Raises:
            SettingsError: The experiment of a trial is wrong, the objective is not a column, or the folder has
                something else.
            DataError: The data cannot be read, or was changed after the sweep in the folder was made.
        """
        inside(experiment.trainer.callbacks, Path(path, "runs", "0"))
        numbers = {"random": random, "halving": halving, "folds": folds, "optuna": optuna, "seed": seed}
        files = settings_of(experiment, changes, numbers, objective, mode)
        write_folder(path, files, "the sweep", "give another one with --out", shared=True)
        sweep = cls(path)
        require_same(sweep.path, files, os.fspath(path))
        sweep._require_data()
        return sweep

    @property
    def trials(self) -> dict[str, Trial]:
        """The changes of each run, by the name of its folder; empty until Optuna has suggested them."""
        return {name: self._changes(name) for name in self._names}

    @cached_property
    def _space(self) -> list[Varied]:
        return [varied(text) for text in self.settings["set"]]

    @cached_property
    def _drawn(self) -> list[Trial] | None:
        """The trials; None if Optuna suggests them."""
        if "optuna" in self.settings:
            return None
        return trials(self._space, self.settings.get("random"), self.settings["seed"])

    def _require_data(self) -> None:
        """Check that the data was not changed; files that were not written since the last check are not read.

        Raises:
            DataError: It was changed after the sweep was made.
        """
        tables = [table.replace() for table in self._tables]
        stamps = [file.stamp() for each in tables for file in located(each.path, each.ending, type(each).__name__)]
        if stamps != self._stamps:
            digests, names = self.settings["data"], [str(table.path) for table in tables]
            if len(tables) == len(digests):
                pairs = zip(tables, digests, strict=True)
                names = [str(table.path) for table, digest in pairs if table.rows.digest != digest]
            if names:
                raise DataError(
                    f"the data of the sweep {str(self.path)!r} was changed after the sweep was made, so its runs could "
                    f"not be compared: {', '.join(names)}; put the old rows back, or start another sweep in another "
                    "folder with --out"
                )
            self._stamps = stamps

    @cached_property
    def _tables(self) -> list[TableFile]:
        """The tables that the runs read."""
        return tables_of(Experiment.read(self.path / BASE), examples(self._space, self.settings))

    @cached_property
    def _candidates(self) -> list[list[str]]:
        """The names of the runs of each trial: one, or one for each fold."""
        count = self.settings["optuna"] if self._drawn is None else len(self._drawn)
        folds, width = self.settings.get("folds"), len(str(count - 1))
        marks = [""] if folds is None else [f"-{fold}" for fold in range(folds)]
        return [[f"{number:0{width}}{mark}" for mark in marks] for number in range(count)]

    @cached_property
    def _names(self) -> list[str]:
        """The names of all runs."""
        return [name for candidate in self._candidates for name in candidate]

    def _changes(self, name: str) -> Trial:
        """Return the changes of a run; none if Optuna has not suggested them yet."""
        number, _, fold = name.partition("-")
        trial = self._suggested(number) if self._drawn is None else self._drawn[int(number)]
        return () if trial is None else (*trial, *folds_of(self.settings.get("folds"))[int(fold or 0)])

    def _suggested(self, number: str) -> Trial | None:
        """Return the trial of a number that Optuna has suggested."""
        try:
            return tuple(json.loads((self.path / "trials" / f"{number}.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def _suggest(self, number: str) -> None:
        """Write down a suggestion of Optuna, one process at a time."""
        while self._suggested(number) is None:
            claim = self._claims.take("suggest")
            if claim is None:
                time.sleep(WAIT)
                continue
            with claim:
                if self._suggested(number) is None:
                    before = [
                        (trial, self._worth(candidate))
                        for candidate in self._candidates
                        if (trial := self._suggested(candidate[0].partition("-")[0])) is not None
                    ]
                    trial = suggested(self._space, before, self.settings["mode"], self.settings["seed"])
                    if not claim.lost:
                        text = json.dumps(trial, ensure_ascii=False)
                        write_whole(self.path / "trials" / f"{number}.json", f"{text}\n")

    def _worth(self, candidate: Sequence[str]) -> float | None:
        """Return the figure of a trial, None while it is trained; the worst one if a run has failed."""
        rows, worst = [self._row(name) for name in candidate], -math.inf if self.settings["mode"] == "max" else math.inf
        if any(row["state"] == "failed" for row in rows):
            return worst
        if any(row["state"] != "complete" for row in rows):
            return None
        figure = mean([self._final(row) for row in rows])
        return worst if figure is None else figure

    def name(self, number: int) -> str:
        """Return the name of a run.

        Raises:
            SettingsError: There is no run of this number.
        """
        if not 0 <= number < len(self._names):
            raise SettingsError(f"the sweep has {len(self._names)} runs, numbered from 0; got {number}")
        return self._names[number]

    @cached_property
    def rungs(self) -> list[tuple[int, int | None]]:
        """The number of trials and the last epoch of each rung; None is the last epoch of the experiment.

        With halving by eta, k from 0 to s: n // eta^k trials up to ceil(epochs / eta^(s-k)), where eta^s is at most n
        and at most the epochs.

        Source:
            Jamieson and Talwalkar, Non-stochastic best arm identification (2016); with whole numbers of epochs.
        """
        count, eta = len(self._candidates), self.settings.get("halving")
        if eta is None:
            return [(count, None)]
        epochs = Experiment.read(self.path / BASE).trainer.epochs
        last = next(k for k in itertools.count() if eta ** (k + 1) > min(count, epochs))
        return [(count // eta**k, -(-epochs // eta ** (last - k)) if k < last else None) for k in range(last + 1)]

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
        for inner in ("claims", "trials"):
            (self.path / inner).mkdir(exist_ok=True)
        while (rung := self._rung(names))[1]:
            _, waiting, until = rung
            worked = False
            for name in waiting:
                path = self._path(name)
                claim = None if has_reached(path, until) else self._claims.take(name, str(epochs_of(path)))
                if claim is None:
                    continue
                worked = True
                with claim:
                    if has_reached(path, until):  # by another, before the claim
                        continue
                    self._require_data()
                    if not is_begun(path):
                        self._begin(name)
                    train(path, claim, until)
                if is_finished(path) and not claim.lost:
                    yield self._row(name)
            if not worked:
                time.sleep(WAIT)

    def _rung(self, names: Sequence[str] | None = None) -> tuple[list[str], list[str], int | None]:
        """Return the runs of the current rung, those that have not reached its end, and its last epoch.

        It depends on the figures of finished epochs alone, so every process finds the same.
        """
        entrants = self._candidates if names is None else [[*names]]
        for count, until in self.rungs:
            entrants = entrants[:count]
            runs = [name for candidate in entrants for name in candidate]
            waiting = [name for name in runs if not has_reached(self._path(name), until)]
            if waiting or until is None:
                return runs, waiting, until
            scores = [self._score(mean([self._figure(name, until) for name in candidate])) for candidate in entrants]
            order = sorted((score, place) for place, score in enumerate(scores) if score < math.inf)
            entrants = [entrants[place] for _, place in order]
        raise AssertionError

    def retry(self) -> None:
        """Forget the errors of failed runs, so that they are trained again or resumed when the cause is gone."""
        for name in self._names:
            claim = None if error_of(self._path(name)) is None else self._claims.take(name)
            if claim is not None:
                with claim:  # which comes between those of ended processes, so they are counted from here
                    (self._path(name) / FAILED).unlink(missing_ok=True)

    def results(self) -> list[dict[str, Any]]:
        """Return a row for each run: its name, its settings, its state, and its figures in the epoch of its weights.

        ``pandas.DataFrame(sweep.results())`` makes a table of them. Settings and figures are numbers, except for
        settings that are something else, such as the name of a class.

        The state is ``"complete"``, ``"failed"``, ``"begun"``, ``"new"``, or ``"dropped"`` by successive halving. A
        failed run has its ``error``.
        """
        rows = [self._row(name) for name in self._names]
        entrants = self._rung()[0]
        for row in rows:
            if row["run"] not in entrants and row["state"] == "begun":
                row["state"] = "dropped"
        columns = dict.fromkeys(key for row in rows for key in row)
        return [{key: row.get(key) for key in columns} for row in rows]

    @property
    def best(self) -> RunFolder:
        """The complete run with the best objective; with folds, the first one of the best trial.

        Raises:
            SettingsError: No run is complete with a finite objective yet.
        """
        best = self.ranked()[0]
        if self._score(self._final(best)) == math.inf:
            raise SettingsError(f"the sweep {str(self.path)!r} has no complete run with a finite {self.objective} yet")
        return self.folder_of(best)

    def folder_of(self, row: Mapping[str, Any]) -> RunFolder:
        """Return the run of a row of ``ranked``; with folds, the first one of the trial."""
        return self._folder(row["run"] if "folds" not in row else f"{row['run']}-0")

    def ranked(self) -> list[dict[str, Any]]:
        """Return the results, the best first; of equal ones the first trial.

        With folds, there is a row for each trial, with the means of the figures over the folds, and the standard
        deviation of the objective, that of a sample.
        """
        rows, place = self.results(), 0
        if self.settings.get("folds") is not None:
            every, rows = rows, []
            for candidate in self._candidates:
                settings = [*by_setting(self._changes(candidate[0]))]
                rows.append(averaged(every[place : place + len(candidate)], settings, self.objective))
                place += len(candidate)

        def rank(row: dict[str, Any]) -> tuple[float, ...]:
            return self._score(self._final(row)), -(row.get("epochs") or 0), self._score(row.get(self.objective))

        return sorted(rows, key=rank)

    def plot(self, setting: str | None = None, *, axis: Axes | None = None) -> Axes:
        """Draw the objective over a setting, None is the first one that varies; see ``plots.trials``.

        Raises:
            SettingsError: No trial has this setting, or no setting varies.
        """
        if setting is None and not self._space:
            raise SettingsError("plot: no setting varies in this sweep; write setting=..., a column of results()")
        return plots.trials(self.ranked(), setting or self._space[0].setting, self.objective, axis=axis)

    def _score(self, value: Any) -> float:
        return score(value, self.settings["mode"])

    def _figure(self, name: str, until: int | None) -> Any:
        """Return the objective of a run at the end of an epoch, or that of its final weights if it ended before."""
        for row in self._folder(name).history() if is_begun(self._path(name)) else ():
            if row.get("epoch") == until:
                return row.get(self.objective)
        return self._final(self._row(name))

    def _final(self, row: dict[str, Any]) -> Any:
        """Return the objective of a complete run; None of others."""
        return row.get(self.objective) if row["state"] == "complete" else None

    def _row(self, name: str) -> dict[str, Any]:
        row: dict[str, Any] = {"run": name, **by_setting(self._changes(name))}
        error = error_of(self._path(name))
        if not is_begun(self._path(name)):
            return row | {"state": "new" if error is None else "failed", "error": error}
        found = compared([self._folder(name)])[0]
        complete = found.pop("complete")
        state = "failed" if error is not None else "complete" if complete else "begun"
        return row | {"state": state} | found | {"run": name} | ({} if error is None else {"error": error})

    def _path(self, name: str) -> Path:
        return self.path / "runs" / name

    def _folder(self, name: str) -> RunFolder:
        return RunFolder(self._path(name))

    def _begin(self, name: str) -> None:
        """Make the folder of a run."""
        path, base = self._path(name), self.path / BASE
        if self._drawn is None:
            self._suggest(name.partition("-")[0])
        trial = self._changes(name)
        flags = [flag for change in trial for flag in ("--set", change)]
        try:
            RunFolder.create(path, Experiment.read(base, trial), ["train", str(base), *flags])
        except SettingsError:
            if not is_begun(path):  # else by another process, because this one seemed dead
                raise


FAILED = "failed.json"

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of a disk that is full, can only be read, or is broken."""

ATTEMPTS = 5
"""A run has failed when this many processes have ended while they trained it, without a new epoch."""


def is_begun(path: Path) -> bool:
    """Return whether a run has a folder."""
    return (path / SETTINGS).is_file()


def epochs_of(path: Path) -> int:
    """Return the number of finished epochs."""
    return len(RunFolder(path).history()) if is_begun(path) else 0


def error_of(path: Path) -> str | None:
    """Return why a run has failed; None if it has not."""
    error = (json_of(path / FAILED) or {}).get("error")
    return None if error is None else str(error)


def is_finished(path: Path) -> bool:
    """Return whether a run is complete, or has failed."""
    return is_begun(path) and (RunFolder(path).metrics is not None or error_of(path) is not None)


def has_reached(path: Path, until: int | None) -> bool:
    """Return whether a run has finished, or made its epochs ``until``."""
    if is_finished(path) or until is None or not is_begun(path):
        return is_finished(path)
    return any(row.get("epoch") == until for row in RunFolder(path).history())


def train(path: Path, claim: Claim, until: int | None) -> None:
    """Train or resume a run up to the epoch ``until``, and write down an error that is the run's own.

    Raises:
        CheckpointError, OSError: The folder cannot be written, for instance because the disk is full.
    """
    run, epochs = RunFolder(path), str(epochs_of(path))
    require_one_process(run.experiment)
    if claim.notes()[-ATTEMPTS:] == [epochs] * ATTEMPTS:
        _fail(path, f"{ATTEMPTS} processes ended while they trained it, after {epochs} epochs")
        return
    try:
        run.train(callbacks=[_Claimed(successor=str(claim.successor)), _Rung(until=until)], swept=True)
    except _Left:
        pass
    except Exception as error:
        if not claim.lost:
            if _is_of_the_disk(error):  # which is not the run's own
                raise
            kind = "" if isinstance(error, FrameworkError) else f"{type(error).__name__}: "
            _fail(path, f"{kind}{error}")
    if claim.lost:
        warn(
            f"the run {str(path)!r} is trained by another process: this one seemed dead, because it did not touch its "
            "claim for two minutes, perhaps while it was suspended; it leaves the run, and goes to the next one"
        )


def _is_of_the_disk(error: BaseException) -> bool:
    """Return whether an error, or one that it comes from, says that the disk cannot be read or written."""
    if isinstance(error, OSError):
        return True
    cause = error.__cause__ or error.__context__
    while cause is not None and getattr(cause, "errno", None) not in DISK:
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _fail(path: Path, error: str) -> None:
    write_whole(path / FAILED, json.dumps({"error": error}, ensure_ascii=False) + "\n")


class _Left(Exception):  # noqa: N818 (not an error)
    """Ends training as a kill would: nothing is done that belongs to the end, such as to restore the best weights."""


class _Claimed(Callback):
    """Leave a run that another process has taken over, before logs and checkpoints are written.

    Attributes:
        successor: The file that shows it.
    """

    observes: ClassVar[bool] = True

    successor: str

    def on_epoch_end(self, run: Run) -> None:
        if Path(self.successor).exists():
            run.lost = True
            raise _Left

    on_train_begin = on_epoch_end

    def on_train_end(self, run: Run) -> None:
        run.lost = run.lost or Path(self.successor).exists()


class _Rung(Callback):
    """Leave a run at the end of its rung.

    Attributes:
        until: The last epoch of the rung; None is that of the run.
    """

    writes: ClassVar[bool] = True  # after all other callbacks, whose hooks of this epoch are not called again
    observes: ClassVar[bool] = True

    until: int | None

    def on_epoch_begin(self, run: Run) -> None:
        if run.epoch == self.until:
            raise _Left


def settings_of(
    experiment: Experiment,
    changes: Sequence[str],
    numbers: Mapping[str, int | None],
    objective: str | None,
    mode: str | None,
) -> dict[str, str]:
    """Return the files of a sweep by name, after all checks; see ``Sweep.create``."""
    space = [varied(text) for text in changes]
    _require_right(space, numbers, mode)
    drawn = examples(space, numbers)
    columns = {judged(each, objective, mode) for each in experiment.variants(drawn)}
    if len(columns) != 1:
        raise SettingsError("sweep: trials have different columns to judge them by; give --objective and --mode")
    column, direction = columns.pop()
    settings = {"set": [*changes], **numbers, "objective": column, "mode": direction}
    tables, folds = tables_of(experiment, drawn), numbers["folds"]
    if folds is not None and (few := next((each for each in tables if len(each) < folds), None)):
        raise SettingsError(f"--folds {folds}: each part needs a row; {few.path} has {len(few)} rows")
    settings["data"] = [table.rows.digest for table in tables]
    text, base = to_toml(settings), to_toml(experiment.bare())
    return {BASE: base, SWEEP: text + to_toml({"checksum": checksum(text, base)})}


def _require_right(space: Sequence[Varied], numbers: Mapping[str, int | None], mode: str | None) -> None:
    """Check the arguments that need no experiment."""
    names = [each.setting for each in space]
    if len({*names}) < len(names):
        raise SettingsError("sweep: a setting is varied twice; give all its values at once, as trainer.epochs=5,10")
    for argument, number in numbers.items():
        least, fixed = NUMBERS[argument]
        if (number is not None or argument == "seed") and (type(number) is not int or number < least):
            raise SettingsError(f"sweep: argument '{argument}' must be a whole number, {least} or more; got {number!r}")
        if number is not None and (twice := {*fixed} & {*names}):
            raise SettingsError(f"--set {twice.pop()}: --{argument} sets it in each run; leave one of the two out")
    if mode not in (None, "min", "max"):
        raise SettingsError(f"sweep: argument 'mode' must be 'min' or 'max'; got {mode!r}")
    optuna = numbers["optuna"]
    if optuna is not None:
        if numbers["random"] is not None or numbers["halving"] is not None or not space:
            raise SettingsError("--optuna N needs varied settings, and neither --random nor --halving")
        required("optuna", "--optuna")
        require_enough(space, "optuna", optuna)


def examples(space: Sequence[Varied], numbers: Mapping[str, Any]) -> list[Trial]:
    """Return the changes of each run; of the trials that Optuna will suggest, examples."""
    optuna = numbers.get("optuna")
    some = trials(space, numbers.get("random") if optuna is None else min(optuna, 20), numbers["seed"])
    return [(*trial, *fold) for trial in some for fold in folds_of(numbers.get("folds"))]


def tables_of(experiment: Experiment, runs: Sequence[Trial]) -> list[TableFile]:
    """Return the tables that some runs read, each once."""
    rows = ("data", "validation", "holdout", "fold")
    own = dict.fromkeys(tuple(change for change in run if change.startswith(rows)) for run in runs)
    used = [table for each in experiment.variants(own) for table in (each.data, each.validation)]
    return [*{str(table.path): table for table in used if isinstance(table, TableFile)}.values()]


def checksum(settings: str, base: str) -> str:
    """Return a text that changes with the settings of a sweep and of its experiment, except for the paths of data."""
    fixed, shared = read_settings(settings, SWEEP)[0], read_settings(base, BASE)[0]
    fixed.pop("checksum", None)
    for name in ("data", "validation"):
        if isinstance(table := shared.get(name), dict):
            table.pop("path", None)
    return hashlib.sha256(json.dumps([fixed, shared], sort_keys=True).encode()).hexdigest()[:16]


def require_same(folder: Path, files: Mapping[str, str], path: str) -> None:
    """Refuse a folder with another sweep, and name the settings that differ."""
    said = []
    for name, flag in ((SWEEP, "--"), (BASE, "")):
        both = [read_settings(each, name)[0] for each in (read_text(folder / name), files[name])]
        for each in both:
            for derived in ("checksum", "data") if name == SWEEP else ():
                each.pop(derived, None)
        for key, values in differing_settings(both):
            was, now = ("none" if value in (None, "") else brief(value).strip("'") for value in values)
            said.append(f"{flag}{key}: {was} there, {now} now")
    if said:
        raise SettingsError(
            f"the folder {path!r} has a sweep with other settings: {'; '.join(said)}. To continue that sweep: "
            f"framework sweep {path}; to start this one, give another folder with --out"
        )


def folds_of(number: int | None) -> list[Trial]:
    """Return the changes of each fold."""
    return [()] if number is None else [(f"validation={1 / number!r}", f"fold={fold}") for fold in range(number)]


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean; None if a value is missing or not finite."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.fmean(finite) if len(finite) == len(values) else None


def score(value: Any, mode: str) -> float:
    """Return a number that is smaller for a better figure."""
    if value is None or not math.isfinite(value):
        return math.inf
    return float(-value if mode == "max" else value)


def judged(experiment: Experiment, objective: str | None, mode: str | None) -> tuple[str, str]:
    """Return the column by which runs of an experiment are judged, and its mode."""
    trainer = experiment.trainer
    columns = trainer.columns(validated=experiment.validation is not None)
    monitored = {key: value for callback in trainer.callbacks for key, value in callback.judged().items()}
    if objective is None:
        objective = next(iter(monitored), "val_loss" if "val_loss" in columns else "loss")
    if objective not in columns:
        raise SettingsError(
            f"--objective {objective}: the history will not have it{nearest(objective, columns) or '.'} "
            f"Columns: {', '.join(columns)}"
        )
    better = trainer.figures.better.get(objective.removeprefix("val_"))
    known = {"greater": "max", "smaller": "min"}.get(better or "", mode or monitored.get(objective))
    if known is None:
        raise SettingsError(f"--objective {objective}: give --mode min or max; the figure does not say which is better")
    if mode not in (None, known):
        raise SettingsError(f"--mode {mode}: {objective} is better when it is {better}; leave --mode out")
    return objective, known


def averaged(rows: Sequence[dict[str, Any]], settings: Sequence[str], objective: str) -> dict[str, Any]:
    """Return the row of a trial from those of its folds."""
    first, states = rows[0], [row["state"] for row in rows]
    figures = [key for key in first if key not in ("run", "state", "error", *settings)]
    values = [row.get(objective) for row in rows]
    return {
        "run": first["run"].rpartition("-")[0],
        **{key: first[key] for key in settings if key not in ("validation", "fold")},
        "state": min(states, key=("failed", "dropped", "new", "begun", "complete").index),
        "folds": states.count("complete"),
        **{key: mean([row[key] for row in rows]) for key in figures},
        "deviation": None if mean(values) is None else statistics.stdev(v for v in values if v is not None),
        "error": next((row["error"] for row in rows if row.get("error") is not None), None),
    }
