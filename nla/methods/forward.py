"""Forward correction: a transition matrix says what becomes of the true label in the data; the network learns the rest.

    s    = softmax z                          what the network predicts
    m   <- beta m + (1 - beta) s              running mean of s of each sample, over the epochs

until the share `start` of the run: L = mean CE(s, y), and after each epoch, anew from q = m, `rounds` times

    n_kc = number of samples with argmax q = k and the given label c
    T_kc = (n_kc + strength [k = c]) / (n_k + strength)       share of class k that is labelled c
    q    : the distribution for which q T is close to m, by three steps of Richardson and Lucy

from then on, with the last T:

    p_c  = sum_k s_k T_kc                     the label that the data give
    L    = mean CE(p, y)

The last line is forward correction: Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017,
arXiv 1609.03683. There T is read from the sample that is most surely of each class; here it is counted over all,
because people who label faces rarely err on the clearest ones. What the network predicts at first is the distribution
of the labels, in which a true class is mixed with what it is taken for; so rows are sorted into true classes again
when a first T is known. T stays as it is then: a network that is trained with T agrees with T, right or not.

The gradient of CE(p, y) for z_y is s_y - s_y T_yy / p_y. So what the network is to predict of a label is the
probability that it is right. It is high where p_GT is well above its rivals and low where it is not, as the weight of
NAW (arXiv 2502.09993) is, but with the confusions of these labels in it.

Richardson 1972, J. Opt. Soc. Am. 62(1), 55-59; Lucy 1974, Astron. J. 79(6), 745-754: the EM algorithm for this mixture.

Legend: N samples, M of the training set, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome, SampleMemory
from nla.methods.plus import running_mean
from nla.models.classifier import Classifier

TINY = 1e-6
"""Least probability of a label in the logarithm, and least share of a class in a running mean."""
STEPS = 3
"""Of Richardson and Lucy: later ones fit what is chance in m."""


def transition_matrix(class_M: Tensor, label_M: Tensor, classes: int, strength: float) -> Tensor:
    """T, [C, C] float32, rows sum to 1: shares of the labels among the samples of each class.

    Args:
        class_M: int64 predicted classes.
        label_M: int64 given labels.
        classes: C.
        strength: samples that each class has in addition, with its own label; above 0.
    """
    counts_CC = torch.bincount(class_M * classes + label_M, minlength=classes**2).view(classes, classes).float()
    counts_CC += strength * torch.eye(classes, device=counts_CC.device)
    return counts_CC / counts_CC.sum(dim=1, keepdim=True)


def unmixed(p_MC: Tensor, transition_CC: Tensor) -> Tensor:
    """q, [M, C], rows sum to 1: true classes from `p_MC`, the distributions of their labels; q T is close to p."""
    q_MC = torch.full_like(p_MC, 1 / p_MC.shape[1])
    for _ in range(STEPS):
        q_MC = q_MC * ((p_MC / (q_MC @ transition_CC)) @ transition_CC.T)
    return q_MC / q_MC.sum(dim=1, keepdim=True)


def estimated_transition(mean_MC: Tensor, label_M: Tensor, rounds: int, strength: float) -> Tensor:
    """T, [C, C], in `rounds` rounds; rows of zeros in `mean_MC`, which are samples never seen, do not count."""
    seen_M = mean_MC.any(dim=1)
    label_M, p_MC = label_M[seen_M], mean_MC[seen_M].clamp_min(TINY)
    p_MC = p_MC / p_MC.sum(dim=1, keepdim=True)
    q_MC, classes = p_MC, p_MC.shape[1]
    for _ in range(rounds):
        transition_CC = transition_matrix(q_MC.argmax(dim=1), label_M, classes, strength)
        q_MC = unmixed(p_MC, transition_CC)
    return transition_CC


def forward_cross_entropy(logits_NC: Tensor, target: Tensor, transition_CC: Tensor) -> Tensor:
    """CE(softmax(z) T, y) of each sample, [N] float32; `target` are indices [N] or distributions [N, C]."""
    s_NC = logits_NC.float().softmax(dim=1)
    p_NC = (s_NC[:, :, None] * transition_CC).sum(dim=1)  # not s @ T, which autocast computes in bfloat16
    log_p_NC = p_NC.clamp_min(TINY).log()
    if target.ndim == 1:
        return F.nll_loss(log_p_NC, target, reduction="none")
    return -(target * log_p_NC).sum(dim=1)


class ForwardCorrection(Method):
    """Forward correction with a transition matrix that is counted once, from running means.

    Args:
        context: the run that the method is part of.
        start: share of the run from which on the matrix counts, in (0, 1).
        rounds: of counting the matrix and sorting the samples by it, at least 1.
        beta: momentum of the running mean, in [0, 1).
        strength: samples with a right label that each class has in addition when the matrix is counted, above 0.

    Raises:
        ValueError: an option is out of its range.
    """

    transition_CC: Tensor
    label_M: Tensor

    def __init__(
        self,
        context: Context,
        *,
        start: float = 0.55,
        rounds: int = 5,
        beta: float = 0.7,
        strength: float = 20.0,
    ) -> None:
        super().__init__()
        require(0 < start < 1, "start", start, "in (0, 1)")
        require(rounds >= 1, "rounds", rounds, "at least 1")
        require(0 <= beta < 1, "beta", beta, "in [0, 1)")
        require(strength > 0, "strength", strength, "above 0")
        self.start, self.rounds, self.beta, self.strength = start, rounds, beta, strength
        self.progress = 0.0
        self.mean = SampleMemory(torch.zeros(len(context.label_N), context.num_classes), context.group)
        self.register_buffer("transition_CC", torch.eye(context.num_classes))
        self.register_buffer("label_M", context.label_N, persistent=False)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC, self.progress = network(batch.images_NHWC), batch.progress
        if self.progress >= self.start:
            return Outcome(forward_cross_entropy(logits_NC, batch.target, self.transition_CC).mean(), logits_NC)
        s_NC = logits_NC.float().softmax(dim=1)
        self.mean.write(batch.index_N, running_mean(self.mean.read(batch.index_N), s_NC, self.beta))
        return Outcome(cross_entropy(logits_NC, batch.target).mean(), logits_NC)

    def end_epoch(self, network: Classifier, batches: Iterable[Minibatch]) -> None:
        if self.progress < self.start:
            self.transition_CC = estimated_transition(self.mean.rows_M, self.label_M, self.rounds, self.strength)
