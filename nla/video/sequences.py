"""Sequences: the features and labels of videos, and the clips of an epoch that are cut from them.

Legend: T frames of a video or clip, F features, C classes, B clips of a batch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from nla.config.sequence import SequenceConfig
from nla.data.schema import REMAKE, SPLITS, distributions, read_info
from nla.data.table_values import is_class, is_distribution, is_one_of, require
from nla.errors import ConfigError, DataError
from nla.io import read_columns
from nla.video.features import read_features
from nla.video.frames import NO_LABEL
from nla.video.prepare import LABELS

ORDER, CUT = 11, 21
"""Keys of independent random streams, which are seeded by (sequence.train.seed, key, epoch)."""


@dataclass(frozen=True)
class VideoSequence:
    """A video."""

    name: str
    frame_T: np.ndarray
    """Frame numbers, int64, increasing."""
    features_T2F: np.ndarray
    """Of the image and of its mirror image, float16."""
    logits_T2C: np.ndarray
    """Of the frame model, float32."""
    label_T: np.ndarray
    """Given to training, int64; NO_LABEL: not annotated."""
    clean_T: np.ndarray
    """Before noise, for evaluation."""
    target_TC: np.ndarray | None
    """Distributions to learn instead of labels, float32; one-hot for frames with a label alone. None: labels."""
    posterior_TC: np.ndarray | None
    """True P(class | frame), for evaluation; None: unknown."""
    row_T: np.ndarray
    """Row in the table of frames."""

    def __len__(self) -> int:
        return len(self.frame_T)


@dataclass(frozen=True)
class Sequences:
    """The videos of a split."""

    videos: tuple[VideoSequence, ...]
    classes: tuple[str, ...]
    source: str

    @property
    def frames(self) -> int:
        """Number of all frames."""
        return sum(map(len, self.videos))

    @property
    def offsets(self) -> list[int]:
        """Number of frames before each video."""
        return [0, *np.cumsum([len(video) for video in self.videos]).tolist()][:-1]


@dataclass(frozen=True)
class Clip:
    """Frames of a video that training sees together, as positions in it, increasing."""

    video: int
    at_T: np.ndarray


def read_sequences(labels: Path, features: Path) -> dict[str, Sequences]:
    """The sequences of each split.

    Raises:
        DataError: a file is missing or damaged, or the two are not of the same frames.
    """
    info = read_info(labels)
    table = read_columns(
        labels, LABELS, labels, REMAKE, nullable=("time", "label", "clean_label", "target", "posterior")
    )
    classes = len(info.classes)
    checks = [is_one_of(table, "split", SPLITS)]
    checks += [is_class(table, name, classes) for name in ("label", "clean_label")]
    checks += [is_distribution(table, name, classes) for name in ("target", "posterior")]
    require(labels, table, checks, REMAKE)
    label_N, clean_N = (
        pc.fill_null(table[name], NO_LABEL).to_numpy().astype(np.int64) for name in ("label", "clean_label")
    )
    target_NC, posterior_NC = (distributions(table[name], info) for name in ("target", "posterior"))
    if target_NC is not None:
        without = np.isnan(target_NC[:, 0])
        target_NC[without] = np.eye(classes + 1, dtype=np.float32)[label_N[without]][:, :classes]  # zeros: NO_LABEL
    frame_N, split_N = table["frame"].to_numpy().astype(np.int64), np.array(table["split"].to_pylist())
    name_N = np.array(table["video"].to_pylist())
    found: dict[str, list[VideoSequence]] = {split: [] for split in SPLITS}
    index, videos = read_features(features)
    seen = 0
    for name, video in zip(index.videos, videos, strict=True):
        rows = video.row_T
        _check_rows(features, name, rows, seen, name_N)
        seen += len(rows)
        found[str(split_N[rows[0]])].append(
            VideoSequence(
                name,
                frame_N[rows],
                video.features_T2F,
                video.logits_T2C,
                label_N[rows],
                clean_N[rows],
                None if target_NC is None else target_NC[rows],
                None if posterior_NC is None else posterior_NC[rows],
                rows,
            )
        )
    if seen != len(name_N):
        raise DataError(f"{features}: features of {seen:,} frames, but {labels} has {len(name_N):,}. Run `dvc repro`.")
    return {split: Sequences(tuple(found[split]), info.classes, info.source) for split in SPLITS}


def _check_rows(features: Path, name: str, rows: np.ndarray, seen: int, name_N: np.ndarray) -> None:
    expected = np.arange(seen, seen + len(rows))
    if not np.array_equal(rows, expected) or rows[-1] >= len(name_N) or (name_N[rows] != name).any():
        raise DataError(f"{features}: the features of {name} are those of other frames. Run `dvc repro -f features`.")


def epoch_clips(sequences: Sequences, config: SequenceConfig, epoch: int) -> list[Clip]:
    """The clips of an epoch, in its order: of each video as many as windows fit in it, from random starts.

    They depend only on `sequence.train.seed` and the epoch.
    """
    rng = np.random.default_rng((config.train.seed, CUT, epoch))
    clips = [
        Clip(number, cut(len(video), config, rng))
        for number, video in enumerate(sequences.videos)
        for _ in range(clips_of(len(video), config.window))
    ]
    order = np.random.default_rng((config.train.seed, ORDER, epoch)).permutation(len(clips))
    return [clips[i] for i in order]


def clips_of(frames: int, window: int) -> int:
    """Number of clips that an epoch cuts from a video."""
    return -(-frames // window)


def steps_per_epoch(sequences: Sequences, config: SequenceConfig) -> int:
    """Number of batches, of which the last can have fewer clips."""
    clips = sum(clips_of(len(video), config.window) for video in sequences.videos)
    return -(-clips // config.train.batch_size)


def cut(frames: int, config: SequenceConfig, rng: np.random.Generator) -> np.ndarray:
    """Positions of a clip in a video of `frames` frames: at least one, increasing, at most `config.window`."""
    if config.resample == "speed":
        speed = rng.uniform(*config.speed)
        span = min(int(np.ceil(config.window * speed)), frames)
        start = rng.integers(frames - span + 1)
        at = start + np.floor(np.arange(config.window) * speed).astype(np.int64)
        return np.unique(at[at < start + span])
    size = min(config.window, frames)
    at = rng.integers(frames - size + 1) + np.arange(size)
    if config.resample == "none":
        return at
    dropped = round(rng.uniform(*config.drop) * size)
    kept = rng.permutation(size)[: max(size - dropped, 1)]
    return at[np.sort(kept)]


def check_workers(sequences: Sequences, config: SequenceConfig, workers: int) -> None:
    """Checks that each worker gets a clip of each batch, of which the last can have fewer.

    Raises:
        ConfigError: it does not, or the batch is not divisible by the number of workers.
    """
    size = config.train.batch_size
    if size % workers:
        raise ConfigError(
            f"sequence.train.batch_size: {size} is not divisible by {workers} workers. Change it, or ray.num_workers."
        )
    clips = sum(clips_of(len(video), config.window) for video in sequences.videos)
    last = clips % size or min(size, clips)
    if last < workers:
        raise ConfigError(
            f"sequence.train.batch_size: {size} leaves {last} of {clips:,} clips for the last batch, but there are "
            f"{workers} workers. Change it, or ray.num_workers."
        )


@dataclass(frozen=True)
class ClipArrays:
    """A batch of B clips, padded to the longest."""

    features_BT2F: np.ndarray
    """float16; 0 where padded."""
    mask_BT: np.ndarray
    """bool, False where padded."""
    annotated_BT: np.ndarray
    """Whether the frame has a label, bool."""
    frame_BT: np.ndarray
    target: np.ndarray
    """int64 [B, T], 0 without a label; or distributions, float32 [B, T, C]."""
    index_BT: np.ndarray
    """Position of the frame among all frames of the split, int64."""


def collate(sequences: Sequences, clips: Sequence[Clip]) -> ClipArrays:
    """The arrays of the clips."""
    videos = [sequences.videos[clip.video] for clip in clips]
    offsets, longest = sequences.offsets, max(len(clip.at_T) for clip in clips)
    shape = len(clips), longest
    soft = videos[0].target_TC is not None
    features = np.zeros((*shape, *videos[0].features_T2F.shape[1:]), np.float16)
    mask, annotated = np.zeros(shape, bool), np.zeros(shape, bool)
    frame, index = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    target = np.zeros((*shape, len(sequences.classes)), np.float32) if soft else np.zeros(shape, np.int64)
    for b, (clip, video) in enumerate(zip(clips, videos, strict=True)):
        at, part = clip.at_T, (b, slice(0, len(clip.at_T)))
        features[part], mask[part], frame[part] = video.features_T2F[at], True, video.frame_T[at]
        annotated[part], index[part] = video.label_T[at] != NO_LABEL, offsets[clip.video] + at
        target[part] = np.maximum(video.label_T[at], 0) if video.target_TC is None else video.target_TC[at]
    return ClipArrays(features, mask, annotated, frame, target, index)


def batches(
    sequences: Sequences, config: SequenceConfig, epoch: int, rank: int = 0, world_size: int = 1
) -> Generator[ClipArrays]:
    """This rank's part of each batch of an epoch: every `world_size`-th clip of it, from the `rank`-th on.

    Raises:
        ConfigError: as `check_workers`.
    """
    size = config.train.batch_size
    check_workers(sequences, config, world_size)
    clips = epoch_clips(sequences, config, epoch)
    for start in range(0, len(clips), size):
        yield collate(sequences, clips[start : start + size][rank::world_size])
