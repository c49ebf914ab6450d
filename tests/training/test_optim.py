from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from nla.config.train import TrainConfig
from nla.training.optim import LRSchedule, make_optimizer

EPOCHS, STEPS, LR = 7, 11, 0.3
TOTAL = EPOCHS * STEPS


def rates_of_pytorch(make: Callable[[torch.optim.Optimizer], Any], every: int) -> list[float]:
    """The rate of each step, by a scheduler that is stepped every `every` steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler, rates = make(optimizer), []
    for step in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < TOTAL:
            scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make", "every"),
    [
        ("one_cycle", lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=TOTAL, cycle_momentum=False), 1),
        ("cosine", lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL), 1),
        ("exponential", lambda o: lr_scheduler.ExponentialLR(o, 0.8), STEPS),
        ("constant", lambda o: lr_scheduler.ConstantLR(o, 1.0), 1),
    ],
)
def test_rates_equal_those_of_pytorch(schedule: str, make: Callable[[torch.optim.Optimizer], Any], every: int) -> None:
    config = TrainConfig(schedule=schedule, lr=LR, epochs=EPOCHS, gamma=0.8)
    ours = [LRSchedule(config, STEPS)(step) for step in range(TOTAL)]
    assert ours == pytest.approx(rates_of_pytorch(make, every), rel=1e-6, abs=1e-12)


@given(
    st.sampled_from(["one_cycle", "cosine", "exponential", "constant"]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.data(),
)
def test_any_step_has_a_rate_up_to_the_peak(schedule: str, epochs: int, steps: int, data: st.DataObject) -> None:
    config = TrainConfig(schedule=schedule, lr=LR, epochs=epochs)
    step = data.draw(st.integers(0, epochs * steps - 1))
    assert 0 < LRSchedule(config, steps)(step) <= LR * (1 + 1e-12)


@pytest.mark.parametrize(
    ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_the_optimizer_by_its_name(name: str, kind: type[torch.optim.Optimizer]) -> None:
    assert type(make_optimizer(torch.nn.Linear(2, 2), TrainConfig(optimizer=name))) is kind


def test_only_matrices_and_kernels_decay() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(2, 2)
    )
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, TrainConfig(optimizer="sgd", lr=0.1, weight_decay=0.5, momentum=0.0))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if name in ("0.weight", "3.weight") else 1
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_sgd_has_nesterov_momentum() -> None:
    """Nesterov as PyTorch has it: v = m v + g, w -= lr (g + m v), with a gradient of 1."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = make_optimizer(model, TrainConfig(optimizer="sgd", lr=0.1, weight_decay=0.0, momentum=0.9))
    w, v = 0.0, 0.0
    for _ in range(3):
        model.weight.grad = torch.ones(1, 1)
        optimizer.step()
        v = 0.9 * v + 1
        w -= 0.1 * (1 + 0.9 * v)
    assert model.weight.item() == pytest.approx(w)
