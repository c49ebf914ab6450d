"""NLA: the NAW-weighted loss of an image and its mirror image; formula and source are in nla.losses.nla.

Legend: N samples, C classes.
"""

from __future__ import annotations

from typing import Any

from nla.losses.nla import NLALoss
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier


class NLA(Method):
    """Both views go through the network as one batch; without a consistency term, only the first view does.

    Args:
        context: the run that the method is part of.
        **options: arguments of NLALoss.

    Raises:
        ValueError: an option is out of its range.
    """

    def __init__(self, context: Context, **options: Any) -> None:
        super().__init__()
        self.loss, self.group = NLALoss(**options), context.group

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits = network(batch.images_NHWC, mirrored=self.loss.two_views)
        first_NC, second_NC = logits.chunk(2) if self.loss.two_views else (logits, None)
        loss = self.loss(first_NC, second_NC, batch.target, batch.progress, self.group.size)
        return Outcome(loss, first_NC)
