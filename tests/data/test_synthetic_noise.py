from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.data.synthetic_imbalance import impose_imbalance, keep_shares, largest_factor
from nla.data.synthetic_noise import flip_labels, swap_shares, transition_matrix
from nla.errors import DataError

KINDS = st.sampled_from(["symmetric", "asymmetric", "pair"])
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(lambda labels: np.array(labels, np.int8))
MAP = {0: 3, 2: 1}


def flip(label_N: np.ndarray, kind: str, rate: float, exact: bool = True, seed: int = 0) -> np.ndarray:
    return flip_labels(label_N, 5, kind, rate, exact, MAP, np.random.default_rng(seed))


@given(LABELS, KINDS, st.floats(0, 0.99))
def test_exact_noise_flips_the_rounded_number_of_rows_and_never_to_the_same_class(
    label_N: np.ndarray, kind: str, rate: float
) -> None:
    given_N = label_N.copy()
    noisy_N = flip(label_N, kind, rate)
    eligible = sum(int(label) in MAP for label in label_N) if kind == "asymmetric" else len(label_N)
    flipped = [(int(old), int(new)) for old, new in zip(label_N, noisy_N, strict=True) if old != new]
    assert len(flipped) == round(rate * eligible)
    assert all(0 <= new < 5 for _, new in flipped)
    if kind == "asymmetric":
        assert all(MAP[old] == new for old, new in flipped)
    if kind == "pair":
        assert all(new == (old + 1 if old < 4 else 0) for old, new in flipped)
    assert noisy_N.dtype == label_N.dtype
    np.testing.assert_array_equal(label_N, given_N)


@given(LABELS, KINDS, st.booleans(), st.floats(0, 0.9), st.integers(0, 9))
def test_noise_is_seeded_and_a_higher_rate_only_adds_to_it(
    label_N: np.ndarray, kind: str, exact: bool, rate: float, seed: int
) -> None:
    low_N, high_N = flip(label_N, kind, rate / 2, exact, seed), flip(label_N, kind, rate, exact, seed)
    np.testing.assert_array_equal(high_N, flip(label_N, kind, rate, exact, seed))
    flipped_N = low_N != label_N
    np.testing.assert_array_equal(low_N[flipped_N], high_N[flipped_N])


@given(LABELS, KINDS, st.floats(0, 0.99))
def test_transitions_are_the_measured_shares_and_sum_to_one(label_N: np.ndarray, kind: str, rate: float) -> None:
    noisy_N = flip(label_N, kind, rate)
    matrix_CC = transition_matrix(label_N, noisy_N, 5)
    np.testing.assert_allclose(matrix_CC.sum(axis=1), 1)
    pairs, rows = Counter(zip(label_N.tolist(), noisy_N.tolist(), strict=True)), Counter(label_N.tolist())
    for (old, new), n in pairs.items():
        assert matrix_CC[old, new] == pytest.approx(n / rows[old])


def test_symmetric_noise_is_uniform_over_the_other_classes() -> None:
    matrix_CC = transition_matrix(label_N := np.repeat(np.arange(5), 20_000), flip(label_N, "symmetric", 0.4), 5)
    expected_CC = np.full((5, 5), 0.1) + 0.5 * np.eye(5)
    # Five standard deviations of a share of 20,000 draws.
    np.testing.assert_allclose(matrix_CC, expected_CC, atol=5 * (0.25 / 20_000) ** 0.5)


def test_noise_drawn_row_by_row_is_of_the_rate_but_not_of_the_exact_number() -> None:
    label_N = np.zeros(2000, np.int8)
    counts = [int((flip(label_N, "symmetric", 0.3, exact=False, seed=s) != 0).sum()) for s in range(50)]
    deviation = (2000 * 0.3 * 0.7) ** 0.5
    assert np.mean(counts) == pytest.approx(600, abs=5 * deviation / 50**0.5)
    assert 0.5 * deviation < np.std(counts) < 1.5 * deviation


