"""One training step: the method's loss, backward, update, average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nla.losses.targets import given_and_rival
from nla.methods import Context, Method, Minibatch, Outcome, build_method
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


class Trained(nn.Module):
    """All that is trained, as one module: the network, and the method with what it learns."""

    def __init__(self, network: Classifier, method: Method) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, batch: Minibatch) -> Outcome:
        return self.method(self.network, batch)


class Learner:
    """The network and all that changes with it in training."""

    def __init__(self, job: Job, workers: Workers, label_N: Tensor) -> None:
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

    def agree_on_statistics(self) -> None:
        """BatchNorm's running statistics of every network become the mean over the workers."""
        networks = [module for module in self.trained.modules() if isinstance(module, Classifier)]
        for network in dict.fromkeys([*networks, self.kept]):
            self.workers.agree_on_buffers(network.backbone)

    @property
    def kept(self) -> Classifier:
        """The network that is validated and kept: the average where there is one."""
        return self.model if self.average is None else cast(Classifier, self.average.module)


def _average(model: Classifier, decay: float) -> AveragedModel | None:
    if decay == 0:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
