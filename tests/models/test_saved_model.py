from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from nla.errors import WeightsError
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import load_model, read_card, save_model, weights_file

GREY = ImageSpec(16, 1, (0.5,), (0.25,))
FACTS = {"source": "tiny", "classes": ["a", "b", "c"], "fingerprint": "f0", "epoch": 1}


def image(**change: Any) -> dict[str, Any]:
    """Change of a card's field `image`."""
    return {"image": {"size": 16, "channels": 1, "mean": [0.5], "std": [0.25]} | change}


def network(**change: Any) -> dict[str, Any]:
    """Change of a card's field `architecture`."""
    fields = {"name": "resnet18", "width": 4, "stem": "stride2", "dropout": 0.0, "num_classes": 3}
    return {"architecture": fields | change}


def classifier(width: int = 4, classes: int = 3, name: str = "resnet18") -> Classifier:
    torch.manual_seed(0)
    return Classifier(Architecture(name, width, "stride2", 0.0, classes), GREY).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path, model = tmp_path / "models/model.safetensors", classifier()
    save_model(path, model.backbone.state_dict(), {**model.describe(), **FACTS})
    return path


def test_a_model_comes_back_as_it_was(saved: Path) -> None:
    x = torch.arange(2 * 16 * 16, dtype=torch.int64).view(2, 16, 16, 1).to(torch.uint8)
    model, card = load_model(saved)
    assert not model.training
    torch.testing.assert_close(model(x), classifier()(x), rtol=0, atol=0)
    assert card["classes"] == ["a", "b", "c"]
    assert card["sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()


def test_a_resnet50_comes_back_too(tmp_path: Path) -> None:
    path, model = tmp_path / "models/model.safetensors", classifier(name="resnet50")
    save_model(path, model.backbone.state_dict(), {**model.describe(), **FACTS})
    again, card = load_model(path)
    assert card["architecture"]["name"] == "resnet50"
    x = torch.arange(2 * 16 * 16, dtype=torch.int64).view(2, 16, 16, 1).to(torch.uint8)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_nothing_is_left_beside(saved: Path) -> None:
    assert sorted(path.name for path in saved.parent.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file(saved: Path, name: str) -> None:
    (saved.parent / name).unlink()
    with pytest.raises(WeightsError, match=rf"{name}: file not found\. Run `dvc repro -sf train`"):
        load_model(saved)


@pytest.mark.parametrize("kept", [4, 200, -8])
def test_cut_off_weights(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"model\.safetensors: the file is damaged .*dvc repro -sf train"):
        load_model(saved)


def test_weights_of_another_training_than_the_card(saved: Path) -> None:
    """As a stop between the two files leaves them, or a byte that went wrong."""
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors: the sha256 does not match model\.json.*dvc repro"):
        load_model(saved)


def test_a_damaged_card(saved: Path) -> None:
    saved.with_suffix(".json").write_text("{")
    with pytest.raises(WeightsError, match=r"model\.json: not valid JSON .*dvc repro -sf train"):
        load_model(saved)


def test_a_card_of_another_format(saved: Path) -> None:
    saved.with_suffix(".json").write_text(json.dumps({"format": 99}))
    with pytest.raises(WeightsError, match=r"model\.json: format: this version reads 1 \(got 99\)"):
        read_card(saved)


def test_weights_of_another_architecture_name_what_does_not_fit(saved: Path) -> None:
    wide = classifier(width=8)
    save_model(saved, classifier().backbone.state_dict(), {**wide.describe(), **FACTS})
    with pytest.raises(
        WeightsError, match=r"do not fit Architecture.*conv1\.weight is \(4, 1, 3, 3\), not \(8, 1, 3, 3\)"
    ):
        load_model(saved)
    state = classifier().backbone.state_dict()
    state["conv9.weight"] = state.pop("conv1.weight")
    save_model(saved, state, {**classifier().describe(), **FACTS})
    with pytest.raises(WeightsError, match=r"conv1\.weight is missing; conv9\.weight is unknown"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"architecture": None}, r"architecture: "),
        ({"architecture": {"name": "resnet18"}}, r"architecture\.width: field required"),
        (
            {"image": {"size": "16", "channels": 1, "mean": [0.5], "std": [0.25]}},
            r"image\.size: .*integer \(got '16'\)",
        ),
        ({"calibration": 2.0}, r"calibration: "),
        ({"calibration": {"temperature": 0.0}}, r"calibration\.temperature: must be greater than .* \(got 0\.0\)"),
        ({"calibration": {"temperature": float("nan")}}, r"calibration\.temperature: "),
        ({"calibration": {"uniform": 0.9}}, r"calibration\.uniform: must be less than .* \(got 0\.9\)"),
        ({"sha256": 5}, r"sha256: .*string \(got 5\)"),
        (image(size=-16), r"image\.size: must be greater than or equal to 1 \(got -16\)"),
        (image(channels=2), r"image\.channels: must be 1 or 3 \(got 2\)"),
        (image(channels=3), r"image: must have 3 values of mean and of std, one per channel"),
        (image(mean=[math.nan]), r"image\.mean\.0: must be a finite number \(got nan\)"),
        (image(std=[math.inf]), r"image\.std\.0: must be a finite number \(got inf\)"),
        (image(std=[0.0]), r"image\.std\.0: must be greater than 0 \(got 0\.0\)"),
        (image(std=[]), r"image: must have 1 values"),
        (network(name="resnet19"), r"architecture\.name: unknown network: did you mean 'resnet18'\?"),
        (network(stem="stride3"), r"architecture\.stem: unknown stem: did you mean 'stride2'\?"),
        (network(width=10**9), r"architecture\.width: must be less than or equal to 256"),
        (network(head="other"), r"architecture\.head: must be 'linear' or 'cosine'"),
        (network(num_classes=4), r"classes: must have 4 names, as architecture\.num_classes says"),
        ({"classes": ["a", "b"]}, r"classes: must have 3 names"),
        ({"classes": ["a", "b", "b"]}, r"classes: must have a name of its own for each class"),
        ({"classes": ["a", "b", "c\x1b[31m"]}, r"classes: must be names without control characters"),
        ({"classes": ["a", "b", "c\n"]}, r"classes: must be names without control characters"),
        ({"source": None}, r"source: .*string \(got None\)"),
        ({"epoch": 10**30}, r"epoch: must be less than"),
        ({"epoch": -1}, r"epoch: must be greater than or equal to 0"),
        ({"views": {"mirror": True, "shift": -1}}, r"views\.shift: must be greater than or equal to 0"),
        ({"views": {"shift": 10**12}}, r"views\.shift: must be less than or equal to 512"),
        ({"views": {"mirrors": True}}, r"views\.mirrors: unexpected keyword argument"),
        ({"precision": "bf16"}, r"precision: must be 'fp32' \(got 'bf16'\)"),
        ({"classes": "abc"}, r"classes: .*array \(got 'abc'\)"),
    ],
)
def test_a_card_that_does_not_match_names_the_field(saved: Path, change: dict[str, Any], problem: str) -> None:
    card = saved.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(WeightsError, match=rf"model\.json: {problem}.*dvc repro") as raised:
        read_card(saved)
    assert "\n" not in str(raised.value)


