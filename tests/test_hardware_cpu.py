"""What the kernel says of the processor, as another program reads it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from nla.hardware import cpu, is_amd

pytestmark = pytest.mark.skipif(
    "vendor_id" not in cpu() or shutil.which("lscpu") is None, reason="needs /proc/cpuinfo of x86, and lscpu"
)


def lscpu() -> dict[str, str]:
    text = subprocess.run(["lscpu"], check=True, capture_output=True, text=True).stdout
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def test_name_and_vendor_are_those_of_lscpu() -> None:
    assert cpu().get("model name", "-") == lscpu()["Model name"]
    assert is_amd() == (lscpu()["Vendor ID"] == "AuthenticAMD")
