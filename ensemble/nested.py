"""Nested predictions: each fold by a fit that has not seen it. All of them are put together here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_KNOTS = 100_000  # of a distribution function: more would not stay in the caches


def nested_predictions(
    fold: NDArray[np.int32],
    predict_without: Callable[[int], NDArray[Any] | None],
    whole: NDArray[Any],
    fallback: NDArray[Any],
    *,
    level: bool = False,
) -> Vector:
    """Return predictions of every row by a fit that has not seen its fold.

    The fits without each fold differ in height and steepness: a fold with many positives leaves few to its
    fit, which then says less for all of its rows. Pooled, that feigns disorder; it cost nested AUC up to 0.05.
    So with `level`, for metrics that read the order alone, the predictions of each fit take the distribution, over
    all rows, of the fit to all rows. That moves a fold as a whole and needs none of its labels.

    A fold without which nothing can be fitted, because the other folds hold one class, is never scored by a fit that
    has seen it: it gets the `fallback`, which fits nothing, on the scale of the fit to all rows.

    Args:
        fold: (n_rows,) 0..k-1.
        predict_without: from a fold to the predictions of all rows by a fit without that fold, (n_rows[, n_classes]);
            None where the other folds do not allow a fit.
        whole: (n_rows[, n_classes]) predictions of the fit to all rows.
        fallback: (n_rows[, n_classes]) predictions of what fits nothing, such as a mean.
        level: whether each fit takes the distribution of `whole`.

    Returns:
        Nested predictions, shaped as `whole`.
    """
    nested = np.empty(whole.shape)
    knots = quantile_knots(whole) if whole.ndim == 1 else None
    for index in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == index)
        if not len(rows):
            continue
        found = predict_without(index)
        scores = fallback if found is None else found
        if knots is not None and (level or found is None):
            nested[rows] = match_distribution(scores, knots, rows)
        else:
            nested[rows] = scores[rows]
    return nested


def quantile_knots(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the sorted scores, or evenly many of very many: the quantiles of their distribution."""
    places = np.linspace(0, len(scores) - 1, min(len(scores), _KNOTS)).astype(np.intp)
    return np.asarray(np.sort(scores)[places])


def match_distribution(scores: NDArray[Any], knots: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return the scores of some rows, moved so that the scores of all rows have the distribution of the knots.

    >>> match_distribution(np.array([10.0, 30.0, 20.0]), np.array([0.1, 0.2, 0.9]), np.array([1, 2]))
    array([0.9, 0.2])
    """
    return np.asarray(np.interp(scores[rows], quantile_knots(scores), knots))
