"""Properties of every method: its name, its options, and a step that learns."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_parts import context, minibatch, small_network
from torch import Tensor, nn

from nla.config.loss import LossConfig
from nla.errors import ConfigError
from nla.losses.nla import NLALoss
from nla.methods import METHODS, Minibatch, build_method, check_method, method_class, method_options, resolved_loss
from nla.methods.base import OneView
from nla.training.job import training_config

NAMES = sorted(METHODS)


@pytest.mark.parametrize(
    ("name", "resnet"),
    [(name, "resnet18") for name in NAMES] + [(name, "resnet50") for name in ("nla", "rul", "scn")],
)
def test_a_batch_gives_a_loss_that_training_lowers(name: str, resnet: str) -> None:
    """The same eight samples over and over: any method must come to fit them; EAC's holes make ResNet-50 slower."""
    network, indices = small_network(name=resnet), range(8)
    method = build_method(LossConfig(name=name), context(name=resnet))
    optimizer = torch.optim.Adam([*network.parameters(), *method.parameters()], lr=3e-3)
    torch.manual_seed(0)
    hits = []
    for _ in range(40):
        batch = minibatch(indices)
        outcome = method(network, batch)
        assert outcome.loss.shape == () and outcome.loss.isfinite()
        assert outcome.logits_NC.shape == (8, 3)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        hits.append((outcome.logits_NC.argmax(1) == batch.target).float().mean().item())
    assert hits[-1] >= 0.75 > hits[0]


@pytest.mark.parametrize("resnet", ["resnet18", "resnet50"])
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient(name: str, resnet: str) -> None:
    """DDP waits for each of them."""
    network, method = small_network(name=resnet), build_method(LossConfig(name=name), context(name=resnet))
    method(network, minibatch(range(8), progress=0.5)).loss.backward()
    lacking = [key for module in (network, method) for key, p in module.named_parameters() if p.grad is None]
    assert not lacking


@pytest.mark.parametrize("name", NAMES)
def test_it_stays_on_the_device_of_the_batch(name: str) -> None:
    """PyTorch's `meta` stands for a GPU: a tensor that is left on the CPU does not go with it."""
    network, method = small_network().to("meta"), build_method(LossConfig(name=name), context()).to("meta")
    on_cpu = minibatch(range(8), progress=0.5)
    batch = Minibatch(*(part.to("meta") for part in on_cpu[:3]), on_cpu.progress)
    outcome = method(network, batch)
    outcome.loss.backward()
    assert outcome.loss.is_meta and outcome.logits_NC.is_meta


