"""Ray Tune's searcher and scheduler of a search: who proposes values, and who stops or changes trials.

The search algorithms are Ray's and Optuna's. The subclasses here add what these lack for a search that resumes: a
concurrency limit that can change between calls, the best epoch of a trial as its score, and a seed for PBT.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
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

from nla.config.train import METRICS
from nla.config.tune import Distribution, TuneConfig
from nla.tuning.results import Trial
from nla.tuning.space import first_values
from nla.tuning.trial import FAILED, Template


def param_space(distributions: Mapping[str, Distribution]) -> dict[str, Any]:
    """Ray's domain of each searched parameter, by dotted name."""
    return {name: _domain(distribution) for name, distribution in distributions.items()}


def _domain(distribution: Distribution) -> Any:
    if distribution.kind == "grid":
        return tune.grid_search(distribution.arguments)
    make = getattr(tune, distribution.kind)
    return make(distribution.arguments) if distribution.kind == "choice" else make(*distribution.arguments)


def build_searcher(
    template: Template, settings: TuneConfig, earlier: Sequence[Trial], num_earlier_samples: int
) -> Searcher | SearchAlgorithm:
    """The searcher: proposes first the values that apply without a search, then new ones.

    Optuna's samplers learn from earlier trials, but not with two objectives: Ray cannot pass pairs of scores to Optuna.

    Args:
        earlier: trials of earlier batches.
        num_earlier_samples: samples of earlier batches; it shifts the seed, so that later draws differ.
    """
    seed = settings.seed + num_earlier_samples
    first = [] if earlier else [_first_point(template, settings)]
    if settings.searcher == "random":
        return RandomSearcher(points_to_evaluate=first, random_state=seed)
    has_two_objectives = settings.objective == "both"
    metrics = [f"valid_{name}" for name in METRICS]
    known = [] if has_two_objectives else [trial for trial in earlier if _is_complete(trial, settings)]
    rewards = [trial.score(settings.objective) for trial in known]
    return OptunaSearcher(
        metric=metrics if has_two_objectives else None,
        mode=["max"] * len(metrics) if has_two_objectives else None,
        points_to_evaluate=[dict(trial.proposed) for trial in known] or first,
        evaluated_rewards=rewards or None,
        sampler=_sampler(settings, seed),
    )


def build_scheduler(settings: TuneConfig) -> TrialScheduler:
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
                custom_explore_fn=_clip_to_space(settings),
                log_config=False,
            )
        case "none":
            return FIFOScheduler()  # type: ignore[no-untyped-call]


class ConcurrencyLimit:
    """Maximum number of concurrent trials in this process.

    Ray pickles searchers with the search, and a resumed one would keep the first call's limit if it were stored there.
    """

    trials: ClassVar[int | None] = None
    """None for as many as fit."""


class RandomSearcher(BasicVariantGenerator):
    """Random draws and grids."""

    def next_trial(self) -> Any:
        """The next trial; None if it has to wait."""
        self.max_concurrent = ConcurrencyLimit.trials or 0
        return super().next_trial()  # type: ignore[no-untyped-call]


class OptunaSearcher(OptunaSearch):
    """Optuna's samplers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._running: set[str] = set()
        self._best: dict[str, dict[str, Any]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Values of the next trial; None if it has to wait."""
        if ConcurrencyLimit.trials is not None and len(self._running) >= ConcurrencyLimit.trials:
            return None
        self._running.add(trial_id)
        return super().suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Remembers the best epoch, which is a trial's score; a failed trial scores 0, whatever it had reached.

        The sampler gets the score only when the trial ends: Optuna warns about a step that is reported twice, as a
        resumed trial does.
        """
        before = self._best.get(trial_id)
        if before is None or FAILED in result or self._score(result) > self._score(before):
            self._best[trial_id] = result

    def _score(self, result: dict[str, Any]) -> float:
        metrics = self._metric if isinstance(self._metric, list) else [self._metric]
        return float(sum(result[str(name)] for name in metrics))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Gives the sampler the best epoch of a trial that has ended."""
        self._running.discard(trial_id)
        super().on_trial_complete(trial_id, self._best.pop(trial_id, result), error)


class SeededPBT(PopulationBasedTraining):
    """Population-based training (Jaderberg et al., arXiv 1711.09846) with its own random state.

    Ray's implementation draws from the global generators of Python and NumPy, so that its changes would depend on
    whatever else draws from them.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._state = random.Random(seed).getstate(), np.random.RandomState(seed).get_state()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decides whether the trial continues; may turn it into a perturbed copy of a better one."""
        with self._own_random_state():
            return super().on_trial_result(tune_controller, trial, result)

    @contextlib.contextmanager
    def _own_random_state(self) -> Iterator[None]:
        outside = _swap_random_state(self._state)
        try:
            yield
        finally:
            self._state = _swap_random_state(outside)


def _swap_random_state(state: tuple[Any, Any]) -> tuple[Any, Any]:
    """Sets the process's global generators to `state`, and returns their previous state."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002  # the generators that Ray draws from
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    return before


def _first_point(template: Template, settings: TuneConfig) -> dict[str, Any]:
    """The values that apply without a search; without grid parameters, which are tried exhaustively anyway.

    Optuna needs a value of every parameter, including those that are inactive in this trial.
    """
    space = settings.distributions
    values = first_values(space, template.params)
    if settings.searcher != "random":
        values = {name: each.ends()[0] for name, each in space.items()} | values
    return {name: value for name, value in values.items() if space[name].kind != "grid"}


def _is_complete(trial: Trial, settings: TuneConfig) -> bool:
    """Whether the trial can inform a searcher: it has a value for every parameter, and at least one epoch."""
    return trial.score(settings.objective) >= 0 and set(trial.proposed) == set(settings.distributions)


def _mutations(settings: TuneConfig) -> dict[str, Any]:
    """Mutations for PBT, which takes a plain list for a choice."""
    domains = param_space(settings.distributions)
    choices = {name: each.arguments for name, each in settings.distributions.items() if each.kind == "choice"}
    return domains | choices


def _clip_to_space(settings: TuneConfig) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that clips values perturbed by PBT to their range, and rounds them to the step if there is one."""
    ranges = {name: each for name, each in settings.distributions.items() if each.kind not in ("choice", "grid")}

    def clip(config: dict[str, Any]) -> dict[str, Any]:
        return config | {name: each.nearest(config[name]) for name, each in ranges.items()}

    return clip


def _sampler(settings: TuneConfig, seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators (Bergstra et al., NeurIPS 2011), or a Gaussian process."""
    if settings.searcher == "optuna":
        return TPESampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(seed=seed)
