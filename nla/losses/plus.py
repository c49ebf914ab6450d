"""NLA plus: what is ambiguous and what is noisy is read from a running mean of the predictions, without a jump.

    p = softmax(z + tau log pi)                      of an image, p' of its mirror; pi_c: share of the class in training
    s = softmax z                                    what the network says where no class is more frequent
    m = running mean of (s + s') / 2                 of the sample, over the epochs
    a = m_GT - m_NN                                  margin of the given label, in [-1, 1]
    A = exp(-a^2 / (2 deviation^2))                  ambiguity: 1 at a = 0, on both sides less
    D = 1 - exp(-min(a, 0)^2 / (2 doubt_deviation^2))    doubt: 0 down to a = 0, towards 1 at a = -1
    T = 1 - exp(-slope * progress)                   trust in m: 0 at the start, when nothing is known
    q = (1 - T D) y + T D m pi^tau / sum m pi^tau    target: the label, or what is seen instead

    L = mean (1 + boost T A) (CE(p, q) + CE(p', q)) / 2 + lam mean JSD(s, s')

It keeps of NAW (arXiv 2502.09993) that ambiguous samples weigh more and that views agree. NAW weighs a sample by its
present prediction, with a jump at p_GT = p_NN; here the mean over epochs decides, as in ELR (arXiv 2007.00151). A noisy
sample does not fade: it is learnt as it was predicted, as in bootstrapping (arXiv 1412.6596). The class frequencies are
part of the fit (logit adjustment, arXiv 2007.07314), but no reason to doubt: in p a label loses for being rare.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.targets import label_and_rival


def running_mean(memory_NC: Tensor, p_NC: Tensor, beta: float) -> Tensor:
    """beta memory + (1 - beta) p, without gradient: a row sums to 1 - beta^visits, and is zero before its first."""
    return beta * memory_NC + (1 - beta) * p_NC.detach()


def margin(mean_NC: Tensor, target: Tensor) -> Tensor:
    """a_N = m_GT - m_NN, in [-1, 1]; `mean_NC` are rows that sum to 1, the label of a distribution is its argmax."""
    m_GT, m_NN = label_and_rival(mean_NC, target)
    return m_GT - m_NN


def with_frequencies(mean_NC: Tensor, shift_C: Tensor) -> Tensor:
    """m pi^tau, scaled to sum 1, [N, C]; `shift_C` is tau log pi."""
    return (mean_NC.log() + shift_C).softmax(dim=1)


def ambiguity(margin_N: Tensor, deviation: float) -> Tensor:
    """A_N in [0, 1]."""
    return torch.exp(-(margin_N**2) / (2 * deviation**2))


def doubt(margin_N: Tensor, deviation: float) -> Tensor:
    """D_N in [0, 1]."""
    return -torch.expm1(-(margin_N.clamp(max=0) ** 2) / (2 * deviation**2))


def mixed_target(target: Tensor, mean_NC: Tensor, share_N: Tensor) -> Tensor:
    """(1 - share) y + share m, [N, C] float32; y is one-hot, or the distribution that `target` is."""
    y_NC = F.one_hot(target, mean_NC.shape[1]) if target.ndim == 1 else target
    return torch.lerp(y_NC.float(), mean_NC, share_N[:, None])
