"""Blocks of a grid: parts with methods, conditions, seeds and parameters of their own; conditions that change more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from nla.errors import ConfigError
from nla.study.grid import Grid, read_grid
from nla.study.specs import RunSpec, run_specs
from nla.study.tuning import tuning_specs

PARAMS: dict[str, Any] = {"data": {"source": "ferplus"}, "train": {"epochs": 2, "lr": 0.01}}
GRID = """
methods:
  ce: {loss: {name: ce}}
  elr: {loss: {name: elr}, train: {lr: 0.02}}
  plus: {loss: {name: plus}}
conditions:
  symmetric 30 %: {noise: {rate: 0.3, valid: true}}
  FER2013: {contempt: false, label_rule: fer2013, drop_leaks: true, train: {batch_size: 32}}
  imbalance: {imbalance_factor: 150}
  fewer rows: {train_rows: 17000}
seeds: [1, 2]
reference: ce
blocks:
  noise: {conditions: [symmetric 30 %, FER2013]}
  long: {methods: [ce, plus], conditions: [FER2013], seeds: [1], params: {model: {width: 32}, data: {image_size: 100}}}
  imbalance: {methods: [ce, elr], conditions: [imbalance, fewer rows], tuned: false}
tuning:
  settings: 2
  conditions: [symmetric 30 %]
  seed: 9
  candidates:
    all: [{train: {lr: 0.005}}]
    ce: [{loss: {name: label_smoothing, options: {eps: 0.1}}}]
