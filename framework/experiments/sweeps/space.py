"""The space of a sweep: lists and ranges of values, and the trials that they make or that Optuna draws."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from framework.base.errors import SettingsError, nearest
from framework.base.extras import load_module
from framework.base.random_streams import random_generator
from framework.experiments.files.text import alternatives, parse_change

Trial = dict[str, Any]
"""The values of one trial by setting: text as TOML has it, or numbers of a range."""

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

    def change(self, value: Any) -> str:
        """Return a value as a change; a fraction of a range with six digits and within its ends."""
        if isinstance(value, float):
            low, high = map(float, self.values)
            value = repr(min(max(float(f"{value:.6g}"), low), high))
        return f"{self.setting}={value}"


def parse_varied(text: str) -> Varied:
    """Return the setting of a text such as ``trainer.epochs=5,10`` or ``model.seed=int(0, 9)``.

    Raises:
        SettingsError: The text has no ``=``, a value is not TOML, a range is unknown, or it is empty.

    Example:
        >>> parse_varied("trainer.epochs=5,10")
        Varied(setting='trainer.epochs', values=('5', '10'), kind='values')
        >>> parse_varied("trainer.optimizer.learning_rate=loguniform(1e-4, 1e-1)").change(0.00316227766)
        'trainer.optimizer.learning_rate=0.00316228'
    """
    setting, value, values = alternatives(text)
    call = _CALL.fullmatch(value)
    kind, ends = ("", ()) if call is None else (call[1], tuple(end.strip() for end in call[2].split(",")))
    if call is None and (meant := re.match(rf"({'|'.join(_RANGES)})(\s*[(\[]|\s+[-+.\d])", value)):
        raise SettingsError(f"--set {text}: a range is written {meant[1]}(LOW, HIGH); got {value}")
    if kind not in _RANGES:
        if len(ends) > 1:
            known = ", ".join(f"{name}(LOW, HIGH)" for name in _RANGES)
            hint = nearest(kind, _RANGES) or "."
            raise SettingsError(
                f"--set {text}: {kind!r} is not a range{hint} Ranges: {known}; text with a comma goes in quotes"
            )
        for option in values:
            parse_change(f"{setting}={option}")
            if values.count(option) > 1:
                raise SettingsError(f"--set {text}: the value {option} is given twice", advice="give it once")
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


def trials(space: Sequence[Varied], number: int | None, seed: int) -> list[Trial]:
    """Return the trials of a sweep that do not depend on the figures of others.

    Args:
        space: The settings.
        number: How many are drawn; None takes every combination, those of the last setting first.
        seed: The seed of the draws.

    Raises:
        SettingsError: A range has no combinations, or there are fewer than ``number``.

    Example:
        >>> space = [parse_varied("a=1,2"), parse_varied("b=x,y")]
        >>> [changes_of(space, trial) for trial in trials(space, None, 0)]
        [('a=1', 'b=x'), ('a=1', 'b=y'), ('a=2', 'b=x'), ('a=2', 'b=y')]
        >>> trials(space, 2, 0) == trials(space, 3, 0)[:2]
        True
    """
    if number is None:
        if ranged := next((axis for axis in space if axis.kind != "values"), None):
            raise SettingsError(
                f"--set {ranged.setting}={ranged.kind}(...): a range needs --random N, the number of trials to draw"
            )
        settings, values = [axis.setting for axis in space], [axis.values for axis in space]
        return [dict(zip(settings, combination, strict=True)) for combination in itertools.product(*values)]
    require_enough(space, "random", number)
    return [*itertools.islice(suggestions(space, (), "RandomSampler", "min", seed), number)]


def require_enough(space: Sequence[Varied], flag: str, number: int) -> None:
    """Check that there are as many combinations as a flag asks for.

    Raises:
        SettingsError: There are fewer.
    """
    if number > (size := math.prod(axis.size for axis in space)):
        have = f"the varied settings have {size:g} combinations" if space else "no setting varies"
        advice = "leave it out for all" if space else "give --set SETTING=VALUES"
        raise SettingsError(f"--{flag} {number}: {have}; {advice}")


ATTEMPTS = 10
"""After this many suggestions that came before, the next ones are random."""


def suggestions(space: Sequence[Varied], before: Sequence[Any], sampler: str, mode: str, seed: int) -> Iterator[Trial]:
    """Give trials that have not come before, as long as there are any, as a sampler of Optuna suggests them.

    Args:
        space: The settings.
        before: The trials before, as Optuna has them.
        sampler: The name of the sampler in ``optuna.samplers``.
        mode: Which figures are better, ``"min"`` or ``"max"``.
        seed: The seed of the sweep; the suggestions depend on the number of trials before, too.
    """
    samplers, distributions = import_optuna().samplers, distributions_of(space)
    number = int(random_generator(seed, "sweep", len(before)).integers(2**31))
    study = new_study(mode, sampler=getattr(samplers, sampler)(seed=number))
    study.add_trials(before)
    known, repeats = {changes_of(space, trial.params) for trial in before}, 0
    while True:
        params = study.ask(distributions).params
        if (changes := changes_of(space, params)) not in known:
            known.add(changes)
            yield params
        elif (repeats := repeats + 1) == ATTEMPTS:
            study.sampler = samplers.RandomSampler(seed=number)


def changes_of(space: Sequence[Varied], trial: Trial) -> tuple[str, ...]:
    """Return the changes of a trial, such as ``trainer.optimizer.learning_rate=0.1``."""
    return tuple(axis.change(trial[axis.setting]) for axis in space)


def distributions_of(space: Sequence[Varied]) -> dict[str, Any]:
    """Return the distributions of Optuna by setting; values of a list are text there."""
    optuna, made = import_optuna().distributions, dict[str, Any]()
    for axis in space:
        if axis.kind == "values":
            made[axis.setting] = optuna.CategoricalDistribution(axis.values)
        elif axis.whole:
            made[axis.setting] = optuna.IntDistribution(*map(int, axis.values), log=axis.kind == "logint")
        else:
            made[axis.setting] = optuna.FloatDistribution(*map(float, axis.values), log=axis.kind == "loguniform")
    return made


def new_study(mode: str, **options: Any) -> Any:
    """Return a new study of Optuna, without the message that Optuna writes about it."""
    optuna = import_optuna()
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction={"min": "minimize", "max": "maximize"}[mode], **options)
    finally:
        optuna.logging.set_verbosity(level)


def import_optuna() -> Any:
    """Return Optuna, which is imported when a sweep needs it, never before.

    Raises:
        UsageError: It is not installed.
    """
    return load_module("optuna", "a sweep")
