"""Confidence intervals of an AUC and of the difference of two AUCs, valid also with few positives."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, owens_t, stdtr, stdtrit

# pseudo-counts of rows of the rarer class if the estimated variance is below that of the binormal model, chosen on
# generated data sets (benchmarks/intervals.py and differences.py)
_PRIOR = 40.0
_PRIOR_DIFFERENCE = 20.0
_PRIOR_HALF = 1.0  # pseudo-count of rows with AUC 0.5, so that the model's variance is not 0 for an AUC of 1
_SPREAD = 1 / math.sqrt(3)
_ENDS = (1e-12, 1 - 1e-12)


def auc_interval(
    auc: float,
    variance: float,
    positives: tuple[int, float],
    negatives: tuple[int, float],
    confidence_level: float = 0.95,
) -> tuple[float, float]:
    """Return the confidence interval (low, high) of an AUC.

    With few positives and an AUC close to 1, most samples contain only positives that rank high, and their
    variance does not reflect the rare ones that do not: DeLong's interval on the logit scale then covers
    the true AUC in 65 to 90 % instead of 95 % of samples. There are two remedies, neither of which matters
    with many rows.

    First, the ends are the AUCs t whose own standard error would just allow the observed AUC,
    |auc - t| = q se(t), as in Wilson's interval for a proportion (for AUC: Newcombe, Confidence intervals for
    an effect size measure based on the Mann-Whitney statistic, Part 2, Statistics in Medicine 2006). se(t)
    follows the binormal model with equal variances, times the ratio of the estimated variance to the model's.
    Second, a ratio below 1 is shrunk toward 1, and q is Student's quantile. A ratio above 1 is kept: it shows
    rows that the model does not expect, such as positives that rank low, or rows of groups, which are dependent.

    Args:
        auc: score, 0 to 1.
        variance: variance of the AUC, DeLong's or Obuchowski's; NaN if unknown.
        positives, negatives: number of rows and of independent units: of rows, or of groups of equal size that would be
            as informative as the actual ones (`independent_units`).
        confidence_level: share of samples whose interval contains the true AUC.

    Returns:
        (low, high); (0, 1) if the variance is unknown, as with one group of a class. An AUC of 0 or 1 gets the exact
        interval for the number of independent pairs (Clopper and Pearson).
    """
    tail = (1 - confidence_level) / 2
    variance *= _of_few_groups(positives, negatives)
    if math.isnan(variance):
        return 0.0, 1.0
    if auc in (0.0, 1.0):
        near = tail ** (1 / max(1, min(positives[1], negatives[1])))
        return (near, 1.0) if auc == 1 else (0.0, 1 - near)
    m, n = positives[1], negatives[1]
    freedom = _freedom(m, n)
    rows = 1 / positives[0] + 1 / negatives[0]
    edge = 1 / (positives[0] * negatives[0])
    ratio = variance / (_unit_variance(min(max(auc, edge), 1 - edge)) * rows)
    scale = rows * max(ratio, (freedom * ratio + _PRIOR) / (freedom + _PRIOR))
    prior = _PRIOR * min(1.0, max(0.0, 2 - ratio))  # the model says nothing about twice its variance
    prior *= min(m / positives[0], n / negatives[0])  # and little about rows of large groups
    reach = float(stdtrit(freedom + prior, 1 - tail)) ** 2 * scale
    return _end(auc, reach, -1), _end(auc, reach, 1)


def difference_interval(
    aucs: tuple[float, float],
    covariance: NDArray[np.float64],
    positives: tuple[int, float],
    negatives: tuple[int, float],
    confidence_level: float = 0.95,
) -> tuple[float, float, float]:
    """Return the confidence interval (low, high) of the difference of two AUCs on the same rows, and its p-value.

    With few positives and AUCs close to 1, most rows on which the models differ are not in the sample, and DeLong's
    variance of the difference is too small. It is therefore shrunk toward that of the binormal model with equal
    variances, whose AUCs are shrunk slightly toward one half, with the estimated correlation; a larger variance is
    kept. Quantiles are Student's. With many rows none of this has an effect.

    Args:
        aucs: scores, 0 to 1.
        covariance: (2, 2) of them, DeLong's or Obuchowski's.
        positives, negatives, confidence_level: as in `auc_interval`.

    Returns:
        (low, high, p-value); (-1, 1, 1) if the covariance is unknown.
    """
    m, n = positives[1], negatives[1]
    freedom, rows, rarer = _freedom(m, n), 1 / positives[0] + 1 / negatives[0], min(m, n)
    gain = aucs[0] - aucs[1]
    covariance = covariance * _of_few_groups(positives, negatives)
    if np.isnan(covariance).any():
        return -1.0, 1.0, 1.0
    variance = max(float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]), 0.0)
    drawn = [(auc * rarer + 0.5 * _PRIOR_HALF) / (rarer + _PRIOR_HALF) for auc in aucs]
    first, second = (math.sqrt(_unit_variance(auc) * rows) for auc in drawn)
    product = float(covariance[0, 0] * covariance[1, 1])
    correlation = float(covariance[0, 1]) / math.sqrt(product) if product > 0 else 0.0
    model = first**2 + second**2 - 2 * correlation * first * second
    prior = _PRIOR_DIFFERENCE if variance < model else 0.0
    error = math.sqrt((freedom * variance + prior * model) / (freedom + prior))
    reach = float(stdtrit(freedom, 1 - (1 - confidence_level) / 2)) * error
    p_value = float(2 * stdtr(freedom, -abs(gain) / error)) if error > 0 else float(gain == 0)
    return max(gain - reach, -1.0), min(gain + reach, 1.0), p_value


def independent_units(groups: NDArray[Any]) -> float:
    """Return the number of groups of equal size whose mean would vary as that of these groups (Kish 1965).

    >>> independent_units(np.array(["a", "a", "b", "b"])), independent_units(np.array(["a", "a", "a", "b"]))
    (2.0, 1.6)
    """
    sizes = np.unique(groups, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def _of_few_groups(positives: tuple[int, float], negatives: tuple[int, float]) -> float:
    """Return the factor that corrects the variance of rows in groups for few groups of a class, NaN if there is one.

    Their squared deviations from their own mean are too small, by 1 - 1 / m with m groups of equal size; DeLong's
    variance of single rows is already corrected.
    """
    m, n = positives[1], negatives[1]
    if m == positives[0] and n == negatives[0]:
        return 1.0
    return (1 / (m - 1) + 1 / (n - 1)) / (1 / m + 1 / n) if min(m, n) > 1 else math.nan


def _freedom(m: float, n: float) -> float:
    """Return Satterthwaite's degrees of freedom of the model's variances, of m and n independent units."""
    return (m + n) ** 2 / (n**2 / max(m - 1, 1) + m**2 / max(n - 1, 1))


def _unit_variance(auc: float) -> float:
    """Return the variance of one row's placement under the binormal model with equal variances.

    It is P(a positive is above two negatives) minus the squared AUC; the bivariate normal probability with
    correlation 1/2 by Owen's T function.
    """
    h = float(ndtri(auc))
    return max(float(ndtr(h)) - 2 * float(owens_t(h, _SPREAD)) - auc**2, 1e-300)


def _end(auc: float, reach: float, side: int) -> float:
    """Return the farthest AUC t on one side with (auc - t)^2 <= reach x variance(t), by bisection on its probit."""
    inside = float(ndtri(min(max(auc, _ENDS[0]), _ENDS[1])))
    outside = float(ndtri(_ENDS[side > 0]))
    for _ in range(50):
        middle = (inside + outside) / 2
        t = float(ndtr(middle))
        if (auc - t) ** 2 <= reach * _unit_variance(t):
            inside = middle
        else:
            outside = middle
    return float(ndtr(inside))
