"""Validation while training: every sample counted once, on any number of workers."""

from __future__ import annotations

import numpy as np
import torch

from nla.data.loader import Samples
from nla.evaluation.predict import predict
from nla.models.classifier import Classifier
from nla.training.workers import Workers

TINY = 1e-12  # smallest probability that NLL sees


def validate(model: Classifier, samples: Samples, workers: Workers, bf16: bool) -> dict[str, float]:
    """Accuracy, mean (class-balanced) accuracy and NLL over `samples`, the same on every worker."""
    label_N = samples.label_N[workers.rank :: workers.size]
    p_NC = predict(model, samples.images_NHWC[workers.rank :: workers.size], mirror=False, bf16=bf16)
    classes = p_NC.shape[1]
    hits = np.bincount(label_N[p_NC.argmax(1) == label_N], minlength=classes)
    nll = -np.log(p_NC[np.arange(len(label_N)), label_N].clip(TINY)).sum(dtype=np.float64)
    counts = torch.from_numpy(np.concatenate([hits, np.bincount(label_N, minlength=classes), [nll]])).double()
    total = workers.total(counts.to(workers.device)).cpu().numpy()
    hits_C, rows_C = total[:classes], total[classes:-1]
    return {
        "valid_accuracy": float(hits_C.sum() / rows_C.sum()),
        "valid_mean_accuracy": float((hits_C[rows_C > 0] / rows_C[rows_C > 0]).mean()),
        "valid_nll": float(total[-1] / rows_C.sum()),
    }
