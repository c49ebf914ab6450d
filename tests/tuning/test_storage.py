"""The run time of a search over several calls."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nla.tuning.storage import STATE_FILE, Clock, order_states


def ran(root: Path, *times: float, minutes: float | None = None) -> Clock:
    """A call with ticks at these times."""
    remaining = iter(times)
    clock = Clock(str(root), minutes, lambda: times[0], lambda: next(remaining))
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


def test_a_clock_that_is_set_back_or_forward_changes_no_budget(tmp_path: Path) -> None:
    """Neither in a call nor between two: an hour back, then a year forward."""
    wall = iter([10_000.0, 6_400.0, 30_000_000.0])
    for _ in range(3):
        ticks = iter([5.0, 15.0])
        clock = Clock(str(tmp_path), 1.0, lambda: next(wall), lambda ticks=ticks: next(ticks))
        clock.tick()
        clock.tick()
        clock.write()
    assert Clock(str(tmp_path), 1.0).left() == 30.0


def test_the_state_of_the_last_call_is_the_last_by_name_after_the_clock_was_set_back(tmp_path: Path) -> None:
    kinds = ("experiment_state-{}.json", "searcher-state-{}.pkl", "search_gen_state-{}.json")

    def call(stamp: str) -> None:
        order_states(str(tmp_path), now=SET_BACK)
        for kind in kinds:
            (tmp_path / kind.format(stamp)).write_text(stamp)

    stamps = ("2030-01-01_00-00-00", "2030-01-02_00-00-00", "2020-01-01_00-00-10")
    for stamp in stamps[:2]:  # before it was
        for kind in kinds:
            (tmp_path / kind.format(stamp)).write_text(stamp)
    (tmp_path / "tuner.pkl").touch()
    call(stamps[2])
    for kind in kinds:
        named = sorted(tmp_path.glob(kind.format("*")))
        assert [path.read_text() for path in named] == [*stamps]
    assert STATE_FILE.fullmatch(named[0].name.replace("search_gen", "experiment")) and (tmp_path / "tuner.pkl").exists()
    before = sorted(tmp_path.iterdir())
    order_states(str(tmp_path), now=SET_BACK + 100 * 86400)
    assert sorted(tmp_path.iterdir()) == before


SET_BACK = 1_577_836_800.0
"""Unix time of 1 January 2020, in Greenwich."""
