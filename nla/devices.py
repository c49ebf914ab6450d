"""The device on which a model predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nla.errors import CommandError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
"""auto: a GPU of CUDA (or ROCm, which PyTorch calls so, too) if there is one, else the processor. mps, Apple's GPU, is
used only where it is named."""


def find_device(name: str) -> torch.device:
    """The device of that name, one of DEVICES.

    Raises:
        CommandError: it is unknown, or this machine or this build of PyTorch does not have it.
    """
    import torch  # seconds to import, and not needed for the help of a command

    here = [*_gpus(), "cpu"]
    if name == "auto":
        return torch.device("cuda" if "cuda" in here else "cpu")
    if name in here:
        return torch.device(name)
    what = f"is not here, by PyTorch {torch.__version__}" if name in DEVICES else "is unknown"
    raise CommandError(f"device: {name} {what}. Use auto, or what is here: {', '.join(here)}.")


def _gpus() -> list[str]:
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [name for name, is_present in present.items() if is_present]
