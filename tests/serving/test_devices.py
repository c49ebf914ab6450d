"""Where a model predicts, in which precision, and that all ways to predict agree."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mlflow_parts import random_model

from nla.commands import export
from nla.commands.main import main
from nla.data.images import encode_jpeg
from nla.devices import DEVICES, find_device
from nla.errors import CommandError
from nla.evaluation.predict import Views, predict
from nla.models.saved_model import load_model
from nla.serving import Predictor

ABSENT = [name for name in ("cuda", "mps") if not getattr(torch, name).is_available()]


def faces(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 16, 16), np.uint8)


def test_auto_is_a_device_that_is_here() -> None:
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", [*ABSENT, "tpu", "cuda:7", "", "CPU"])
def test_another_device_is_one_line_that_names_what_is_here(tmp_path: Path, name: str) -> None:
    why = "is not here" if name in DEVICES else "is unknown"
    message = rf"device: {re.escape(name)} {why}[^\n]*\. Use auto, or what is here: [^\n]*cpu\."
    with pytest.raises(CommandError, match=rf"^{message}$"):
        find_device(name)
    with pytest.raises(CommandError, match=rf"^{message}$"):
        Predictor.load(random_model(tmp_path), device=name)


def test_the_command_line_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    random_model(tmp_path / "models")
    (tmp_path / "face.jpg").write_bytes(encode_jpeg(faces(1)[0], 90))
    for command in (["predict", "face.jpg"], ["serve", "--cropped", "--port", "0"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--device", "tpu"])
        said = capsys.readouterr()
        assert ended.value.code == 1
        assert said.err.startswith("error: device: tpu is unknown. ") and said.err.count("\n") == 1
    assert not Path("predictions.csv").exists()
    main(["predict", "face.jpg", "--device", "cpu"])
    assert Path("predictions.csv").exists()


def test_the_precision_is_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^precision: must be one of fp32, bf16 \(got 'fp16'\)\.$"):
        Predictor.load(random_model(tmp_path), precision="fp16")  # type: ignore[arg-type]


def test_bf16_is_near_fp32_and_not_the_same(tmp_path: Path) -> None:
    exact = Predictor.load(random_model(tmp_path)).predict(faces(50)).uncalibrated
    rounded = Predictor.load(tmp_path, precision="bf16").predict(faces(50)).uncalibrated
    assert 1e-5 < np.abs(rounded - exact).max() < 0.1
    assert (rounded.argmax(1) == exact.argmax(1)).mean() > 0.9


def test_all_ways_in_fp32_agree(tmp_path: Path) -> None:
    """The network as trained, the Predictor on pixels and on crops, and ONNX Runtime; for MLflow see test_serving."""
    images = faces(40)
    predictor = Predictor.load(random_model(tmp_path))
    export.main([str(tmp_path / "model.onnx"), "--model", str(tmp_path)])
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    model, _ = load_model(tmp_path / "model.safetensors")
    expected = predict(model, images[..., None], Views())
    assert np.ptp(expected, axis=0).max() > 0.05
    ways = {
        "predict": predictor.predict(images).probabilities,
        "predict_fitted": predictor.predict_fitted(predictor.fitted(list(images))).probabilities,
        "one by one": np.concatenate([predictor.predict(image[None]).probabilities for image in images]),
        "ONNX": session.run(["probabilities"], {"images": images[..., None]})[0],
    }
    for name, p_NC in ways.items():
        np.testing.assert_allclose(p_NC, expected, atol=1e-4, err_msg=name)
