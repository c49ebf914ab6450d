"""Class-balanced cross-entropy: classes are weighted by their effective number of samples.

    L = mean w_y CE,    w_c ~ (1 - beta) / (1 - beta^n_c),  sum_c w_c = C            n_c: training samples of the class

Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555.

Legend: N samples, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from nla.losses.functional import at_target, positive_counts, require


def class_weights(class_counts: Tensor, beta: float) -> Tensor:
    """Class weights w_c, [C] float32, summing to C; a class without samples gets that of the rarest one with some.

    Raises:
        ValueError: beta is not in [0, 1), or no class has a sample.
    """
    require(0 <= beta < 1, "beta", beta, "in [0, 1)")
    n_C = positive_counts(class_counts).double()  # 1 - beta^n loses most digits in float32
    w_C = (1 - beta) / (1 - beta**n_C)
    return (w_C / w_C.mean()).float()


class ClassBalancedLoss(nn.Module):
    """Weighted cross-entropy, averaged over samples, not divided by the sum of the weights, as in the authors' code.

    For distributions, it is averaged over their labels, too.

    Args:
        class_counts: [C] training samples of each class.
        beta: 0 gives equal weights, values near 1 weights near 1 / n_c; .9999 as for long-tailed CIFAR-10.
    """

    weight_C: Tensor

    def __init__(self, class_counts: Tensor, *, beta: float = 0.9999) -> None:
        super().__init__()
        self.register_buffer("weight_C", class_weights(class_counts, beta), persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Returns the loss, a float32 scalar."""
        return at_target(-self.weight_C * logits.float().log_softmax(dim=1), target).mean()
