"""One run of a study: what it measures on test, and that resuming changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from study_parts import variant_of
from training_parts import SINGLE, KeepWeights, MakeSamples, Stop, StopAt, checkpoint_of, make_job

from nla.evaluation.predict import Views, predict
from nla.study.record import SELECTIONS, Selection
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
    variant = replace(variant, split=variant.split._replace(clean_N=None))
    plain = Trainer(JOB, variant.split, SINGLE, FolderStore(tmp_path / "plain")).fit()
    strip = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in plain.history]
    assert not any(name.startswith("clean") for row in strip for name in row)
    assert [{k: row[k] for k in strip[0]} for row in result.progress.history] == strip
    assert result.progress.best_epoch == plain.best_epoch


def test_predictions_are_those_of_the_saved_weights(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    variant = variant_of(tiny_samples)
    result = run_job(JOB, variant, tmp_path, 1, False, Views(mirror=True, shift=1))
    checkpoint = checkpoint_of(tmp_path)
    model = JOB.build()
    groups: dict[str, Selection] = {"best": "given", "last": "last"}
    for group, selection in groups.items():
        model.backbone.load_state_dict(read_group(checkpoint, group))
        p_NC = predict(model, variant.test.images_NHWC, Views(shift=1))
        np.testing.assert_array_equal(result.p[result.epochs[selection]], p_NC)
    hits_N = predicted(result, "last") == variant.test.label_N
    assert result.on_test["test_accuracy"][-1] == pytest.approx(hits_N.mean())
    by_class = [hits_N[variant.test.label_N == c].mean() for c in range(3)]
    assert result.on_test["test_mean_accuracy"][-1] == pytest.approx(np.mean(by_class))


def predicted(result: Result, selection: Selection) -> np.ndarray:
    classes_N: np.ndarray = result.p[result.epochs[selection]].argmax(1)
    return classes_N


def test_one_training_gives_the_epochs_of_both_labels_of_validation_and_the_last(
    tmp_path: Path, tiny_samples: MakeSamples
) -> None:
    """Against the weights of every epoch: validation and test predicted again, and the best epoch found by hand."""
    variant = variant_of(tiny_samples)
    differ = []
    for seed in range(6):
        job, keep = make_job(epochs=8, lr=0.2, seed=seed), KeepWeights(tmp_path / str(seed))
        result = run_job(job, variant, tmp_path / str(seed), 1, False, Views(), [keep])
        model, scores, p = job.build(), [], []
        for weights in keep.weights:
            model.backbone.load_state_dict(weights)
            valid_N = predict(model, variant.split.valid.images_NHWC, Views(mirror=False)).argmax(1)
            both = variant.split.valid.label_N, variant.split.clean_N
            scores.append([(valid_N == label_N).mean() for label_N in both])
            p.append(predict(model, variant.test.images_NHWC, Views()))
        given, clean = (1 + int(np.argmax(column)) for column in np.array(scores).T)
        assert result.epochs == {"given": given, "clean": clean, "last": 8}
        assert result.p.keys() == {given, clean, 8}
        for epoch, p_NC in result.p.items():
            np.testing.assert_array_equal(p_NC, p[epoch - 1])
        assert [row["clean_accuracy"] for row in result.progress.history] == pytest.approx([own for _, own in scores])
        differ.append(given != clean)
    assert any(differ), "the labels of validation matter in one of them, whatever the processor's rounding"


@pytest.mark.parametrize("epoch", [2, 5, 7])
def test_a_resumed_run_selects_the_same_epochs(tmp_path: Path, tiny_samples: MakeSamples, epoch: int) -> None:
    job, variant = make_job(epochs=8, lr=0.2), variant_of(tiny_samples)
    whole = run_job(job, variant, tmp_path / "whole", 1, False, Views())
    with pytest.raises(Stop):
        run_job(job, variant, tmp_path / "parts", 1, False, Views(), [StopAt(epoch)])
    parts = run_job(job, variant, tmp_path / "parts", 1, False, Views())
    assert parts.epochs == whole.epochs and parts.p.keys() == whole.p.keys()
    for selected, p_NC in whole.p.items():
        np.testing.assert_array_equal(parts.p[selected], p_NC)


def test_without_views_test_is_not_used(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    seen = finished(tmp_path / "seen", tiny_samples)
    blind = run_job(JOB, variant_of(tiny_samples), tmp_path / "blind", 1, False, None)
    assert (blind.on_test, blind.p, blind.epochs) == ({}, {}, seen.epochs)
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
    np.testing.assert_array_equal(predicted(parts, "given"), predicted(whole, "given"))


def test_test_chooses_nothing(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    """Whatever its labels say, the same epoch is kept."""
    variant = variant_of(tiny_samples)
    spoilt = replace(variant, test=replace(variant.test, label_N=np.zeros_like(variant.test.label_N)))
    results = [run_job(JOB, each, tmp_path / name, 1, False, Views()) for name, each in (("a", variant), ("b", spoilt))]
    assert results[0].epochs == results[1].epochs
    for selection in SELECTIONS:
        np.testing.assert_array_equal(predicted(results[0], selection), predicted(results[1], selection))
    assert results[0].on_test != results[1].on_test
