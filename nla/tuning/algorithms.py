"""Builds Ray Tune's searcher and scheduler from the settings of a search."""

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
    """The searcher: proposes the values in use without a search first, then new ones.

    Optuna's samplers learn from earlier trials, but not with two objectives: Ray cannot pass pairs of scores to Optuna.

    Args:
        done: samples requested in earlier calls; it shifts the seed, so that later draws differ.
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
    """The scheduler: stops trials or, for PBT, overwrites them with copies of better ones."""
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
    """The values in use without a search; without grid parameters, which are tried exhaustively anyway.

    Optuna needs a value of every parameter, including one that does not count in this trial.
    """
    space = settings.distributions
    values = first_values(space, template.params)
    if settings.searcher != "random":
        values = {name: each.ends()[0] for name, each in space.items()} | values
    return {name: value for name, value in values.items() if space[name].kind != "grid"}


def _is_whole(trial: Trial, settings: TuneConfig) -> bool:
    """Whether the trial can inform a searcher: it has a value for every parameter, and at least one epoch."""
    return trial.score(settings.objective) >= 0 and set(trial.drawn) == set(settings.distributions)


def _mutations(settings: TuneConfig) -> dict[str, Any]:
    """Mutations for PBT, which takes a plain list for a choice."""
    domains = param_space(settings.distributions)
    choices = {name: each.arguments for name, each in settings.distributions.items() if each.kind == "choice"}
    return domains | choices


def _within(settings: TuneConfig) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that clips values perturbed by PBT to their range, and rounds them to the step if there is one."""
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
