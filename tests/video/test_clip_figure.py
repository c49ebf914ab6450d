"""The figure of one clip: its panels, its wrong labels, and gaps that stay blank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nla.plotting import write_figure
from nla.video.frames import NO_LABEL
from nla.video.plots import ClipView, clip_figure


@pytest.fixture
def view() -> ClipView:
    """Ten frames of three classes, of which one is never seen; frame 5 is missing, 8 not annotated, 2 and 3 wrong."""
    clean = np.array([0, 0, 0, 0, 1, 1, NO_LABEL, 1, 1, 1])
    given = np.where(np.isin(np.arange(10), (1, 2)), 1, clean)
    p = np.eye(3)[np.maximum(clean, 0)] * 0.9 + 0.03
    frame = np.array([1, 2, 3, 4, 6, 7, 8, 9, 10, 11])
    return ClipView("video x", ("a", "b", "c"), frame, given, clean, {"one": p, "two": p[:, [1, 0, 2]]}, np.ones(10))


def test_panels_and_finding(view: ClipView, tmp_path: Path) -> None:
    figure = clip_figure(view)
    labels, one, two, weight = figure.axes
    assert "video x: 2 of 10 labels are wrong" in labels.get_title("left")
    assert [axes.get_title("left") for axes in (one, two)] == ["one", "two"]
    assert [text.get_text() for text in one.get_yticklabels()] == ["a", "b"], "no frame shows class c"
    assert weight.get_xlabel() == "frame"
    write_figure(figure, tmp_path / "clip.png")
    assert (tmp_path / "clip.png").stat().st_size > 5000


def test_wrong_labels_are_where_training_got_them(view: ClipView) -> None:
    clean, wrong = clip_figure(view).axes[0].collections
    assert wrong.get_offsets().tolist() == [[2, 1], [3, 1]]
    assert clean.get_offsets().tolist() == [[1, 0], [2, 0], [3, 0], [4, 0], [6, 1], [7, 1], [9, 1], [10, 1], [11, 1]]


def test_a_missing_frame_stays_blank(view: ClipView) -> None:
    (image,) = clip_figure(view).axes[1].images
    drawn = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    assert drawn.shape == (2, 11)
    assert np.isnan(drawn[:, 4]).all() and not np.isnan(np.delete(drawn, 4, axis=1)).any()
    np.testing.assert_allclose(drawn[0, :4], 0.93)


def test_without_noise_there_is_no_weight(view: ClipView) -> None:
    figure = clip_figure(replace(view, given_T=view.clean_T, weight_T=None))
    assert len(figure.axes) == 3 and "all labels are right" in figure.axes[0].get_title("left")
