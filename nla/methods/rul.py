"""RUL: learns each sample's uncertainty from mixed features, which must show the classes of both samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nla.errors import TrainingError
from nla.losses.rul import add_up, mixed
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier


class RelativeUncertainty(Method):
    """Relative Uncertainty Learning, NeurIPS 2021; the uncertainty is used in training only.

    Of the paper, only the abstract could be checked; the rest is what the authors' public code computes: sigma is the
    mean over `dimensions` of exp(BatchNorm(linear layer)), the partners are a random permutation of the batch, and the
    terms of the add-up loss weigh 1/2 each. The difference: their features are from a layer of 64 after the network,
    with dropout, and their uncertainty is computed from the maps before pooling; here both are computed from the pooled
    features, so that the network is the same for all methods. Each worker mixes and normalises within its part of the
    batch, which must have at least two samples.

    Args:
        context: the training that the method is used in.
        dimensions: size of the uncertainty before its mean is taken, at least 1.
    """

    looks_inside = True

    def __init__(self, context: Context, *, dimensions: int = 64) -> None:
        super().__init__()
        if dimensions < 1:
            raise ValueError(f"rul needs dimensions of at least 1, not {dimensions}")
        features = context.build().resnet.fc.in_features
        # No running statistics: the uncertainty is not used after training. The bias is in BatchNorm.
        norm = nn.BatchNorm1d(dimensions, track_running_stats=False)
        self.uncertainty = nn.Sequential(nn.Linear(features, dimensions, bias=False), norm)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        if len(batch.index_N) < 2:
            raise TrainingError("rul mixes two samples: raise train.batch_size to two per worker at least")
        features_ND = network.maps(batch.images_NHWC).mean(dim=(2, 3))
        partner_N = torch.randperm(len(features_ND), device=features_ND.device)
        mixed_ND = mixed(features_ND, self._log_sigma(features_ND), partner_N)
        loss = add_up(network.resnet.classify(mixed_ND), batch.target, partner_N)
        with torch.no_grad():
            return Outcome(loss, network.resnet.classify(features_ND))

    def _log_sigma(self, features_ND: Tensor) -> Tensor:
        """Returns the log of the sum of the exponentials, [N]; the constant factor of a mean cancels in the mixture."""
        return self.uncertainty(features_ND).float().logsumexp(dim=1)
