"""Fonts for text that the default font lacks characters of, such as class names in Chinese.

Fonts are looked for on this system only when a character is missing; other figures are the same everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

DEFAULT = "DejaVu Sans"
"""Ships with matplotlib."""
SUBSTITUTE = "Last Resort"
"""Begins the name of the font, also matplotlib's, that draws a box for every character."""
_reported: set[str] = set()
log = logging.getLogger(__name__)
MATPLOTLIB = logging.getLogger("matplotlib.font_manager")


def use_fallback_fonts(figure: Figure) -> bool:
    """Sets fallback fonts where the text of `figure` needs them, and returns whether it does.

    What no font has is reported once, and drawn as boxes. Labels of ticks are known only once the figure is drawn.
    """
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    missing = frozenset(_missing("".join(text.get_text() for text in texts)))
    if not missing:
        return False
    families, lacking = _fallbacks(missing)
    for text in texts:
        if families and _missing(text.get_text()):
            text.set_fontfamily([DEFAULT, *families])
    _report(lacking)
    return bool(families)


def font_file(text: str) -> str:
    """Path of a font that has the characters of `text`, or most of them: the default font, if it has all."""
    families, lacking = _fallbacks(frozenset(_missing(text)))
    _report(lacking)
    return str(font_manager.findfont(families[0] if families else DEFAULT))


@contextlib.contextmanager
def without_font_warnings() -> Iterator[None]:
    """Suppresses matplotlib's warnings of each missing character, for which there is one message, and bold face."""
    level = MATPLOTLIB.level
    MATPLOTLIB.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            yield
    finally:
        MATPLOTLIB.setLevel(level)


def _report(lacking: Iterable[str]) -> None:
    if lacking and not _reported:
        log.warning(
            "figures: no installed font has the characters %s, which are drawn as boxes. Install one that has, such as "
            "Noto Sans (on Debian the packages fonts-noto-core and fonts-noto-cjk).",
            " ".join(sorted(lacking)[:10]),
        )
    _reported.update(lacking)


def _missing(text: str) -> set[str]:
    """Visible characters of the text that the default font lacks."""
    known = _default_characters()
    return {c for c in text if ord(c) not in known and unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp", "Zs")}


@functools.cache
def _default_characters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(DEFAULT)).get_charmap())


@functools.cache
def _fallbacks(missing: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Names of as few fonts as possible that have `missing`, and the characters that none has."""
    found: list[str] = []
    remaining = set(missing)
    while remaining:
        name, covered = _best_font(remaining)
        if not covered:
            break
        found.append(name)
        remaining -= covered
    return tuple(found), frozenset(remaining)


def _best_font(wanted: set[str]) -> tuple[str, set[str]]:
    """The first font that has most of the characters, and those that it has."""
    best: tuple[str, set[str]] = ("", set())
    for entry in _regular_fonts():
        covered = {c for c in wanted if ord(c) in _characters(entry.fname, getattr(entry, "index", 0))}
        if len(covered) > len(best[1]):
            best = (entry.name, covered)
        if covered == wanted:
            break
    return best


@functools.cache
def _regular_fonts() -> list[font_manager.FontEntry]:
    """Upright fonts of normal weight, sans-serif ones first, with those that are new to matplotlib's list."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):
        with contextlib.suppress(Exception):  # FreeType refuses damaged files, and formats of its own
            font_manager.fontManager.addfont(path)
    entries = [
        entry
        for entry in font_manager.fontManager.ttflist
        if entry.style == "normal" and entry.weight in (400, "normal", "regular")
        if not entry.name.startswith(SUBSTITUTE)
    ]
    return sorted(entries, key=lambda entry: ("sans" not in entry.name.lower(), entry.name, entry.fname))


@functools.cache
def _characters(path: str, face: int) -> frozenset[int]:
    """Code points that a font file has; none if it cannot be read."""
    from fontTools.ttLib import TTFont  # only for the few figures that need it

    try:
        with TTFont(path, fontNumber=face, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # a damaged font raises anything, and another one may do
        return frozenset()
