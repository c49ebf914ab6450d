"""Validation while training: every sample counted once, on any number of workers."""

from __future__ import annotations

import numpy as np
import torch

from nla.data.samples import Samples
from nla.evaluation.counts import accuracy, confusion, mean_accuracy
from nla.evaluation.predict import ONE_VIEW, predict
from nla.evaluation.uncertainty import label_probability, log
from nla.models.classifier import Classifier
from nla.training.workers import Workers


def validate(model: Classifier, samples: Samples, workers: Workers, bf16: bool) -> dict[str, float]:
    """Accuracy, mean (class-balanced) accuracy and NLL over `samples`, the same on every worker."""
    label_N = samples.label_N[workers.rank :: workers.size]
    p_NC = predict(model, samples.images_NHWC[workers.rank :: workers.size], ONE_VIEW, bf16=bf16)
    classes = p_NC.shape[1]
    nll = -log(label_probability(p_NC, label_N)).sum()
    ours = np.append(confusion(label_N, p_NC.argmax(1), classes).ravel(), nll)
    total = workers.total(torch.from_numpy(ours).to(workers.device)).cpu().numpy()
    counts_CC = total[:-1].reshape(classes, classes)
    return {
        "valid_accuracy": float(accuracy(counts_CC)),
        "valid_mean_accuracy": float(mean_accuracy(counts_CC)),
        "valid_nll": float(total[-1] / counts_CC.sum()),
    }
