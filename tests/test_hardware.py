"""What a process may use, and the processor and GPU, as the operating system reports them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from training_parts import CPU

from nla.hardware import CPUINFO, cores, cpu, is_amd, memory, use_bf16

needs_lscpu = pytest.mark.skipif(
    "vendor_id" not in cpu() or shutil.which("lscpu") is None, reason="needs /proc/cpuinfo of x86, and lscpu"
)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_process_bound_to_one_core_has_one() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from nla.hardware import cores; print(cores())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "1"
    assert cores(Path("no/control/group")) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "share"),
    [("max 100000", None), ("100000 100000\n", 1), ("50000 100000", 1), ("150000 100000", 2), (None, None)],
)
def test_a_containers_share_of_processor_time_limits_the_cores(
    tmp_path: Path, text: str | None, share: int | None
) -> None:
    if text is not None:
        (tmp_path / "cpu.max").write_text(text)
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert cores(tmp_path) == min(share or there, there)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max", None), ("1073741824\n", 2**30), (str(2**60), None), (None, None)],
)
def test_a_control_group_limits_the_memory(tmp_path: Path, text: str | None, expected: int | None) -> None:
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    assert memory(tmp_path) == (expected or psutil.virtual_memory().total)


def lscpu() -> dict[str, str]:
    text = subprocess.run(["lscpu"], check=True, capture_output=True, text=True).stdout
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


@needs_lscpu
def test_name_and_vendor_are_those_of_lscpu() -> None:
    assert cpu().get("model name", "-") == lscpu()["Model name"]
    assert is_amd() == (lscpu()["Vendor ID"] == "AuthenticAMD")


def test_an_explicit_precision_is_used() -> None:
    assert use_bf16("bf16", CPU) is True
    assert use_bf16("fp32", CPU) is False


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo")
def test_auto_precision_follows_the_features_of_the_processor() -> None:
    text = CPUINFO.read_text()
    words = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    zen = "AuthenticAMD" in text and "avx512_bf16" in words
    assert use_bf16("auto", CPU) == ("amx_tile" in words or zen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_precision_follows_the_gpu() -> None:
    major, _ = torch.cuda.get_device_capability()
    assert use_bf16("auto", torch.device("cuda")) == (major >= 8)  # from Ampere on
