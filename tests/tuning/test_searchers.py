"""Searchers and schedulers: what they learn from, and how they are seeded."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from search_parts import settings, template

from nla.config.base import section
from nla.config.train import TrainConfig
from nla.training.epoch_report import EpochReport
from nla.training.optim import LRSchedule
from nla.tuning.results import Trial
from nla.tuning.searchers import (
    OptunaSearcher,
    SeededPBT,
    build_scheduler,
    build_searcher,
    grace_epochs,
    judged_metrics,
    param_space,
)
from nla.tuning.space import active
from nla.tuning.trial import FAILED

CONDITIONAL: dict[str, Any] = {
    "loss": {
        "consistency": {"choice": ["jensen_shannon", "none"]},
        "consistency_weight": {"uniform": [0.0, 1.0], "when": {"loss.consistency": "jensen_shannon"}},
    }
}


def reported(accuracies: list[float], epochs: int = 3) -> dict[str, int | float | bool]:
    """What a trial of `epochs` reports to Ray after these epochs; the most accurate one is kept."""
    rows: list[dict[str, int | float]] = [
        {"epoch": i + 1, "valid_accuracy": accuracy} for i, accuracy in enumerate(accuracies)
    ]
    best = max(rows, key=lambda row: row["valid_accuracy"])
    return EpochReport(rows[-1], best, is_last=len(rows) == epochs).metrics


@pytest.mark.parametrize("name", ["optuna", "gp"])
def test_optuna_learns_from_trials_with_inactive_parameters(name: str) -> None:
    config = settings(4, searcher=name, space=CONDITIONAL)
    proposed = [{"loss.consistency": form, "loss.consistency_weight": 0.25} for form in ("none", "jensen_shannon")]
    in_force = [{"loss.consistency": "none"}, proposed[1]]
    row = {"epoch": 1.0, "valid_accuracy": 0.5, "valid_mean_accuracy": 0.5}
    earlier = [
        Trial(i, str(i), values, "finished", "", [row], best_epoch=1, proposed=point)
        for i, (values, point) in enumerate(zip(in_force, proposed, strict=True))
    ]
    found = build_searcher(template("s"), config, earlier, 2)
    assert isinstance(found, OptunaSearcher)
    assert found.set_search_properties("kept_accuracy", "max", param_space(config.distributions))
    assert [(trial.params, trial.value) for trial in found._ot_study.trials] == [(point, 0.5) for point in proposed]


def test_optuna_learns_from_the_epoch_that_is_kept() -> None:
    """A trial is judged by it, not by the last one; Ray shows the searcher no epoch at which a scheduler stops."""
    config = settings(4, searcher="optuna")
    found = build_searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaSearcher)
    found.set_search_properties("kept_accuracy", "max", param_space(config.distributions))
    for trial in "ab":
        assert found.suggest(trial) is not None
    for trial, *epochs in (("a", 0.7, 0.8, 0.6), ("b", 0.1, 0.2, 0.3)):
        rows = [reported(epochs[: i + 1]) for i in range(3)]
        for row in rows[:-1]:
            found.on_trial_result(trial, row)
        found.on_trial_complete(trial, rows[-1])
    assert [trial.value for trial in found._ot_study.trials] == [0.8, 0.3]


def test_optuna_learns_that_a_diverged_trial_scores_zero() -> None:
    config = settings(4, searcher="optuna")
    found = build_searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaSearcher)
    found.set_search_properties("kept_accuracy", "max", param_space(config.distributions))
    assert found.suggest("a") is not None
    found.on_trial_result("a", reported([0.6]))
    found.on_trial_complete("a", {FAILED: "the loss is not finite", "kept_accuracy": 0.0, "epoch": 0, "is_last": True})
    assert [trial.value for trial in found._ot_study.trials] == [0.0]


@pytest.mark.parametrize("name", ["optuna", "gp"])
def test_first_point_of_optuna_has_inactive_parameters_too(name: str) -> None:
    """Optuna rejects a point without them."""
    space: dict[str, Any] = {
        "loss": {
            "name": {"choice": ["nla", "elr"]},
            "slope": {"uniform": [0, 30], "when": {"loss.name": "nla"}},
            "options": {"beta": {"uniform": [0.5, 0.9], "when": {"loss.name": "elr"}}},
        }
    }
    config = settings(4, searcher=name, space=space)
    found = build_searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaSearcher)
    found.set_search_properties("kept_accuracy", "max", param_space(config.distributions))
    first = found.suggest("a")
    assert first == {"loss.name": "nla", "loss.slope": first["loss.slope"], "loss.options.beta": 0.5}
    assert active(first, config.distributions, template("s").params) == {
        name: first[name] for name in ("loss.name", "loss.slope")
    }


def test_a_trial_is_judged_by_the_epoch_that_is_kept_except_under_pbt() -> None:
    """PBT copies other trials: the epochs before were trained with other values."""
    assert judged_metrics(settings(4, objective="mean_accuracy")) == ["kept_mean_accuracy"]
    assert judged_metrics(settings(4, objective="macro_f1")) == ["kept_macro_f1"]
    assert judged_metrics(settings(4, objective="both")) == ["kept_accuracy", "kept_mean_accuracy"]
    assert judged_metrics(settings(4, scheduler="pbt")) == ["valid_accuracy"]


def started(**others: Any) -> OptunaSearcher:
    """TPE's searcher, whose study has begun."""
    config = settings(4, **{"searcher": "optuna"} | others)
    found = build_searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaSearcher)
    found.set_search_properties("kept_accuracy", "max", param_space(config.distributions))
    return found


