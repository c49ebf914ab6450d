"""Which of the searched parameters matter."""

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
"""Trials below which an importance would be noise."""


class Share(NamedTuple):
    """What a parameter has to do with a trial's being among the best."""

    share: float
    """In [0, 1]."""
    trials: int
    """Among which: those that have the parameter."""


def importance(trials: Sequence[Trial], space: Mapping[str, Distribution], objective: str) -> dict[str, Share]:
    """The share of each parameter; {} with too few trials.

    The shares of parameters that all trials have sum up to 1. That of a conditional one is its share of all that the
    trials which have it have; it is left out where those are too few.
    PED-ANOVA, Watanabe et al., IJCAI 2023, arXiv 2304.10255, as Optuna has it.
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
    """Of parameters that all these trials have."""
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
    low, high = min(low, *values), max(high, *values)  # quniform rounds, perhaps beyond an end
    return FloatDistribution(low, high, log=distribution.kind == "loguniform")


def _plain(value: Any, distribution: BaseDistribution) -> Any:
    return repr(value) if isinstance(distribution, CategoricalDistribution) else float(value)
