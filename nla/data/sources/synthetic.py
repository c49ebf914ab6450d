"""Synthetic faces whose true label posterior is known.

A face blends two expressions: its muscles are at (1 - m) of one prototype and m of the other. People label it as the
other one with probability g(m) = 1 / (1 + exp(-STEEPNESS (m - 1/2))); the label and the ten votes are independent
draws from that. So the posterior is that of the expression on the face, before pose, light, occlusion and blur make it
harder to see: no classifier of the pixels does better on average than its argmax.

The posterior is the same in every split, although train is imbalanced. A pair of classes {a, b} is drawn with a weight
that is symmetric in a and b, and m from a density h with h(m) = h(1 - m). Then P(a, {a, b}, m) = weight h(m) (1 - g(m))
for any weights, and dividing by the sum over both labels leaves (1 - g(m)): the prior cancels. The split's class counts
only determine the weights, so labels and votes follow the same law, and what is learned on train holds on test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nla.config.data import DataConfig
from nla.data.images import encode_png, pixel_hash
from nla.data.schema import SPLITS
from nla.data.sources.base import Findings, face_batch
from nla.data.sources.synthetic_render import Look, Muscle, draw_faces

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
FERPLUS_TRAIN = (8740, 7287, 3149, 3014, 2100, 119, 532, 119)  # FERPlus' training rows per class, majority rule
SMALLEST_CLASS = 1 / 32  # minimum share of the training rows: see `class_counts`
ANNOTATORS = 10  # as in FERPlus
BATCH = 256  # faces drawn at once: about 100 MiB at the peak

STEEPNESS = 10.0  # of g: at 0.1 from the middle, 73 % choose the right label
AMBIGUOUS = 0.35  # fraction of the faces with m in the middle half
CLEAR = 0.15  # the others have m below this, or above 1 minus this
INTENSITY = (0.95, 1.2)  # factor on the whole expression
TWITCH = 0.04  # standard deviation of the noise on each muscle

_LAYOUT, _FACES = 0, 1  # keys of independent random streams

# Muscles of each expression, after the emotion prototypes of Ekman & Friesen's FACS.
_M = Muscle
EXPRESSIONS: Mapping[str, Mapping[Muscle, float]] = {
    "neutral": {},
    "happiness": {_M.PULL: 1.0, _M.LID_TIGHT: 0.6, _M.JAW: 0.35},
    "surprise": {_M.INNER_BROW: 1.0, _M.OUTER_BROW: 1.0, _M.EYE_OPEN: 0.8, _M.JAW: 1.0},
    "sadness": {_M.INNER_BROW: 1.0, _M.FROWN: 0.3, _M.EYE_OPEN: -0.4, _M.DEPRESS: 1.0},
    "anger": {_M.FROWN: 1.0, _M.EYE_OPEN: 0.3, _M.LID_TIGHT: 0.4, _M.PRESS: 1.0},
    "disgust": {_M.NOSE_WRINKLE: 1.0, _M.UPPER_LIP: 1.0, _M.LID_TIGHT: 0.9, _M.JAW: 0.2, _M.DEPRESS: 0.5},
    "fear": {_M.INNER_BROW: 1.0, _M.FROWN: 0.3, _M.EYE_OPEN: 1.0, _M.STRETCH: 1.0, _M.JAW: 0.35, _M.DEPRESS: 0.2},
    "contempt": {_M.SMIRK: 1.0, _M.EYE_OPEN: -0.7},
}
PROTOTYPES = np.array([[EXPRESSIONS[c].get(m, 0.0) for m in Muscle] for c in CLASSES])  # [C, M]

# Which expressions blend: three ways to pair all eight, and how often each is used. So every class has the same
# fraction of ambiguous faces, and no blend passes near a third expression.
PAIRINGS = (
    (0.4, (("neutral", "sadness"), ("happiness", "contempt"), ("surprise", "fear"), ("anger", "disgust"))),
    (0.3, (("neutral", "contempt"), ("happiness", "surprise"), ("sadness", "fear"), ("anger", "disgust"))),
    (0.3, (("neutral", "happiness"), ("surprise", "fear"), ("sadness", "anger"), ("disgust", "contempt"))),
)


def _affinity() -> NDArray[np.float64]:
    """How often a class blends with another in a balanced split, [C, C]; symmetric, rows sum to 1."""
    matrix = np.zeros((len(CLASSES), len(CLASSES)))
    for part, pairs in PAIRINGS:
        for one, other in pairs:
            i, j = CLASSES.index(one), CLASSES.index(other)
            matrix[i, j] += part
            matrix[j, i] += part
    return matrix


AFFINITY = _affinity()


def class_counts(split: str, rows: int) -> NDArray[np.int64]:
    """Rows per class, summing to `rows`: equal in valid and test, in FERPlus' proportions in train.

    Merely scaled down, FERPlus' two smallest classes would be 57 rows of 12,000, which a network cannot learn in a few
    epochs. So a class has at least SMALLEST_CLASS of all rows, and the largest is 10 times the smallest, compared with
    73 in FERPlus; `data.imbalance_factor` increases it.
    """
    if split != "train":
        return _apportion(np.ones(len(CLASSES)), rows)
    floor = int(rows * SMALLEST_CLASS)
    counts = _apportion(np.array(FERPLUS_TRAIN, float), rows)
    while (counts < floor).any():
        is_small = counts <= floor
        counts[is_small] = floor
        counts[~is_small] = _apportion(np.array(FERPLUS_TRAIN, float)[~is_small], rows - floor * int(is_small.sum()))
    return counts


def _apportion(shares: NDArray[np.float64], rows: int) -> NDArray[np.int64]:
    """Distributes `rows` in proportion to `shares` by the largest remainder method."""
    exact = shares / shares.sum() * rows
    counts: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    rest = rows - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:rest]] += 1
    return counts


def called_other(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """g: probability that a face at `position` in [0, 1] between two expressions is labelled as the second one."""
    return 1 / (1 + np.exp(-STEEPNESS * (position - 0.5)))


def draw_positions(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions m between label and partner, given the label: density 2 h(m) (1 - g(m)).

    h is symmetric, so a draw from it can be measured from either end: (1 - g) decides which one is the label's.
    """
    middle = rng.uniform(0.25, 0.75, count)
    end = rng.uniform(0, CLEAR, count)
    from_h = np.where(rng.random(count) < AMBIGUOUS, middle, np.where(rng.random(count) < 0.5, end, 1 - end))
    return np.where(rng.random(count) < called_other(from_h), 1 - from_h, from_h)


