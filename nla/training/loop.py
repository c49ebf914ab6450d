"""The training loop of one worker. It knows nothing of Ray, MLflow and DVC.

    train(job, Split(train, valid), Workers(device), FolderStore(folder), Silent())

Going on after a stop: the state after each epoch is kept, and every random choice depends on (seed, epoch, sample)
alone, so that an interrupted training ends with the same weights, bit for bit, as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nla.data.augment import make_augment
from nla.data.loader import batches, steps_per_epoch
from nla.data.samples import Samples
from nla.errors import Diverged, TrainingError
from nla.methods import Minibatch
from nla.training.checkpoint import (
    Progress,
    optimizer_tensors,
    read_group,
    read_progress,
    restore_optimizer,
    write_checkpoint,
)
from nla.training.job import Job
from nla.training.learner import Learner
from nla.training.observer import Observer
from nla.training.optim import learning_rate
from nla.training.positions import Positions, early_epoch
from nla.training.store import Store
from nla.training.validate import validate
from nla.training.workers import Workers


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


def train(job: Job, split: Split, workers: Workers, store: Store, observer: Observer) -> Progress:
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


def _start(job: Job, split: Split, workers: Workers) -> State:
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


def _run_epoch(job: Job, state: State, split: Split, workers: Workers, observer: Observer) -> dict[str, float]:
    """Trains and validates one epoch; its row of the history."""
    epoch, learner = state.progress.epochs_done, state.learner
    steps = steps_per_epoch(len(split.train), job.train.batch_size)
    started = time.perf_counter()
    loss = _train_epoch(job, state, split.train, workers, observer, epoch)
    trained = time.perf_counter()
    learner.agree_on_statistics()
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


def _train_epoch(job: Job, state: State, samples: Samples, workers: Workers, observer: Observer, epoch: int) -> float:
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


def _device_batches(job: Job, samples: Samples, workers: Workers, epoch: int) -> Iterator[Minibatch]:
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
