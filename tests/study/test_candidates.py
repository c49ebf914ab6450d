"""The best setting of a method, on the average of the conditions that it was tried under."""

from __future__ import annotations

import pytest

from nla.errors import TrainingError
from nla.study.tuning import Attempt, best_candidate, candidates_of


def attempts(method: str, *settings: tuple[float | None, ...]) -> list[Attempt]:
    """Each setting, with its score under each condition."""
    return [
        Attempt(method, number, f"condition {under}", {"train.lr": 0.1 * number}, value)
        for under in range(len(settings[0]))
        for number, value in enumerate(setting[under] for setting in settings)
    ]


def test_the_best_on_the_average_of_the_conditions_is_taken() -> None:
    """The first of equals; one that diverged under a condition is worth nothing."""
    ce = attempts("ce", (0.5, 0.5), (0.9, 0.0), (0.25, 0.875), (0.875, 0.25), (None, 1.0))
    elr = attempts("elr", (0.4, None), (0.0, 0.0))
    found = {method: best_candidate(method, tried) for method, tried in candidates_of([*ce, *elr]).items()}
    assert {method: best.values for method, best in found.items()} == {
        "ce": {"train.lr": 0.2},
        "elr": {"train.lr": 0.1},
    }
    assert found["ce"].scores == {"condition 0": 0.25, "condition 1": 0.875}
    assert (found["ce"].mean, found["elr"].mean) == (0.5625, 0.0)


def test_a_method_whose_settings_all_diverged_is_named() -> None:
    (tried,) = candidates_of(attempts("elr", (0.9, None), (None, 0.9))).values()
    with pytest.raises(TrainingError, match="every setting of elr diverged under a condition"):
        best_candidate("elr", tried)
