"""One run of a study: what it measures on test, and that resuming changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from study_parts import variant_of
from training_parts import SINGLE, MakeSamples, Stop, StopAt, checkpoint_of, make_job

from nla.evaluation.predict import Views, predict
from nla.study.worker import Result, run_job
from nla.training.checkpoint import read_group
from nla.training.checkpoint_store import FolderStore
from nla.training.trainer import Trainer

JOB = make_job(epochs=3, lr=0.1)


def finished(folder: Path, tiny_samples: MakeSamples) -> Result:
    return run_job(JOB, variant_of(tiny_samples), folder, cpus=1, gpu=False, views=Views())


def test_it_trains_as_training_does_without_it(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    variant = variant_of(tiny_samples)
    result = finished(tmp_path / "study", tiny_samples)
    plain = Trainer(JOB, variant.split, SINGLE, FolderStore(tmp_path / "plain")).fit()
    strip = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in plain.history]
    assert [{k: row[k] for k in strip[0]} for row in result.progress.history] == strip
    assert result.progress.best_epoch == plain.best_epoch


def test_predictions_are_those_of_the_saved_weights(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    variant = variant_of(tiny_samples)
    result = run_job(JOB, variant, tmp_path, 1, False, Views(mirror=True, shift=1))
    checkpoint = checkpoint_of(tmp_path)
    model = JOB.build()
    for group, found in (("best", result.best_predicted), ("last", result.last_predicted)):
        model.backbone.load_state_dict(read_group(checkpoint, group))
        p_NC = predict(model, variant.test.images_NHWC, Views(shift=1))
        np.testing.assert_array_equal(found, p_NC.argmax(1))
        assert found.dtype == np.uint8
    hits_N = result.last_predicted == variant.test.label_N
    assert result.on_test["test_accuracy"][-1] == pytest.approx(hits_N.mean())
    by_class = [hits_N[variant.test.label_N == c].mean() for c in range(3)]
    assert result.on_test["test_mean_accuracy"][-1] == pytest.approx(np.mean(by_class))


def test_without_views_test_is_not_used(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    seen = finished(tmp_path / "seen", tiny_samples)
    blind = run_job(JOB, variant_of(tiny_samples), tmp_path / "blind", 1, False, None)
    assert (blind.on_test, blind.best_predicted.size, blind.last_predicted.size) == ({}, 0, 0)
    assert [row["valid_accuracy"] for row in blind.progress.history] == [
        row["valid_accuracy"] for row in seen.progress.history
    ]


def test_an_interrupted_run_resumes_with_its_test_metrics(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    whole = finished(tmp_path / "whole", tiny_samples)
    assert len(whole.on_test["test_accuracy"]) == 3
    with pytest.raises(Stop):
        run_job(JOB, variant_of(tiny_samples), tmp_path / "parts", 1, False, Views(), [StopAt(2)])
    torch.manual_seed(5)
    parts = finished(tmp_path / "parts", tiny_samples)
    assert parts.on_test == whole.on_test
    np.testing.assert_array_equal(parts.best_predicted, whole.best_predicted)


def test_test_chooses_nothing(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    """Whatever its labels say, the same epoch is kept."""
    variant = variant_of(tiny_samples)
    spoilt = replace(variant, test=replace(variant.test, label_N=np.zeros_like(variant.test.label_N)))
    results = [run_job(JOB, each, tmp_path / name, 1, False, Views()) for name, each in (("a", variant), ("b", spoilt))]
    assert results[0].progress.best_epoch == results[1].progress.best_epoch
    np.testing.assert_array_equal(results[0].best_predicted, results[1].best_predicted)
    assert results[0].on_test != results[1].on_test
