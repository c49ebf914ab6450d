"""One training step: forward on one or both views, loss, backward, update, average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nla.losses import build_loss
from nla.losses.targets import given_and_rival
from nla.models.classifier import Classifier
from nla.training.job import Job
from nla.training.optim import make_optimizer
from nla.training.precision import use_bf16
from nla.training.workers import Workers


@dataclass(frozen=True)
class StepResult:
    """What a step shows, on the device: nothing here waits for it."""

    loss: Tensor
    """Scalar."""
    positions_N2: Tensor
    """(p_GT, p_NN) of each sample before the update."""


class Learner:
    """The network and all that changes with it in training."""

    def __init__(self, job: Job, workers: Workers) -> None:
        self.config, self.workers = job.train, workers
        torch.manual_seed(job.train.seed)
        self.model = job.build()
        if job.first_weights is not None:
            self.model.backbone.load_state_dict(job.first_weights)
        layout = torch.channels_last if job.train.channels_last else torch.contiguous_format
        self.model = self.model.to(workers.device).lay_out(layout)
        self.loss = build_loss(job.loss.name, job.loss.model_dump(exclude={"name"}))
        self.optimizer = make_optimizer(self.model, job.train)
        self.average = _average(self.model, job.train.ema)
        self.bf16 = use_bf16(job.train.precision, workers.device)
        self.replica = workers.replicate(self.model)
        if job.train.compile:
            self.replica.compile()

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
        self.model.train()
        if self.config.freeze_batchnorm:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def step(self, images_NHWC: Tensor, target: Tensor, lr: float, progress: float) -> StepResult:
        """One update.

        Args:
            images_NHWC: uint8, this worker's part of the global batch, on the device.
            target: [N] class indices or [N, C] distributions, on the device.
            lr: learning rate of this step.
            progress: epoch / epochs.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast(self.workers.device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.replica(images_NHWC, mirrored=self.loss.two_views)
        first, second = logits.float().chunk(2) if self.loss.two_views else (logits.float(), None)
        loss = self.loss(first, second, target, progress, replicas=self.workers.size)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.grad_clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return StepResult(loss.detach(), torch.stack(given_and_rival(first.detach(), target), dim=1))

    @property
    def kept(self) -> Classifier:
        """The network that is validated and kept: the average where there is one."""
        return self.model if self.average is None else cast(Classifier, self.average.module)


def _average(model: Classifier, decay: float) -> AveragedModel | None:
    if decay == 0:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
