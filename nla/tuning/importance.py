"""Which of the searched parameters matter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from nla.config.tune import Distribution
from nla.tuning.trials import Trial

FEWEST = 8
"""Trials below which an importance would be noise."""


def importance(trials: Sequence[Trial], space: Mapping[str, Distribution], objective: str) -> dict[str, float]:
    """Share of each parameter that all trials have, in that a trial is among the best; {} with too few trials.

    PED-ANOVA, Watanabe et al., IJCAI 2023, arXiv 2304.10255, as Optuna has it.
    """
    usable = [trial for trial in trials if trial.score(objective) >= 0]
    common = [name for name in space if all(name in trial.values for trial in usable)]
    if len(usable) < FEWEST or len(common) < 2:
        return {}
    distributions = {name: _distribution(space[name], [trial.values[name] for trial in usable]) for name in common}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    for trial in usable:
        params = {name: _plain(trial.values[name], distributions[name]) for name in common}
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
