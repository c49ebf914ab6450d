"""Options of all losses and methods: their published values when built without any, and the exact ends of their ranges.

`build_method` hands every option on; here the classes are built as a user of the Python API builds them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from method_parts import context

from nla.errors import ConfigError
from nla.losses.class_balanced import ClassBalancedLoss, class_weights
from nla.losses.focal import FocalLoss
from nla.losses.functional import log_prior
from nla.losses.gce import GeneralisedCrossEntropyLoss
from nla.losses.label_smoothing import LabelSmoothingLoss
from nla.losses.logit_adjustment import LogitAdjustedLoss
from nla.losses.naw import NawParameters
from nla.losses.nla import NLALoss
from nla.losses.sce import SymmetricCrossEntropyLoss
from nla.methods.ce2 import TwoViewCrossEntropy
from nla.methods.co_teaching import CoTeaching
from nla.methods.eac import ErasingAttention
from nla.methods.elr import EarlyLearning
from nla.methods.forward import ForwardCorrection
from nla.methods.ldam import LabelDistributionAwareMargin, margins
from nla.methods.mixup import Mixup
from nla.methods.plus import Plus
from nla.methods.resup import ReSup
from nla.methods.rul import RelativeUncertainty
from nla.methods.scn import SelfCure
from nla.methods.sop import SparseOverParameterisation
from nla.models.resnet import COSINE_SCALE

COUNTS = torch.tensor([50, 9, 3, 20])
Build = Callable[..., Any]


def of_counts(loss: Build) -> Build:
    return lambda **options: loss(COUNTS, **options)


def of_context(method: Build) -> Build:
    return lambda **options: method(context(), **options)


PUBLISHED: list[tuple[Build, dict[str, Any]]] = [
    (LabelSmoothingLoss, {"eps": 0.1}),
    (FocalLoss, {"gamma": 2}),
    (GeneralisedCrossEntropyLoss, {"q": 0.7}),
    (SymmetricCrossEntropyLoss, {"alpha": 0.1, "beta": 1, "log_zero": -4}),
    (
        NLALoss,
        {
            "lam": 0.5,
            "consistency": "jensen_shannon",
            "reduction": "mean",
            "consistency_weight": 0.5,
            "two_views": True,
        },
    ),
    (TwoViewCrossEntropy, {"lam": 0.5}),
    (CoTeaching, {"forget_rate": 0.2, "ramp": 0.05}),
    (ErasingAttention, {"lam": 5, "erasing": 0.5, "shares": (0.02, 0.25)}),
    (EarlyLearning, {"lam": 3, "beta": 0.7}),
    (ForwardCorrection, {"start": 0.55, "rounds": 5, "beta": 0.7, "strength": 20}),
    (LabelDistributionAwareMargin, {"defer": 0.8}),
    (Mixup, {"alpha": 1}),
    (
        Plus,
        {"boost": 1, "deviation": 0.4, "doubt_deviation": 0.4, "beta": 0.7, "slope": 3, "lam": 0.5},
    ),
    (ReSup, {"lam": 5}),
    (SelfCure, {"beta": 0.7, "rank_margin": 0.15, "gamma": 0.5, "relabel_margin": 0.2, "relabel_from": 0.25}),
    (SparseOverParameterisation, {"lr_u": 1, "lr_v": 10, "consistency": 0.9, "balance": 0.1}),
]
"""Class -> its attributes."""


@pytest.mark.parametrize(("loss", "published"), PUBLISHED, ids=lambda value: getattr(value, "__name__", ""))
def test_without_options_it_has_the_published_ones(loss: Build, published: dict[str, Any]) -> None:
    built = loss() if loss.__module__.startswith("nla.losses") else loss(context())
    assert {name: getattr(built, name) for name in published} == published


def test_published_options_that_become_buffers_or_layers() -> None:
    """The frequencies of the labels 0, 0, 0, 1, 2 and 2."""
    run = context(labels=[0, 0, 0, 1, 2, 2])
    counts_C = torch.tensor([3, 1, 2])
    torch.testing.assert_close(ClassBalancedLoss(COUNTS).weight_C, class_weights(COUNTS, 0.9999))
    torch.testing.assert_close(LogitAdjustedLoss(COUNTS).shift_C, log_prior(COUNTS))
    for method in (TwoViewCrossEntropy, Plus):
        torch.testing.assert_close(method(run).shift_C, 0.5 * log_prior(counts_C))
    ldam = LabelDistributionAwareMargin(run)
    torch.testing.assert_close(ldam.margin_C, COSINE_SCALE * margins(counts_C, 0.5))
    torch.testing.assert_close(ldam.weight_C, class_weights(counts_C, 0.9999))
    linear, norm = RelativeUncertainty(run).uncertainty
    assert (linear.out_features, linear.bias, norm.num_features, norm.running_mean) == (64, None, 64, None)


RANGES: list[tuple[Build, str, str]] = [
    (LabelSmoothingLoss, "eps", "in [0, 1]"),
    (FocalLoss, "gamma", "at least 0"),
    (of_counts(ClassBalancedLoss), "beta", "in [0, 1)"),
    (of_counts(LogitAdjustedLoss), "tau", "at least 0"),
    (GeneralisedCrossEntropyLoss, "q", "in (0, 1]"),
    (SymmetricCrossEntropyLoss, "alpha", "at least 0"),
    (SymmetricCrossEntropyLoss, "beta", "at least 0"),
    (SymmetricCrossEntropyLoss, "log_zero", "below 0"),
    *((NawParameters, name, "above 0") for name in ("true_deviation", "false_deviation", "true_ratio", "false_ratio")),
    (NawParameters, "slope", "at least 0"),
    (NLALoss, "lam", "in [0, 1]"),
    (NLALoss, "consistency_weight", "at least 0"),
    (of_context(TwoViewCrossEntropy), "tau", "at least 0"),
    (of_context(TwoViewCrossEntropy), "lam", "at least 0"),
    (of_context(CoTeaching), "forget_rate", "in [0, 1)"),
    (of_context(CoTeaching), "ramp", "in (0, 1]"),
    (of_context(ErasingAttention), "lam", "at least 0"),
    (of_context(ErasingAttention), "erasing", "in [0, 1]"),
    (lambda smallest: ErasingAttention(context(), smallest=smallest, largest=1.0), "smallest", "in (0, 1]"),
    (of_context(EarlyLearning), "lam", "at least 0"),
    (of_context(EarlyLearning), "beta", "in [0, 1)"),
    (of_context(ForwardCorrection), "start", "in (0, 1)"),
    (of_context(ForwardCorrection), "rounds", "at least 1"),
    (of_context(ForwardCorrection), "beta", "in [0, 1)"),
    (of_context(ForwardCorrection), "strength", "above 0"),
    (of_context(LabelDistributionAwareMargin), "margin", "at least 0"),
    (of_context(LabelDistributionAwareMargin), "beta", "in [0, 1)"),
    (of_context(LabelDistributionAwareMargin), "defer", "in [0, 1]"),
    (of_context(Mixup), "alpha", "at least 0.01"),
    *((of_context(Plus), name, "at least 0") for name in ("boost", "slope", "tau", "lam")),
    *((of_context(Plus), name, "above 0") for name in ("deviation", "doubt_deviation")),
    (of_context(Plus), "beta", "in [0, 1)"),
    (of_context(ReSup), "lam", "at least 0"),
    (of_context(SelfCure), "beta", "in (0, 1)"),
    (of_context(SelfCure), "rank_margin", "in [0, 1)"),
    *((of_context(SelfCure), name, "in [0, 1]") for name in ("gamma", "relabel_margin", "relabel_from")),
    *(
        (of_context(SparseOverParameterisation), name, "at least 0")
        for name in ("lr_u", "lr_v", "consistency", "balance")
    ),
]
"""What is built, its option, and the range as the message says it."""


def ends(condition: str) -> tuple[list[float], list[float]]:
    """The outermost numbers of a range, and the next ones beyond it."""
    if limit := re.fullmatch(r"at least (.*)", condition):
        low = float(limit[1])
        return [low, 1e6], [math.nextafter(low, -1)]
    if condition == "above 0":
        return [math.nextafter(0, 1), 1e6], [0.0, -1.0]
    if condition == "below 0":
        return [math.nextafter(0, -1), -1e6], [0.0, 1.0]
    first, low, high, last = re.fullmatch(r"in ([\[(])(\S+), (\S+)([\])])", condition).groups()  # type: ignore[union-attr]
    inside, beyond = [], []
    for closed, end, outwards in ((first == "[", float(low), -9.0), (last == "]", float(high), 9.0)):
        inside.append(end if closed else math.nextafter(end, -outwards))
        beyond.append(math.nextafter(end, outwards) if closed else end)
    return inside, beyond


@pytest.mark.parametrize(("build", "option", "condition"), RANGES)
def test_a_range_ends_where_its_message_says(build: Build, option: str, condition: str) -> None:
    inside, beyond = ends(condition)
    for value in inside:
        build(**{option: value})
    for value in (*beyond, math.nan):
        with pytest.raises(ValueError, match=f"^{re.escape(f'{option} must be {condition} (got {value!r})')}$"):
            build(**{option: value})


@pytest.mark.parametrize(("method", "name"), [(CoTeaching, "co_teaching"), (ReSup, "resup")])
def test_a_second_network_needs_a_linear_layer(method: Build, name: str) -> None:
    run = replace(context(), build=lambda: torch.nn.Sequential(torch.nn.Flatten()))
    with pytest.raises(ConfigError, match=rf"^model\.name: {name} needs a network with a linear layer\."):
        method(run)


def test_ranges_of_whole_numbers_and_of_two_options() -> None:
    RelativeUncertainty(context(), dimensions=1)
    RelativeUncertainty(context(), dimensions=65_536)
    for dimensions in (0, 65_537, 10**12):
        with pytest.raises(ValueError, match=rf"^dimensions must be from 1 to 65536 \(got {dimensions}\)$"):
            RelativeUncertainty(context(), dimensions=dimensions)
    for sign in (-1, 1):
        NawParameters(true_sign=sign)
    for sign in (-2, 0, 2):
        with pytest.raises(ValueError, match=rf"^true_sign must be -1 or 1 \(got {sign}\)$"):
            NawParameters(true_sign=sign)
    for largest in (0.25, 1.0):
        ErasingAttention(context(), smallest=0.25, largest=largest)
    for largest in (0.2, math.nextafter(1, 2)):
        with pytest.raises(ValueError, match=rf"^largest must be between smallest, 0\.25, and 1 \(got {largest}\)$"):
            ErasingAttention(context(), smallest=0.25, largest=largest)
