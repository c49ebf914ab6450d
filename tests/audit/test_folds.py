from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.audit.folds import assign_folds
from nla.errors import ConfigError

GROUPS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=4, max_size=40)
"""(label, size) of each group."""


@given(groups=GROUPS, folds=st.integers(2, 4), seed=st.integers(0, 9))
def test_a_group_is_in_one_fold_and_classes_are_spread_evenly(
    groups: list[tuple[int, int]], folds: int, seed: int
) -> None:
    label_N = np.repeat([label for label, _ in groups], [size for _, size in groups])
    group_N = np.repeat(np.arange(len(groups)) * 7, [size for _, size in groups])
    fold_N = assign_folds(label_N, group_N, folds, seed)
    assert set(fold_N.tolist()) <= set(range(folds))
    for group in np.unique(group_N):
        assert len(set(fold_N[group_N == group].tolist())) == 1
    for label in np.unique(label_N):
        rows_K = [int(((fold_N == fold) & (label_N == label)).sum()) for fold in range(folds)]
        largest = max(size for other, size in groups if other == label)
        assert max(rows_K) - min(rows_K) <= largest


@given(label_N=st.lists(st.integers(0, 4), min_size=3, max_size=60), folds=st.integers(2, 3), data=st.data())
def test_groups_with_several_labels_stay_together(label_N: list[int], folds: int, data: st.DataObject) -> None:
    group_N = data.draw(st.lists(st.integers(0, 9), min_size=len(label_N), max_size=len(label_N)))
    if len(set(group_N)) < folds:
        with pytest.raises(ConfigError, match=rf"audit.folds: {folds} folds of {len(set(group_N))} distinct"):
            assign_folds(np.array(label_N), np.array(group_N), folds, 0)
        return
    fold_N = assign_folds(np.array(label_N), np.array(group_N), folds, 0)
    assert len({(fold, group) for fold, group in zip(fold_N.tolist(), group_N, strict=True)}) == len(set(group_N))


def test_no_fold_is_much_larger_and_none_is_empty() -> None:
    label_N = np.arange(200) % 7
    fold_N = assign_folds(label_N, np.arange(200), 5, 3)
    assert np.ptp(np.bincount(fold_N, minlength=5)) <= 7, "at most one row per class"
    assert assign_folds(np.zeros(3, int), np.arange(3), 3, 0).tolist() != [0, 0, 0]
    assert sorted(assign_folds(np.arange(3), np.arange(3), 3, 0).tolist()) == [0, 1, 2]


def test_the_seed_decides() -> None:
    label_N, group_N = np.zeros(50, int), np.arange(50)
    assert (assign_folds(label_N, group_N, 5, 1) == assign_folds(label_N, group_N, 5, 1)).all()
    assert (assign_folds(label_N, group_N, 5, 1) != assign_folds(label_N, group_N, 5, 2)).any()
