"""Who is ahead, and the claims of grid.yaml: their p, its correction, and what cannot be tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_study import labels, made_up, truths

from nla.study.comparisons import Claim, comparisons, hardest, is_ahead, outcomes
from nla.study.report import report, summary
from nla.study.results import study_results
from nla.study.statistics import Difference, holm


def difference(value: float, half: float, p: float, seeds: int = 5) -> Difference:
    return Difference(value, value - half, value + half, p, seeds)


FAR, NEAR, BEHIND = difference(0.05, 0.01, 0.001), difference(0.02, 0.019, 0.04), difference(-0.01, 0.02, 0.3)


def test_ahead_is_of_each_other() -> None:
    assert is_ahead({"a": FAR, "b": NEAR})
    assert not is_ahead({"a": FAR, "b": BEHIND})


def test_the_hardest_has_the_largest_p_of_being_ahead() -> None:
    """Not the smallest difference: 3 points that vary can be less certain than 2 that do not."""
    certain, uncertain = difference(0.02, 0.01, 0.01), difference(0.03, 0.04, 0.12)
    assert hardest({"a": certain, "b": uncertain}) == "b"
    assert hardest({"a": FAR, "b": BEHIND, "c": difference(-0.03, 0.01, 0.001)}) == "c"  # the lower of two behind


def test_p_of_being_ahead_is_one_for_who_is_behind() -> None:
    assert (NEAR.p_ahead, BEHIND.p_ahead, difference(0, 0, 1).p_ahead) == (0.04, 1, 1)


def claims_of(*values: tuple[str, str, str]) -> list[Claim]:
    return [Claim(method=method, condition=condition, score=score) for method, condition, score in values]  # type: ignore[arg-type]


FOUND: dict[str, dict[str, Any]] = {
    "noisy": {
        "new": {"accuracy": {"a": FAR, "b": NEAR}, "mean_accuracy": {"a": FAR, "b": difference(0.03, 0.02, 0.004)}}
    },
    "real": {"new": {"accuracy": {"a": FAR, "b": BEHIND}, "mean_accuracy": {"a": FAR, "b": FAR}}},
}


def test_four_claims_by_hand() -> None:
    """p of the hardest other each: .04, .004, 1 and .001; times 2, 3, 1 and 4 by Holm."""
    asked = [("new", condition, score) for condition in FOUND for score in ("accuracy", "mean_accuracy")]
    found = outcomes(claims_of(*asked), with_others(FOUND))
    assert [claim["p"] for claim in found] == [0.04, 0.004, 1, 0.001]
    assert [claim["p_holm"] for claim in found] == pytest.approx([0.08, 0.012, 1, 0.004])
    assert [claim["holds"] for claim in found] == [False, True, False, True]
    assert [claim["hardest"] for claim in found] == ["b", "b", "b", "a"]
    assert found[0]["difference"] == 0.02 and found[0]["others"] == ["a", "b"]
    assert {*found[0]} >= {"difference", "low", "high", "p", "n"}


def with_others(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The other methods beside the new one, with no comparisons of their own."""
    return {condition: {**methods, "a": {}, "b": {}} for condition, methods in found.items()}


def test_a_claim_against_some_methods_leaves_the_others_aside() -> None:
    claim = Claim(method="new", condition="real", score="accuracy", against=["a"])
    (found,) = outcomes([claim], with_others(FOUND))
    assert found["holds"] and found["others"] == ["a"] and found["p_holm"] == 0.001


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_claim_holds_if_holm_rejects_the_largest_of_its_p(p: list[list[float]]) -> None:
    methods: dict[str, dict[str, Any]] = {}
    for number, own in enumerate(p):
        others = {str(i): difference(0.1, 0.1, each) for i, each in enumerate(own)}
        methods[str(number)] = {"new": {"accuracy": others}, **{key: {} for key in others}}
    outcome = outcomes(claims_of(*(("new", name, "accuracy") for name in methods)), methods)
    corrected = holm([max(own) for own in p])
    assert [claim["holds"] for claim in outcome] == (corrected < 0.05).tolist()
    assert [claim["p_holm"] for claim in outcome] == corrected.tolist()


def test_no_claims() -> None:
    assert outcomes([], FOUND) == []


ONE = difference(0.05, 0.01, 0.001, seeds=1)


@pytest.mark.parametrize(
    ("claim", "found"),
    [
        (("new", "clean", "accuracy"), {}),  # the report leaves the condition out
        (("old", "real", "accuracy"), with_others(FOUND)),  # no record
        (("new", "real", "accuracy"), {"real": {"new": {"accuracy": {"a": ONE}}, "a": {}}}),  # one seed
        (("new", "real", "mean_accuracy"), {"real": {"new": {"accuracy": {"a": FAR}}, "a": {}}}),  # a class of one row
        (("new", "real", "accuracy"), {"real": {"new": {"accuracy": {"a": FAR}}, "a": {}, "b": {}}}),  # b is missing
    ],
)
def test_a_claim_that_cannot_be_tested_counts_but_does_not_hold(claim: tuple[str, str, str], found: Any) -> None:
    both = {**found, "noisy": with_others(FOUND)["noisy"]}
    lost, other = outcomes(claims_of(claim, ("new", "noisy", "mean_accuracy")), both)
    assert (lost["hardest"], lost["p"], lost["holds"]) == (None, 1, False)
    assert other["p_holm"] == 0.008 and other["holds"]


def test_two_views_of_one_comparison() -> None:
    records = [record for record in made_up(seeds=(1,)) if record.condition == "clean"]
    predicted = {record.method: {record.seed: record.best_predicted} for record in records}
    found = comparisons(predicted, labels())
    assert found["ce"]["accuracy"]["elr"] == -found["elr"]["accuracy"]["ce"]
    assert [*found["elr"]["accuracy"]] == ["ce", "paper"]


def test_methods_without_a_common_seed_are_not_compared() -> None:
    rows = np.zeros(4, np.uint8)
    assert comparisons({"a": {1: rows}, "b": {2: rows}}, rows) == {"a": {}, "b": {}}


def test_claims_in_the_report_and_on_the_console() -> None:
    claims = claims_of(("paper", "clean", "accuracy"), ("elr", "clean", "mean_accuracy"), ("elr", "lost", "accuracy"))
    records = made_up({"ce": 1.0, "elr": 1.1, "paper": 1.9})
    results = study_results(records, truths(), "ce", ["Made up."], claims)
    text = report(results, "made-up", [])
    assert text.index("## Claims") < text.index("## clean")
    rows = [line for line in text.splitlines() if line.startswith("| clean | ")]
    assert [[*row.split(" | ")[2:4], row.split(" | ")[-1]] for row in rows] == [
        ["paper", "ce, elr", "yes |"],
        ["elr", "ce, paper", "no |"],
    ]
    said = [line for line in summary(results) if line.startswith("claim: ")]
    assert said[0].startswith("claim: paper ahead by accuracy, clean: holds (p ")
    assert said[1] == "claim: elr ahead by mean accuracy, clean: does not hold (p 1.000 after Holm)"
    assert said[2] == "claim: elr ahead by accuracy, lost: not tested"
    assert "| lost | accuracy | elr |  |  |  |  |  | not tested |" in text
    assert "## Claims" not in report(study_results(made_up(), truths(), "ce"), "made-up", [])
