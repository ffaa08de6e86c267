"""The settings of a sweep: lists and ranges of values, and the trials made of them, or suggested by Optuna.

They are checked, written into the folder of the sweep, and compared with those there. They say how runs are judged.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from framework.data.table_files import TableFile
from framework.errors import DataError, SettingsError, nearest
from framework.experiments.experiment import Experiment
from framework.experiments.files.text import alternatives, parse_change, read_settings, to_toml
from framework.extras import required
from framework.files import read_text
from framework.random_streams import random_generator
from framework.reports.contents import differing_settings
from framework.settings.messages import brief

Trial = tuple[str, ...]
"""The changes of one trial, such as ``trainer.optimizer.learning_rate=0.1``."""

_RANGES = ("uniform", "loguniform", "int", "logint")
_CALL = re.compile(r"(\w+)\s*\((.*)\)")


@dataclass(frozen=True)
class Varied:
    """A setting of a sweep: values, or a range of numbers.

    Attributes:
        setting: Its path, such as ``trainer.epochs``.
        values: The values as TOML; of a range, its two ends.
        kind: ``"values"``, or the kind of the range.
    """

    setting: str
    values: tuple[str, ...]
    kind: str = "values"

    @property
    def whole(self) -> bool:
        """Whether this is a range of whole numbers."""
        return self.kind in ("int", "logint")

    @property
    def size(self) -> float:
        """How many values there are."""
        if self.kind == "values":
            return len(self.values)
        low, high = map(float, self.values)
        return high - low + 1 if self.whole else math.inf

    def drawn(self, share: float) -> str:
        """Return the value at a share of the whole, from 0 to 1."""
        if self.kind == "values":
            return self.values[int(share * len(self.values))]
        low, high = map(float, self.values)
        if self.whole:  # each number has the part of the scale that rounds to it
            low, high = low - 0.5, high + 0.5
        return self.written(low * (high / low) ** share if "log" in self.kind else low + share * (high - low))

    def written(self, value: Any) -> str:
        """Return a value of a range with six digits and within its ends; any other value as it is."""
        if self.kind == "values":
            return str(value)
        low, high = map(float, self.values)
        if self.whole:
            return str(int(min(max(round(value), low), high)))
        return repr(min(max(float(f"{value:.6g}"), low), high))


def varied(text: str) -> Varied:
    """Return the setting of a text such as ``trainer.epochs=5,10`` or ``model.seed=int(0, 9)``.

    Raises:
        SettingsError: The text has no ``=``, a value is not TOML, a range is unknown, or it is empty.

    Example:
        >>> varied("trainer.epochs=5,10")
        Varied(setting='trainer.epochs', values=('5', '10'), kind='values')
        >>> varied("trainer.optimizer.learning_rate=loguniform(1e-4, 1e-1)").drawn(0.5)
        '0.00316228'
    """
    setting, value, values = alternatives(text)
    call = _CALL.fullmatch(value)
    kind, ends = ("", ()) if call is None else (call[1], tuple(end.strip() for end in call[2].split(",")))
    if call is None and (meant := re.match(rf"({'|'.join(_RANGES)})(\s*[(\[]|\s+[-+.\d])", value)):
        raise SettingsError(f"--set {text}: a range is written {meant[1]}(LOW, HIGH); got {value}")
    if kind not in _RANGES:
        if len(ends) > 1:
            known = ", ".join(f"{each}(LOW, HIGH)" for each in _RANGES)
            hint = nearest(kind, _RANGES) or "."
            raise SettingsError(
                f"--set {text}: {kind!r} is not a range{hint} Ranges: {known}; text with a comma goes in quotes"
            )
        for each in values:
            parse_change(f"{setting}={each}")
            if values.count(each) > 1:
                raise SettingsError(f"--set {text}: the value {each} is given twice; give it once")
        return Varied(setting, values)
    made = Varied(setting, ends, kind)
    try:
        low, high = map(int if made.whole else float, ends)
    except ValueError:
        low, high = 1, 0
    lowest = -math.inf if "log" not in kind else 1 if made.whole else math.ulp(0.0)
    if not lowest <= low < high < math.inf or not math.isfinite(low):
        numbers = f"{'positive ' if 'log' in kind else ''}{'whole ' if made.whole else ''}numbers"
        raise SettingsError(f"--set {text}: {kind}(LOW, HIGH) needs two {numbers}, the smaller one first")
    return made


def texts(trial: Trial) -> dict[str, str]:
    """Return the value of each setting of a trial, as it was written.

    Example:
        >>> texts(("trainer.epochs=5", "model.seed=1"))
        {'trainer.epochs': '5', 'model.seed': '1'}
    """
    return dict(alternatives(change)[:2] for change in trial)


def by_setting(trial: Trial) -> dict[str, Any]:
    """Return the value of each setting of a trial: a number, text, or what else TOML has.

    Example:
        >>> by_setting(("trainer.optimizer.learning_rate=1e-2", "trainer.loss=CrossEntropy"))
        {'trainer.optimizer.learning_rate': 0.01, 'trainer.loss': 'CrossEntropy'}
    """
    return {setting: parse_change(f"{setting}={value}")[1] for setting, value in texts(trial).items()}


def trials(space: Sequence[Varied], number: int | None, seed: int) -> list[Trial]:
    """Return the trials of a sweep, which depend on the arguments alone.

    Args:
        space: The settings.
        number: How many are drawn; None takes every combination, those of the last setting first.
        seed: The seed of the draws; each trial's depends on its number too.

    Raises:
        SettingsError: A range has no combinations, or there are fewer than ``number``.

    Example:
        >>> space = [varied("a=1,2"), varied("b=x,y")]
        >>> trials(space, None, 0)
        [('a=1', 'b=x'), ('a=1', 'b=y'), ('a=2', 'b=x'), ('a=2', 'b=y')]
        >>> trials(space, 2, 0) == trials(space, 3, 0)[:2]
        True
    """
    if number is None:
        if ranged := next((each for each in space if each.kind != "values"), None):
            raise SettingsError(
                f"--set {ranged.setting}={ranged.kind}(...): a range needs --random N, the number of trials to draw"
            )
        return [*itertools.product(*([f"{each.setting}={value}" for value in each.values] for each in space))]
    require_enough(space, "random", number)
    return [*itertools.islice(draws(space, seed), number)]


def require_enough(space: Sequence[Varied], flag: str, number: int) -> None:
    """Check that there are as many combinations as a flag asks for.

    Raises:
        SettingsError: There are fewer.
    """
    if number > (size := math.prod(each.size for each in space)):
        have = f"the varied settings have {size:g} combinations" if space else "no setting varies"
        advice = "leave it out for all" if space else "give --set SETTING=VALUES"
        raise SettingsError(f"--{flag} {number}: {have}; {advice}")


def draws(space: Sequence[Varied], seed: int) -> Iterator[Trial]:
    """Give different trials, each drawn by the seed and its number, as long as there are any."""
    found: set[Trial] = set()
    for count in itertools.count():
        shares = (random_generator(seed, f"sweep {each.setting}", count).random() for each in space)
        trial = tuple(f"{each.setting}={each.drawn(share)}" for each, share in zip(space, shares, strict=True))
        if trial not in found:
            found.add(trial)
            yield trial


ATTEMPTS = 10
"""After this many repeated suggestions, a trial is drawn."""


def suggested(
    space: Sequence[Varied], before: Sequence[tuple[Trial, float | None]], mode: Literal["min", "max"], seed: int
) -> Trial:
    """Return a trial that the TPE sampler of Optuna suggests, and that has not come before.

    Args:
        space: The settings.
        before: The trials before, each with its figure: None while it is trained, infinity for one that has failed.
        mode: Which figures are better.
        seed: The seed of the sweep; the suggestion depends on the number of trials before, too.

    Raises:
        UsageError: Optuna is not installed.

    Source:
        Bergstra et al., Algorithms for hyper-parameter optimization (2011), as Optuna's TPESampler.
    """
    optuna = required("optuna", "--optuna")
    distributions = {each.setting: _distribution(optuna.distributions, each) for each in space}
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        for attempt in range(ATTEMPTS):
            number = int(random_generator(seed, "sweep by Optuna", len(before), attempt).integers(2**31))
            sampler = optuna.samplers.TPESampler(seed=number, constant_liar=True)  # which avoids those in training
            study = optuna.create_study(sampler=sampler, direction={"min": "minimize", "max": "maximize"}[mode])
            for trial, figure in before:
                written = texts(trial)
                values = {each.setting: _value(each, written[each.setting]) for each in space}
                state = optuna.trial.TrialState.RUNNING if figure is None else optuna.trial.TrialState.COMPLETE
                study.add_trial(
                    optuna.trial.create_trial(state=state, value=figure, params=values, distributions=distributions)
                )
            asked = study.ask(distributions).params
            made = tuple(f"{each.setting}={each.written(asked[each.setting])}" for each in space)
            if all(made != trial for trial, _ in before):
                return made
    finally:
        optuna.logging.set_verbosity(level)
    return next(trial for trial in draws(space, seed) if all(trial != each for each, _ in before))


def _distribution(distributions: Any, each: Varied) -> Any:
    """Return the values of a setting as a distribution of Optuna."""
    if each.kind == "values":
        return distributions.CategoricalDistribution(each.values)
    if each.whole:
        return distributions.IntDistribution(*map(int, each.values), log=each.kind == "logint")
    return distributions.FloatDistribution(*map(float, each.values), log=each.kind == "loguniform")


def _value(each: Varied, text: str) -> Any:
    """Return a value as Optuna's distribution holds it: text or a number."""
    return text if each.kind == "values" else int(text) if each.whole else float(text)


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


def require_same_data(tables: Sequence[TableFile], digests: Sequence[str], path: str) -> None:
    """Check that the data of a sweep was not changed after the sweep was made.

    Raises:
        DataError: The contents of a file differ, or it cannot be read.
    """
    names = [str(table.path) for table in tables]
    if len(tables) == len(digests):
        pairs = zip(tables, digests, strict=True)
        names = [str(table.path) for table, digest in pairs if table.rows.digest != digest]
    if names:
        raise DataError(
            f"the data of the sweep {path!r} was changed after the sweep was made, so its runs could not be compared: "
            f"{', '.join(names)}; put the old rows back, or start another sweep in another folder with --out"
        )


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
