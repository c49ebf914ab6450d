from __future__ import annotations

import pytest
from training_parts import CallRecorder

from nla.training.callbacks import CallbackList, MetricRecorder
from nla.training.progress_bar import ProgressBar

ROW = {
    "epoch": 3.0,
    "train_loss": 0.5,
    "valid_accuracy": 0.75,
    "valid_mean_accuracy": 0.5,
    "valid_macro_f1": 0.375,
    "images_per_second": 1234.5,
}


def test_both_hear_the_same() -> None:
    first, second = CallRecorder(), CallRecorder()
    both = CallbackList([first, second])
    both.on_step_end(0, 1, 2, 16)
    both.on_epoch_end(ROW)
    assert first.steps == second.steps == [(0, 1, 2, 16)]
    assert first.rows == second.rows == [ROW]


def test_a_recorder_passes_numbers_on_under_their_epoch() -> None:
    heard: list[tuple[dict[str, float], int]] = []
    recorder = MetricRecorder(lambda metrics, epoch: heard.append((metrics, epoch)))
    recorder.on_step_end(0, 1, 2, 16)
    recorder.on_epoch_end(ROW)
    assert heard == [({name: value for name, value in ROW.items() if name != "epoch"}, 3)]


def test_the_bar_counts_images_over_all_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    moves: list[tuple[int, int]] = []
    bar = ProgressBar(4, lambda done, total: moves.append((done, total)))
    bar.on_step_end(2, 5, 10, 16)
    bar.on_epoch_end(ROW)
    assert moves == [((2 * 10 + 5) * 16, 4 * 10 * 16)]
    line = capsys.readouterr().out
    assert all(word in line for word in ("3/4", "0.5000", "75.00%", "50.00%", "0.3750", "1,234 images/s"))
