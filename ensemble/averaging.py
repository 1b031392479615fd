"""Average blending methods, weighted by how close their nested scores are to the best.

Taking the winner alone, or the simplest method within one standard error, scored lower on new rows
than averaging the methods that do not differ significantly (docs/blending.md has the figures). The blend
is therefore a mean of log-odds, with each method weighted by exp(-z² / 2), where z is its distance
from the best in units of 1.5 standard errors of the paired difference.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensemble.methods import FittedMethod
from ensemble.table import BinaryTable
from oof.arrays import Vector
from oof.metrics import Metric
from oof.metrics.delong import auc_covariance

NestedScores = NDArray[np.float32] | Vector
_REACH = 1.5
_LEAST = 0.05
_MOST_ROWS = 1_000_000  # more rows would not improve the comparison, and would cost as much as fitting


def averaging_weights(gains: Vector, covariance: NDArray[np.float64]) -> Vector:
    """Return the weight of each method, (n_methods,), sum 1; methods far below the best get 0.

    Args:
        gains: (n_methods,) nested scores, higher is better. covariance: (n_methods, n_methods) of the gains.
    """
    best = int(np.argmax(gains))
    spread = np.diag(covariance) + covariance[best, best] - 2 * covariance[best]
    errors = np.sqrt(np.maximum(np.where(np.isnan(spread), np.inf, spread), 0.0))
    gaps = gains[best] - gains
    distance = np.divide(gaps, _REACH * errors, out=np.full(len(gains), np.inf), where=errors > 0)
    distance[gaps <= 0] = 0.0
    distance[np.isinf(errors)] = 0.0
    weights = np.exp(-(distance**2) / 2)
    weights[weights < _LEAST] = 0.0
    return np.asarray(weights / weights.sum())


def method_weights(
    table: BinaryTable,
    nested: Sequence[NestedScores],
    metric: Metric,
    groups: NDArray[np.intp] | None,
    left_out: int = -1,
) -> Vector:
    """Return mixing weights from the nested scores on the rows outside a fold (-1: on all rows).

    Args:
        nested: for each method, (n_rows,) the input of the metric: scores for AUC, otherwise predictions.
        groups: (n_rows,) in the table's order, or None.
    """
    count = len(nested)
    if count == 1:
        return np.ones(1)
    rows = table.fold != left_out
    everything = bool(rows.all())
    y = table.y if everything else table.y[rows]
    if not 0 < y.sum() < len(y):
        return np.full(count, 1.0 / count)
    columns = list(nested) if everything else [scores[rows] for scores in nested]
    if metric.is_auc:
        thin = slice(None, None, -(-len(y) // _MOST_ROWS))
        inside = None if groups is None else groups[rows][thin]
        gains, covariance = auc_covariance(y[thin], [scores[thin] for scores in columns], inside)
        return averaging_weights(gains, covariance)
    gains = np.array([metric.gain(metric(y, scores)) for scores in columns])
    return averaging_weights(gains, _fold_covariance(table, nested, metric, left_out))


def _fold_covariance(
    table: BinaryTable, nested: Sequence[NestedScores], metric: Metric, left_out: int
) -> NDArray[np.float64]:
    """Estimate the covariance of the methods' scores from the folds; NaN if fewer than two folds can be scored."""
    by_fold = []
    for fold in range(table.k):
        rows = table.fold == fold
        y = table.y[rows]
        if fold != left_out and 0 < y.sum() < len(y):
            by_fold.append([metric.gain(metric(y, scores[rows])) for scores in nested])
    if len(by_fold) < 2:
        return np.full((len(nested), len(nested)), np.nan)
    return np.atleast_2d(np.cov(np.array(by_fold), rowvar=False)) / len(by_fold)


def average_methods(
    table: BinaryTable, tried: Sequence[FittedMethod], metric: Metric, groups: NDArray[np.intp] | None
) -> tuple[Vector, NDArray[np.float64]]:
    """Return mixing weights, (n_methods,), and those chosen without each fold, (k, n_methods).

    The mixture that scores a fold is chosen on the other folds, so that the choice does not inflate the score.
    """
    read = [as_metric_input(one.nested, metric) for one in tried]
    weights = method_weights(table, read, metric, groups)
    if table.k < 2:
        return weights, np.tile(weights, (table.k, 1))
    return weights, np.stack([method_weights(table, read, metric, groups, fold) for fold in range(table.k)])


def as_metric_input(scores: NestedScores, metric: Metric) -> NestedScores:
    """Return log-odds unchanged for ranking metrics, otherwise converted to probabilities."""
    return (
        scores
        if metric.kind == "ranking"
        else np.asarray(1.0 / (1.0 + np.exp(-np.clip(scores.astype(np.float64), -700, 700))))
    )
