"""Who proposes the values of trials, and who stops trials: the settings of a search in the terms of Ray Tune."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, SearchAlgorithm, Searcher
from ray.tune.search.optuna import OptunaSearch

from nla.config.tune import Distribution, TuneConfig
from nla.tuning.space import first_values
from nla.tuning.trial import Study
from nla.tuning.trials import METRICS, Trial


def param_space(settings: TuneConfig) -> dict[str, Any]:
    """Ray's domain of each searched parameter, by its dotted name."""
    return {name: _domain(distribution) for name, distribution in settings.distributions.items()}


def searcher(study: Study, settings: TuneConfig, before: Sequence[Trial], done: int) -> Searcher | SearchAlgorithm:
    """What proposes values: first those without a search, then new ones, in the light of earlier trials.

    Args:
        done: samples asked for in earlier calls; the draws after them are others.
    """
    seed = settings.seed + done
    first = [] if before else [first_values(settings.distributions, study.params)]
    if settings.searcher == "random":
        return BasicVariantGenerator(points_to_evaluate=first, random_state=seed)
    both = settings.objective == "both"
    metrics = [f"valid_{name}" for name in METRICS]
    known = [trial for trial in before if trial.status != "failed" and set(trial.values) == set(settings.distributions)]
    rewards = [
        tuple(trial.best_row("both")[name] for name in metrics) if both else trial.score(settings.objective)
        for trial in known
    ]
    return OptunaSearch(
        metric=metrics if both else None,
        mode=["max"] * len(metrics) if both else None,
        points_to_evaluate=[dict(trial.values) for trial in known] or first,
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
            return PopulationBasedTraining(
                time_attr="epoch",
                perturbation_interval=grace,
                hyperparam_mutations=param_space(settings),
                log_config=False,
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]


def _sampler(settings: TuneConfig, seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), or a Gaussian process."""
    if settings.searcher == "optuna":
        return TPESampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)


def _domain(distribution: Distribution) -> Any:
    if distribution.kind == "grid":
        return tune.grid_search(distribution.arguments)
    make = getattr(tune, distribution.kind)
    return make(distribution.arguments) if distribution.kind == "choice" else make(*distribution.arguments)
