"""Validation while training: every sample counted once, on any number of workers.

One training step: the method's loss, backward, update, average.

The training loop of one worker. It knows nothing of Ray, MLflow and DVC.

    train(job, Split(train, valid), ProcessGroup(device), FolderStore(folder), NullCallback())

Going on after a stop: the state after each epoch is kept, and every random choice depends on (seed, epoch, sample)
alone, so that an interrupted training ends with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nla.data.augment import make_augment
from nla.data.loader import batches, steps_per_epoch
from nla.data.samples import Samples
from nla.errors import Diverged, TrainingError
from nla.evaluation.metrics import accuracy, confusion, mean_accuracy
from nla.evaluation.predict import ONE_VIEW, predict
from nla.evaluation.uncertainty import label_probability, log
from nla.hardware import use_bf16
from nla.losses.functional import given_and_rival
from nla.methods import Context, Method, Minibatch, Outcome, build_method
from nla.models.classifier import Classifier
from nla.training.callbacks import Callback
from nla.training.checkpoint import (
    Progress,
    Store,
    optimizer_tensors,
    read_group,
    read_progress,
    restore_optimizer,
    write_checkpoint,
)
from nla.training.job import Job
from nla.training.optim import learning_rate, make_optimizer
from nla.training.positions import Positions, early_epoch
from nla.training.process_group import ProcessGroup


def validate(model: Classifier, samples: Samples, workers: ProcessGroup, bf16: bool) -> dict[str, float]:
    """Accuracy, mean (class-balanced) accuracy and NLL over `samples`, the same on every worker."""
    label_N = samples.label_N[workers.rank :: workers.size]
    p_NC = predict(model, samples.images_NHWC[workers.rank :: workers.size], ONE_VIEW, bf16=bf16)
    classes = p_NC.shape[1]
    nll = -log(label_probability(p_NC, label_N)).sum()
    ours = np.append(confusion(label_N, p_NC.argmax(1), classes).ravel(), nll)
    total = workers.total(torch.from_numpy(ours).to(workers.device)).cpu().numpy()
    counts_CC = total[:-1].reshape(classes, classes)
    return {
        "valid_accuracy": float(accuracy(counts_CC)),
        "valid_mean_accuracy": float(mean_accuracy(counts_CC)),
        "valid_nll": float(total[-1] / counts_CC.sum()),
    }


@dataclass(frozen=True)
class StepResult:
    """What a step shows, on the device: nothing here waits for it."""

    loss: Tensor
    """Scalar."""
    positions_N2: Tensor
    """(p_GT, p_NN) of each sample before the update."""


class Trained(nn.Module):
    """All that is trained, as one module: the network, and the method with what it learns."""

    def __init__(self, network: Classifier, method: Method) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, batch: Minibatch) -> Outcome:
        return self.method(self.network, batch)


class Learner:
    """The network and all that changes with it in training."""

    def __init__(self, job: Job, workers: ProcessGroup, label_N: Tensor) -> None:
        """`label_N`: given labels of all training samples."""
        self.config, self.workers, self.job = job.train, workers, job
        torch.manual_seed(job.train.seed)
        self.model = self._network()
        context = Context(label_N.to(workers.device), job.num_classes, workers, self._network)
        self.trained = Trained(self.model, build_method(job.loss, context)).to(workers.device)
        self.optimizer = make_optimizer(self.trained, job.train)
        self.average = _average(self.model, job.train.ema)
        self.bf16 = use_bf16(job.train.precision, workers.device)
        self.replica = workers.replicate(self.trained)

    def _network(self) -> Classifier:
        job = self.job
        network = job.build()
        if job.first_weights is not None:
            network.backbone.load_state_dict(job.first_weights, strict=False)  # a new head stays as the seed made it
        layout = torch.channels_last if job.train.channels_last else torch.contiguous_format
        network = network.to(self.workers.device).lay_out(layout)
        if job.train.compile:
            network.compile()
        return network

    @property
    def facts(self) -> dict[str, Any]:
        """Where and how it computes; JSON-able."""
        device = self.workers.device
        cuda = device.type == "cuda"
        return {
            "precision": "bf16" if self.bf16 else "fp32",
            "workers": self.workers.size,
            "device": device.type,
            "device_name": torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability(),
            "tf32": cuda and torch.backends.cudnn.allow_tf32,  # of convolutions that are to be float32
        }

    def start_epoch(self, epoch: int) -> None:
        """Training mode, and a random state that depends on seed, epoch and worker alone: dropout survives a resume."""
        torch.manual_seed(hash((self.config.seed, epoch, self.workers.rank)))
        self.trained.train()
        if self.config.freeze_batchnorm:
            for module in self.trained.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def step(self, batch: Minibatch, lr: float) -> StepResult:
        """One update at the learning rate `lr`."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.workers.device.type, torch.bfloat16, enabled=self.bf16):
            outcome: Outcome = self.replica(batch)
        self.optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()  # type: ignore[no-untyped-call]
        if self.config.grad_clip > 0:
            nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        positions = given_and_rival(outcome.logits_NC.detach(), batch.target)
        return StepResult(outcome.loss.detach(), torch.stack(positions, dim=1))

    def average_statistics(self) -> None:
        """BatchNorm's running statistics of every network become the mean over the workers."""
        networks = [module for module in self.trained.modules() if isinstance(module, Classifier)]
        for network in dict.fromkeys([*networks, self.kept]):
            self.workers.average_buffers(network.backbone)

    @property
    def kept(self) -> Classifier:
        """The network that is validated and kept: the average where there is one."""
        return self.model if self.average is None else cast(Classifier, self.average.module)


