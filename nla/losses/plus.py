"""NLA plus: what is ambiguous and what is noisy is read from a running mean of the predictions, without a jump.

    m = running mean of (p + p') / 2 on the sample, both views      p, p': of the image and of its mirror
    a = m_GT - m_NN                                                 margin of the given label, in [-1, 1]
    A = exp(-a^2 / (2 s^2))                                         ambiguity: 1 at a = 0, on both sides less
    D = 1 - exp(-min(a, 0)^2 / (2 s'^2))                            doubt: 0 up to a = 0, towards 1 at a = -1
    R = 1 - exp(-slope * progress)                                  0 at the start, when nothing is known
    q = (1 - R D) y + R D m                                         target: the label, or what is seen instead

    L = mean (1 + boost R A) (CE(z~, q) + CE(z~', q)) / 2 + lam mean JSD(z, z'),        z~ = z + tau log pi

It keeps of NAW (arXiv 2502.09993) that ambiguous samples weigh more, noisy ones count less, and views agree. NAW weighs
a sample by its present prediction, with a jump at p_GT = p_NN; here the mean over epochs decides, as in ELR (arXiv
2007.00151). What is noisy is not thrown away but learnt from what was predicted on it, as in bootstrapping (arXiv
1412.6596), and the frequencies of the classes are part of the fit (logit adjustment, arXiv 2007.07314).

Legend: N samples, C classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.targets import given_and_rival


def running_mean(memory_NC: Tensor, p_NC: Tensor, beta: float) -> Tensor:
    """beta memory + (1 - beta) p, without gradient: a row sums to 1 - beta^visits, and is zero before its first."""
    return beta * memory_NC + (1 - beta) * p_NC.detach()


def margin(mean_NC: Tensor, target: Tensor) -> Tensor:
    """a_N = m_GT - m_NN, in [-1, 1]; `mean_NC` are rows that sum to 1."""
    m_GT, m_NN = given_and_rival(mean_NC.log(), target)
    return m_GT - m_NN


def ambiguity(margin_N: Tensor, deviation: float) -> Tensor:
    """A_N in (0, 1]."""
    return torch.exp(-(margin_N**2) / (2 * deviation**2))


def doubt(margin_N: Tensor, deviation: float) -> Tensor:
    """D_N in [0, 1)."""
    return -torch.expm1(-(margin_N.clamp(max=0) ** 2) / (2 * deviation**2))


def mixed_target(target: Tensor, mean_NC: Tensor, share_N: Tensor) -> Tensor:
    """(1 - share) y + share m, [N, C] float32; y is one-hot, or the distribution that `target` is."""
    y_NC = F.one_hot(target, mean_NC.shape[1]) if target.ndim == 1 else target
    return torch.lerp(y_NC.float(), mean_NC, share_N[:, None])


def trust(progress: float, slope: float) -> float:
    """R in [0, 1): how far the running mean is believed at `progress` = epoch / epochs."""
    return 1 - math.exp(-slope * progress)