def test_a_network_with_an_option_of_a_later_version_is_not_built(saved: Path) -> None:
    card = saved.with_suffix(".json")
    content = json.loads(card.read_text())
    content["architecture"]["depth"] = 7
    card.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"model\.json: architecture\.depth: .*\(got 7\)"):
        read_card(saved)


@pytest.mark.parametrize("field", ["source", "classes", "fingerprint", "epoch", "sha256"])
def test_a_card_without_a_field_names_it(saved: Path, field: str) -> None:
    card = saved.with_suffix(".json")
    content = json.loads(card.read_text())
    del content[field]
    card.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=rf"model\.json: {field}: field required\. Run `dvc repro -sf train`\."):
        read_card(saved)


def test_a_card_without_views_means_the_image_and_its_mirror(saved: Path) -> None:
    """As those of version 0.1 were."""
    card = saved.with_suffix(".json")
    content = json.loads(card.read_text())
    assert (content.pop("views"), content.pop("precision")) == ({"mirror": True, "shift": 0}, "fp32")
    card.write_text(json.dumps(content))
    assert read_card(saved)["views"] == {"mirror": True, "shift": 0}


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path, state = tmp_path / "model.safetensors", classifier().backbone.state_dict()
    state["fc.bias"][1] = math.nan
    save_model(path, state, {**classifier().describe(), **FACTS})
    with pytest.raises(WeightsError, match=r"model\.safetensors: fc\.bias: not all values are finite"):
        load_model(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7\n", r"is a Git LFS pointer\. Run `git lfs pull`"),
        ("<!DOCTYPE html>\n<html>", r"is a web page \(HTML\)\. Download"),
        ("", r"is empty\. Download it again"),
    ],
)
def test_what_a_clone_or_download_left_in_place_of_a_model(saved: Path, name: str, content: str, problem: str) -> None:
    (saved.parent / name).write_text(content)
    with pytest.raises(WeightsError, match=rf"{name} {problem}.*Or: Run `dvc repro -sf train`"):
        load_model(saved)


def test_a_model_is_named_by_its_weights_or_their_folder(saved: Path) -> None:
    assert weights_file(saved) == weights_file(saved.parent) == saved
    for missing, kind in (("typo", "file or folder"), ("typo/model.safetensors", "folder")):
        with pytest.raises(WeightsError, match=rf"{missing}: no such {kind}\. Name a folder with model\.safetensors"):
            weights_file(saved.parent / missing)
    with pytest.raises(WeightsError, match=r"model\.json: a model is a \.safetensors file .*model\.weights"):
        weights_file(saved.with_suffix(".json"))


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_pipe_in_place_of_a_model_is_not_waited_for(saved: Path, name: str) -> None:
    (saved.parent / name).unlink()
    os.mkfifo(saved.parent / name)
    with pytest.raises((WeightsError, OSError), match="a pipe, not a file"):
        load_model(saved)
