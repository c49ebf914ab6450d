"""Metrics of a classifier, and the report of a split.

- From a confusion matrix (nla.evaluation.confusion): accuracy, mean class accuracy and macro-F1 with confidence
  intervals, overall and per class.
- From probabilities: NLL, expected calibration error and the area under risk and coverage, as they are and calibrated;
  the agreement with the annotators' votes; the Bayes accuracy.
- `measure`: all of them for one split, as a JSON-serializable dict.

Proportions are in [0, 1], entropies in nats.

Legend: N samples, C classes; counts_CC[actual, predicted] a confusion matrix; p_NC probabilities; votes_NC
distributions of the annotators' votes, with a row of NaN for a sample without votes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nla.config.evaluate import EvaluateConfig
from nla.errors import DataError, WeightsError
from nla.evaluation.calibration import gaps, reliability
from nla.evaluation.confusion import accuracy, confusion, f1, macro_f1, mean_accuracy, precision, recall, support
from nla.evaluation.risk_coverage import selective
from nla.evaluation.significance import bootstrap, percentiles, reflected, resampled_means, wilson
from nla.evaluation.uncertainty import ambiguity, entropy, label_probability, log
from nla.models.calibration import Calibration

TOLERANCE = 1e-3
"""Allowed deviation of a row sum from 1; averaging two views in float32 errs by 1e-7, half precision by 5e-4."""


MAIN_METRICS = {"accuracy": accuracy, "mean_accuracy": mean_accuracy, "macro_f1": macro_f1}


def main_metrics(counts_CC: np.ndarray, config: EvaluateConfig) -> dict[str, float]:
    """Accuracy, mean class accuracy and macro-F1, each with its 95 % CI."""
    intervals = bootstrap(counts_CC, MAIN_METRICS, config.bootstrap, config.seed)
    report: dict[str, float] = {}
    for name, statistic in MAIN_METRICS.items():
        report[name] = float(statistic(counts_CC))
        report[f"{name}_low"], report[f"{name}_high"] = intervals[name]
    return report


def summary(report: Mapping[str, Any]) -> str:
    """The main metrics of a report of `measure`, in one line for the console."""
    interval = f"95 % CI {report['accuracy_low']:.2%} to {report['accuracy_high']:.2%}"
    means = f"mean class accuracy {report['mean_accuracy']:.2%}, macro-F1 {report['macro_f1']:.4f}"
    return f"accuracy {report['accuracy']:.2%} ({interval}), {means}"


def per_class(counts_CC: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, float | int]]:
    """Recall (with its Wilson 95 % CI), precision, F1 and support by class name, for classes with samples."""
    recall_C, precision_C, f1_C = recall(counts_CC), precision(counts_CC), f1(counts_CC)
    report: dict[str, dict[str, float | int]] = {}
    for c, (name, rows) in enumerate(zip(classes, support(counts_CC).tolist(), strict=True)):
        if not rows:
            continue
        low, high = wilson(int(counts_CC[c, c]), rows)
        report[name] = {
            "recall": float(recall_C[c]),
            "recall_low": low,
            "recall_high": high,
            "precision": float(precision_C[c]),
            "f1": float(f1_C[c]),
            "support": rows,
        }
    return report


def probabilistic(p_NC: np.ndarray, label_N: np.ndarray, config: EvaluateConfig) -> dict[str, float]:
    """NLL and ECE, each with its 95 % CI. Probabilities are clipped, so a zero contributes 87 nats."""
    nll_N = -log(label_probability(p_NC, label_N))
    value_NK = np.column_stack([nll_N, gaps(p_NC, label_N, config.bins)])
    nll_R, *gap_BR = resampled_means(value_NK, config.bootstrap, config.seed).T
    nll, ece = float(nll_N.mean()), reliability(p_NC, label_N, config.bins).ece
    nll_low, nll_high = percentiles(nll_R)
    ece_low, ece_high = reflected(np.abs(gap_BR).sum(axis=0), ece)
    return {"nll": nll, "nll_low": nll_low, "nll_high": nll_high, "ece": ece, "ece_low": ece_low, "ece_high": ece_high}


def agreement(p_NC: np.ndarray, votes_NC: np.ndarray) -> dict[str, float | int | None]:
    """Agreement over the rows that have votes, in nats and proportions; {} if no row has votes.

    `vote_share` is the mean share of votes for the predicted class, `vote_share_possible` the maximum attainable. The
    correlations are Spearman's, of the predictions' entropy and of their ambiguity with the entropy of the votes; None
    if one side is constant.
    """
    voted_N = ~np.isnan(votes_NC).any(axis=1)
    if not voted_N.any():
        return {}
    p, votes = np.asarray(p_NC[voted_N], np.float64), np.asarray(votes_NC[voted_N], np.float64)
    vote_entropy_N = entropy(votes)
    cross_entropy = float(-(votes * log(p)).sum(axis=1).mean())
    return {
        "rows": len(p),
        "cross_entropy": cross_entropy,
        "kl_divergence": cross_entropy - float(vote_entropy_N.mean()),
        "vote_share": float(votes[np.arange(len(p)), p.argmax(axis=1)].mean()),
        "vote_share_possible": float(votes.max(axis=1).mean()),
        "entropy_correlation": spearman(entropy(p), vote_entropy_N),
        "ambiguity_correlation": spearman(ambiguity(p), vote_entropy_N),
    }


def spearman(a_N: np.ndarray, b_N: np.ndarray) -> float | None:
    """Spearman's rank correlation, in [-1, 1], with mean ranks for ties; None if one side is constant."""
    from scipy.stats import spearmanr  # takes a second to import, needed only for data with votes

    if np.ptp(a_N) == 0 or np.ptp(b_N) == 0:
        return None
    return float(spearmanr(a_N, b_N).statistic)


