"""Figure of one clip over time: the true posterior, the labels, what each method says, and NAW's weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nla.plotting import BLUES, FAINT, GREEN, INK, MUTED, VERMILLION, headline, styled
from nla.video.frames import NO_LABEL

STRIP, LINE = 1.15, 0.9
"""Heights of a panel of probabilities and of one of numbers, in inches."""


@dataclass(frozen=True)
class ClipView:
    """A clip of T frames, as it is drawn."""

    name: str
    classes: Sequence[str]
    frame_T: np.ndarray
    given_T: np.ndarray
    """Labels given to training; NO_LABEL: not annotated."""
    clean_T: np.ndarray
    """Labels before noise."""
    p: Mapping[str, np.ndarray]
    """Title -> probabilities [T, C], in the order of the panels."""
    weight_T: np.ndarray | None
    """NAW's weight of each frame late in training, NaN where unknown; None: not a training clip, or another loss."""


@styled
def clip_figure(view: ClipView) -> Figure:
    """A panel for the labels, one for each entry of `view.p`, and one for the weight if there is one.

    Labels before noise are drawn in green; where training got a wrong one, that is drawn in red.
    """
    shown = _present(view)
    titles = [*view.p, "weight"] if view.weight_T is not None else [*view.p]
    heights = [STRIP] * (1 + len(view.p)) + [LINE] * (len(titles) - len(view.p))
    figure = Figure(figsize=(9.0, sum(heights) + 1.2), layout="constrained")
    axes = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    _labels(axes[0], view, shown)
    for panel, (title, p_TC) in zip(axes[1:], view.p.items(), strict=False):
        _probabilities(panel, view, shown, title, p_TC)
    if view.weight_T is not None:
        axes[-1].plot(view.frame_T, view.weight_T, color=INK, lw=1.2)
        axes[-1].set_ylim(0, None)
        axes[-1].set_title("weight of the frame, late in training", color=MUTED)
    axes[-1].set_xlabel("frame")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    wrong = int(_is_wrong(view).sum())
    told = f"{wrong} of {len(view.frame_T)} labels are wrong" if wrong else "all labels are right"
    headline(axes[0], f"{view.name}: {told}", "green: label before noise; red: wrong label given to training", lift=18)
    return figure


def _present(view: ClipView) -> np.ndarray:
    """Classes that have a label, or half of the probability in some frame; all others stay blank."""
    often = np.any([p_TC.max(0) > 0.5 for p_TC in view.p.values()], axis=0)
    labelled = np.isin(np.arange(len(view.classes)), np.concatenate([view.given_T, view.clean_T]))
    return np.flatnonzero(often | labelled)


def _is_wrong(view: ClipView) -> np.ndarray:
    wrong_T: np.ndarray = (view.given_T != view.clean_T) & (view.given_T != NO_LABEL)
    return wrong_T


def _labels(axes: Axes, view: ClipView, shown: np.ndarray) -> None:
    row = {int(c): i for i, c in enumerate(shown)}
    for labels_T, which_T, color in (
        (view.clean_T, view.clean_T != NO_LABEL, GREEN),
        (view.given_T, _is_wrong(view), VERMILLION),
    ):
        frames = view.frame_T[which_T]
        axes.scatter(frames, [row[int(c)] for c in labels_T[which_T]], marker="s", s=9, color=color, linewidths=0)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    _name_classes(axes, view, shown)


def _probabilities(axes: Axes, view: ClipView, shown: np.ndarray, title: str, p_TC: np.ndarray) -> None:
    left, right = view.frame_T[0] - 0.5, view.frame_T[-1] + 0.5
    dense = np.full((len(shown), int(right - left)), np.nan)  # a missing frame stays blank
    dense[:, (view.frame_T - view.frame_T[0]).astype(int)] = p_TC[:, shown].T
    extent = (left, right, len(shown) - 0.5, -0.5)
    axes.imshow(dense, cmap=BLUES, vmin=0, vmax=1, aspect="auto", interpolation="nearest", extent=extent)
    axes.set_title(title, color=MUTED)
    _name_classes(axes, view, shown)


def _name_classes(axes: Axes, view: ClipView, shown: np.ndarray) -> None:
    axes.set_yticks(range(len(shown)), [view.classes[c] for c in shown])
    axes.tick_params(axis="y", color=FAINT, length=0)
