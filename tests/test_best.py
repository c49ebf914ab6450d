"""best.yaml: reading, validating and applying the result of a search."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from nla.config.best import read_best, with_best, write_best
from nla.errors import ConfigError
from nla.training.job import training_config


def test_best_keys_are_nested_as_in_params(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    write_best(path, {"loss": {"slope": 10.0, "true_mean": [0.4, 0.5]}})
    assert read_best(path, "") == {"loss": {"slope": 10.0, "true_mean": [0.4, 0.5]}}
    assert YAML(typ="safe", pure=True).load(path) == read_best(path, "")
    write_best(path, {})
    assert read_best(path, "") == {} and path.read_text() == "{}\n"


def test_unusable_file_is_one_line_with_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "best.yaml"
    with pytest.raises(ConfigError, match=r"best\.yaml: file not found\. Run `dvc repro`\."):
        read_best(path, "Run `dvc repro`.")
    for text, message in {
        "train: {lr": r"not valid YAML at line 1\. Run `dvc repro`\.",
        "- lr": r"best\.yaml: expected a mapping of loss and train \(got \['lr'\]\)\. Run `dvc repro`\.$",
        "loss: 0.3": r"best\.yaml: loss: expected a mapping \(got 0\.3\)\. Run `dvc repro`\.$",
        "train:": r"best\.yaml: train: expected a mapping \(got None\)\. Run `dvc repro`\.$",
        "trian: {lr: 0.1}": r"'trian' cannot be searched \(only .*\): did you mean 'train'\? Run `dvc repro`\.$",
        "lam: 0.3": r"best\.yaml: 'lam' cannot be searched \(only loss and train can\)\. Run `dvc repro`\.$",
    }.items():
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_best(path, "Run `dvc repro`.")


@pytest.mark.parametrize("value", [".inf", ".nan", "1000000000000000000000", "'a\\0b'", "https://me:secret@host/x"])
def test_values_are_checked_like_those_of_params(tmp_path: Path, value: str) -> None:
    path = tmp_path / "best.yaml"
    path.write_text(f"train:\n  lr: {value}\n".replace("'", '"'))
    with pytest.raises(ConfigError, match=r"best\.yaml: train\.lr: ") as caught:
        read_best(path, "Run `dvc repro`.")
    assert "secret@" not in str(caught.value)


def test_best_method_replaces_nla_and_its_parameters() -> None:
    """Its trials ran without them, and it would reject them."""
    params = {"loss": {"name": "nla", "lam": 0.4, "variant": "released"}, "train": {"lr": 0.1}}
    found = {"loss": {"name": "elr", "options": {"beta": 0.8}}}
    merged = with_best(params, found)
    assert training_config(merged).loss.name == "elr"
    assert merged == {"loss": {"variant": "released", **found["loss"]}, "train": {"lr": 0.1}}
    assert with_best(params, {"loss": {"slope": 3.0}})["loss"] == {**params["loss"], "slope": 3.0}
    assert with_best(params, {}) == params
