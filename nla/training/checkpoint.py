"""Checkpoints: the complete state of a run after an epoch, and where it is kept while training runs.

A checkpoint is a folder:

    state.json               epochs done, history, best epoch, fingerprint; the SHA-256 of each file, and of itself
    trained.safetensors      weights being trained, and the method's parameters and buffers
    optimizer.safetensors    moments, named PARAMETER/KEY
    average.safetensors      moving average of the weights, with `train.ema`
    last.safetensors         weights of this epoch for evaluation (the average if there is one)
    best.safetensors         weights of the epoch with the best validation metric
    positions.safetensors    (p_GT, p_NN) of every training sample, early and late

state.json is written last, so a folder without it is incomplete, and never read. Everything that is read is compared
with its hash. A run keeps its last two checkpoints, and resumes from the first if the second is damaged. What it
restores is documented and done in nla.training.loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pyarrow.fs as pa_fs
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from nla.errors import Damaged, TrainingError, WeightsError
from nla.io import atomic_write, parse_json_as, sha256
from nla.models.saved_model import read_tensors, write_tensors
from nla.seals import check_line, sealed_line

STATE = "state.json"
REMEDY = "`dvc repro -sf train` retrains."
KEPT = 2
"""Checkpoints that a run keeps: the last, and the one before it in case that the last is damaged."""


@dataclass
class Progress:
    """The counters and the history of a run; JSON-serializable."""

    fingerprint: str
    epochs: int
    """Planned."""
    epochs_done: int = 0
    best_epoch: int = 0
    """Counted from 1; 0 before the first."""
    best_metric: float = -1.0
    history: list[dict[str, int | float]] = field(default_factory=list)
    """One row per epoch: validation metrics, training loss, learning rate, seconds."""
    early_epoch: int = 0
    """Number of complete epochs before that of the early positions."""
    facts: dict[str, Any] = field(default_factory=dict)
    """First weights, precision, workers, device; under `before`, those of epochs that ran elsewhere."""

    @property
    def kept_row(self) -> dict[str, int | float]:
        """The row of the epoch with the best validation metric, whose weights are kept; {} before the first."""
        return self.history[self.best_epoch - 1] if self.best_epoch else {}

    @property
    def moments(self) -> dict[str, int]:
        """Number of complete epochs before those of the early and of the late positions."""
        return {"early": self.early_epoch, "late": self.epochs_done - 1}

    def change_facts(self, current: Mapping[str, Any]) -> None:
        """Sets the `current` facts when a run resumes, perhaps elsewhere; those that differ move to `before`."""
        changed = {name: self.facts.get(name) for name in current if self.facts.get(name) != current[name]}
        if changed:
            before = [*self.facts.get("before", []), {"epochs_done": self.epochs_done, **changed}]
            self.facts = {**self.facts, **current, "before": before}


Count = Annotated[int, Field(ge=0)]


class _State(BaseModel):
    """Content of state.json: the fields of Progress, and the hashes."""

    model_config = ConfigDict(extra="forbid", strict=True)  # a field of a later version would be lost

    sha256: str
    """Of what follows in the file."""
    files: dict[str, str]
    """SHA-256 of each file of tensors, by its name."""
    fingerprint: str
    epochs: Annotated[int, Field(ge=1)]
    epochs_done: Count
    best_epoch: Count
    best_metric: Annotated[float, Field(allow_inf_nan=False)]
    history: list[dict[str, int | float]]
    early_epoch: Count
    facts: dict[str, Any]

    @field_validator("epochs_done")
    @classmethod
    def _is_within_the_epochs(cls, number: int, info: ValidationInfo) -> int:
        return _at_most(number, info, "epochs")

    @field_validator("best_epoch")
    @classmethod
    def _is_done(cls, number: int, info: ValidationInfo) -> int:
        return _at_most(number, info, "epochs_done")

    @field_validator("history")
    @classmethod
    def _has_a_row_per_epoch(cls, rows: list[dict[str, int | float]], info: ValidationInfo) -> list[dict[str, Any]]:
        if len(rows) != info.data.get("epochs_done", len(rows)):
            raise ValueError(f"must have one row for each of the {info.data['epochs_done']} epochs done")
        return rows

    @property
    def progress(self) -> Progress:
        return Progress(**self.model_dump(exclude={"sha256", "files"}))


def _at_most(number: int, info: ValidationInfo, limit: str) -> int:
    if number > info.data.get(limit, number):  # missing if it is invalid itself
        raise ValueError(f"must be at most {limit}, {info.data[limit]}")
    return number


def write_checkpoint(folder: Path, progress: Progress, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes `tensors` (file name -> name -> tensor), then state.json with their hashes.

    Raises:
        OSError: a file cannot be written, for example because the disk is full.
    """
    hashes = {}
    for name, group in tensors.items():
        file = folder / f"{name}.safetensors"
        write_tensors(file, group)
        hashes[file.name] = sha256(file)
    with atomic_write(folder / STATE) as part:
        part.write_bytes(sealed_line({"files": hashes, **asdict(progress)}))


