"""What holds for every method: names, options, and a step that learns."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch
from method_parts import context, minibatch, small_network

from nla.config.loss import LossConfig
from nla.errors import ConfigError
from nla.methods import METHODS, build_method, check_method, method_class, options_of
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
def test_options_have_published_values_of_plain_types(name: str) -> None:
    options = options_of(LossConfig(name=name))
    assert all(type(value) in (bool, int, float, str) for value in options.values())
    check_method(LossConfig(name=name, options=options))
    assert set(options) == {
        key for key, p in inspect.signature(METHODS[name].takes).parameters.items() if p.kind is p.KEYWORD_ONLY
    } - ({"lam"} if name == "nla" else set())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "elrr"}, "loss.name: unknown method 'elrr': did you mean 'elr'?"),
        ({"name": "xyzzy"}, "unknown method 'xyzzy': valid are nla, plus, ce,"),
        ({"name": "elr", "options": {"betta": 0.5}}, "elr has no option 'betta': did you mean 'beta'?"),
        ({"name": "ce", "options": {"q": 1}}, "ce has no option 'q': valid are none"),
        ({"name": "nla", "options": {"lam": 0.3}}, "nla has no option 'lam'"),
        ({"name": "plus", "lam": 0.3}, "of nla, which plus does not look at: set loss.options.lam"),
        ({"name": "ce", "true_sign": 1}, "loss.true_sign is a parameter of nla, which ce does not look at"),
        ({"name": "elr", "options": {"beta": "high"}}, "loss.options.beta: 'high' is no float, such as 0.7"),
        ({"name": "elr", "options": {"beta": True}}, "loss.options.beta: True is no float"),
    ],
)
def test_a_wrong_name_or_option_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_method(LossConfig(**config))


def test_a_value_out_of_range_is_refused() -> None:
    config = LossConfig(name="elr", options={"beta": 1})
    check_method(config)  # a whole number for a decimal one
    with pytest.raises(ConfigError, match=r"elr needs lam >= 0 and beta in \[0, 1\), not 3.0 and 1"):
        build_method(config, context())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"loss": {"name": "rul"}, "model": {"name": "timm/vit"}},
            "model.name: rul uses parts .* not of timm/vit",
        ),
        ({"loss": {"name": "scn"}, "train": {"compile": True}}, "train.compile: scn uses parts of the network"),
        ({"loss": {"name": "eac"}, "model": {"head": "cosine"}}, "model.head: eac uses the weights of a linear head"),
    ],
)
def test_sections_that_do_not_go_together(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_config(params)


def test_whoever_looks_inside_says_so() -> None:
    """A network of another kind gives only the whole."""
    inside = {name for name in METHODS if method_class(LossConfig(name=name)).needs_feature_maps}
    assert inside == {"eac", "rul", "scn"}
