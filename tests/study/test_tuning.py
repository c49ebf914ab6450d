"""Tuning of a study: equally many settings per method, drawn from its space, and the best one by its mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nla.errors import ConfigError, TrainingError
from nla.study.grid import Grid
from nla.study.specs import RunSpec
from nla.study.tuning import Attempt, best_candidate, candidates_of, tuning_specs

PARAMS: dict[str, Any] = {"data": {"source": "ferplus"}, "train": {"epochs": 2}}
COMMON = {"train": {"lr": {"loguniform": [1e-3, 1e-1]}, "optimizer": {"choice": ["adamw", "sgd"]}}}
SPACE = {"elr": {"loss": {"options": {"lam": {"uniform": [1.0, 7.0]}, "beta": {"choice": [0.7, 0.9]}}}}}


def grid(settings: int = 6, **tuning: Any) -> Grid:
    own = {"settings": settings, "conditions": ["noisy"], "seed": 9, "common": COMMON, "space": SPACE, **tuning}
    return Grid.model_validate(
        {
            "methods": {"ce": {"loss": {"name": "ce"}}, "elr": {"loss": {"name": "elr"}}},
            "conditions": {"clean": {}, "noisy": {"noise": {"rate": 0.3}}},
            "seeds": [0],
            "reference": "ce",
            "tuning": own,
        }
    )


def by_method(found: list[RunSpec]) -> dict[str, list[RunSpec]]:
    return {name: [spec for spec in found if spec.method == name] for name in ("ce", "elr")}


def test_without_tuning_there_are_no_trials() -> None:
    assert tuning_specs(grid().model_copy(update={"tuning": None}), PARAMS) == []


def test_each_method_has_its_setting_of_the_grid_and_as_many_draws() -> None:
    trials = by_method(tuning_specs(grid(), PARAMS))
    assert {len(specs) for specs in trials.values()} == {6}
    for specs in trials.values():
        first, *drawn = specs
        assert first.values == {} and "lr" not in first.params["train"]
        assert {(spec.condition, spec.seed, spec.data.noise.rate) for spec in specs} == {("noisy", 9, 0.3)}
        assert all(1e-3 <= spec.params["train"]["lr"] <= 1e-1 for spec in drawn)
        assert len({spec.params["train"]["lr"] for spec in drawn}) == 5
    for spec in trials["elr"][1:]:
        assert spec.params["loss"]["options"] == {
            "lam": spec.values["loss.options.lam"],
            "beta": spec.values["loss.options.beta"],
        }
        assert 1 <= spec.params["loss"]["options"]["lam"] <= 7


def test_each_setting_is_tried_under_each_condition() -> None:
    trials = tuning_specs(grid(3, conditions=["noisy", "clean"]), PARAMS)
    assert [spec.condition for spec in trials] == ["noisy"] * 6 + ["clean"] * 6  # the tables of one are read once
    for noisy, clean in zip(trials[:6], trials[6:], strict=True):
        assert (noisy.method, noisy.setting, noisy.values) == (clean.method, clean.setting, clean.values)
        assert (noisy.data.noise.rate, clean.data.noise.rate) == (0.3, 0.0)


def test_a_method_without_a_space_takes_part_as_it_is() -> None:
    assert {spec.method for spec in tuning_specs(grid(common={}), PARAMS)} == {"elr"}


def test_what_is_common_is_drawn_alike_and_every_draw_is_json() -> None:
    """Also where something of a method's own stands before it."""
    space = {"elr": {"train": {"gamma": {"uniform": [0.1, 0.9]}}, **SPACE["elr"]}}
    trials = by_method(tuning_specs(grid(space=space), PARAMS))
    for ce, elr in zip(trials["ce"], trials["elr"], strict=True):
        assert ce.values.items() <= elr.values.items()
        assert json.loads(json.dumps(elr.values)) == elr.values
    backwards = grid(common={"train": dict(reversed(COMMON["train"].items()))}, space=space)
    found = by_method(tuning_specs(backwards, PARAMS))
    assert [spec.values for spec in found["ce"]] == [spec.values for spec in trials["ce"]]
    assert tuning_specs(grid(), PARAMS) == tuning_specs(grid(), PARAMS)
    longer = by_method(tuning_specs(grid(settings=8, space=space), PARAMS))
    assert [spec.values for spec in longer["elr"][:6]] == [spec.values for spec in trials["elr"]]


