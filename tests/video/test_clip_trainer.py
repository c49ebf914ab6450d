"""Training on clips: what an epoch holds, the loss of a batch, bit-for-bit resuming, and that something is learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from sequence_parts import CLASSES, config, make_sequences

from nla.errors import ConfigError, TrainingError
from nla.losses import FrameNLALoss
from nla.training.checkpoint_store import FolderStore
from nla.training.process_group import ProcessGroup
from nla.video.frames import NO_LABEL
from nla.video.predict import frame_probabilities, sequence_probabilities
from nla.video.sequences import Sequences, batches, collate, cut, epoch_clips, steps_per_epoch
from nla.video.trainer import ClipJob, ClipTrainer, feature_scale

SINGLE = ProcessGroup(torch.device("cpu"))


def trainer(folder: Path, sequences: Sequences | None = None, **changes: Any) -> ClipTrainer:
    job = ClipJob(config(**changes), fingerprint="tiny")
    return ClipTrainer(job, sequences or make_sequences(0), make_sequences(1), SINGLE, FolderStore(folder))


@given(st.integers(1, 200), st.integers(2, 60), st.sampled_from(["none", "drop", "speed"]), st.integers(0, 2**32))
def test_a_clip_is_a_part_of_its_video(frames: int, window: int, resample: str, seed: int) -> None:
    at = cut(frames, config(window=window, resample=resample), np.random.default_rng(seed))
    assert 1 <= len(at) <= window and at[0] >= 0 and at[-1] < frames
    assert (np.diff(at) > 0).all()
    if resample == "none":
        assert len(at) == min(window, frames) and (np.diff(at) == 1).all()


def test_dropping_leaves_out_the_asked_share() -> None:
    kept = [len(cut(500, config(window=100), np.random.default_rng(seed))) for seed in range(300)]
    assert min(kept) >= 60 and max(kept) <= 80
    assert np.mean(kept) == pytest.approx(70, abs=1)


def test_an_epoch_has_clips_of_all_videos_and_depends_on_seed_and_epoch() -> None:
    sequences = make_sequences(0)
    first, again, next_one = (epoch_clips(sequences, config(), epoch) for epoch in (3, 3, 4))
    assert [clip.at_T.tolist() for clip in first] == [clip.at_T.tolist() for clip in again]
    assert [clip.at_T.tolist() for clip in first] != [clip.at_T.tolist() for clip in next_one]
    counts = np.bincount([clip.video for clip in first])
    assert counts.tolist() == [-(-len(video) // 12) for video in sequences.videos]
    assert len(list(batches(sequences, config(), 0))) == steps_per_epoch(sequences, config())


def test_a_batch_holds_what_its_videos_say() -> None:
    sequences = make_sequences(2)
    clips = epoch_clips(sequences, config(), 0)[:4]
    arrays = collate(sequences, clips)
    flat = np.concatenate([video.label_T for video in sequences.videos])
    for b, clip in enumerate(clips):
        video, size = sequences.videos[clip.video], len(clip.at_T)
        np.testing.assert_array_equal(arrays.features_BT2F[b, :size], video.features_T2F[clip.at_T])
        np.testing.assert_array_equal(arrays.frame_BT[b, :size], video.frame_T[clip.at_T])
        np.testing.assert_array_equal(arrays.annotated_BT[b, :size], video.label_T[clip.at_T] != NO_LABEL)
        assert not arrays.mask_BT[b, size:].any() and not arrays.annotated_BT[b, size:].any()
    own = arrays.annotated_BT
    np.testing.assert_array_equal(flat[arrays.index_BT[own]], arrays.target[own])


def test_workers_share_a_batch() -> None:
    sequences = make_sequences(3)
    whole = list(batches(sequences, config(), 0))
    parts = [list(batches(sequences, config(), 0, rank, 2)) for rank in range(2)]
    for both, one, other in zip(whole, *parts, strict=True):
        rows = sorted(np.concatenate([part.index_BT[part.annotated_BT] for part in (one, other)]).tolist())
        assert rows == sorted(both.index_BT[both.annotated_BT].tolist())
    with pytest.raises(ConfigError, match="not divisible by 3 workers"):
        next(batches(sequences, config(), 0, 0, 3))


def test_the_loss_of_a_step_is_that_of_its_frames(tmp_path: Path) -> None:
    made = trainer(tmp_path, model={"dropout": 0.0}, loss={"variant": "released-video"})
    batch = next(made.minibatches(0))
    views = [made.network(batch.features_BT2F[:, :, v], batch.mask_BT, batch.frame_BT) for v in range(2)]
    expected = FrameNLALoss("released-video")(*views, batch.label, batch.annotated_BT, batch.progress)
    result = made.train_step(batch)
    torch.testing.assert_close(result.loss, expected.detach(), rtol=1e-5, atol=1e-5)
    assert result.positions_N2.shape == (int(batch.annotated_BT.sum()), 2)


@pytest.mark.parametrize("loss", [{}, {"name": "ce"}, {"variant": "released-video"}])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, loss: dict[str, str]) -> None:
    trainer(tmp_path / "whole", loss=loss).fit()
    stopped = trainer(tmp_path / "parts", loss=loss)
    stopped._end_epoch(stopped._run_epoch(0))
    trainer(tmp_path / "parts", loss=loss).fit()
    for name in ("trained", "optimizer", "best", "positions"):
        one, other = (load_file(tmp_path / f"{run}/epoch-00003/{name}.safetensors") for run in ("whole", "parts"))
        assert one.keys() == other.keys()
        assert all(torch.equal(torch.nan_to_num(one[key]), torch.nan_to_num(other[key])) for key in one), name


@pytest.mark.parametrize("name", ["transformer", "convolution"])
def test_bfloat16_trains_too(tmp_path: Path, name: str) -> None:
    progress = trainer(tmp_path, train={"precision": "bf16"}, model={"name": name}).fit()
    assert all(np.isfinite(row["train_loss"]) for row in progress.history)
    assert progress.facts["precision"] == "bf16"


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    trainer(tmp_path).fit()
    other = ClipTrainer(ClipJob(config(), "other"), make_sequences(0), make_sequences(1), SINGLE, FolderStore(tmp_path))
    with pytest.raises(TrainingError, match="another run"):
        other.fit()


def test_it_learns_and_positions_are_those_of_annotated_frames(tmp_path: Path) -> None:
    sequences = make_sequences(0, videos=20)
    made = trainer(tmp_path, sequences, train={"epochs": 30}, resample="none")
    progress = made.fit()
    assert progress.kept_row["valid_macro_f1"] > 0.9
    label_N = np.concatenate([video.label_T for video in sequences.videos])
    known_N = ~made.positions.late_M2.isnan().any(1).numpy()
    assert not known_N[label_N == NO_LABEL].any() and known_N[label_N != NO_LABEL].mean() > 0.9


def test_validation_measures_every_annotated_frame_by_its_clean_label(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    right = total = 0
    for video in made.valid.videos:
        p_TC = sequence_probabilities(made.network, video.features_T2F, video.frame_T, 12, 0.5)
        own = video.clean_T != NO_LABEL
        right, total = right + (p_TC.argmax(1) == video.clean_T)[own].sum(), total + own.sum()
    assert made.measure()["valid_accuracy"] == pytest.approx(right / total)


def test_probabilities_of_both_views_are_averaged(tmp_path: Path) -> None:
    made, video = trainer(tmp_path), make_sequences(4).videos[0]
    swapped = video.features_T2F[:, ::-1].copy()
    one, other = (sequence_probabilities(made.network, f, video.frame_T, 5, 0.4) for f in (video.features_T2F, swapped))
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(one.sum(1), 1, atol=1e-5)
    z = video.logits_T2C.astype(np.float64)
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    np.testing.assert_allclose(frame_probabilities(video.logits_T2C), p.mean(1), rtol=1e-5)


def test_the_scale_is_that_of_all_training_features() -> None:
    sequences = make_sequences(5)
    values = np.concatenate([video.features_T2F.reshape(-1, 4) for video in sequences.videos]).astype(np.float64)
    mean, deviation = feature_scale(sequences)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(deviation, values.std(0), rtol=1e-5)
    assert len(CLASSES) == 3
