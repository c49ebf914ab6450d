"""Logit adjustment: class frequencies are added in training, so that the logits need not learn them.

    L = mean CE(softmax(z + tau log pi), y)              pi_c: share of the class among the training labels

At tau = 1 the argmax of z alone, which is the prediction, is optimal for the mean accuracy over classes.

Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314, equation 10.

Legend: N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from nla.losses.functional import cross_entropy, log_prior, require


class LogitAdjustedLoss(nn.Module):
    """Mean cross-entropy of adjusted logits against class indices [N] or distributions [N, C].

    Args:
        class_counts: [C] training samples of each class; a class without any counts as the rarest one that has some.
        tau: strength, >= 0; 1 as for all data sets of the paper, 0 is cross-entropy.
    """

    shift_C: Tensor

    def __init__(self, class_counts: Tensor, *, tau: float = 1.0) -> None:
        super().__init__()
        require(tau >= 0, "tau", tau, "at least 0")
        self.register_buffer("shift_C", tau * log_prior(class_counts), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a float32 scalar."""
        return cross_entropy(logits.float() + self.shift_C, target).mean()