def test_no_setting_is_tried_twice() -> None:
    """What the grid says counts, however it is spelt: adamw is the default."""
    common = {"train": {"optimizer": {"choice": ["adamw", "sgd", "adam"]}}}
    drawn = by_method(tuning_specs(grid(3, common=common, space={}), PARAMS))["ce"][1:]
    assert sorted(spec.values["train.optimizer"] for spec in drawn) == ["adam", "sgd"]
    assert [spec.setting for spec in drawn] == [1, 2]
    with pytest.raises(ConfigError, match=r"grid.yaml: tuning of ce: its space has 3 settings, not 4"):
        tuning_specs(grid(4, common=common, space={}), PARAMS)


def test_elements_of_a_published_list_are_searched() -> None:
    methods = {"ce": {"loss": {"name": "ce"}}, "paper": {"loss": {"name": "nla", "variant": "paper"}}}
    space = {"paper": {"loss": {"true_mean": [{"uniform": [0.3, 0.7]}, {"uniform": [0.3, 0.7]}]}}}
    found = tuning_specs(grid(space=space).model_copy(update={"methods": methods}), PARAMS)
    drawn = [spec for spec in found if spec.method == "paper"][1:]
    assert len(drawn) == 5
    for spec in drawn:
        mean = spec.params["loss"]["true_mean"]
        assert mean == [spec.values["loss.true_mean.0"], spec.values["loss.true_mean.1"]]
        assert all(0.3 <= value <= 0.7 for value in mean)


def test_a_condition_of_the_space_holds() -> None:
    space = {"ce": {"train": {"momentum": {"uniform": [0.1, 0.9], "when": {"train.optimizer": "sgd"}}}}}
    drawn = by_method(tuning_specs(grid(20, space=space), PARAMS))["ce"][1:]
    assert {spec.values["train.optimizer"] for spec in drawn} == {"adamw", "sgd"}
    for spec in drawn:
        assert ("train.momentum" in spec.values) == (spec.values["train.optimizer"] == "sgd")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"elr": {"loss": {"options": {"lamb": {"uniform": [0, 1]}}}}}, "tuning of elr:\n  loss.options.lamb: "),
        (
            {"ce": {"model": {"width": {"choice": [8, 16]}}}},
            "cannot be searched (only loss and train can)",
        ),
        ({"ce": {"train": {"lr": {"grid": [0.1, 0.2]}}}}, "tuning of ce: "),
        (
            {"ce": {"train": {"gamma": {"grid": [0.1, 0.2]}}}},
            "train.gamma: `grid` is not supported in a study.",
        ),
        ({"ce": {"train": {"gamma": 0.1}}}, "train.gamma must be a distribution"),
        ({"ce": {"loss": {"name": {"choice": ["ce", "elr"]}}}}, "loss.name cannot be searched: it defines the method"),
        (
            {"ce": {"train": {"epochs": {"choice": [1, 2]}}}},
            "train.epochs cannot be searched: it is the same",
        ),
    ],
)
def test_a_wrong_space_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tuning_specs(grid(space=space), PARAMS)
    assert message in str(caught.value) and "grid.yaml" in str(caught.value)


def attempts(method: str, *settings: tuple[float | None, ...]) -> list[Attempt]:
    """Each setting, with its score under each condition."""
    return [
        Attempt(method, number, f"condition {under}", {"train.lr": 0.1 * number}, value)
        for under in range(len(settings[0]))
        for number, value in enumerate(setting[under] for setting in settings)
    ]


def test_the_best_on_the_average_of_the_conditions_is_taken() -> None:
    """The first of equals; one that diverged under a condition is worth nothing."""
    ce = attempts("ce", (0.5, 0.5), (0.9, 0.0), (0.25, 0.875), (0.875, 0.25), (None, 1.0))
    elr = attempts("elr", (0.4, None), (0.0, 0.0))
    found = {method: best_candidate(method, tried) for method, tried in candidates_of([*ce, *elr]).items()}
    assert {method: best.values for method, best in found.items()} == {
        "ce": {"train.lr": 0.2},
        "elr": {"train.lr": 0.1},
    }
    assert found["ce"].scores == {"condition 0": 0.25, "condition 1": 0.875}
    assert (found["ce"].mean, found["elr"].mean) == (0.5625, 0.0)


def test_a_method_whose_settings_all_diverged_is_named() -> None:
    (tried,) = candidates_of(attempts("elr", (0.9, None), (None, 0.9))).values()
    with pytest.raises(TrainingError, match="every setting of elr diverged under a condition"):
        best_candidate("elr", tried)
