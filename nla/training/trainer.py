"""The training loop for images.

    progress = Trainer(job, Split(train, valid), ProcessGroup(device), FolderStore(folder)).fit()

What a run starts from, and what its checkpoints hold, is that of nla.training.loop; without a checkpoint, the backbone
starts from `job.first_weights`, except a new head.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable
from typing import NamedTuple

import numpy as np
import torch

from nla.data.augment import make_augment
from nla.data.loader import batches, steps_per_epoch
from nla.data.samples import Samples
from nla.methods import Context, Method, Minibatch
from nla.models.classifier import Classifier
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import CheckpointStore
from nla.training.job import Job
from nla.training.loop import StepResult, TrainingLoop, to_device
from nla.training.process_group import ProcessGroup
from nla.training.validation import validation_metrics
from nla.training.weight_average import BATCHES, estimate_batchnorm, has_batchnorm

__all__ = ["Split", "StepResult", "Trainer"]


class Split(NamedTuple):
    """The two tables that training may see."""

    train: Samples
    valid: Samples
    clean_N: np.ndarray | None = None
    """Clean labels of the validation samples, by which each epoch is measured as well; they choose nothing."""


class Trainer(TrainingLoop[Classifier, Minibatch]):
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
        self.job, self.split, self.group = job, split, group
        self.augment = make_augment(job.config.augment.recipe, fill=[255 * value for value in job.image.mean])
        config, samples = job.config.train, len(split.train)
        steps = steps_per_epoch(samples, config.batch_size)
        super().__init__(config, job.fingerprint, job.facts, steps, samples, group, store, callbacks)

    def build_network(self) -> Classifier:
        """Builds the job's network with its first weights."""
        network = self.job.build()
        if self.job.first_weights is not None:
            network.backbone.load_state_dict(self.job.first_weights, strict=False)  # without the head if it is new
        memory_format = torch.channels_last if self.job.config.train.channels_last else torch.contiguous_format
        network = network.to(self.group.device).set_memory_format(memory_format)
        if self.job.config.train.compile:
            network.compile()
        return network

    def build_method(self) -> Method:
        """Builds the job's method."""
        return self.job.build_method(self._context())

    def _context(self) -> Context:
        train, device = self.split.train, self.group.device
        target_MC = None if train.target_NC is None else torch.from_numpy(train.target_NC).to(device)
        label_M = torch.from_numpy(train.label_N).to(device)
        return Context(label_M, self.job.num_classes, self.group, self.build_network, target_MC)

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
            images, targets, index = (to_device(torch.from_numpy(array), self.group.device) for array in arrays)
            yield Minibatch(images, targets, index, epoch / self.config.epochs)

    def measure(self) -> dict[str, float]:
        """Measures the evaluation network on the validation samples."""
        return validation_metrics(self.eval_network, self.split.valid, self.group, self.bf16, self.split.clean_N)

    def settle(self, epoch: int) -> None:
        """Makes BatchNorm's statistics ready for evaluation, and lets the method take stock."""
        self.settle_batchnorm(epoch)
        self.end_method_epoch(epoch)

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
        method = self.module.method
        assert isinstance(method, Method)  # of build_method
        with contextlib.closing(self.minibatches(epoch)) as batches, autocast:
            method.end_epoch(self.network, batches)
