"""How members differ: correlations against scipy, duplicates, and what each member adds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from ensemble.diversity import average_ranks, duplicate_members, leave_one_out, prune_members, rank_correlations
from oof.errors import BlendError
from oof.metrics import roc_auc
from tests.support.ensemble import make_oof


def test_average_ranks_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.random(50), np.round(rng.random(200), 1), np.zeros(5), np.array([2.0])):
        np.testing.assert_array_equal(average_ranks(values), rankdata(values))


def test_correlations_equal_scipy_on_the_rows_that_two_members_share() -> None:
    rng = np.random.default_rng(1)
    oof, _ = make_oof(300, 6)
    oof = np.round(oof, 2)
    oof[:100, 2] = np.nan
    oof[50:200, 3] = oof[50:200, 4] = np.nan
    oof[rng.random(300) < 0.3, 5] = np.nan
    found = rank_correlations(oof)
    for a in range(6):
        for b in range(6):
            both = ~np.isnan(oof[:, a]) & ~np.isnan(oof[:, b])
            assert found[a, b] == pytest.approx(spearmanr(oof[both, a], oof[both, b]).statistic, abs=1e-12)


def test_a_constant_member_and_one_without_shared_rows_have_no_correlation() -> None:
    oof = np.random.default_rng(2).random((20, 3))
    oof[:, 1] = 0.5
    oof[:18, 2] = np.nan
    found = rank_correlations(oof)
    assert found[0, 0] == 1
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 1])
    assert np.isnan(found[0, 2])


def test_duplicates_yield_to_the_better_member() -> None:
    oof, y = make_oof(500, 3)
    aucs = [roc_auc(y, column) for column in oof.T]
    best = int(np.argmax(aucs))
    noisy = oof[:, best] + 1e-4 * np.random.default_rng(3).normal(size=500)
    wide = np.column_stack([oof, noisy, oof[:, best] ** 3])
    found = duplicate_members(y, wide)
    assert len(found) == 2
    kept = set(range(5)) - {item.member for item in found}
    assert len(kept & {best, 3, 4}) == 1
    assert {item.of for item in found} == kept & {best, 3, 4}
    assert all(item.correlation > 0.999 for item in found)
    assert duplicate_members(y, oof) == []


def test_a_partial_duplicate_yields_to_the_whole_member() -> None:
    oof, y = make_oof(300, 2)
    part = oof[:, 0].copy()
    part[:100] = np.nan
    found = duplicate_members(y, np.column_stack([part, oof]))
    assert [(item.member, item.of) for item in found] == [(0, 1)]


def _mean_of(oof: NDArray[Any]) -> Any:
    def blend(columns: Sequence[int]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = oof[:, list(columns)].mean(axis=1, dtype=np.float64)
        return found

    return blend


def test_leaving_out_a_member_distinguishes_useful_ones_from_noise() -> None:
    oof, y = make_oof(3000, 4, noise=2.0)
    oof[:, 2] = np.random.default_rng(4).random(3000)
    gains = leave_one_out(y, _mean_of(oof), 4)
    assert gains[0].member == 2
    assert gains[0].gain.high < 0
    assert all(item.gain.gain > gains[0].gain.gain for item in gains[1:])
    whole, without = oof.mean(axis=1, dtype=np.float64), np.delete(oof, 2, axis=1).mean(axis=1, dtype=np.float64)
    assert gains[0].gain.gain == pytest.approx(roc_auc(y, whole) - roc_auc(y, without), abs=1e-12)
    with pytest.raises(BlendError, match="at least 2"):
        leave_one_out(y, _mean_of(oof), 1)


def test_members_that_add_nothing_are_dropped_and_useful_ones_kept() -> None:
    oof, y = make_oof(3000, 4, noise=2.0)
    rng = np.random.default_rng(5)
    wide = np.column_stack([oof, rng.random(3000), rng.random(3000)])
    kept = prune_members(y, _mean_of(wide), 6)
    assert 4 not in kept
    assert 5 not in kept
    assert len(kept) >= 2
    assert prune_members(y, _mean_of(wide), 6, at_least=6) == list(range(6))
