from __future__ import annotations

from pathlib import Path

import pytest

from nla.config.tune import TuneConfig
from nla.errors import ConfigError
from nla.tuning import read_best, search


def test_no_trials_change_nothing(tmp_path: Path) -> None:
    search(TuneConfig(num_samples=0), tmp_path / "best.yaml")
    assert (tmp_path / "best.yaml").read_text() == "{}\n"
    assert read_best(tmp_path / "best.yaml") == {}


def test_a_search_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tune\.num_samples is 3, .* set it to 0"):
        search(TuneConfig(num_samples=3), tmp_path / "best.yaml")
    assert not (tmp_path / "best.yaml").exists()


def test_best_keys_are_nested_as_in_params(tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text("loss: {slope: 1e1}\n")
    assert read_best(tmp_path / "best.yaml") == {"loss": {"slope": 10.0}}
    (tmp_path / "best.yaml").write_text("")
    assert read_best(tmp_path / "best.yaml") == {}


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"best\.yaml is missing: run `dvc repro`"):
        read_best(tmp_path / "best.yaml")
