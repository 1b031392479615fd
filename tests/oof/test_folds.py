"""Folds are stratified, deterministic and disjoint, and groups are not split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oof.errors import FoldError
from oof.folds import Folds, check_folds, fold_table, make_folds


def rows(n: int, positive_every: int = 4) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([f"{i:05d}" for i in range(n)], dtype=object)
    return ids, (np.arange(n) % positive_every == 0).astype(int)


@settings(max_examples=30)
@given(st.integers(40, 200), st.integers(2, 5), st.integers(0, 1000))
def test_every_fold_has_the_same_balance(n: int, k: int, seed: int) -> None:
    ids, y = rows(n)
    folds = make_folds(ids, y, k=k, seed=seed)
    positives = np.bincount(folds.fold, weights=y)
    sizes = np.bincount(folds.fold)
    assert folds.k == k
    assert np.ptp(positives) <= 1
    assert np.ptp(sizes) <= 2


def test_the_order_of_rows_does_not_matter() -> None:
    ids, y = rows(60)
    shuffled = np.random.default_rng(0).permutation(60)
    first = make_folds(ids, y, k=3, seed=7)
    second = make_folds(ids[shuffled], y[shuffled], k=3, seed=7)
    assert dict(zip(first.ids, first.fold, strict=True)) == dict(zip(second.ids, second.fold, strict=True))
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != make_folds(ids, y, k=3, seed=8).fingerprint


def test_groups_stay_whole() -> None:
    ids, y = rows(120, 2)
    groups = np.array([f"g{i // 6}" for i in range(120)], dtype=object)
    folds = make_folds(ids, y, k=4, seed=0, groups=groups, group="column:person")
    for group in set(groups):
        assert len(set(folds.fold[groups == group])) == 1
    assert folds.how["method"] == "StratifiedGroupKFold"
    assert set(fold_table(folds)["groups"]) == {5}


def test_a_split_group_is_a_leak() -> None:
    ids, y = rows(8, 2)
    groups = np.array(["a"] * 8, dtype=object)
    with pytest.raises(FoldError, match="1 groups are in more than one fold, so validation rows leak.*: a"):
        check_folds(Folds(ids, y.astype(np.int8), np.repeat(np.array([0, 1], np.int16), 4), groups))


def test_one_class_is_refused() -> None:
    ids, _ = rows(10)
    with pytest.raises(FoldError, match="All 10 targets are 1"):
        make_folds(ids, np.ones(10, int), k=2, seed=0)


def test_fewer_rows_than_folds_is_refused() -> None:
    ids, y = rows(8)
    with pytest.raises(FoldError, match="5 folds need at least 5 rows of each class; class 1 has 2 of 8"):
        make_folds(ids, y, k=5, seed=0)


def test_too_few_groups_are_refused() -> None:
    ids, y = rows(40, 2)
    with pytest.raises(FoldError, match="5 folds need at least 5 groups, and 'column:x' has 2"):
        make_folds(ids, y, k=5, seed=0, groups=np.array(["a", "b"] * 20, dtype=object), group="column:x")


def test_other_targets_are_refused() -> None:
    ids, _ = rows(10)
    with pytest.raises(FoldError, match=r"Targets must be 0 \(real\) or 1 \(fake\); found 2"):
        make_folds(ids, np.array([0, 1, 2] + [0] * 7), k=2, seed=0)


def test_a_fold_without_a_class_is_refused() -> None:
    ids, y = rows(40, 2)
    groups = np.array([f"g{label}" for label in y], dtype=object)
    with pytest.raises(
        FoldError,
        match=r"Fold 0 has only class [01], but.*'g1', has 20 of 40 rows, including all of class",
    ):
        make_folds(ids, y, k=2, seed=0, groups=groups, group="column:x")
