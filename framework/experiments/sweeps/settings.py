"""The settings of a sweep: checked, written into its folder, and compared with those that are there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.data.table_files import TableFile
from framework.errors import DataError, SettingsError
from framework.experiments.experiment import Experiment
from framework.experiments.files.text import read_settings, to_toml
from framework.experiments.sweeps.judging import judged
from framework.experiments.sweeps.space import Trial, Varied, require_enough, trials, varied
from framework.extras import required
from framework.files import read_text
from framework.reports.comparing import differing_settings
from framework.settings.messages import brief

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
