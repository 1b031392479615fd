"""CV against the public score."""

import math

import numpy as np
import pytest
from scipy import stats

from submissions.correlation import correlate


def line(count: int, seed: int, noise: float = 1e-3) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    cv = rng.uniform(0.9, 0.96, count)
    return cv.tolist(), (0.1 + 0.85 * cv + noise * rng.normal(size=count)).tolist()


def test_fit_and_correlations_are_those_of_scipy() -> None:
    cv, public = line(12, 0, 0.01)
    cv[3], public[5] = cv[2], public[4]
    found = correlate(cv, public)
    theil = stats.theilslopes(public, cv)
    assert found.slope == pytest.approx(theil.slope)
    assert found.rank_correlation == pytest.approx(stats.spearmanr(cv, public).statistic)
    assert found.correlation == pytest.approx(stats.pearsonr(cv, public).statistic)
    assert found.gap == pytest.approx(np.median(np.subtract(public, cv)))
    residuals = np.subtract(public, [found.expected_public(value) for value in cv])
    assert np.median(residuals) == pytest.approx(0, abs=1e-12)


def test_outliers_are_classified_and_left_out_of_the_fit() -> None:
    cv, public = line(12, 1)
    clean = correlate(cv, public)
    assert clean.outliers == ()
    assert "agree on the order" in clean.verdict
    cv += [0.99, 0.95, 0.95, 0.91]
    public += [0.91, 0.51, 0.05, 0.94]
    found = correlate(cv, public)
    assert found.slope == pytest.approx(clean.slope, abs=0.1)
    meanings = {item.position: item.meaning for item in found.outliers}
    assert sorted(meanings) == [12, 13, 14, 15]
    assert meanings[12].startswith("CV too high: a leak")
    assert meanings[13].startswith("a bug: the public score is near chance")
    assert meanings[14].startswith("a bug: the order is reversed")
    assert meanings[15].startswith("public score too high: chance")
    assert found.outliers[0].residual == pytest.approx(0.91 - found.expected_public(0.99))


def test_a_loss_reverses_the_direction() -> None:
    cv, public = line(10, 2)
    found = correlate([*cv, 0.93], [*public, 0.98], higher_is_better=False, chance=math.nan)
    assert [item.meaning[:11] for item in found.outliers] == ["CV too high"]


def test_unscored_submissions_are_skipped() -> None:
    cv, public = line(6, 3)
    found = correlate([None, *cv, 0.5], [0.1, *public, None])
    assert found.count == 6
    assert found.slope == pytest.approx(correlate(cv, public).slope)


def test_with_few_submissions_nothing_is_claimed() -> None:
    found = correlate([0.9, 0.91], [0.88, 0.9])
    assert found.count == 2
    assert math.isnan(found.slope)
    assert found.gap == pytest.approx(-0.015)
    assert "needs 3 with different CVs" in found.verdict
    assert math.isnan(correlate([], []).gap)
    assert math.isnan(correlate([0.9] * 4, [0.1, 0.2, 0.3, 0.4]).slope)
    four = correlate([0.9, 0.91, 0.92, 0.99], [0.9, 0.91, 0.92, 0.5])
    assert four.outliers == ()


def test_a_missing_correlation_is_reported() -> None:
    rng = np.random.default_rng(4)
    cv = rng.uniform(0.8, 0.9, 20)
    public = 1.7 - cv + 0.001 * rng.normal(size=20)
    assert "does not predict" in correlate(cv.tolist(), public.tolist()).verdict
    near = correlate((0.9 + 1e-5 * rng.normal(size=20)).tolist(), (0.9 + 0.01 * rng.normal(size=20)).tolist())
    assert "cannot distinguish these submissions" in near.verdict or "does not predict" in near.verdict
