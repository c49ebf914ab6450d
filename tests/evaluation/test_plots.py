"""Figures: their text is right, nothing overlaps or is cut off, and files are complete."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from nla.config.evaluate import EvaluateConfig
from nla.evaluation import confusion as counts
from nla.evaluation import plots
from nla.evaluation.calibration import Reliability, reliability
from nla.evaluation.metrics import measure
from nla.evaluation.risk_coverage import selective
from nla.evaluation.uncertainty import most_ambiguous, most_wrong
from nla.plotting import write_figure

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
TEST_COUNTS = (1090, 893, 396, 384, 273, 18, 83, 16)  # of FERPlus
SLACK = 1.0  # pixels by which the boxes of two texts may touch


def predictions(sureness: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label_N = np.repeat(np.arange(8), TEST_COUNTS)
    logits_NC = sureness * np.eye(8)[label_N] + rng.normal(0, 1.5, (len(label_N), 8))
    p_NC = np.exp(logits_NC)
    return p_NC / p_NC.sum(1, keepdims=True), label_N


def epochs(number: int) -> list[dict[str, float]]:
    rows = []
    for e in range(1, number + 1):
        losses = {"train_loss": 2.0 * 0.8**e, "valid_nll": 1.4 * 0.9**e}
        rows.append({"epoch": e, **losses, "valid_accuracy": 1 - 0.7**e, "valid_mean_accuracy": 0.8 - 0.7**e})
    return rows


def bump(p_gt: np.ndarray, p_nn: np.ndarray, progress: float) -> np.ndarray:
    """A weight that jumps at p_gt = p_nn, and moves as training goes on."""
    return np.exp(-((p_gt - 0.5) ** 2 + (p_nn - 0.5) ** 2) * (1 + progress)) * np.where(p_gt >= p_nn, 0.5, 1)


@cache
def draw_confusion() -> Figure:
    p_NC, label_N = predictions()
    return plots.confusion_matrix(counts.confusion(label_N, p_NC.argmax(1), 8), CLASSES)


@cache
def draw_reliability() -> Figure:
    return plots.reliability_diagram(reliability(*predictions(), 15))


@cache
def draw_recall() -> Figure:
    return plots.recall_bars(measure(*predictions(), CLASSES, EvaluateConfig(bootstrap=100))["classes"])


@cache
def draw_curves() -> Figure:
    return plots.training_curves(epochs(16), 14)


def positions(p_NC: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """(p_GT, p_NN) [N, 2]."""
    others = [np.delete(p, label).max() for p, label in zip(p_NC, label_N, strict=True)]
    return np.stack([p_NC[np.arange(len(p_NC)), label_N], others], axis=1)


@cache
def draw_triangle(title: str = "") -> Figure:
    (early, label_N), (late, _) = predictions(1.0), predictions(5.0)
    flipped_N = np.random.default_rng(0).random(len(label_N)) < 0.3
    given_N = np.where(flipped_N, (label_N + 1) % 8, label_N)
    places = positions(early, given_N), positions(late, given_N)
    return plots.weight_triangle(bump, *places, flipped_N, epoch_early=1, epoch_late=15, epochs=16, title=title)


@cache
def draw_gallery() -> Figure:
    p_NC, label_N = predictions(1.0)
    images = np.random.default_rng(0).integers(0, 256, (len(label_N), 48, 48, 1), np.uint8)
    index = most_ambiguous(p_NC, 20)
    return plots.gallery(images, label_N, p_NC, CLASSES, index, "Most ambiguous test faces")


@cache
def draw_risk_coverage() -> Figure:
    p_NC, label_N = predictions()
    return plots.risk_coverage_curve(selective(p_NC, p_NC, label_N), len(label_N))


DRAWN = [draw_confusion, draw_reliability, draw_risk_coverage, draw_recall, draw_curves, draw_triangle, draw_gallery]


def texts(figure: Figure) -> dict[Text, Bbox]:
    """What is written, and where in pixels; turned texts are left out, for their boxes are not where their ink is."""
    hidden = {label for axes in figure.axes for label in hidden_labels(axes)}
    written = {text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()}
    return {text: text.get_window_extent() for text in written - hidden if text.get_rotation() in (0, 90)}


def hidden_labels(axes: Axes) -> list[Text]:
    """Labels of ticks that are out of sight, because they lie beyond the limits or their axis is off."""
    labels = []
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not (axes.axison and low <= tick.get_loc() <= high):
                labels += [tick.label1, tick.label2]
    return labels


def said(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert b"IEND" in png[-12:]
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def assert_legible(figure: Figure) -> None:
    """No text overlaps another one or is cut off."""
    placed = texts(figure)
    assert placed
    for text, box in placed.items():
        inside = figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert inside and figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, f"cut off: {text}"
    for (one, a), (other, b) in combinations(placed.items(), 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert width <= SLACK or height <= SLACK, f"overlap: {one} and {other}"


@pytest.mark.parametrize("draw", DRAWN)
def test_nothing_overlaps_or_is_cut_off(draw: Callable[[], Figure]) -> None:
    assert_legible(draw())


@pytest.mark.parametrize("draw", DRAWN)
def test_saved_whole(draw: Callable[[], Figure], tmp_path: Path) -> None:
    write_figure(draw(), tmp_path / "plots" / "a.png")
    assert size_of((tmp_path / "plots" / "a.png").read_bytes())[0] >= 1000
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["a.png"]


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_figure(draw_recall.__wrapped__(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_other_pictures_of_the_process_keep_their_style(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    write_figure(draw_recall.__wrapped__(), tmp_path / "a.png")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_never_loaded() -> None:
    program = "import sys, nla.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestConfusion:
    def test_says_what_is_confused_most(self) -> None:
        counts_CC = np.array([[90, 10, 0], [5, 5, 0], [0, 0, 1]])
        words = said(plots.confusion_matrix(counts_CC, ("calm", "afraid", "glad"), split="validation"))
        assert "86.5 % right; most confused: afraid as calm" in words
        assert "111 validation faces, labels unaltered" in words

    def test_cells_hold_share_and_count_and_empty_ones_nothing(self) -> None:
        figure = plots.confusion_matrix(np.array([[999, 1], [0, 2000]]), ("calm", "afraid"))
        assert sorted(text.get_text() for text in figure.axes[0].texts[:6]) == ["1", "100", "100", "2,000", "999", "<1"]

    def test_nothing_confused(self) -> None:
        assert "100.0 % right, nothing is confused" in said(plots.confusion_matrix(np.diag([3, 0]), ("a", "b")))

    def test_long_names_are_cut(self) -> None:
        names = ("an expression that nobody can name", "an expression that nobody can name either")
        figure = plots.confusion_matrix(np.array([[3, 4], [1, 9]]), names)
        assert "an expression…" in said(figure)
        assert_legible(figure)

    def test_many_classes_have_a_colour_bar_instead_of_numbers(self) -> None:
        names = [f"class {c}" for c in range(30)]
        figure = plots.confusion_matrix(np.diag(np.arange(30)), names)
        assert len(figure.axes) == 2
        assert len(figure.axes[0].texts) == 1  # the subtitle


class TestReliability:
    def bins(self, accuracy: float) -> Reliability:
        half = np.array([0.25, 0.75])
        return Reliability(np.linspace(0, 1, 3), np.array([0, 10]), half, np.array([0, accuracy]))

    @pytest.mark.parametrize(
        ("accuracy", "finding"),
        [
            (0.65, "10.0 %: too sure by 10.0 points"),
            (0.95, "20.0 %: too cautious by 20.0"),
            (0.75, "0.0 %: as sure as"),
        ],
    )
    def test_says_which_way_it_errs(self, accuracy: float, finding: str) -> None:
        assert f"(ECE) {finding}" in said(plots.reliability_diagram(self.bins(accuracy)))

    def test_counts_stand_over_the_bins_that_hold_any(self) -> None:
        figure = plots.reliability_diagram(self.bins(0.5))
        assert [text.get_text() for text in figure.axes[1].texts if text.get_text()] == ["10"]

    def test_a_hundred_bins_have_no_numbers(self) -> None:
        assert not plots.reliability_diagram(reliability(*predictions(), 100)).axes[1].texts


class TestRecall:
    ROWS: ClassVar = {"a": (0.5, 0.1, 0.9, 2), "b": (1.0, 0.8, 1.0, 1234), "c": (0.0, 0.0, 0.3, 7)}

    def draw(self, names: str) -> Figure:
        keys = ("recall", "recall_low", "recall_high", "support")
        return plots.recall_bars({name: dict(zip(keys, self.ROWS[name], strict=True)) for name in names})

    def test_best_first_with_share_and_support(self) -> None:
        figure = self.draw("abc")
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["b", "a", "c"]
        assert "Mean accuracy 50.0 %: best b, worst c" in said(figure)
        assert "100 % of 1,234" in said(figure)

    def test_names_that_are_cut_alike_stay_apart(self) -> None:
        row = {"recall": 0.5, "recall_low": 0.1, "recall_high": 0.9, "support": 2}
        figure = plots.recall_bars({f"an expression number {n}": row for n in range(3)})
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["an expression…"] * 3

    def test_one_class_is_neither_best_nor_worst(self) -> None:
        assert "best" not in said(self.draw("a"))

    def test_the_bars_are_the_recalls(self) -> None:
        np.testing.assert_allclose([bar.get_width() for bar in self.draw("abc").axes[0].patches], [1, 0.5, 0])


class TestCurves:
    def test_marks_the_selected_epoch(self) -> None:
        figure = plots.training_curves(epochs(5), 4)
        assert "Epoch 4 is selected: 76.0 % overall, 56.0 % mean of classes on validation" in said(figure)
        for axes in figure.axes:
            dashed = next(line for line in axes.lines if line.get_label() == "selected epoch")
            assert list(dashed.get_xdata()) == [4, 4]

    def test_a_single_epoch_has_one_tick(self) -> None:
        figure = plots.training_curves(epochs(1), 1)
        assert "1" in said(figure).split("\n")
        assert not {"0", "0.5", "1.5", "2"} & set(said(figure.axes[0].figure).split("\n"))

    def test_missing_and_broken_numbers_are_not_drawn(self) -> None:
        rows = [
            {"epoch": 1, "train_loss": 1.0},
            {"epoch": 2, "train_loss": float("nan")},
            {"epoch": 3, "train_loss": 0.5},
        ]
        left, right = plots.training_curves(rows).axes
        assert left.lines[0].get_xydata().tolist() == [[1, 1.0], [3, 0.5]]
        assert not right.lines
        assert "3 epochs of training" in said(left.figure)

    def test_no_epoch_at_all(self) -> None:
        assert "0 epochs" in said(plots.training_curves([]))


class TestTriangle:
    POSITIONS = np.array([[0.9, 0.1], [0.1, 0.9], [0.4, 0.4]])

    def test_mean_weights_are_of_all_samples_by_kind(self) -> None:
        flipped = np.array([False, True, False])
        figure = plots.weight_triangle(
            lambda p_gt, p_nn, progress: p_gt + progress, self.POSITIONS, self.POSITIONS[::-1], flipped,
            epoch_early=0, epoch_late=1, epochs=2,
        )  # fmt: skip
        early, late = ([t.get_text() for t in axes.get_legend().get_texts()] for axes in figure.axes[:2])
        assert early == ["unflipped label: mean weight 0.65", "flipped label: mean weight 0.10"]
        assert late == ["unflipped label: mean weight 1.15", "flipped label: mean weight 0.60"]
        assert {"In epoch 1 of 2", "In epoch 2 of 2"} <= set(said(figure).split("\n"))
        assert {"clean", "ambiguous", "noisy"} <= set(said(figure).split("\n"))

    def test_a_title_has_room(self) -> None:
        title = "weight of `released`, not used by ce"
        figure = draw_triangle(title)
        assert title in said(figure)
        assert_legible(figure)

    def test_without_known_noise_there_is_one_kind(self) -> None:
        figure = plots.weight_triangle(bump, self.POSITIONS, self.POSITIONS, epoch_early=0, epoch_late=1, epochs=1)
        assert [len(axes.collections[-1].get_offsets()) for axes in figure.axes[:2]] == [3, 3]
        assert "flipped" not in said(figure)

    def test_both_panels_share_the_scale_of_the_triangle(self) -> None:
        def weight(p_gt: np.ndarray, p_nn: np.ndarray, progress: float) -> np.ndarray:
            return np.where(p_gt + p_nn > 1, 99.0, 1 + progress)  # 99 where no sample can be

        figure = plots.weight_triangle(weight, self.POSITIONS, self.POSITIONS, epoch_early=0, epoch_late=1, epochs=1)
        assert [axes.images[0].get_clim() for axes in figure.axes[:2]] == [(0, 2), (0, 2)]

    def test_many_samples_are_thinned_alike_in_both_panels(self) -> None:
        many = np.random.default_rng(0).dirichlet(np.ones(3), 5000)[:, :2]
        figure = plots.weight_triangle(bump, many, many, epoch_early=0, epoch_late=1, epochs=1)
        early, late = (axes.collections[-1].get_offsets() for axes in figure.axes[:2])
        assert len(early) == 3000
        np.testing.assert_array_equal(early, late)

    def test_a_weight_of_nothing_is_drawn(self) -> None:
        plots.weight_triangle(
            np.vectorize(lambda *_: 0.0), self.POSITIONS, self.POSITIONS, epoch_early=0, epoch_late=1, epochs=1
        )


class TestGallery:
    P = np.array([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.4, 0.3, 0.3]])

    def test_picks_the_smallest_margins(self) -> None:
        assert most_ambiguous(self.P, 2).tolist() == [0, 3]

    def test_picks_the_most_confident_errors(self) -> None:
        assert most_wrong(self.P, np.array([2, 1, 1, 2]), 9).tolist() == [1, 0, 3]
        assert most_wrong(self.P, self.P.argmax(1), 9).tolist() == []

    @pytest.mark.parametrize("shape", [(4, 20, 20), (4, 20, 20, 1), (4, 20, 20, 3)])
    def test_captions_in_order(self, shape: tuple[int, ...]) -> None:
        index = np.array([1, 2])
        names = ("a", "b", "an unusually long name")
        figure = plots.gallery(np.zeros(shape, np.uint8), np.array([2, 2, 1, 0]), self.P, names, index, "Faces")
        captions = [[text.get_text() for text in axes.texts] for axes in figure.axes]
        assert captions == [["an unusual…", "a 90 %", "b 10 %"], ["b", "b 70 %", "a 20 %"]]
        wrong, right = (axes.texts[1].get_color() for axes in figure.axes)
        assert wrong != right

    def test_no_faces(self) -> None:
        figure = plots.gallery(np.zeros((0, 8, 8)), np.empty(0, int), self.P[:0], "abc", np.empty(0, int), "None")
        assert not figure.axes
