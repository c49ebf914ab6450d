"""Records of a study that never ran: what its methods are worth is known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from nla.study.record import Record, log_probabilities
from nla.study.truth import Truth

CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SUPPORT = (1090, 893, 396, 384, 273, 18, 83, 16)  # of FERPlus
EPOCHS, CLEAN = 6, 4
"""Epochs of a training, and the one that clean validation chose."""
MACHINE = {"cpu": "Made-up CPU", "cores": 2, "instructions": ["avx2"], "python": "3.11.7"}
FACTS = {
    "precision": "fp32",
    "device_name": "AVX2",
    "commit": "c0ffee",
    "code": "feedface",
    "machine": MACHINE,
    "versions": {"torch": "2.13.0", "ray": "2.60.0"},
}
SKILLS = {"ce": 1.0, "elr": 1.1, "paper": 1.3}
CONDITIONS: dict[str, tuple[str, float, float | None]] = {
    "clean": ("symmetric", 0.0, None),
    "symmetric 30 %": ("symmetric", 0.3, None),
}


def labels(support: Sequence[int] = SUPPORT) -> np.ndarray:
    """Of the test rows."""
    return np.repeat(np.arange(len(support)), support)


def truths(label_N: np.ndarray | None = None, support: Sequence[int] = SUPPORT) -> defaultdict[str, Truth]:
    """The same test rows under every condition, with votes that lean to the label, some of them barely."""
    label_N = labels(support) if label_N is None else label_N
    votes_NC = np.full((len(label_N), len(CLASSES)), 0.3 / (len(CLASSES) - 1))
    votes_NC[np.arange(len(label_N)), label_N] = 0.7
    votes_NC[::5] = 1 / len(CLASSES)
    return defaultdict(lambda: Truth(label_N, CLASSES, votes_NC))


def made_up(
    skills: dict[str, float] = SKILLS,
    conditions: dict[str, tuple[str, float, float | None]] = CONDITIONS,
    seeds: Sequence[int] = (0, 1, 2),
    support: Sequence[int] = SUPPORT,
    claims: bool = True,
) -> list[Record]:
    """A record a cell; noise takes from the skill, and the last epoch but one is the one that validation chose."""
    return [
        _record(method, skill, name, condition, seed, labels(support), claims)
        for seed in seeds
        for name, condition in conditions.items()
        for method, skill in skills.items()
    ]


def _record(
    method: str,
    skill: float,
    name: str,
    condition: tuple[str, float, float | None],
    seed: int,
    label_N: np.ndarray,
    claims: bool,
) -> Record:
    kind, rate, factor = condition
    rng = np.random.default_rng([seed, len(method), int(100 * skill), int(100 * rate)])
    hard_N = np.random.default_rng(0).normal(size=len(label_N))  # the same for all
    steps = (skill - rate - 0.1 * abs(epoch - 4) + 0.1 * rng.normal() for epoch in range(EPOCHS))
    classes = int(label_N.max()) + 1
    predicted = [
        np.where(s + 0.4 * rng.normal(size=len(label_N)) > hard_N, label_N, (label_N + 1) % classes) for s in steps
    ]
    test = [float((p == label_N).mean()) for p in predicted]
    recall = [float(np.mean([(p[label_N == c] == c).mean() for c in np.unique(label_N)])) for p in predicted]
    best = EPOCHS - 1
    return Record(
        method=method,
        condition=name,
        noise_kind=kind,
        noise_rate=rate,
        imbalance_factor=factor,
        seed=seed,
        fingerprint=f"{method}-{kind}-{rate}-{factor}-{seed}",
        epochs=EPOCHS,
        best_epoch=best,
        seconds=100.0 + seed,
        params={"data": {"source": "ferplus"}},
        facts=FACTS,
        claims=_claims(rng, rate > 0) if claims else {},
        valid_accuracy=test,
        valid_mean_accuracy=recall,
        test_accuracy=test,
        test_mean_accuracy=recall,
        best_predicted=predicted[best - 1].astype(np.uint8),
        last_predicted=predicted[-1].astype(np.uint8),
        clean_epoch=CLEAN,
        clean_accuracy=test,
        clean_predicted=predicted[CLEAN - 1].astype(np.uint8),
        log_p={
            epoch: log_probabilities(0.9 * np.eye(classes)[predicted[epoch - 1]] + 0.1 / classes)
            for epoch in (CLEAN, best, EPOCHS)
        },
    )


def _claims(rng: np.random.Generator, noisy: bool) -> dict[str, Any]:
    """Of the shape of nla.study.claims.weight_claims."""

    def moment(lift: float) -> dict[str, Any]:
        near = 0.02 * rng.random(6)
        return {
            "flipped_auroc": 0.6 + lift + near[0] if noisy else None,
            "flipped_auroc_p_GT": 0.7 + lift + near[1] if noisy else None,
            "mean_weight": 0.5,
            "minority_of_top_tenth": 0.2 + near[2],
            "weight_by_doubt": {str(fifth): 0.2 * fifth for fifth in range(1, 6)},
            "doubtful_weight": 1.0 + lift + near[3],
            "weight_correlation": 0.3 + near[4],
            "ambiguity_correlation": 0.35 + near[5],
        }

    return {"rows": 1000, "minority_share": 0.12, "early": moment(0.0), "late": moment(0.15)}