def draw_partners(label_N: NDArray[np.int64], counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The other expression of each face.

    The pair {a, b} has the weight min(n_a, n_b) AFFINITY[a, b], which is symmetric; the rest of a larger class does not
    blend: its partner is the class itself.
    """
    parts = np.minimum(counts[:, None], counts[None, :]) * AFFINITY / np.maximum(counts[:, None], 1)
    parts[np.diag_indices_from(parts)] += 1 - parts.sum(1)
    chosen: NDArray[np.int64] = (rng.random((len(label_N), 1)) > np.cumsum(parts, axis=1)[label_N, :-1]).sum(1)
    return chosen


class Synthetic:
    """The source `synthetic`; nothing is read from `root`."""

    name = "synthetic"
    classes: tuple[str, ...] = CLASSES
    votes: tuple[str, ...] = CLASSES
    known_counts: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: DataConfig, root: Path) -> None:
        del root
        self._seed = config.synthetic.seed
        self._rows = {split: int(getattr(config.synthetic, split)) for split in SPLITS}

    def __len__(self) -> int:
        return sum(self._rows.values())

    def batches(self, findings: Findings) -> Iterator[pa.RecordBatch]:
        """Yields record batches of FACES, split by split. A batch depends only on the seed and the counts."""
        del findings
        first_row = 0
        for split, rows in self._rows.items():
            counts = class_counts(split, rows)
            stream = self._seed, SPLITS.index(split)
            labels = np.random.default_rng((*stream, _LAYOUT)).permutation(np.repeat(np.arange(len(CLASSES)), counts))
            for start in range(0, rows, BATCH):
                rng = np.random.default_rng((*stream, _FACES, start))
                yield _batch(labels[start : start + BATCH], counts, split, start, first_row + start, rng)
            first_row += rows


def _batch(
    label_N: NDArray[np.int64],
    counts: NDArray[np.int64],
    split: str,
    number: int,
    row: int,
    rng: np.random.Generator,
) -> pa.RecordBatch:
    """Faces with these labels; `number` counts from 0 within the split, `row` within the source."""
    size = len(label_N)
    partner_N = draw_partners(label_N, counts, rng)
    position_N = draw_positions(size, rng)
    posterior_NC = true_posterior(label_N, partner_N, position_N)
    pixels = draw_faces(muscles(label_N, partner_N, position_N, rng), Look.draw(size, rng), rng)
    paths = [f"synthetic/{split}/{number + i:05d}.png" for i in range(size)]
    return face_batch(
        np.arange(row, row + size),
        [split] * size,
        [pixel_hash(image) for image in pixels],
        [encode_png(image) for image in pixels],
        paths,
        label=label_N.astype(np.int8),
        votes=list(rng.multinomial(ANNOTATORS, posterior_NC).astype(np.int16)),
        posterior=list(posterior_NC.astype(np.float32)),
    )


def true_posterior(
    first_N: NDArray[np.int64], second_N: NDArray[np.int64], position_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """P(class | face) [N, C] of faces at `position_N` between two expressions; 1 if both are the same."""
    posterior_NC = np.zeros((len(first_N), len(CLASSES)))
    rows, other = np.arange(len(first_N)), called_other(position_N)
    posterior_NC[rows, first_N] += 1 - other
    posterior_NC[rows, second_N] += other
    return posterior_NC


def muscles(
    first_N: NDArray[np.int64],
    second_N: NDArray[np.int64],
    position_N: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Muscle activities [N, M]: the blend with its intensity and noise, and a random side for smirks."""
    side_N, intensity_N = rng.choice([-1, 1], len(first_N)), rng.uniform(*INTENSITY, len(first_N))
    return blended(first_N, second_N, position_N, side_N, intensity_N, rng)


def blended(
    first_N: NDArray[np.int64],
    second_N: NDArray[np.int64],
    position_N: NDArray[np.float64],
    side_N: NDArray[np.integer],
    intensity_N: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Muscle activities [N, M] of faces whose side of smirks (-1 or 1) and intensity are given."""
    blend: NDArray[np.float64] = PROTOTYPES[first_N] + position_N[:, None] * (
        PROTOTYPES[second_N] - PROTOTYPES[first_N]
    )
    blend[:, Muscle.SMIRK] *= side_N
    blend *= intensity_N[:, None]
    blend += rng.normal(0, TWITCH, blend.shape)
    return blend


def make_faces(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws faces with clear expressions of random classes, for examples: images [N, 48, 48], and indices of CLASSES.

    The data set of this source also has ambiguous faces, votes and imbalance.
    """
    rng = np.random.default_rng(seed)
    label_N = rng.integers(len(CLASSES), size=count)
    muscles_NM = muscles(label_N, label_N, np.zeros(count), rng)
    return draw_faces(muscles_NM, Look.draw(count, rng), rng), label_N