def keyword_only(function: Any) -> set[str]:
    return {key for key, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", NAMES)
def test_options_are_the_keyword_arguments_with_values_of_plain_types(name: str) -> None:
    method, options = build_method(LossConfig(name=name), context()), method_options(LossConfig(name=name))
    takes = {"nla": NLALoss}.get(name, type(method.loss) if isinstance(method, OneView) else type(method))
    assert options.keys() - {"variant"} == keyword_only(takes)
    assert all(type(value) in (bool, int, float, str) for value in options.values() if not isinstance(value, tuple))


@pytest.mark.parametrize("name", NAMES)
def test_a_section_with_the_values_in_force_is_the_same_method(name: str) -> None:
    resolved = resolved_loss(LossConfig(name=name))
    again = LossConfig.model_validate(resolved)
    check_method(again)
    assert resolved_loss(again) == resolved
    assert method_options(again) == method_options(LossConfig(name=name))


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_options_of_nla_are_those_of_the_built_loss(variant: Any) -> None:
    options, built = method_options(LossConfig(variant=variant)), NLALoss(variant)
    assert options == {
        "variant": variant,
        **vars(built.naw),
        "lam": built.lam,
        "consistency": built.consistency,
        "consistency_reduction": built.reduction,
        "consistency_weight": built.consistency_weight,
    }


@given(st.floats(0, 1), st.sampled_from(["released", "paper"]))
def test_given_options_replace_the_published_ones(lam: float, variant: Any) -> None:
    nla = method_options(LossConfig(variant=variant, lam=lam, slope=3))
    published = method_options(LossConfig(variant=variant))
    assert nla == published | {"lam": lam, "slope": 3.0, "consistency_weight": 1 - lam}
    elr = resolved_loss(LossConfig(name="elr", options={"beta": lam}))
    assert elr == {"name": "elr", "variant": "paper", "options": {"lam": 3.0, "beta": lam}}


@pytest.mark.parametrize(
    ("loss", "same"),
    [
        ({}, {"lam": 0.5, "consistency": "jensen_shannon"}),
        ({"variant": "released"}, {"variant": "released", "true_sign": -1, "false_mean": [0.3, 0.15]}),
        ({"name": "elr"}, {"name": "elr", "options": {"lam": 3, "beta": 0.7}}),
    ],
)
def test_published_values_name_the_same_run_given_or_not(loss: dict[str, Any], same: dict[str, Any]) -> None:
    """The fingerprint is that of the JSON, in which 3 and 3.0 differ."""
    resolved, given = (json.dumps(resolved_loss(LossConfig(**config))) for config in (loss, same))
    assert resolved == given


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "elrr"}, "loss.name: unknown method 'elrr': did you mean 'elr'?"),
        ({"name": "xyzzy"}, "unknown method 'xyzzy': valid are nla, plus, forward, ce,"),
        ({"name": "elr", "options": {"betta": 0.5}}, "loss.options.betta: unknown option of elr: did you mean 'beta'?"),
        ({"name": "ce", "options": {"q": 1}}, "loss.options.q: unknown option of ce: valid are none"),
        (
            {"name": "nla", "options": {"lam": 0.3}},
            "nla reads this option elsewhere (got 0.3). Set loss.lam.",
        ),
        ({"name": "plus", "lam": 0.3}, "loss.lam: plus reads this option elsewhere (got 0.3). Set loss.options.lam."),
        (
            {"name": "ce", "true_sign": 1},
            "loss.true_sign: ce has no such option; it belongs to nla (got 1). Set it to null.",
        ),
        (
            {"name": "elr", "options": {"beta": "high"}},
            "loss.options.beta: must be of type float (got 'high').",
        ),
        ({"name": "elr", "options": {"beta": True}}, "loss.options.beta: must be of type float (got True)"),
    ],
)
def test_a_wrong_name_or_option_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_method(LossConfig(**config))


def test_a_value_out_of_range_is_refused() -> None:
    config = LossConfig(name="elr", options={"beta": 1})
    check_method(config)  # a whole number for a decimal one
    with pytest.raises(ConfigError, match=r"loss\.options: beta must be in \[0, 1\) \(got 1\.0\)"):
        build_method(config, context())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"loss": {"name": "rul"}, "model": {"name": "timm/vit"}},
            "model.name: loss rul reads the network's feature maps, which timm/vit does not offer",
        ),
        (
            {"loss": {"name": "scn"}, "train": {"compile": True}},
            "train.compile: loss scn reads the network's",
        ),
        (
            {"loss": {"name": "eac"}, "model": {"head": "cosine"}},
            r"weights of a linear head \(got cosine\)",
        ),
    ],
)
def test_a_method_must_fit_the_network(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_config(params)


class LogitsOnly(nn.Module):
    """A network of another kind than ours: it has no feature maps, only logits."""

    def __init__(self) -> None:
        super().__init__()
        self.network = small_network()

    def forward(self, images_NHWC: Tensor, mirrored: bool = False) -> Tensor:
        return self.network(images_NHWC, mirrored=mirrored)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_that_needs_feature_maps_says_so(name: str) -> None:
    method, network, batch = build_method(LossConfig(name=name), context()), LogitsOnly(), minibatch(range(4))
    if method_class(LossConfig(name=name)).needs_feature_maps:
        with pytest.raises(AttributeError):
            method(network, batch)  # type: ignore[arg-type]
    else:
        method(network, batch)  # type: ignore[arg-type]


def test_nla_without_consistency_takes_one_view() -> None:
    network, batch = small_network(), minibatch(range(6))
    method = build_method(LossConfig(name="nla", consistency="none"), context())
    outcome = method(network, batch)
    torch.testing.assert_close(outcome.logits_NC, network(batch.images_NHWC))
    torch.testing.assert_close(
        outcome.loss, NLALoss("paper", consistency="none")(outcome.logits_NC, None, batch.target, 0.0)
    )
