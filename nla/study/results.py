"""Results of a study from its records and the labels of its test rows, as one JSON-serializable dict.

Proportions are in [0, 1]. A spread is the mean, the sample standard deviation (null for one run) and the number of
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nla.config.base import flatten
from nla.errors import DataError
from nla.hardware import in_words
from nla.study.comparisons import Against, Claim, comparisons, outcomes, to_json
from nla.study.manifest import TuningEntries, TuningEntry
from nla.study.origin import UNKNOWN
from nla.study.record import SELECTIONS, Record
from nla.study.truth import Truth, measured
from nla.study.tuning import Attempt, Candidate, best_candidate, candidates_of

TOLERANCE = 0.01
"""Allowed difference from a recomputed accuracy: a GPU may break a few ties differently; wrong labels are far off."""
REMEDY = (
    "The record comes from a different data set or label rule. Run `dvc repro prepare`, or remove it and run the study."
)
PROTOCOL = (
    "imbalance in train only; noise in train and, if the grid says so, in validation; test labels as the source has "
    "them; validation, by its labels as given, chooses the epoch, and settings where there is tuning; test selects "
    "nothing"
)


def study_results(
    records: Sequence[Record],
    truths: Mapping[str, Truth],
    reference: str,
    caveats: Sequence[str] = (),
    claims: Sequence[Claim] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """All numbers by condition and method, in the order of the records.

    Args:
        truths: condition -> its test rows.
        left_out: what of the study is not reported, and why.

    Raises:
        DataError: a record was not measured on these labels, or the reference has no record.
    """
    check(records, truths)
    if reference not in {record.method for record in records}:
        raise DataError(
            f"reference: no record of the method {reference!r}. Run the study, or name another in grid.yaml."
        )
    grouped = by_condition(records)
    against = {name: comparisons(_predicted(own), truths[name].label_N) for name, own in grouped.items()}
    conditions = {name: _condition(own, truths[name], against[name]) for name, own in grouped.items()}
    return {
        "protocol": PROTOCOL,
        "caveats": list(caveats),
        "left_out": list(left_out),
        "reference": reference,
        "claims": outcomes(claims, against),
        "conditions": conditions,
    }


def tuning_results(tuning: TuningEntries, records: Mapping[str, Record], methods: Iterable[str]) -> dict[str, Any]:
    """The outcome of tuning, JSON-serializable.

    A method's first setting is that of the grid, the chosen one the best by its mean over the conditions. A score is
    null if training diverged. A method with nothing to tune has no settings, and `chosen` is null.

    Args:
        tuning: the `tuning` entries of runs.json.
        records: fingerprint -> record.
        methods: all methods of the study.
    """

    def attempt(run: TuningEntry) -> Attempt:
        score = None if run.record is None else records[run.record].score(tuning.objective)
        return Attempt(run.method, run.setting, run.condition, run.values, score)

    tried = candidates_of(map(attempt, tuning.trainings))
    found: dict[str, Any] = {name: {"settings": [], "chosen": None} for name in methods}
    for name, candidates in tried.items():
        best = best_candidate(name, candidates)
        found[name] = {"settings": [_to_json(each) for each in candidates], "chosen": _to_json(best)}
    asked = tuning.model_dump(include={"conditions", "seed", "objective"})
    return {**asked, "made_by": _made_by([*records.values()]), "methods": found}


def _to_json(candidate: Candidate) -> dict[str, Any]:
    return {"values": candidate.values, "under": candidate.scores, "reached": candidate.mean}


def check(records: Iterable[Record], truths: Mapping[str, Truth]) -> None:
    """Raises DataError if a record was measured on labels other than these."""
    for record in records:
        name = f"the record of {record.method}, {record.condition}, seed {record.seed}"
        rows, truth = len(record.best_predicted), truths[record.condition]
        if rows != len(truth.label_N):
            raise DataError(f"{name} has {rows:,} test rows, but there are {len(truth.label_N):,} labels. {REMEDY}")
        then = record.test_accuracy[record.best_epoch - 1]
        now = float((record.best_predicted == truth.label_N).mean())
        if abs(then - now) > TOLERANCE:
            raise DataError(
                f"{name} has an accuracy of {then:.2%} on test, but {now:.2%} with the present labels. {REMEDY}"
            )


def spread(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean and standard deviation over runs."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "n": len(values)}


def by_condition(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Condition -> its records, in their order."""
    return _grouped(records, lambda record: record.condition)


def _grouped(records: Iterable[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _predicted(records: Iterable[Record]) -> dict[str, dict[int, np.ndarray]]:
    """Method -> seed -> predictions of the epoch chosen on validation."""
    runs = _grouped(records, lambda record: record.method)
    return {method: {record.seed: record.best_predicted for record in own} for method, own in runs.items()}


def _condition(records: Sequence[Record], truth: Truth, against: Mapping[str, Against]) -> dict[str, Any]:
    runs, first = _grouped(records, lambda record: record.method), records[0]
    support = np.bincount(truth.label_N, minlength=len(truth.classes)).tolist()
    return {
        "noise_kind": first.noise_kind,
        "noise_rate": first.noise_rate,
        "imbalance_factor": first.imbalance_factor,
        "test": {"rows": len(truth.label_N), "classes": dict(zip(truth.classes, support, strict=True))},
        "seeds": sorted({record.seed for record in records}),
        "made_by": _made_by(records),
        "methods": {name: {**_scores(own, truth), "against": to_json(against[name])} for name, own in runs.items()},
    }


def _scores(records: Sequence[Record], truth: Truth) -> dict[str, Any]:
    """Scores of one method with each selected epoch, first that of validation as given; and what the weight shows."""
    claimed = [max(record.test_accuracy) for record in records]
    surplus = [max(record.test_accuracy) - record.test_accuracy[record.best_epoch - 1] for record in records]
    given, clean, last = (
        _spreads([measured(record, selection, truth) for record in records]) for selection in SELECTIONS
    )
    return {
        **given,
        "clean": clean,
        "last": last,
        "best_on_test": {"accuracy": spread(claimed), "surplus": spread(surplus)},
        "best_epoch": spread([record.best_epoch for record in records]),
        "epochs": max(record.epochs for record in records),
        "seconds": spread([record.seconds for record in records]),
        "weight": _spreads([flatten(record.claims) for record in records]),
    }


def _spreads(rows: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    """The spread of each key over the rows that have a value for it."""
    names = dict.fromkeys(name for row in rows for name in row)
    given = {name: [value for row in rows if (value := row.get(name)) is not None] for name in names}
    return {name: spread(values) for name, values in given.items() if values}


def _made_by(records: Sequence[Record]) -> dict[str, list[str]]:
    """The distinct machines with their versions, commits, and fingerprints of the code."""
    facts = [record.facts for record in records]
    places = (f"{f['device_name']} in {f['precision']}; {in_words(f['machine'], f['versions'])}" for f in facts)
    commits, codes = (dict.fromkeys(f.get(key) or UNKNOWN for f in facts) for key in ("commit", "code"))
    return {"places": [*dict.fromkeys(places)], "commits": [*commits], "codes": [*codes]}
