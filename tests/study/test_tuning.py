"""Every method is tuned by as many trials, drawn from its space, and the best on validation is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nla.errors import ConfigError, TrainingError
from nla.study.grid import Cell, Grid
from nla.study.tuning import best_values, trial_cells

PARAMS: dict[str, Any] = {"data": {"source": "ferplus"}, "train": {"epochs": 2}}
COMMON = {"train": {"lr": {"loguniform": [1e-3, 1e-1]}, "optimizer": {"choice": ["adamw", "sgd"]}}}
SPACE = {"elr": {"loss": {"options": {"lam": {"uniform": [1.0, 7.0]}, "beta": {"choice": [0.7, 0.9]}}}}}


def grid(trials: int = 6, **tuning: Any) -> Grid:
    own = {"trials": trials, "condition": "noisy", "seed": 9, "common": COMMON, "space": SPACE, **tuning}
    return Grid.model_validate(
        {
            "methods": {"ce": {"loss": {"name": "ce"}}, "elr": {"loss": {"name": "elr"}}},
            "conditions": {"clean": {}, "noisy": {"noise": {"rate": 0.3}}},
            "seeds": [0],
            "reference": "ce",
            "tuning": own,
        }
    )


def by_method(found: list[Cell]) -> dict[str, list[Cell]]:
    return {name: [cell for cell in found if cell.method == name] for name in ("ce", "elr")}


def test_without_tuning_there_are_no_trials() -> None:
    assert trial_cells(grid().model_copy(update={"tuning": None}), PARAMS) == []


def test_each_method_has_its_setting_of_the_grid_and_as_many_draws() -> None:
    trials = by_method(trial_cells(grid(), PARAMS))
    assert {len(cells) for cells in trials.values()} == {6}
    for cells in trials.values():
        first, *drawn = cells
        assert first.values == {} and "lr" not in first.params["train"]
        assert {(cell.condition, cell.seed, cell.data.noise.rate) for cell in cells} == {("noisy", 9, 0.3)}
        assert all(1e-3 <= cell.params["train"]["lr"] <= 1e-1 for cell in drawn)
        assert len({cell.params["train"]["lr"] for cell in drawn}) == 5
    for cell in trials["elr"][1:]:
        assert cell.params["loss"]["options"] == {
            "lam": cell.values["loss.options.lam"],
            "beta": cell.values["loss.options.beta"],
        }
        assert 1 <= cell.params["loss"]["options"]["lam"] <= 7


def test_what_is_common_is_drawn_alike_and_every_draw_is_json() -> None:
    trials = by_method(trial_cells(grid(), PARAMS))
    for ce, elr in zip(trials["ce"], trials["elr"], strict=True):
        common = {name: value for name, value in elr.values.items() if name.startswith("train.")}
        assert common == ce.values
        assert json.loads(json.dumps(elr.values)) == elr.values
    assert trial_cells(grid(), PARAMS) == trial_cells(grid(), PARAMS)
    longer = by_method(trial_cells(grid(trials=8), PARAMS))
    assert [cell.values for cell in longer["elr"][:6]] == [cell.values for cell in trials["elr"]]


def test_a_condition_of_the_space_holds() -> None:
    space = {"ce": {"train": {"momentum": {"uniform": [0.1, 0.9], "when": {"train.optimizer": "sgd"}}}}}
    drawn = by_method(trial_cells(grid(20, space=space), PARAMS))["ce"][1:]
    assert {cell.values["train.optimizer"] for cell in drawn} == {"adamw", "sgd"}
    for cell in drawn:
        assert ("train.momentum" in cell.values) == (cell.values["train.optimizer"] == "sgd")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"elr": {"loss": {"options": {"lamb": {"uniform": [0, 1]}}}}}, "tuning of elr:\n  loss.options.lamb: "),
        ({"ce": {"model": {"width": {"choice": [8, 16]}}}}, "only parameters of loss and train can be searched"),
        ({"ce": {"train": {"lr": {"grid": [0.1, 0.2]}}}}, "tuning of ce: "),
        ({"ce": {"train": {"gamma": {"grid": [0.1, 0.2]}}}}, "train.gamma has a grid"),
        ({"ce": {"train": {"gamma": 0.1}}}, "train.gamma must be a distribution"),
    ],
)
def test_a_wrong_space_is_refused(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trial_cells(grid(space=space), PARAMS)
    assert message in str(caught.value) and "grid.yaml" in str(caught.value)


def test_the_best_on_validation_is_taken() -> None:
    trials = trial_cells(grid(trials=3), PARAMS)
    reached = [0.5, 0.7, 0.6, 0.4, 0.4, 0.3]
    tuned = best_values(zip(trials, reached, strict=True), ["ce", "elr"])
    assert tuned == {"ce": trials[1].values, "elr": {}}  # the first of equals


def test_a_method_whose_trials_all_failed_is_named() -> None:
    trials = trial_cells(grid(trials=3), PARAMS)
    with pytest.raises(TrainingError, match="every trial of elr failed"):
        best_values(((cell, 0.5) for cell in trials if cell.method == "ce"), ["ce", "elr"])
