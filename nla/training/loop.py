"""The training loop of one process, whatever it trains. It knows nothing of Ray, MLflow and DVC.

nla.training.trainer has the loop for images, nla.video.trainer that for clips.

What a run starts from, in order of precedence:

1. The latest intact checkpoint of the store, if it has the run's fingerprint: weights, the method's state, optimizer,
   average, best weights, positions and history all come from it. One with another fingerprint is refused, never
   overwritten.
2. Without a checkpoint, what `build_network` starts from.
3. Everything else is initialised from `train.seed`.

A checkpoint is saved after each epoch, and every random choice depends only on (seed, epoch, sample or rank), so an
interrupted run ends with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nla.config.train import TrainConfig
from nla.errors import Diverged, TrainingError
from nla.hardware import use_bf16
from nla.losses.functional import p_gt_and_p_nn
from nla.methods.base import Outcome
from nla.models.base import Network
from nla.training.callbacks import Callback, CallbackList
from nla.training.checkpoint import (
    Progress,
    optimizer_tensors,
    read_checkpoint,
    restore_optimizer,
    write_checkpoint,
)
from nla.training.checkpoint_store import CheckpointStore
from nla.training.epoch_report import EpochReport
from nla.training.optim import LRSchedule, get_lr, make_optimizer, set_lr
from nla.training.positions import Positions, early_epoch
from nla.training.process_group import ProcessGroup
from nla.training.reproducibility import epoch_seed, reproducible
from nla.training.weight_average import WeightAverage


class LoopBatch(Protocol):
    """What the loop reads of a batch: N samples of this worker, on the device."""

    @property
    def target(self) -> Tensor:
        """[N] class indices, or [N, C] distributions."""

    @property
    def index_N(self) -> Tensor:  # noqa: N802
        """int64 indices of the samples, for their positions."""


N = TypeVar("N", bound=Network)
B = TypeVar("B", bound=LoopBatch)


class TrainingModule(nn.Module):
    """The network, and the method with its own parameters and buffers, as one module for optimizer and DDP."""

    def __init__(self, network: Network, method: nn.Module) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, batch: LoopBatch) -> Outcome:
        outcome: Outcome = self.method(self.network, batch)
        return outcome


@dataclass(frozen=True)
class StepResult:
    """Result of a step, with a scalar loss, on the device: reading it on the host waits for the device."""

    loss: Tensor
    positions_N2: Tensor
    """(p_GT, p_NN) of each sample before the update."""


class TrainingLoop(ABC, Generic[N, B]):
    """Trains a network on one process of a group.

    Subclasses set what their abstract methods need before they call this constructor.

    Args:
        config: the section `train`.
        fingerprint: of the run.
        facts: recorded with the result.
        steps: steps of an epoch.
        samples: number of the samples whose positions are recorded.
        group: the processes that train together; each has its own loop.
        store: keeps the latest checkpoint.
        callbacks: called by the main process.
    """

    def __init__(
        self,
        config: TrainConfig,
        fingerprint: str,
        facts: Mapping[str, Any],
        steps: int,
        samples: int,
        group: ProcessGroup,
        store: CheckpointStore,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.config, self.steps, self.group, self.store = config, steps, group, store
        self.fingerprint = fingerprint
        self.callbacks = CallbackList(callbacks)
        self.bf16 = use_bf16(config.precision, group.device)
        with reproducible(group.device):
            torch.manual_seed(config.seed)
            self.network = self.build_network()
            method = self.build_method()
        self.module = TrainingModule(self.network, method).to(group.device)
        self.optimizer = make_optimizer(self.module, config)
        self.average = WeightAverage(self.network, config.ema) if config.ema > 0 else None
        self.replica = group.replicate(self.module)
        self.schedule = LRSchedule(config, self.steps)
        self.positions = Positions(samples, group.device)
        self.best: dict[str, Tensor] = {}
        known = {**facts, **self.facts}
        self.progress = Progress(fingerprint, config.epochs, early_epoch=early_epoch(config.epochs), facts=known)

    @abstractmethod
    def build_network(self) -> N:
        """Builds the network, on the device; random weights come from PyTorch's global generator, which is seeded."""

    @abstractmethod
    def build_method(self) -> nn.Module:
        """Builds the method: method(network, batch) -> Outcome."""

    @abstractmethod
    def minibatches(self, epoch: int) -> Generator[B]:
        """This process's part of each global batch of an epoch, on the device."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """The metrics valid_METRIC, valid_nll too, of the evaluation network; the same on all processes."""

    def settle(self, epoch: int) -> None:
        """Makes the networks ready for evaluation after an epoch; does nothing unless overridden."""

    def fit(self) -> Progress:
        """Trains to the last epoch, resuming from the store's checkpoint if it has one.

        Raises:
            Diverged: the training or validation loss is not finite; the checkpoint of the previous epoch stays.
            ConfigError: the batch is not divisible by the number of processes, or larger than the training set.
            TrainingError: the checkpoint belongs to another job, or all checkpoints are damaged.
            OSError: a checkpoint cannot be written, for example because the disk is full; the one before stays.
        """
        with reproducible(self.group.device):
            with self.store.latest(self.callbacks.on_warning if self.group.is_main else lambda text: None) as folder:
                if folder is not None:
                    self.restore(folder)
            self._check_same_epoch()
            while not self.is_over:
                self._end_epoch(self._run_epoch(self.progress.epochs_done))
        return self.progress

    def _check_same_epoch(self) -> None:
        """Raises TrainingError if the processes resume from different epochs, because one found a damaged copy."""
        done = self.group.gather(torch.tensor([self.progress.epochs_done], device=self.group.device)).tolist()
        if len(set(done)) > 1:
            raise TrainingError(f"the workers resume after different epochs (got {done}). Run it again.")

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or `train.patience` is exhausted."""
        return self.config.is_over(self.progress.epochs_done, self.progress.best_epoch)

    def _run_epoch(self, epoch: int) -> dict[str, float]:
        """Trains and validates an epoch, counted from 0; returns its row of the history."""
        started = time.perf_counter()
        loss = self.train_epoch(epoch)
        trained = time.perf_counter()
        self.settle(epoch)
        return {
            "epoch": epoch + 1,
            **self.validate(),  # first, because MLflow compares runs by the first metric unless told otherwise
            "train_loss": loss,
            "lr": get_lr(self.optimizer),
            "images_per_second": self.steps * self.config.batch_size / (trained - started),
            "seconds": time.perf_counter() - started,
        }

    def train_epoch(self, epoch: int) -> float:
        """Trains an epoch, counted from 0; returns its mean loss over all processes."""
        self.start_epoch(epoch)
        losses: list[Tensor] = []
        for step, batch in enumerate(self.minibatches(epoch)):
            set_lr(self.optimizer, self.schedule(epoch * self.steps + step))
            result = self.train_step(batch)
            losses.append(result.loss)
            self.positions.record(batch.index_N, result.positions_N2)
            # Reading a loss waits for the device: free on a CPU, but only once an epoch on a GPU.
            if self.group.device.type == "cpu":
                _check_finite(losses[-1:], epoch, step)
            if self.group.is_main:
                self.callbacks.on_step_end(epoch, step + 1, self.steps, self.config.batch_size)
        _check_finite(losses, epoch, 0)
        self.positions.end_epoch(self.group)
        if epoch == self.progress.early_epoch:
            self.positions.copy_late_to_early()
        return float(self.group.sum(torch.stack(losses).mean()) / self.group.size)

    def start_epoch(self, epoch: int) -> None:
        """Sets training mode and reseeds PyTorch's generator, from which dropout and some methods draw."""
        torch.manual_seed(epoch_seed(self.config.seed, epoch, self.group.rank))
        self.module.train()
        if self.config.freeze_batchnorm:
            for module in self.module.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def train_step(self, batch: B) -> StepResult:
        """Updates the weights once, at the optimizer's learning rate."""
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bf16):
            outcome: Outcome = self.replica(batch)
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        if self.config.grad_clip > 0:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        positions = p_gt_and_p_nn(outcome.logits_NC.detach(), batch.target)
        return StepResult(outcome.loss.detach(), torch.stack(positions, dim=1))

    def validate(self) -> dict[str, float]:
        """Measures the evaluation network on the validation samples. Raises Diverged if its loss is not finite."""
        metrics = self.measure()
        if not math.isfinite(metrics["valid_nll"]):  # the last step of the epoch broke the weights; no loss has seen it
            raise _diverged("validation loss", f"after epoch {self.progress.epochs_done + 1}")
        return metrics

    @property
    def eval_network(self) -> N:
        """The network that is validated and saved: the weight average if there is one (`train.ema`)."""
        return self.network if self.average is None else self.average.network

    def _end_epoch(self, row: dict[str, float]) -> None:
        """Updates progress and best weights, saves the checkpoint, and calls the callbacks."""
        progress, metric = self.progress, row[f"valid_{self.config.select}"]
        progress.epochs_done = int(row["epoch"])
        progress.history.append(row)
        if metric > progress.best_metric:
            progress.best_epoch, progress.best_metric = progress.epochs_done, metric
            weights = self.eval_network.backbone.state_dict()
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        is_last = self.is_over
        if is_last and progress.epochs_done <= progress.early_epoch:  # stopped before the early epoch
            progress.early_epoch = progress.epochs_done - 1
            self.positions.copy_late_to_early()
        self.store.save(self.save if self.group.is_main else None, EpochReport(row, progress.kept_row, is_last))
        if self.group.is_main:
            self.callbacks.on_epoch_end(row)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint of the whole state into an empty folder."""
        tensors = {
            "trained": self.module.state_dict(),
            "optimizer": optimizer_tensors(self.module, self.optimizer),
            "last": self.eval_network.backbone.state_dict(),
            "best": self.best,
            "positions": self.positions.state_dict(),
        }
        if self.average is not None:
            tensors["average"] = self.average.state_dict()
        write_checkpoint(folder, self.progress, tensors)

    def restore(self, folder: Path) -> None:
        """Restores the state that `save` wrote. Raises TrainingError if it belongs to another job, or is damaged."""
        self.progress, tensors = read_checkpoint(folder, self.fingerprint)
        self.progress.epochs = self.config.epochs
        self.progress.change_facts(self.facts)
        self.module.load_state_dict(tensors["trained"])
        restore_optimizer(self.module, self.optimizer, tensors["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(tensors["average"])
        self.positions.load_state_dict(tensors["positions"])
        self.best = tensors["best"]

    @property
    def facts(self) -> dict[str, Any]:
        """Hardware and arithmetic of this process; JSON-serializable. They may change when a run resumes elsewhere."""
        device = self.group.device
        cuda = device.type == "cuda"
        return {
            "precision": "bf16" if self.bf16 else "fp32",
            "workers": self.group.size,
            "device": device.type,
            "device_name": torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability(),
            "tf32": cuda and torch.backends.cudnn.allow_tf32,  # of float32 convolutions
        }


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies to the device; only from pinned memory does a copy to a GPU overlap with computation."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _check_finite(losses: list[Tensor], epoch: int, first_step: int) -> None:
    finite = torch.stack(losses).isfinite().tolist()
    if not all(finite):
        step = first_step + finite.index(False)
        raise _diverged("training loss", f"at epoch {epoch + 1}, step {step + 1}")


def _diverged(loss: str, when: str) -> Diverged:
    return Diverged(
        f"the {loss} is not finite {when}. Lower train.lr, set train.grad_clip, or use train.precision fp32. "
        "The checkpoint of the previous epoch is kept."
    )
