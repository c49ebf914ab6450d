"""Searchers and schedulers: what they learn from, and how they are seeded."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from search_parts import settings, template

from nla.tuning.results import Trial
from nla.tuning.searchers import OptunaSearcher, SeededPBT, build_scheduler, build_searcher, param_space
from nla.tuning.space import active
from nla.tuning.trial import FAILED

CONDITIONAL: dict[str, Any] = {
    "loss": {
        "consistency": {"choice": ["jensen_shannon", "none"]},
        "consistency_weight": {"uniform": [0.0, 1.0], "when": {"loss.consistency": "jensen_shannon"}},
    }
}


@pytest.mark.parametrize("name", ["optuna", "gp"])
def test_optuna_learns_from_trials_with_inactive_parameters(name: str) -> None:
    config = settings(4, searcher=name, space=CONDITIONAL)
    proposed = [{"loss.consistency": form, "loss.consistency_weight": 0.25} for form in ("none", "jensen_shannon")]
    in_force = [{"loss.consistency": "none"}, proposed[1]]
    row = {"epoch": 1.0, "valid_accuracy": 0.5, "valid_mean_accuracy": 0.5}
    earlier = [
        Trial(i, str(i), values, "finished", "", [row], proposed=point)
        for i, (values, point) in enumerate(zip(in_force, proposed, strict=True))
    ]
    found = build_searcher(template("s"), config, earlier, 2)
    assert isinstance(found, OptunaSearcher)
    assert found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    assert [(trial.params, trial.value) for trial in found._ot_study.trials] == [(point, 0.5) for point in proposed]


def test_optuna_learns_from_the_best_epoch() -> None:
    """A trial is judged by it, not by the last one."""
    config = settings(4, searcher="optuna")
    found = build_searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaSearcher)
    found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    for trial in "ab":
        assert found.suggest(trial) is not None
    for trial, *epochs in (("a", 0.7, 0.8, 0.6), ("b", 0.1, 0.2, 0.3)):
        rows = [{"valid_accuracy": value} for value in epochs]
        for row in rows:
            found.on_trial_result(trial, row)
        found.on_trial_complete(trial, rows[-1])
    assert [trial.value for trial in found._ot_study.trials] == [0.8, 0.3]


def test_optuna_learns_that_a_diverged_trial_scores_zero() -> None:
    config = settings(4, searcher="optuna")
    found = build_searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaSearcher)
    found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    assert found.suggest("a") is not None
    for row in ({"valid_accuracy": 0.6}, {"valid_accuracy": 0.0, FAILED: "the loss is not finite"}):
        found.on_trial_result("a", row)
    found.on_trial_complete("a", row)
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
    found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    first = found.suggest("a")
    assert first == {"loss.name": "nla", "loss.slope": first["loss.slope"], "loss.options.beta": 0.5}
    assert active(first, config.distributions, template("s").params) == {
        name: first[name] for name in ("loss.name", "loss.slope")
    }


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
    made = [build_scheduler(each) for each in config]
    assert all(isinstance(each, SeededPBT) for each in made)
    one, same, other = (draws(each, others) for each, others in zip(made, (7, 8, 7), strict=True))
    assert one == same != other and len(set(one)) == 6


def test_pbt_restores_the_global_generators() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with build_scheduler(settings(4, scheduler="pbt"))._own_random_state():
        random.random()
    assert random.random() == expected
