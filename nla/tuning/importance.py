"""Estimates how much each searched parameter matters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from nla.config.tune import Distribution
from nla.tuning.trials import Trial

FEWEST = 8
"""With fewer trials than this, an importance would be noise."""


class Share(NamedTuple):
    """How much a parameter has to do with a trial being among the best."""

    share: float
    """Share of the importance, in [0, 1]."""
    trials: int
    """Number of trials compared: those that have the parameter."""


def importance(trials: Sequence[Trial], space: Mapping[str, Distribution], objective: str) -> dict[str, Share]:
    """The share of each parameter; {} with too few trials.

    The shares of the parameters that all trials have sum to 1. A conditional parameter's share is relative to all
    parameters common to the trials that have it; it is left out if those trials are too few.
    PED-ANOVA, Watanabe et al., IJCAI 2023, arXiv 2304.10255, as implemented in Optuna.
    """
    usable = [trial for trial in trials if trial.score(objective) >= 0]
    common = _common(usable, space)
    if len(usable) < FEWEST or len(common) < 2:
        return {}
    found = {name: Share(share, len(usable)) for name, share in _shares(usable, common, space, objective).items()}
    for name in space.keys() - common:
        having = [trial for trial in usable if name in trial.values]
        if len(having) >= FEWEST:
            found[name] = Share(_shares(having, _common(having, space), space, objective)[name], len(having))
    return found


def _common(trials: Sequence[Trial], space: Mapping[str, Distribution]) -> list[str]:
    return [name for name in space if all(name in trial.values for trial in trials)]


def _shares(
    trials: Sequence[Trial], names: Sequence[str], space: Mapping[str, Distribution], objective: str
) -> dict[str, float]:
    """Shares of parameters that all these trials have."""
    distributions = {name: _distribution(space[name], [trial.values[name] for trial in trials]) for name in names}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    for trial in trials:
        params = {name: _plain(trial.values[name], distributions[name]) for name in names}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=trial.score(objective))
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _distribution(distribution: Distribution, values: list[Any]) -> BaseDistribution:
    if distribution.kind in ("choice", "grid"):
        return CategoricalDistribution([repr(value) for value in distribution.arguments])
    low, high = distribution.ends()
    low, high = min(low, *values), max(high, *values)  # quniform rounds, possibly past an end
    return FloatDistribution(low, high, log=distribution.kind == "loguniform")


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    return repr(value) if isinstance(distribution, CategoricalDistribution) else float(value)
