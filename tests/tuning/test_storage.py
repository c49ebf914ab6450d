"""The run time of a search over several calls."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nla.tuning.storage import Clock


def ran(root: Path, *times: float, minutes: float | None = None) -> Clock:
    """A call with ticks at these times."""
    remaining = iter(times)
    clock = Clock(str(root), minutes, lambda: next(remaining))
    for _ in times:
        clock.tick()
    return clock


def test_time_between_calls_does_not_count(tmp_path: Path) -> None:
    ran(tmp_path, 100.0, 130.0).write()
    second = ran(tmp_path, 1000.0, 1005.0, minutes=1.0)
    assert second.spent() == 35.0 and second.left() == 25.0
    assert [second.spent(until) for until in (90.0, 110.0, 500.0, 1002.0)] == [0.0, 10.0, 30.0, 32.0]
    assert ran(tmp_path, 2000.0, 2100.0, minutes=1.0).left() == 0.0


def test_killed_call_loses_at_most_two_seconds(tmp_path: Path) -> None:
    ran(tmp_path, *(10.0 + step / 10 for step in range(100)))  # killed at 19.9
    assert 7.9 <= Clock(str(tmp_path)).spent() <= 9.9


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("5.000", b""),  # a driver was killed while it wrote
        ("5.000", b"six"),
        ("5.000", b"\xff"),
        ("5.000", b"nan"),
        ("5.000", b"inf"),
        ("5.000", b"4.5"),  # before it began
        ("notes.txt", b"6.0"),
    ],
)
def test_unreadable_clock_file_is_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, content: bytes
) -> None:
    ran(tmp_path, 100.0, 130.0).write()
    (tmp_path / "clock" / name).write_bytes(content)
    with caplog.at_level("WARNING", "nla.tuning.storage"):
        assert Clock(str(tmp_path)).spent() == 30.0
    assert len(caplog.messages) == 1 and f"clock/{name} is unreadable" in caplog.messages[0]


def test_without_a_budget_infinite_time_is_left(tmp_path: Path) -> None:
    clock = Clock(str(tmp_path))
    assert clock.spent() == 0.0 and clock.left() == math.inf
    clock.write()
    assert not list(tmp_path.iterdir()), "a search that never ran leaves nothing"
