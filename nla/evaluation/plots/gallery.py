"""Contact sheets of the faces that the model finds most ambiguous, or gets most confidently wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nla.plotting import BLUE, INK, MUTED, VERMILLION, percent, short, styled

COLUMNS = 8
WIDTH, FACE, GAP = 9.0, 1.0, 0.08  # inches: width of the sheet, of a face, between faces
TOP, CAPTION = 0.75, 0.66  # inches: headline, lines under a face
LINE = 12  # points
LONGEST = 11  # characters of a class name that fit under a face


@styled
def gallery(
    images_NHWC: np.ndarray,
    label_N: np.ndarray,
    p_NC: np.ndarray,
    classes: Sequence[str],
    index: np.ndarray,
    title: str,
) -> Figure:
    """Contact sheet of the samples `index` in their order: face, given label, prediction, runner-up.

    images_NHWC are uint8, grey (one channel, or [N, H, W]) or RGB.
    """
    rows = max(-(-len(index) // COLUMNS), 1)
    height = TOP + rows * (FACE + CAPTION)
    figure = Figure(figsize=(WIDTH, height))
    left = (WIDTH - COLUMNS * FACE - (COLUMNS - 1) * GAP) / 2
    for position, n in enumerate(index):
        x = left + position % COLUMNS * (FACE + GAP)
        y = height - TOP - position // COLUMNS * (FACE + CAPTION) - FACE
        axes = figure.add_axes((x / WIDTH, y / height, FACE / WIDTH, FACE / height))
        _draw_face(axes, images_NHWC[n], int(label_N[n]), p_NC[n], classes)
    figure.text(left / WIDTH, 1 - 0.2 / height, title, va="top", fontsize=12, fontweight="bold")
    legend = "given label; under it the prediction, blue where right and orange where wrong; then the runner-up"
    figure.text(left / WIDTH, 1 - 0.45 / height, legend, va="top", fontsize=9, color=MUTED)
    return figure


def _draw_face(axes: Axes, image: np.ndarray, label: int, p_C: np.ndarray, classes: Sequence[str]) -> None:
    axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    axes.set_axis_off()
    first, *second = np.argsort(-p_C, kind="stable")[:2]
    lines = [(short(classes[label], LONGEST), INK)]
    lines += [(f"{short(classes[first], LONGEST)} {percent(p_C[first], 0)}", BLUE if first == label else VERMILLION)]
    lines += [(f"{short(classes[c], LONGEST)} {percent(p_C[c], 0)}", MUTED) for c in second]
    below: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "center", "va": "top"}
    for line, (text, color) in enumerate(lines):
        axes.annotate(text, (0.5, 0), (0, -3 - LINE * line), color=color, fontsize=8, **below)
