"""From the table of frames to labels of all frames, with noise, and to the images that the frame model learns from.

    labels.parquet               every frame: its place, the label given to training, the clean one, the posterior
    {train,valid,test}.parquet   every `step`-th annotated frame of a video as SAMPLES, for the training of images

Both have the same labels: the frame model is trained under the same noise as the model of sequences.

Legend: N frames, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nla.config.base import nearest
from nla.config.clips import ClipsConfig
from nla.data.prepare import Progress, write_samples
from nla.data.sample_plan import SamplePlan
from nla.data.schema import OUT, SPLITS, TRAIN, Noise, Preparation, TableInfo, nested, with_info
from nla.data.synthetic_noise import flip_labels, swap_shares, transition_matrix
from nla.errors import ConfigError, DataError
from nla.io import write_table
from nla.video.frames import NO_LABEL, POSITION, Frames, read_frames
from nla.video.noise import flip_units, units

NOISE = 1
"""Key of the random stream, seeded by (clips.seed, NOISE)."""
LABELS = pa.schema(
    [
        ("row", pa.int64()),  # position in the table of frames
        ("split", pa.string()),
        *POSITION,
        ("label", pa.int8()),  # given to training; null: not annotated
        ("clean_label", pa.int8()),  # before noise
        ("is_flipped", pa.bool_()),
        ("target", pa.list_(pa.float32())),  # distribution [C] to learn instead of the label; null means the label
        ("posterior", pa.list_(pa.float32())),  # true P(class | frame) [C], for evaluation; null: unknown
    ]
)


@dataclass(frozen=True)
class FrameLabels:
    """Labels of N frames, in the order of their table."""

    clean_N: np.ndarray
    """Before noise, int8; NO_LABEL where nobody annotated."""
    label_N: np.ndarray
    """Given to training; as `clean_N` outside of train."""
    target_NC: np.ndarray
    """Distributions to learn instead, after noise, float32; NaN rows where the label is learnt."""

    @property
    def annotated(self) -> np.ndarray:
        """Whether a frame has a label, [N]."""
        annotated_N: np.ndarray = self.clean_N != NO_LABEL
        return annotated_N


def prepare_clips(frames: Path, out: Path, config: ClipsConfig, progress: Progress | None = None) -> dict[str, Any]:
    """Writes the four tables into `out`, and returns a JSON-serializable report.

    Raises:
        DataError: the table of frames is not what it should be, train lacks a class, or noise leaves one without label.
        ConfigError: the noise map names an unknown class.
    """
    table = read_frames(frames)
    labels = frame_labels(table, config)
    is_image_N = every(labels.annotated, table.video_N, config.step)
    report = _report(table, labels, is_image_N, config)
    plan = _sample_plan(table, labels, is_image_N, report)
    write_samples(frames, out, plan, _preparation(config), config.image_limits, progress)
    write_table(out / "labels.parquet", _labels_table(table, labels, report))
    return report


def frame_labels(frames: Frames, config: ClipsConfig) -> FrameLabels:
    """Labels with the noise of `clips.noise` in train. Raises what `prepare_clips` raises for them."""
    clean_N, classes = frames.label_N, frames.info.classes
    train = np.flatnonzero((frames.split_N == TRAIN) & (clean_N != NO_LABEL))
    absent = [name for label, name in enumerate(classes) if not (clean_N[train] == label).any()]
    if absent:
        raise DataError(
            f"train has no annotated frame of {', '.join(absent)}. Add videos with it, or leave it out of the classes."
        )
    noise, label_N = config.noise, clean_N.copy()
    if noise.rate > 0:
        mapping, rng = _class_map(noise.mapping, classes), np.random.default_rng((config.seed, NOISE))
        given_N = clean_N[train]
        if noise.law == "frame":
            label_N[train] = flip_labels(given_N, len(classes), noise.kind, noise.rate, True, mapping, rng)
        else:
            start_U = units(given_N, frames.video_N[train], frames.frame_N[train], noise.segment)
            label_N[train] = flip_units(given_N, start_U, len(classes), noise.kind, noise.rate, mapping, rng)
    if gone := [name for label, name in enumerate(classes) if not (label_N[train] == label).any()]:
        raise DataError(
            f"clips.noise.rate: no training label of {', '.join(gone)} remains (got {noise.rate:g}). Lower it."
        )
    return FrameLabels(clean_N, label_N, _target(frames, label_N, config))


def _class_map(mapping: Mapping[str, str], classes: tuple[str, ...]) -> dict[int, int]:
    unknown = sorted({name for pair in mapping.items() for name in pair} - set(classes))
    if unknown:
        raise ConfigError(f"clips.noise.mapping: unknown class {', '.join(unknown)}{nearest(unknown[0], classes)}")
    return {classes.index(clean): classes.index(noisy) for clean, noisy in mapping.items()}


def _target(frames: Frames, label_N: np.ndarray, config: ClipsConfig) -> np.ndarray:
    target_NC = np.full((len(frames), len(frames.info.classes)), np.nan, np.float32)
    if config.votes and not frames.info.votes:
        raise ConfigError(f"clips.votes: {frames.info.source} has no votes (got true). Set it to false.")
    if config.votes:
        voted = np.flatnonzero(frames.votes_NV.sum(1) > 0)
        share_VC = frames.votes_NV[voted] / frames.votes_NV[voted].sum(1, keepdims=True)
        target_NC[voted] = swap_shares(share_VC, frames.label_N[voted], label_N[voted])
    return target_NC


def every(is_annotated_N: np.ndarray, video_N: np.ndarray, step: int) -> np.ndarray:
    """Mask of every `step`-th annotated frame of each video, the first one included."""
    count_N = np.cumsum(is_annotated_N)
    first_N = np.concatenate(([True], np.diff(video_N) != 0))[: len(video_N)]
    before_N = np.maximum.accumulate(np.where(first_N, count_N - is_annotated_N, 0))
    chosen_N: np.ndarray = is_annotated_N & ((count_N - before_N - 1) % step == 0)
    return chosen_N


def _preparation(config: ClipsConfig) -> Preparation:
    noise = config.noise
    return Preparation(
        image_size=config.image_size,
        color=config.color,
        label_rule="votes" if config.votes else "label",
        contempt=True,
        valid_fraction=config.valid_fraction,
        drop_leaks=False,
        seed=config.seed,
        imbalance_factor=None,
        noise=Noise(kind=f"{noise.kind} per {noise.law}", rate=noise.rate, exact=True, mapping=noise.mapping),
    )


def _sample_plan(frames: Frames, labels: FrameLabels, is_image_N: np.ndarray, report: dict[str, Any]) -> SamplePlan:
    return SamplePlan(
        frames.info,
        frames.info.classes,
        np.where(is_image_N, frames.split_N, OUT).astype(np.int8),
        labels.clean_N,
        labels.label_N,
        np.full_like(frames.posterior_NC, np.nan),
        labels.target_NC,
        frames.posterior_NC,
        np.zeros(len(frames), bool),
        None,
        {},
        report,
    )


def _report(frames: Frames, labels: FrameLabels, is_image_N: np.ndarray, config: ClipsConfig) -> dict[str, Any]:
    train_N = (frames.split_N == TRAIN) & labels.annotated
    clean_N, given_N, classes = labels.clean_N[train_N], labels.label_N[train_N], frames.info.classes
    flipped = int((clean_N != given_N).sum())
    matrix_CC = transition_matrix(clean_N, given_N, len(classes))
    return {
        "source": frames.info.source,
        "classes": list(classes),
        "splits": {split: _counts(frames, labels, frames.split_N == s) for s, split in enumerate(SPLITS)},
        "images": {split: int((is_image_N & (frames.split_N == s)).sum()) for s, split in enumerate(SPLITS)},
        "noise": {
            **config.noise.model_dump(),
            "exact": True,
            "flipped": flipped,
            "flipped_in_valid": 0,
            "measured_rate": flipped / len(clean_N),
            "transition_matrix": {
                clean: dict(zip(classes, row, strict=True))
                for clean, row in zip(classes, matrix_CC.tolist(), strict=True)
            },
        },
        "clean": "validation and test are clean: label noise is only in train",
    }


def _counts(frames: Frames, labels: FrameLabels, inside_N: np.ndarray) -> dict[str, Any]:
    label_N = labels.clean_N[inside_N & labels.annotated]
    return {
        "videos": len(np.unique(frames.video_N[inside_N])),
        "frames": int(inside_N.sum()),
        "annotated": len(label_N),
        "classes": dict(
            zip(frames.info.classes, np.bincount(label_N, minlength=len(frames.info.classes)).tolist(), strict=True)
        ),
    }


def _labels_table(frames: Frames, labels: FrameLabels, report: Mapping[str, Any]) -> pa.Table:
    facts = {"noise": {key: report["noise"][key] for key in ("law", "kind", "rate", "segment", "flipped")}}
    info = TableInfo(frames.info.source, frames.info.classes, frames.info.votes, facts)
    missing_N = ~labels.annotated
    columns = {
        "row": np.arange(len(frames)),
        "split": np.array(SPLITS)[frames.split_N],
        "video": pa.array(frames.videos).take(pa.array(frames.video_N)),
        "frame": frames.frame_N,
        "time": pa.array(frames.time_N, mask=np.isnan(frames.time_N)),
        "label": pa.array(labels.label_N, mask=missing_N),
        "clean_label": pa.array(labels.clean_N, mask=missing_N),
        "is_flipped": labels.label_N != labels.clean_N,
        "target": nested(labels.target_NC, ~np.isnan(labels.target_NC[:, 0])),
        "posterior": nested(frames.posterior_NC, ~np.isnan(frames.posterior_NC[:, 0])),
    }
    return pa.table(columns, schema=with_info(LABELS, info))
