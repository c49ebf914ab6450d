"""Mean and standard deviation of pixels, for input normalisation."""

from __future__ import annotations

import numpy as np

SLICE = 1000
"""Images counted at a time: np.bincount copies its input to int64."""


def pixel_statistics(images_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) per channel on the scale 0..1, exact, from histograms of the uint8 values."""
    values = np.arange(256) / 255
    means, stds = [], []
    for count_256 in _histograms(images_NHWC):
        share = count_256 / count_256.sum()
        mean = float(share @ values)
        means.append(mean)
        stds.append(max(float(np.sqrt(share @ (values - mean) ** 2)), 1 / 255))  # constant images: no division by 0
    return tuple(means), tuple(stds)


def _histograms(images_NHWC: np.ndarray) -> np.ndarray:
    """Number of pixels per channel and value, [C, 256]; in slices, because the images can be a mapped file."""
    channels = images_NHWC.shape[3]
    count_C256 = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images_NHWC), SLICE):
        part = np.asarray(images_NHWC[start : start + SLICE])
        for channel in range(channels):
            count_C256[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    return count_C256
