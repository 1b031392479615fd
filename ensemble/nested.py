"""Nested predictions: every fold is predicted by a fit that has not seen it. All nested predictions come from here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector

_KNOTS = 100_000  # maximum number of knots of a distribution function; more would not fit into the CPU caches


def nested_predictions(
    fold: NDArray[np.int32],
    predict_without: Callable[[int], NDArray[Any] | None],
    whole: NDArray[Any],
    fallback: NDArray[Any],
    *,
    level: bool = False,
) -> Vector:
    """Return predictions of every row by a fit that has not seen its fold.

    The fits without each fold differ in location and scale: holding out a fold with many positives leaves few for the
    fit, which then predicts lower values for all rows. Pooling such predictions mixes up their order, which reduced
    the nested AUC by up to 0.05. With `level`, for metrics that depend only on the order, the predictions of each fit
    are therefore mapped, over all rows, to the distribution of the fit to all rows. This shifts a fold as a whole and
    uses none of its labels.

    If no fit is possible without a fold, because the other folds have only one class, the fold is still never scored by
    a fit that has seen it: it gets the `fallback`, which fits nothing, on the scale of the fit to all rows.

    Args:
        fold: (n_rows,) 0..k-1.
        predict_without: function from a fold to the predictions of all rows by a fit without that fold,
            (n_rows[, n_classes]); None if the other folds do not allow a fit.
        whole: (n_rows[, n_classes]) predictions of the fit to all rows.
        fallback: (n_rows[, n_classes]) predictions that involve no fitting, such as a mean.
        level: whether to map each fit to the distribution of `whole`.

    Returns:
        Nested predictions, with the shape of `whole`.
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
    """Return the sorted scores, or evenly spaced quantiles if there are very many."""
    places = np.linspace(0, len(scores) - 1, min(len(scores), _KNOTS)).astype(np.intp)
    return np.asarray(np.sort(scores)[places])


def match_distribution(scores: NDArray[Any], knots: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return the scores of some rows, mapped so that the scores of all rows have the distribution of the knots.

    Equal scores get the median of their range: with its upper end, a fit that has found nothing and scores all rows
    alike would place its fold above all others.

    >>> match_distribution(np.array([10.0, 30.0, 20.0]), np.array([0.1, 0.2, 0.9]), np.array([1, 2]))
    array([0.9, 0.2])
    >>> match_distribution(np.array([1.0, 1.0, 1.0]), np.array([0.1, 0.2, 0.9]), np.array([0]))
    array([0.2])
    """
    own = quantile_knots(scores)
    first = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
    sizes = np.diff(np.r_[first, len(own)])
    medians = (knots[first + (sizes - 1) // 2] + knots[first + sizes // 2]) / 2
    return np.asarray(np.interp(scores[rows], own[first], medians))
