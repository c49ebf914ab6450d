"""Entries of the registry, made for a loss and a method that it does not have."""

from __future__ import annotations

import pytest
import torch
from method_parts import context, minibatch, small_network
from torch import Tensor, nn

import nla.losses
from nla.methods.base import Context, Method, Minibatch, OneView, Outcome
from nla.methods.registry import _same_type, counted, plain, strategy
from nla.models.classifier import Classifier


class Scaled(nn.Module):
    """The mean logit of the label."""

    def __init__(self, *, scale: float = 2.0, shift: int = 1) -> None:
        super().__init__()
        self.scale, self.shift = scale, shift

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.scale * logits.gather(1, target[:, None]).mean() + self.shift


class Counting(Scaled):
    """The same, with class counts."""

    def __init__(self, class_counts: Tensor, *, scale: float = 3.0) -> None:
        super().__init__(scale=scale)
        self.counts = class_counts


class Step(Method):
    """A method with a step of its own."""

    frequency_options = ("scale",)

    def __init__(self, context: Context, *, scale: float = 4.0) -> None:
        super().__init__()
        self.context, self.scale = context, scale

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        raise NotImplementedError


def test_the_entry_of_a_plain_loss() -> None:
    entry, network, batch = plain(Scaled), small_network(), minibatch(range(4))
    assert entry.options() == {"scale": 2.0, "shift": 1}
    given = entry.options(scale=5, shift=7)
    assert given == {"scale": 5.0, "shift": 7}
    assert [type(value) for value in given.values()] == [float, int]
    assert (entry.method_class, entry.frequency_options) == (OneView, ())
    method = entry.build(context(), **given)
    outcome = method(network, batch)
    assert isinstance(method, OneView)
    label_logits = outcome.logits_NC.gather(1, batch.target[:, None])
    torch.testing.assert_close(outcome.loss, 5 * label_logits.mean() + 7)


def test_the_entry_of_a_loss_of_class_counts() -> None:
    entry = counted(Counting, "scale")
    assert entry.options() == {"scale": 3.0}
    assert (entry.method_class, entry.frequency_options) == (OneView, ("scale",))
    loss = entry.build(context(labels=[0, 0, 2]), scale=6.0).loss
    assert (loss.counts.tolist(), loss.scale) == ([2, 0, 1], 6.0)


def test_the_entry_of_a_method() -> None:
    entry, run = strategy(Step), context()
    assert entry.options() == {"scale": 4.0}
    assert (entry.method_class, entry.frequency_options) == (Step, ("scale",))
    built = entry.build(run, scale=8.0)
    assert (type(built), built.context, built.scale) == (Step, run, 8.0)


def test_public_losses_are_imported_by_their_names() -> None:
    for name in nla.losses.__all__:
        assert getattr(nla.losses, name).__name__ == name
    with pytest.raises(AttributeError, match=r"^module 'nla\.losses' has no attribute 'Poly'$"):
        nla.losses.Poly  # noqa: B018


@pytest.mark.parametrize(
    ("value", "default", "fits"),
    [(True, False, True), (1, True, False), (True, 1.0, False), (1, 0.5, True), (0.5, 1, False), ("a", "b", True)],
)
def test_an_option_has_the_type_of_its_default(value: object, default: object, fits: bool) -> None:
    assert _same_type(value, default) is fits
