"""What a study's predictions are compared with: labels and votes of the test rows, which depend on the condition.

A condition can change which rows of test have a label, and which classes there are (`data.label_rule`,
`data.contempt`). Records do not hold the labels of a data set; the report takes them from the faces.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nla.config.base import section
from nla.config.data import DataConfig
from nla.data.sample_plan import plan_samples
from nla.data.schema import TEST
from nla.errors import ConfigError, DataError
from nla.evaluation.confusion import confusion
from nla.evaluation.metrics import MAIN_METRICS, agreement
from nla.evaluation.uncertainty import entropy, label_probability, log
from nla.study.record import Record, Selection

AMBIGUOUS = 0.2
"""Share of the voted test rows that are the most ambiguous ones, by the entropy of their votes."""
DIGITS = 6  # of an entropy: the same shares in another order should be a tie
REMEDY = "Remove the record and run `dvc repro` in the study's folder."


class Truth(NamedTuple):
    """The test rows of a condition."""

    label_N: np.ndarray
    classes: tuple[str, ...]
    votes_NC: np.ndarray | None = None
    """Shares of the annotators' votes, with NaN rows where there are none; None if there are none at all."""


def truth_of(faces: Path, config: DataConfig) -> Truth:
    """The test rows that `prepare` makes of the faces. Raises what `plan_samples` raises."""
    plan = plan_samples(faces, config)
    rows = plan.split_N == TEST
    votes_NC = plan.votes_NC[rows]
    return Truth(plan.clean_N[rows], plan.classes, None if np.isnan(votes_NC).all() else votes_NC)


def truths_of(faces: Path, records: Iterable[Record]) -> dict[str, Truth]:
    """Condition -> its test rows, which depend on neither seed nor method.

    Raises:
        DataError: the parameters of a record are not valid, or see `plan_samples`.
    """
    of_rule: dict[tuple[str, bool], Truth] = {}
    truths: dict[str, Truth] = {}
    for record in records:
        if record.condition not in truths:
            try:
                data = section(DataConfig, record.params, f"{record.fingerprint}.parquet: params")
            except ConfigError as error:
                raise DataError(f"{error} {REMEDY}") from None
            rule = (data.label_rule, data.contempt)
            if rule not in of_rule:
                of_rule[rule] = truth_of(faces, DataConfig(label_rule=data.label_rule, contempt=data.contempt))
            truths[record.condition] = of_rule[rule]
    return truths


def measured(record: Record, selection: Selection, truth: Truth) -> dict[str, float | None]:
    """The metrics of the predictions of a selected epoch.

    Accuracy, mean accuracy and macro-F1; NLL in nats; `kl`, the divergence of the predictions from the votes in nats;
    and `ambiguous_accuracy`, on the most ambiguous fifth of test. None where votes or probabilities are missing.
    """
    counts_CC = confusion(truth.label_N, record.predicted(selection), len(truth.classes))
    found: dict[str, float | None] = {name: float(statistic(counts_CC)) for name, statistic in MAIN_METRICS.items()}
    p_NC, votes_NC = record.p(selection), truth.votes_NC
    hit_N = record.predicted(selection) == truth.label_N
    return found | {
        "nll": None if p_NC is None else float(-log(label_probability(p_NC, truth.label_N)).mean()),
        "kl": None if p_NC is None or votes_NC is None else agreement(p_NC, votes_NC)["kl_divergence"],
        "ambiguous_accuracy": None if votes_NC is None else float(hit_N[most_ambiguous(votes_NC)].mean()),
    }


def most_ambiguous(votes_NC: np.ndarray) -> np.ndarray:
    """Mask of the fifth of the voted rows whose votes have the highest entropy, with all that tie with its last."""
    voted_N = ~np.isnan(votes_NC).any(axis=1)
    doubt_N = np.full(len(votes_NC), -1.0)
    doubt_N[voted_N] = entropy(votes_NC[voted_N]).round(DIGITS)
    least = np.sort(doubt_N[voted_N])[-max(1, round(AMBIGUOUS * int(voted_N.sum())))]
    mask_N: np.ndarray = doubt_N >= least
    return mask_N
