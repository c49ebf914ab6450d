"""Forward correction: a transition matrix says what becomes of the true label in the data; the network learns the rest.

    s    = softmax z                          what the network predicts
    m   <- beta m + (1 - beta) s              running mean of s of each sample, over the epochs, scaled to sum 1

until the share `start` of the run, with P from steps of EM after each epoch:

    r_k  ~ m_k P_ky                           true class of a sample, given its image and its label; sums to 1
    P_kc ~ 1 + sum of r_k over the samples with label c; rows sum to 1
    L    = mean CE(s, (1 - u) y + u r)        u grows from 0 to 1 between two shares of the run

after each of these epochs, too, from q = m, `rounds` times

    n_kc = number of samples with argmax q = k and the given label c
    T_kc = (n_kc + strength [k = c]) / (n_k + strength)       share of class k that is labelled c
    q    : the distribution for which q T is close to m, by steps of Richardson and Lucy

from then on, with the last T:

    p_c  = sum_k s_k T_kc                     the label that the data give
    L    = mean CE(p, y)

The last line is forward correction: Patrini et al., "Making Deep Neural Networks Robust to Label Noise", CVPR 2017,
arXiv 1609.03683. There T is read from the sample that is most surely of each class; here it is counted over all,
because people who label faces rarely err on the clearest ones. What the network predicts at first is near the
distribution of the labels, in which a true class is mixed with what it is taken for; so samples are sorted into true
classes again when a first T is known. T stays as it is then: a network that is trained with T agrees with T, right or
not.

Both losses have the same gradient, s - r, if s = m and P = T. So what is learnt of a label is the probability that it
is right, r_y. It is high where p_GT is well above its rivals and low where it is not, as the weight of NAW (arXiv
2502.09993) is, but with the confusions of these labels in it. P, by which r is found, takes few labels to be wrong, as
m has seen them; it removes what is surely wrong, and leaves the rest to T.

EM for labels with unknown errors: Dawid and Skene 1979, Applied Statistics 28(1), 20-28. Richardson 1972, J. Opt. Soc.
Am. 62(1), 55-59, and Lucy 1974, Astron. J. 79(6), 745-754: EM for a mixture of known distributions.

Legend: N samples, M of the training set, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome, SampleMemory
from nla.methods.plus import mixed_target, running_mean
from nla.models.classifier import Classifier

TINY = 1e-6
"""Least probability of a label in the logarithm, and least share of a class in a running mean."""
UNMIXING_STEPS = 3
"""Of Richardson and Lucy: later ones fit what is chance in m."""
EM_STEPS = 10
"""After an epoch; the next epoch's begin with their result."""
FIRST_DIAGONAL = 11.0
"""Weight of the own label over that of each other in the first P, as of samples that are mostly right."""
RAMP = (0.2, 0.6)
"""Shares of the run between which u grows from 0 to 1: m must have seen some epochs first."""


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
    for _ in range(UNMIXING_STEPS):
        q_MC = q_MC * ((p_MC / (q_MC @ transition_CC)) @ transition_CC.T)
    return q_MC / q_MC.sum(dim=1, keepdim=True)


def estimated_transition(mean_MC: Tensor, label_M: Tensor, rounds: int, strength: float) -> Tensor:
    """T, [C, C], in `rounds` rounds; the scaled means have no zeros."""
    q_MC, classes = mean_MC, mean_MC.shape[1]
    for _ in range(rounds):
        transition_CC = transition_matrix(q_MC.argmax(dim=1), label_M, classes, strength)
        q_MC = unmixed(mean_MC, transition_CC)
    return transition_CC


def scaled(mean_MC: Tensor) -> Tensor:
    """Running means, scaled to sum 1, without zeros."""
    mean_MC = mean_MC.clamp_min(TINY)
    return mean_MC / mean_MC.sum(dim=1, keepdim=True)


def true_class(mean_NC: Tensor, label_N: Tensor, share_CC: Tensor) -> Tensor:
    """r, [N, C], rows sum to 1: the true class, given the prediction and the label."""
    r_NC = mean_NC * share_CC[:, label_N].T
    return r_NC / r_NC.sum(dim=1, keepdim=True)


def expected_shares(mean_MC: Tensor, label_M: Tensor, share_CC: Tensor) -> Tensor:
    """P, [C, C] float32, rows sum to 1, by steps of EM that begin with `share_CC`; the scaled means have no zeros."""
    y_MC = F.one_hot(label_M, len(share_CC)).to(mean_MC.dtype)
    for _ in range(EM_STEPS):
        share_CC = true_class(mean_MC, label_M, share_CC).T @ y_MC + 1
        share_CC = share_CC / share_CC.sum(dim=1, keepdim=True)
    return share_CC


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
    share_CC: Tensor
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
        unchanged_CC = torch.eye(context.num_classes)
        self.register_buffer("transition_CC", unchanged_CC)
        first_CC = 1 + (FIRST_DIAGONAL - 1) * unchanged_CC
        self.register_buffer("share_CC", first_CC / first_CC.sum(dim=1, keepdim=True))
        self.register_buffer("label_M", context.label_N, persistent=False)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC, self.progress = network(batch.images_NHWC), batch.progress
        if self.progress >= self.start:
            return Outcome(forward_cross_entropy(logits_NC, batch.target, self.transition_CC).mean(), logits_NC)
        s_NC = logits_NC.float().softmax(dim=1)
        memory_NC = running_mean(self.mean.read(batch.index_N), s_NC, self.beta)
        self.mean.write(batch.index_N, memory_NC)
        r_NC = true_class(scaled(memory_NC), self.label_M[batch.index_N], self.share_CC)
        trusted_N = r_NC.new_full((len(r_NC),), min(max((self.progress - RAMP[0]) / (RAMP[1] - RAMP[0]), 0.0), 1.0))
        return Outcome(cross_entropy(logits_NC, mixed_target(batch.target, r_NC, trusted_N)).mean(), logits_NC)

    def end_epoch(self, network: Classifier, batches: Iterable[Minibatch]) -> None:
        if self.progress >= self.start:
            return
        with torch.autocast(self.mean.rows_M.device.type, enabled=False):  # sums over samples exceed bfloat16
            seen_M = self.mean.rows_M.any(dim=1)
            mean_MC, label_M = scaled(self.mean.rows_M[seen_M]), self.label_M[seen_M]
            self.share_CC = expected_shares(mean_MC, label_M, self.share_CC)
            self.transition_CC = estimated_transition(mean_MC, label_M, self.rounds, self.strength)
