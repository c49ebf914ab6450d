"""Co-teaching: two networks that select samples for each other."""

from __future__ import annotations

from torch import Tensor, nn

from nla.errors import ConfigError
from nla.losses.co_teaching import kept_samples, mean_of_kept, surprise
from nla.losses.selection import places
from nla.losses.targets import cross_entropy
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier


class CoTeaching(Method):
    """Co-teaching, arXiv 1804.06872: trains two networks, in twice the time, and keeps the first.

    The paper has an optimiser for each network; here one optimiser minimises the sum of their losses, which is
    equivalent except for gradient clipping. Small losses are selected in the global batch, whatever the number of
    workers.

    Args:
        context: the training that the method is used in.
        forget_rate: tau, the final share of a batch that is left out, in [0, 1). The paper sets it to the rate of wrong
            labels, which is seldom known; .2 is the lowest rate in its experiments.
        ramp: T_k / T_max, the share of the training over which the left-out share grows from 0; in (0, 1].
    """

    def __init__(self, context: Context, *, forget_rate: float = 0.2, ramp: float = 0.05) -> None:
        super().__init__()
        if not (0 <= forget_rate < 1 and 0 < ramp <= 1):
            raise ValueError(
                f"co_teaching needs forget_rate in [0, 1) and ramp in (0, 1], not {forget_rate} and {ramp}"
            )
        self.forget_rate, self.ramp = forget_rate, ramp
        self.group = context.group
        self.peer = context.build()
        _restart_classifier(self.peer)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        own_N = cross_entropy(logits_NC, batch.target)
        peer_N = cross_entropy(self.peer(batch.images_NHWC), batch.target)
        loss = self._taught(own_N, peer_N, batch) + self._taught(peer_N, own_N, batch)
        return Outcome(loss, logits_NC)

    def _taught(self, pupil_N: Tensor, teacher_N: Tensor, batch: Minibatch) -> Tensor:
        """Returns the pupil's mean loss over the samples that have the smallest losses for the teacher."""
        teacher_N, index_G = surprise(teacher_N.detach(), batch.target), self.group.gather(batch.index_N)
        place_N = places(teacher_N, batch.index_N, self.group.gather(teacher_N), index_G)
        kept = kept_samples(len(index_G), batch.progress, self.forget_rate, self.ramp)
        return mean_of_kept(pupil_N, place_N, kept, self.group.size)


def _restart_classifier(network: Classifier) -> None:
    """Reinitialises the last layer: with the same pretrained weights, the two networks would never differ."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise ConfigError("model.name: co_teaching starts a last linear layer anew, which this network has not")
    layers[-1].reset_parameters()
