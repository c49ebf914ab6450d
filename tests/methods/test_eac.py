"""EAC: consistency of the class activation maps with their mirror images, and random erasing."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from method_parts import context, minibatch, small_network
from method_reference import cross_entropies, double

from nla.methods.eac import ErasingAttention, attention_consistency, erase


def consistency(first: np.ndarray, mirrored: np.ndarray, weight: np.ndarray) -> float:
    """Mean of (M - flip M')^2, one place of one map after the other."""
    samples, features, height, width = first.shape
    squares = []
    for n in range(samples):
        for w_D in weight:
            for y in range(height):
                for x in range(width):
                    here = sum(w_D[d] * first[n, d, y, x] for d in range(features))
                    there = sum(w_D[d] * mirrored[n, d, y, width - 1 - x] for d in range(features))
                    squares.append((here - there) ** 2)
    return float(np.mean(squares))


def test_consistency_against_loops() -> None:
    rng = np.random.default_rng(0)
    first, mirrored, weight = (rng.normal(size=shape) for shape in ((2, 5, 3, 4), (2, 5, 3, 4), (6, 5)))
    loss = attention_consistency(*(torch.from_numpy(array).float() for array in (first, mirrored, weight)))
    assert loss.item() == pytest.approx(consistency(first, mirrored, weight), rel=1e-5)


def test_only_mirrored_maps_have_no_loss() -> None:
    maps, weight = torch.rand(2, 5, 3, 4, generator=torch.manual_seed(0)), torch.eye(5)
    assert attention_consistency(maps, maps.flip(-1), weight) == 0
    assert attention_consistency(maps, maps, weight) > 0
    assert attention_consistency(maps, maps.flip(-2), weight) > 0


def test_gradients_go_to_both_views_and_not_to_the_weights() -> None:
    first, mirrored = (torch.rand(2, 5, 3, 4, generator=torch.manual_seed(i)).requires_grad_() for i in range(2))
    weight = torch.eye(5, requires_grad=True)
    attention_consistency(first, mirrored, weight).backward()
    assert weight.grad is None
    assert first.grad is not None and mirrored.grad is not None
    torch.testing.assert_close(first.grad, -mirrored.grad.flip(-1))
    assert first.grad.abs().max() > 0


@pytest.mark.parametrize(("name", "features"), [("resnet18", 32), ("resnet50", 128)])
@pytest.mark.parametrize("soft", [False, True])
def test_a_batch_against_the_formulas(soft: bool, name: str, features: int) -> None:
    """64 pixels, whose maps are 4 x 4; the mirror is not classified."""
    network, method = small_network(name=name), ErasingAttention(context(), lam=3.0, erasing=0.0)
    images = torch.randint(0, 256, (4, 64, 64, 1), dtype=torch.uint8, generator=torch.manual_seed(0))
    batch = minibatch(range(4))._replace(images_NHWC=images)
    if soft:
        batch = batch._replace(target=torch.rand(4, 3, generator=torch.manual_seed(0)).softmax(1))
    outcome = method(network, batch)
    maps = double(network.maps(torch.cat([images, images.flip(2)])))
    assert maps.shape == (8, features, 4, 4)
    weight, bias = double(network.feature_backbone.fc.weight), double(network.feature_backbone.fc.bias)
    z_NC = maps[:4].mean(axis=(2, 3)) @ weight.T + bias
    expected = cross_entropies(z_NC, batch.target.numpy()).mean() + 3.0 * consistency(maps[:4], maps[4:], weight)
    np.testing.assert_allclose(outcome.loss.item(), expected, rtol=1e-4)
    np.testing.assert_allclose(double(outcome.logits_NC), z_NC, rtol=1e-4, atol=1e-5)


def test_the_network_sees_the_erased_image() -> None:
    """Erasing every image nearly whole leaves nothing to tell them by; the fill is the mean, which is 0 normalised."""
    network, method = small_network().eval(), ErasingAttention(context(), erasing=1.0, smallest=1.0, largest=1.0)
    with torch.no_grad():
        logits_NC = method(network, minibatch(range(64))).logits_NC
        grey = network(torch.full((1, 16, 16, 1), 102, dtype=torch.uint8))  # .4 of 255
    assert (logits_NC - grey).abs().amax(1).min() < 1e-6  # a square hole covers it all
    assert not torch.allclose(network(minibatch(range(64)).images_NHWC), logits_NC)


@given(st.integers(0, 2**32), st.integers(8, 60), st.integers(8, 60))
def test_a_hole_is_one_rectangle_of_the_given_share(seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    images = torch.full((8, height, width, 2), 200, dtype=torch.uint8)
    for image in erase(images, torch.tensor([3, 7], dtype=torch.uint8), 1.0, (0.1, 0.25)):
        hole = image[..., 0] == 3
        assert torch.equal(image[..., 1] == 7, hole) and torch.equal(image[..., 1] == 200, ~hole)
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)
        spans = [int(side.sum()) for side in (rows, columns)]
        for side, span in zip((rows, columns), spans, strict=True):
            first = int(side.nonzero()[0])
            assert side[first : first + span].all()
        cut = spans[0] == height or spans[1] == width  # at the edge of an image that is far from square
        slack = (spans[0] + spans[1] + 1) / 2  # each side is rounded
        assert cut or 0.1 * height * width - slack <= spans[0] * spans[1] <= 0.25 * height * width + slack


def test_holes_have_the_given_probability_at_every_pixel() -> None:
    torch.manual_seed(0)
    images = torch.ones(20_000, 12, 12, 1, dtype=torch.uint8)
    holes = erase(images, torch.zeros(1, dtype=torch.uint8), 0.5, (0.02, 0.25))[..., 0] == 0
    assert holes.any(2).any(1).float().mean().item() == pytest.approx(0.5, abs=0.015)
    share = holes[holes.any(2).any(1)].float().mean().item()
    assert share == pytest.approx(0.135, abs=0.01)
    frequency = holes.float().mean(0)
    torch.testing.assert_close(frequency, frequency.flip(0), rtol=0, atol=0.012)
    torch.testing.assert_close(frequency, frequency.flip(1), rtol=0, atol=0.012)
    torch.testing.assert_close(frequency, frequency.T, rtol=0, atol=0.012)
    assert frequency.min() > 0.004  # in a corner
    assert torch.equal(erase(images, torch.zeros(1, dtype=torch.uint8), 0.0, (0.02, 0.25)), images)


@pytest.mark.parametrize(
    ("draws", "rows", "columns"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0), (0, 7), (0, 23)),  # .1 of the area, .3 as high as wide: 6.9 by 23.1
        ((0.4, 1.0, 0.5, 0.5, 0.999), (11, 29), (22, 40)),  # .2, a ratio of .995: 17.8 by 17.9
        ((0.4, 0.5, 1.0, 0.999, 0.25), (12, 40), (8, 17)),  # .15, a ratio of 3.3: 28.1 by 8.5
    ],
)
def test_a_hole_by_hand(
    monkeypatch: pytest.MonkeyPatch, draws: tuple[float, ...], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """Of 40 x 40 pixels, with the draws given: chance, share, shape, down and right."""
    given = torch.tensor(draws)[:, None, None]
    monkeypatch.setattr(torch, "rand", lambda *shape, device: given.expand(shape))
    images = torch.full((2, 40, 40, 1), 9, dtype=torch.uint8)
    erased = erase(images, torch.zeros(1, dtype=torch.uint8), 0.5, (0.1, 0.2))
    expected = torch.zeros(40, 40, dtype=torch.bool)
    expected[slice(*rows), slice(*columns)] = True
    for image in erased:
        assert torch.equal(image[..., 0] == 0, expected), image[..., 0]
    untouched = erase(images, torch.zeros(1, dtype=torch.uint8), draws[0], (0.1, 0.2))
    assert torch.equal(untouched, images), "a probability is not reached by a draw that equals it"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "lam must be at least 0 (got -1.0)"),
        ({"erasing": 1.5}, "erasing must be in [0, 1] (got 1.5)"),
        ({"smallest": 0.0}, "smallest must be in (0, 1] (got 0.0)"),
        ({"smallest": 0.3}, "largest must be between smallest, 0.3, and 1 (got 0.25)"),
        ({"largest": 1.1}, "largest must be between smallest, 0.02, and 1 (got 1.1)"),
    ],
)
def test_values_out_of_range(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ErasingAttention(context(), **options)
