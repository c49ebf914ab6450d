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


def validation_metrics(
    network: Classifier, samples: Samples, group: ProcessGroup, bf16: bool, clean_N: np.ndarray | None = None
) -> dict[str, float]:
    """Accuracy, mean class accuracy, macro-F1 and NLL; each sample counts once, on any number of processes.

    Named valid_METRIC by the samples' labels and, if the clean labels [N] are given, also clean_METRIC by these.
    """
    p_NC = predict(network, samples.images_NHWC[group.rank :: group.size], ONE_VIEW, bf16=bf16)
    metrics = split_metrics("valid", p_NC, samples.label_N[group.rank :: group.size], group)
    return (
        metrics if clean_N is None else metrics | split_metrics("clean", p_NC, clean_N[group.rank :: group.size], group)
    )


def split_metrics(name: str, p_NC: np.ndarray, label_N: np.ndarray, group: ProcessGroup) -> dict[str, float]:
    """NAME_METRIC of all processes' samples; `p_NC` and `label_N` are those of this one."""
    classes = p_NC.shape[1]
    nll = -log(label_probability(p_NC, label_N)).sum()
    local = np.append(confusion(label_N, p_NC.argmax(1), classes).ravel(), nll)
    total = group.sum(torch.from_numpy(local).to(group.device)).cpu().numpy()
    counts_CC = total[:-1].reshape(classes, classes)
    return {
        f"{name}_accuracy": float(accuracy(counts_CC)),
        f"{name}_mean_accuracy": float(mean_accuracy(counts_CC)),
        f"{name}_macro_f1": float(macro_f1(counts_CC)),
        f"{name}_nll": float(total[-1] / counts_CC.sum()),
    }
