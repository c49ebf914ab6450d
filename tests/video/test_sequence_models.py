"""Networks over clips, windows and smoothing: padding changes nothing, all frames are covered, formulas hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nla.config.sequence import SequenceConfig, SequenceModelConfig
from nla.video.models import SequenceArchitecture, SequenceClassifier, waves
from nla.video.smoothing import REACH, best_sigma, smoothed
from nla.video.windows import averaged, windows

NAMES = ["transformer", "convolution"]


def network(name: str, **options: object) -> SequenceClassifier:
    config = SequenceModelConfig(**{"name": name, "width": 8, "feedforward": 8, "heads": 2, **options})  # type: ignore[arg-type]
    torch.manual_seed(0)
    return SequenceClassifier(SequenceArchitecture.of(config, 5, 3)).eval()


def clip(seed: int, frames: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.randn(2, frames, 5, generator=torch.Generator().manual_seed(seed))
    return features, torch.ones(2, frames, dtype=torch.bool), torch.arange(frames).repeat(2, 1)


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32), more=st.integers(1, 9), rubbish=st.sampled_from([0.0, 1e6, float("nan")]))
def test_padding_changes_neither_logits_nor_gradients(
    name: str, positions: bool, seed: int, more: int, rubbish: float
) -> None:
    model = network(name, positions=positions)
    features, mask, frame = clip(seed, 7)
    longer = torch.cat([features, torch.full((2, more, 5), rubbish)], dim=1)
    wider = torch.cat([mask, torch.zeros(2, more, dtype=torch.bool)], dim=1)
    numbers = torch.cat([frame, torch.zeros(2, more, dtype=torch.long)], dim=1)
    gradients = []
    logits = []
    for inputs in ((features, mask, frame), (longer, wider, numbers)):
        model.zero_grad()
        out = model(*inputs)[:, :7]
        out.square().sum().backward()
        logits.append(out.detach())
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=1e-5)
    for before, after in zip(*gradients, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)


def test_without_positions_the_encoder_does_not_know_the_order() -> None:
    features, mask, frame = clip(1, 9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    plain, placed = network("transformer"), network("transformer", positions=True)
    torch.testing.assert_close(plain(features[:, order], mask, frame), plain(features, mask, frame)[:, order])
    assert not torch.allclose(placed(features[:, order], mask, frame), placed(features, mask, frame)[:, order])


def test_positions_are_frame_numbers_from_the_first_frame_of_the_window() -> None:
    features, mask, frame = clip(3, 6)
    model = network("transformer", positions=True)
    torch.testing.assert_close(model(features, mask, frame + 40), model(features, mask, frame))
    gap = torch.where(frame > 2, frame + 5, frame)
    assert not torch.allclose(model(features, mask, gap), model(features, mask, frame))


def test_waves_against_the_formula() -> None:
    expected = [[f(t / 10_000 ** (2 * i / 6)) for i in range(3) for f in (np.sin, np.cos)] for t in (0, 3, 50)]
    np.testing.assert_allclose(waves(torch.tensor([[0, 3, 50]]), 6)[0], expected, atol=1e-5)


def test_a_convolution_sees_its_neighbourhood_alone() -> None:
    """Kernel 3 in two layers of dilation 1 and 2: three frames on either side."""
    model = network("convolution", kernel=3, layers=2)
    features, mask, frame = clip(4, 21)
    features.requires_grad_()
    model(features, mask, frame)[0, 10].sum().backward()
    assert features.grad is not None
    reached = features.grad[0].abs().sum(1).nonzero().ravel().tolist()
    assert reached == list(range(7, 14)) and not features.grad[1].any()


def test_features_are_normalised() -> None:
    model = network("transformer")
    features, mask, frame = clip(5, 4)
    before = model(features, mask, frame)
    model.set_scale(torch.full((5,), 2.0), torch.full((5,), 3.0))
    torch.testing.assert_close(model(features * 3 + 2, mask, frame), before, rtol=1e-4, atol=1e-5)
    assert SequenceClassifier.build(model.describe()).architecture == model.architecture


@given(st.integers(1, 400), st.integers(1, 120), st.floats(0, 0.99))
def test_windows_cover_every_frame_and_average_to_one(frames: int, size: int, overlap: float) -> None:
    cut = windows(frames, size, overlap)
    assert all(window.stop - window.start == min(size, frames) for window in cut)
    assert all(later.start > earlier.start for earlier, later in itertools.pairwise(cut))
    value_T2 = np.random.default_rng(0).random((frames, 2))
    np.testing.assert_allclose(averaged(((window, value_T2[window]) for window in cut), frames), value_T2)


def test_the_overlap_is_what_was_asked_for() -> None:
    assert [window.start for window in windows(300, 100, 0.5)] == [0, 50, 100, 150, 200]
    assert [window.start for window in windows(230, 100, 0.0)] == [0, 100, 130]


def test_windows_that_leave_a_frame_out_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out 2 of 4 frames"):
        averaged([(slice(0, 2), np.zeros((2, 3)))], 4)


@given(st.integers(0, 2**32), st.floats(0.3, 20), st.integers(1, 60))
def test_smoothing_against_a_sum_over_all_pairs(seed: int, sigma: float, frames: int) -> None:
    rng = np.random.default_rng(seed)
    p_TC, frame_T = rng.dirichlet(np.ones(3), frames), np.cumsum(rng.integers(1, 4, frames))
    distance_TT = np.abs(frame_T[:, None] - frame_T[None, :])
    weight_TT = np.exp(-((distance_TT / sigma) ** 2) / 2) * (distance_TT <= REACH * sigma)
    expected = weight_TT @ p_TC / weight_TT.sum(1, keepdims=True)
    found = smoothed(p_TC, frame_T, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1)


def test_no_smoothing_and_bad_input() -> None:
    p_TC = np.random.default_rng(0).random((5, 2))
    np.testing.assert_array_equal(smoothed(p_TC, np.arange(5), 0), p_TC)
    with pytest.raises(ValueError, match="sigma must be at least 0"):
        smoothed(p_TC, np.arange(5), -1)
    with pytest.raises(ValueError, match="must increase"):
        smoothed(p_TC, np.zeros(5), 1)


def test_the_smallest_of_equally_good_widths() -> None:
    assert best_sigma({0.0: 0.5, 1.0: 0.7, 2.0: 0.7}.__getitem__, (2.0, 0.0, 1.0)) == (1.0, 0.7)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": {"width": 10, "heads": 4}}, "width=10 must be divisible by heads=4"),
        ({"model": {"kernel": 4}}, "kernel=4 must be odd"),
        ({"loss": {"name": "focal"}}, "loss.name must be nla or ce"),
        ({"loss": {"name": "ce", "slope": 1.0}}, "ce has no options"),
        ({"drop": [0.4, 0.2]}, "drop must be \\[low, high\\]"),
        ({"train": {"compile": True}}, "compile false"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SequenceConfig.model_validate(values)
