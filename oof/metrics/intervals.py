"""Confidence intervals of scores, and paired differences between models with p-values."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.metrics.auc_interval import auc_interval, difference_interval, independent_units
from oof.metrics.bootstrap import bootstrap_scores
from oof.metrics.delong import auc_covariance
from oof.metrics.metric import Metric, MetricFunction
from oof.metrics.table import metric_by_name

Method = Literal["auto", "delong", "bootstrap"]
AnyMetric = str | MetricFunction | Metric


@dataclass(frozen=True)
class Interval:
    """A score with its confidence interval.

    score: score of all rows. low, high: ends of the interval, in the unit of the score.
    standard_error: NaN if a class is too small for an estimate. confidence_level: e.g. 0.95.
    method: how it was computed, in words.
    """

    score: float
    low: float
    high: float
    standard_error: float
    confidence_level: float
    method: str


@dataclass(frozen=True)
class Difference:
    """The difference between two models on the same rows.

    gain: positive if the first is better, also for losses. low, high: its interval.
    p_value: two-sided, for the null hypothesis of no difference.
    """

    gain: float
    low: float
    high: float
    p_value: float
    standard_error: float
    confidence_level: float
    method: str

    @property
    def is_significant(self) -> bool:
        """Return whether the interval excludes 0."""
        return self.p_value < 1 - self.confidence_level


def score_interval(
    metric: AnyMetric,
    y: NDArray[Any],
    scores: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    confidence_level: float = 0.95,
    method: Method = "auto",
    replicates: int = 1000,
    rng: np.random.Generator | None = None,
) -> Interval:
    """Return the score with its confidence interval.

    For AUC it is a score interval with DeLong's variance (with groups: Obuchowski's,
    `oof.metrics.auc_interval`), which is within [0, 1], is longer toward 0.5 and is valid with few
    positives. Other metrics are bootstrapped, with percentile intervals.

    Args:
        metric: name, function or Metric.
        y: (n_rows,).
        scores: (n_rows,) or (n_rows, n_classes).
        groups: (n_rows,) of any type; rows of one group are treated as dependent.
        confidence_level: share of samples whose interval contains the true score.
        method: "auto" is DeLong for the AUC and bootstrap for other metrics.
        replicates: number of bootstrap replicates.
        rng: random number generator of the bootstrap; None for seed 0.

    Raises:
        PredictionError: if there are NaN, only one class or different lengths, or if DeLong is
            requested for another metric.
    """
    metric = metric_by_name(metric)
    if _by_delong(metric, method):
        aucs, covariance = auc_covariance(y, [scores], groups)
        auc, error = float(aucs[0]), float(np.sqrt(covariance[0, 0]))
        low, high = auc_interval(auc, float(covariance[0, 0]), *_rows_and_units(y, groups), confidence_level)
        return Interval(auc, low, high, error, confidence_level, _describe("DeLong", groups))
    found = bootstrap_scores(metric, y, [scores], groups, replicates=replicates, rng=_rng(rng))[:, 0]
    low, high = np.quantile(found, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    words = _describe(f"bootstrap of {replicates}", groups)
    return Interval(metric(y, scores), float(low), float(high), float(found.std(ddof=1)), confidence_level, words)


def difference(
    metric: AnyMetric,
    y: NDArray[Any],
    a: NDArray[Any],
    b: NDArray[Any],
    groups: NDArray[Any] | None = None,
    *,
    confidence_level: float = 0.95,
    method: Method = "auto",
    replicates: int = 1000,
    rng: np.random.Generator | None = None,
) -> Difference:
    """Return how much better a is than b on the same rows, with interval and p-value.

    Since the comparison is paired, common errors cancel, so a difference much smaller than either
    model's own interval can be significant. Arguments as in `score_interval`. AUCs are compared with
    DeLong's variance and an interval that is valid with few positives, too (`oof.metrics.auc_interval`).
    """
    metric = metric_by_name(metric)
    if _by_delong(metric, method):
        aucs, covariance = auc_covariance(y, [a, b], groups)
        gain = float(aucs[0] - aucs[1])
        variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        error = math.sqrt(max(variance, 0.0))  # NaN stays NaN
        if variance < 1e-14 * max(float(covariance[0, 0]), 1e-300):
            error = 0.0  # equal columns differ only by rounding
        if error == 0 and _same_order(a, b):
            return Difference(0.0, 0.0, 0.0, 1.0, 0.0, confidence_level, _describe("DeLong", groups))
        low, high, p_value = _gain_interval(aucs, covariance, error, _rows_and_units(y, groups), confidence_level)
        return Difference(gain, low, high, p_value, error, confidence_level, _describe("DeLong", groups))
    found = bootstrap_scores(metric, y, [a, b], groups, replicates=replicates, rng=_rng(rng))
    gains = metric.gain(1.0) * (found[:, 0] - found[:, 1])
    gain = metric.gain(1.0) * (metric(y, a) - metric(y, b))
    low, high = (float(end) for end in np.quantile(gains, [(1 - confidence_level) / 2, (1 + confidence_level) / 2]))
    rarer = min((gains <= 0).sum(), (gains >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(rarer)) / (1 + replicates))
    words = _describe(f"bootstrap of {replicates}", groups)
    return Difference(gain, low, high, p_value, float(gains.std(ddof=1)), confidence_level, words)


def _by_delong(metric: Metric, method: Method) -> bool:
    if method == "delong" and not metric.is_auc:
        raise PredictionError(f"DeLong's interval exists only for auc, not for {metric.name}. Use method='bootstrap'.")
    return metric.is_auc and method != "bootstrap"


def _gain_interval(
    aucs: NDArray[np.float64],
    covariance: NDArray[np.float64],
    error: float,
    counts: tuple[tuple[int, float], tuple[int, float]],
    confidence_level: float,
) -> tuple[float, float, float]:
    """Return the interval of a difference of columns in different orders, and its p-value."""
    first, second = (float(auc) for auc in aucs)
    low, high, p_value = difference_interval((first, second), covariance, *counts, confidence_level)
    if error == 0 and first != second:  # as in a sign test of as many pairs as share no row, or no group
        p_value = min(1.0, 2 * 0.5 ** max(1, min(units for _, units in counts)))
    return low, high, p_value


def _same_order(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Return whether two columns put all rows in one order, ties included, so that every AUC of them is the same."""
    return np.array_equal(np.unique(a, return_inverse=True)[1], np.unique(b, return_inverse=True)[1])


def _rows_and_units(y: NDArray[Any], groups: NDArray[Any] | None) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return the number of rows and of independent units of the positives and of the negatives."""
    classes = (np.asarray(y) == 1, np.asarray(y) != 1)
    first, second = (
        (int(rows.sum()), float(rows.sum() if groups is None else independent_units(np.asarray(groups)[rows])))
        for rows in classes
    )
    return first, second


def _describe(how: str, groups: NDArray[Any] | None) -> str:
    return how if groups is None else f"{how}, {len(np.unique(np.asarray(groups)))} groups"


def _rng(rng: np.random.Generator | None) -> np.random.Generator:
    return np.random.default_rng(0) if rng is None else rng
