"""The paper's figure of the weight as a function of a sample's position.

A sample's position is (p_GT, p_NN): the probability of its given label, and the largest one of the other classes. They
sum to at most 1, so all samples lie in a triangle with the corners clean (1, 0) and noisy (0, 1); at p_GT = p_NN they
are ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from nla.plotting import BLUE, INK, MUTED, SANDS, VERMILLION, styled

Weight = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(p_gt [...], p_nn [...], progress) -> weight [...]."""

Group = tuple[str, str, np.ndarray]
"""(name, colour, members [N])."""

MOST = 3000  # samples drawn; more would only cover each other
GRID = 400  # points per side of the weight map
WIDTH, HEIGHT, TITLE = 10.0, 5.3, 0.3  # inches: of the figure, and what a title adds to its height
SIDE, BOTTOM = 4.15, 0.61  # inches: side of a panel, margin below it


@styled
def weight_triangle(
    weight: Weight,
    early_N2: np.ndarray,
    late_N2: np.ndarray,
    is_flipped_N: np.ndarray | None = None,
    *,
    epoch_early: int,
    epoch_late: int,
    epochs: int,
    title: str = "",
    seed: int = 0,
) -> Figure:
    """The weight over the triangle with the training samples on it, early and late side by side.

    `*_N2` are the (p_GT, p_NN) of the same N samples in two epochs of `epochs`: those after `epoch_*` whole epochs.
    If `is_flipped_N` is given, samples with a flipped label get their own colour. At most MOST samples, drawn with
    `seed`, are shown; the mean weights are over all. `title` is written above both panels.
    """
    figure, panels, bar = _layout(title)
    moments = (epoch_early, epoch_late)
    p_gt, p_nn = _grid()
    maps = [weight(p_gt, p_nn, epoch / epochs) for epoch in moments]
    scale = Normalize(0, max(float(map_GG[p_gt + p_nn <= 1].max()) for map_GG in maps) or 1.0)
    groups, shown_N = _groups(len(early_N2), is_flipped_N), _shown(len(early_N2), seed)
    for axes, position_N2, epoch, map_GG in zip(panels, (early_N2, late_N2), moments, maps, strict=True):
        image = _draw_weight(axes, map_GG, scale)
        weight_N = weight(position_N2[:, 0], position_N2[:, 1], epoch / epochs)
        _draw_samples(axes, position_N2, weight_N, groups, shown_N)
        _annotate(axes)
        axes.set_title(f"In epoch {epoch + 1} of {epochs}", fontsize=12, fontweight="bold", pad=10)
    panels[0].set_ylabel("$p_{NN}$, the largest of the other classes", parse_math=True)
    panels[1].set_yticklabels([])
    figure.colorbar(image, cax=bar)
    bar.set_title("weight", fontsize=10, pad=8)
    return figure


def _layout(title: str) -> tuple[Figure, list[Axes], Axes]:
    """The figure, its two square panels, which no layout engine keeps square, and the axes of the colour bar."""
    height = HEIGHT + TITLE * bool(title)
    figure = Figure(figsize=(WIDTH, height))
    figure.suptitle(title, y=1 - 0.15 / height, fontsize=11, color=MUTED)
    size = (SIDE / WIDTH, SIDE / height)
    panels = [figure.add_axes((left / WIDTH, BOTTOM / height, *size)) for left in (0.65, 5.05)]
    return figure, panels, figure.add_axes((9.38 / WIDTH, BOTTOM / height, 0.14 / WIDTH, 3.92 / height))


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = np.linspace(0, 1, GRID)
    p_gt, p_nn = np.meshgrid(axis, axis)
    return p_gt, p_nn


def _shown(samples: int, seed: int) -> NDArray[np.bool_]:
    shown_N = np.zeros(samples, bool)
    shown_N[np.random.default_rng(seed).permutation(samples)[:MOST]] = True
    return shown_N


def _groups(samples: int, is_flipped_N: np.ndarray | None) -> list[Group]:
    """Groups of samples to colour; a group without members is left out."""
    flipped_N = np.zeros(samples, bool) if is_flipped_N is None else np.asarray(is_flipped_N, bool)
    groups = [("given label" if is_flipped_N is None else "unflipped label", BLUE, ~flipped_N)]
    groups.append(("flipped label", VERMILLION, flipped_N))
    return [group for group in groups if group[2].any()]


def _draw_weight(axes: Axes, map_GG: np.ndarray, scale: Normalize) -> AxesImage:
    triangle = Polygon([(0, 0), (1, 0), (0, 1)], closed=True, fill=False, edgecolor=MUTED, lw=1)
    axes.add_patch(triangle)
    image = axes.imshow(map_GG, extent=(0, 1, 0, 1), origin="lower", cmap=SANDS, norm=scale, interpolation="nearest")
    image.set_clip_path(triangle)
    levels = np.linspace(0, scale.vmax or 1.0, 9)[1:-1]
    p_gt, p_nn = _grid()
    for side in (p_gt >= p_nn, p_gt < p_nn):  # separately, because the weight can jump where p_GT = p_NN
        crossed = levels[(levels > map_GG[side].min()) & (levels < map_GG[side].max())]
        if crossed.size:
            lines = axes.contour(p_gt, p_nn, np.where(side, map_GG, np.nan), crossed, colors="white", linewidths=0.9)
            lines.set_clip_path(triangle)
    return image


def _draw_samples(
    axes: Axes,
    position_N2: np.ndarray,
    weight_N: np.ndarray,
    groups: list[Group],
    shown_N: np.ndarray,
) -> None:
    for name, color, member_N in groups:
        label = f"{name}: mean weight {np.nanmean(weight_N[member_N]):.2f}"  # NaN: a sample not seen yet
        dots: dict[str, Any] = {"s": 6, "linewidths": 0, "alpha": 0.5, "zorder": 3}
        axes.scatter(*position_N2[member_N & shown_N].T, color=color, label=label, **dots)
    legend = axes.legend(loc="upper right", handletextpad=0.1, borderaxespad=0, markerscale=2.5)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def _annotate(axes: Axes) -> None:
    axes.plot([0, 0.5], [0, 0.5], color=INK, lw=1.2, ls=(0, (4, 3)), zorder=4)
    ticks = np.linspace(0, 1, 6)
    axes.set(xlim=(-0.02, 1.06), ylim=(-0.02, 1.06), xticks=ticks, yticks=ticks)
    axes.set_xlabel("$p_{GT}$, probability of the given label", parse_math=True)
    for word, x, y in (("noisy", 0.035, 1.0), ("ambiguous", 0.53, 0.52), ("clean", 0.93, 0.12)):
        axes.text(x, y, word, va="center", color=INK, fontweight="bold")
