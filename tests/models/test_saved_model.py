from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nla.errors import WeightsError
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import load_model, read_card, save_model

GREY = ImageSpec(16, 1, (0.5,), (0.25,))


def classifier(width: int = 4, classes: int = 3, name: str = "resnet18") -> Classifier:
    torch.manual_seed(0)
    return Classifier(Architecture(name, width, "stride2", 0.0, classes), GREY).eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path, model = tmp_path / "models/model.safetensors", classifier()
    save_model(path, model.backbone.state_dict(), {**model.describe(), "classes": ["a", "b", "c"]})
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
    save_model(path, model.backbone.state_dict(), model.describe())
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


@pytest.mark.parametrize("kept", [0, 4, 200, -8])
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
    save_model(saved, classifier().backbone.state_dict(), wide.describe())
    with pytest.raises(
        WeightsError, match=r"do not fit Architecture.*conv1\.weight is \(4, 1, 3, 3\), not \(8, 1, 3, 3\)"
    ):
        load_model(saved)
    state = classifier().backbone.state_dict()
    state["conv9.weight"] = state.pop("conv1.weight")
    save_model(saved, state, classifier().describe())
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
        ({"sha256": 5}, r"sha256: .*string \(got 5\)"),
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
