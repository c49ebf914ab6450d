"""All metrics of a set of predictions, as one JSON-able dict.

Legend: N samples, C classes; p_NC probabilities. Proportions are in [0, 1], entropies in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nla.config.evaluate import EvaluateConfig
from nla.errors import DataError, WeightsError
from nla.evaluation import counts
from nla.evaluation.agreement import agreement
from nla.evaluation.calibration import gaps, reliability
from nla.evaluation.intervals import bootstrap, percentiles, reflected, resampled_means, wilson
from nla.evaluation.uncertainty import label_probability, log

HEADLINES = {"accuracy": counts.accuracy, "mean_accuracy": counts.mean_accuracy, "macro_f1": counts.macro_f1}
TOLERANCE = 1e-3  # on a row's sum; averaging two views in float32 errs by 1e-7, half precision by 5e-4


def measure(
    p_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    config: EvaluateConfig,
    votes_NC: np.ndarray | None = None,
    posterior_NC: np.ndarray | None = None,
) -> dict[str, Any]:
    """Metrics of one split; NAME_low and NAME_high are the 95 % bootstrap interval of NAME.

    Means over classes skip classes without samples, which are listed under `absent`. `votes` is included if `votes_NC`
    (annotators' distributions; rows can be NaN) has any row; `bayes_accuracy` and `bayes_ratio` if `posterior_NC`, the
    true P(class | image), has any.

    Raises:
        DataError: the split is empty, or a label is not a class.
        WeightsError: p_NC are not probabilities.
    """
    _check(p_NC, label_N, classes)
    counts_CC = counts.confusion(label_N, p_NC.argmax(axis=1), len(classes))
    report: dict[str, Any] = {"rows": len(label_N), **headlines(counts_CC, config)}
    report |= probabilistic(p_NC, label_N, config)
    if posterior_NC is not None:
        report |= _against_bayes(p_NC, label_N, posterior_NC)
    if votes_NC is not None and (votes := agreement(p_NC, votes_NC)):
        report["votes"] = votes
    report["classes"] = per_class(counts_CC, classes)
    report["absent"] = [name for name in classes if name not in report["classes"]]
    return report


def headlines(counts_CC: np.ndarray, config: EvaluateConfig) -> dict[str, float]:
    """Accuracy, mean accuracy and macro-F1, each with its interval."""
    intervals = bootstrap(counts_CC, HEADLINES, config.bootstrap, config.seed)
    report: dict[str, float] = {}
    for name, statistic in HEADLINES.items():
        report[name] = float(statistic(counts_CC))
        report[f"{name}_low"], report[f"{name}_high"] = intervals[name]
    return report


def in_words(report: Mapping[str, Any]) -> str:
    """The headline metrics, in one line for the console."""
    interval = f"95 % interval {report['accuracy_low']:.2%} to {report['accuracy_high']:.2%}"
    means = f"mean {report['mean_accuracy']:.2%}, macro-F1 {report['macro_f1']:.4f}"
    return f"accuracy {report['accuracy']:.2%} ({interval}), {means}"


def per_class(counts_CC: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float | int]]:
    """Recall (with its Wilson 95 % interval), precision, F1 and support by class name, of classes that have samples."""
    recall, precision, f1 = counts.recall(counts_CC), counts.precision(counts_CC), counts.f1(counts_CC)
    report: dict[str, dict[str, float | int]] = {}
    for c, (name, support) in enumerate(zip(classes, counts.support(counts_CC).tolist(), strict=True)):
        if not support:
            continue
        low, high = wilson(int(counts_CC[c, c]), support)
        report[name] = {
            "recall": float(recall[c]),
            "recall_low": low,
            "recall_high": high,
            "precision": float(precision[c]),
            "f1": float(f1[c]),
            "support": support,
        }
    return report


def probabilistic(p_NC: np.ndarray, label_N: np.ndarray, config: EvaluateConfig) -> dict[str, float]:
    """NLL and ECE, each with its interval. A probability of exactly 0 costs 87 nats."""
    nll_N = -log(label_probability(p_NC, label_N))
    value_NK = np.column_stack([nll_N, gaps(p_NC, label_N, config.bins)])
    nll_R, *gap_BR = resampled_means(value_NK, config.bootstrap, config.seed).T
    nll, ece = float(nll_N.mean()), reliability(p_NC, label_N, config.bins).ece
    nll_low, nll_high = percentiles(nll_R)
    ece_low, ece_high = reflected(np.abs(gap_BR).sum(axis=0), ece)
    return {"nll": nll, "nll_low": nll_low, "nll_high": nll_high, "ece": ece, "ece_low": ece_low, "ece_high": ece_high}


def bayes_accuracy(posterior_NC: np.ndarray, label_N: np.ndarray) -> float:
    """Accuracy of predicting from the true P(class | image): the highest that a model can be expected to reach."""
    return float((posterior_NC.argmax(axis=1) == label_N).mean())


def _against_bayes(p_NC: np.ndarray, label_N: np.ndarray, posterior_NC: np.ndarray) -> dict[str, float]:
    known_N = ~np.isnan(posterior_NC).any(axis=1)
    if not known_N.any():
        return {}
    best = bayes_accuracy(posterior_NC[known_N], label_N[known_N])
    accuracy = float((p_NC.argmax(axis=1) == label_N)[known_N].mean())
    return {"bayes_accuracy": best, "bayes_ratio": accuracy / best} if best else {"bayes_accuracy": best}


def _check(p_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]) -> None:
    if len(label_N) == 0:
        raise DataError(
            "there is nothing to measure: the split has no rows; run `dvc repro prepare` and see its report"
        )
    if p_NC.shape != (len(label_N), len(classes)):
        raise ValueError(f"{len(label_N)} labels of {len(classes)} classes do not fit probabilities {p_NC.shape}")
    if not np.isfinite(p_NC).all() or p_NC.min() < 0 or np.abs(p_NC.sum(axis=1) - 1).max() > TOLERANCE:
        raise WeightsError("the model's outputs are no probabilities (not finite, or not summing to 1): train it again")
