"""Mean and standard deviation of pixels, for the network's normalisation."""

from __future__ import annotations

import numpy as np


def pixel_statistics(images_NHWC: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) a channel on the scale 0..1, exact, from histograms of the uint8 values."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in range(images_NHWC.shape[3]):
        share = np.bincount(images_NHWC[..., channel].ravel(), minlength=256) / images_NHWC[..., channel].size
        mean = float(share @ values)
        means.append(mean)
        stds.append(max(float(np.sqrt(share @ (values - mean) ** 2)), 1 / 255))  # one-coloured images: no division by 0
    return tuple(means), tuple(stds)