def read_checkpoint(folder: Path, fingerprint: str) -> tuple[Progress, dict[str, dict[str, Tensor]]]:
    """Reads what `write_checkpoint` wrote.

    Raises:
        Damaged: a file is missing, or is not what was written.
        TrainingError: the checkpoint has another fingerprint.
    """
    state = _read_state(folder)
    if state.fingerprint != fingerprint:
        raise TrainingError(
            f"{folder} is a checkpoint of another run ({state.fingerprint}, not {fingerprint}). Remove it and run "
            "again."
        )
    return state.progress, {Path(name).stem: _read_file(folder, name, state) for name in sorted(state.files)}


def read_progress(folder: Path) -> Progress:
    """Reads state.json of a checkpoint. Raises Damaged if it is missing or damaged."""
    return _read_state(folder).progress


def read_remote_progress(filesystem: pa_fs.FileSystem, folder: str) -> Progress:
    """Reads state.json of a checkpoint in any file system, without fetching its tensors. Raises Damaged."""
    with filesystem.open_input_stream(f"{folder}/{STATE}") as file:
        return _parse_state(file.readall(), f"{folder}/{STATE}").progress


def read_group(folder: Path, name: str) -> dict[str, Tensor]:
    """Reads the tensors of one file of a checkpoint, such as `best`. Raises Damaged if they are not as written."""
    return _read_file(folder, f"{name}.safetensors", _read_state(folder))


def check_files(folder: Path) -> None:
    """Compares every file of a checkpoint with its hash. Raises Damaged."""
    state = _read_state(folder)
    for name in state.files:
        _check_file(folder, name, state)


def _read_state(folder: Path) -> _State:
    path = folder / STATE
    try:
        return _parse_state(path.read_bytes(), path)
    except FileNotFoundError:
        raise Damaged(f"{path}: file not found. {REMEDY}") from None


def _parse_state(content: bytes, source: Path | str) -> _State:
    """Names the field that is wrong, if one is, rather than only the hash."""
    state = parse_json_as(content, _State, source, REMEDY, Damaged)
    check_line(content, source, REMEDY, Damaged)
    return state


def _check_file(folder: Path, name: str, state: _State) -> None:
    path = folder / name
    if name not in state.files or not path.is_file():
        raise Damaged(f"{path}: file not found. {REMEDY}")
    if sha256(path) != state.files[name]:
        raise Damaged(f"{path}: the file is damaged (its sha256 is not that of {STATE}). {REMEDY}")


def _read_file(folder: Path, name: str, state: _State) -> dict[str, Tensor]:
    _check_file(folder, name, state)
    try:
        return read_tensors(folder / name, REMEDY)
    except WeightsError as error:
        raise Damaged(str(error)) from None


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Returns the optimizer's state, named PARAMETER/KEY."""
    return {
        f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
        if value is not None
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restores the result of `optimizer_tensors`."""
    parameters = dict(model.named_parameters())
    for name, tensor in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        # A step counter keeps its float32; a moment has the dtype and device of its parameter.
        value = tensor.to(parameter.device) if tensor.ndim == 0 else tensor.to(parameter)
        optimizer.state[parameter][key] = _strides_like(value, parameter)


def _strides_like(value: Tensor, parameter: Tensor) -> Tensor:
    """`value` in the memory layout of `parameter`, so that a resumed step repeats the same arithmetic."""
    return value if value.ndim == 0 else torch.empty_like(parameter).copy_(value)
