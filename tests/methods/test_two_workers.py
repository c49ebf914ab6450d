"""Half a batch on each of two workers, and their losses averaged, as DDP does it: the same as one worker with it all.

The workers are threads of this process; tests/training/test_process_group.py has processes that train with DDP.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier

import pytest
import torch
from method_parts import context, minibatch, small_network
from torch import Tensor

from nla.config.loss import LossConfig
from nla.methods import Context, build_method
from nla.methods.base import Group


class Exchange:
    """What the workers hand to each other."""

    def __init__(self, size: int) -> None:
        self.barrier, self.given = Barrier(size), [torch.empty(0)] * size


@dataclass
class Worker:
    """One of `size` threads."""

    exchange: Exchange
    rank: int
    size: int

    def gather(self, tensor: Tensor) -> Tensor:
        self.exchange.given[self.rank] = tensor
        self.exchange.barrier.wait(60)
        gathered = torch.cat(self.exchange.given)
        self.exchange.barrier.wait(60)
        return gathered


CONFIGS = {
    "nla as released": LossConfig(variant="released"),
    "nla": LossConfig(),
    **{
        name: LossConfig(name=name)
        for name in ("plus", "ce2", "class_balanced", "ldam", "elr", "forward", "sop", "co_teaching", "resup")
    },
    "scn": LossConfig(name="scn", options={"rank_margin": 0.9, "relabel_margin": 0.0}),
}
"""Those that draw nothing: mixup, rul and eac draw pairs and holes for each worker."""
LABELS = [0, 0, 0, 1, 2, 2, 0, 1]


Result = tuple[Tensor, list[Tensor], dict[str, Tensor]]
"""Loss, gradients of network and method, and buffers after a step."""


def worker(config: LossConfig, group: Group, indices: list[int]) -> Callable[[], Result]:
    """What a worker with these samples does. BatchNorm, which sees half a batch on a worker, uses its running means."""
    run: Context = replace(context(labels=LABELS), group=group)
    torch.manual_seed(0)
    method, network = build_method(config, run).eval(), small_network().eval()
    if config.name == "resup":  # as after an epoch
        method.table_2B.copy_(torch.rand(method.table_2B.shape, generator=torch.manual_seed(1)))
    batch = minibatch(indices, progress=0.9)
    batch = batch._replace(target=torch.tensor(LABELS)[batch.index_N])

    def step() -> Result:
        loss = method(network, batch).loss
        loss.backward()
        gradients = [p.grad for module in (network, method) for p in module.parameters() if p.grad is not None]
        return loss.detach(), gradients, dict(method.named_buffers())

    return step


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_mean_of_the_workers_is_the_whole_batch(config: LossConfig) -> None:
    indices, exchange = [5, 0, 3, 1, 7, 2], Exchange(2)
    loss, gradients, buffers = worker(config, context().group, indices)()
    halves = [worker(config, Worker(exchange, rank, 2), indices[3 * rank :][:3]) for rank in (0, 1)]
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda step: step(), halves)
    torch.testing.assert_close((first[0] + second[0]) / 2, loss, rtol=1e-5, atol=1e-5)
    for one, other, whole in zip(first[1], second[1], gradients, strict=True):
        torch.testing.assert_close((one + other) / 2, whole, rtol=1e-3, atol=1e-5)
    for found in (first[2], second[2]):
        torch.testing.assert_close(found, buffers, rtol=1e-4, atol=1e-5)