"""


def grid(tmp_path: Path, text: str = GRID) -> Grid:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return read_grid(path)


def specs(tmp_path: Path, tuned: dict[str, Any] | None = None) -> list[RunSpec]:
    return run_specs(grid(tmp_path), PARAMS, tuned)


def test_each_block_is_a_part_with_what_it_names_and_the_rest_of_the_grid(tmp_path: Path) -> None:
    found = specs(tmp_path)
    assert len(found) == 2 * 2 * 3 + 1 * 1 * 2 + 2 * 2 * 2
    assert list(dict.fromkeys(spec.table for spec in found)) == [
        "symmetric 30 %, noise",
        "FER2013, noise",
        "FER2013, long",
        "imbalance, imbalance",
        "fewer rows, imbalance",
    ]
    long = [spec for spec in found if spec.block == "long"]
    assert [(spec.method, spec.seed) for spec in long] == [("ce", 1), ("plus", 1)]
    assert {(spec.params["model"]["width"], spec.data.image_size) for spec in long} == {(32, 100)}
    assert str(long[0]) == "ce, FER2013, long, seed 1"


def test_all_methods_of_a_condition_and_seed_stand_together(tmp_path: Path) -> None:
    """So that an interrupted study has whole replicates."""
    found = [(spec.table, spec.seed) for spec in specs(tmp_path)]
    assert len(list(dict.fromkeys(found))) == sum(
        one != other for one, other in zip([None, *found], found, strict=False)
    )


def test_a_condition_sets_any_parameter_of_data_and_train(tmp_path: Path) -> None:
    spec = next(spec for spec in specs(tmp_path) if spec.condition == "FER2013")
    assert (spec.data.label_rule, spec.data.contempt, spec.data.drop_leaks) == ("fer2013", False, True)
    assert spec.params["train"] == {"epochs": 2, "lr": 0.01, "batch_size": 32, "seed": 1}
    rows = {spec.condition: (spec.data.train_rows, spec.data.imbalance_factor) for spec in specs(tmp_path)}
    assert rows["fewer rows"] == (17000, None) and rows["imbalance"] == (None, 150)
    assert next(spec for spec in specs(tmp_path) if spec.condition == "symmetric 30 %").data.noise.valid


def test_a_block_can_keep_the_settings_of_the_grid(tmp_path: Path) -> None:
    found = specs(tmp_path, {"elr": {"train.lr": 0.5}})
    rates = {(spec.block, spec.params["train"]["lr"]) for spec in found if spec.method == "elr"}
    assert rates == {("noise", 0.5), ("imbalance", 0.02)}


def test_candidates_are_those_listed_for_the_method_or_for_all(tmp_path: Path) -> None:
    found = [(spec.method, spec.setting, dict(spec.values)) for spec in tuning_specs(grid(tmp_path), PARAMS)]
    smoothed = {"loss.name": "label_smoothing", "loss.options.eps": 0.1}
    assert found == [
        ("ce", 0, {}),
        ("ce", 1, smoothed),
        ("elr", 0, {}),
        ("elr", 1, {"train.lr": 0.005}),
        ("plus", 0, {}),
        ("plus", 1, {"train.lr": 0.005}),
    ]


def test_tuning_has_the_parameters_of_the_block_that_it_names(tmp_path: Path) -> None:
    text = GRID.replace("  seed: 9", "  seed: 9\n  block: long").replace(
        "[symmetric 30 %]\n  seed", "[FER2013]\n  seed"
    )
    assert {spec.params["model"]["width"] for spec in tuning_specs(grid(tmp_path, text), PARAMS)} == {32}
    found = {spec.params.get("model", {}).get("width", 16) for spec in tuning_specs(grid(tmp_path), PARAMS)}
    assert found == {16}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "methods: [ce, plus]",
            "methods: [ce, puls]",
            "blocks.long.methods: 'puls' is not a method: did you mean 'plus'?",
        ),
        ("conditions: [FER2013], s", "conditions: [FER], s", "blocks.long.conditions: 'FER' is not a condition"),
        ("seeds: [1], p", "seeds: [1, 1], p", "blocks.long.seeds: duplicate seed in [1, 1]"),
        ("seeds: [1], p", "seeds: [9], p", "tuning.seed: 9 is also in `seeds`"),
        ("tuned: false", "tuend: false", "unknown key 'grid.blocks.imbalance.tuend': did you mean 'tuned'?"),
        ("settings: 2", "settings: 3", "tuning.candidates: ce must have 2, as the setting of the grid is the first"),
        ("    all:", "    al:", "tuning.candidates: 'al' is not a method"),
        ("  seed: 9", "  seed: 9\n  block: lang", "tuning.block: 'lang' is not a block: did you mean 'long'?"),
    ],
)
def test_a_wrong_block_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid(tmp_path, GRID.replace(old, new))
    assert message in str(caught.value) and "grid.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("params: {model", "params: {ray: {}, model", "blocks.long.params: unknown section ray (valid: augment, loss"),
        ("data: {image_size: 100}", "data: {source: rafdb}", "blocks.long.params.data: source must be the same"),
        ("train: {batch_size: 32}", "train: {batch: 32}", "unknown key 'train.batch': did you mean 'batch_size'?"),
        ("train: {batch_size: 32}", "train: 3", "conditions.FER2013.train: must be a section (got 3)"),
    ],
)
def test_a_wrong_run_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_specs(grid(tmp_path, GRID.replace(old, new)), PARAMS)
    assert message in str(caught.value)


def test_what_cannot_be_tuned_is_refused(tmp_path: Path) -> None:
    text = GRID.replace("{train: {lr: 0.005}}", "{train: {epochs: 9}}")
    with pytest.raises(ConfigError, match=r"tuning\.candidates: elr: train\.epochs cannot be tuned"):
        tuning_specs(grid(tmp_path, text), PARAMS)
    twice = GRID.replace("{train: {lr: 0.005}}", "{train: {lr: 0.02}}")
    with pytest.raises(ConfigError, match="tuning of elr: its space has 1 settings, not 2"):
        tuning_specs(grid(tmp_path, twice), PARAMS)


CLAIMED = """
claims:
  - {method: ce, condition: FER2013, block: long, score: accuracy}
  - {method: elr, condition: imbalance, score: mean_accuracy}
"""


def test_a_claim_is_of_a_table(tmp_path: Path) -> None:
    found = grid(tmp_path, GRID.replace("seeds: [1], params", "params") + CLAIMED).claims_of_tables
    assert [claim.condition for claim in found] == ["FER2013, long", "imbalance, imbalance"]
    assert {claim.block for claim in found} == {None}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "block: long, ",
            "",
            "claims.0.block: must name one block that has the condition ('FER2013' is in noise, ",
        ),
        ("block: long", "block: imbalance", "must name one block that has the condition ('FER2013' is in none)"),
        ("block: long", "block: lang", "claims.0.block: 'lang' is not a block: did you mean 'long'?"),
        (
            "method: ce, condition",
            "method: elr, condition",
            "claims.0.method: 'elr' is not a method: valid are ce",
        ),
        ("block: long", "block: long, against: [elr]", "claims.0.against: 'elr' is not a method"),
        ("params: {model: {w", "seeds: [1], params: {model: {w", "claims.0: one seed cannot test a claim (got [1])"),
    ],
)
def test_a_claim_of_no_table_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = GRID.replace("seeds: [1], params", "params") + CLAIMED
    assert old in text
    with pytest.raises(ConfigError, match=re.escape(message)):
        grid(tmp_path, text.replace(old, new, 1))
