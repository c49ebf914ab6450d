"""Relative Uncertainty Learning (RUL): mixes the features of two samples by how uncertain each is.

    mu = (sigma_i mu_i + sigma_j mu_j) / (sigma_i + sigma_j)       mixed feature of the samples i and j
    L  = mean of (CE(z(mu), y_i) + CE(z(mu), y_j)) / 2             add-up loss

The mixture shows both classes only if the sample that is harder to recognise has more weight: sigma is learnt by that.

Zhang et al., "Relative Uncertainty Learning for Facial Expression Recognition", NeurIPS 2021.

Legend: N samples, D features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nla.errors import TrainingError
from nla.losses.functional import cross_entropy, require
from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier

MOST = 65_536
"""Largest `dimensions`, a thousand times the published one: weights of 130 MB after 512 features."""


def mixed(features_ND: Tensor, log_sigma_N: Tensor, partner_N: Tensor) -> Tensor:
    """Mixed features of each sample and its partner, [N, D]; `partner_N` are rows of the batch.

    sigma_i / (sigma_i + sigma_j) is the sigmoid of log sigma_i - log sigma_j, which does not overflow.
    """
    share_N1 = (log_sigma_N - log_sigma_N[partner_N]).sigmoid()[:, None]
    return share_N1 * features_ND + (1 - share_N1) * features_ND[partner_N]


def add_up(logits_NC: Tensor, target: Tensor, partner_N: Tensor) -> Tensor:
    """Add-up loss of the logits of mixed features, a float32 scalar."""
    return ((cross_entropy(logits_NC, target) + cross_entropy(logits_NC, target[partner_N])) / 2).mean()


class RelativeUncertainty(Method):
    """Relative Uncertainty Learning, NeurIPS 2021; the uncertainty is used in training only.

    Of the paper, only the abstract could be checked; the rest is what the authors' public code computes: sigma is the
    mean over `dimensions` of exp(BatchNorm(linear layer)), the partners are a random permutation of the batch, and the
    terms of the add-up loss weigh 1/2 each. The difference: their features are from a layer of 64 after the network,
    with dropout, and their uncertainty is computed from the maps before pooling; here both are computed from the pooled
    features, so that the network is the same for all methods. Each worker mixes and normalises within its part of the
    batch, which must have at least two samples.

    Args:
        context: the run that the method is part of.
        dimensions: size of the uncertainty before its mean is taken, 1 to 65,536.

    Raises:
        ValueError: dimensions is out of its range.
    """

    needs_feature_maps = True

    def __init__(self, context: Context, *, dimensions: int = 64) -> None:
        super().__init__()
        require(1 <= dimensions <= MOST, "dimensions", dimensions, f"from 1 to {MOST}")
        features = context.build().feature_backbone.fc.in_features
        # No running statistics: the uncertainty is not used after training. The bias is in BatchNorm.
        norm = nn.BatchNorm1d(dimensions, track_running_stats=False)
        self.uncertainty = nn.Sequential(nn.Linear(features, dimensions, bias=False), norm)

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        if len(batch.index_N) < 2:
            raise TrainingError(
                f"train.batch_size: rul mixes two samples of each worker's batch (got {len(batch.index_N)}). "
                "Use at least 2 per worker."
            )
        features_ND = network.maps(batch.images_NHWC).mean(dim=(2, 3))
        partner_N = torch.randperm(len(features_ND), device=features_ND.device)
        mixed_ND = mixed(features_ND, self._log_sigma(features_ND), partner_N)
        loss = add_up(network.feature_backbone.classify(mixed_ND), batch.target, partner_N)
        with torch.no_grad():
            return Outcome(loss, network.feature_backbone.classify(features_ND))

    def _log_sigma(self, features_ND: Tensor) -> Tensor:
        """Returns the log of the sum of the exponentials, [N]; the constant factor of a mean cancels in the mixture."""
        log_sum_N: Tensor = self.uncertainty(features_ND).float().logsumexp(dim=1)
        return log_sum_N
