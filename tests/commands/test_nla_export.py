"""`nla export`: ONNX Runtime against PyTorch on the same images."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mlflow_parts import CLASSES, ROOT

from nla.commands.export import main
from nla.errors import CommandError, WeightsError
from nla.evaluation.predict import Views, predict
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import load_model, save_model
from nla.serving import Predictor


def trained(folder: Path, head: str = "linear", channels: int = 1, side: int | None = None) -> Path:
    """A tiny model whose running statistics are not those of a fresh one, and whose answers differ by image."""
    torch.manual_seed(0)
    spec = ImageSpec(16, channels, (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels])
    model = Classifier(Architecture("resnet18", 8, "stride2", 0.1, len(CLASSES), head, side), spec).train()
    with torch.no_grad():
        model(torch.randint(0, 256, (32, 16, 16, channels), dtype=torch.uint8))
        model.backbone.fc.weight.mul_(5)
    card = {**model.describe(), "classes": CLASSES, "source": "synthetic", "fingerprint": "f0", "epoch": 0}
    save_model(folder / "model.safetensors", model.backbone.state_dict(), card)
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("head", "channels", "views", "side"),
    [
        # the graph enlarges the images
        pytest.param("linear", 1, Views(mirror=True, shift=2), 24, marks=pytest.mark.thorough),
        ("cosine", 3, Views(mirror=False, shift=0), None),
        ("linear", 3, Views(mirror=False, shift=0), 20),
    ],
)
def test_the_probabilities_are_those_of_the_predictor(
    tmp_path: Path, head: str, channels: int, views: Views, side: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = trained(tmp_path, head, channels, side), tmp_path / "a/model.onnx"
    card = weights.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"views": asdict(Views(shift=2))}))
    alone = ["--one-view"] if views.count == 1 else []
    main([str(out), "--model", str(weights if channels == 3 else tmp_path), *alone])
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: images uint8 [N, 16, 16, {channels}] -> probabilities [N, 3], mean over ")
    assert f"mean over {views.count} views, " in said.out
    assert said.err == ""
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    model, _ = load_model(weights)
    for n in (1, 5):
        images_NHWC = np.random.default_rng(n).integers(0, 256, (n, 16, 16, channels), np.uint8)
        (p_NC,) = session.run(["probabilities"], {"images": images_NHWC})
        expected = predict(model, images_NHWC, views)
        assert p_NC.dtype == np.float32
        np.testing.assert_allclose(p_NC, expected, atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 0.01, "all answers alike would show nothing"
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"]
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["classes"]) == list(CLASSES)
    assert json.loads(known["views"]) == asdict(views)
    assert (known["image_size"], known["source"], known["fingerprint"]) == ("16", "synthetic", "f0")
    onnx.checker.check_model(out, full_check=True)
    assert str(ROOT).encode() not in out.read_bytes(), "paths of this machine are nobody's business"


@pytest.mark.parametrize(("temperature", "uniform"), [(2.5, 0.0), (0.4, 0.1)])
def test_the_calibration_is_in_the_graph(tmp_path: Path, temperature: float, uniform: float) -> None:
    weights, out = trained(tmp_path), tmp_path / "model.onnx"
    card, calibration = weights.with_suffix(".json"), {"temperature": temperature, "uniform": uniform}
    images_NHW = np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
    before = Predictor.load(weights).predict(images_NHW)
    card.write_text(json.dumps(json.loads(card.read_text()) | {"calibration": calibration}))
    main([str(out), "--model", str(weights)])
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (p_NC,) = session.run(["probabilities"], {"images": images_NHW[..., None]})
    expected = Predictor.load(weights).predict(images_NHW)
    np.testing.assert_allclose(p_NC, expected.probabilities, atol=1e-4)
    assert np.abs(p_NC - before.probabilities).max() > 0.01
    assert [CLASSES[c] for c in p_NC.argmax(1)] == list(before.label) == list(expected.label)
    assert json.loads(session.get_modelmeta().custom_metadata_map["calibration"]) == calibration


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    trained(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CommandError, match=r"needs onnx and onnxscript .*\. Run `pip install -e \.\[onnx\]`"):
        main([str(tmp_path / "model.onnx"), "--model", str(tmp_path)])
    assert not list(tmp_path.glob("*.onnx*"))


def test_a_missing_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.json: file not found"):
        main([str(tmp_path / "model.onnx"), "--model", str(tmp_path)])
