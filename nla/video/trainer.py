"""The training loop for clips: that of nla.training.loop, on features of frames.

    progress = ClipTrainer(job, train, valid, ProcessGroup(device), FolderStore(folder)).fit()

Positions (p_GT, p_NN) are those of all annotated frames of training, early and late.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from nla.config.sequence import SequenceConfig
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import CheckpointStore
from nla.training.loop import TrainingLoop, to_device
from nla.training.process_group import ProcessGroup
from nla.training.validation import split_metrics
from nla.video.frames import NO_LABEL
from nla.video.methods import ClipBatch, ClipMethod
from nla.video.models import SequenceArchitecture, SequenceClassifier
from nla.video.predict import sequence_probabilities
from nla.video.sequences import Sequences, batches, steps_per_epoch

SMALLEST_DEVIATION = 1e-3
"""Of a feature that hardly varies, which would be scaled up to noise."""


@dataclass(frozen=True)
class ClipJob:
    """All that a training process needs besides the sequences."""

    config: SequenceConfig
    fingerprint: str = ""
    """Hash of parameters, data and code."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Recorded with the result."""


class ClipTrainer(TrainingLoop[SequenceClassifier, ClipBatch]):
    """Trains a job on one process of a group.

    Args:
        train: sequences to learn from.
        valid: those that choose the epoch.
        group: the processes that train together; each has its own trainer.
        store: keeps the latest checkpoint.
        callbacks: called by the main process.

    Raises:
        ConfigError: a value of `sequence.loss` is out of its range.
    """

    def __init__(
        self,
        job: ClipJob,
        train: Sequences,
        valid: Sequences,
        group: ProcessGroup,
        store: CheckpointStore,
        callbacks: Iterable[Callback] = (),
    ) -> None:
        self.job, self.train, self.valid, self.group = job, train, valid, group
        steps = steps_per_epoch(train, job.config)
        super().__init__(job.config.train, job.fingerprint, job.facts, steps, train.frames, group, store, callbacks)

    def build_network(self) -> SequenceClassifier:
        """Builds the network for the features of the training sequences, whose scale it gets."""
        features = self.train.videos[0].features_T2F.shape[2]
        network = SequenceClassifier(SequenceArchitecture.of(self.job.config.model, features, len(self.train.classes)))
        network.set_scale(*(torch.from_numpy(value) for value in feature_scale(self.train)))
        return network.to(self.group.device)

    def build_method(self) -> ClipMethod:
        """Builds the method of `sequence.loss`."""
        return ClipMethod(self.job.config.loss, self.group)

    def minibatches(self, epoch: int) -> Generator[ClipBatch]:
        """This process's part of each global batch of an epoch, on the device."""
        progress = epoch / self.config.epochs
        for arrays in batches(self.train, self.job.config, epoch, self.group.rank, self.group.size):
            features, mask, annotated, frame, label, index = (
                to_device(torch.from_numpy(array), self.group.device)
                for array in (
                    arrays.features_BT2F,
                    arrays.mask_BT,
                    arrays.annotated_BT,
                    arrays.frame_BT,
                    arrays.target,
                    arrays.index_BT,
                )
            )
            yield ClipBatch(features, mask, annotated, frame, label, index, progress)

    def measure(self) -> dict[str, float]:
        """Measures all annotated validation frames, by overlapping windows; each video counts on one process."""
        config, videos = self.job.config, self.valid.videos[self.group.rank :: self.group.size]
        p, labels = [np.empty((0, len(self.valid.classes)), np.float32)], [np.empty(0, np.int64)]
        for video in videos:
            own = video.clean_T != NO_LABEL
            p_TC = sequence_probabilities(
                self.eval_network, video.features_T2F, video.frame_T, config.window, config.overlap
            )
            p.append(p_TC[own])
            labels.append(video.clean_T[own])
        return split_metrics("valid", np.concatenate(p), np.concatenate(labels), self.group)


def clip_trainer(
    job: ClipJob,
    data: tuple[Sequences, Sequences],
    group: ProcessGroup,
    store: CheckpointStore,
    callbacks: Iterable[Callback],
) -> ClipTrainer:
    """The trainer of a worker, given the sequences to learn from and those that choose the epoch."""
    return ClipTrainer(job, *data, group, store, callbacks)


def feature_scale(sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each feature over all frames and both views, float32 [F] each."""
    count, total, square = 0, 0.0, 0.0
    for video in sequences.videos:  # one at a time, in double precision
        values = video.features_T2F.astype(np.float64).reshape(-1, video.features_T2F.shape[2])
        count += len(values)
        total, square = total + values.sum(0), square + (values**2).sum(0)
    mean = np.asarray(total / count)
    deviation = np.sqrt(np.maximum(square / count - mean**2, SMALLEST_DEVIATION**2))
    return mean.astype(np.float32), deviation.astype(np.float32)
