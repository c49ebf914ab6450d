"""The time of a search over several calls."""

from __future__ import annotations

import math
from pathlib import Path

from nla.tuning.storage import Clock


def ran(root: Path, *times: float, minutes: float | None = None) -> Clock:
    """A call that was heard of at these times."""
    coming = iter(times)
    clock = Clock(str(root), minutes, lambda: next(coming))
    for _ in times:
        clock.tick()
    return clock


def test_the_time_between_two_calls_is_none_of_the_search(tmp_path: Path) -> None:
    ran(tmp_path, 100.0, 130.0).write()
    second = ran(tmp_path, 1000.0, 1005.0, minutes=1.0)
    assert second.spent() == 35.0 and second.left() == 25.0
    assert [second.spent(until) for until in (90.0, 110.0, 500.0, 1002.0)] == [0.0, 10.0, 30.0, 32.0]
    assert ran(tmp_path, 2000.0, 2100.0, minutes=1.0).left() == 0.0


def test_a_killed_call_is_known_up_to_two_seconds(tmp_path: Path) -> None:
    ran(tmp_path, *(10.0 + step / 10 for step in range(100)))  # to 19.9, and nobody says goodbye
    assert 7.9 <= Clock(str(tmp_path)).spent() <= 9.9
    (tmp_path / "clock" / "5.000000").touch()  # of one that was killed while it wrote
    assert 7.9 <= Clock(str(tmp_path)).spent() <= 9.9


def test_without_a_budget_there_is_no_end(tmp_path: Path) -> None:
    clock = Clock(str(tmp_path))
    assert clock.spent() == 0.0 and clock.left() == math.inf
    clock.write()
    assert not list(tmp_path.iterdir()), "a search that never ran leaves nothing"
