"""What a process may use is what it was given, not what the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nla.hardware import cores, memory


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_on_one_core_has_one() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from nla.hardware import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
    assert cores(Path("no/control/group")) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "share"),
    [("max 100000", None), ("100000 100000\n", 1), ("50000 100000", 1), ("150000 100000", 2), (None, None)],
)
def test_cores_are_those_that_a_container_has_the_time_of(tmp_path: Path, text: str | None, share: int | None) -> None:
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert cores(tmp_path) == min(share or there, there)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max", None), ("1073741824\n", 2**30), (str(2**60), None), (None, None)],
)
def test_memory_is_that_of_the_control_group(tmp_path: Path, text: str | None, expected: int | None) -> None:
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    assert memory(tmp_path) == (expected or psutil.virtual_memory().total)
