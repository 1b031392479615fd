"""Search for weights by the exact AUC, compared with a slow version that scores each candidate by all pairs."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.kernels import aucs_by_bins
from ensemble.search import bagged_selection, greedy_selection, line_search
from oof.metrics import roc_auc
from tests.support.ensemble import make_oof


def columns_of(rows: int, models: int, seed: int = 0) -> tuple[NDArray[np.float32], int, NDArray[np.int8]]:
    oof, y = make_oof(rows, models, seed=seed)
    order = np.argsort(y, kind="stable")
    return np.ascontiguousarray(oof[order].T), int((y == 0).sum()), y[order]


def slow_selection(columns: NDArray[np.float32], y: NDArray[np.int8], rounds: int) -> list[int]:
    """As AutoGluon's EnsembleSelection: regrets to six digits from the second round, ties to models in use."""
    chance = np.random.RandomState(0)
    picks: list[int] = []
    regrets: list[float] = []
    for _ in range(rounds):
        total = sum((columns[model].astype(np.float64) for model in picks), np.zeros(columns.shape[1]))
        found = np.array([1 - roc_auc(y, (total + column) / (len(picks) + 1)) for column in columns])
        if picks:
            found = found.round(6)
        best = np.flatnonzero(np.isclose(found, found.min(), atol=0, rtol=1e-12))
        used = [model for model in best if model in picks]
        picks.append(int(chance.choice(used or best)))
        regrets.append(round(float(found[picks[-1]]), 6))
    return picks[: int(np.argmin(regrets)) + 1]


@pytest.mark.parametrize("rows", [300, 12_000])
def test_greedy_picks_are_those_of_the_slow_version(rows: int) -> None:
    columns, split, y = columns_of(rows, 6)
    found = greedy_selection(columns, split, rounds=20)
    assert list(found.picks) == slow_selection(columns, y, 20)
    assert found.weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found.weights, np.bincount(found.picks, minlength=6) / len(found.picks))
    assert found.scores[-1] == pytest.approx(roc_auc(y, found.weights @ columns), abs=1e-6)


def test_threads_do_not_change_the_picks() -> None:
    columns, split, _ = columns_of(9_000, 8)
    alone = greedy_selection(columns, split, rounds=15, threads=1)
    assert alone.picks == greedy_selection(columns, split, rounds=15, threads=4).picks


def test_a_sorted_start_begins_with_the_best_singles() -> None:
    columns, split, y = columns_of(1_000, 6)
    singles = [roc_auc(y, column) for column in columns]
    found = greedy_selection(columns, split, rounds=12, sorted_start=3)
    assert list(found.picks[:3]) == list(np.argsort(singles)[::-1][:3])


def test_bagged_weights_sum_to_one_and_follow_the_seed() -> None:
    columns, split, _ = columns_of(800, 6)
    first = bagged_selection(columns, split, bags=4, rounds=5, seed=1)
    assert first.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(first, bagged_selection(columns, split, bags=4, rounds=5, seed=1))
    assert (first != bagged_selection(columns, split, bags=4, rounds=5, seed=2)).any()


def test_line_search_never_falls_below_its_start_and_leaves_the_equal_weights() -> None:
    columns, split, y = columns_of(2_000, 6)
    equal = np.full(6, 1 / 6)
    weights = line_search(columns, split, equal)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0)
    assert roc_auc(y, weights @ columns) > roc_auc(y, equal @ columns) + 0.001


def test_signed_line_search_gives_an_inverted_model_a_negative_weight() -> None:
    columns, split, y = columns_of(2_000, 4)
    columns[0] = 1 - columns[0]
    weights = line_search(columns, split, np.full(4, 0.25), signed=True)
    assert weights[0] < 0
    assert roc_auc(y, weights @ columns) > max(roc_auc(y, column) for column in columns)


@pytest.mark.parametrize(("place", "spread"), [(0.5, 1e-6), (0.7, 0.0), (1e6, 1.0), (-3.0, 1e-3)])
def test_nearly_equal_scores_stay_within_the_bins(place: float, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not check its bins, so a sum beyond the last one would be written outside of the array."""
    places: list[float] = []

    def checked(*arguments: Any) -> NDArray[np.float64]:
        total, columns, _, low, per_unit, bins = arguments
        inside = (total + columns - low) * per_unit
        assert inside.min() > 0
        assert inside.max() < bins
        places.append(float(inside.max()))
        return aucs_by_bins(*arguments)

    monkeypatch.setattr("ensemble.search.aucs_by_bins", checked)
    columns, split, _ = columns_of(5_000, 6)
    greedy_selection((place + spread * columns).astype(np.float32), split, rounds=40)
    assert places


def test_the_histogram_bounds_its_error() -> None:
    columns, split, _ = columns_of(20_000, 2)
    exact = auc_of_classes((columns[0] + columns[1])[:split], (columns[0] + columns[1])[split:])
    for bins in (64, 1024, 16_384):
        ((found, deviation),) = aucs_by_bins(
            columns[0], columns[1:], split, np.float32(-0.01), np.float32((bins - 1) / 2.02), bins
        )
        assert abs(found - exact) < 6 * deviation + 1e-4 / bins
    assert deviation < 1e-5
