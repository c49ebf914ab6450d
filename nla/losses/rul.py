"""Relative Uncertainty Learning (RUL): mixes the features of two samples by how uncertain each is.

    mu = (sigma_i mu_i + sigma_j mu_j) / (sigma_i + sigma_j)       mixed feature of the samples i and j
    L  = mean of (CE(z(mu), y_i) + CE(z(mu), y_j)) / 2             add-up loss

The mixture shows both classes only if the sample that is harder to recognise has more weight, so sigma is learnt.

Zhang et al., "Relative Uncertainty Learning for Facial Expression Recognition", NeurIPS 2021.

Legend: N samples, D features.
"""

from __future__ import annotations

from torch import Tensor

from nla.losses.targets import cross_entropy


def mixed(features_ND: Tensor, log_sigma_N: Tensor, partner_N: Tensor) -> Tensor:
    """Mixed features of each sample and its partner, [N, D]; `partner_N` are rows of the batch.

    sigma_i / (sigma_i + sigma_j) is the sigmoid of log sigma_i - log sigma_j, which does not overflow.
    """
    share_N1 = (log_sigma_N - log_sigma_N[partner_N]).sigmoid()[:, None]
    return share_N1 * features_ND + (1 - share_N1) * features_ND[partner_N]


def add_up(logits_NC: Tensor, target: Tensor, partner_N: Tensor) -> Tensor:
    """Add-up loss of the logits of mixed features, a float32 scalar."""
    return ((cross_entropy(logits_NC, target) + cross_entropy(logits_NC, target[partner_N])) / 2).mean()
