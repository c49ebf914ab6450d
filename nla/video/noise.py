"""Synthetic label noise of videos: wrong labels for whole segments.

Noise of images is independent from one image to the next, and so is that of frames by
nla.data.synthetic_noise.flip_labels. An annotator of a video marks stretches, and is wrong for a stretch; smoothing
over time, which removes independent errors, does not remove those. Both laws have the same share of wrong frames,
exactly, so that only their arrangement differs.

Legend: N frames, U units: pieces of at most `length` frames that follow each other and have the same label.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nla.config.data import NoiseKind
from nla.data.synthetic_noise import wrong_labels
from nla.errors import DataError


def flip_units(
    label_N: np.ndarray,
    start_U: np.ndarray,
    num_classes: int,
    kind: NoiseKind,
    rate: float,
    mapping: Mapping[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Labels of which round(rate * n) are wrong, unit by unit.

    All frames of a chosen unit get the same wrong label; the last unit chosen is cut short where the number is reached.
    With the same seed a higher rate flips the same frames to the same labels, and more.

    Args:
        label_N: clean labels, of annotated frames alone.
        start_U: positions at which units begin, as of `units`.
        num_classes: number of classes.
        kind: as for flip_labels.
        rate: share of the frames; for asymmetric, of those whose class is in the map.
        mapping: class -> class, for asymmetric noise.
        rng: random generator.

    Raises:
        DataError: as flip_labels.
    """
    if num_classes < 2:
        raise DataError(f"clips.noise.rate: label noise needs two classes or more (got {num_classes}). Set it to 0.")
    size_U = np.diff(np.append(start_U, len(label_N)))
    wrong_U = wrong_labels(label_N[start_U], num_classes, kind, mapping, rng)
    eligible_U = wrong_U != label_N[start_U]
    left = round(rate * int(size_U[eligible_U].sum()))
    noisy_N: np.ndarray = label_N.copy()
    for unit in rng.permutation(np.flatnonzero(eligible_U)):
        frames = min(left, int(size_U[unit]))
        noisy_N[start_U[unit] : start_U[unit] + frames] = wrong_U[unit]
        left -= frames
        if not left:
            break
    return noisy_N


def units(label_N: np.ndarray, video_N: np.ndarray, frame_N: np.ndarray, length: int) -> np.ndarray:
    """Positions at which units begin, int [U].

    Runs of frames with the same label, without a gap, are cut into units of `length` frames and a shorter rest.

    Args:
        label_N: labels of annotated frames.
        video_N: a number for each video; its frames follow each other.
        frame_N: number of the frame in the video, increasing.
        length: frames of a unit, at least 1.
    """
    if not len(label_N):
        return np.zeros(0, np.intp)
    is_new_N = np.ones(len(label_N), bool)
    is_new_N[1:] = (np.diff(video_N) != 0) | (np.diff(label_N.astype(int)) != 0) | (np.diff(frame_N) != 1)
    run_start_N = np.maximum.accumulate(np.where(is_new_N, np.arange(len(label_N)), 0))
    return np.flatnonzero((np.arange(len(label_N)) - run_start_N) % length == 0)
