"""Do 95 % intervals hold the truth 95 % of the time?"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from nla.evaluation import confusion as counts
from nla.evaluation import significance
from nla.evaluation.calibration import gaps, reliability
from nla.evaluation.significance import bootstrap, percentiles, reflected, resampled_means, wilson

STATISTICS = {"accuracy": counts.accuracy, "mean_accuracy": counts.mean_accuracy, "macro_f1": counts.macro_f1}


def test_matches_a_bootstrap_that_draws_rows() -> None:
    rng = np.random.default_rng(0)
    label = rng.choice(4, 400, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(rng.random(400) < 0.7, label, rng.integers(0, 4, 400))
    by_rows = np.array([by_hand(label[i], predicted[i]) for i in rng.integers(0, 400, (1000, 400))])
    intervals = bootstrap(counts.confusion(label, predicted, 4), STATISTICS, 4000, seed=1)
    # four standard errors of a 1000-fold bootstrap's percentiles where the spread is 0.03
    np.testing.assert_allclose(list(intervals.values()), np.percentile(by_rows, [2.5, 97.5], axis=0).T, atol=0.012)


def by_hand(label: np.ndarray, predicted: np.ndarray) -> tuple[float, float, float]:
    recalls, f1s = [], []
    for c in set(label.tolist()):
        true_positive = ((label == c) & (predicted == c)).sum()
        recall, precision = true_positive / (label == c).sum(), true_positive / max((predicted == c).sum(), 1)
        recalls.append(recall)
        f1s.append(2 * precision * recall / (precision + recall) if true_positive else 0)
    return float((label == predicted).mean()), float(np.mean(recalls)), float(np.mean(f1s))


def test_covers_the_truth() -> None:
    truth_CC = np.array([[0.40, 0.08, 0.02], [0.05, 0.22, 0.03], [0.02, 0.04, 0.14]])
    rng = np.random.default_rng(2)
    hits = dict.fromkeys(STATISTICS, 0)
    for seed in range(300):
        sample = rng.multinomial(500, truth_CC.ravel()).reshape(3, 3)
        intervals = bootstrap(sample, STATISTICS, 300, seed)
        for name, (low, high) in intervals.items():
            hits[name] += low <= STATISTICS[name](truth_CC) <= high
    # 300 trials at 95 % vary by 3.8; the percentile interval is known to fall a little short
    assert all(0.90 * 300 <= hit <= 0.99 * 300 for hit in hits.values()), hits


def test_a_seed_is_repeated_and_another_differs() -> None:
    counts_CC = np.array([[50, 10], [12, 28]])
    assert bootstrap(counts_CC, STATISTICS, 200, 0) == bootstrap(counts_CC, STATISTICS, 200, 0)
    assert bootstrap(counts_CC, STATISTICS, 200, 0) != bootstrap(counts_CC, STATISTICS, 200, 1)


@pytest.mark.parametrize("counts_CC", [np.diag([5, 7, 0]), np.diag([0, 0, 1])])
def test_all_right_leaves_no_doubt(counts_CC: np.ndarray) -> None:
    assert set(bootstrap(counts_CC, STATISTICS, 100, 0).values()) == {(1.0, 1.0)}


def test_empty_cells_are_never_drawn() -> None:
    """Probabilities that do not sum to 1 exactly must not leak into the last, empty cell."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        counts_CC = rng.integers(1, 1000, (8, 8))
        counts_CC[-1] = 0
        assert bootstrap(counts_CC, {"last": lambda n: n[:, -1].sum(-1)}, 200, 0)["last"] == (0, 0)


def test_means_vary_as_their_standard_error_says() -> None:
    value_NK = np.random.default_rng(4).exponential(size=(900, 2)) * (1, 5)
    means_RK = resampled_means(value_NK, 2000, 0)
    assert means_RK.shape == (2000, 2)
    for k, value_N in enumerate(value_NK.T):
        margin = 1.96 * value_N.std() / 30
        expected = value_N.mean() - margin, value_N.mean() + margin
        assert percentiles(means_RK[:, k]) == pytest.approx(expected, abs=0.15 * margin)


def test_the_order_of_rows_changes_no_mean_and_columns_are_drawn_together() -> None:
    rng = np.random.default_rng(5)
    value_NK = rng.normal(size=(50, 3))
    value_NK[:, 2] = 1 - value_NK[:, 0]
    means_RK = resampled_means(value_NK, 20, 0)
    np.testing.assert_allclose(resampled_means(rng.permutation(value_NK), 20, 0), means_RK)
    np.testing.assert_allclose(means_RK[:, 2], 1 - means_RK[:, 0])
    assert not np.allclose(resampled_means(value_NK, 20, 1), means_RK)


def overconfident(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of four classes that are a little too sure, and labels drawn from the true ones."""
    rng = np.random.default_rng(seed)
    z_NC = rng.normal(0, 2, (rows, 4))
    true_NC, p_NC = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (z_NC, 1.15 * z_NC))
    return p_NC, (rng.random((rows, 1)) > true_NC.cumsum(1)).sum(1).clip(0, 3)


def test_a_calibration_error_is_covered_where_percentiles_lie_above_it() -> None:
    truth = reliability(*overconfident(400_000, 0), bins=15).ece
    hits = dict.fromkeys(("reflected", "percentiles"), 0)
    for seed in range(1, 101):
        p_NC, label_N = overconfident(400, seed)
        ece_R = np.abs(resampled_means(gaps(p_NC, label_N, 15), 100, seed)).sum(1)
        low, high = reflected(ece_R, reliability(p_NC, label_N, 15).ece)
        hits["reflected"] += 0 <= low <= truth <= high
        low, high = percentiles(ece_R)
        hits["percentiles"] += low <= truth <= high
    assert hits["reflected"] >= 75 and hits["percentiles"] <= 25, hits


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (0, 16), (3, 16), (16, 16), (893, 1090), (396, 396)])
def test_wilson_ends_are_where_the_score_test_rejects(successes: int, trials: int) -> None:
    share, z = successes / trials, stats.norm.ppf(0.975)
    low, high = wilson(successes, trials)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):  # |share - p| = z * standard error under p, except where 0 or 1 ends the range
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(z * np.sqrt(end * (1 - end) / trials), abs=1e-9)


def test_slices_draw_what_one_call_would(monkeypatch: pytest.MonkeyPatch) -> None:
    counts_CC = np.array([[30, 5, 1], [4, 20, 2], [0, 3, 9]])
    whole = bootstrap(counts_CC, STATISTICS, 1000, 0)
    monkeypatch.setattr(significance, "SLICE", 9 * 7)
    assert bootstrap(counts_CC, STATISTICS, 1000, 0) == whole


def test_memory_does_not_grow_with_resamples_and_classes() -> None:
    """Eight slices, of which two are there at a time, while the next is drawn."""
    counts_CC = np.eye(40, dtype=np.int64) * 3
    tracemalloc.start()
    bootstrap(counts_CC, {"total": lambda drawn_RCC: drawn_RCC.sum((1, 2))}, 8 * significance.SLICE // 1600, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * 8 * significance.SLICE
