"""NLA plus: classifies both views, with targets and weights from a running mean of each sample's predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from nla.losses.consistency import jensen_shannon
from nla.losses.counts import log_prior
from nla.losses.plus import ambiguity, doubt, margin, mixed_target, running_mean, with_frequencies
from nla.losses.schedule import rise
from nla.losses.targets import cross_entropy
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.methods.memory import SampleMemory
from nla.models.classifier import Classifier


class Plus(Method):
    """The project's own method; its formula is in `nla.losses.plus`.

    Args:
        context: the training that the method is used in.
        boost: extra weight of a sample of the highest ambiguity, at least 0.
        deviation: width of the ambiguity A, above 0.
        doubt_deviation: width of the doubt D, above 0.
        beta: momentum of the running mean, in [0, 1).
        slope: slope of the trust T in the running mean over the training, at least 0.
        tau: strength of the logit adjustment, at least 0.
        lam: weight of the consistency of both views, at least 0.
    """

    shift_C: Tensor

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
        super().__init__()
        if not min(boost, slope, tau, lam) >= 0:
            raise ValueError(f"plus needs boost, slope, tau and lam >= 0, not {boost}, {slope}, {tau} and {lam}")
        if not (min(deviation, doubt_deviation) > 0 and 0 <= beta < 1):
            raise ValueError(
                f"plus needs deviations above 0 and beta in [0, 1), not {deviation}, {doubt_deviation} and {beta}"
            )
        self.boost, self.deviation, self.doubt_deviation = boost, deviation, doubt_deviation
        self.beta, self.slope, self.lam = beta, slope, lam
        self.register_buffer("shift_C", tau * log_prior(context.class_counts), persistent=False)
        self.mean = SampleMemory(torch.zeros(len(context.label_N), context.num_classes), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        first_NC, second_NC = network(batch.images_NHWC, mirrored=True).float().chunk(2)
        views = (first_NC + self.shift_C, second_NC + self.shift_C)
        mean_NC = self._remember(batch.index_N, torch.stack((first_NC, second_NC)).softmax(dim=2).mean(dim=0))
        margin_N, trusted = margin(mean_NC, batch.target), rise(batch.progress, self.slope)
        seen_NC = with_frequencies(mean_NC, self.shift_C)
        q_NC = mixed_target(batch.target, seen_NC, trusted * doubt(margin_N, self.doubt_deviation))
        weight_N = 1 + self.boost * trusted * ambiguity(margin_N, self.deviation)
        classification_N = (cross_entropy(views[0], q_NC) + cross_entropy(views[1], q_NC)) / 2
        consistency = jensen_shannon(first_NC, second_NC).mean()
        return Outcome((weight_N * classification_N).mean() + self.lam * consistency, first_NC)

    def _remember(self, index_N: Tensor, s_NC: Tensor) -> Tensor:
        """Updates the samples' running means with these predictions, and returns them scaled to sum to 1."""
        memory_NC = running_mean(self.mean.read(index_N), s_NC, self.beta)
        self.mean.write(index_N, memory_NC)
        return memory_NC / memory_NC.sum(dim=1, keepdim=True)
