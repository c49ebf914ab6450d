"""Ray Tune's searcher and scheduler of a search: who proposes values, and who stops or changes trials.

The search algorithms are Ray's and Optuna's. The subclasses here add what these lack for a search that resumes: a
concurrency limit that can change between calls, what a stopped trial means to Optuna, and a seed for PBT.
"""

from __future__ import annotations

import contextlib
import logging
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
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
from nla.training.epoch_report import IS_LAST, KEPT, VALID
from nla.training.optim import warm_up_epochs
from nla.tuning.results import Trial
from nla.tuning.space import first_values
from nla.tuning.trial import Template

log = logging.getLogger(__name__)


def param_space(distributions: Mapping[str, Distribution]) -> dict[str, Any]:
    """Ray's domain of each searched parameter, by dotted name."""
    return {name: _domain(distribution) for name, distribution in distributions.items()}


def _domain(distribution: Distribution) -> Any:
    if distribution.kind == "grid":
        return tune.grid_search(distribution.arguments)
    make = getattr(tune, distribution.kind)
    return make(distribution.arguments) if distribution.kind == "choice" else make(*distribution.arguments)


def judged_metrics(settings: TuneConfig) -> list[str]:
    """Names in Ray's results of the metrics whose mean is a trial's score, at any of its epochs.

    They are those of the epoch that training would keep if it ended then; under PBT those of the epoch itself, because
    earlier ones were trained with other values.
    """
    prefix = VALID if settings.scheduler == "pbt" else KEPT
    return [f"{prefix}{name}" for name in settings.metrics]


def build_searcher(
    template: Template, settings: TuneConfig, earlier: Sequence[Trial], num_earlier_samples: int
) -> Searcher | SearchAlgorithm:
    """The searcher: proposes first the values that apply without a search, then new ones.

    Args:
        earlier: trials of earlier batches.
        num_earlier_samples: samples of earlier batches; it shifts the seed, so that later draws differ.
    """
    seed = settings.seed + num_earlier_samples
    first = [] if earlier else [_first_point(template, settings)]
    if settings.searcher == "random":
        return RandomSearcher(points_to_evaluate=first, random_state=seed)
    has_two_objectives, metrics = settings.objective == "both", judged_metrics(settings)
    return OptunaSearcher(
        [trial for trial in earlier if _is_complete(trial, settings)],
        settings.metrics,
        metric=metrics if has_two_objectives else None,
        mode=["max"] * len(metrics) if has_two_objectives else None,
        points_to_evaluate=first,
        sampler=_sampler(settings, seed),
    )


def grace_epochs(settings: TuneConfig, params: Mapping[str, Any]) -> int:
    """Epochs before a scheduler can stop a trial: `tune.grace_epochs`, else those of the longest warm-up.

    In the warm-up, trials differ by how well they bear a learning rate that none of them ends with.

    Args:
        params: sections of params.yaml.
    """
    searched = settings.distributions.get("train.schedule")
    schedules = searched.ends() if searched else [params["train"]["schedule"]]
    warm_up = max(warm_up_epochs(schedule, settings.epochs) for schedule in schedules)
    if settings.grace_epochs is None:
        return max(1, warm_up)
    if settings.grace_epochs < warm_up and settings.scheduler != "none":
        log.warning(
            "tune.grace_epochs: %d of the %d epochs in which train.schedule warms up: trials are compared while their "
            "learning rate still rises. Set it to null to wait for the end.",
            settings.grace_epochs,
            warm_up,
        )
    return min(settings.grace_epochs, settings.epochs)


def build_scheduler(settings: TuneConfig, params: Mapping[str, Any]) -> TrialScheduler:
    """The scheduler: stops trials or, for PBT, overwrites them with copies of better ones."""
    grace = grace_epochs(settings, params)
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
                perturbation_interval=settings.grace_epochs or 1,
                burn_in_period=grace,
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
    """Optuna's samplers, told which trials have ended by themselves and which were stopped.

    Ray reports both as complete, so that the score at a stop, reached with a high learning rate after few epochs, would
    count as that of a whole training. Optuna's own state for a stopped trial is PRUNED, with its score at its last
    epoch: TPE ranks those below all complete ones, by epoch and then by score; the Gaussian process leaves them out.

    Args:
        earlier: trials of earlier batches that the sampler learns from.
        names: of the metrics on validation that are searched.
        options: of Ray's OptunaSearch.
    """

    def __init__(self, earlier: Sequence[Trial], names: Sequence[str], **options: Any) -> None:
        super().__init__(**options)
        self._earlier, self._names = earlier, names
        self._running: set[str] = set()

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Starts Optuna's study, with the earlier trials."""
        is_new = bool(super().set_search_properties(metric, mode, config, **spec))
        if is_new and self._ot_study is not None:
            for trial in self._earlier:
                self._ot_study.add_trial(self._frozen(trial))
        return is_new

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """An ended trial as Optuna's."""
        scores = [trial.best_row[f"{VALID}{name}"] for name in self._names]
        params: dict[str, Any] = {"params": dict(trial.proposed), "distributions": self._space}
        if trial.is_final:
            return create_trial(values=scores, **params)
        reached = {len(trial.history): scores[0]} if len(scores) == 1 else {}
        return create_trial(state=TrialState.PRUNED, intermediate_values=reached, **params)

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Values of the next trial; None if it has to wait."""
        if ConcurrencyLimit.trials is not None and len(self._running) >= ConcurrencyLimit.trials:
            return None
        self._running.add(trial_id)
        return super().suggest(trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Does nothing: the sampler gets the score when the trial ends.

        Optuna warns about a step that is reported twice, as a resumed trial does.
        """

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Gives the sampler the score of a trial that has ended; a failed one scores 0, whatever it had reached."""
        self._running.discard(trial_id)
        if result is not None and not result[IS_LAST]:
            self._ot_trials[trial_id].report(result[str(self._metric)], int(result["epoch"]))
            result = None  # without a result, Ray tells Optuna that the trial was pruned
        super().on_trial_complete(trial_id, result, error)


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
