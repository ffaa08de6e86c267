"""The space of a sweep: lists and ranges of values, and the trials made of them, or suggested by Optuna."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from framework.errors import SettingsError, nearest
from framework.experiments.files.text import alternatives, parse_change
from framework.extras import required
from framework.random_streams import random_generator

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
