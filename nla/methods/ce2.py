"""Cross-entropy of an image and its mirror image: what `plus` is without its memory, ambiguity and doubt.

    p = softmax(z + tau log pi)                      of an image, p' of its mirror; pi_c: share of the class in training
    s = softmax z

    L = mean (CE(p, y) + CE(p', y)) / 2 + lam mean JSD(s, s')

It is the baseline for methods that compute two views: as much computation, and the same corrections. Logit adjustment:
Menon et al., ICLR 2021, arXiv 2007.07314. Consistency: Lee et al., AAAI 2025, arXiv 2502.09993.
"""

from __future__ import annotations

from nla.methods.base import Context, Minibatch, Outcome
from nla.methods.two_views import TwoViews
from nla.models.classifier import Classifier


class TwoViewCrossEntropy(TwoViews):
    """Cross-entropy of both views, with logit adjustment and consistency; the defaults are those of `plus`.

    Args:
        context: the run that the method is part of.
        tau: strength of the logit adjustment, at least 0.
        lam: weight of the consistency of both views, at least 0.

    Raises:
        ValueError: an option is out of its range, or no class has a sample.
    """

    def __init__(self, context: Context, *, tau: float = 0.5, lam: float = 0.5) -> None:
        super().__init__(context, tau, lam)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        first_NC, second_NC = self.views(network, batch)
        classification_N = self.classification(first_NC, second_NC, batch.target)
        return Outcome(classification_N.mean() + self.consistency(first_NC, second_NC), first_NC)
