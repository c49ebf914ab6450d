"""One step against plain PyTorch, and what changes it: views, clipping, averaging, frozen statistics."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from training_parts import ALONE, CLASSES, CPU, MakeSamples, make_job

from nla.losses import NLALoss
from nla.methods import Minibatch
from nla.models.resnet import BLOCKS, BasicBlock
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Learner, StepResult, validate


def data(n: int = 8, size: int = 16) -> tuple[Tensor, Tensor]:
    generator = torch.manual_seed(7)
    images = torch.randint(0, 256, (n, size, size, 1), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, CLASSES, (n,), generator=generator)


def weights(learner: Learner) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in learner.model.parameters()]


def step(learner: Learner, images: Tensor, target: Tensor, lr: float, progress: float = 0) -> StepResult:
    return learner.step(Minibatch(images, target, torch.arange(len(target)), progress), lr)


def learner_of(**job: Any) -> Learner:
    learner = Learner(make_job(**job), ALONE, data()[1])
    learner.start_epoch(0)
    return learner


def test_a_step_is_plain_sgd_on_the_loss_of_both_views() -> None:
    images, target = data()
    learner = learner_of(loss={"name": "nla", "variant": "released"}, momentum=0.0)
    twin = learner_of(loss={"name": "nla", "variant": "released"}, momentum=0.0).model
    result = step(learner, images, target, lr=0.01, progress=0.1)
    x = (images.float() / 255 - 0.4) / 0.25
    both = twin.backbone(torch.cat([x, x.flip(2)]).permute(0, 3, 1, 2))
    loss = NLALoss("released")(both[:8], both[8:], target, 0.1)
    loss.backward()
    torch.testing.assert_close(result.loss, loss.detach())
    for mine, parameter in zip(weights(learner), twin.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(mine, (parameter - 0.01 * parameter.grad).detach(), rtol=1e-4, atol=1e-6)


def test_positions_are_those_before_the_update() -> None:
    images, target = data()
    learner = learner_of(freeze_batchnorm=True)
    p_NC = learner.model(images).softmax(1).detach()
    result = step(learner, images, target, lr=10.0)
    given_N = p_NC[range(8), target]
    rival_N = torch.stack(
        [max(p for c, p in enumerate(row) if c != label) for row, label in zip(p_NC, target, strict=True)]
    )
    torch.testing.assert_close(result.positions_N2, torch.stack([given_N, rival_N], 1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "views"),
    [({"name": "ce"}, 1), ({"name": "nla"}, 2), ({"name": "nla", "consistency": "none"}, 1)],
)
def test_the_mirror_is_computed_only_where_it_is_looked_at(loss: dict[str, str], views: int) -> None:
    learner, seen = learner_of(loss=loss), []
    learner.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    step(learner, *data(), lr=0.01)
    assert seen == [8 * views]


def test_the_gradient_is_clipped_to_its_norm() -> None:
    learner = learner_of(grad_clip=1e-3, momentum=0.0)
    before = weights(learner)
    step(learner, *data(), lr=1.0)
    moved = sum(float((a - b).double().square().sum()) for a, b in zip(weights(learner), before, strict=True)) ** 0.5
    assert moved == pytest.approx(1e-3, rel=0.01)


def test_the_average_follows_the_weights() -> None:
    learner = learner_of(ema=0.75)
    expected: list[Tensor] = []
    for i in range(3):
        step(learner, *data(), lr=0.05)
        now = weights(learner)
        expected = now if i == 0 else [0.75 * a + 0.25 * b for a, b in zip(expected, now, strict=True)]
    kept = [parameter.detach() for parameter in learner.kept.parameters()]
    torch.testing.assert_close(kept, expected)
    assert not torch.equal(kept[0], weights(learner)[0])
    assert learner_of().kept is not learner.kept and isinstance(learner.kept, type(learner.model))


@pytest.mark.parametrize("frozen", [False, True])
def test_running_statistics_stay_where_they_are_frozen(frozen: bool) -> None:
    learner = learner_of(freeze_batchnorm=frozen)
    before = {name: buffer.clone() for name, buffer in learner.model.backbone.named_buffers()}
    step(learner, *data(), lr=0.01)
    same = [torch.equal(buffer, before[name]) for name, buffer in learner.model.backbone.named_buffers()]
    assert all(same) if frozen else not any(same)
    assert all(parameter.grad is not None for parameter in learner.model.parameters())


def test_a_frozen_model_is_frozen_again_after_validation() -> None:
    learner = learner_of(freeze_batchnorm=True)
    learner.model.train()
    learner.start_epoch(1)
    modes = {type(module).__name__: module.training for module in learner.model.modules()}
    assert modes["Conv2d"] and not modes["BatchNorm2d"]


def test_randomness_depends_on_seed_epoch_and_worker_alone() -> None:
    def draw(seed: int, epoch: int, rank: int) -> float:
        learner = Learner(make_job(seed=seed), ProcessGroup(CPU), data()[1])
        learner.workers = ProcessGroup(CPU, rank, 3)
        torch.rand(rank + epoch)  # what happened before does not matter
        learner.start_epoch(epoch)
        return torch.rand(()).item()

    places = [(seed, epoch, rank) for seed in (0, 1) for epoch in (0, 1, 2) for rank in (0, 1, 2)]
    assert [draw(*place) for place in places] == [draw(*place) for place in places]
    assert len({draw(*place) for place in places}) == len(places)


def test_the_seed_chooses_the_first_weights() -> None:
    first, again, other = (weights(learner_of(seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_bf16_leaves_weights_and_loss_in_float32() -> None:
    learner, seen = learner_of(precision="bf16"), []
    learner.model.backbone.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    result = step(learner, *data(), lr=0.01)
    assert seen == [torch.bfloat16]
    assert result.loss.dtype == torch.float32 and result.loss.isfinite()
    assert {parameter.dtype for parameter in learner.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_layout(channels_last: bool) -> None:
    """Of weights, and of what the layers pass on."""
    learner, seen = learner_of(channels_last=channels_last, ema=0.9), []
    weight = learner.model.get_parameter("backbone.layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    for model in (learner.model, learner.kept):
        model.backbone.get_submodule("layer1").register_forward_hook(lambda _, args, out: seen.extend([*args, out]))
    step(learner, *data(), lr=0.01)
    learner.kept(data()[0])
    assert len(seen) == 4
    assert {x.is_contiguous(memory_format=torch.channels_last) for x in seen} == {channels_last}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # PyTorch of itself
@pytest.mark.thorough
def test_compiled_is_the_same(tiny_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "resnet18", (BasicBlock, (1, 1, 1, 1)))  # half as long to compile
    plain, compiled = (learner_of(compile=choice) for choice in (False, True))
    results = [step(learner, *data(), lr=0.01) for learner in (plain, compiled)]
    torch.testing.assert_close(results[1].loss, results[0].loss, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-3, atol=1e-4)
    metrics = [validate(learner.kept, tiny_samples(20), ALONE, False) for learner in (plain, compiled)]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-3)
    assert list(compiled.model.state_dict()) == list(plain.model.state_dict())
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
