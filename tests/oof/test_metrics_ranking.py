"""Metrics from the ROC curve, compared with independent slow versions from their definitions."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from oof.errors import PredictionError
from oof.metrics.ranking import average_precision, equal_error_rate, partial_auc, roc_curve, tpr_at_fpr
from tests.support.slow_scores import tied_scores

SEEDS = range(6)


def _sets() -> list[tuple[NDArray[Any], NDArray[Any]]]:
    return [
        tied_scores(np.random.default_rng(seed), n, levels) for seed in SEEDS for n in (7, 400) for levels in (20, 1000)
    ]


def slow_tpr_at_fpr(y: NDArray[Any], scores: NDArray[Any], fpr: float) -> float:
    """Return the best mean TPR of a random choice between two neighbouring thresholds with mean FPR `fpr`."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        accused = scores >= threshold
        points.append((accused[y == 0].mean(), accused[y == 1].mean()))
    best = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= fpr <= x1:
            best = max(best, y1 if x1 == fpr else y0 + (y1 - y0) * (fpr - x0) / (x1 - x0))
    return float(best)


@pytest.mark.parametrize("fpr", [0.0, 1e-3, 5e-3, 1e-2, 0.1, 0.25, 0.5, 1.0])
def test_tpr_at_fpr_equals_its_definition(fpr: float) -> None:
    for y, scores in _sets():
        assert tpr_at_fpr(y, scores, fpr) == pytest.approx(slow_tpr_at_fpr(y, scores, fpr), abs=1e-12)


def test_tpr_between_two_thresholds_is_a_straight_line() -> None:
    # with 2 negatives, thresholds reach only FPR 0, 0.5 and 1; at 0.25, TPR is halfway between 0.5 and 1
    y, scores = np.array([1, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1])
    assert tpr_at_fpr(y, scores, 0.0) == 0.5
    assert tpr_at_fpr(y, scores, 0.25) == 0.75
    assert tpr_at_fpr(y, scores, 0.5) == 1.0


def slow_partial_auc(y: NDArray[Any], scores: NDArray[Any], fpr: float) -> float:
    """The integral of the TPR over FPR from 0 to `fpr`, as a sum over a fine grid, standardised by McClish."""
    grid = (np.arange(20_000) + 0.5) / 20_000 * fpr
    area = np.mean([tpr_at_fpr(y, scores, x) for x in grid[::40]]) * fpr
    return float((1 + (area - fpr**2 / 2) / (fpr - fpr**2 / 2)) / 2)


@pytest.mark.parametrize("fpr", [0.01, 0.1, 0.5, 1.0])
def test_partial_auc_equals_scikit_learn(fpr: float) -> None:
    for y, scores in _sets():
        assert partial_auc(y, scores, fpr) == pytest.approx(
            roc_auc_score(y, scores, max_fpr=None if fpr == 1 else fpr), abs=1e-12
        )


def test_partial_auc_equals_its_integral() -> None:
    y, scores = tied_scores(np.random.default_rng(0), 400)
    assert partial_auc(y, scores, 0.2) == pytest.approx(slow_partial_auc(y, scores, 0.2), abs=1e-3)


def slow_equal_error_rate(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Bisect for the FPR at which the miss rate on the straight-line curve equals it."""
    fpr, tpr, _ = sklearn_roc_curve(y, scores, drop_intermediate=False)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        right = int(np.searchsorted(fpr, middle, side="right"))
        if right < len(fpr) and fpr[right - 1] < middle:
            caught = np.interp(middle, fpr[right - 1 : right + 1], tpr[right - 1 : right + 1])
        else:
            caught = tpr[right - 1]
        low, high = (middle, high) if 1 - caught > middle else (low, middle)
    return float(high)


def test_equal_error_rate_equals_its_definition() -> None:
    for y, scores in _sets():
        assert equal_error_rate(y, scores) == pytest.approx(slow_equal_error_rate(y, scores), abs=1e-9)


def test_equal_error_rate_of_perfect_inverted_and_constant_scores() -> None:
    y = np.array([0, 0, 1, 1])
    assert equal_error_rate(y, y) == 0
    assert equal_error_rate(y, 1 - y) == 1
    assert equal_error_rate(y, np.zeros(4)) == 0.5


def slow_average_precision(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Precision at the threshold of each positive, averaged over the positives."""
    return float(np.mean([y[scores >= scores[i]].mean() for i in np.flatnonzero(y == 1)]))


def test_average_precision_equals_its_definition_and_scikit_learn() -> None:
    for y, scores in _sets():
        assert average_precision(y, scores) == pytest.approx(slow_average_precision(y, scores), abs=1e-12)
        assert average_precision(y, scores) == pytest.approx(average_precision_score(y, scores), abs=1e-12)


def test_roc_curve_equals_scikit_learn() -> None:
    for y, scores in _sets():
        fpr, tpr, _ = sklearn_roc_curve(y, scores, drop_intermediate=False)
        ours = roc_curve(y, scores.astype(np.float64))
        np.testing.assert_allclose(ours[0], fpr, atol=1e-15)
        np.testing.assert_allclose(ours[1], tpr, atol=1e-15)


@pytest.mark.parametrize("function", [average_precision, equal_error_rate, partial_auc, roc_curve])
def test_nan_and_one_class_are_errors(function: Any) -> None:
    with pytest.raises(PredictionError, match="row 1 is NaN"):
        function(np.array([0, 1, 1]), np.array([0.5, np.nan, 0.5]))
    with pytest.raises(PredictionError, match="needs both classes"):
        function(np.array([1, 1, 1]), np.array([0.5, 0.1, 0.5]))


def test_a_rate_outside_its_range_is_an_error() -> None:
    y, scores = np.array([0, 1]), np.array([0.1, 0.2])
    with pytest.raises(PredictionError, match="between 0 and 1, not 2"):
        tpr_at_fpr(y, scores, 2)
    with pytest.raises(PredictionError, match="above 0 and at most 1, not 0"):
        partial_auc(y, scores, 0)
