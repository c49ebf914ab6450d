"""Metrics of frames with intervals over videos, and the file of a model of sequences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sequence_parts import CLASSES, config, make_sequences
from sklearn.metrics import f1_score

from nla.config.evaluate import EvaluateConfig
from nla.errors import DataError, WeightsError
from nla.video.frames import NO_LABEL
from nla.video.metrics import measure_videos, resampled_counts, video_counts
from nla.video.models import SequenceArchitecture, SequenceClassifier
from nla.video.saved_model import load_sequence_model, save_sequence_model
from nla.video.sequences import Sequences

FEW = EvaluateConfig(bootstrap=400)


def scores(sequences: Sequences, seed: int, skill: float) -> list[np.ndarray]:
    """Probabilities that are right about the more often, the larger `skill`."""
    rng = np.random.default_rng(seed)
    return [
        rng.dirichlet(np.ones(3), len(video)) + skill * np.eye(3)[np.maximum(video.clean_T, 0)]
        for video in sequences.videos
    ]


def test_metrics_are_pooled_over_annotated_frames() -> None:
    sequences = make_sequences(0, videos=8)
    p = {"smoothed": scores(sequences, 1, 0.3), "sequence": scores(sequences, 2, 0.8)}
    report = measure_videos(sequences, p, FEW, "smoothed")
    label_N = np.concatenate([video.clean_T for video in sequences.videos])
    own = label_N != NO_LABEL
    for name, values in p.items():
        predicted_N = np.concatenate(values).argmax(1)
        found = report["methods"][name]
        assert found["accuracy"] == pytest.approx((predicted_N == label_N)[own].mean())
        assert found["macro_f1"] == pytest.approx(f1_score(label_N[own], predicted_N[own], average="macro"))
        assert found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"]
    difference = report["methods"]["sequence"]["minus_smoothed"]
    assert difference["accuracy"] == pytest.approx(
        report["methods"]["sequence"]["accuracy"] - report["methods"]["smoothed"]["accuracy"]
    )
    assert difference["accuracy_low"] > 0
    assert (report["videos"], report["annotated"]) == (8, int(own.sum()))


def test_the_interval_is_that_of_videos_drawn_with_replacement() -> None:
    sequences = make_sequences(3, videos=12)
    counts_VCC = video_counts(sequences, scores(sequences, 4, 0.2))
    drawn_RCC = resampled_counts(counts_VCC, 3000, 0)
    accuracy_R = np.trace(drawn_RCC, axis1=1, axis2=2) / drawn_RCC.sum((1, 2))
    rng = np.random.default_rng(9)
    expected = []
    for _ in range(3000):
        some = counts_VCC[rng.integers(12, size=12)].sum(0)
        expected.append(np.trace(some) / some.sum())
    np.testing.assert_allclose(np.percentile(accuracy_R, [2.5, 97.5]), np.percentile(expected, [2.5, 97.5]), atol=0.01)


def test_one_method_twice_differs_by_nothing() -> None:
    sequences = make_sequences(5)
    p = scores(sequences, 6, 0.2)
    report = measure_videos(sequences, {"smoothed": p, "sequence": p}, FEW, "smoothed")
    assert set(report["methods"]["sequence"]["minus_smoothed"].values()) == {0.0}


def test_the_bayes_accuracy_is_that_of_the_posterior() -> None:
    sequences = make_sequences(7)
    rng = np.random.default_rng(8)
    posteriors = [rng.dirichlet(np.ones(3), len(video)).astype(np.float32) for video in sequences.videos]
    videos = [replace(v, posterior_TC=p) for v, p in zip(sequences.videos, posteriors, strict=True)]
    known = replace(sequences, videos=tuple(videos))
    report = measure_videos(known, {"smoothed": posteriors}, FEW, "smoothed")
    assert report["bayes_accuracy"] == pytest.approx(report["methods"]["smoothed"]["accuracy"])
    assert "bayes_accuracy" not in measure_videos(sequences, {"smoothed": posteriors}, FEW, "smoothed")


def test_a_split_without_annotation_cannot_be_measured() -> None:
    sequences = make_sequences(9, unannotated=1.0)
    with pytest.raises(DataError, match="no frame of the split is annotated"):
        measure_videos(sequences, {"smoothed": scores(sequences, 0, 0)}, FEW, "smoothed")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = SequenceClassifier(SequenceArchitecture.of(config().model, 4, 3))
    card = {**model.describe(), "frame_model_sha256": "f", "source": "made-up", "classes": list(CLASSES)}
    card |= {"window": 12, "overlap": 0.5, "fingerprint": "x", "epoch": 2}
    save_sequence_model(tmp_path / "model.safetensors", model.backbone.state_dict(), card)
    return tmp_path / "model.safetensors"


def test_a_saved_model_reads_back(weights: Path) -> None:
    model, card = load_sequence_model(weights)
    assert (card.window, card.classes, card.architecture) == (12, list(CLASSES), model.architecture)
    torch.manual_seed(0)
    same = SequenceClassifier(card.architecture).backbone.state_dict()
    assert all(torch.equal(same[name], tensor) for name, tensor in model.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ["a", "b"]}, "classes"),
        ({"classes": ["a", "a", "b"]}, "must have a name of its own for each class"),
        ({"classes": [*reversed(CLASSES)]}, "classes: the weights were saved with .*in this order"),
        ({"overlap": 1.0}, "overlap"),
        ({"sha256": "0"}, "sha256 does not match"),
        ({"format": 2}, "format"),
    ],
)
def test_a_card_that_cannot_be_is_refused(weights: Path, change: dict[str, Any], said: str) -> None:
    path = weights.with_suffix(".json")
    card = json.loads(path.read_text()) | change
    card.pop("checksum")
    path.write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=said):
        load_sequence_model(weights)
