"""Who proposes the values of trials, and who stops trials: the settings of a search in the terms of Ray Tune."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)
from ray.tune.search import SearchAlgorithm, Searcher

from nla.config.train import METRICS
from nla.config.tune import TuneConfig
from nla.tuning.domains import param_space
from nla.tuning.population import SeededPBT
from nla.tuning.space import first_values
from nla.tuning.trial import Template
from nla.tuning.trials import Trial
from nla.tuning.turns import OptunaTurns, RandomTurns


def searcher(
    template: Template, settings: TuneConfig, before: Sequence[Trial], done: int
) -> Searcher | SearchAlgorithm:
    """What proposes values: first those without a search, then new ones, in the light of earlier trials.

    With two objectives there is no such light: Ray has no way to tell Optuna of pairs.

    Args:
        done: samples asked for in earlier calls; the draws after them are others.
    """
    seed = settings.seed + done
    first = [] if before else [_first(template, settings)]
    if settings.searcher == "random":
        return RandomTurns(points_to_evaluate=first, random_state=seed)
    both = settings.objective == "both"
    metrics = [f"valid_{name}" for name in METRICS]
    known = [] if both else [trial for trial in before if _is_whole(trial, settings)]
    rewards = [trial.score(settings.objective) for trial in known]
    return OptunaTurns(
        metric=metrics if both else None,
        mode=["max"] * len(metrics) if both else None,
        points_to_evaluate=[dict(trial.drawn) for trial in known] or first,
        evaluated_rewards=rewards or None,
        sampler=_sampler(settings, seed),
    )


def scheduler(settings: TuneConfig) -> TrialScheduler:
    """What stops trials, or copies better ones over them."""
    grace = min(settings.grace_epochs, settings.epochs)
    match settings.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr="epoch", max_t=settings.epochs, grace_period=grace, reduction_factor=settings.reduction
            )
        case "median":
            return MedianStoppingRule(time_attr="epoch", grace_period=grace, min_samples_required=2)
        case "pbt":
            return SeededPBT(
                settings.seed,
                time_attr="epoch",
                perturbation_interval=grace,
                hyperparam_mutations=_mutations(settings),
                custom_explore_fn=_within(settings),
                log_config=False,
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]


def _first(template: Template, settings: TuneConfig) -> dict[str, Any]:
    """The values without a search; a grid is gone through with them, too.

    Optuna wants a value of every parameter, also of one that does not count in this trial.
    """
    space = settings.distributions
    values = first_values(space, template.params)
    if settings.searcher != "random":
        values = {name: each.ends()[0] for name, each in space.items()} | values
    return {name: value for name, value in values.items() if space[name].kind != "grid"}


def _is_whole(trial: Trial, settings: TuneConfig) -> bool:
    """Whether it says what its values are worth: it has all of them, and at least one epoch."""
    return trial.score(settings.objective) >= 0 and set(trial.drawn) == set(settings.distributions)


def _mutations(settings: TuneConfig) -> dict[str, Any]:
    """Of PBT, which takes a list for a choice."""
    domains = param_space(settings.distributions)
    choices = {name: each.arguments for name, each in settings.distributions.items() if each.kind == "choice"}
    return domains | choices


def _within(settings: TuneConfig) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Keeps what PBT makes of a value, by a factor, in the value's range, and on its grid where it has a step."""
    distributions = settings.distributions

    def clamped(config: dict[str, Any]) -> dict[str, Any]:
        ranges = {name: each for name, each in distributions.items() if each.kind not in ("choice", "grid")}
        return config | {name: each.nearest(config[name]) for name, each in ranges.items()}

    return clamped


def _sampler(settings: TuneConfig, seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), or a Gaussian process."""
    if settings.searcher == "optuna":
        return TPESampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)
