"""The figures of a study whose truth is known, and the tables and pictures that are made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from made_up_study import CONDITIONS, labels, made_up, truths
from scipy.special import rel_entr
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from nla.config.base import flatten
from nla.errors import DataError
from nla.study.plots import draw_figures
from nla.study.report import report
from nla.study.results import study_results
from nla.study.statistics import differences
from nla.study.truth import most_ambiguous


@cache
def results() -> dict[str, Any]:
    return study_results(made_up(), truths(), "ce")


def test_means_and_deviations_over_seeds() -> None:
    records = [r for r in made_up() if (r.method, r.condition) == ("elr", "clean")]
    found = results()["conditions"]["clean"]["methods"]["elr"]
    mean = [balanced_accuracy_score(labels(), r.best_predicted) for r in records]
    f1 = [f1_score(labels(), r.last_predicted, average="macro") for r in records]
    assert found["mean_accuracy"] == pytest.approx({"mean": np.mean(mean), "std": np.std(mean, ddof=1), "n": 3})
    assert found["last"]["macro_f1"]["mean"] == pytest.approx(np.mean(f1))
    assert found["seconds"]["mean"] == 101
    assert results()["conditions"]["clean"]["test"]["classes"]["contempt"] == 16


def test_metrics_beside_accuracy_are_those_of_the_kept_probabilities() -> None:
    """NLL and KL against scikit-learn and scipy, on probabilities known to the rounding of a record."""
    records, truth = [r for r in made_up() if (r.method, r.condition) == ("elr", "clean")], truths()["clean"]
    found = results()["conditions"]["clean"]["methods"]["elr"]
    for scores, predicted in (
        (found, [r.best_predicted for r in records]),
        (found["last"], [r.last_predicted for r in records]),
    ):
        p = [0.9 * np.eye(8)[classes_N] + 0.1 / 8 for classes_N in predicted]
        nll = [log_loss(truth.label_N, p_NC, labels=range(8)) for p_NC in p]
        kl = [rel_entr(truth.votes_NC, p_NC).sum(axis=1).mean() for p_NC in p]
        assert scores["nll"]["mean"] == pytest.approx(np.mean(nll), rel=1e-3)
        assert scores["kl"]["mean"] == pytest.approx(np.mean(kl), rel=1e-3)
        fifth = [(classes_N == truth.label_N)[::5].mean() for classes_N in predicted]  # where the votes are level
        assert scores["ambiguous_accuracy"]["mean"] == pytest.approx(np.mean(fifth))


def test_records_without_probabilities_and_faces_without_votes_leave_these_metrics_out() -> None:
    old = [replace(record, log_p={}) for record in made_up(seeds=(0,))]
    known = {name: truth._replace(votes_NC=None) for name in CONDITIONS for truth in [truths()[name]]}
    found = study_results(old, known, "ce")
    assert not {"nll", "kl", "ambiguous_accuracy"} & found["conditions"]["clean"]["methods"]["ce"].keys()
    assert "NLL" not in report(found, "old", [])


def test_ties_at_the_border_of_the_ambiguous_fifth_belong_to_it() -> None:
    one, two, none = [1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]
    assert most_ambiguous(np.array([one, two, two, one, one, none])).tolist() == [
        False,
        True,
        True,
        False,
        False,
        False,
    ]


def test_what_best_on_test_would_have_claimed() -> None:
    for condition, of in results()["conditions"].items():
        for method, figures in of["methods"].items():
            own = [r.test_accuracy for r in made_up() if (r.method, r.condition) == (method, condition)]
            claimed = figures["best_on_test"]
            assert claimed["accuracy"]["mean"] == pytest.approx(np.mean([max(series) for series in own]))
            surplus = claimed["accuracy"]["mean"] - figures["accuracy"]["mean"]
            assert claimed["surplus"]["mean"] == pytest.approx(surplus)
            assert claimed["surplus"]["mean"] >= 0


def test_a_method_is_compared_with_every_other() -> None:
    for of in results()["conditions"].values():
        for metric in ("accuracy", "mean_accuracy"):
            means = {name: figures[metric]["mean"] for name, figures in of["methods"].items()}
            for name, figures in of["methods"].items():
                against = figures["against"][metric]
                assert [*against["others"]] == [other for other in means if other != name]
                for other, found in against["others"].items():
                    assert found["difference"] == pytest.approx(means[name] - means[other])
                assert against["ahead"] == all(found["low"] > 0 for found in against["others"].values())


def test_a_comparison_is_that_of_its_predictions() -> None:
    records = [r for r in made_up() if r.condition == "clean"]
    elr, ce = (np.stack([r.best_predicted for r in records if r.method == name]) for name in ("elr", "ce"))
    ours = results()["conditions"]["clean"]["methods"]["elr"]["against"]["accuracy"]["others"]["ce"]
    expected = differences(elr, ce, labels())["accuracy"]
    assert tuple(ours.values()) == pytest.approx(tuple(vars(expected).values()))


def test_what_the_weight_shows_is_summed_up_where_it_can_be() -> None:
    noisy = results()["conditions"]["symmetric 30 %"]["methods"]["ce"]["weight"]
    own = [r.claims for r in made_up() if (r.method, r.condition) == ("ce", "symmetric 30 %")]
    assert noisy["late.flipped_auroc"]["mean"] == pytest.approx(np.mean([c["late"]["flipped_auroc"] for c in own]))
    assert noisy["early.weight_by_doubt.5"]["n"] == 3
    assert "late.flipped_auroc" not in results()["conditions"]["clean"]["methods"]["ce"]["weight"]


def test_the_order_of_the_seeds_changes_nothing() -> None:
    mixed = study_results(made_up(seeds=(2, 0, 1)), truths(), "ce")
    ours, other = flatten(results()["conditions"]), flatten(mixed["conditions"])
    assert ours.keys() == other.keys()
    for key, value in ours.items():
        assert other[key] == (pytest.approx(value) if isinstance(value, float) else value), key


def test_json_holds_it() -> None:
    assert json.loads(json.dumps(results(), allow_nan=False)) == results()


def test_only_shared_seeds_are_compared() -> None:
    records = [r for r in made_up() if r.method != "elr" or r.seed == 1]
    found = study_results(records, truths(), "ce")["conditions"]["clean"]["methods"]
    assert found["elr"]["against"]["accuracy"]["others"]["ce"]["n"] == 1
    assert found["paper"]["against"]["accuracy"]["others"]["ce"]["n"] == 3


def test_one_method_of_one_seed() -> None:
    alone = study_results(made_up({"ce": 1.0}, seeds=[0], claims=False), truths(), "ce")
    assert alone["conditions"]["clean"]["methods"]["ce"]["against"] == {}
    text = report(alone, "alone", [])
    assert "One seed" in text and "±" not in "".join(line for line in text.splitlines() if line.startswith("| ce"))
    assert set(draw_figures(alone)) == {"accuracy_by_noise", "mean_accuracy_by_noise", "best_on_test"}


@pytest.mark.parametrize(
    ("label_N", "words"),
    [(labels()[:-1], "has 3,153 test rows, but there are 3,152 labels"), (labels()[::-1], "with the present labels")],
)
def test_labels_of_another_data_set(label_N: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        study_results(made_up(), truths(label_N), "ce")


def test_a_reference_without_records() -> None:
    with pytest.raises(DataError, match="'scn'"):
        study_results(made_up(), truths(), "scn")


def test_the_report_says_it_all() -> None:
    text = report(results(), "made-up", ["figures/best_on_test.png"])
    for words in (
        "## clean",
        "## symmetric 30 %",
        "`dvc repro` in `studies/made-up`",
        "seeds 0, 1, 2, n = 3",
        "torch 2.13",
    ):
        assert words in text
    assert "{" not in text
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
    assert "![best on test](figures/best_on_test.png)" in text


def test_bold_is_who_is_ahead_of_each_other() -> None:
    rows = [line for line in report(results(), "s", []).splitlines() if "**" in line]
    assert rows and all(line.startswith("| paper") for line in rows)


def test_equals_are_not_bold() -> None:
    twins = [replace(record, method=name) for name in ("a", "b") for record in made_up({"ce": 1.0})]
    assert "**" not in report(study_results(twins, truths(), "a"), "s", [])
