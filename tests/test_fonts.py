"""Names in figures: in other scripts, with fonts of the system or one message; and never as mathematics."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from nla import fonts
from nla.evaluation.plots import confusion_matrix, gallery, recall_bars
from nla.plotting import write_figure

CHINESE = ("高兴", "悲伤", "愤怒")
COUNTS = np.array([[5, 1, 0], [0, 4, 0], [2, 0, 3]])
CACHES = (fonts._regular_fonts, fonts._fallbacks)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fonts as matplotlib ships them, whatever this system has, and nothing reported yet."""
    shipped = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", shipped)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(fonts, "_reported", set())
    for cached in CACHES:
        cached.cache_clear()
    yield
    for cached in CACHES:
        cached.cache_clear()


def make_font(path: Path, name: str, characters: str) -> str:
    """A font in which each of the characters is a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (700, 700), (700, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    names = [".notdef", *(f"u{ord(c):04X}" for c in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):04X}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return str(path)


def figures(classes: tuple[str, ...]) -> list[Figure]:
    p_NC = np.full((3, 3), 1 / 3)
    images = np.zeros((3, 16, 16, 1), np.uint8)
    per_class = {name: {"recall": 0.5, "recall_low": 0.4, "recall_high": 0.6, "support": 9} for name in classes}
    return [
        confusion_matrix(COUNTS, classes),
        gallery(images, np.arange(3), p_NC, classes, np.arange(3), "faces"),
        recall_bars(per_class),
    ]


def families(figure: Figure, name: str) -> set[tuple[str, ...]]:
    """Font families of the texts that have `name` in them."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and name in text.get_text()]
    return {tuple(text.get_fontfamily()) for text in texts}


def test_fonts_of_the_system_draw_what_the_default_font_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fewest fonts that do: one that has all, and not one with a part; serifs only if there is no other."""
    installed = [
        make_font(tmp_path / "a.ttf", "A Part Sans", "高兴"),
        make_font(tmp_path / "b.ttf", "B Whole Serif", "".join(CHINESE)),
        make_font(tmp_path / "c.ttf", "C Whole Sans", "".join(CHINESE)),
    ]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    for i, figure in enumerate(figures(CHINESE)):
        for name in CHINESE:
            assert families(figure, name) == {(fonts.DEFAULT, "C Whole Sans")}
        for kind in ("png", "svg", "pdf"):
            write_figure(figure, tmp_path / f"{i}.{kind}")
    assert families(figures(CHINESE)[0], "predicted class") == {(fonts.DEFAULT,)}
    assert not caplog.records


def test_several_fonts_share_the_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [make_font(tmp_path / f"{i}.ttf", f"Font {i}", name) for i, name in enumerate(CHINESE)]
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [*installed, str(tmp_path / "damaged.ttf")])
    found, lacking = fonts._fallbacks(frozenset("".join(CHINESE) + "ก"))
    assert sorted(found) == ["Font 0", "Font 1", "Font 2"] and lacking == {"ก"}


def test_without_such_a_font_there_is_one_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And none of matplotlib's warnings, which are errors in these tests."""
    with caplog.at_level(logging.WARNING, "nla"):
        for figure in figures(CHINESE):
            write_figure(figure, tmp_path / "figure.png")
    (record,) = caplog.records
    assert "no installed font has the characters" in record.getMessage() and "高" in record.getMessage()
    assert "Install one that has, such as Noto Sans" in record.getMessage()


def test_text_on_a_photo_gets_a_font_file_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert Path(fonts.font_file("neutral 97%")).name == "DejaVuSans.ttf"
    assert Path(fonts.font_file("高兴")).name == "DejaVuSans.ttf" and len(caplog.records) == 1
    part, whole = (make_font(tmp_path / f"{name}.ttf", f"{name} Sans", name) for name in ("高兴", "高兴97%"))
    for installed, expected in (([part], part), ([part, whole], whole)):
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda installed=installed: installed)
        for cached in CACHES:
            cached.cache_clear()
        assert fonts.font_file("高兴 97%") == expected
    assert Path(fonts.font_file("neutral 97%")).name == "DejaVuSans.ttf"


@pytest.mark.parametrize("name", ["$y$", r"\frac", "a_b^c", r"\$5 or $6", "100 %", "{x", "$"])
def test_names_are_text_as_they_stand(tmp_path: Path, name: str) -> None:
    for figure in figures((name, "b", "c")):
        texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and name in text.get_text()]
        assert texts and not any(text.get_parse_math() for text in texts)
        write_figure(figure, tmp_path / "figure.svg")


def test_other_figures_look_for_no_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_fallbacks", lambda missing: pytest.fail(f"{missing} missing"))
    figures(("happy", "überrascht", "грусть"))
