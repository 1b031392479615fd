"""Nested predictions: every fold is predicted by a fit that has not seen it. All nested predictions come from here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector

_SPREAD = 1e-3  # share of the range over which equal values are spread; float32 can tell 10,000 of them apart
_KNOTS = 100_000  # maximum number of knots of a distribution function; more would not fit into the CPU caches


def nested_predictions(
    fold: NDArray[np.int32],
    predict_without: Callable[[int], NDArray[Any] | None],
    whole: NDArray[Any],
    fallback: NDArray[Any],
    *,
    level: "Level | None" = None,
) -> Vector:
    """Return predictions of every row by a fit that has not seen its fold.

    The fits without each fold differ in location and scale: holding out a fold with many positives leaves few for the
    fit, which then predicts lower values for all rows. Pooling such predictions mixes up their order, which reduced
    the nested AUC by up to 0.05. With `level`, for metrics that depend only on the order, the predictions of each fit
    are therefore mapped, over all rows, to the scale of the fit to all rows. This never changes the order within a
    fold, so it uses none of the labels of the fold.

    If no fit is possible without a fold, because the other folds have only one class, the fold is still never scored by
    a fit that has seen it: it gets the `fallback`, which fits nothing, on the scale of the fit to all rows.

    Args:
        fold: (n_rows,) 0..k-1.
        predict_without: function from a fold to the predictions of all rows by a fit without that fold,
            (n_rows[, n_classes]); None if the other folds do not allow a fit.
        whole: (n_rows[, n_classes]) predictions of the fit to all rows.
        fallback: (n_rows[, n_classes]) predictions that involve no fitting, such as a mean.
        level: `to_distribution` or `to_scale` of `whole`; None for metrics that depend on more than the order.

    Returns:
        Nested predictions, with the shape of `whole`.
    """
    nested = np.empty(whole.shape)
    level = level if whole.ndim == 1 else None
    mapped = None if level is None else level(whole)
    for index in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == index)
        if not len(rows):
            continue
        found = predict_without(index)
        if found is None and whole.ndim == 1:
            nested[rows] = to_distribution(whole)(fallback, rows)
        elif found is None:
            nested[rows] = fallback[rows]
        else:
            nested[rows] = found[rows] if mapped is None else mapped(found, rows)
    return nested


# (n_rows,) predictions of a fit, and some rows -> the predictions of these rows on another scale
Mapped = Callable[[NDArray[Any], NDArray[np.intp]], Vector]
Level = Callable[[NDArray[Any]], Mapped]  # (n_rows,) predictions of the fit to all rows -> function to their scale


def to_distribution(whole: NDArray[Any]) -> Mapped:
    """Map fits to the distribution of the fit to all rows. Different predictions stay different.

    The fit to all rows may have equal predictions just where a fold contradicts the others (a step of an isotonic
    curve, weights of 0). If they became equal, half of the wrong pairs would be right: noise got a nested AUC of 0.55.
    """
    knots = _spread(quantile_knots(whole))
    return lambda scores, rows: match_distribution(scores, knots, rows)


def to_scale(whole: NDArray[Any]) -> Mapped:
    """Map fits to mean and standard deviation of the fit to all rows.

    For methods such as trees, which separate the rows on which they were fitted further than others, so that the others
    end up in between. Mapping whole distributions would place these according to the shares of the classes among the
    former, which are the opposite of their own: in folds with 3 to 97 % positives, noise got a nested AUC of 0.54.
    """
    mean, deviation = float(whole.mean()), float(whole.std())

    def mapped(scores: NDArray[Any], rows: NDArray[np.intp]) -> Vector:
        spread = float(scores.std())
        scale = deviation / spread if spread > 0 else 0.0
        return np.asarray(mean + (scores[rows].astype(np.float64) - float(scores.mean())) * (scale or 1.0))

    return mapped


def quantile_knots(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the sorted scores, or evenly spaced quantiles if there are very many."""
    places = np.linspace(0, len(scores) - 1, min(len(scores), _KNOTS)).astype(np.intp)
    return np.asarray(np.sort(scores)[places])


def _spread(knots: NDArray[Any]) -> NDArray[Any]:
    """Return sorted values in the same range of which none are equal.

    >>> _spread(np.array([0.1, 0.5, 0.5, 0.9])), _spread(np.array([0.2, 0.2, 0.2]))
    (array([0.1       , 0.49986667, 0.50013333, 0.9       ]), array([0.2   , 0.2005, 0.201 ]))
    """
    knots = knots.astype(np.float64)
    if (np.diff(knots) > 0).all():
        return knots
    low, high = knots[[0, -1]]
    if low == high:  # towards the inside of 0 to 1, for probabilities
        low, high = (low, low + _SPREAD) if low < 0.5 else (low - _SPREAD, low)
        return np.linspace(low, high, len(knots))
    return (1 - _SPREAD) * knots + _SPREAD * np.linspace(low, high, len(knots))


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
