"""The whole report of a split."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from nla.config.evaluate import EvaluateConfig
from nla.errors import DataError, WeightsError
from nla.evaluation.metrics import agreement, bayes_accuracy, measure, per_class, summary
from nla.evaluation.significance import wilson

CLASSES = ("neutral", "happiness", "surprise", "sadness")
CONFIG = EvaluateConfig(bootstrap=200)


def random_split(rows: int, seed: int, present: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    p_NC = rng.dirichlet(np.full(4, 0.5), rows).astype(np.float32)
    return p_NC, rng.integers(0, present, rows)


def leaves(report: Any) -> list[Any]:
    if isinstance(report, dict):
        return [leaf for value in report.values() for leaf in leaves(value)]
    return [leaf for value in report for leaf in leaves(value)] if isinstance(report, list) else [report]


def test_agrees_with_sklearn() -> None:
    p_NC, label_N = random_split(500, 0)
    report = measure(p_NC, label_N, CLASSES, CONFIG)
    predicted = p_NC.argmax(1)
    assert report["rows"] == 500
    assert report["accuracy"] == pytest.approx(sk.accuracy_score(label_N, predicted))
    assert report["mean_accuracy"] == pytest.approx(sk.balanced_accuracy_score(label_N, predicted))
    assert report["macro_f1"] == pytest.approx(sk.f1_score(label_N, predicted, average="macro"))
    p = p_NC.astype(np.float64)
    assert report["nll"] == pytest.approx(sk.log_loss(label_N, p / p.sum(1, keepdims=True)))
    for name, scores in sk.classification_report(label_N, predicted, target_names=CLASSES, output_dict=True).items():
        if name in CLASSES:
            row = report["classes"][name]
            found = (row["precision"], row["recall"], row["f1"], row["support"])
            assert found == pytest.approx(
                (scores["precision"], scores["recall"], scores["f1-score"], scores["support"])
            )


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(0, 10**6), st.booleans())
def test_is_json_finite_and_between_its_bounds(rows: int, seed: int, votes: bool) -> None:
    p_NC, label_N = random_split(rows, seed)
    report = measure(p_NC, label_N, CLASSES, CONFIG, votes_NC=p_NC if votes else None, posterior_NC=p_NC)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert {type(leaf) for leaf in leaves(report)} <= {float, int, str, type(None)}
    for name in ("accuracy", "mean_accuracy", "macro_f1"):
        assert 0 <= report[f"{name}_low"] <= report[f"{name}_high"] <= 1
    for name in ("nll", "ece"):
        assert 0 <= report[f"{name}_low"] <= report[f"{name}_high"]
    assert ("votes" in report) == votes


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(0, 10**6))
def test_the_order_of_samples_is_nothing(rows: int, seed: int) -> None:
    p_NC, label_N = random_split(rows, seed)
    order = np.random.default_rng(seed).permutation(rows)
    reports = [measure(p, n, CLASSES, CONFIG, p, p) for p, n in ((p_NC, label_N), (p_NC[order], label_N[order]))]
    np.testing.assert_allclose(*(np.array(leaves(r | {"absent": []}), float) for r in reports), rtol=1e-6, atol=1e-9)


def test_absent_classes_are_named_and_left_out_of_mean_accuracy() -> None:
    p_NC, label_N = random_split(200, 3, present=2)
    report = measure(p_NC, label_N, CLASSES, CONFIG)
    assert report["absent"] == ["surprise", "sadness"]
    assert list(report["classes"]) == ["neutral", "happiness"]
    assert report["mean_accuracy"] == pytest.approx(np.mean([row["recall"] for row in report["classes"].values()]))
    found = sum(row["f1"] for row in report["classes"].values())
    assert report["macro_f1"] == pytest.approx(found / 4), "all four are predicted"


def test_all_right_and_sure() -> None:
    report = measure(np.eye(4)[[0, 1, 2, 3, 3]], np.array([0, 1, 2, 3, 3]), CLASSES, CONFIG)
    assert (report["accuracy"], report["accuracy_low"], report["accuracy_high"]) == (1, 1, 1)
    assert report["mean_accuracy"] == report["macro_f1"] == 1
    assert report["nll"] == report["ece"] == 0
    assert {report[f"{name}_{end}"] for name in ("nll", "ece") for end in ("low", "high")} == {0}


def test_nll_and_ece_have_intervals() -> None:
    p_NC, label_N = random_split(4000, 12)
    report = measure(p_NC, label_N, CLASSES, EvaluateConfig())
    nll_N = -np.log(np.maximum(p_NC[np.arange(4000), label_N].astype(float), np.finfo(np.float32).tiny))
    margin = 1.96 * nll_N.std() / 4000**0.5
    found = (report["nll_low"], report["nll_high"])
    assert found == pytest.approx((report["nll"] - margin, report["nll"] + margin), abs=0.2 * margin)
    # far from calibrated, each bin is off to the same side, and the error is as uncertain as a mean
    gap_N = (p_NC.argmax(1) == label_N) - p_NC.max(1).astype(float)
    margin = 1.96 * gap_N.std() / 4000**0.5
    assert report["ece"] == pytest.approx(-gap_N.mean(), abs=0.01)
    found = (report["ece_low"], report["ece_high"])
    assert found == pytest.approx((report["ece"] - margin, report["ece"] + margin), abs=0.2 * margin)


def test_all_wrong_and_sure_is_finite() -> None:
    report = measure(np.eye(4), np.array([1, 2, 3, 0]), CLASSES, CONFIG)
    assert report["accuracy"] == report["macro_f1"] == report["classes"]["neutral"]["precision"] == 0
    assert 87 < report["nll"] < 88


def test_one_sample() -> None:
    report = measure(np.array([[0.1, 0.7, 0.1, 0.1]]), np.array([1]), CLASSES, CONFIG)
    assert report["accuracy"] == report["mean_accuracy"] == 1
    assert report["ece"] == pytest.approx(0.3)


def test_a_tie_goes_to_the_first_class() -> None:
    report = measure(np.full((2, 4), 0.25), np.array([0, 3]), CLASSES, CONFIG)
    assert report["classes"]["neutral"]["recall"] == 1
    assert report["classes"]["sadness"]["recall"] == 0


def test_bayes_is_what_the_posterior_reaches() -> None:
    rng = np.random.default_rng(0)
    posterior_NC = rng.dirichlet(np.full(4, 0.3), 5000)
    label_N = (rng.random((5000, 1)) > posterior_NC.cumsum(1)).sum(1)
    assert bayes_accuracy(posterior_NC, label_N) == pytest.approx(posterior_NC.max(1).mean(), abs=0.03)
    report = measure(posterior_NC, label_N, CLASSES, CONFIG, posterior_NC=posterior_NC)
    assert report["bayes_accuracy"] == report["accuracy"]
    assert report["bayes_ratio"] == 1
    other = measure(np.roll(posterior_NC, 1, axis=1), label_N, CLASSES, CONFIG, posterior_NC=posterior_NC)
    assert other["bayes_ratio"] == pytest.approx(other["accuracy"] / report["accuracy"])


def test_bayes_leaves_out_rows_without_posterior() -> None:
    p_NC, label_N = random_split(60, 5)
    posterior_NC = np.where(np.arange(60)[:, None] < 30, np.nan, p_NC)
    report = measure(p_NC, label_N, CLASSES, CONFIG, posterior_NC=posterior_NC)
    assert report["bayes_accuracy"] == pytest.approx((p_NC.argmax(1) == label_N)[30:].mean())
    assert report["bayes_ratio"] == 1
    assert "bayes_accuracy" not in measure(p_NC, label_N, CLASSES, CONFIG, posterior_NC=np.full((60, 4), np.nan))


def test_no_ratio_to_a_bayes_accuracy_of_nothing() -> None:
    report = measure(np.eye(4)[:1], np.array([0]), CLASSES, CONFIG, posterior_NC=np.eye(4)[1:2])
    assert report["bayes_accuracy"] == 0
    assert "bayes_ratio" not in report


def test_the_line_for_the_console() -> None:
    report = {
        "accuracy": 0.87654,
        "accuracy_low": 0.86,
        "accuracy_high": 0.891,
        "mean_accuracy": 0.61,
        "macro_f1": 0.62345,
    }
    line = "accuracy 87.65% (95 % CI 86.00% to 89.10%), mean class accuracy 61.00%, macro-F1 0.6234"
    assert summary(report) == line


def test_seeded() -> None:
    p_NC, label_N = random_split(300, 6)
    assert measure(p_NC, label_N, CLASSES, CONFIG) == measure(p_NC, label_N, CLASSES, CONFIG)
    other = measure(p_NC, label_N, CLASSES, CONFIG.model_copy(update={"seed": 1}))
    assert other["mean_accuracy_low"] != measure(p_NC, label_N, CLASSES, CONFIG)["mean_accuracy_low"]


def test_an_empty_split_is_an_error() -> None:
    message = r"^there is nothing to measure: the split has no rows\. Run `dvc repro prepare` and check its report\.$"
    with pytest.raises(DataError, match=message):
        measure(np.empty((0, 4)), np.empty(0, int), CLASSES, CONFIG)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5, 2.0])
def test_what_are_no_probabilities_is_an_error(value: float) -> None:
    p_NC, label_N = random_split(5, 7)
    p_NC[2, 1] = value
    message = r"^the model's outputs are not probabilities \(not finite, or not summing to 1\)\. Train it again\.$"
    with pytest.raises(WeightsError, match=message):
        measure(p_NC, label_N, CLASSES, CONFIG)


@pytest.mark.parametrize(("excess", "is_right"), [(5e-4, True), (2e-3, False), (-2e-3, False)])
def test_rows_sum_to_one_but_for_rounding(excess: float, is_right: bool) -> None:
    p_NC, label_N = random_split(5, 7)
    p_NC[2] *= 1 + excess
    refused = contextlib.nullcontext() if is_right else pytest.raises(WeightsError, match="not probabilities")
    with refused:
        measure(p_NC, label_N, CLASSES, CONFIG)


def test_a_label_that_is_no_class_is_an_error() -> None:
    p_NC, _ = random_split(2, 8)
    with pytest.raises(DataError, match="4 classes allow 0 to 3"):
        measure(p_NC, np.array([0, 4]), CLASSES, CONFIG)


def test_other_classes_than_probabilities_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not match"):
        measure(*random_split(3, 9), CLASSES[:3], CONFIG)


def test_a_class_has_its_recall_with_its_interval_its_precision_and_its_f1() -> None:
    """Of five actual cats three are found, and one of two dogs is taken for a cat; no bird is there."""
    report = per_class(np.array([[3, 2, 0], [1, 1, 0], [0, 0, 0]]), ("cat", "dog", "bird"))
    assert list(report) == ["cat", "dog"]
    low, high = wilson(3, 5)
    expected = {"recall": 3 / 5, "recall_low": low, "recall_high": high, "precision": 3 / 4, "f1": 2 / 3, "support": 5}
    assert report["cat"] == pytest.approx(expected)
    assert {name: type(value) for name, value in report["cat"].items()} == {
        **dict.fromkeys(expected, float),
        "support": int,
    }


def test_the_votes_of_a_report_are_their_agreement() -> None:
    p_NC, label_N = random_split(30, 11)
    votes_NC = np.roll(p_NC, 1, axis=0)
    assert measure(p_NC, label_N, CLASSES, CONFIG, votes_NC)["votes"] == agreement(p_NC, votes_NC)


@pytest.mark.parametrize("names", [CLASSES[:3], (*CLASSES, "anger")])
def test_names_of_other_classes_than_the_matrix_are_an_error(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="zip"):
        per_class(np.eye(4, dtype=int), names)


def test_a_thousand_resamples_of_four_thousand_rows_are_quick() -> None:
    p_NC, label_N = random_split(4000, 10)
    start = time.process_time()
    measure(p_NC, label_N, CLASSES, EvaluateConfig(), p_NC, p_NC)
    assert time.process_time() - start < 3
