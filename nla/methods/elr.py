"""ELR: cross-entropy, regularised by a memory of the predictions for each sample."""

from __future__ import annotations

import torch

from nla.losses.elr import early_learning, remember
from nla.losses.targets import cross_entropy
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.methods.memory import SampleMemory
from nla.models.classifier import Classifier


class EarlyLearning(Method):
    """Early-Learning Regularisation, arXiv 2007.00151; the defaults are the authors' for ten classes (CIFAR-10).

    Args:
        context: the training that the method is used in.
        lam: weight of the regulariser.
        beta: momentum of the memory, in [0, 1).
    """

    def __init__(self, context: Context, *, lam: float = 3.0, beta: float = 0.7) -> None:
        super().__init__()
        if not (lam >= 0 and 0 <= beta < 1):
            raise ValueError(f"elr needs lam >= 0 and beta in [0, 1), not {lam} and {beta}")
        self.lam, self.beta = lam, beta
        self.mean = SampleMemory(torch.zeros(len(context.label_N), context.num_classes), context.group)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        memory_NC = remember(self.mean.read(batch.index_N), logits_NC, self.beta)
        self.mean.write(batch.index_N, memory_NC)
        loss = cross_entropy(logits_NC, batch.target).mean() + self.lam * early_learning(logits_NC, memory_NC)
        return Outcome(loss, logits_NC)
