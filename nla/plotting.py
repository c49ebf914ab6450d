"""Common style of all figures: colours, fonts, headlines and file formats.

Colours are Okabe and Ito's, which colour-blind readers can distinguish; sequential maps grow darker, so that they also
work in greyscale. No function uses pyplot or leaves an rcParam changed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from nla.fonts import DEFAULT, use_fallback_fonts, without_font_warnings
from nla.io import atomic_write

P = ParamSpec("P")

INK, MUTED, FAINT, GRID = "#1f2933", "#66727f", "#9aa5b1", "#e4e7eb"
BLUE, ORANGE, GREEN, VERMILLION = "#0072b2", "#e69f00", "#009e73", "#d55e00"
BLUES = LinearSegmentedColormap.from_list(
    "nla.blues", ["#f4f6f8", "#d6e6f2", "#8dbbdb", "#3c8dbf", "#0b5a8f", "#083a5e"]
)
SANDS = LinearSegmentedColormap.from_list("nla.sands", ["#fbfaf7", "#f4ecd8", "#ecd9a9", "#e6cb8b", "#d9b058"])

FORMATS = {"png": "Software", "pdf": "CreationDate", "svg": "Date"}
"""File formats, each with the metadata that matplotlib would write and that varies by day or version."""
HEADLINE = "headline"
DPI = 160  # 7.5 inches give 1200 pixels: sharp at a README's 830
STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.14,
    "figure.constrained_layout.w_pad": 0.14,
    "font.family": DEFAULT,  # ships with matplotlib, so figures are the same everywhere
    "font.size": 10.0,
    "pdf.fonttype": 42,  # TrueType, as publishers reject Type 3
    "text.color": INK,
    "text.parse_math": False,  # names are no mathematics, even with $; text that is has parse_math=True
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.labelpad": 6.0,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Runs `draw` under STYLE, and renders the figure: ticks are created, and read the style, only then.

    Characters that the default font lacks get a font of the system that has them.
    """

    @functools.wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE), without_font_warnings():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()
            if use_fallback_fonts(figure):
                figure.draw_without_rendering()
        return figure

    return draw_styled


def headline(axes: Axes, title: str, subtitle: str, lift: float = 0) -> None:
    """Writes the finding in bold above the axes, and its context below it; `lift` points leave room for a legend."""
    axes.set_title(title, fontsize=12, fontweight="bold", pad=26 + lift, gid=HEADLINE)
    above: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    axes.annotate(subtitle, (0, 1), xytext=(0, 9 + lift), **above, color=MUTED, fontsize=9.5, gid=HEADLINE)


def on_split(rows: int, split: str) -> str:
    """Number and split of the faces in a figure, and that their labels are unaltered."""
    return f"{rows:,} {split} faces, labels unaltered"


def short(name: str, longest: int = 14) -> str:
    """A class name, truncated to leave room for the figure; folders can have any name."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def percent(share: float, digits: int = 1) -> str:
    """0.8541 -> 85.4 %."""
    return f"{100 * share:.{digits}f} %"


def percent_axis(axis: Axis) -> None:
    """Formats the ticks of an axis of proportions as `percent` does."""
    axis.set_major_formatter(PercentFormatter(1, symbol=" %"))


def plain(figure: Figure) -> Figure:
    """Removes the headlines, for a paper that has captions instead."""
    for words in figure.findobj(Text):
        if isinstance(words, Text) and words.get_gid() == HEADLINE:
            words.set_text("")
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Saves the figure in the format of the suffix (FORMATS), atomically; the same figure gives the same bytes."""
    kind = path.suffix.removeprefix(".")
    with rc_context({**STYLE, "svg.hashsalt": "nla"}), without_font_warnings(), atomic_write(path) as part:
        figure.savefig(part, format=kind, dpi=DPI, metadata={FORMATS[kind]: None})
