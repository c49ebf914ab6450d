"""One fold: what it trains on, what it scores, and that an interruption changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_parts import SINGLE, KeepWeights, MakeSamples, Stop, StopAt, checkpoint_of, make_job

from nla.audit.fold import PROBABILITIES, AuditData, FoldProbabilities, read_probabilities, run_fold
from nla.data.samples import Samples
from nla.errors import NLAError
from nla.evaluation.predict import ONE_VIEW, predict
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job
from nla.training.trainer import Split, Trainer

JOB = make_job(epochs=3, lr=0.1)


def audit_data(tiny_samples: MakeSamples, **changes: np.ndarray) -> AuditData:
    train = replace(tiny_samples(70), **changes)
    return AuditData(train, np.arange(70) % 2, (tiny_samples(9, seed=1).images_NHWC, tiny_samples(4, 2).images_NHWC))


def fold(data: AuditData, folder: Path, *callbacks: Callback, job: Job = JOB) -> FoldProbabilities:
    return run_fold(job, data, 1, folder, cpus=1, gpu=False, callbacks=callbacks)


def rows(samples: Samples, rows: slice) -> Samples:
    label_N, images_NHWC = samples.label_N[rows], samples.images_NHWC[rows]
    return replace(samples, images_NHWC=images_NHWC, label_N=label_N, row_N=samples.row_N[rows])


def test_it_is_an_ordinary_training_on_the_other_rows(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    """Against a training by hand, and predictions from its weights."""
    data, keep = audit_data(tiny_samples), KeepWeights(tmp_path / "plain")
    scored = fold(data, tmp_path / "fold")
    plain = Split(rows(data.train, slice(0, None, 2)), rows(data.train, slice(1, None, 2)))
    Trainer(JOB, plain, SINGLE, FolderStore(tmp_path / "plain"), [keep]).fit()
    images = [data.train.images_NHWC[1::2], np.concatenate(data.others)]
    assert scored.epochs == 3
    model = JOB.build()
    for epoch, weights in enumerate(keep.weights):
        model.backbone.load_state_dict(weights)
        views = [each[:, :, ::-1] if epoch == 1 else each for each in images]
        np.testing.assert_array_equal(scored.held_ENC[epoch], predict(model, views[0], ONE_VIEW))
        np.testing.assert_allclose(scored.others_EMC[epoch], predict(model, views[1], ONE_VIEW), atol=1e-6)


def test_held_out_labels_and_distributions_change_nothing(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    data = audit_data(tiny_samples)
    label_N = data.train.label_N.copy()
    label_N[1::2] = (label_N[1::2] + 1) % 3
    target_NC = np.full((70, 3), 1 / 3, np.float32)
    other = audit_data(tiny_samples, label_N=label_N, target_NC=target_NC)
    for name in ("held_ENC", "others_EMC"):
        expected = getattr(fold(data, tmp_path / f"{name}-a"), name)
        np.testing.assert_array_equal(getattr(fold(other, tmp_path / f"{name}-b"), name), expected)


@pytest.mark.parametrize(("epoch", "step"), [(1, None), (1, 1), (2, 1), (3, None)])
def test_a_resumed_fold_gives_the_same_bits(
    tmp_path: Path, tiny_samples: MakeSamples, epoch: int, step: int | None
) -> None:
    data = audit_data(tiny_samples)
    whole = fold(data, tmp_path / "whole")
    with pytest.raises(Stop):
        fold(data, tmp_path / "parts", StopAt(epoch, step))
    parts = fold(data, tmp_path / "parts")
    np.testing.assert_array_equal(parts.held_ENC, whole.held_ENC)
    np.testing.assert_array_equal(parts.others_EMC, whole.others_EMC)


def test_without_other_splits_there_are_no_rows_of_them(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    scored = fold(replace(audit_data(tiny_samples), others=()), tmp_path)
    assert scored.others_EMC.shape == (3, 0, 3)


def test_damaged_probabilities_are_refused(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    fold(audit_data(tiny_samples), tmp_path)
    file = checkpoint_of(tmp_path) / PROBABILITIES
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(NLAError, match=r"probabilities\.safetensors.*damaged.*Do that\."):
        read_probabilities(file.parent, "Do that.")
