"""Smoothing of the frame model's scores over time: the baseline that every model of sequences has to beat.

Each frame gets the mean of its neighbours' scores, weighted by a Gaussian of the distance in frames. A frame that is
missing has no weight, so that a gap neither shifts nor dims what is around it.

Legend: T frames of a video, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nla.config.sequence import SequenceConfig
from nla.evaluation.metrics import MAIN_METRICS
from nla.video.metrics import video_counts
from nla.video.predict import frame_probabilities
from nla.video.sequences import Sequences

REACH = 4.0
"""Standard deviations behind which the weight, below 1/2000 of the largest, is taken as 0."""


def smoothed(p_TC: np.ndarray, frame_T: np.ndarray, sigma: float) -> np.ndarray:
    """Scores smoothed over time, float64 [T, C].

    Args:
        p_TC: scores of each frame, such as probabilities; a weighted mean of probabilities is one.
        frame_T: number of each frame, increasing.
        sigma: standard deviation of the Gaussian in frames, at least 0; 0 changes nothing.

    Raises:
        ValueError: sigma is negative, or the numbers do not increase.
    """
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0 (got {sigma})")
    if (np.diff(frame_T) <= 0).any():
        raise ValueError("frame numbers must increase")
    scores_TC = np.asarray(p_TC, np.float64)
    if sigma == 0 or not len(scores_TC):
        return scores_TC
    total_TC, weight_T = scores_TC.copy(), np.ones(len(scores_TC))
    number_T = np.asarray(frame_T, np.int64)
    for offset in range(1, len(scores_TC)):  # the offset-th neighbour is at least as many frames away
        if offset > REACH * sigma:
            break
        distance = number_T[offset:] - number_T[:-offset]
        w = np.where(distance <= REACH * sigma, np.exp(-((distance / sigma) ** 2) / 2), 0.0)
        total_TC[offset:] += w[:, None] * scores_TC[:-offset]
        total_TC[:-offset] += w[:, None] * scores_TC[offset:]
        weight_T[offset:] += w
        weight_T[:-offset] += w
    result: np.ndarray = total_TC / weight_T[:, None]
    return result


def smoothed_probabilities(sequences: Sequences, sigma: float) -> list[np.ndarray]:
    """Smoothed probabilities of the frame model, [T, C] of each video."""
    return [smoothed(frame_probabilities(video.logits_T2C), video.frame_T, sigma) for video in sequences.videos]


def choose_sigma(valid: Sequences, config: SequenceConfig) -> float:
    """The width of `sequence.smoothing` with the best metric `sequence.train.select` on validation."""
    metric = MAIN_METRICS[config.train.select]

    def score(sigma: float) -> float:
        return float(metric(video_counts(valid, smoothed_probabilities(valid, sigma)).sum(0)))

    return best_sigma(score, config.smoothing)[0]


def best_sigma(score: Callable[[float], float], sigmas: Sequence[float]) -> tuple[float, float]:
    """(width, score) of the width with the highest score, such as macro-F1 on validation; the smallest of equals."""
    scores = [(score(sigma), -sigma) for sigma in sorted(sigmas)]
    best, negative = max(scores)
    return -negative, best
