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
from mlflow_parts import CLASSES, ROOT, write_samples

from nla.commands.export import main
from nla.data.images import decode, encode_png
from nla.errors import CommandError, DataError, WeightsError
from nla.evaluation.predict import Views, predict
from nla.models.calibration import Calibration
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


def crops(folder: Path, per_class: int) -> Path:
    """A folder of crops in a subfolder for each class but the last, and one for a class that the model lacks."""
    rng = np.random.default_rng(0)
    for name in (*CLASSES[:-1], "bored"):
        for i in range(per_class):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{i}.png").write_bytes(encode_png(rng.integers(0, 256, (16, 16), np.uint8)))
    return folder


def probabilities(file: Path, images_NHWC: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    p_NC: np.ndarray = session.run(["probabilities"], {"images": images_NHWC})[0]
    return p_NC


def test_int8_is_near_fp32_and_says_how_near(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = trained(tmp_path)
    card = weights.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | {"calibration": {"temperature": 2.0, "uniform": 0.1}}))
    folder = crops(tmp_path / "crops", 50)
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    main([str(fp32), "--model", str(weights)])
    main([str(int8), "--model", str(weights), "--int8", "--calibrate", str(folder)])
    said = capsys.readouterr()
    assert "warning" not in said.err
    graph = onnx.load(int8).graph
    int8_tensors = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    weights_of_int8 = [tensor for tensor in int8_tensors if len(tensor.dims) == 4]
    assert len(weights_of_int8) == 20, "of each convolution"
    assert max(np.abs(onnx.numpy_helper.to_array(w).astype(int)).max() for w in weights_of_int8) <= 64, "7 bits"
    images_NHWC = np.stack([decode(file.read_bytes()) for file in sorted(folder.glob("*/*.png"))])[..., None]
    exact, rounded = probabilities(fp32, images_NHWC), probabilities(int8, images_NHWC)
    assert 1e-5 < np.abs(exact - rounded).max() < 0.1
    one, other = (onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map for file in (fp32, int8))
    facts = json.loads(other.pop("int8"))
    assert one.items() <= other.items()
    names = [file.parent.name for file in sorted(folder.glob("*/*.png"))]
    known = np.array([name in CLASSES for name in names])
    label = np.array([CLASSES.index(name) if name in CLASSES else -1 for name in names])
    assert (facts["calibrated_on"], facts["compared_on"], facts["labelled"]) == (150, 150, 100)
    assert facts["same_label"] == pytest.approx((exact.argmax(1) == rounded.argmax(1)).mean())
    assert facts["largest_difference"] == pytest.approx(np.abs(exact - rounded).max(), abs=1e-5)
    for key, p_NC in (("accuracy_fp32", exact), ("accuracy_int8", rounded)):
        assert facts[key] == pytest.approx((p_NC.argmax(1) == label)[known].mean())
    assert f"accuracy {facts['accuracy_fp32']:.2%} in fp32, {facts['accuracy_int8']:.2%} in int8, on 100" in said.out
    assert str(tmp_path).encode() not in int8.read_bytes(), "paths of this machine are nobody's business"


@pytest.mark.thorough  # two exports
def test_int8_averages_and_calibrates_in_float(tmp_path: Path) -> None:
    """With other facts of calibration in the card, the same convolutions give what the formula says, up to rounding."""
    weights, folder = trained(tmp_path), crops(tmp_path / "crops", 40)
    card, calibration = weights.with_suffix(".json"), Calibration(2.0, 0.2)
    plain, calibrated = tmp_path / "plain.onnx", tmp_path / "calibrated.onnx"
    main([str(plain), "--model", str(weights), "--int8", "--calibrate", str(folder)])
    card.write_text(json.dumps(json.loads(card.read_text()) | {"calibration": asdict(calibration)}))
    main([str(calibrated), "--model", str(weights), "--int8", "--calibrate", str(folder)])
    images_NHWC = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 1), np.uint8)
    expected = calibration.of_array(probabilities(plain, images_NHWC))
    np.testing.assert_allclose(probabilities(calibrated, images_NHWC), expected, atol=1e-5)


def test_int8_without_labels_or_with_few_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path)
    folder = tmp_path / "flat"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(encode_png(np.full((9, 9), 60 * i, np.uint8)))
    (folder / "text.jpg").write_text("no image")
    main([str(tmp_path / "a.onnx"), "--model", str(tmp_path), "--int8", "--calibrate", str(folder)])
    said = capsys.readouterr()
    assert "without labels, accuracy is unknown" in said.out
    assert "warning: only 3 images" in said.err and "text.jpg" in said.err
    facts = json.loads(onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta().custom_metadata_map["int8"])
    assert facts["accuracy_fp32"] is facts["accuracy_int8"] is None and facts["labelled"] == 0


def test_int8_reads_validation_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "models")
    with pytest.raises(DataError, match=r"^data/valid\.parquet: not found\. [^\n]*--calibrate FOLDER"):
        main(["model.onnx", "--int8"])
    write_samples(Path("data/valid.parquet"), [0, 1, 2] * 40)
    main(["model.onnx", "--int8"])
    facts = json.loads(onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map["int8"])
    assert facts["labelled"] == facts["compared_on"] == 120


def test_int8_that_cannot_be_made_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(tmp_path)
    out, model = tmp_path / "model.onnx", ["--model", str(tmp_path)]
    with pytest.raises(CommandError, match=r"^--calibrate: its images are for --int8\."):
        main([str(out), *model, "--calibrate", str(tmp_path)])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no images found"):
        main([str(out), *model, "--int8", "--calibrate", str(empty)])
    (empty / "a.png").write_text("no image")
    with pytest.raises(DataError, match="no image can be read"):
        main([str(out), *model, "--int8", "--calibrate", str(empty)])
    folder = crops(tmp_path / "crops", 1)
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(CommandError, match=r"--int8 needs onnx and onnxruntime .*\. Run `pip install -e \.\[onnx\]`"):
        main([str(out), *model, "--int8", "--calibrate", str(folder)])
    assert not out.exists()
