"""Which number format the network computes in."""

from __future__ import annotations

import torch


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to autocast to bfloat16: `bf16` yes, `fp32` no, `auto` where the hardware is faster at it."""
    return precision == "bf16" or (precision == "auto" and _has_bf16(device))


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # AMX tiles. AVX512-BF16 alone computes it too, but trains a ResNet-18 at 0.75 of the speed of float32 (2 cores).
    return bool(torch.cpu._is_amx_tile_supported())