def _average(model: Classifier, decay: float) -> AveragedModel | None:
    if decay == 0:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


class Split(NamedTuple):
    """The two tables that training may see."""

    train: Samples
    valid: Samples


class State(NamedTuple):
    """All that a checkpoint holds."""

    progress: Progress
    learner: Learner
    positions: Positions
    best: dict[str, Tensor]
    """Weights of the best epoch."""


def train(job: Job, split: Split, workers: ProcessGroup, store: Store, observer: Callback) -> Progress:
    """Trains to the last epoch, going on from the store's checkpoint where there is one.

    Raises:
        Diverged: the loss, or that on validation, is no longer finite; the checkpoint of the epoch before stays.
        ConfigError: the batch does not divide among the workers, or is larger than the data.
        TrainingError: the checkpoint is another training's.
    """
    if workers.device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Filling each new tensor takes a twelfth of a step, and nothing here reads what it has not written.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    state = _start(job, split, workers)
    with store.latest() as folder:
        state = state if folder is None else _restore(state, folder)
    while not _is_over(job, state.progress):
        row = _run_epoch(job, state, split, workers, observer)
        state = _count(job, state, row)
        if _is_over(job, state.progress):
            _settle_early(state)
        store.save(_writer(state) if workers.first else None, row)
        if workers.first:
            observer.epoch(row)
    return state.progress


def _start(job: Job, split: Split, workers: ProcessGroup) -> State:
    learner = Learner(job, workers, torch.from_numpy(split.train.label_N))
    facts = {**job.facts, **learner.facts}
    progress = Progress(job.fingerprint, job.train.epochs, early_epoch=early_epoch(job.train.epochs), facts=facts)
    return State(progress, learner, Positions(len(split.train), workers.device), {})


def _restore(state: State, folder: Path) -> State:
    progress = read_progress(folder)
    if progress.fingerprint != state.progress.fingerprint:
        raise TrainingError(f"{folder} is of another training ({progress.fingerprint}): remove it and run again")
    learner = state.learner
    _note_place(progress, learner.facts)
    learner.trained.load_state_dict(read_group(folder, "trained"))
    restore_optimizer(learner.trained, learner.optimizer, read_group(folder, "optimizer"))
    if learner.average is not None:
        learner.average.load_state_dict(read_group(folder, "average"))
    state.positions.restore(read_group(folder, "positions"))
    return state._replace(progress=progress, best=read_group(folder, "best"))


def _note_place(progress: Progress, here: dict[str, Any]) -> None:
    """Makes `here` facts: a resume may be on other workers. What was otherwise up to now stays, under `before`."""
    other = {name: progress.facts.get(name) for name in here if progress.facts.get(name) != here[name]}
    if other:
        before = [*progress.facts.get("before", []), {"epochs_done": progress.epochs_done, **other}]
        progress.facts = {**progress.facts, **here, "before": before}


def _run_epoch(job: Job, state: State, split: Split, workers: ProcessGroup, observer: Callback) -> dict[str, float]:
    """Trains and validates one epoch; its row of the history."""
    epoch, learner = state.progress.epochs_done, state.learner
    steps = steps_per_epoch(len(split.train), job.train.batch_size)
    started = time.perf_counter()
    loss = _train_epoch(job, state, split.train, workers, observer, epoch)
    trained = time.perf_counter()
    learner.average_statistics()
    metrics = validate(learner.kept, split.valid, workers, learner.bf16)
    if not math.isfinite(metrics["valid_nll"]):  # the last step of the epoch broke the weights: no loss has seen it
        raise _diverged("loss on validation", f"after epoch {epoch + 1}")
    return {
        "epoch": epoch + 1,
        **metrics,  # first: MLflow compares runs by the first of all, unless it is told otherwise
        "train_loss": loss,
        "lr": learning_rate(job.train, (epoch + 1) * steps - 1, steps),
        "images_per_second": steps * job.train.batch_size / (trained - started),
        "seconds": time.perf_counter() - started,
    }


