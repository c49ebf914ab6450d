"""Agreement of predictions with the annotators' votes: is the model uncertain where people are?

Legend: N samples, C classes; p_NC probabilities, votes_NC distributions, with a row of NaN for a sample without votes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nla.evaluation.uncertainty import ambiguity, entropy, log


def agreement(p_NC: np.ndarray, votes_NC: np.ndarray) -> dict[str, float | int | None]:
    """Agreement over the rows that have votes, in nats and proportions; {} if none has any.

    `vote_share` is the mean share of votes for the predicted class, `vote_share_possible` the same for the best
    possible prediction. The correlations are Spearman's, of the predictions' entropy and of their ambiguity with the
    entropy of the votes; None if one side is constant.
    """
    voted_N = ~np.isnan(votes_NC).any(axis=1)
    if not voted_N.any():
        return {}
    p, votes = np.asarray(p_NC[voted_N], np.float64), np.asarray(votes_NC[voted_N], np.float64)
    doubt_N = entropy(votes)
    cross_entropy = float(-(votes * log(p)).sum(axis=1).mean())
    return {
        "rows": len(p),
        "cross_entropy": cross_entropy,
        "kl_divergence": cross_entropy - float(doubt_N.mean()),
        "vote_share": float(votes[np.arange(len(p)), p.argmax(axis=1)].mean()),
        "vote_share_possible": float(votes.max(axis=1).mean()),
        "entropy_correlation": spearman(entropy(p), doubt_N),
        "ambiguity_correlation": spearman(ambiguity(p), doubt_N),
    }


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float | None:
    """Spearman's rank correlation, in [-1, 1], with mean ranks for ties; None if one side is constant."""
    a, b = (rank - rank.mean() for rank in (_ranks(a_N), _ranks(b_N)))
    spread = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / spread, -1, 1)) if spread > 0 else None


def _ranks(value_N: np.ndarray) -> NDArray[np.float64]:
    _, which_N, count = np.unique(value_N, return_inverse=True, return_counts=True)
    mean_rank: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[which_N]
    return mean_rank
