"""The registered sequence model: loaded by MLflow and by its own predictor, and champion by the validation videos."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from clip_parts import read, write_frames, write_list
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_parts import new_store
from sequence_model_parts import add_sequence_model

from nla.config.model import ModelConfig
from nla.config.register import RegisterConfig
from nla.data.images import encode_png
from nla.errors import DataError
from nla.io import sha256
from nla.limits import ImageLimits
from nla.models.base import Architecture, ImageSpec
from nla.models.classifier import Classifier
from nla.models.saved_model import save_model
from nla.serving.registration import Registration
from nla.tracking import MlflowTracker
from nla.tracking.run_record import RunRecord
from nla.video.frames import read_frames
from nla.video.model_pair import ModelPair
from nla.video.serving.model_card import sequence_card
from nla.video.serving.promotion import counts_of_videos, load_sequence_version
from nla.video.streaming import StreamPredictor
from pipelines import video_register as stage

NAME = "nla-clips-sequence"
VIDEOS = 8
"""Of validation: all of them are enough for the sign test, 2 / 2 ** 8 < .05."""
NUMBERS = {"accuracy": 0.61234, "mean_accuracy": 0.5, "macro_f1": 0.45, "macro_f1_low": 0.4, "macro_f1_high": 0.5}


class Bench:
    """A project with a store: trains nothing, registers anything."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root, self.uri, self.client = root, uri, MlflowClient(uri)
        for split, videos in (("train", 2), ("valid", VIDEOS), ("test", 2)):
            for number in range(videos):
                name = f"{split}{number}"
                write_frames(root / f"clips/{split}/{name}", range(1, 9), number % 5)
                write_list(root / f"clips/{split}/{name}.csv", {frame: "abbbbbbc"[frame - 1] for frame in range(1, 9)})
        self.table = root / "frames.parquet"
        read(root / "clips", self.table, "clips")
        torch.manual_seed(0)
        model = Classifier(Architecture.of(ModelConfig(width=4), 3), ImageSpec(16, 1, (0.4,), (0.25,)))
        card = {**model.describe(), "source": "clips", "classes": list("abc"), "fingerprint": "f", "epoch": 1}
        save_model(root / "models/model.safetensors", model.backbone.state_dict(), card)
        self.pair = ModelPair(root / "models", root / "sequence")
        self.readme = root / "README.md"

    def register(self, limits: ImageLimits | None = None, **changes: Any) -> Registration:
        """Registers a new sequence model with these changes."""
        add_sequence_model(self.root, **changes)
        tracker = MlflowTracker(self.uri, system_metrics=False)
        name = changes.get("fingerprint", "s0")
        run_id = tracker.start(name, {"sequence": {"loss": {"name": "nla"}}}, {"nla.fingerprint": name})
        tracker.finish()
        record = {"mlflow_run_id": run_id, "name": f"clips-{name}", "fingerprint": name, "tags": {}, "facts": {}}
        run = RunRecord.model_validate({**record, "params": {"sequence": {"loss": {"name": "nla"}}}, "history": []})
        metrics = self.metrics()
        stage.write_card(self.readme, self.pair, metrics, run)
        return stage.register(
            self.pair,
            metrics,
            run,
            self.table,
            RegisterConfig(bootstrap=200),
            self.uri,
            limits or ImageLimits(),
            self.readme,
        )

    def metrics(self) -> stage.Metrics:
        split = {"annotated": 64, "methods": {"frame_model": NUMBERS, "sequence": NUMBERS}}
        own = sha256(self.pair.sequence_model / "model.safetensors")
        return stage.Metrics.model_validate({"sha256": own, "valid": split, "test": split})

    def champion(self) -> Any:
        return self.client.get_model_version_by_alias(NAME, "champion")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, new_store(tmp_path, monkeypatch))