def _train_epoch(
    job: Job, state: State, samples: Samples, workers: ProcessGroup, observer: Callback, epoch: int
) -> float:
    """Trains one epoch; its mean loss over all workers."""
    learner, config = state.learner, job.train
    learner.start_epoch(epoch)
    steps = steps_per_epoch(len(samples), config.batch_size)
    losses: list[Tensor] = []
    for step, batch in enumerate(_device_batches(job, samples, workers, epoch)):
        result = learner.step(batch, learning_rate(config, epoch * steps + step, steps))
        losses.append(result.loss)
        state.positions.record(batch.index_N, result.positions_N2)
        # Looking at a loss waits for the device: free on a CPU, once an epoch on a GPU.
        if workers.device.type == "cpu":
            _check_finite(losses[-1:], epoch, step)
        if workers.first:
            observer.step(epoch, step + 1, steps, config.batch_size)
    _check_finite(losses, epoch, 0)
    state.positions.end_epoch(workers)
    if epoch == state.progress.early_epoch:
        state.positions.keep_as_early()
    return float(workers.total(torch.stack(losses).mean()) / workers.size)


def _device_batches(job: Job, samples: Samples, workers: ProcessGroup, epoch: int) -> Iterator[Minibatch]:
    augment = make_augment(job.augment.recipe, fill=[255 * value for value in job.image.mean])
    config = job.train
    host = batches(
        samples,
        batch_size=config.batch_size,
        seed=config.seed,
        epoch=epoch,
        rank=workers.rank,
        world_size=workers.size,
        augment=augment,
        balanced=config.sampler == "balanced",
    )
    for batch in host:
        target = batch.label_B if batch.target_BC is None else batch.target_BC
        arrays = (batch.images_BHWC, target, batch.index_B)
        images, given, index = (_moved(torch.from_numpy(array), workers.device) for array in arrays)
        yield Minibatch(images, given, index, epoch / config.epochs)


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` on the device; from pinned memory alone does a copy to a GPU go on beside the computation."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _check_finite(losses: list[Tensor], epoch: int, first_step: int) -> None:
    finite = torch.stack(losses).isfinite().tolist()
    if not all(finite):
        step = first_step + finite.index(False)
        raise _diverged("loss", f"at epoch {epoch + 1}, step {step + 1}")


def _diverged(what: str, when: str) -> Diverged:
    return Diverged(
        f"the {what} is not finite {when}: lower train.lr, set train.grad_clip, or take train.precision fp32; "
        "the checkpoint of the epoch before is kept"
    )


def _count(job: Job, state: State, row: dict[str, float]) -> State:
    """The state after the epoch of `row`, its weights taken as the best where they are."""
    progress = state.progress
    progress.epochs_done = int(row["epoch"])
    progress.history.append(row)
    metric = row[f"valid_{job.train.select}"]
    if metric <= progress.best_metric:
        return state
    progress.best_epoch, progress.best_metric = int(row["epoch"]), metric
    best = {name: tensor.detach().cpu().clone() for name, tensor in state.learner.kept.backbone.state_dict().items()}
    return state._replace(best=best)


def _is_over(job: Job, progress: Progress) -> bool:
    return job.train.is_over(progress.epochs_done, progress.best_epoch)


def _settle_early(state: State) -> None:
    """Where training stops before the early epoch, the early positions are those of the last one."""
    progress = state.progress
    if progress.epochs_done <= progress.early_epoch:
        progress.early_epoch = progress.epochs_done - 1
        state.positions.keep_as_early()


def _writer(state: State) -> Callable[[Path], None]:
    learner = state.learner
    tensors = {
        "trained": learner.trained.state_dict(),
        "optimizer": optimizer_tensors(learner.trained, learner.optimizer),
        "last": learner.kept.backbone.state_dict(),
        "best": state.best,
        "positions": state.positions.tensors(),
    }
    if learner.average is not None:
        tensors["average"] = learner.average.state_dict()
    return lambda folder: write_checkpoint(folder, state.progress, tensors)
