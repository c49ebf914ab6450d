from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_parts import CPU

from nla.hardware import use_bf16

CPUINFO = Path("/proc/cpuinfo")


def test_what_is_asked_for_is_taken() -> None:
    assert use_bf16("bf16", CPU) is True
    assert use_bf16("fp32", CPU) is False


@pytest.mark.skipif(
    not CPUINFO.exists(), reason="asks the kernel for the CPU's features, which this system does not tell"
)
def test_auto_follows_the_cpu() -> None:
    """Against what the kernel says of the processor."""
    text = CPUINFO.read_text()
    words = next((line.split() for line in text.splitlines() if line.startswith("flags")), [])
    zen = "AuthenticAMD" in text and "avx512_bf16" in words
    assert use_bf16("auto", CPU) == ("amx_tile" in words or zen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_auto_follows_the_gpu() -> None:
    major, _ = torch.cuda.get_device_capability()
    assert use_bf16("auto", torch.device("cuda")) == (major >= 8)  # from Ampere on