def bayes_accuracy(posterior_NC: np.ndarray, label_N: np.ndarray) -> float:
    """Accuracy of predicting from the true P(class | image): an upper bound in expectation."""
    return float((posterior_NC.argmax(axis=1) == label_N).mean())


def _bayes_reference(p_NC: np.ndarray, label_N: np.ndarray, posterior_NC: np.ndarray) -> dict[str, float]:
    known_N = ~np.isnan(posterior_NC).any(axis=1)
    if not known_N.any():
        return {}
    best = bayes_accuracy(posterior_NC[known_N], label_N[known_N])
    accuracy = float((p_NC.argmax(axis=1) == label_N)[known_N].mean())
    return {"bayes_accuracy": best, "bayes_ratio": accuracy / best} if best else {"bayes_accuracy": best}


def measure(
    p_NC: np.ndarray,
    label_N: np.ndarray,
    classes: Sequence[str],
    config: EvaluateConfig,
    votes_NC: np.ndarray | None = None,
    posterior_NC: np.ndarray | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """Metrics of one split; NAME_low and NAME_high are the 95 % bootstrap CI of NAME.

    Means over classes skip classes without samples, which are listed under `absent`; macro-F1 counts those of them that
    are predicted, with 0. `votes` is included if `votes_NC` (annotators' distributions) has any non-NaN row;
    `bayes_accuracy` and `bayes_ratio` if `posterior_NC`, the true P(class | image), has any; `calibrated` with NLL, ECE
    and AURC after `calibration`, if it is given. All else is of p_NC as they are.

    Raises:
        DataError: the split is empty, or a label is not a class.
        WeightsError: p_NC are not probabilities.
    """
    _check(p_NC, label_N, classes)
    counts_CC = confusion(label_N, p_NC.argmax(axis=1), len(classes))
    report: dict[str, Any] = {"rows": len(label_N), **main_metrics(counts_CC, config)}
    report |= probabilistic(p_NC, label_N, config) | {"aurc": selective(p_NC, p_NC, label_N).aurc}
    if calibration is not None:
        calibrated_NC = calibration.of_array(np.asarray(p_NC, np.float64))
        report["calibrated"] = probabilistic(calibrated_NC, label_N, config)
        report["calibrated"]["aurc"] = selective(p_NC, calibrated_NC, label_N).aurc
    if posterior_NC is not None:
        report |= _bayes_reference(p_NC, label_N, posterior_NC)
    if votes_NC is not None and (votes := agreement(p_NC, votes_NC)):
        report["votes"] = votes
    report["classes"] = per_class(counts_CC, classes)
    report["absent"] = [name for name in classes if name not in report["classes"]]
    return report


def _check(p_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str]) -> None:
    if len(label_N) == 0:
        raise DataError(
            "there is nothing to measure: the split has no rows. Run `dvc repro prepare` and check its report."
        )
    if p_NC.shape != (len(label_N), len(classes)):
        raise ValueError(f"probabilities {p_NC.shape} do not match {len(label_N)} labels of {len(classes)} classes")
    if not np.isfinite(p_NC).all() or p_NC.min() < 0 or np.abs(p_NC.sum(axis=1) - 1).max() > TOLERANCE:
        raise WeightsError(
            "the model's outputs are not probabilities (not finite, or not summing to 1). Train it again."
        )
