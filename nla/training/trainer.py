"""The training loop of one process. It knows nothing of Ray, MLflow and DVC.

    progress = Trainer(job, Split(train, valid), ProcessGroup(device), FolderStore(folder)).fit()

What a run starts from, in order of precedence:

1. The latest intact checkpoint of the store, if it has the job's fingerprint: weights, the method's state, optimizer,
   average, best weights, positions and history all come from it. One with another fingerprint is refused, never
   overwritten.
2. Without a checkpoint, `job.first_weights` for the backbone, except a new head.
3. Everything else is initialised from `train.seed`.

A checkpoint is saved after each epoch, and every random choice depends only on (seed, epoch, sample or rank), so an
interrupted run ends with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nla.data.augment import make_augment
from nla.data.loader import batches, steps_per_epoch
from nla.data.samples import Samples
from nla.errors import Diverged, TrainingError
from nla.hardware import use_bf16
from nla.losses.functional import p_gt_and_p_nn
from nla.methods import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier
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
from nla.training.job import Job
from nla.training.optim import LRSchedule, get_lr, make_optimizer, set_lr
from nla.training.positions import Positions, early_epoch
from nla.training.process_group import ProcessGroup
from nla.training.reproducibility import epoch_seed, reproducible
from nla.training.validation import validation_metrics
from nla.training.weight_average import BATCHES, WeightAverage, estimate_batchnorm, has_batchnorm


class Split(NamedTuple):
    """The two tables that training may see."""

    train: Samples
    valid: Samples
    clean_N: np.ndarray | None = None
    """Clean labels of the validation samples, by which each epoch is measured as well; they choose nothing."""


class TrainingModule(nn.Module):
    """The network, and the method with its own parameters and buffers, as one module for optimizer and DDP."""

    def __init__(self, network: Classifier, method: Method) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, batch: Minibatch) -> Outcome:
        outcome: Outcome = self.method(self.network, batch)
        return outcome


@dataclass(frozen=True)
class StepResult:
    """Result of a step, with a scalar loss, on the device: reading it on the host waits for the device."""

    loss: Tensor
    positions_N2: Tensor
    """(p_GT, p_NN) of each sample before the update."""


class Trainer:
    """Trains a job on one process of a group.

    Args:
        split: training and validation samples.
        group: the processes that train together; each has its own Trainer.
        store: keeps the latest checkpoint.
        callbacks: called by the main process.

    Raises:
        ConfigError: a value of `loss` is out of its range.
    """

    def __init__(
        self, job: Job, split: Split, group: ProcessGroup, store: CheckpointStore, callbacks: Iterable[Callback] = ()
    ) -> None:
        self.job, self.split, self.group, self.store = job, split, group, store
        self.callbacks = CallbackList(callbacks)
        self.config = config = job.config.train
        self.bf16 = use_bf16(config.precision, group.device)
        with reproducible(group.device):
            torch.manual_seed(config.seed)
            self.network = self._build_network()
            method = job.build_method(self._context())
        self.module = TrainingModule(self.network, method).to(group.device)
        self.optimizer = make_optimizer(self.module, config)
        self.average = WeightAverage(self.network, config.ema) if config.ema > 0 else None
        self.replica = group.replicate(self.module)
        self.steps = steps_per_epoch(len(split.train), config.batch_size)
        self.schedule = LRSchedule(config, self.steps)
        self.augment = make_augment(job.config.augment.recipe, fill=[255 * value for value in job.image.mean])
        self.positions = Positions(len(split.train), group.device)
        self.best: dict[str, Tensor] = {}
        facts = {**job.facts, **self.facts}
        self.progress = Progress(job.fingerprint, config.epochs, early_epoch=early_epoch(config.epochs), facts=facts)

    def _context(self) -> Context:
        train, device = self.split.train, self.group.device
        target_MC = None if train.target_NC is None else torch.from_numpy(train.target_NC).to(device)
        label_M = torch.from_numpy(train.label_N).to(device)
        return Context(label_M, self.job.num_classes, self.group, self._build_network, target_MC)

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
        self.settle_batchnorm(epoch)
        self.end_method_epoch(epoch)
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

    def train_step(self, batch: Minibatch) -> StepResult:
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
        metrics = validation_metrics(self.eval_network, self.split.valid, self.group, self.bf16, self.split.clean_N)
        if not math.isfinite(metrics["valid_nll"]):  # the last step of the epoch broke the weights; no loss has seen it
            raise _diverged("validation loss", f"after epoch {self.progress.epochs_done + 1}")
        return metrics

    @property
    def eval_network(self) -> Classifier:
        """The network that is validated and saved: the weight average if there is one (`train.ema`)."""
        return self.network if self.average is None else self.average.network

    def settle_batchnorm(self, epoch: int) -> None:
        """Makes BatchNorm's running statistics ready for evaluation, in every network and alike on all processes.

        Those of the weight average are estimated from up to BATCHES batches of `epoch`, unless they are frozen.
        """
        if self.average is not None and has_batchnorm(self.average) and not self.config.freeze_batchnorm:
            with contextlib.closing(self.minibatches(epoch)) as batches:
                images = (batch.images_NHWC for batch in itertools.islice(batches, BATCHES))
                estimate_batchnorm(self.average.network, images, self.bf16)
        networks = [module for module in self.module.modules() if isinstance(module, Classifier)]
        for network in dict.fromkeys([*networks, self.eval_network]):
            self.group.average_buffers(network.backbone)

    @torch.no_grad()
    def end_method_epoch(self, epoch: int) -> None:
        """Lets the method take stock of the training samples, with the batches of `epoch` as they were augmented."""
        autocast = torch.autocast(self.group.device.type, torch.bfloat16, enabled=self.bf16)
        with contextlib.closing(self.minibatches(epoch)) as batches, autocast:
            self.module.method.end_epoch(self.network, batches)

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
        self.progress, tensors = read_checkpoint(folder, self.job.fingerprint)
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

    def _build_network(self) -> Classifier:
        network = self.job.build()
        if self.job.first_weights is not None:
            network.backbone.load_state_dict(self.job.first_weights, strict=False)  # without the head if it is new
        memory_format = torch.channels_last if self.config.channels_last else torch.contiguous_format
        network = network.to(self.group.device).set_memory_format(memory_format)
        if self.config.compile:
            network.compile()
        return network

    def minibatches(self, epoch: int) -> Generator[Minibatch]:
        """This process's part of each global batch of an epoch, on the device."""
        host_batches = batches(
            self.split.train,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            epoch=epoch,
            rank=self.group.rank,
            world_size=self.group.size,
            augment=self.augment,
            balanced=self.config.sampler == "balanced",
        )
        for batch in host_batches:
            target = batch.label_B if batch.target_BC is None else batch.target_BC
            arrays = (batch.images_BHWC, target, batch.index_B)
            images, targets, index = (_to_device(torch.from_numpy(array), self.group.device) for array in arrays)
            yield Minibatch(images, targets, index, epoch / self.config.epochs)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
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
