"""Mixture of two Beta distributions, fitted to values in [0, 1]: those of wrong and those of right labels.

    E: r_k(x) = w_k Beta(x; alpha_k, beta_k) / sum over k
    M: m, v: mean and variance of x, weighted by r_k;  alpha_k = m (m (1 - m) / v - 1),  beta_k = alpha_k (1 - m) / m,
       w_k = mean r_k

The M-step matches moments instead of maximising the likelihood, as in Arazo et al., "Unsupervised Label Noise Modeling
and Loss Correction", ICML 2019, arXiv 1904.11238.

Legend: S values, B bins; k = 0 is the component of low values, 1 that of high ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEPS = 10
FIRST_ALPHA, FIRST_BETA = (1.0, 2.0), (2.0, 1.0)
EDGE = 1e-4  # values are kept away from 0 and 1, where a density can be infinite
FLOOR = 1e-12  # of a weighted density
SMALLEST_VARIANCE = 1e-8  # equal values would have infinite alpha and beta
BINS = 100


@dataclass(frozen=True)
class BetaMixture:
    """Parameters of both components, each float64 [2]."""

    alpha: Tensor
    beta: Tensor
    weight: Tensor

    def densities(self, x_S: Tensor) -> Tensor:
        """w_k Beta(x; alpha_k, beta_k), [2, S]; x in (0, 1), float64."""
        alpha, beta = self.alpha[:, None], self.beta[:, None]
        scale = torch.lgamma(alpha + beta) - torch.lgamma(alpha) - torch.lgamma(beta)
        return self.weight[:, None] * (scale + (alpha - 1) * x_S.log() + (beta - 1) * torch.log1p(-x_S)).exp()

    def table(self) -> Tensor:
        """Posterior of the component of high values in BINS places from 0 to 1, [B]; beyond its maximum it stays there.

        Otherwise the broader component would win again near 1.
        """
        density_2B = self.densities(torch.linspace(FLOOR, 1 - FLOOR, BINS, dtype=torch.float64))
        posterior_B = density_2B[1] / (density_2B.sum(dim=0) + FLOOR)
        top = int(posterior_B.argmax())
        return torch.cat([posterior_B[:top], posterior_B[top].expand(BINS - top)])


def fit_beta_mixture(x_S: Tensor) -> BetaMixture:
    """STEPS steps of EM from FIRST_ALPHA and FIRST_BETA, in float64 on the CPU; the same bits wherever it runs."""
    x_S = x_S.double().cpu().clamp(EDGE, 1 - EDGE)
    alpha_2, beta_2, weight_2 = torch.tensor([FIRST_ALPHA, FIRST_BETA, (0.5, 0.5)], dtype=torch.float64)
    mixture = BetaMixture(alpha_2, beta_2, weight_2)
    for _ in range(STEPS):
        share_2S = mixture.densities(x_S).clamp(min=FLOOR)
        share_2S = share_2S / share_2S.sum(dim=0)
        total_2 = share_2S.sum(dim=1)
        mean_2 = (share_2S * x_S).sum(dim=1) / total_2
        variance_2 = (share_2S * (x_S - mean_2[:, None]) ** 2).sum(dim=1) / total_2
        alpha_2 = mean_2 * (mean_2 * (1 - mean_2) / variance_2.clamp(min=SMALLEST_VARIANCE) - 1)
        mixture = BetaMixture(alpha_2, alpha_2 * (1 - mean_2) / mean_2, total_2 / total_2.sum())
    return mixture


def look_up(table_B: Tensor, x_N: Tensor) -> Tensor:
    """The table's values at x, [N], kept within [EDGE, 1 - EDGE]."""
    at_N = (x_N * len(table_B)).long().clamp(0, len(table_B) - 1)
    return table_B[at_N].clamp(EDGE, 1 - EDGE)
