"""From the probabilities of the folds to the table of labels and its summary.

Legend: E epochs; N rows; C classes; G rows of all audited splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nla.audit import confident_joint
from nla.audit.image_quality import brightness, rank, sharpness
from nla.audit.noise_rate import WrongLabels
from nla.audit.scores import Scores, late_epochs, late_probabilities, nearest_other, score_labels
from nla.audit.splits import LabelledSplit
from nla.audit.table import SCORES, VERDICTS, labels_schema
from nla.evaluation.uncertainty import label_probability


@dataclass(frozen=True)
class AuditedSplit:
    """A split with its scores."""

    split: LabelledSplit
    fold_N: np.ndarray | None
    """Fold of each row; None if the models of all folds score it."""
    p_ENC: np.ndarray
    scores: Scores
    wrong: WrongLabels
    """By the scores."""
    joint_wrong: WrongLabels
    """By the confident joint."""


def audit_splits(
    splits: Sequence[LabelledSplit], p_of_splits: Sequence[np.ndarray], fold_N: np.ndarray, seed: int
) -> list[AuditedSplit]:
    """Scores each split; the first is that of training, whose labels the models learnt.

    Args:
        splits: at least the training split.
        p_of_splits: probabilities [E, N, C] of each.
        fold_N: fold of each training row.
        seed: seed of the intervals.
    """
    audited: list[AuditedSplit] = []
    for split, p_ENC in zip(splits, p_of_splits, strict=True):
        label_N = split.samples.label_N
        scores = score_labels(p_ENC, label_N, audited[0].scores.noise.rate if audited else None)
        joint_wrong = confident_joint.wrong_labels(late_probabilities(p_ENC), label_N, seed)
        wrong = scores.noise.wrong_labels(seed)
        audited.append(AuditedSplit(split, None if audited else fold_N, p_ENC, scores, wrong, joint_wrong))
    return audited


def labels_table(audited: Sequence[AuditedSplit], group_G: np.ndarray) -> pa.Table:
    """The table of nla.audit.table; `group_G` is the position of the first near-identical image of each row."""
    classes = audited[0].split.samples.classes
    columns = [_split_columns(each, classes) for each in audited]
    merged = {name: _joined([column[name] for column in columns]) for name in columns[0]}
    return pa.table({**merged, **_image_columns([each.split for each in audited], group_G)}, labels_schema(classes))


def _joined(parts: Sequence[Any]) -> Any:
    arrays = [part.combine_chunks() if isinstance(part, pa.ChunkedArray) else pa.array(part) for part in parts]
    types = {array.type for array in arrays if not pa.types.is_null(array.type)}
    return pa.concat_arrays([array.cast(next(iter(types))) if types else array for array in arrays])


def _split_columns(audited: AuditedSplit, classes: Sequence[str]) -> dict[str, Any]:
    split, scores, p_ENC = audited.split, audited.scores, audited.p_ENC
    names, label_N = np.array(classes, object), split.samples.label_N
    verdict_N, rows = np.array(VERDICTS, object)[scores.verdict], len(split)
    true_N, votes_NC = split.true_labels, split.annotations.votes_NC
    nothing_NC = np.full((rows, len(classes)), np.nan)
    q_NC = np.where((verdict_N == "ambiguous")[:, None], scores.r_NC, np.nan)
    return {
        "split": [split.name] * rows,
        "row": split.samples.row_N,
        "path": split.path_N,
        "pixels": split.pixels_N,
        "fold": [None] * rows if audited.fold_N is None else audited.fold_N.astype(np.int8),
        "label": names[label_N],
        **_by_class("p", late_probabilities(p_ENC), classes),
        **{name: getattr(scores, name).astype(np.float32) for name in SCORES},
        "verdict": verdict_N,
        "suggested": names[scores.suggested],
        **_by_class("q", q_NC, classes),
        **_by_class("votes", nothing_NC if votes_NC is None else votes_NC, classes),
        "true_label": [None] * rows if true_N is None else names[true_N],
        "path_p_label": list(np.stack([label_probability(p_NC, label_N) for p_NC in p_ENC], axis=1)),
        "path_p_nearest": list(np.stack([nearest_other(p_NC, label_N) for p_NC in p_ENC], axis=1)),
    }


def _by_class(prefix: str, value_NC: np.ndarray, classes: Sequence[str]) -> dict[str, pa.Array]:
    """PREFIX_CLASS of each class, null where the value is NaN."""
    value_CN = value_NC.T.astype(np.float32)
    return {f"{prefix}_{name}": pa.array(v_N, from_pandas=True) for name, v_N in zip(classes, value_CN, strict=True)}


def _image_columns(splits: Sequence[LabelledSplit], group_G: np.ndarray) -> dict[str, Any]:
    size_G = np.bincount(group_G, minlength=len(group_G))[group_G]
    sharpness_G = np.concatenate([sharpness(split.samples.images_NHWC) for split in splits])
    brightness_G = np.concatenate([brightness(split.samples.images_NHWC) for split in splits])
    return {
        "duplicates": size_G - 1,
        "duplicate_group": pa.array(group_G, mask=size_G == 1),
        "sharpness": sharpness_G,
        "sharpness_rank": rank(sharpness_G),
        "brightness": brightness_G,
        "brightness_rank": rank(brightness_G),
    }


def summary(audited: Sequence[AuditedSplit], group_G: np.ndarray, folds: int) -> dict[str, Any]:
    """The summary, JSON-serializable: counts and estimates of each split, and near-identical images."""
    epochs = len(audited[0].p_ENC)
    report: dict[str, Any] = {"folds": folds, "epochs": epochs, "late_epochs": late_epochs(epochs)}
    report |= {each.split.name: _split_summary(each) for each in audited}
    return {**report, "duplicates": duplicate_counts([each.split for each in audited], group_G)}


def _split_summary(audited: AuditedSplit) -> dict[str, Any]:
    label_N, classes = audited.split.samples.label_N, audited.split.samples.classes
    rows_C = np.bincount(label_N, minlength=len(classes))
    verdict_V = np.bincount(audited.scores.verdict, minlength=len(VERDICTS))
    report: dict[str, Any] = {"rows": len(label_N), **dict(zip(VERDICTS, verdict_V.tolist(), strict=True))}
    chosen_N = late_probabilities(audited.p_ENC).argmax(axis=1)
    report |= {"agreement": float((chosen_N == label_N).mean()), "noise_rate": audited.scores.noise.rate}
    report |= _wrong(audited, -1)
    report["classes"] = {
        name: {"rows": rows, **_wrong(audited, c)}
        for c, (name, rows) in enumerate(zip(classes, rows_C.tolist(), strict=True))
        if rows
    }
    if audited.split.true_labels is not None:
        report["known"] = known_errors(audited.scores.score, label_N != audited.split.true_labels)
    return report


def _wrong(audited: AuditedSplit, c: int) -> dict[str, float]:
    """Estimated numbers of wrong labels of a class, or of all with -1, by the scores and by the confident joint."""
    estimates = {"wrong": audited.wrong, "joint_wrong": audited.joint_wrong}
    numbers = {
        f"{name}{end}": values[c]
        for name, wrong in estimates.items()
        for end, values in zip(("", "_low", "_high"), wrong, strict=True)
    }
    return {name: round(float(number), 1) for name, number in numbers.items()}


def known_errors(score_N: np.ndarray, is_wrong_N: np.ndarray) -> dict[str, float]:
    """How well the score finds the labels that are known to be wrong, of which there is at least one."""
    from sklearn.metrics import average_precision_score, roc_auc_score  # slow to import, and rarely needed

    wrong = int(is_wrong_N.sum())
    first = np.argsort(-score_N, kind="stable")[:wrong]
    report = {"wrong": wrong, "precision_at_wrong": float(is_wrong_N[first].mean())}
    if wrong < len(is_wrong_N):
        report |= {
            "auroc": float(roc_auc_score(is_wrong_N, score_N)),
            "average_precision": float(average_precision_score(is_wrong_N, score_N)),
        }
    return report


def duplicate_counts(splits: Sequence[LabelledSplit], group_G: np.ndarray) -> dict[str, int]:
    """Numbers of rows with a near-identical image: anywhere, in another split, and of another label."""
    split_G = np.repeat(np.arange(len(splits)), [len(split) for split in splits])
    label_G = np.concatenate([split.samples.label_N for split in splits])
    several_G = np.bincount(group_G, minlength=len(group_G))[group_G] > 1
    return {
        "rows": int(several_G.sum()),
        "across_splits": int(_differs(group_G, split_G).sum()),
        "with_other_label": int(_differs(group_G, label_G).sum()),
    }


def _differs(group_G: np.ndarray, value_G: np.ndarray) -> np.ndarray:
    """Whether the group of each row has another value, [G]."""
    low_G, high_G = value_G.copy(), value_G.copy()
    np.minimum.at(low_G, group_G, value_G)
    np.maximum.at(high_G, group_G, value_G)
    differs_G: np.ndarray = low_G[group_G] != high_G[group_G]
    return differs_G


def headline(report: Mapping[str, Any]) -> str:
    """The result for the console, in one line."""
    train = report["train"]
    counted = f"{train['wrong']:,.0f} of {train['rows']:,} labels are probably wrong"
    interval = f"95 % interval {train['wrong_low']:,.0f} to {train['wrong_high']:,.0f}"
    judged = f"{train['mislabelled']:,} rows are judged mislabelled, {train['ambiguous']:,} ambiguous"
    return (
        f"train: {counted} if errors fall on all classes alike ({interval}), {train['joint_wrong']:,.0f} by the "
        f"confident joint; {judged}; models that have not seen them agree with {train['agreement']:.1%}"
    )
