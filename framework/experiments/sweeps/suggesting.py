"""Trials that Optuna suggests from those before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from framework.experiments.sweeps.space import Trial, Varied, draws, texts
from framework.extras import required
from framework.random_streams import random_generator

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
