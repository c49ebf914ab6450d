"""Tests what the NLA paper claims of the weight, on one run, early and late in training.

Lee et al., AAAI 2025, arXiv 2502.09993, claim that noisy samples get low weights, that ambiguous ones gain weight as
training proceeds, and that late in training the emphasised samples are mostly of the minority classes. Methods that do
not weigh by NAW are tested too: which weights would NAW have given to their predictions?

Legend: N training samples; (p_GT, p_NN) a sample's position: probability of its given label, and the largest other one;
`doubt` the entropy of its annotators' votes or of its true posterior in nats, NaN if neither is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nla.data.samples import Annotations
from nla.evaluation.metrics import spearman
from nla.evaluation.uncertainty import entropy

Weight = Callable[[np.ndarray, np.ndarray, float], np.ndarray]
"""(p_GT [N], p_NN [N], progress) -> weight [N], as nla.evaluation.weight.position_weight returns it."""

FIFTHS = 5
TOP = 0.9  # lower end of the top tenth
DIGITS = 6  # of an entropy: summing the same shares in another order differs by 1e-8 in float32, and should be a tie


def weight_claims(
    early_N2: np.ndarray,
    late_N2: np.ndarray,
    weight: Weight,
    progress: Mapping[str, float],
    annotations: Annotations,
) -> dict[str, Any]:
    """All claims about one run, JSON-serializable: `claims_at` for `early` and `late`, and what holds for both.

    Args:
        early_N2: positions of the samples at `progress["early"]`; NaN for a sample not seen by then, which excludes it
            from both moments.
        late_N2: positions of the same samples at `progress["late"]`.
        weight: weight(p_GT, p_NN, progress).
        progress: `early` and `late`, in [0, 1].
        annotations: those of the samples. Minorities are determined from the labels before noise: by the given ones,
            most of a small class would be samples of other classes moved there by noise.
    """
    seen_N = ~np.isnan(early_N2).any(axis=1) & ~np.isnan(late_N2).any(axis=1)
    minority_N = minority(annotations.clean_label_N)[seen_N]
    flipped_N, doubt_N = annotations.is_flipped_N[seen_N], doubt(annotations)[seen_N]
    report: dict[str, Any] = {"rows": int(seen_N.sum()), "minority_share": float(minority_N.mean())}
    for moment, position_N2 in (("early", early_N2), ("late", late_N2)):
        p_GT, p_NN = np.ascontiguousarray(position_N2[seen_N].T)
        weight_N = weight(p_GT, p_NN, progress[moment])
        report[moment] = claims_at(p_GT, p_NN, weight_N, flipped_N, doubt_N, minority_N)
    return report


def claims_at(
    p_GT_N: np.ndarray,
    p_NN_N: np.ndarray,
    weight_N: np.ndarray,
    flipped_N: np.ndarray,
    doubt_N: np.ndarray,
    minority_N: np.ndarray,
) -> dict[str, Any]:
    """The claims at one moment; what cannot be measured (no flipped labels, no votes) is None or left out.

    `flipped_auroc` is how well a low weight identifies flipped labels, and `flipped_auroc_p_GT` how well a low p_GT
    does, which any weight must beat. `weight_by_doubt` is the mean weight per fifth of the samples, from the clearest
    to the most ambiguous; `doubtful_weight` is the last of them over the mean weight. The correlations are Spearman's
    with doubt. Doubt is measured on clean samples only.
    """
    report: dict[str, Any] = {
        "flipped_auroc": auroc(-weight_N, flipped_N),
        "flipped_auroc_p_GT": auroc(-p_GT_N, flipped_N),
        "mean_weight": float(weight_N.mean()),
        "minority_of_top_tenth": mean_between(minority_N, weight_N, TOP, 1.0),
    }
    clean_N = ~flipped_N & ~np.isnan(doubt_N)
    if clean_N.any():
        doubt_M, weight_M = doubt_N[clean_N], weight_N[clean_N]
        ambiguity_M = 1 - np.abs(p_GT_N - p_NN_N)[clean_N]
        fifths = by_fifth(weight_M, doubt_M)
        report |= {
            "weight_by_doubt": {str(number): mean for number, mean in enumerate(fifths, 1)},
            "doubtful_weight": fifths[-1] / float(weight_M.mean()) if weight_M.any() else None,
            "weight_correlation": spearman(weight_M, doubt_M),
            "ambiguity_correlation": spearman(ambiguity_M, doubt_M),
        }
    return report


def auroc(score_N: np.ndarray, positive_N: np.ndarray) -> float | None:
    """Area under the ROC curve of `score` for the positives; None if all samples are positive, or none is."""
    from sklearn.metrics import roc_auc_score  # takes two seconds to import, which a report need not wait for

    return None if positive_N.all() or not positive_N.any() else float(roc_auc_score(positive_N, score_N))


def mean_between(value_N: np.ndarray, by_N: np.ndarray, low: float, high: float) -> float:
    """Mean of `value` over the samples between the quantiles `low` and `high` of `by`.

    Ties in `by` are treated as a unit: on a border, each counts with the fraction of the tie that lies inside.
    """
    _, group_N, size_G = np.unique(by_N, return_inverse=True, return_counts=True)
    end_G = np.cumsum(size_G)
    inside_G = np.minimum(end_G, high * len(by_N)) - np.maximum(end_G - size_G, low * len(by_N))
    part_N = (np.maximum(inside_G, 0) / size_G)[group_N]
    return float(part_N @ np.asarray(value_N, np.float64) / part_N.sum())


def by_fifth(value_N: np.ndarray, by_N: np.ndarray) -> list[float]:
    """Mean of `value` in each fifth of the samples, from the smallest `by` to the largest."""
    return [mean_between(value_N, by_N, k / FIFTHS, (k + 1) / FIFTHS) for k in range(FIFTHS)]


def minority(label_N: np.ndarray) -> NDArray[np.bool_]:
    """Mask of the samples whose class is smaller than the median class, classes without samples aside."""
    _, class_N, size_C = np.unique(label_N, return_inverse=True, return_counts=True)
    small_N: NDArray[np.bool_] = (size_C < np.median(size_C))[class_N]
    return small_N


def doubt(annotations: Annotations) -> NDArray[np.float64]:
    """Entropy of each sample's votes, else of its true posterior, else NaN, [N] in nats."""
    doubt_N = np.full(len(annotations.is_flipped_N), np.nan)
    for share_NC in (annotations.posterior_NC, annotations.votes_NC):
        if share_NC is not None:
            given_N = ~np.isnan(share_NC).any(axis=1)
            doubt_N[given_N] = entropy(share_NC[given_N]).round(DIGITS)
    return doubt_N
