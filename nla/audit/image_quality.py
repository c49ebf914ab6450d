"""How sharp and how bright images are: poor ones explain a doubtful label better than the label does.

Legend: N images.
"""

from __future__ import annotations

import cv2
import numpy as np


def sharpness(images_NHWC: np.ndarray) -> np.ndarray:
    """Variance of the Laplacian of each grey image, float32 [N]; low if it is blurred, 0 if it has one colour.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    variances = [cv2.Laplacian(grey, cv2.CV_32F).var() for grey in _grey(images_NHWC)]
    return np.array(variances, np.float32)


def brightness(images_NHWC: np.ndarray) -> np.ndarray:
    """Mean of the pixels of each image, float32 [N], from 0, black, to 1, white."""
    means = [grey.mean() / 255 for grey in _grey(images_NHWC)]
    return np.array(means, np.float32)


def rank(value_N: np.ndarray) -> np.ndarray:
    """Rank of each value, int64 [N], from 0, the lowest first; ties in their order."""
    rank_N = np.empty(len(value_N), np.int64)
    rank_N[np.argsort(value_N, kind="stable")] = np.arange(len(value_N))
    return rank_N


def _grey(images_NHWC: np.ndarray) -> list[np.ndarray]:
    return [pixels.astype(np.float32).mean(axis=2) for pixels in images_NHWC]
