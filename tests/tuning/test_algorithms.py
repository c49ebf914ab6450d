"""Who proposes values, and who changes them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from sweep_parts import settings, template

from nla.tuning.results import Trial
from nla.tuning.searchers import OptunaTurns, SeededPBT, param_space, scheduler, searcher
from nla.tuning.space import active
from nla.tuning.trial import FAILED

CONDITIONAL: dict[str, Any] = {
    "loss": {
        "consistency": {"choice": ["jensen_shannon", "none"]},
        "consistency_weight": {"uniform": [0.0, 1.0], "when": {"loss.consistency": "jensen_shannon"}},
    }
}


@pytest.mark.parametrize("name", ["optuna", "gp"])
def test_what_a_trial_without_a_condition_is_worth_is_not_forgotten(name: str) -> None:
    config = settings(4, searcher=name, space=CONDITIONAL)
    drawn = [{"loss.consistency": form, "loss.consistency_weight": 0.25} for form in ("none", "jensen_shannon")]
    counting = [{"loss.consistency": "none"}, drawn[1]]
    row = {"epoch": 1.0, "valid_accuracy": 0.5, "valid_mean_accuracy": 0.5}
    before = [
        Trial(i, str(i), values, "finished", "", [row], drawn=given)
        for i, (values, given) in enumerate(zip(counting, drawn, strict=True))
    ]
    found = searcher(template("s"), config, before, 2)
    assert isinstance(found, OptunaTurns)
    assert found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    assert [(trial.params, trial.value) for trial in found._ot_study.trials] == [(given, 0.5) for given in drawn]


def test_samplers_hear_of_the_best_epoch() -> None:
    """By which a trial is judged, not of the last."""
    config = settings(4, searcher="optuna")
    found = searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaTurns)
    found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    for trial in "ab":
        assert found.suggest(trial) is not None
    for trial, *epochs in (("a", 0.7, 0.8, 0.6), ("b", 0.1, 0.2, 0.3)):
        rows = [{"valid_accuracy": value} for value in epochs]
        for row in rows:
            found.on_trial_result(trial, row)
        found.on_trial_complete(trial, rows[-1])
    assert [trial.value for trial in found._ot_study.trials] == [0.8, 0.3]


def test_samplers_hear_nothing_good_of_a_trial_that_diverged() -> None:
    config = settings(4, searcher="optuna")
    found = searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaTurns)
    found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    assert found.suggest("a") is not None
    for row in ({"valid_accuracy": 0.6}, {"valid_accuracy": 0.0, FAILED: "the loss is not finite"}):
        found.on_trial_result("a", row)
    found.on_trial_complete("a", row)
    assert [trial.value for trial in found._ot_study.trials] == [0.0]


@pytest.mark.parametrize("name", ["optuna", "gp"])
def test_the_first_trial_may_leave_parameters_out(name: str) -> None:
    """Optuna takes no point that lacks one."""
    space: dict[str, Any] = {
        "loss": {
            "name": {"choice": ["nla", "elr"]},
            "slope": {"uniform": [0, 30], "when": {"loss.name": "nla"}},
            "options": {"beta": {"uniform": [0.5, 0.9], "when": {"loss.name": "elr"}}},
        }
    }
    config = settings(4, searcher=name, space=space)
    found = searcher(template("s"), config, [], 0)
    assert isinstance(found, OptunaTurns)
    found.set_search_properties("valid_accuracy", "max", param_space(config.distributions))
    first = found.suggest("a")
    assert first == {"loss.name": "nla", "loss.slope": first["loss.slope"], "loss.options.beta": 0.5}
    assert active(first, config.distributions, template("s").params) == {
        name: first[name] for name in ("loss.name", "loss.slope")
    }


def draws(pbt: SeededPBT, others: int) -> list[float]:
    """Of Python's and numpy's generators, as Ray draws in three calls, others drawing in between."""
    found = []
    for _ in range(3):
        with pbt._own_generators():
            found += [random.random(), float(np.random.random())]  # noqa: NPY002
        random.seed(others)
        np.random.seed(others)  # noqa: NPY002
    return found


def test_pbt_draws_by_its_seed_alone() -> None:
    config = [settings(4, scheduler="pbt", seed=seed) for seed in (1, 1, 2)]
    made = [scheduler(each) for each in config]
    assert all(isinstance(each, SeededPBT) for each in made)
    one, same, other = (draws(each, others) for each, others in zip(made, (7, 8, 7), strict=True))
    assert one == same != other and len(set(one)) == 6


def test_pbt_leaves_the_draws_of_others_alone() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with scheduler(settings(4, scheduler="pbt"))._own_generators():
        random.random()
    assert random.random() == expected
