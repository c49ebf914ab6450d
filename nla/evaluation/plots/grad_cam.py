"""Attention maps drawn over the faces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from nla.plotting import HEADLINE, INK, MUTED, VERMILLION, percent, short, styled

PAIRS = 4
"""Pairs per row; a pair is a face, and the same face with its map."""
WIDTH, FACE, GAP = 9.0, 1.0, 0.06  # inches: width of the sheet, of a face, between the two of a pair
TOP, CAPTION = 0.75, 0.34  # inches: headline, line under a pair
GLOW = LinearSegmentedColormap.from_list("nla.glow", [f"{VERMILLION}00", f"{VERMILLION}c0"])
"""From transparent to an orange through which the face stays visible."""


@styled
def attention_sheet(
    images_NHWC: np.ndarray, heat_NHW: np.ndarray, class_N: np.ndarray, p_N: np.ndarray, classes: Sequence[str]
) -> Figure:
    """Pairs of a face and the same face with the evidence for `class_N`, whose probability is `p_N`; heat is in [0, 1].

    images_NHWC are uint8, grey (one channel, or [N, H, W]) or RGB.
    """
    rows = max(-(-len(images_NHWC) // PAIRS), 1)
    height = TOP + rows * (FACE + CAPTION)
    figure = Figure(figsize=(WIDTH, height))
    across = WIDTH / PAIRS
    for n, image in enumerate(images_NHWC):
        x = n % PAIRS * across + (across - 2 * FACE - GAP) / 2
        y = height - TOP - n // PAIRS * (FACE + CAPTION) - FACE
        for side in range(2):
            left = (x + side * (FACE + GAP)) / WIDTH
            axes = figure.add_axes((left, y / height, FACE / WIDTH, FACE / height))
            _draw(axes, image, heat_NHW[n] if side else None)
        words = f"{short(classes[class_N[n]])} {percent(p_N[n], 0)}"
        below = ((x + FACE + GAP / 2) / WIDTH, (y - 0.06) / height)
        figure.text(*below, words, ha="center", va="top", fontsize=9, color=INK)
    left = (across - 2 * FACE - GAP) / 2 / WIDTH
    title, legend = "Where the network looks", "orange: what speaks for the class below it, by Grad-CAM"
    figure.text(left, 1 - 0.2 / height, title, va="top", fontsize=12, fontweight="bold", gid=HEADLINE)
    figure.text(left, 1 - 0.45 / height, legend, va="top", fontsize=9, color=MUTED, gid=HEADLINE)
    return figure


def _draw(axes: Axes, image: np.ndarray, heat_HW: np.ndarray | None) -> None:
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    if heat_HW is not None:
        axes.imshow(heat_HW, cmap=GLOW, vmin=0, vmax=1)
    axes.set_axis_off()
