"""What all pictures have in common: their files and their headlines."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from nla.plotting import FORMATS, headline, plain, styled, write_figure

MAGIC = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@styled
def drawn() -> Figure:
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch")
    axes.plot([1, 2], [3, 4])
    headline(axes, "It rises", "on two points")
    return figure


def words(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_is_the_same_file(tmp_path: Path, kind: str) -> None:
    for name in ("one", "two"):
        write_figure(drawn(), tmp_path / f"{name}.{kind}")
    one, two = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("one", "two"))
    assert one == two and one.startswith(MAGIC[kind])


def test_without_headline_everything_else_stays() -> None:
    before = words(drawn())
    assert {"It rises", "on two points", "epoch"} <= before
    assert words(plain(drawn())) == before - {"It rises", "on two points"} | {""}
