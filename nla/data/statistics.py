"""Mean and standard deviation of pixels, for the network's normalisation."""

from __future__ import annotations

import numpy as np

SLICE = 1000
"""Images counted at a time: np.bincount copies what it counts to int64."""


def pixel_statistics(images_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) a channel on the scale 0..1, exact, from histograms of the uint8 values."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images_NHWC.shape[3]):
        share = _histogram(images_NHWC[..., channel]) / images_NHWC[..., channel].size
        mean = float(share @ values)
        means.append(mean)
        stds.append(max(float(np.sqrt(share @ (values - mean) ** 2)), 1 / 255))  # one-coloured images: no division by 0
    return tuple(means), tuple(stds)


def _histogram(images_NHW: np.ndarray) -> np.ndarray:
    """How many pixels have each of the 256 values."""
    starts = range(0, len(images_NHW), SLICE)
    return sum((np.bincount(images_NHW[s : s + SLICE].ravel(), minlength=256) for s in starts), np.zeros(256, np.int64))
