"""Intervals of nested scores, and sentences on whether a blend differs from simpler ones."""

import numpy as np
import pytest
from scipy.special import ndtri

from ensemble.significance import compare, nested_interval, verdict
from ensemble.summary import Comparison
from oof.metrics import METRICS, roc_auc
from oof.metrics.intervals import difference, score_interval

MEAN, SINGLE = "mean of ranks", "best single"


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        ({SINGLE: (0.01, 0.01), MEAN: (0.02, 0.01)}, "The blend is significantly better than"),
        ({SINGLE: (0.01, 0.01), MEAN: (-0.02, 0.3)}, "The difference from the mean of ranks is not"),
        ({SINGLE: (0.01, 0.3), MEAN: (0.02, 0.3)}, "The difference from the best single and the mean of ranks is not"),
        ({SINGLE: (0.01, 0.3), MEAN: (-0.02, 0.01)}, "On these rows the blend is worse than the mean of ranks."),
    ],
)
def test_the_verdict_does_not_call_a_loss_a_gain(gains: dict[str, tuple[float, float]], sentence: str) -> None:
    comparisons = [Comparison(name, gain, (gain - 0.1, gain + 0.1), p_value) for name, (gain, p_value) in gains.items()]
    assert verdict(comparisons).startswith(sentence)


@pytest.mark.parametrize("positives", [10, 15, 25, 40, 60])
def test_intervals_with_few_positives_contain_the_true_auc_95_percent_of_the_time(positives: int) -> None:
    rng = np.random.default_rng(positives)
    y = np.repeat([1, 0], [positives, 10 * positives])
    folds = np.arange(len(y)) % 5
    held = []
    for truth in np.tile([0.7, 0.8, 0.85, 0.9, 0.95], 60):
        scores = rng.normal(size=len(y)) + y * ndtri(truth) * np.sqrt(2)
        low, high = nested_interval(METRICS["auc"], y, scores, roc_auc(y, scores) + 0.01, folds, None)
        held.append(low <= truth <= high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_folds_on_different_scales_move_the_upper_end_alone() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    folds = np.arange(400) // 2 % 5
    same = rng.normal(size=400) + y
    shifted = same + np.linspace(-2, 2, 5)[folds]
    score = roc_auc(y, shifted)
    within = float(np.mean([roc_auc(y[folds == fold], shifted[folds == fold]) for fold in range(5)]))
    assert score < within - 0.05
    fixed = score_interval("auc", y, shifted)
    low, high = nested_interval(METRICS["auc"], y, shifted, score, folds, None)
    assert fixed.low <= low < score
    assert high == pytest.approx(score_interval("auc", y, same).high, abs=0.005)  # same pairs within folds
    one_class, few_pairs = y, np.where(np.arange(400) < 20, 2, y)  # 100 of 40,000 pairs are within fold 2
    for other in (one_class, few_pairs):
        assert nested_interval(METRICS["auc"], y, shifted, score, other, None)[1] == pytest.approx(fixed.high)


def test_the_gain_of_fitting_counts_from_15_rows_of_a_class() -> None:
    rng = np.random.default_rng(0)
    for positives, wider in ((14, False), (60, True)):
        y = np.repeat([1, 0], [positives, 600])
        scores = rng.normal(size=len(y)) + y
        folds = np.arange(len(y)) % 5
        one, other = (
            nested_interval(METRICS["auc"], y, scores, roc_auc(y, scores) + gain, folds, None) for gain in (0, 0.05)
        )
        assert (other[0] < one[0] and other[1] > one[1]) == wider
        # a score below one half is skewed the other way
        mirrored = nested_interval(METRICS["auc"], y, -scores, roc_auc(y, -scores), np.zeros(len(y)), None)
        plain = nested_interval(METRICS["auc"], y, scores, roc_auc(y, scores), np.zeros(len(y)), None)
        assert mirrored == pytest.approx((1 - plain[1], 1 - plain[0]))


def test_differences_from_simpler_blends_include_the_uncertainty_of_the_weights() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    blend, other = (rng.normal(size=400) + y for _ in range(2))
    fixed = difference("auc", y, blend, other)
    nested_score = roc_auc(y, blend)
    for fitted in (0.0, 0.01, 0.2):
        (found,) = compare(METRICS["auc"], y, blend, {MEAN: other}, None, nested_score + fitted)
        error = 1.96 * 0.75 * (1 - 15 / 200) * fitted
        assert found.gain == fixed.gain
        low, high = (
            fixed.gain - np.hypot(fixed.low - fixed.gain, error),
            fixed.gain + np.hypot(fixed.high - fixed.gain, error),
        )
        assert found.interval == pytest.approx((low, high))
        assert (found.p_value < 0.05) == (not low <= 0 <= high)
        assert found.p_value > fixed.p_value or not fitted
    few = np.arange(400) < 15
    (found,) = compare(METRICS["auc"], few, blend, {MEAN: other}, None, 1.0)
    assert found.p_value == pytest.approx(difference("auc", few, blend, other).p_value)


def test_a_difference_that_is_clear_only_for_fixed_weights_is_not_significant() -> None:
    y = np.arange(400) % 2
    other = np.random.default_rng(0).normal(size=400) + y
    blend = other + 0.1 * y  # nearly the same order, so the paired difference of fixed predictions is very clear
    score = roc_auc(y, blend)
    p_values = [compare(METRICS["auc"], y, blend, {MEAN: other}, None, score + more)[0].p_value for more in (0, 0.1)]
    assert p_values[0] < 0.001
    assert p_values[1] > 0.5


@pytest.mark.parametrize("positives", [1, 5, 10, 40])
def test_the_lower_end_is_brought_closer_only_if_enough_rows_show_the_skewness(positives: int) -> None:
    rng = np.random.default_rng(1)
    y = np.repeat([1, 0], [positives, 400])
    scores = rng.normal(size=len(y)) + 2 * y
    folds, score = np.zeros(len(y)), roc_auc(y, scores)
    for groups in (None, np.arange(len(y))):
        fixed = score_interval("auc", y, scores, groups)
        low, high = nested_interval(METRICS["auc"], y, scores, score, folds, groups)
        assert high == pytest.approx(fixed.high)
        assert (low > fixed.low + 1e-9) == (groups is None and positives >= 10)
    # exact ends of a perfect order, and an unknown variance, are kept
    perfect = nested_interval(METRICS["auc"], y, y.astype(float), 1.0, folds, None)
    assert perfect == pytest.approx((score_interval("auc", y, y.astype(float)).low, 1.0))