def test_a_stopped_trial_is_not_told_as_a_final_one() -> None:
    """Ray calls it complete. Optuna's own state is PRUNED, with the score at the step where it was stopped."""
    found = started()
    for name, accuracies in (("whole", [0.2, 0.3, 0.4]), ("stopped", [0.6, 0.5]), ("lost", [])):
        assert found.suggest(name) is not None
        found.on_trial_complete(name, reported(accuracies) if accuracies else None, error=not accuracies)
    whole, stopped, lost = found._ot_study.trials
    assert (whole.state, whole.value) == (TrialState.COMPLETE, 0.4)
    assert (stopped.state, stopped.intermediate_values) == (TrialState.PRUNED, {2: 0.6})
    assert lost.state == TrialState.FAIL
    assert found._ot_study.best_trial.number == whole.number


def test_a_trial_that_ran_out_of_patience_is_final() -> None:
    found = started()
    assert found.suggest("a") is not None
    found.on_trial_complete("a", reported([0.6, 0.5], epochs=2))  # of 3 planned ones
    assert [(trial.state, trial.value) for trial in found._ot_study.trials] == [(TrialState.COMPLETE, 0.6)]


@pytest.mark.parametrize("name", ["optuna", "gp"])
def test_the_next_proposal_follows_stopped_trials_too(name: str) -> None:
    """The samplers accept what they are told, beyond their ten first random draws."""
    found, values = started(searcher=name) if name == "gp" else started(), []
    for number in range(14):
        values.append(found.suggest(str(number)))
        found.on_trial_complete(str(number), reported([0.1 * (number % 5)] * (2 if number % 3 else 3)))
    assert len({tuple(each.values()) for each in values if each}) == 14
    states = [trial.state for trial in found._ot_study.trials]
    assert (states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)) == (5, 9)


