"""A training method of your own, outside of the package, compared with cross-entropy under synthetic label noise.

    python examples/own_method.py

A loss of logits and labels alone needs no method: pass the module, as in fit(..., loss=MyLoss()).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from nla import fit
from nla.data.sources.synthetic import CLASSES, make_faces
from nla.losses.functional import cross_entropy
from nla.methods import Context, Method, Minibatch, Outcome
from nla.models.classifier import Classifier

NOISE = 0.4
"""Fraction of the training labels that are replaced by a random class."""


class SoftBootstrapping(Method):
    """Cross-entropy against a mix of the label and the prediction (Reed et al. 2015, arXiv 1412.6596).

    Args:
        context: the run; a method can read the class counts there, or build further networks.
        beta: share of the label in the target after warm-up.
        warm_up: part of the run, in [0, 1], in which only the label counts.
    """

    def __init__(self, context: Context, *, beta: float = 0.95, warm_up: float = 0.2) -> None:
        super().__init__()
        self.beta, self.warm_up = beta, warm_up

    def forward(self, network: Classifier, batch: Minibatch) -> Outcome:
        logits_NC = network(batch.images_NHWC)
        loss_N = cross_entropy(logits_NC, batch.target)
        if batch.progress >= self.warm_up:
            prediction_NC = logits_NC.detach().float().softmax(dim=1)
            loss_N = self.beta * loss_N + (1 - self.beta) * cross_entropy(logits_NC, prediction_NC)
        return Outcome(loss_N.mean(), logits_NC)


def main(faces: int = 1000, epochs: int = 4) -> dict[str, float]:
    """Trains with both losses on the same noisy labels; returns their best accuracies on clean ones."""
    images, label_N = make_faces(faces, seed=0)
    rng = np.random.default_rng(0)
    noisy_N = np.where(rng.random(faces) < NOISE, rng.integers(len(CLASSES), size=faces), label_N)
    accuracy = {}
    for name, loss in {"ce": "ce", "bootstrapping": partial(SoftBootstrapping, beta=0.8)}.items():
        result = fit(
            (images, noisy_N),
            make_faces(400, seed=1),
            classes=CLASSES,
            loss=loss,
            epochs=epochs,
            batch_size=50,
            params={"model": {"width": 8}},
            progress=False,
        )
        accuracy[name] = max(row["valid_accuracy"] for row in result.history)
        print(f"{name}: {accuracy[name]:.1%} of the clean labels, n = 1")
    return accuracy


if __name__ == "__main__":
    main()
