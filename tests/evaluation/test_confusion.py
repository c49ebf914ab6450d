"""Confusion counts against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from nla.errors import DataError
from nla.evaluation import confusion as counts

CLASSES = 5
PAIRS = hnp.arrays(np.int64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.integers(0, CLASSES - 1))


@settings(max_examples=40)
@given(PAIRS)
def test_all_agree_with_sklearn(pairs: np.ndarray) -> None:
    label, predicted = pairs.T
    counts_CC = counts.confusion(label, predicted, CLASSES)
    present = np.unique(label)
    np.testing.assert_array_equal(counts_CC, sk.confusion_matrix(label, predicted, labels=range(CLASSES)))
    assert counts.accuracy(counts_CC) == pytest.approx(sk.accuracy_score(label, predicted))
    options = {"labels": range(CLASSES), "average": None, "zero_division": 0}
    np.testing.assert_allclose(counts.recall(counts_CC), sk.recall_score(label, predicted, **options))
    np.testing.assert_allclose(counts.precision(counts_CC), sk.precision_score(label, predicted, **options))
    np.testing.assert_allclose(counts.f1(counts_CC), sk.f1_score(label, predicted, **options))
    mean_recall = sk.recall_score(label, predicted, labels=present, average="macro", zero_division=0)
    assert counts.mean_accuracy(counts_CC) == pytest.approx(mean_recall)
    macro_f1 = sk.f1_score(label, predicted, average="macro", zero_division=0)  # of labels present or predicted
    assert counts.macro_f1(counts_CC) == pytest.approx(macro_f1)


def test_macro_f1_counts_a_class_that_is_only_predicted() -> None:
    """Worked by hand: F1 of .8 and .5, and 0 for the third class, which no sample has; the fourth is not seen."""
    counts_CC = counts.confusion([0, 0, 0, 1, 1], [0, 0, 1, 1, 2], 4)
    assert counts.f1(counts_CC).tolist() == [0.8, 0.5, 0.0, 0.0]
    assert counts.macro_f1(counts_CC) == pytest.approx(1.3 / 3)


@given(PAIRS, st.integers(0, 2**32 - 1))
def test_the_order_of_samples_is_nothing(pairs: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(pairs)
    np.testing.assert_array_equal(counts.confusion(*pairs.T, CLASSES), counts.confusion(*shuffled.T, CLASSES))


@given(PAIRS, st.permutations(range(CLASSES)))
def test_the_order_of_classes_is_nothing_to_the_means(pairs: np.ndarray, order: list[int]) -> None:
    renamed = np.array(order)[pairs]
    for statistic in (counts.accuracy, counts.mean_accuracy, counts.macro_f1):
        before, after = (statistic(counts.confusion(*rows.T, CLASSES)) for rows in (pairs, renamed))
        assert before == pytest.approx(after)


def test_parts_of_a_split_add_up() -> None:
    label, predicted = np.random.default_rng(0).integers(0, CLASSES, (2, 100))
    parts = sum(counts.confusion(label[r::3], predicted[r::3], CLASSES) for r in range(3))
    np.testing.assert_array_equal(parts, counts.confusion(label, predicted, CLASSES))


@pytest.mark.parametrize(
    "statistic", [counts.accuracy, counts.mean_accuracy, counts.macro_f1, counts.recall, counts.f1]
)
def test_a_stack_of_matrices_is_one_call(statistic) -> None:
    stack = np.random.default_rng(0).integers(0, 4, (7, CLASSES, CLASSES))
    np.testing.assert_allclose(statistic(stack), [statistic(one) for one in stack])


def test_no_samples_count_as_nothing_right() -> None:
    empty = counts.confusion([], [], 3)
    assert empty.sum() == counts.accuracy(empty) == counts.mean_accuracy(empty) == counts.macro_f1(empty) == 0


@pytest.mark.parametrize(("label", "predicted"), [([3], [0]), ([0], [3]), ([-1], [0])])
def test_a_label_that_is_no_class_is_an_error(label: list[int], predicted: list[int]) -> None:
    with pytest.raises(DataError, match="3 classes allow 0 to 2"):
        counts.confusion(label, predicted, 3)


def test_unequal_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="same length"):
        counts.confusion([0, 1], [0], 2)
