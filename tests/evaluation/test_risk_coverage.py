"""Accuracy of what is kept, against a loop over thresholds and over orders."""

from __future__ import annotations

import csv
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.evaluation.risk_coverage import risk_coverage, selective, write_risk_coverage

scored = st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.7, 0.9, 1.0]), st.booleans()), min_size=1, max_size=60)


@given(scored)
def test_each_point_is_what_a_threshold_keeps(rows: list[tuple[float, bool]]) -> None:
    curve = risk_coverage(np.array([c for c, _ in rows]), np.array([r for _, r in rows]))
    assert curve.least.tolist() == sorted({c for c, _ in rows}, reverse=True)
    for least, coverage, accuracy in zip(curve.least, curve.coverage, curve.accuracy, strict=True):
        kept = [right for confidence, right in rows if confidence >= least]
        assert coverage == pytest.approx(len(kept) / len(rows))
        assert accuracy == pytest.approx(sum(kept) / len(kept))
    assert curve.coverage[-1] == 1


@given(st.lists(st.tuples(st.sampled_from([0.3, 0.6]), st.booleans()), min_size=1, max_size=6))
def test_the_area_is_the_mean_over_all_orders_of_equals(rows: list[tuple[float, bool]]) -> None:
    areas = []
    for order in permutations(rows):
        if [c for c, _ in order] == sorted((c for c, _ in order), reverse=True):
            wrong = np.cumsum([not right for _, right in order])
            areas.append(np.mean(wrong / np.arange(1, len(order) + 1)))
    curve = risk_coverage(np.array([c for c, _ in rows]), np.array([r for _, r in rows]))
    assert curve.aurc == pytest.approx(np.mean(areas))


@given(scored)
def test_neither_order_nor_scale_matters(rows: list[tuple[float, bool]]) -> None:
    confidence_N, right_N = np.array([c for c, _ in rows]), np.array([r for _, r in rows])
    order_N = np.random.default_rng(0).permutation(len(rows))
    assert risk_coverage(confidence_N**3, right_N).aurc == risk_coverage(confidence_N, right_N).aurc
    assert risk_coverage(confidence_N[order_N], right_N[order_N]).aurc == risk_coverage(confidence_N, right_N).aurc


def test_wrong_ones_that_are_least_confident_are_best() -> None:
    confidence_N, right_N = np.arange(10) / 10, np.arange(10) >= 2
    assert risk_coverage(confidence_N, right_N).aurc < risk_coverage(-confidence_N, right_N).aurc
    assert risk_coverage(confidence_N, right_N).aurc == pytest.approx((1 / 9 + 2 / 10) / 10)


def test_the_table_holds_each_percent(tmp_path: Path) -> None:
    p_NC = np.random.default_rng(0).dirichlet([0.4, 0.4, 0.4], 1000)
    label_N = np.random.default_rng(1).integers(0, 3, 1000)
    curve = selective(p_NC, p_NC, label_N)
    write_risk_coverage(tmp_path / "r.csv", curve)
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["coverage"] for row in rows] == pytest.approx(np.arange(1, 101) / 100)
    for row in rows[::10]:
        kept_N = p_NC.max(1) >= row["confidence"]
        assert (p_NC.argmax(1) == label_N)[kept_N].mean() == pytest.approx(row["accuracy"])
    write_risk_coverage(tmp_path / "r.csv", selective(np.full((5, 2), 0.5), np.full((5, 2), 0.5), np.zeros(5, int)))
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 2, "equally confident: all or none"