def test_it_is_loaded_by_mlflow_and_by_its_predictor(bench: Bench) -> None:
    calibration = {"temperature": 2.0, "uniform": 0.0}
    record = bench.register(ImageLimits(max_pixels=400), calibration=calibration)
    assert (record.name, record.version, record.decision) == (NAME, 1, "champion")
    assert json.loads(json.dumps(asdict(record))) and str(bench.root) not in json.dumps(asdict(record))
    images = [encode_png(image) for image in np.random.default_rng(0).integers(0, 256, (15, 20, 20), np.uint8)]
    expected = StreamPredictor.load(*bench.pair).predict_clip(images)
    assert not np.allclose(expected.probabilities, expected.uncalibrated)

    served = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    found = served.predict(pd.DataFrame({"image": images}, index=range(5, 20)))
    assert found.index.tolist() == list(range(5, 20)) and tuple(found.label) == expected.label
    np.testing.assert_allclose(np.stack(found.probabilities), expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-6)
    np.testing.assert_allclose(found.ambiguity, expected.ambiguity, atol=1e-6)
    assert served.metadata.metadata["classes"] == ["a", "b", "c"]
    own = served.unwrap_python_model()
    texts = pd.DataFrame({"image": [base64.b64encode(image).decode() for image in images]})
    np.testing.assert_allclose(np.stack(own.predict(None, texts).probabilities), expected.probabilities, atol=1e-6)
    with pytest.raises(MlflowException, match="image 2: "):
        served.predict(pd.DataFrame({"image": [images[0], b"no image"]}))
    with pytest.raises(MlflowException, match=r"image 1: .*more than max_pixels"):
        served.predict(pd.DataFrame({"image": [encode_png(np.zeros((21, 20), np.uint8))]}))

    version = bench.champion()
    again = load_sequence_version(version).predict_clip(images)
    np.testing.assert_array_equal(again.probabilities, expected.probabilities)
    assert version.tags["test.sequence.macro_f1"] == "0.4500"
    assert "| macro-F1 | 0.4500 (0.4000 to 0.5000) |" in version.description
    assert f"`{version.tags['nla.model_card']}`" in version.description
    readme = mlflow.artifacts.load_text(f"models:/{NAME}/1/artifacts/README.md")
    assert readme == bench.readme.read_text() and "pipeline_tag: video-classification" in readme


def test_the_better_one_on_the_validation_videos_is_champion(bench: Bench) -> None:
    assert bench.register(answer=0, fingerprint="s1").decision == "champion"
    again = bench.register(answer=0, fingerprint="s1")
    assert (again.version, again.decision) == (1, "champion") and "is champion already" in again.reason
    better = bench.register(answer=1, fingerprint="s2")
    # Of 8 frames one is a, six are b, one is c: F1 of b alone is 2 * 6/8 / (6/8 + 1), of a alone 2 * 1/8 / (1/8 + 1)
    assert better.difference == pytest.approx((12 / 14 - 2 / 9) / 3)
    assert (better.decision, better.champion_before) == ("champion", 1)
    assert f"on the {VIDEOS} validation videos" in better.reason and "sign test over videos p 0.008" in better.reason
    worse = bench.register(answer=2, fingerprint="s3")
    assert (worse.version, worse.decision) == (3, "kept") and int(bench.champion().version) == 2
    calibrated = bench.register(answer=1, fingerprint="s2", calibration={"temperature": 2.0, "uniform": 0.0})
    assert "served by the current code and limits" in calibrated.reason and int(bench.champion().version) == 4


def test_videos_are_counted_by_their_own_frames(bench: Bench) -> None:
    add_sequence_model(bench.root, answer=1)
    counts = counts_of_videos(StreamPredictor.load(*bench.pair), bench.table, read_frames(bench.table))
    np.testing.assert_array_equal(counts, [[[0, 1, 0], [0, 6, 0], [0, 1, 0]]] * VIDEOS)


def test_results_of_another_model_are_refused(bench: Bench) -> None:
    bench.register(answer=0)
    metrics, record = (
        bench.metrics(),
        RunRecord.model_validate(
            {
                "mlflow_run_id": None,
                "name": "n",
                "fingerprint": "s0",
                "params": {},
                "tags": {},
                "facts": {},
                "history": [],
            }
        ),
    )
    add_sequence_model(bench.root, answer=1)
    with pytest.raises(DataError, match="measured with another sequence model"):
        stage.register(bench.pair, metrics, record, bench.table, RegisterConfig(), bench.uri)
    stage.write_card(bench.readme, bench.pair, metrics, record)
    assert "The results of this model are not at hand." in bench.readme.read_text()


def test_names_have_no_effect_in_the_card() -> None:
    card = {
        "source": "*s*",
        "classes": ["<a>", "b|c"],
        "architecture": {"name": "transformer"},
        "window": 10,
        "overlap": 0.5,
        "sha256": "0" * 64,
        "fingerprint": "`x`",
        "epoch": 1,
    }
    frame_card = {**card, "architecture": {"name": "timm/a_b"}, "image": {"size": 48, "channels": 1}}
    text = sequence_card(card, frame_card, None, None)
    assert "\\<a\\>, b\\|c" in text and "\\*s\\*" in text and "timm/a\\_b" in text and "`'x''`" not in text
    assert "no calibration was fitted" in text and "The record of the training is not at hand." in text
