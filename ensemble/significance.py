"""Intervals of nested scores, and comparisons of a blend with simpler ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ensemble.summary import Comparison
from oof.metrics import Metric, roc_auc
from oof.metrics.intervals import difference, score_interval

REPLICATES = 300  # bootstrap replicates, for metrics that need a bootstrap
# chosen on generated data sets (benchmarks/calibration.py and few_positives.py)
_OF_THE_GAIN = 0.75
_NO_GAIN_BELOW = 15.0  # rows, or groups, of the rarer class
_SKEWNESS = 0.5
_LEAST_SKEWED = 10  # rows of the rarer class; fewer tell too little
_LEAST_SHARE = 0.05  # share of the pairs that are within folds


def nested_interval(
    metric: Metric,
    y: NDArray[Any],
    nested: NDArray[Any],
    score: float,
    folds: NDArray[Any],
    groups: NDArray[Any] | None,
) -> tuple[float, float]:
    """Return the 95 % interval of a nested score, including the uncertainty of the fitted weights.

    An interval for fixed predictions ignores that other rows would give other weights, and contained the true score in
    91 % of 200 generated data sets of 400 to 4,000 rows. The difference between the fitted and the nested score
    indicates the uncertainty of the weights: three quarters of it are their standard error, for the AUC less with few
    rows of a class, where the difference is mostly chance, and 0 with 15 or fewer. docs/blending.md has the coverage.

    Two further corrections are for the AUC. Fold models on different scales reduce the pooled AUC, though not the AUC
    of any of them on new rows; if the pairs of rows within folds have a higher AUC, the upper end is that of an
    interval around it. The AUC of few rows is skewed toward 0.5, so the end on that side would be missed too rarely,
    and is brought closer, except with fewer than 10 rows of a class or with groups.

    Args:
        metric: metric of the blend. y: (n_rows,). nested: nested predictions. score: fitted score.
        folds: (n_rows,). groups: (n_rows,) or None.
    """
    found = score_interval(metric, y, nested, groups, replicates=REPLICATES)
    if math.isnan(found.standard_error):
        return found.low, found.high  # nothing is known
    of_weights = _error_of_weights(metric, y, score, found.score, groups)
    low, high, center = found.score - found.low, found.high - found.score, found.score
    if metric.is_auc:
        rarer = min(_units(y == k, groups) for k in (0, 1))
        if groups is None and rarer >= _LEAST_SKEWED and 0 < found.score < 1:
            skewness = _SKEWNESS * (2 * found.score - 1) / math.sqrt(rarer)
            low, high = low * (1 - max(0.0, skewness)), high * (1 - max(0.0, -skewness))
        center = max(found.score, _auc_within_folds(y, nested, folds))
        if center > found.score > 0:
            high *= math.sqrt(center * (1 - center) / (found.score * (1 - found.score)))
    least = found.score - math.hypot(low, 1.96 * of_weights)
    most = center + math.hypot(high, 1.96 * of_weights)
    return max(least, metric.range[0]), min(most, metric.range[1])


def _error_of_weights(
    metric: Metric, y: NDArray[Any], score: float, nested_score: float, groups: NDArray[Any] | None
) -> float:
    """Return the standard error of a nested score that comes from the fitted weights (`nested_interval`)."""
    share = _OF_THE_GAIN
    if metric.is_auc:
        share *= max(0.0, 1 - _NO_GAIN_BELOW / min(_units(y == k, groups) for k in (0, 1)))
    return share * abs(score - nested_score)


def _units(rows: NDArray[np.bool_], groups: NDArray[Any] | None) -> int:
    return int(rows.sum()) if groups is None else len(np.unique(groups[rows]))


def _auc_within_folds(y: NDArray[Any], scores: NDArray[Any], folds: NDArray[Any]) -> float:
    """Return the share of the pairs within folds that are in the right order; 0 if few pairs are within folds."""
    right = pairs = 0.0
    for fold in np.unique(folds):
        inside = folds == fold
        count = float((y[inside] == 1).sum()) * float((y[inside] == 0).sum())
        if count:
            right += count * roc_auc(y[inside], scores[inside])
            pairs += count
    enough = pairs > 0 and pairs >= _LEAST_SHARE * float((y == 1).sum()) * float((y == 0).sum())
    return right / pairs if enough else 0.0


def compare(
    metric: Metric,
    y: NDArray[Any],
    nested: NDArray[Any],
    others: Mapping[str, NDArray[Any]],
    groups: NDArray[Any] | None,
    score: float,
) -> tuple[Comparison, ...]:
    """Compare the blend's nested predictions with others, all (n_rows,) or (n_rows, n_classes).

    The difference of fixed predictions ignores that other rows would give other weights: in 100 generated sets of noise
    (`benchmarks/noise.py`), its interval contained 0 in 86 %. Intervals are therefore widened as that of the nested
    score, and p-values agree with them; then it is 98 to 100 %.

    Args:
        metric: metric of the blend. y: (n_rows,). others: nested predictions by name. groups: (n_rows,) or None.
        score: fitted score of the blend.
    """
    of_weights = _error_of_weights(metric, y, score, metric(y, nested), groups)
    found = []
    for name, other in others.items():
        if np.array_equal(nested, other):
            found.append(Comparison(name, 0.0, (0.0, 0.0), 1.0))
            continue
        gap = difference(metric, y, nested, other, groups, replicates=REPLICATES)
        below, above = (math.hypot(end - gap.gain, 1.96 * of_weights) for end in (gap.low, gap.high))
        reach = below if gap.gain > 0 else above
        widened = float(2 * ndtr(-1.96 * abs(gap.gain) / reach)) if of_weights > 0 else 0.0
        interval = (gap.gain - below, gap.gain + above)
        found.append(Comparison(name, gap.gain, interval, max(gap.p_value, widened)))
    return tuple(found)


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Return a sentence on whether the blend differs significantly from each of the others."""
    worse = [item.other for item in comparisons if item.p_value < 0.05 and item.gain < 0]
    if worse:
        return (
            f"On these rows the blend is worse than the {' and the '.join(worse)}. dfens blend --optimize none --name "
            f"plain computes the plain mean, --members NAME a single model; compare them on new rows."
        )
    unsure = [item.other for item in comparisons if not (item.p_value < 0.05 and item.gain > 0)]
    if not unsure:
        return "The blend is significantly better than the best single model and the plain mean."
    return f"The difference from the {' and the '.join(unsure)} is not statistically significant on these rows."
