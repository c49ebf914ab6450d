"""Drawn clips whose true posterior is known for each frame.

A clip is one face of nla.data.sources.synthetic whose expression walks: it rests at neutral, goes to an expression,
stays, and returns, for durations of their own (semi-Markov). At position m of the way, people call a frame by the
expression with probability g(m), as in that source. Whoever labels an excursion has a threshold u, uniform in [0, 1],
and changes the label where g(m) passes it: labels come in stretches, and each frame has the posterior g(m) nonetheless.
So the accuracy of the posterior's argmax bounds that of all models, frame by frame: also of one that sees the whole
clip, since it does not see the threshold.

Pose, gaze, light and sharpness drift: each is a stationary autoregression whose distribution in any one frame is that
of the images of that source. In episodes a hand covers a part of the face, or motion blurs it, so that a single frame
shows less than its neighbours.

Legend: T frames of a clip, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, get_type_hints

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import ndtr

from nla.config.clips import ClipsConfig
from nla.data.images import encode_png, pixel_hash
from nla.data.schema import SPLITS
from nla.data.sources.base import Findings, face_batch
from nla.data.sources.synthetic import (
    AMBIGUOUS,
    CLASSES,
    INTENSITY,
    blended,
    called_other,
    class_counts,
    true_posterior,
)
from nla.data.sources.synthetic_render import Look, draw_faces
from nla.video.frames import frame_batch

NEUTRAL = CLASSES.index("neutral")
RATE = 25.0  # frames per second
CAST = 2  # different expressions of a clip, at most

# Durations in frames, each uniform from the first to the second number.
REST, RAMP, STAY = (5, 30), (5, 15), (8, 40)
BEFORE = 80  # the longest excursion: clips begin anywhere in one, not all at rest
HALF_WAY = (0.4, 0.7)  # position of an ambiguous peak
CLEAR_PEAK = (0.85, 1.0)

MEMORY: Mapping[str, float] = {
    "shift_x": 40,
    "shift_y": 40,
    "scale": 100,
    "turn": 30,
    "yaw": 30,
    "pitch": 30,
    "gaze": 10,
    "light_x": 150,
    "light_y": 150,
    "contrast": 150,
    "brightness": 100,
    "blur": 20,
}
"""What drifts, and over how many frames its correlation falls to 1/e; the rest of a look is that of one identity."""
EPISODE = 12  # mean duration of what hides a face, in frames
MOTION = (1.2, 2.4)  # blur of a moving face, standard deviation in pixels
UNCOVERED, COVERED = 1.0, 0.0  # of Look.hand


class Walk(NamedTuple):
    """The expression of each frame of a clip, [T] each."""

    expression_T: NDArray[np.int64]
    """The expression that blends with neutral."""
    position_T: NDArray[np.float64]
    """m: 0 at neutral, 1 at the expression."""
    intensity_T: NDArray[np.float64]
    label_T: NDArray[np.int64]


class Drawn:
    """The source `drawn`; nothing is read from `root`."""

    name = "drawn"
    classes: tuple[str, ...] = CLASSES
    votes: tuple[str, ...] = ()
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: ClipsConfig, root: Path) -> None:
        del root
        self._config = config.drawn
        self._videos = {split: int(getattr(config.drawn, split)) for split in SPLITS}

    def __len__(self) -> int:
        return sum(self._videos.values()) * self._config.frames

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields a record batch of FRAMES per video. It depends only on the seed, the split and the video's number."""
        del findings
        row = 0
        for split, videos in self._videos.items():
            for number in range(videos):
                rng = np.random.default_rng((self._config.seed, SPLITS.index(split), number))
                yield self._batch(split, f"{split}-{number:05d}", row, rng)
                row += self._config.frames

    def _batch(self, split: str, video: str, row: int, rng: np.random.Generator) -> pa.RecordBatch:
        frames, shares_C = self._config.frames, expression_shares(split)
        walk = draw_walk(frames, shares_C, rng)
        neutral_T = np.full(frames, NEUTRAL)
        side_T = np.full(frames, rng.choice([-1, 1]))
        muscles_TM = blended(neutral_T, walk.expression_T, walk.position_T, side_T, walk.intensity_T, rng)
        pixels = draw_faces(muscles_TM, draw_looks(frames, self._config.hidden, rng), rng)
        number_T = np.arange(1, frames + 1)
        faces = face_batch(
            np.arange(row, row + frames),
            [split] * frames,
            [pixel_hash(image) for image in pixels],
            [encode_png(image) for image in pixels],
            [f"drawn/{video}/{number:05d}.png" for number in number_T],
            label=walk.label_T.astype(np.int8),
            posterior=list(true_posterior(neutral_T, walk.expression_T, walk.position_T).astype(np.float32)),
        )
        return frame_batch(faces, np.full(frames, video), number_T, (number_T - 1) / RATE)