@pytest.mark.parametrize("mapping", [{1: 1}, {0: 5}, {-1: 0}])
def test_a_map_to_itself_or_outside_the_classes_is_an_error(mapping: dict[int, int]) -> None:
    with pytest.raises(DataError, match=r"data\.noise\.mapping"):
        flip_labels(np.array([0, 1]), 5, "asymmetric", 0.5, True, mapping, np.random.default_rng(0))


def test_noise_among_one_class_is_an_error() -> None:
    with pytest.raises(DataError, match="two classes"):
        flip_labels(np.array([0, 0]), 1, "symmetric", 0.5, True, {}, np.random.default_rng(0))


def test_two_classes_change_places() -> None:
    label_N = np.array([0, 1, 0, 1])
    noisy_N = flip_labels(label_N, 2, "symmetric", 0.5, True, {}, np.random.default_rng(0))
    assert sorted(noisy_N - label_N) in ([-1, -1, 0, 0], [-1, 0, 0, 1], [0, 0, 1, 1])


def test_imbalance_of_equal_classes_is_the_published_geometric_series() -> None:
    # CIFAR-10 at factor 100, the long-tailed sizes everybody uses, but for rounding instead of cutting off.
    label_N = np.repeat(np.arange(10), 5000)
    kept = impose_imbalance(label_N, 10, 100, np.random.default_rng(0))
    published = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    np.testing.assert_allclose(np.bincount(label_N[kept]), published, atol=0.6 + 0.4)


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=8), st.floats(1, 60), st.integers(0, 5))
def test_imbalance_keeps_the_order_of_sizes_and_takes_as_many_rows_as_fit(
    sizes: list[int], factor: float, seed: int
) -> None:
    label_N = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    last = len(sizes) - 1
    ranked = sorted(range(len(sizes)), key=lambda c: (-sizes[c], c))
    # The head that fits, found by asking each class how large it allows the head to be.
    head = min(sizes[c] * factor ** (place / last) for place, c in enumerate(ranked))
    if head / factor < 1 - 1e-9:
        with pytest.raises(DataError, match=r"data\.imbalance_factor"):
            impose_imbalance(label_N, len(sizes), factor, np.random.default_rng(seed))
        return
    if head / factor < 1 + 1e-9:
        return  # on the edge, where rounding decides
    kept = impose_imbalance(label_N, len(sizes), factor, np.random.default_rng(seed))
    counts = np.bincount(label_N[kept], minlength=len(sizes))
    for place, c in enumerate(ranked):
        assert counts[c] == pytest.approx(head * factor ** (-place / last), abs=0.5 + 1e-6)
        assert 1 <= counts[c] <= sizes[c]
    assert len(set(kept.tolist())) == len(kept)
    np.testing.assert_array_equal(kept, np.sort(kept))
    again = impose_imbalance(label_N, len(sizes), factor, np.random.default_rng(seed))
    np.testing.assert_array_equal(kept, again)


def test_the_largest_factor_is_named_and_can_be_made() -> None:
    label_N = np.repeat([0, 1, 2], [40, 10, 30])
    with pytest.raises(DataError, match=r"\(got .*\)\. Use 40 or less"):
        impose_imbalance(label_N, 3, 1000, np.random.default_rng(0))
    assert largest_factor(np.array([40, 10, 30])) == pytest.approx(40)
    kept = impose_imbalance(label_N, 3, 40, np.random.default_rng(0))
    assert np.bincount(label_N[kept]).tolist() == [40, 1, 6]
    # The middle class, not the head, sets the limit here: 1000 at the head would need 31 in the middle.
    assert largest_factor(np.array([1000, 9, 9])) == pytest.approx(81)


def test_shares_of_the_clean_and_the_given_class_change_places() -> None:
    share_NC = np.array([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]], np.float32)
    before_NC = share_NC.copy()
    swapped_NC = swap_shares(share_NC, np.array([0, 1, 2]), np.array([2, 1, 0]))
    np.testing.assert_array_equal(swapped_NC, np.array([[0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.6, 0.2, 0.2]], np.float32))
    np.testing.assert_array_equal(share_NC, before_NC)


