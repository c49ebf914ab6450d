"""The metrics of an epoch on the validation split, which choose the epoch and compare trials."""

from __future__ import annotations

import numpy as np
import torch

from nla.data.samples import Samples
from nla.evaluation.confusion import accuracy, confusion, macro_f1, mean_accuracy
from nla.evaluation.predict import ONE_VIEW, predict
from nla.evaluation.uncertainty import label_probability, log
from nla.models.classifier import Classifier
from nla.training.process_group import ProcessGroup


def validation_metrics(network: Classifier, samples: Samples, group: ProcessGroup, bf16: bool) -> dict[str, float]:
    """Accuracy, mean class accuracy, macro-F1 and NLL; each sample counts once, on any number of processes."""
    label_N = samples.label_N[group.rank :: group.size]
    p_NC = predict(network, samples.images_NHWC[group.rank :: group.size], ONE_VIEW, bf16=bf16)
    classes = p_NC.shape[1]
    nll = -log(label_probability(p_NC, label_N)).sum()
    local = np.append(confusion(label_N, p_NC.argmax(1), classes).ravel(), nll)
    total = group.sum(torch.from_numpy(local).to(group.device)).cpu().numpy()
    counts_CC = total[:-1].reshape(classes, classes)
    return {
        "valid_accuracy": float(accuracy(counts_CC)),
        "valid_mean_accuracy": float(mean_accuracy(counts_CC)),
        "valid_macro_f1": float(macro_f1(counts_CC)),
        "valid_nll": float(total[-1] / counts_CC.sum()),
    }
