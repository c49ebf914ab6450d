"""What a grid is made of, and what is refused in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nla.config.base import read_params
from nla.errors import ConfigError
from nla.study.grid import Grid, read_grid
from nla.study.specs import run_specs
from nla.study.times import TIME, read_times
from nla.study.tuning import tuning_specs

STUDIES = Path(__file__).parents[2] / "studies"
GRID = """
methods:
  ce: {loss: {name: ce}}
  wide: {model: {width: 32}, train: {lr: 0.1}}
conditions:
  clean: {}
  noisy: {noise: {rate: 0.3}}
seeds: [3, 4]
reference: ce
"""
TUNING = """
tuning:
  settings: 3
  conditions: [clean, noisy]
  seed: 9
  space:
    ce: {train: {lr: {loguniform: [0.001, 0.1]}}}
    wide: {train: {weight_decay: {uniform: [0.0, 0.1]}}}
"""
CLAIM = "method: ce, condition: clean"
CLAIMS = f"""
claims:
  - {{{CLAIM}, score: accuracy}}
"""
PARAMS: dict[str, Any] = {"data": {"source": "ferplus", "noise": {"exact": False}}, "train": {"epochs": 2}}


def grid(tmp_path: Path, text: str = GRID) -> Grid:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return read_grid(path)


def test_every_method_meets_every_condition_with_every_seed(tmp_path: Path) -> None:
    found = run_specs(grid(tmp_path), PARAMS)
    assert len({(spec.method, spec.condition, spec.seed) for spec in found}) == len(found) == 2 * 2 * 2
    spec = next(spec for spec in found if (spec.method, spec.condition, spec.seed) == ("wide", "noisy", 4))
    assert spec.params["model"] == {"width": 32}
    assert spec.params["train"] == {"epochs": 2, "lr": 0.1, "seed": 4}
    assert (spec.data.source, spec.data.seed) == ("ferplus", 4)
    assert (spec.data.noise.rate, spec.data.noise.exact) == (0.3, False)
    assert str(spec) == "wide, noisy, seed 4"


def test_methods_share_the_data_of_a_condition_and_seed(tmp_path: Path) -> None:
    """And stand next to each other, so that the tables are read once."""
    configs = [spec.data for spec in run_specs(grid(tmp_path), PARAMS)]
    assert configs[0::2] == configs[1::2]
    assert all(a != b for i, a in enumerate(configs[0::2]) for b in configs[0::2][:i])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("reference: ce", "reference: cee", "reference: 'cee' is not a method: did you mean 'ce'?"),
        ("seeds: [3, 4]", "seeds: [3, 3]", "seeds: duplicate seed in [3, 3]"),
        ("seeds: [3, 4]", "seeds: []", "grid.seeds: "),
        ("seeds: [3, 4]", "caveats: [' ']\nseeds: [3, 4]", "grid.caveats.0: "),
        (CLAIM, "method: cee, condition: clean", "claims.0.method: 'cee' is not a method: did you mean 'ce'?"),
        (CLAIM, "method: ce, condition: clan", "claims.0.condition: 'clan' is not a condition: did you mean 'clean'?"),
        (CLAIM, f"{CLAIM}, against: [wade]", "claims.0.against: 'wade' is not a method: did you mean 'wide'?"),
        (CLAIM, f"{CLAIM}, against: [ce]", "claims.0.against: must be other methods, each once (got ['ce'])"),
        (CLAIM, f"{CLAIM}, against: [wide, wide]", "claims.0.against: must be other methods, each once"),
        (CLAIM, f"{CLAIM}, against: []", "grid.claims.0.against: "),
        (CLAIMS, f"{CLAIMS}  - {{{CLAIM}, score: accuracy}}\n", "claims.0: the same claim twice"),
        ("score: accuracy", "score: f1", "grid.claims.0.score: "),
        ("seeds: [3, 4]", "seeds: [3]", "claims.0: one seed cannot test a claim (got [3])"),
        ("seeds", "sedes", "unknown key 'grid.sedes': did you mean 'seeds'?"),
        ("methods:", "methods: [", "not valid YAML at line"),
        ("[clean, noisy]", "[clean, nosy]", "tuning.conditions: 'nosy' is not a condition: did you mean 'noisy'?"),
        ("[clean, noisy]", "[clean, clean]", "tuning.conditions: duplicate condition"),
        ("[clean, noisy]", "[]", "tuning.conditions: "),
        ("seed: 9", "seed: 4", "tuning.seed: 4 is also in `seeds`"),
        ("    wide: {t", "    wade: {t", "tuning.space: 'wade' is not a method: did you mean 'wide'?"),
        (TUNING[TUNING.index("  space") :], "", "tuning: nothing to search"),
        ("settings: 3", "settings: 1", "tuning.settings: "),
        ("settings: 3", "setings: 3", "unknown key 'grid.tuning.setings': did you mean 'settings'?"),
    ],
)
def test_a_wrong_grid_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        grid(tmp_path, (GRID + CLAIMS + TUNING).replace(old, new))
    assert message in str(caught.value) and "grid.yaml" in str(caught.value)


def test_what_was_tuned_holds_under_every_condition(tmp_path: Path) -> None:
    found = run_specs(grid(tmp_path, GRID + TUNING), PARAMS, {"wide": {"train.weight_decay": 0.01, "loss.lam": 0.3}})
    for spec in found:
        wide = spec.method == "wide"
        assert spec.params["train"].get("weight_decay") == (0.01 if wide else None)
        assert spec.values == ({"train.weight_decay": 0.01, "loss.lam": 0.3} if wide else {})
        assert spec.params["train"].get("lr") == (0.1 if wide else None)  # of the grid: tuning lies over it


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{name: ce}", "{name: cee}", "grid.yaml: ce, clean: loss.name: unknown method 'cee': did you mean 'ce'?"),
        ("rate: 0.3", "rate: 2", "grid.yaml: ce, noisy: params.yaml:\n  data.noise.rate: "),
        ("{lr: 0.1}", "{lr: 0.1, epoch: 3}", "unknown key 'train.epoch': did you mean 'epochs'?"),
        ("clean: {}", "clean: {source: rafdb}", "conditions.clean: source must be the same for all conditions. Set"),
        ("{lr: 0.1}", "{lr: 0.1, soften: true}", "a study has no audit (got train.soften: True)"),
        ("clean: {}", "clean: {correct_test: true}", "a study corrects no labels (got data.correct_test: True)"),
        ("{loss:", "{ray: {}, loss:", "methods.ce: unknown section ray (valid: augment, loss, model, train)"),
    ],
)
def test_an_invalid_run_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_specs(grid(tmp_path, GRID.replace(old, new)), PARAMS)
    assert message in str(caught.value)


def test_a_grid_that_is_missing_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Run this from the study's folder"):
        read_grid(tmp_path / "grid.yaml")


@pytest.mark.parametrize(
    "folder",
    sorted(path.parent for path in STUDIES.glob("*/dvc.yaml") if "pipelines/study.py" in path.read_text()),
    ids=lambda path: path.name,
)
def test_the_projects_studies_can_be_run(folder: Path) -> None:
    grid, params, times = (
        read_grid(folder / "grid.yaml"),
        read_params(folder / "params.yaml"),
        read_times(folder / TIME),
    )
    assert run_specs(grid, params, times=times)
    assert bool(tuning_specs(grid, params, times)) == (grid.tuning is not None)