def test_the_factor_of_an_absent_class_and_of_a_single_one() -> None:
    assert largest_factor(np.array([5, 0, 3])) == 0
    assert largest_factor(np.array([7])) == 1
    with pytest.raises(DataError, match=r"data\.imbalance_factor"):
        impose_imbalance(np.array([0, 0, 2]), 3, 1.0, np.random.default_rng(0))
    assert impose_imbalance(np.zeros(4, int), 1, 1.0, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]


def test_the_largest_factor_itself_can_be_made_and_ties_keep_the_order_of_classes() -> None:
    kept = impose_imbalance(np.repeat([0, 1], [40, 10]), 2, 40.0, np.random.default_rng(0))
    assert kept.tolist()[-1] >= 40 and len(kept) == 41
    label_N = np.tile(np.arange(40), 50)
    counts = np.bincount(label_N[impose_imbalance(label_N, 40, 10.0, np.random.default_rng(0))])
    assert counts.tolist() == [round(50 * 10 ** (-place / 39)) for place in range(40)]


def test_fewer_rows_are_shared_out_by_the_largest_remainder() -> None:
    """Of 10, 6 and 4 rows, 7 are 3.5, 2.1 and 1.4; where remainders are equal, the first classes get one more."""
    label_N = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 6, 4]))
    kept = keep_shares(label_N, 7, np.random.default_rng(1))
    assert np.bincount(label_N[kept]).tolist() == [4, 2, 1]
    np.testing.assert_array_equal(kept, np.unique(kept))
    np.testing.assert_array_equal(kept, keep_shares(label_N, 7, np.random.default_rng(1)))
    assert (kept != keep_shares(label_N, 7, np.random.default_rng(2))).any()
    assert keep_shares(label_N, 20, np.random.default_rng(0)).tolist() == list(range(20))
    equal_N = np.tile(np.arange(40), 3)
    kept = keep_shares(equal_N, 50, np.random.default_rng(0))
    assert np.bincount(equal_N[kept]).tolist() == [2] * 10 + [1] * 30
    gap_N = np.array([0, 0, 2, 2])
    assert np.bincount(gap_N[keep_shares(gap_N, 2, np.random.default_rng(0))]).tolist() == [1, 0, 1]
    for rows, message in ((21, "train has only 20 rows"), (2, "a class would have no training image")):
        with pytest.raises(DataError, match=rf"data\.train_rows: {message} \(got {rows}\)"):
            keep_shares(label_N, rows, np.random.default_rng(0))


@pytest.mark.parametrize(("clean", "noisy"), [(5, 0), (0, 5), (-1, 0), (0, -1), (2, 2)])
def test_a_mapping_to_itself_or_beyond_the_classes_is_refused(clean: int, noisy: int) -> None:
    with pytest.raises(DataError, match=rf"data\.noise\.mapping: class {clean} cannot become class {noisy}\."):
        flip_labels(np.arange(5), 5, "asymmetric", 0.5, True, {4: 0, clean: noisy}, np.random.default_rng(0))


def test_the_noise_of_a_seed_stays_the_same() -> None:
    """Records of studies name their seeds only: other draws would be other data under the same name."""
    label_N = np.arange(12) % 4
    noisy_N = flip_labels(label_N, 4, "symmetric", 0.5, True, {}, np.random.default_rng(3))
    assert noisy_N.tolist() == [3, 1, 2, 0, 1, 0, 2, 1, 1, 1, 2, 3]


def test_the_imbalance_of_an_absent_last_class_is_refused() -> None:
    with pytest.raises(DataError, match="a class would have no training image"):
        impose_imbalance(np.array([0, 0, 1]), 3, 1.0, np.random.default_rng(0))


def test_equal_remainders_go_to_the_first_classes() -> None:
    label_N = np.repeat(np.arange(40), 2)
    kept = keep_shares(label_N, 60, np.random.default_rng(0))
    assert np.bincount(label_N[kept]).tolist() == [2] * 20 + [1] * 20


def test_a_class_of_one_image_is_not_lost() -> None:
    with pytest.raises(DataError, match="a class would have no training image"):
        keep_shares(np.array([0] * 9 + [1]), 4, np.random.default_rng(0))
