"""Class counts that methods correct for: those of the labels or, where distributions are learnt, their sums."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from method_parts import CLASSES, context, minibatch, small_network
from torch import Tensor

from nla import fit
from nla.config.loss import LossConfig
from nla.errors import ConfigError
from nla.losses.functional import log_prior, positive_counts
from nla.methods import METHODS, Context, Method, build_method, frequency_corrections
from nla.methods.elr import EarlyLearning
from nla.methods.plus import Plus
from nla.training.job import training_config

CORRECTING = {"ce2", "class_balanced", "ldam", "logit_adjustment", "plus"}
"""Methods with a buffer [C] made of the class counts."""
COUNTS = [8, 3, 1]


def by_class(name: str, run: Context) -> dict[str, Tensor]:
    """The buffers [C] of a method."""
    method = build_method(LossConfig(name=name), run)
    return {key: value for key, value in method.named_buffers() if value.shape == (CLASSES,)}


def test_distributions_count_by_their_shares() -> None:
    target_NC = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.0, 0.4]])
    run = replace(context(labels=[0, 0]), target_NC=target_NC)
    torch.testing.assert_close(run.class_counts, torch.tensor([1.1, 0.3, 0.6], dtype=torch.float64))
    assert context(labels=[0, 0, 2]).class_counts.tolist() == [2, 0, 1]
    assert context(labels=[0, 0, 2]).class_counts.dtype == torch.int64


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_takes_the_frequencies_of_what_is_learnt(name: str) -> None:
    """Twelve rows with the same votes: the first class leads in all of them, and has eight twelfths."""
    labels = [c for c, n in enumerate(COUNTS) for _ in range(n)]
    votes_NC = torch.tensor([COUNTS] * len(labels)) / len(labels)
    learnt = by_class(name, replace(context(labels=[0] * len(labels)), target_NC=votes_NC))
    expected = by_class(name, context(labels=labels))
    assert bool(expected) == (name in CORRECTING)
    for key, value in expected.items():
        torch.testing.assert_close(learnt[key], value, msg=f"{name}: {key}")


@pytest.mark.parametrize("name", sorted(CORRECTING))
def test_one_hot_distributions_are_labels_bit_for_bit(name: str) -> None:
    labels = [0, 0, 1, 0, 2, 1]
    run = context(labels=labels)
    soft = by_class(name, replace(run, target_NC=torch.eye(CLASSES)[torch.tensor(labels)]))
    for key, value in by_class(name, run).items():
        assert torch.equal(soft[key], value)


def test_counts_below_one_stay_what_they_are() -> None:
    counts_C = torch.tensor([0.4, 0.0, 2.6], dtype=torch.float64)
    np.testing.assert_allclose(positive_counts(counts_C), [0.4, 0.4, 2.6], rtol=1e-6)
    np.testing.assert_allclose(log_prior(counts_C), np.log([0.4 / 3.4, 0.4 / 3.4, 2.6 / 3.4]), rtol=1e-6)


def test_training_passes_the_distributions_on() -> None:
    rng = np.random.default_rng(0)
    target_NC = rng.dirichlet(np.ones(3), 24).astype(np.float32)
    target_NC[:3] = np.eye(3)
    seen = []

    def method(run: Context) -> Method:
        seen.append(run.class_counts)
        return EarlyLearning(run)

    images_NHW = rng.integers(0, 256, (24, 16, 16), np.uint8)
    valid = (images_NHW[:6], np.arange(6) % 3)
    params = {"model": {"width": 4}}
    fit(
        (images_NHW, target_NC), valid, loss=method, params=params, epochs=1, batch_size=8, device="cpu", progress=False
    )
    np.testing.assert_allclose(seen[0], target_NC.sum(axis=0, dtype=np.float64))


def depends_on_counts(loss: LossConfig) -> bool:
    """Whether the same batch has another loss if the training set has other class counts; late in the run."""
    losses = []
    for labels in ([0, 1, 2] * 4, [0] * 6 + [1] * 3 + [2] * 3):
        torch.manual_seed(0)
        method = build_method(loss, context(labels=labels))
        losses.append(method(small_network(), minibatch(range(6), progress=0.9)).loss)
    return not torch.equal(*losses)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_says_which_options_correct_class_frequencies(name: str) -> None:
    published = LossConfig(name=name)
    assert depends_on_counts(published) == bool(frequency_corrections(published)) == (name in CORRECTING)
    if name in CORRECTING:
        off = LossConfig(name=name, options=dict.fromkeys(frequency_corrections(published), 0.0))
        assert not depends_on_counts(off)
        assert frequency_corrections(off) == {}


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("class_balanced", "loss.options.beta"),
        ("ldam", "loss.options.margin and loss.options.beta"),
        ("logit_adjustment", "loss.options.tau"),
        ("plus", "loss.options.tau"),
    ],
)
def test_class_frequencies_are_not_corrected_twice(name: str, way_out: str) -> None:
    balanced = {"train": {"sampler": "balanced"}}
    with pytest.raises(ConfigError) as raised:
        training_config(balanced | {"loss": {"name": name}})
    message = str(raised.value)
    assert f"train.sampler: balanced sampling and loss {name} (" in message
    assert message.endswith(f"(got balanced). Set it to shuffle, or {way_out} to 0.")
    off = dict.fromkeys(METHODS[name].frequency_options, 0.0)
    training_config(balanced | {"loss": {"name": name, "options": off}})
    training_config(balanced | {"loss": {"name": "ce"}})


def test_nla_fit_refuses_it_for_a_class_of_methods_too() -> None:
    images_NHW, labels = np.random.default_rng(0).integers(0, 256, (8, 16, 16), np.uint8), np.arange(8) % 2
    params = {"train": {"sampler": "balanced"}}
    for loss in (Plus, functools.partial(Plus, tau=1.0), "plus"):
        with pytest.raises(ConfigError, match=r"balanced sampling and loss .*[pP]lus.* to 0"):
            fit((images_NHW, labels), loss=loss, params=params)
    off = functools.partial(Plus, tau=0.0)
    with pytest.raises(ConfigError, match="batch_size"):  # it is checked later
        fit((images_NHW, labels), loss=off, params=params, batch_size=1000, device="cpu", progress=False)
