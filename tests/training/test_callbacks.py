from __future__ import annotations

import pytest
from training_parts import Watch

from nla.training.callbacks import CallbackList, Recorder
from nla.training.launch import ProgressBar

ROW = {"epoch": 3.0, "train_loss": 0.5, "valid_accuracy": 0.75, "valid_mean_accuracy": 0.5, "images_per_second": 1234.5}


def test_both_hear_the_same() -> None:
    first, second = Watch(), Watch()
    both = CallbackList(first, second)
    both.step(0, 1, 2, 16)
    both.epoch(ROW)
    assert first.steps == second.steps == [(0, 1, 2, 16)]
    assert first.rows == second.rows == [ROW]


def test_a_recorder_passes_numbers_on_under_their_epoch() -> None:
    heard: list[tuple[dict[str, float], int]] = []
    recorder = Recorder(lambda metrics, epoch: heard.append((metrics, epoch)))
    recorder.step(0, 1, 2, 16)
    recorder.epoch(ROW)
    assert heard == [({name: value for name, value in ROW.items() if name != "epoch"}, 3)]


def test_the_bar_counts_images_over_all_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    moves: list[tuple[int, int]] = []
    bar = ProgressBar(4, lambda done, total: moves.append((done, total)))
    bar.step(2, 5, 10, 16)
    bar.epoch(ROW)
    assert moves == [((2 * 10 + 5) * 16, 4 * 10 * 16)]
    line = capsys.readouterr().out
    assert all(word in line for word in ("3/4", "0.5000", "75.00%", "50.00%", "1,234 images/s"))
