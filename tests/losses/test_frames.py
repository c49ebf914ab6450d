"""Losses of frames: an independent derivation, and what padding, masks, batches and workers must not change."""

from __future__ import annotations

import loss_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nla.losses import FrameCrossEntropyLoss, FrameNLALoss
from nla.losses.naw import PUBLISHED

VARIANTS = list(PUBLISHED)
PROGRESS = 0.1
CLASSES = 4


class Clips:
    """Logits of both views [B, T, C], labels [B, T] and a mask with a frame at least."""

    def __init__(self, seed: int, clips: int = 3, frames: int = 5) -> None:
        rng = np.random.default_rng(seed)
        self.first, self.second = torch.from_numpy(rng.normal(0, 2, (2, clips, frames, CLASSES)))
        self.label = torch.from_numpy(rng.integers(0, CLASSES, (clips, frames)))
        mask = rng.random((clips, frames)) < 0.6
        mask[0, 0] = True
        self.mask = torch.from_numpy(mask)


def loss_and_gradients(clips: Clips, variant: str, **options: int) -> tuple[float, torch.Tensor, torch.Tensor]:
    """The loss, and its gradients with respect to the logits of both views."""
    views = [view.clone().requires_grad_() for view in (clips.first, clips.second)]
    loss = FrameNLALoss(variant)(*views, clips.label, clips.mask, PROGRESS, **options)  # type: ignore[arg-type]
    loss.backward()
    gradients = [view.grad for view in views]
    assert gradients[0] is not None and gradients[1] is not None
    return loss.item(), gradients[0], gradients[1]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("soft", [False, True])
def test_value_frame_by_frame(variant: str, soft: bool) -> None:
    clips = Clips(1)
    target_BTC = np.eye(CLASSES)[clips.label.numpy()]
    if soft:
        target_BTC = np.random.default_rng(2).dirichlet(np.ones(CLASSES), clips.label.shape)
    marked = [(b, t) for b in range(3) for t in range(5) if clips.mask[b, t]]
    first, second, target = (
        np.stack([a[b, t] for b, t in marked]) for a in (clips.first.numpy(), clips.second.numpy(), target_BTC)
    )
    given_target = torch.from_numpy(target_BTC) if soft else clips.label
    loss = FrameNLALoss(variant)(clips.first, clips.second, given_target, clips.mask, PROGRESS)
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    assert loss.item() == pytest.approx(reference.nla(first, second, target, PROGRESS, variant), rel=1e-5)


@given(st.integers(0, 2**32), st.sampled_from(VARIANTS), st.integers(0, 4), st.sampled_from([0.0, 1e30, np.nan]))
def test_padding_changes_neither_loss_nor_gradients(seed: int, variant: str, more: int, rubbish: float) -> None:
    clips, padded = Clips(seed), Clips(seed)
    wide = torch.full((3, more, CLASSES), rubbish, dtype=torch.float64)
    padded.first, padded.second = (torch.cat([view, wide], dim=1) for view in (clips.first, clips.second))
    padded.label = torch.cat([clips.label, torch.full((3, more), -1)], dim=1)
    padded.mask = torch.cat([clips.mask, torch.zeros(3, more, dtype=torch.bool)], dim=1)
    expected, found = loss_and_gradients(clips, variant), loss_and_gradients(padded, variant)
    assert found[0] == expected[0]
    for before, after in zip(expected[1:], found[1:], strict=True):
        assert torch.equal(after[:, :5], before) and not after[:, 5:].any()


@given(st.integers(0, 2**32), st.sampled_from(VARIANTS))
def test_a_frame_that_nobody_annotated_changes_nothing(seed: int, variant: str) -> None:
    clips, other = Clips(seed), Clips(seed)
    other.first, other.second = (torch.where(clips.mask[..., None], view, 7.0) for view in (clips.first, clips.second))
    other.label = torch.where(clips.mask, clips.label, -1)
    expected, found = loss_and_gradients(clips, variant), loss_and_gradients(other, variant)
    assert found[0] == expected[0]
    assert all(torch.equal(a, b) for a, b in zip(found[1:], expected[1:], strict=True))
    assert not any(gradient[~clips.mask].any() for gradient in found[1:])


def repeated(clips: Clips, times: int) -> Clips:
    """The clips of a batch, several times."""
    more = Clips(0)
    for name, value in vars(clips).items():
        setattr(more, name, torch.cat([value] * times))
    return more


def test_only_the_paper_is_free_of_the_batch_size() -> None:
    once, thrice = Clips(4), repeated(Clips(4), 3)
    assert loss_and_gradients(thrice, "paper")[0] == pytest.approx(loss_and_gradients(once, "paper")[0])
    assert loss_and_gradients(thrice, "released-video")[0] > 1.5 * loss_and_gradients(once, "released-video")[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_with_different_numbers_of_frames_average_to_the_whole_batch(variant: str) -> None:
    """DDP averages gradients; one of these workers has all marked frames but one."""
    clips = Clips(5, clips=4)
    clips.mask[0] = torch.tensor([True, False, False, False, False])
    clips.mask[1] = False
    expected = loss_and_gradients(clips, variant)
    parts = []
    for rows in (slice(0, 2), slice(2, 4)):
        part = Clips(0)
        for name, value in vars(clips).items():
            setattr(part, name, value[rows])
        parts.append(loss_and_gradients(part, variant, replicas=2, frames=int(clips.mask.sum())))
    assert np.mean([part[0] for part in parts]) == pytest.approx(expected[0], rel=1e-5)
    for view in (1, 2):
        torch.testing.assert_close(torch.cat([part[view] for part in parts]) / 2, expected[view], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_without_annotation_teaches_nothing(variant: str) -> None:
    clips = Clips(6)
    clips.mask[:] = False
    loss, *gradients = loss_and_gradients(clips, variant)
    assert loss == 0 and not any(gradient.any() for gradient in gradients)


def test_cross_entropy_is_the_mean_over_marked_frames() -> None:
    clips = Clips(7)
    marked = zip(clips.first[clips.mask].numpy(), clips.label[clips.mask].tolist(), strict=True)
    expected = np.mean([reference.cross_entropy(z_C, np.eye(CLASSES)[label]) for z_C, label in marked])
    loss = FrameCrossEntropyLoss()(clips.first, clips.label, clips.mask)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert FrameCrossEntropyLoss()(clips.first, clips.label, torch.zeros_like(clips.mask)).item() == 0


def test_one_view_is_enough_without_consistency() -> None:
    clips = Clips(8)
    criterion = FrameNLALoss("paper", consistency="none")
    assert not criterion.two_views
    assert criterion(clips.first, None, clips.label, clips.mask, PROGRESS).isfinite()


def test_a_mask_of_numbers_is_refused() -> None:
    clips = Clips(9)
    with pytest.raises(TypeError, match="mask must be of bool"):
        FrameCrossEntropyLoss()(clips.first, clips.label, torch.ones(3, 5, dtype=torch.long))
