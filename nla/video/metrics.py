"""Metrics of frames, pooled over all annotated frames of a split, with intervals over its videos.

Frames of a video are alike, so that resampling frames would state far too narrow intervals: videos are resampled.

Legend: V videos, T frames of a video, C classes, R resamples; counts[actual, predicted].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nla.config.evaluate import EvaluateConfig
from nla.errors import DataError
from nla.evaluation.confusion import confusion
from nla.evaluation.metrics import MAIN_METRICS, bayes_accuracy, per_class
from nla.evaluation.significance import percentiles
from nla.video.frames import NO_LABEL
from nla.video.sequences import Sequences

SEQUENCE = "sequence"
"""Name of the sequence model among the methods of a report."""


def video_counts(sequences: Sequences, p: Sequence[np.ndarray]) -> np.ndarray:
    """Confusion matrix of the annotated frames of each video, [V, C, C], given probabilities [T, C] of each video."""
    counts = []
    for video, p_TC in zip(sequences.videos, p, strict=True):
        own = video.clean_T != NO_LABEL
        counts.append(confusion(video.clean_T[own], p_TC[own].argmax(1), len(sequences.classes)))
    return np.stack(counts)


def resampled_counts(counts_VCC: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Pooled counts of V videos drawn with replacement, [R, C, C]."""
    videos = len(counts_VCC)
    times_RV = np.random.default_rng(seed).multinomial(videos, np.full(videos, 1 / videos), size=resamples)
    pooled: np.ndarray = np.einsum("rv,vij->rij", times_RV, counts_VCC)
    return pooled


def measure_videos(
    sequences: Sequences, p: Mapping[str, Sequence[np.ndarray]], config: EvaluateConfig, reference: str
) -> dict[str, Any]:
    """The report of a split: each method's metrics with 95 % intervals, and its differences from `reference`.

    Args:
        sequences: the split.
        p: method -> probabilities [T, C] of each video.
        config: number of resamples, and their seed; all methods are compared on the same ones.
        reference: the method that all others are compared with.

    Raises:
        DataError: no frame is annotated.
    """
    counts = {name: video_counts(sequences, values) for name, values in p.items()}
    annotated = int(counts[reference].sum())
    if not annotated:
        raise DataError("there is nothing to measure: no frame of the split is annotated. Check its labels.")
    drawn = {name: resampled_counts(each, config.bootstrap, config.seed) for name, each in counts.items()}
    report: dict[str, Any] = {
        "videos": len(sequences.videos),
        "frames": sequences.frames,
        "annotated": annotated,
        "methods": {},
        **bayes(sequences),
    }
    for name in p:
        report["methods"][name] = _main(counts[name].sum(0), drawn[name])
        report["methods"][name]["classes"] = per_class(counts[name].sum(0), sequences.classes)
        if name != reference:
            report["methods"][name][f"minus_{reference}"] = _difference(
                counts[name].sum(0), counts[reference].sum(0), drawn[name], drawn[reference]
            )
    return report


def headlines(metrics: Mapping[str, Any]) -> dict[str, float]:
    """SPLIT.METHOD.METRIC of all methods, and the Bayes accuracy, from the reports of both splits."""
    found: dict[str, float] = {}
    for split in ("valid", "test"):
        for name, report in metrics[split]["methods"].items():
            found |= {f"{split}.{name}.{metric}": report[metric] for metric in MAIN_METRICS}
        if "bayes_accuracy" in metrics[split]:
            found[f"{split}.bayes_accuracy"] = metrics[split]["bayes_accuracy"]
    return found


def bayes(sequences: Sequences) -> dict[str, float]:
    """Accuracy of the true posterior on annotated frames, which bounds that of all models; {} if it is unknown."""
    if any(video.posterior_TC is None for video in sequences.videos):
        return {}
    posterior_NC = np.concatenate([np.asarray(video.posterior_TC) for video in sequences.videos])
    label_N = np.concatenate([video.clean_T for video in sequences.videos])
    own = (label_N != NO_LABEL) & ~np.isnan(posterior_NC).any(1)
    return {"bayes_accuracy": bayes_accuracy(posterior_NC[own], label_N[own])} if own.any() else {}


def _main(counts_CC: np.ndarray, drawn_RCC: np.ndarray) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for name, statistic in MAIN_METRICS.items():
        report[name] = float(statistic(counts_CC))
        report[f"{name}_low"], report[f"{name}_high"] = percentiles(statistic(drawn_RCC))
    return report


def _difference(
    one_CC: np.ndarray, other_CC: np.ndarray, one_RCC: np.ndarray, other_RCC: np.ndarray
) -> dict[str, float]:
    """Differences of two methods on the same videos, paired: both are measured on each resample."""
    report: dict[str, float] = {}
    for name, statistic in MAIN_METRICS.items():
        report[name] = float(statistic(one_CC)) - float(statistic(other_CC))
        report[f"{name}_low"], report[f"{name}_high"] = percentiles(statistic(one_RCC) - statistic(other_RCC))
    return report
