"""The space of a search: its validation, and how the values of a trial change the parameters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.config.base import section
from nla.config.tune import Distribution, TuneConfig
from nla.errors import ConfigError
from nla.methods import METHODS as METHODS_BY_NAME
from nla.tuning.space import active, as_sections, check_space, first_values, resolved, trial_base, with_values

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
        ({"loss": {"lam": {"unifrom": [0, 1]}}}, r"loss\.lam: unknown key 'unifrom': did you mean 'uniform'"),
        ({"loss": {"lam": {"uniform": [0, 1], "choice": [1]}}}, "exactly one of .*, not uniform, choice"),
        ({"loss": {"lam": {"uniform": [1, 0]}}}, "uniform needs finite ends with low < high, not 1, 0"),
        ({"loss": {"lam": {"loguniform": [0, 1]}}}, "loguniform needs low > 0, not 0"),
        ({"loss": {"lam": {"quniform": [0, 1, 2]}}}, "0 < step <= high - low, not step 2"),
        ({"loss": {"slope": {"quniform": [0, 31, 5]}}}, "ends that are multiples of its step 5"),
        ({"loss": {"slope": {"quniform": [1, 30, 5]}}}, "ends that are multiples of its step 5"),
        ({"loss": {"lam": {"choice": []}}}, "at least 1 item"),
        ({"loss": {"options": {"beta": {"unifrom": [0, 1]}}}}, r"loss\.options\.beta: unknown key 'unifrom'"),
        ({"loss": {"options": {}}}, r"loss\.options: needs exactly one of"),
        ({"loss": {"lam": 0.5}}, r"loss\.lam must be a distribution such as"),
    ],
)
def test_invalid_distribution_is_an_error(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(space)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"loss": {"lamm": {"uniform": [0, 1]}}}, "unknown key 'loss.lamm': did you mean 'lam'"),
        ({"loss": {"lam": {"uniform": [0, 2]}}}, r"invalid value 2\.0"),
        ({"train": {"epochs": {"randint": [1, 9]}}}, r"train\.epochs: cannot be searched\. Set tune\.epochs instead"),
        ({"data": {"seed": {"randint": [1, 9]}}}, r"data cannot be searched \(only loss and train can\)"),
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
            r"beta: invalid value 1\.5: loss\.options: beta must be in \[0, 1\)",
        ),
    ],
)
def test_space_that_training_rejects_is_an_error(space: dict[str, Any], message: str) -> None:
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
def test_possible_condition_is_accepted(space: dict[str, Any], when: dict[str, Any]) -> None:
    check_space(settings({"loss": {"lam": WHEN | {"when": when}, **space}}).distributions, {})


def test_options_of_a_method_can_be_searched() -> None:
    space = settings(METHODS).distributions
    assert list(space) == ["loss.name", "loss.slope", "loss.options.beta"]
    check_space(space, {})
    assert first_values(space, {}) == {"loss.name": "nla", "loss.slope": 15.0}, "beta is inactive there"
    drawn = {"loss.name": "elr", "loss.slope": 3.0, "loss.options.beta": 0.6}
    in_force = active(drawn, space, trial_base({}))
    assert in_force == {"loss.name": "elr", "loss.options.beta": 0.6}
    assert with_values(trial_base({}), in_force)["loss"]["options"] == {"beta": 0.6}
    assert active(drawn | {"loss.name": "nla"}, space, trial_base({})) == {"loss.name": "nla", "loss.slope": 3.0}
    elr = {"loss": {"name": "elr", "options": {"beta": 0.8}}}
    assert first_values(space, elr) == {"loss.name": "elr", "loss.options.beta": 0.8}


@pytest.mark.parametrize("method", METHODS_BY_NAME)
def test_every_method_can_be_searched(method: str) -> None:
    check_space(settings({"loss": {"name": {"choice": [method]}}}).distributions, {})


def test_parameters_of_nla_cannot_be_searched_for_another_method() -> None:
    with pytest.raises(ConfigError, match=r"tune\.space\.loss\.lam: is an option of nla \(loss\.name is ce\)"):
        check_space(section(TuneConfig, {}).distributions, {"loss": {"name": "ce"}})
    names = {"loss": {"name": {"choice": ["ce", "nla"]}, "slope": {"uniform": [0, 30]}}}
    check_space(settings(names).distributions, {"loss": {"name": "ce"}})
    with pytest.raises(ConfigError, match=r"loss\.slope: has no current value\. Add `when`"):
        first_values(settings(names).distributions, {"loss": {"name": "ce"}})


def test_conditions_can_be_chained() -> None:
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
def test_pbt_rejects_what_a_copied_checkpoint_depends_on(searched: str) -> None:
    choices = {"train.optimizer": ["sgd", "adamw"], "train.ema": [0.0, 0.9], "loss.name": ["nla", "ce"]}
    section_name, key = searched.split(".")
    space = {section_name: {key: {"choice": choices[searched]}}}
    with pytest.raises(ConfigError, match=f"pbt cannot change {searched}: remove it from the space"):
        settings(space, scheduler="pbt")
    assert settings(space, scheduler="asha")


def test_grid_multiplies_the_number_of_trials() -> None:
    space = {"loss": {"lam": {"grid": [0.4, 0.5, 0.6]}, "slope": {"grid": [5, 15]}, "true_ratio": {"uniform": [1, 8]}}}
    assert settings(space).trials == 12 and settings({}).trials == 2


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"searcher": "optuna"}, "`grid` is not supported by searcher optuna: use `choice`"),
        ({"objective": "both", "scheduler": "asha"}, "both needs scheduler none"),
        ({"scheduler": "pbt"}, "pbt needs searcher random and no `grid`"),
    ],
)
def test_settings_that_cannot_be_combined(others: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings({"loss": {"lam": {"grid": [0.4, 0.5]}}}, **others)


def test_elements_of_a_list_are_searched() -> None:
    space = settings({"loss": {"true_mean": [{"uniform": [0.3, 0.7]}, {"choice": [0.5, 0.6]}]}}).distributions
    assert list(space) == ["loss.true_mean.0", "loss.true_mean.1"]
    check_space(space, {})
    laid = with_values(trial_base({}), {"loss.true_mean.0": 0.4})
    assert laid["loss"]["true_mean"] == [0.4, 0.5]


def test_first_trial_has_the_published_values() -> None:
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


def test_value_in_force_outside_of_the_space_is_an_error() -> None:
    space = settings({"loss": {"slope": {"uniform": [0, 10]}}}).distributions
    with pytest.raises(ConfigError, match=r"tune\.space\.loss\.slope: does not contain the current value 15\.0"):
        first_values(space, {})


def test_condition_depends_on_the_values_of_the_trial() -> None:
    weight = {"uniform": [0, 1], "when": {"loss.consistency": "jensen_shannon"}}
    form = {"choice": ["jensen_shannon", "none"]}
    space = settings({"loss": {"consistency_weight": weight, "consistency": form}}).distributions
    drawn = {"loss.consistency_weight": 0.3, "loss.consistency": "none"}
    assert active(drawn, space, trial_base({})) == {"loss.consistency": "none"}
    with_form = drawn | {"loss.consistency": "jensen_shannon"}
    assert active(with_form, space, trial_base({})) == with_form


@pytest.mark.parametrize("base", ["nla", "elr"])
@pytest.mark.parametrize("chosen", ["nla", "elr", "gce"])
def test_trial_of_a_method_has_no_options_of_another(base: str, chosen: str) -> None:
    """Whichever method params.yaml has."""
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


def test_default_consistency_weight_depends_on_lam() -> None:
    laid = with_values(trial_base({}), {"loss.lam": 0.8})
    assert laid["loss"]["consistency_weight"] is None
    assert resolved(laid)["loss"]["consistency_weight"] == pytest.approx(0.2)


@given(st.floats(0.2, 0.9), st.integers(0, 30))
def test_with_values_does_not_change_its_argument(lam: float, slope: int) -> None:
    base = trial_base({})
    laid = with_values(base, {"loss.lam": lam, "loss.slope": float(slope)})
    assert laid["loss"]["lam"] == lam and laid["loss"]["slope"] == slope
    assert base == trial_base({})


@given(st.floats(-1, 2))
def test_uniform_contains_its_range(value: float) -> None:
    assert Distribution(uniform=(0.0, 1.0)).contains(value) == (0 <= value <= 1)


@given(st.floats(-10, 40))
def test_nearest_value_is_in_the_range(value: float) -> None:
    steps, plain = Distribution(quniform=(0.0, 30.0, 5.0)), Distribution(uniform=(0.0, 30.0))
    assert steps.contains(steps.nearest(value)) and plain.contains(plain.nearest(value))
    assert abs(steps.nearest(value) - min(max(value, 0), 30)) <= 2.5
    assert plain.nearest(value) == min(max(value, 0), 30)


def test_best_values_are_nested_with_whole_lists() -> None:
    values = {"loss.true_mean.1": 0.6, "loss.lam": 0.3, "train.lr": 0.01}
    found = as_sections(values, trial_base({}))
    assert found == {"loss": {"true_mean": [0.5, 0.6], "lam": 0.3}, "train": {"lr": 0.01}}
    method = {"loss.name": "elr", "loss.options.beta": 0.6}
    assert as_sections(method, trial_base({})) == {"loss": {"name": "elr", "options": {"beta": 0.6}}}
