"""The NLA loss: NAW-weighted cross-entropy, and consistency between an image and its mirror image.

    L = lam * mean((1 + w) CE) + (1 - lam) * consistency                          arXiv 2502.09993

Legend: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from nla.losses.functional import bhattacharyya, cross_entropy, given_and_rival, jensen_shannon
from nla.losses.naw import Variant, naw_parameters, of_the_weight, weight_at

Consistency = Literal["jensen_shannon", "bhattacharyya", "none"]
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "jensen_shannon": jensen_shannon,
    "bhattacharyya": bhattacharyya,
}
PUBLISHED_CONSISTENCY = {"released": ("bhattacharyya", "sum"), "paper": ("jensen_shannon", "mean")}
PUBLISHED_LAM = 0.5


class NLALoss(nn.Module):
    """Loss for training on ambiguous, noisy and imbalanced labels.

    None stands for the variant's published value throughout.

        criterion = NLALoss("paper")
        loss = criterion(model(x), model(x.flip(-1)), y, progress=epoch / epochs)

    Args:
        variant: "released" follows the authors' code, including the sum over the batch; "paper" follows their text, and
            averages every term, so that the batch size does not change the objective.
        lam: share of the classification term, in [0, 1]; .5.
        consistency: distance between the two views, or "none"; "released" "bhattacharyya", "paper" "jensen_shannon".
        consistency_reduction: over the (global) batch; "released" "sum", "paper" "mean".
        consistency_weight: factor of the consistency term, at least 0; 1 - lam.
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
        consistency_reduction: Literal["mean", "sum"] | None = None,
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
        self.naw = naw_parameters(variant, **of_the_weight(locals()))
        published, reduction = PUBLISHED_CONSISTENCY[variant]
        self.lam = PUBLISHED_LAM if lam is None else lam
        self.consistency = consistency or published
        self.reduction = consistency_reduction or reduction
        self.consistency_weight = 1 - self.lam if consistency_weight is None else consistency_weight
        if self.consistency not in (*DISTANCES, "none"):
            raise ValueError(f"unknown consistency {self.consistency!r}: valid are {', '.join(DISTANCES)}, none")
        if self.reduction not in ("mean", "sum"):
            raise ValueError(f"unknown consistency_reduction {self.reduction!r}: valid are mean, sum")
        if not 0 <= self.lam <= 1:
            raise ValueError(f"lam must lie between 0 and 1 (got {self.lam!r})")
        if not self.consistency_weight >= 0:
            raise ValueError(f"consistency_weight must be at least 0 (got {self.consistency_weight!r})")
        self.two_views = self.consistency != "none"

    def forward(
        self, logits: Tensor, logits_flipped: Tensor | None, target: Tensor, progress: float, replicas: int = 1
    ) -> Tensor:
        """The loss, a float32 scalar.

        Args:
            logits: [N, C] of the images.
            logits_flipped: [N, C] of their mirror images; None only with consistency "none".
            target: [N] class indices, or [N, C] distributions.
            progress: epoch / epochs, in [0, 1).
            replicas: workers that share the batch. DDP averages their gradients, so a term summed over the global batch
                is multiplied by it.
        """
        w_N = weight_at(*given_and_rival(logits, target), progress, self.naw)
        classification = ((1 + w_N) * cross_entropy(logits, target)).mean()
        loss = self.lam * classification
        if not self.two_views:
            return loss
        if logits_flipped is None:
            raise ValueError(f"consistency {self.consistency!r} needs the logits of the mirrored images")
        distance_N = DISTANCES[self.consistency](logits, logits_flipped)
        distance = distance_N.mean() if self.reduction == "mean" else distance_N.sum() * replicas
        return loss + self.consistency_weight * distance
