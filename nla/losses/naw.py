"""Noise-aware Adaptive Weighting (NAW): higher weights for ambiguous samples, lower ones for noisy samples.

Lee et al., "Navigating Label Ambiguity for Facial Expression Recognition in the Wild", AAAI 2025, arXiv 2502.09993.

A sample's position is (p_GT, p_NN), the probabilities of its given label and of the most probable other class. It is
*true* if p_GT >= p_NN, else *false*. Its weight is a bivariate Gaussian around one mean for true samples and another
for false ones:

    w = exp(-d' S^-1 d / 2) / (2 pi sqrt(det S)),  d = (p_GT, p_NN) - mean,  S = [[a, b], [b, a]]
    a = s^2 + (s/r)^2,  b = +-(s^2 - (s/r)^2)          s: major deviation, r: ratio of major to minor

With +b the Gaussian extends along p_GT = p_NN, with -b from clean to noisy. For true samples b starts at 0, and reaches
its full value by the factor eps = 1 - exp(-slope * progress).

Legend: N samples, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from nla.losses.functional import p_gt_and_p_nn, ramp_up, require

Variant = Literal["released", "paper", "released-video"]


@dataclass(frozen=True)
class NawParameters:
    """Hyperparameters of the weight; the defaults are those of the authors' released code.

    Raises:
        ValueError: a value is out of its range.
    """

    true_mean: tuple[float, float] = (0.50, 0.50)
    true_deviation: float = 0.80
    true_ratio: float = 2.0
    true_sign: int = -1
    """Sign of b for true samples: -1 gives clean samples high weights; +1 low ones, as the paper's text requires."""
    false_mean: tuple[float, float] = (0.30, 0.15)
    false_deviation: float = 0.91
    false_ratio: float = 6.0
    slope: float = 15.0
    normalized: bool = False
    """Scales the peak to 1 instead of the integral, as in V-NAW (arXiv 2503.15970)."""
    detach: bool = False
    """Stops the gradient through the weight."""

    def __post_init__(self) -> None:
        for name in ("true_deviation", "false_deviation", "true_ratio", "false_ratio"):
            require(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        require(self.slope >= 0, "slope", self.slope, "at least 0")
        require(self.true_sign in (-1, 1), "true_sign", self.true_sign, "-1 or 1")


PUBLISHED: dict[str, NawParameters] = {
    "released": NawParameters(),
    "paper": NawParameters(true_sign=+1, normalized=True, detach=True),
    "released-video": NawParameters(  # S of true samples: a .75, b -.5 eps; of false ones: a .85, b .80
        true_deviation=math.sqrt(0.625),
        true_ratio=math.sqrt(5),
        false_deviation=math.sqrt(0.825),
        false_ratio=math.sqrt(33),
        normalized=True,
    ),
}
"""Values of each variant: those of the authors' code, those of their text where it differs, and those of their code for
frames of a video, V-NAW (arXiv 2503.15970)."""


def naw_parameters(variant: Variant, **changes: Any) -> NawParameters:
    """The variant's published defaults, updated with those of `changes` that are not None."""
    if variant not in PUBLISHED:
        raise ValueError(f"unknown variant {variant!r}: valid are {', '.join(PUBLISHED)}")
    return replace(PUBLISHED[variant], **{name: value for name, value in changes.items() if value is not None})


def naw_weight(
    logits: Tensor,
    target: Tensor,
    progress: float,
    variant: Variant = "paper",
    *,
    true_mean: tuple[float, float] | None = None,
    true_deviation: float | None = None,
    true_ratio: float | None = None,
    true_sign: Literal[-1, 1] | None = None,
    false_mean: tuple[float, float] | None = None,
    false_deviation: float | None = None,
    false_ratio: float | None = None,
    slope: float | None = None,
    normalized: bool | None = None,
    detach: bool | None = None,
) -> Tensor:
    """Weight of each sample, [N] float32, finite and >= 0.

    None means the variant's published default, in every argument.

    Args:
        logits: [N, C], of any floating type.
        target: [N] class indices, or [N, C] distributions, whose argmax is the given label.
        progress: epoch / epochs, in [0, 1).
        variant: "released" follows the authors' code; "paper" follows their text; "released-video" their code for the
            frames of a video.
        true_mean: (p_GT, p_NN) at the peak for true samples; (.5, .5).
        true_deviation: s for true samples, above 0; .8, and sqrt .625 in "released-video".
        true_ratio: r for true samples, above 0; 2, and sqrt 5 in "released-video".
        true_sign: sign of b for true samples; 1 in "paper", else -1.
        false_mean: (p_GT, p_NN) at the peak for false samples; (.3, .15).
        false_deviation: s for false samples, above 0; .91, and sqrt .825 in "released-video".
        false_ratio: r for false samples, above 0; 6, and sqrt 33 in "released-video".
        slope: slope of eps, at least 0; 15.
        normalized: scale the peak to 1 instead of the integral; False in "released", else True.
        detach: stop the gradient through the weight; True in "paper", else False.

    Raises:
        ValueError: an unknown variant, or a value out of its range.
    """
    parameters = naw_parameters(
        variant,
        true_mean=true_mean,
        true_deviation=true_deviation,
        true_ratio=true_ratio,
        true_sign=true_sign,
        false_mean=false_mean,
        false_deviation=false_deviation,
        false_ratio=false_ratio,
        slope=slope,
        normalized=normalized,
        detach=detach,
    )
    return weight_at(*p_gt_and_p_nn(logits, target), progress, parameters)


def weight_at(p_GT: Tensor, p_NN: Tensor, progress: float, parameters: NawParameters) -> Tensor:
    """The weight at given positions; p_GT, p_NN and the result have the same shape."""
    p = parameters
    epsilon = ramp_up(progress, p.slope)
    true = _gaussian(p_GT, p_NN, p.true_mean, p.true_deviation, p.true_ratio, p.true_sign * epsilon, p.normalized)
    false = _gaussian(p_GT, p_NN, p.false_mean, p.false_deviation, p.false_ratio, 1.0, p.normalized)
    weight = torch.where(p_GT >= p_NN, true, false)
    return weight.detach() if p.detach else weight


def _gaussian(
    x: Tensor, y: Tensor, mean: tuple[float, float], s: float, r: float, sign: float, normalized: bool
) -> Tensor:
    a, b = s**2 + (s / r) ** 2, sign * (s**2 - (s / r) ** 2)
    along, across = a + b, a - b  # eigenvalues of S for the eigenvectors (1, 1) and (1, -1) / sqrt 2
    dx, dy = x - mean[0], y - mean[1]
    peak = torch.exp(-((dx + dy) ** 2 / along + (dx - dy) ** 2 / across) / 4)  # d' S^-1 d / 2, d rotated 45 degrees
    return peak if normalized else peak / (2 * math.pi * math.sqrt(along * across))
