"""NLA plus: targets and weights from a running mean of each sample's predictions, without a discontinuity.

    p = softmax(z + tau log pi)                      of an image, p' of its mirror; pi_c: share of the class in training
    s = softmax z                                    prediction for equally frequent classes
    m = running mean of (s + s') / 2                 of the sample, over the epochs
    a = m_GT - m_NN                                  margin of the given label, in [-1, 1]
    A = exp(-a^2 / (2 deviation^2))                  ambiguity: 1 at a = 0, decreasing on both sides
    D = 1 - exp(-min(a, 0)^2 / (2 doubt_deviation^2))    doubt: 0 for a >= 0, towards 1 at a = -1
    T = 1 - exp(-slope * progress)                   trust in m: 0 at the start, when nothing is known
    q = (1 - T D) y + T D m pi^tau / sum m pi^tau    target: the label, partly replaced by the prediction

    L = mean (1 + boost T A) (CE(p, q) + CE(p', q)) / 2 + lam mean JSD(s, s')

As in NAW (arXiv 2502.09993), ambiguous samples get higher weights and views must agree. NAW weighs a sample by its
current prediction, with a jump at p_GT = p_NN; here the mean over epochs decides, as in ELR (arXiv 2007.00151). A noisy
sample does not lose weight: it is learnt with its predicted label, as in bootstrapping (arXiv 1412.6596). Class
frequencies are part of the fit (logit adjustment, arXiv 2007.07314), but not of the doubt: in p a label loses just for
being rare.

Legend: N samples, C classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.functional import label_and_nearest, ramp_up, require
from nla.methods.base import Context, Minibatch, Outcome, SampleMemory
from nla.methods.two_views import TwoViews
from nla.models.classifier import Classifier


def running_mean(memory_NC: Tensor, p_NC: Tensor, beta: float) -> Tensor:
    """beta memory + (1 - beta) p, without gradient; rows are 0 before the first visit, and sum to 1 - beta^visits."""
    return beta * memory_NC + (1 - beta) * p_NC.detach()


def margin(mean_NC: Tensor, target: Tensor) -> Tensor:
    """Margin a, [N] in [-1, 1]; rows of `mean_NC` sum to 1, and the label of a distribution is its argmax."""
    m_GT, m_NN = label_and_nearest(mean_NC, target)
    return m_GT - m_NN


def with_frequencies(mean_NC: Tensor, shift_C: Tensor) -> Tensor:
    """m pi^tau, scaled to sum to 1, [N, C]; `shift_C` is tau log pi."""
    return (mean_NC.log() + shift_C).softmax(dim=1)


def ambiguity(margin_N: Tensor, deviation: float) -> Tensor:
    """Ambiguity A, [N] in [0, 1]."""
    return torch.exp(-(margin_N**2) / (2 * deviation**2))


def doubt(margin_N: Tensor, deviation: float) -> Tensor:
    """Doubt D, [N] in [0, 1]."""
    return -torch.expm1(-(margin_N.clamp(max=0) ** 2) / (2 * deviation**2))


def mixed_target(target: Tensor, mean_NC: Tensor, share_N: Tensor) -> Tensor:
    """(1 - share) y + share m, [N, C] float32; y is `target`, one-hot if it is an index."""
    y_NC = F.one_hot(target, mean_NC.shape[1]) if target.ndim == 1 else target
    return torch.lerp(y_NC.float(), mean_NC, share_N[:, None])


class Plus(TwoViews):
    """NLA plus, the project's own method.

    Args:
        context: the run that the method is part of.
        boost: extra weight of a sample of the highest ambiguity, at least 0.
        deviation: width of the ambiguity A, above 0.
        doubt_deviation: width of the doubt D, above 0.
        beta: momentum of the running mean, in [0, 1).
        slope: slope of the trust T in the running mean over the run, at least 0.
        tau: strength of the logit adjustment, at least 0.
        lam: weight of the consistency of both views, at least 0.

    Raises:
        ValueError: an option is out of its range, or no class has a sample.
    """

    def __init__(
        self,
        context: Context,
        *,
        boost: float = 1.0,
        deviation: float = 0.4,
        doubt_deviation: float = 0.4,
        beta: float = 0.7,
        slope: float = 3.0,
        tau: float = 0.5,
        lam: float = 0.5,
    ) -> None:
        super().__init__(context, tau, lam)
        for name, value in (("boost", boost), ("slope", slope)):
            require(value >= 0, name, value, "at least 0")
        for name, value in (("deviation", deviation), ("doubt_deviation", doubt_deviation)):
            require(value > 0, name, value, "above 0")
        require(0 <= beta < 1, "beta", beta, "in [0, 1)")
        self.boost, self.deviation, self.doubt_deviation = boost, deviation, doubt_deviation
        self.beta, self.slope = beta, slope
        self.mean = SampleMemory(torch.zeros(len(context.label_N), context.num_classes), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        first_NC, second_NC = self.views(network, batch)
        mean_NC = self._remember(batch.index_N, torch.stack((first_NC, second_NC)).softmax(dim=2).mean(dim=0))
        margin_N, trusted = margin(mean_NC, batch.target), ramp_up(batch.progress, self.slope)
        seen_NC = with_frequencies(mean_NC, self.shift_C)
        q_NC = mixed_target(batch.target, seen_NC, trusted * doubt(margin_N, self.doubt_deviation))
        weight_N = 1 + self.boost * trusted * ambiguity(margin_N, self.deviation)
        classification_N = self.classification(first_NC, second_NC, q_NC)
        loss = (weight_N * classification_N).mean() + self.consistency(first_NC, second_NC)
        return Outcome(loss, first_NC)

    def _remember(self, index_N: Tensor, s_NC: Tensor) -> Tensor:
        """Updates the samples' running means with these predictions, and returns them scaled to sum to 1."""
        memory_NC = running_mean(self.mean.read(index_N), s_NC, self.beta)
        self.mean.write(index_N, memory_NC)
        return memory_NC / memory_NC.sum(dim=1, keepdim=True)