@pytest.mark.parametrize("objective", ["accuracy", "both"])
def test_stopped_trials_of_earlier_calls_are_stopped_ones(objective: str) -> None:
    config = settings(4, searcher="optuna", objective=objective)
    point = {"loss.lam": 0.5, "loss.slope": 10.0}
    rows = [{"epoch": 1.0, "valid_accuracy": 0.5, "valid_mean_accuracy": 0.4}]
    ended: dict[str, Any] = {"history": rows, "best_epoch": 1, "proposed": point}
    earlier = [Trial(i, str(i), point, "stopped", "", is_final=i == 0, **ended) for i in range(2)]
    found = build_searcher(template("s"), config, earlier, 2)
    assert isinstance(found, OptunaSearcher)
    if objective == "both":
        found.set_search_properties(None, None, param_space(config.distributions))
    else:
        found.set_search_properties("kept_accuracy", "max", param_space(config.distributions))
    final, stopped = found._ot_study.trials
    assert final.values == ([0.5, 0.4] if objective == "both" else [0.5])
    assert stopped.state == TrialState.PRUNED
    assert found.suggest("next") not in (None, point)


@pytest.mark.parametrize(
    ("schedule", "epochs", "grace"),
    [("one_cycle", 12, 4), ("one_cycle", 10, 3), ("one_cycle", 4, 2), ("one_cycle", 1, 1), ("cosine", 12, 1)],
)
def test_no_trial_is_stopped_in_the_warm_up(schedule: str, epochs: int, grace: int) -> None:
    """At the default rungs the learning rate no longer rises: it did at the first two of a grace of one epoch."""
    params = template("s", schedule=schedule, epochs=epochs).params
    config = settings(4, scheduler="asha", epochs=epochs)
    assert grace_epochs(config, params) == grace
    steps = 18
    rate = LRSchedule(section(TrainConfig, params), steps)
    assert rate(min(grace * steps, epochs * steps - 1)) <= rate(max(grace * steps - 1, 0))
    asha = build_scheduler(config, params)
    rungs = [milestone for milestone, _ in asha._brackets[0]._rungs]
    assert min(rungs) == grace


def test_a_grace_within_the_warm_up_is_as_asked_for_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    params = template("s", schedule="one_cycle").params
    early = build_scheduler(settings(4, scheduler="asha", epochs=12, grace_epochs=1), params)
    assert min(milestone for milestone, _ in early._brackets[0]._rungs) == 1
    (warning,) = caplog.messages
    assert warning.startswith("tune.grace_epochs: 1 of the 4 epochs in which train.schedule warms up")
    caplog.clear()
    build_scheduler(settings(4, scheduler="asha", epochs=12, grace_epochs=4), params)
    assert not caplog.messages


def test_the_grace_is_the_longest_warm_up_of_the_space() -> None:
    params = template("s", schedule="constant").params
    space = {"train": {"schedule": {"choice": ["constant", "one_cycle"]}}}
    assert grace_epochs(settings(4, epochs=12, space=space), params) == 4


def test_pbt_copies_no_trial_in_the_warm_up() -> None:
    pbt = build_scheduler(settings(4, scheduler="pbt", epochs=12), template("s", schedule="one_cycle").params)
    assert (pbt._burn_in_period, pbt._perturbation_interval) == (4, 1)


def draws(pbt: SeededPBT, others: int) -> list[float]:
    """Draws from Python's and NumPy's generators in three calls of PBT, with a reseed from outside in between."""
    found = []
    for _ in range(3):
        with pbt._own_random_state():
            found += [random.random(), float(np.random.random())]  # noqa: NPY002
        random.seed(others)
        np.random.seed(others)  # noqa: NPY002
    return found


def test_draws_of_pbt_depend_only_on_its_seed() -> None:
    config = [settings(4, scheduler="pbt", seed=seed) for seed in (1, 1, 2)]
    made = [build_scheduler(each, template("s").params) for each in config]
    assert all(isinstance(each, SeededPBT) for each in made)
    one, same, other = (draws(each, others) for each, others in zip(made, (7, 8, 7), strict=True))
    assert one == same != other and len(set(one)) == 6


def test_pbt_restores_the_global_generators() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with build_scheduler(settings(4, scheduler="pbt"), template("s").params)._own_random_state():
        random.random()
    assert random.random() == expected
