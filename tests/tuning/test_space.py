"""The space of a search: what it may hold, and how a trial's values are laid over the parameters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.config.base import section
from nla.config.tune import Distribution, TuneConfig
from nla.errors import ConfigError
from nla.tuning.space import active, check_space, first_values, resolved, trial_base, with_values


def settings(space: dict[str, Any], **others: Any) -> TuneConfig:
    return section(TuneConfig, {"tune": {"num_samples": 2, "space": space, **others}})


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"loss": {"lam": {"unifrom": [0, 1]}}}, r"loss\.lam: unifrom: .*valid are uniform, loguniform"),
        ({"loss": {"lam": {"uniform": [0, 1], "choice": [1]}}}, "exactly one of .* not uniform, choice"),
        ({"loss": {"lam": {"uniform": [1, 0]}}}, "low end below its high end"),
        ({"loss": {"lam": {"loguniform": [0, 1]}}}, "low end above 0"),
        ({"loss": {"lam": {"quniform": [0, 1, 2]}}}, "a step between 0 and its range"),
        ({"loss": {"lam": {"choice": []}}}, "at least 1 item"),
        ({"loss": {"lam": 0.5}}, r"loss\.lam must be a distribution such as"),
    ],
)
def test_a_space_that_is_wrong(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"loss": {"lamm": {"uniform": [0, 1]}}}, "unknown key 'loss.lamm': did you mean 'lam'"),
        ({"loss": {"lam": {"uniform": [0, 2]}}}, "2.0 is refused"),
        ({"train": {"epochs": {"randint": [1, 9]}}}, r"train\.epochs: set tune\.epochs instead"),
        ({"data": {"seed": {"randint": [1, 9]}}}, "only parameters of loss and train"),
        ({}, r"tune\.space is empty"),
    ],
)
def test_a_space_of_no_training(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_space(settings(space).distributions, {})


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"searcher": "optuna"}, "grid cannot be searched by optuna"),
        ({"objective": "both", "scheduler": "asha"}, "both needs scheduler none"),
        ({"scheduler": "pbt"}, "pbt needs searcher random and no grid"),
    ],
)
def test_what_does_not_go_together(others: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings({"loss": {"lam": {"grid": [0.4, 0.5]}}}, **others)


def test_means_are_searched_by_their_elements() -> None:
    space = settings({"loss": {"true_mean": [{"uniform": [0.3, 0.7]}, {"choice": [0.5, 0.6]}]}}).distributions
    assert list(space) == ["loss.true_mean.0", "loss.true_mean.1"]
    check_space(space, {})
    laid = with_values(trial_base({}), {"loss.true_mean.0": 0.4})
    assert laid["loss"]["true_mean"] == [0.4, 0.5]


def test_the_first_trial_has_the_published_values() -> None:
    space = section(TuneConfig, {}).distributions
    assert first_values(space, {}) == {
        "loss.lam": 0.5,
        "loss.true_deviation": 0.8,
        "loss.false_deviation": 0.91,
        "loss.true_ratio": 2.0,
        "loss.false_ratio": 6.0,
        "loss.slope": 15.0,
    }
    assert first_values(space, {"loss": {"lam": 0.3}})["loss.lam"] == 0.3


def test_a_first_trial_outside_of_the_space_is_named() -> None:
    space = settings({"loss": {"slope": {"uniform": [0, 10]}}}).distributions
    with pytest.raises(ConfigError, match=r"loss\.slope leaves out the present value 15\.0"):
        first_values(space, {})


def test_a_condition_hangs_on_the_trial_itself() -> None:
    weight = {"uniform": [0, 1], "when": {"loss.consistency": "jensen_shannon"}}
    form = {"choice": ["jensen_shannon", "none"]}
    space = settings({"loss": {"consistency_weight": weight, "consistency": form}}).distributions
    drawn = {"loss.consistency_weight": 0.3, "loss.consistency": "none"}
    assert active(drawn, space, trial_base({})) == {"loss.consistency": "none"}
    with_form = drawn | {"loss.consistency": "jensen_shannon"}
    assert active(with_form, space, trial_base({})) == with_form


def test_the_weight_of_the_consistency_follows_lam() -> None:
    laid = with_values(trial_base({}), {"loss.lam": 0.8})
    assert laid["loss"]["consistency_weight"] is None
    assert resolved(laid)["loss"]["consistency_weight"] == pytest.approx(0.2)


@given(st.floats(0.2, 0.9), st.integers(0, 30))
def test_values_are_laid_without_a_change_of_the_base(lam: float, slope: int) -> None:
    base = trial_base({})
    laid = with_values(base, {"loss.lam": lam, "loss.slope": float(slope)})
    assert laid["loss"]["lam"] == lam and laid["loss"]["slope"] == slope
    assert base == trial_base({})


@given(st.floats(-1, 2))
def test_a_range_holds_what_lies_in_it(value: float) -> None:
    assert Distribution(uniform=(0.0, 1.0)).holds(value) == (0 <= value <= 1)
