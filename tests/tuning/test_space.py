"""The space of a search: what it may hold, and how a trial's values are laid over the parameters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.config.base import section
from nla.config.tune import Distribution, TuneConfig
from nla.errors import ConfigError
from nla.methods import METHODS as METHODS_BY_NAME
from nla.tuning.space import active, check_space, first_values, resolved, trial_base, with_values

WHEN: dict[str, Any] = {"uniform": [0.2, 0.9]}
METHODS: dict[str, Any] = {
    "loss": {
        "name": {"choice": ["nla", "elr"]},
        "slope": {"uniform": [0, 30], "when": {"loss.name": "nla"}},
        "options": {"beta": {"uniform": [0.5, 0.9], "when": {"loss.name": "elr"}}},
    }
}


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
        ({"loss": {"slope": {"quniform": [0, 31, 5]}}}, "ends that are multiples of its step 5"),
        ({"loss": {"slope": {"quniform": [1, 30, 5]}}}, "ends that are multiples of its step 5"),
        ({"loss": {"lam": {"choice": []}}}, "at least 1 item"),
        ({"loss": {"options": {"beta": {"unifrom": [0, 1]}}}}, r"loss\.options\.beta: unifrom: .*valid are uniform"),
        ({"loss": {"options": {}}}, r"loss\.options: exactly one of"),
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
        ({"train": {"epochs": {"randint": [1, 9]}}}, r"train\.epochs: cannot be searched\. Set tune\.epochs instead"),
        ({"data": {"seed": {"randint": [1, 9]}}}, "data cannot be searched \\(only loss and train can\\)"),
        ({}, r"tune\.space: empty"),
        (
            {"loss": {"lam": WHEN | {"when": {"loss.lamm": 1}}}},
            r"lam: when: unknown parameter 'loss\.lamm': did you mean",
        ),
        ({"loss": {"lam": WHEN | {"when": {"loss.consistency": "none"}}}}, "no trial has loss.consistency = 'none'"),
        ({"loss": {"lam": WHEN | {"when": {"train.lr": 0.5}}, "slope": WHEN}}, r"no trial has train\.lr = 0\.5"),
        ({"loss": {"options": {"beta": {"uniform": [0, 1]}}}}, "loss.options.beta: unknown option of nla"),
        (
            {
                "loss": {
                    "name": {"choice": ["nla", "elr"]},
                    "options": {"beta": {"uniform": [0.5, 1.5], "when": {"loss.name": "elr"}}},
                }
            },
            r"beta: 1\.5 is refused: loss\.options: beta must be in \[0, 1\)",
        ),
    ],
)
def test_a_space_of_no_training(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_space(settings(space).distributions, {})


@pytest.mark.parametrize(
    ("space", "when"),
    [
        ({"consistency": {"choice": ["none", "jensen_shannon"]}}, {"loss.consistency": "none"}),
        ({"slope": {"quniform": [0, 30, 5]}}, {"loss.slope": 10}),
        ({"variant": {"choice": ["paper", "released"]}}, {"loss.normalized": True}),  # as `paper` has it
        ({"variant": {"choice": ["paper", "released"]}}, {"loss.normalized": False}),  # and `released`
        ({}, {"train.momentum": 0.9}),
    ],
)
def test_a_condition_that_a_trial_can_have(space: dict[str, Any], when: dict[str, Any]) -> None:
    check_space(settings({"loss": {"lam": WHEN | {"when": when}, **space}}).distributions, {})


def test_options_of_a_method_are_searched() -> None:
    space = settings(METHODS).distributions
    assert list(space) == ["loss.name", "loss.slope", "loss.options.beta"]
    check_space(space, {})
    assert first_values(space, {}) == {"loss.name": "nla", "loss.slope": 15.0}, "beta does not count there"
    drawn = {"loss.name": "elr", "loss.slope": 3.0, "loss.options.beta": 0.6}
    kept = active(drawn, space, trial_base({}))
    assert kept == {"loss.name": "elr", "loss.options.beta": 0.6}
    assert with_values(trial_base({}), kept)["loss"]["options"] == {"beta": 0.6}
    assert active(drawn | {"loss.name": "nla"}, space, trial_base({})) == {"loss.name": "nla", "loss.slope": 3.0}
    elr = {"loss": {"name": "elr", "options": {"beta": 0.8}}}
    assert first_values(space, elr) == {"loss.name": "elr", "loss.options.beta": 0.8}


@pytest.mark.parametrize("method", METHODS_BY_NAME)
def test_every_method_can_be_tried(method: str) -> None:
    check_space(settings({"loss": {"name": {"choice": [method]}}}).distributions, {})


def test_the_space_of_nla_is_not_that_of_another_method() -> None:
    with pytest.raises(ConfigError, match=r"tune\.space\.loss\.lam: is an option of nla \(loss\.name is ce\)"):
        check_space(section(TuneConfig, {}).distributions, {"loss": {"name": "ce"}})
    names = {"loss": {"name": {"choice": ["ce", "nla"]}, "slope": {"uniform": [0, 30]}}}
    check_space(settings(names).distributions, {"loss": {"name": "ce"}})
    with pytest.raises(ConfigError, match=r"loss\.slope: has no current value\. Add `when`"):
        first_values(settings(names).distributions, {"loss": {"name": "ce"}})


def test_a_condition_hangs_on_another_one() -> None:
    chain = {
        "name": {"choice": ["nla", "gce", "elr"]},
        "consistency": {"choice": ["none", "jensen_shannon"], "when": {"loss.name": "nla"}},
        "consistency_weight": {"uniform": [0.0, 1.0], "when": {"loss.consistency": "jensen_shannon"}},
    }
    space = settings({"loss": chain}).distributions
    check_space(space, {"loss": {"name": "gce"}})
    drawn = {"loss.name": "nla", "loss.consistency": "jensen_shannon", "loss.consistency_weight": 0.5}
    base = trial_base({"loss": {"name": "gce"}})
    assert active(drawn, space, base) == drawn
    assert active(drawn | {"loss.name": "elr"}, space, base) == {"loss.name": "elr"}


@pytest.mark.parametrize("searched", ["train.optimizer", "train.ema", "loss.name"])
def test_pbt_hands_over_no_other_optimizer_average_or_loss(searched: str) -> None:
    choices = {"train.optimizer": ["sgd", "adamw"], "train.ema": [0.0, 0.9], "loss.name": ["nla", "ce"]}
    section_name, key = searched.split(".")
    space = {section_name: {key: {"choice": choices[searched]}}}
    with pytest.raises(ConfigError, match=f"pbt cannot change {searched}: take it out of the space"):
        settings(space, scheduler="pbt")
    assert settings(space, scheduler="asha")


def test_a_grid_makes_more_trials() -> None:
    space = {"loss": {"lam": {"grid": [0.4, 0.5, 0.6]}, "slope": {"grid": [5, 15]}, "true_ratio": {"uniform": [1, 8]}}}
    assert settings(space).trials == 12 and settings({}).trials == 2


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
    with pytest.raises(ConfigError, match=r"loss\.slope: does not contain the current value 15\.0"):
        first_values(space, {})


def test_a_condition_hangs_on_the_trial_itself() -> None:
    weight = {"uniform": [0, 1], "when": {"loss.consistency": "jensen_shannon"}}
    form = {"choice": ["jensen_shannon", "none"]}
    space = settings({"loss": {"consistency_weight": weight, "consistency": form}}).distributions
    drawn = {"loss.consistency_weight": 0.3, "loss.consistency": "none"}
    assert active(drawn, space, trial_base({})) == {"loss.consistency": "none"}
    with_form = drawn | {"loss.consistency": "jensen_shannon"}
    assert active(with_form, space, trial_base({})) == with_form


@pytest.mark.parametrize("base", ["nla", "elr"])
@pytest.mark.parametrize("chosen", ["nla", "elr", "gce"])
def test_a_method_is_tried_without_the_options_of_another(base: str, chosen: str) -> None:
    """Whichever one params.yaml has."""
    searched = {
        "name": {"choice": ["nla", "elr", "gce"]},
        "slope": {"uniform": [0, 30], "when": {"loss.name": "nla"}},
        "options": {
            "beta": {"uniform": [0.5, 0.9], "when": {"loss.name": "elr"}},
            "q": {"uniform": [0.5, 0.9], "when": {"loss.name": "gce"}},
        },
    }
    space = settings({"loss": searched}).distributions
    drawn = {"loss.options.beta": 0.6, "loss.options.q": 0.8, "loss.slope": 2.0, "loss.name": chosen}
    own = {"nla": "loss.slope", "elr": "loss.options.beta", "gce": "loss.options.q"}[chosen]
    params = {"loss": {"name": base}}
    check_space(space, params)
    assert active(drawn, space, trial_base(params)) == {"loss.name": chosen, own: drawn[own]}


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


@given(st.floats(-10, 40))
def test_the_nearest_value_is_of_the_space(value: float) -> None:
    steps, plain = Distribution(quniform=(0.0, 30.0, 5.0)), Distribution(uniform=(0.0, 30.0))
    assert steps.holds(steps.nearest(value)) and plain.holds(plain.nearest(value))
    assert abs(steps.nearest(value) - min(max(value, 0), 30)) <= 2.5
    assert plain.nearest(value) == min(max(value, 0), 30)
