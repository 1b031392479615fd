"""A blend whose rows count as the test set has them, taken only where that pays out of fold.

Shimodaira, Improving predictive inference under covariate shift, Journal of Statistical Planning and
Inference 2000: rows are weighted by how much likelier they are among the test rows. Weights make fits
noisier, so both blends are scored out of fold on rows drawn by the same weights.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.result import BlendResult
from ensemble.shift import shift_weights
from ensemble.significance import REPLICATES, compare, nested_interval, verdict
from oof.metrics import Metric
from oof.metrics.intervals import difference
from oof.progress import Progress

Rows = NDArray[np.intp]


def draw_rows(weights: NDArray[np.float64]) -> Rows:
    """As many rows as there are weights, each about as often as its weight says, evenly (systematic sampling).

    >>> draw_rows(np.array([1.0, 3.0, 0.0, 0.0]))
    array([0, 1, 1, 1])
    """
    total = np.cumsum(weights)
    return np.asarray(np.searchsorted(total, (np.arange(len(weights)) + 0.5) / len(weights) * total[-1]))


def fit_importance_weighted(
    fit: Callable[[Rows], BlendResult],
    plain: BlendResult,
    oof: NDArray[Any],
    y: NDArray[Any],
    fold: NDArray[np.int32],
    groups: NDArray[Any] | None,
    metric: Metric,
    test: NDArray[Any],
    others: dict[str, NDArray[Any]],
    progress: Progress,
) -> BlendResult:
    """The blend of weighted rows, or the plain one, which then says why.

    Args:
        fit: blends some of the rows, which may stand more than once.
        plain: the blend of all rows alike.
        oof, y, fold, groups, test: as in `fit_blend`.
        metric: what is compared.
        others: nested predictions of simpler blends, (n_rows,) each, to compare with.
        progress: told per fit.
    """
    weights = shift_weights(oof, test)
    if np.ptp(weights) == 0:
        note = "OOF and test predictions cannot be told apart, so all rows count alike."
        return replace(plain, warnings=(*plain.warnings, note))
    nested = plain.nested_oof.copy()
    heights = np.sort(plain.oof)
    folds = np.unique(fold)
    with progress.task("blend toward the test set", total=len(folds) + 1, unit="fit") as task:
        for index in folds:
            inside, outside = np.flatnonzero(fold == index), np.flatnonzero(fold != index)
            rows = outside[draw_rows(weights[outside])] if len(outside) else outside
            if len(np.unique(y[rows])) == 2:
                everywhere = fit(rows).predict(oof)
                nested[inside] = np.interp(everywhere[inside], np.sort(everywhere), heights)
            task.advance(1)
        drawn = draw_rows(weights)
        # copies of a row count as one, or the interval would be too narrow
        together = drawn if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1][drawn]
        gap = difference(metric, y[drawn], nested[drawn], plain.nested_oof[drawn], together, replicates=REPLICATES)
        change = f"{gap.gain:+.5f} +- {gap.standard_error:.5f}"
        told = f"changes the nested {metric.name} of rows like the test rows by {change}"
        if not gap.gain > gap.standard_error:
            note = f"Weighting the rows toward the test set {told}, which does not pay; all rows count alike."
            return replace(plain, warnings=(*plain.warnings, note))
        whole = fit(drawn)
        task.advance(1)
    predictions = whole.predict(oof)
    score = metric(y, predictions)
    comparisons = compare(metric, y, nested, others, groups)
    return replace(
        plain,
        weights=whole.weights,
        score=score,
        nested_score=metric(y, nested),
        nested_interval=nested_interval(metric, y, nested, score, groups),
        transform=whole.transform,
        method=f"{whole.method}; rows weighted toward the test set",
        oof=predictions,
        nested_oof=nested,
        comparisons=comparisons,
        verdict=verdict(comparisons),
        warnings=(*plain.warnings, f"Rows are weighted toward the test set: that {told}."),
        predictor=whole.predictor,
    )
