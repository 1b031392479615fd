"""Blend with rows weighted by importance for the test set, used only if that helps out of fold.

Shimodaira, Improving predictive inference under covariate shift, Journal of Statistical Planning and
Inference 2000: rows are weighted by the ratio of their densities among test and training rows. Weights
make fits noisier, so both blends are scored out of fold on rows drawn with the same weights.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.binary import fit_binary, simpler_blends
from ensemble.nested import nested_predictions, to_distribution
from ensemble.prepare import BlendData
from ensemble.result import BlendResult
from ensemble.settings import BlendOptions
from ensemble.shift import shift_weights
from ensemble.significance import REPLICATES, compare, nested_interval, verdict
from oof.metrics import Metric
from oof.metrics.intervals import difference
from oof.progress import SILENT, Progress


def draw_rows(weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw as many rows as there are weights, each in proportion to its weight, by systematic sampling.

    >>> draw_rows(np.array([1.0, 3.0, 0.0, 0.0]))
    array([0, 1, 1, 1])
    """
    total = np.cumsum(weights)
    return np.asarray(np.searchsorted(total, (np.arange(len(weights)) + 0.5) / len(weights) * total[-1]))


def fit_importance_weighted(
    data: BlendData, options: BlendOptions, plain: BlendResult, test: NDArray[Any], progress: Progress
) -> BlendResult:
    """Return the blend of weighted rows, or the plain one with a note on the reason.

    Args:
        data, options: as for the plain blend. plain: the blend of unweighted rows.
        test: as in `fit_blend`.
        progress: callback, called once per fit.
    """
    metric, y, fold = options.metric, data.y, data.fold
    weights = shift_weights(data.oof, test)
    if np.ptp(weights) == 0:
        note = "OOF and test predictions do not differ significantly, so rows are not weighted."
        return replace(plain, warnings=(*plain.warnings, note))
    folds = int(fold.max()) + 1
    with progress.task("blend with importance weights", total=folds + 1, unit="fit") as task:

        def without(index: int) -> NDArray[np.float64] | None:
            outside = np.flatnonzero(fold != index)
            rows = outside[draw_rows(weights[outside])] if len(outside) else outside
            task.advance(1)
            if len(np.unique(y[rows])) < 2:
                return None
            return fit_binary(data.drawn(rows), options, SILENT).predict(data.oof, features=data.features)

        level = to_distribution if metric.kind == "ranking" else None
        nested = nested_predictions(fold, without, plain.oof, plain.nested_oof, level=level)
        drawn = draw_rows(weights)
        # copies of a row form one group, otherwise the interval would be too narrow
        together = drawn if data.groups is None else np.unique(data.groups, return_inverse=True)[1][drawn]
        gap = difference(metric, y[drawn], nested[drawn], plain.nested_oof[drawn], together, replicates=REPLICATES)
        change = f"{gap.gain:+.5f} +- {gap.standard_error:.5f}"
        effect = f"changes the nested {metric.name} of rows like the test rows by {change}"
        if not gap.gain > gap.standard_error:
            note = f"Importance weighting {effect}, which is not a significant gain; rows are not weighted."
            return replace(plain, warnings=(*plain.warnings, note))
        whole = fit_binary(data.drawn(drawn), options, SILENT)
        task.advance(1)
    result = _with_weights(plain, whole, nested, data, metric)
    counted = weights.sum() ** 2 / (weights**2).sum()  # Kish 1965
    note = (
        f"Rows are weighted by importance for the test set, and count as {counted:.0f} of {len(y)} rows with equal "
        f"weights. This {effect}. The scores of the methods compared (dfens blend -v) and of a calibration are of the "
        f"weighted rows, all others of all rows alike."
    )
    return replace(result, warnings=(*plain.warnings, note))


def _with_weights(
    plain: BlendResult, whole: BlendResult, nested: NDArray[np.float64], data: BlendData, metric: Metric
) -> BlendResult:
    """Return a blend of weighted rows with its scores on all rows, which count equally, unlike those of its methods."""
    predictions, y = whole.predict(data.oof, features=data.features), data.y
    score = metric(y, predictions)
    comparisons = compare(metric, y, nested, simpler_blends(data, metric), data.groups, score)
    return replace(
        plain,
        weights=whole.weights,
        score=score,
        nested_score=metric(y, nested),
        nested_interval=nested_interval(metric, y, nested, score, data.fold, data.groups),
        transform=whole.transform,
        method=f"{whole.method}; rows weighted by importance for the test set",
        methods=whole.methods,
        oof=predictions,
        nested_oof=nested,
        comparisons=comparisons,
        verdict=verdict(comparisons),
        predictor=whole.predictor,
        calibration=whole.calibration,
        fold_weights=whole.fold_weights,
        fitted=whole.fitted,
    )
