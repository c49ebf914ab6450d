"""The state of a training after an epoch, as a folder of safetensors and one JSON file: all that a resume needs.

state.json               epochs done, history, best epoch, fingerprint
trained.safetensors      weights being trained, and what the method learns or remembers
optimizer.safetensors    moments, named PARAMETER/KEY
average.safetensors      EMA of the weights, where there is one
last.safetensors         weights to keep from this epoch (the average where there is one)
best.safetensors         weights of the best epoch on validation
positions.safetensors    (p_GT, p_NN) of every training sample, early and late

Where checkpoints go while training runs. The loop cannot tell a folder from Ray's storage.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow.fs as pa_fs
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nla.errors import TrainingError
from nla.models.card import read_tensors

STATE = "state.json"


@dataclass
class Progress:
    """What is counted while training goes on; JSON-able."""

    fingerprint: str
    epochs: int
    """Planned."""
    epochs_done: int = 0
    best_epoch: int = 0
    """Counted from 1, as all epochs that are shown."""
    best_metric: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)
    """One row an epoch: losses, validation metrics, rate, seconds."""
    early_epoch: int = 0
    """Whole epochs before that of the early positions."""
    facts: dict[str, Any] = field(default_factory=dict)
    """First weights, precision, workers, device; `before` where a part of the epochs ran on others."""

    @property
    def moments(self) -> dict[str, int]:
        """Whole epochs before those of the early and of the late positions."""
        return {"early": self.early_epoch, "late": self.epochs_done - 1}


def write_checkpoint(folder: Path, progress: Progress, tensors: dict[str, dict[str, Tensor]]) -> None:
    """Writes `tensors` (file name -> name -> tensor), and state.json last: a folder without it is no checkpoint."""
    for name, group in tensors.items():
        save_file(
            {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}, folder / f"{name}.safetensors"
        )
    (folder / STATE).write_text(json.dumps(asdict(progress)))


def read_progress(folder: Path) -> Progress:
    """The counts of a checkpoint. Raises TrainingError where it is none."""
    try:
        return Progress(**json.loads((folder / STATE).read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise TrainingError(
            f"{folder} holds no usable checkpoint ({error}): `dvc repro -sf train` trains afresh"
        ) from None


def read_history(filesystem: pa_fs.FileSystem, folder: str) -> list[dict[str, float]]:
    """The rows of a checkpoint's epochs, wherever it lies; nothing else of it is fetched."""
    with filesystem.open_input_stream(f"{folder}/{STATE}") as file:
        return json.loads(file.readall())["history"]


def read_group(folder: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one file of a checkpoint."""
    return read_tensors(folder / f"{name}.safetensors")


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter name."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
        if value is not None
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # A step counter stays in float32 on its own; moments live where, and as, their parameter does.
        value = tensor.to(parameter.device) if tensor.ndim == 0 else tensor.to(parameter)
        optimizer.state[parameter][key] = _strides_like(value, parameter)


def _strides_like(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` in the memory layout of `parameter`, so that a resumed step repeats the same arithmetic."""
    return value if value.ndim == 0 else torch.empty_like(parameter).copy_(value)


class Store(Protocol):
    """Keeps the latest checkpoint."""

    def latest(self) -> AbstractContextManager[Path | None]:
        """The last whole checkpoint as a local folder, or None."""
        ...

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        """Keeps what `write` puts into an empty folder; every worker calls it, the first alone has a `write`."""
        ...


class Fetchable(Protocol):
    """A checkpoint of Ray's, wherever it lies."""

    def as_directory(self) -> AbstractContextManager[str]:
        """A local folder, which may be a copy."""
        ...


@contextlib.contextmanager
def fetched(checkpoint: Fetchable | None) -> Iterator[Path | None]:
    """`checkpoint` as a local folder, or None."""
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


class FolderStore:
    """A folder of this machine, for one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        whole = [path for path in sorted(self.folder.glob("epoch-*")) if (path / STATE).is_file()]
        yield whole[-1] if whole else None

    def save(self, write: Callable[[Path], None] | None, row: dict[str, float]) -> None:
        if write is None:
            return
        part = self.folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        write(part)
        before = list(self.folder.glob("epoch-*"))
        part.rename(self.folder / f"epoch-{int(row['epoch']):05d}")
        for path in before:
            shutil.rmtree(path)
