"""What methods share that learn from an image and its mirror image: logit adjustment, and consistency of both.

    p = softmax(z + tau log pi)                      of an image, p' of its mirror; pi_c: share of the class in training
    s = softmax z                                    prediction for equally frequent classes

Legend: N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor

from nla.losses.functional import cross_entropy, jensen_shannon, log_prior, require
from nla.methods.base import Context, Method, Minibatch
from nla.models.classifier import Classifier


class TwoViews(Method):
    """Base of methods that classify both views.

    Args:
        context: the run that the method is part of.
        tau: strength of the logit adjustment, at least 0.
        lam: weight of the consistency of both views, at least 0.

    Raises:
        ValueError: an option is out of its range, or no class has a sample.
    """

    frequency_options = ("tau",)
    shift_C: Tensor

    def __init__(self, context: Context, tau: float, lam: float) -> None:
        super().__init__()
        for name, value in (("tau", tau), ("lam", lam)):
            require(value >= 0, name, value, "at least 0")
        self.lam = lam
        self.register_buffer("shift_C", tau * log_prior(context.class_counts), persistent=False)

    def views(self, network: Classifier, batch: Minibatch) -> tuple[Tensor, Tensor]:
        """Logits of the images and of their mirror images, each float32 [N, C]."""
        first_NC, second_NC = network(batch.images_NHWC, mirrored=True).float().chunk(2)
        return first_NC, second_NC

    def classification(self, first_NC: Tensor, second_NC: Tensor, target: Tensor) -> Tensor:
        """(CE(p, target) + CE(p', target)) / 2 of each sample, [N]."""
        first_N, second_N = (cross_entropy(view_NC + self.shift_C, target) for view_NC in (first_NC, second_NC))
        return (first_N + second_N) / 2

    def consistency(self, first_NC: Tensor, second_NC: Tensor) -> Tensor:
        """lam mean JSD(s, s'), a scalar."""
        return self.lam * jensen_shannon(first_NC, second_NC).mean()
