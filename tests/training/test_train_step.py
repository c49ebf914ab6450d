"""One step against plain PyTorch, and what changes it: views, clipping, averaging, frozen statistics."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from training_parts import CLASSES, CPU, SINGLE, MakeSamples, make_job, make_trainer

from nla.losses import NLALoss
from nla.methods import Minibatch
from nla.models.resnet import BLOCKS, BasicBlock
from nla.training.optim import set_lr
from nla.training.process_group import ProcessGroup
from nla.training.trainer import StepResult, Trainer
from nla.training.validation import validation_metrics


def data(n: int = 8, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.manual_seed(7)
    images = torch.randint(0, 256, (n, size, size, 1), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, CLASSES, (n,), generator=generator)


def weights(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in trainer.network.parameters()]


def step(trainer: Trainer, images: Tensor, target: Tensor, lr: float, progress: float = 0) -> StepResult:
    set_lr(trainer.optimizer, lr)
    return trainer.train_step(Minibatch(images, target, torch.arange(len(target)), progress))


def started(**job: Any) -> Trainer:
    """A trainer at the start of its first epoch."""
    trainer = make_trainer(make_job(**job))
    trainer.start_epoch(0)
    return trainer


def test_a_step_is_plain_sgd_on_the_loss_of_both_views() -> None:
    images, target = data()
    trainer = started(loss={"name": "nla", "variant": "released"}, momentum=0.0)
    twin = started(loss={"name": "nla", "variant": "released"}, momentum=0.0).network
    result = step(trainer, images, target, lr=0.01, progress=0.1)
    x = (images.float() / 255 - 0.4) / 0.25
    both = twin.backbone(torch.cat([x, x.flip(2)]).permute(0, 3, 1, 2))
    loss = NLALoss("released")(both[:8], both[8:], target, 0.1)
    loss.backward()
    torch.testing.assert_close(result.loss, loss.detach())
    for mine, parameter in zip(weights(trainer), twin.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(mine, (parameter - 0.01 * parameter.grad).detach(), rtol=1e-4, atol=1e-6)


def test_positions_are_those_before_the_update() -> None:
    images, target = data()
    trainer = started(freeze_batchnorm=True)
    p_NC = trainer.network(images).softmax(1).detach()
    result = step(trainer, images, target, lr=10.0)
    given_N = p_NC[range(8), target]
    rival_N = torch.stack(
        [max(p for c, p in enumerate(row) if c != label) for row, label in zip(p_NC, target, strict=True)]
    )
    torch.testing.assert_close(result.positions_N2, torch.stack([given_N, rival_N], 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "views"),
    [({"name": "ce"}, 1), ({"name": "nla"}, 2), ({"name": "nla", "consistency": "none"}, 1)],
)
def test_the_mirror_view_is_computed_only_if_the_loss_uses_it(loss: dict[str, str], views: int) -> None:
    trainer, seen = started(loss=loss), []
    trainer.network.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    step(trainer, *data(), lr=0.01)
    assert seen == [8 * views]


def test_the_gradient_is_clipped_to_its_norm() -> None:
    trainer = started(grad_clip=1e-3, momentum=0.0)
    before = weights(trainer)
    step(trainer, *data(), lr=1.0)
    moved = sum(float((a - b).double().square().sum()) for a, b in zip(weights(trainer), before, strict=True)) ** 0.5
    assert moved == pytest.approx(1e-3, rel=0.01)


def test_the_average_follows_the_weights() -> None:
    trainer = started(ema=0.75)
    expected: list[Tensor] = []
    for i in range(3):
        step(trainer, *data(), lr=0.05)
        now = weights(trainer)
        expected = now if i == 0 else [0.75 * a + 0.25 * b for a, b in zip(expected, now, strict=True)]
    average = [parameter.detach() for parameter in trainer.eval_network.parameters()]
    torch.testing.assert_close(average, expected)
    assert not torch.equal(average[0], weights(trainer)[0])
    assert isinstance(trainer.eval_network, type(trainer.network)) and trainer.eval_network is not trainer.network


@pytest.mark.parametrize("frozen", [False, True])
def test_frozen_running_statistics_do_not_change(frozen: bool) -> None:
    trainer = started(freeze_batchnorm=frozen)
    before = {name: buffer.clone() for name, buffer in trainer.network.backbone.named_buffers()}
    step(trainer, *data(), lr=0.01)
    same = [torch.equal(buffer, before[name]) for name, buffer in trainer.network.backbone.named_buffers()]
    assert all(same) if frozen else not any(same)
    assert all(parameter.grad is not None for parameter in trainer.network.parameters())


def test_a_frozen_model_is_frozen_again_after_validation() -> None:
    trainer = started(freeze_batchnorm=True)
    trainer.network.train()
    trainer.start_epoch(1)
    modes = {type(module).__name__: module.training for module in trainer.network.modules()}
    assert modes["Conv2d"] and not modes["BatchNorm2d"]


def test_the_random_state_depends_only_on_seed_epoch_and_rank() -> None:
    def draw(seed: int, epoch: int, rank: int) -> float:
        trainer = make_trainer(make_job(seed=seed))
        trainer.group = ProcessGroup(CPU, rank, 3)
        torch.rand(rank + epoch)  # what happened before does not matter
        trainer.start_epoch(epoch)
        return torch.rand(()).item()

    streams = [(seed, epoch, rank) for seed in (0, 1) for epoch in (0, 1, 2) for rank in (0, 1, 2)]
    assert [draw(*stream) for stream in streams] == [draw(*stream) for stream in streams]
    assert len({draw(*stream) for stream in streams}) == len(streams)


def test_the_seed_chooses_the_first_weights() -> None:
    first, again, other = (weights(started(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_bf16_leaves_weights_and_loss_in_float32() -> None:
    trainer, seen = started(precision="bf16"), []
    trainer.network.backbone.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    result = step(trainer, *data(), lr=0.01)
    assert seen == [torch.bfloat16]
    assert result.loss.dtype == torch.float32 and result.loss.isfinite()
    assert {parameter.dtype for parameter in trainer.network.parameters()} == {torch.float32}


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_layout(channels_last: bool) -> None:
    """Of weights and activations."""
    trainer, seen = started(channels_last=channels_last, ema=0.9), []
    weight = trainer.network.get_parameter("backbone.layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    for model in (trainer.network, trainer.eval_network):
        model.backbone.get_submodule("layer1").register_forward_hook(lambda _, args, out: seen.extend([*args, out]))
    step(trainer, *data(), lr=0.01)
    trainer.eval_network(data()[0])
    assert len(seen) == 4
    assert {x.is_contiguous(memory_format=torch.channels_last) for x in seen} == {channels_last}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # PyTorch's own
@pytest.mark.thorough
def test_compiled_is_the_same(tiny_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "resnet18", (BasicBlock, (1, 1, 1, 1)))  # half as long to compile
    plain, compiled = (started(compile=choice) for choice in (False, True))
    results = [step(trainer, *data(), lr=0.01) for trainer in (plain, compiled)]
    torch.testing.assert_close(results[1].loss, results[0].loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-4)
    metrics = [
        validation_metrics(trainer.eval_network, tiny_samples(20), SINGLE, False) for trainer in (plain, compiled)
    ]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-3)
    assert list(compiled.network.state_dict()) == list(plain.network.state_dict())
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