def expression_shares(split: str) -> NDArray[np.float64]:
    """Probability of each expression [C] for an excursion; 0 for neutral, between all excursions.

    Those of train are unbalanced, as in the images' source: the posterior is between neutral and *one* expression, so
    that it does not depend on them.
    """
    counts_C = class_counts(split, 1000 * len(CLASSES)).astype(np.float64)
    counts_C[NEUTRAL] = 0
    shares_C: NDArray[np.float64] = counts_C / counts_C.sum()
    return shares_C


def draw_walk(frames: int, shares_C: NDArray[np.float64], rng: np.random.Generator) -> Walk:
    """Expression, position, intensity and label of each frame."""
    cast = rng.choice(len(shares_C), CAST, replace=False, p=shares_C)
    skipped = int(rng.integers(BEFORE))
    parts: list[tuple[NDArray[np.float64], ...]] = []
    drawn = 0
    while drawn < skipped + frames:
        position = _excursion(rng)
        expression, threshold = rng.choice(cast), rng.random()
        called = np.where(threshold < called_other(position), expression, NEUTRAL)
        parts.append((np.full(len(position), expression), position, np.full(len(position), _intensity(rng)), called))
        drawn += len(position)
    expression_T, position_T, intensity_T, label_T = (
        np.concatenate(column)[skipped : skipped + frames] for column in zip(*parts, strict=True)
    )
    return Walk(expression_T.astype(np.int64), position_T, intensity_T, label_T.astype(np.int64))


def _excursion(rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions from a rest at neutral to an expression and back."""
    peak = rng.uniform(*(HALF_WAY if rng.random() < AMBIGUOUS else CLEAR_PEAK))
    rest, up, stay, down = (int(rng.integers(low, high + 1)) for low, high in (REST, RAMP, STAY, RAMP))
    return peak * np.concatenate([np.zeros(rest), _ramp(up), np.ones(stay), _ramp(down)[::-1]])


def _ramp(frames: int) -> NDArray[np.float64]:
    """From 0 to 1, smooth at both ends."""
    way: NDArray[np.float64] = (1 - np.cos(np.pi * (np.arange(frames) + 0.5) / frames)) / 2
    return way


def _intensity(rng: np.random.Generator) -> float:
    return float(rng.uniform(*INTENSITY))


def draw_looks(frames: int, hidden: float, rng: np.random.Generator) -> Look:
    """The looks of one identity in `frames` frames that follow each other."""
    first = Look.draw(1, rng)
    fields = {name: np.repeat(value, frames, axis=0) for name, value in vars(first).items()}
    for name, hint in get_type_hints(Look, include_extras=True).items():
        if name in MEMORY:
            low, high = hint.__metadata__
            fields[name] = _column(low + (high - low) * ndtr(autoregression(frames, MEMORY[name], rng)))
    is_covered_T, is_moving_T = (episodes(frames, hidden, rng) for _ in range(2))
    fields["hand"] = _column(np.where(is_covered_T, COVERED, UNCOVERED))
    fields["blur"] = np.where(is_moving_T[:, None, None], np.float32(rng.uniform(*MOTION)), fields["blur"])
    return Look(**fields)


def _column(value_T: NDArray[np.floating]) -> NDArray[np.float32]:
    return value_T.astype(np.float32)[:, None, None]


def autoregression(frames: int, memory: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A stationary Gaussian sequence [T] of variance 1 with the correlation exp(-k / memory) over k frames."""
    rho = np.exp(-1 / memory)
    value_T = rng.normal(0, 1, frames)
    value_T[1:] *= np.sqrt(1 - rho**2)
    for t in range(1, frames):
        value_T[t] += rho * value_T[t - 1]
    return value_T


def episodes(frames: int, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Whether something happens in a frame [T]: in a share of all frames, for EPISODE frames in the mean."""
    begins = share / (1 - share) / EPISODE
    chance_T = rng.random(frames)
    is_on_T = np.zeros(frames, bool)
    is_on = chance_T[0] < share
    for t in range(frames):
        if t:
            is_on = chance_T[t] >= 1 / EPISODE if is_on else chance_T[t] < begins
        is_on_T[t] = is_on
    return is_on_T
