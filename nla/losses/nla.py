"""Navigating Label Ambiguity (NLA): NAW-weighted cross-entropy, and consistency of an image and its mirror image.

    L = lam * mean((1 + w) CE) + (1 - lam) * R         w: weight of nla.losses.naw, R: consistency of the predictions

Lee et al., "Navigating Label Ambiguity for Facial Expression Recognition in the Wild", AAAI 2025, arXiv 2502.09993. The
authors' code differs from their text: see the two variants in docs/loss.md.

Legend: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any, Literal

from torch import Tensor, nn

from nla.losses.functional import bhattacharyya, cross_entropy, jensen_shannon, mean, p_gt_and_p_nn, require
from nla.losses.naw import NawParameters, Variant, naw_parameters, weight_at

Consistency = Literal["jensen_shannon", "bhattacharyya", "none"]
Reduction = Literal["mean", "sum"]
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "jensen_shannon": jensen_shannon,
    "bhattacharyya": bhattacharyya,
}
PUBLISHED_TERMS: dict[str, dict[str, Any]] = {
    "released": {"lam": 0.5, "consistency": "bhattacharyya", "consistency_reduction": "sum"},
    "paper": {"lam": 0.5, "consistency": "jensen_shannon", "consistency_reduction": "mean"},
    "released-video": {
        "lam": 0.5,
        "consistency": "bhattacharyya",
        "consistency_reduction": "sum",
        "consistency_weight": 0.4,
    },
}
"""Published defaults of each variant, except for the weight: those are in nla.losses.naw."""


def nla_options(variant: Variant = "paper", **given: Any) -> dict[str, Any]:
    """All arguments of NLALoss with their effective values.

    Args:
        variant: "released", "paper" or "released-video".
        **given: arguments of NLALoss; None means the variant's published default, and 1 - lam for consistency_weight,
            unless the variant has one.

    Raises:
        ValueError: an unknown variant.
    """
    published = asdict(naw_parameters(variant)) | PUBLISHED_TERMS[variant]
    options = published | {name: value for name, value in given.items() if value is not None}
    options.setdefault("consistency_weight", 1 - options["lam"])
    return {"variant": variant, **options}


class NLALoss(nn.Module):
    """Loss for training on ambiguous, noisy and imbalanced labels.

    None means the variant's published default, in every argument.

        criterion = NLALoss("paper")
        loss = criterion(model(x), model(x.flip(-1)), y, progress=epoch / epochs)

    Args:
        variant: "released" follows the authors' code, including the sum over the batch; "paper" follows their text, and
            averages every term, so that the batch size does not change the objective; "released-video" follows the
            authors' code for the frames of a video, V-NAW (arXiv 2503.15970): see nla.losses.frames.
        lam: share of the classification term, in [0, 1]; default .5.
        consistency: distance between the two views, or "none"; default "jensen_shannon" for "paper", else
            "bhattacharyya".
        consistency_reduction: over the (global) batch; default "mean" for "paper", else "sum".
        consistency_weight: factor of the consistency term, at least 0; default .4 for "released-video", else 1 - lam.
        true_mean, true_deviation, true_ratio, true_sign, false_mean, false_deviation, false_ratio, slope, normalized,
            detach: parameters of the weight, as in `naw_weight`.

    Raises:
        ValueError: an unknown choice, or a value out of its range.
    """

    def __init__(
        self,
        variant: Variant = "paper",
        *,
        lam: float | None = None,
        consistency: Consistency | None = None,
        consistency_reduction: Reduction | None = None,
        consistency_weight: float | None = None,
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
    ) -> None:
        super().__init__()
        options = nla_options(
            variant,
            lam=lam,
            consistency=consistency,
            consistency_reduction=consistency_reduction,
            consistency_weight=consistency_weight,
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
        self.naw = NawParameters(**{field.name: options[field.name] for field in fields(NawParameters)})
        self.lam: float = options["lam"]
        self.consistency: str = options["consistency"]
        self.reduction: str = options["consistency_reduction"]
        self.consistency_weight: float = options["consistency_weight"]
        if self.consistency not in (*DISTANCES, "none"):
            raise ValueError(f"unknown consistency {self.consistency!r}: valid are {', '.join(DISTANCES)}, none")
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f"unknown consistency_reduction {self.reduction!r}: valid are mean, sum")
        require(0 <= self.lam <= 1, "lam", self.lam, "in [0, 1]")
        require(self.consistency_weight >= 0, "consistency_weight", self.consistency_weight, "at least 0")
        self.two_views = self.consistency != "none"

    def forward(
        self,
        logits: Tensor,
        logits_flipped: Tensor | None,
        target: Tensor,
        progress: float,
        replicas: int = 1,
        count: float | None = None,
    ) -> Tensor:
        """The loss, a float32 scalar.

        Args:
            logits: [N, C] of the images.
            logits_flipped: [N, C] of their mirror images; None only with consistency "none".
            target: [N] class indices, or [N, C] distributions.
            progress: epoch / epochs, in [0, 1).
            replicas: number of workers that share the batch. DDP averages their gradients, so a term that is summed
                over the global batch is multiplied by this number.
            count: what the sums of a mean are divided by, above 0; None: the N samples. Workers with different numbers
                of samples pass the mean number of a worker, so that each sample of the global batch counts alike.
        """
        w_N = weight_at(*p_gt_and_p_nn(logits, target), progress, self.naw)
        classification = mean((1 + w_N) * cross_entropy(logits, target), count)
        loss = self.lam * classification
        if not self.two_views:
            return loss
        if logits_flipped is None:
            raise ValueError(f"consistency {self.consistency!r} needs the logits of the mirrored images")
        distance_N = DISTANCES[self.consistency](logits, logits_flipped)
        distance = mean(distance_N, count) if self.reduction == "mean" else distance_N.sum() * replicas
        return loss + self.consistency_weight * distance
