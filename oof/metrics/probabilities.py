"""Metrics of probabilities: log loss, Brier loss, accuracy, reliability.

y and scores are (n_rows,) for two classes; log loss and accuracy also accept scores
(n_rows, n_classes) with y (n_rows,) of class indices 0..n_classes-1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector
from oof.errors import PredictionError
from oof.metrics.inputs import as_floats, checked, nan_error


def log_loss(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the mean negative logarithm of the probability of the true class.

    Probabilities are clipped to stay away from 0 and 1 by the resolution of their type (2.2e-16 for
    float64, 1.2e-7 for float32 and float16), as in scikit-learn. Rows of several classes are
    divided by their sum.

    Raises:
        PredictionError: if a value is NaN or outside [0, 1], naming the first such row.
    """
    if np.ndim(scores) == 2:
        classes, probabilities = _checked_classes(y, scores)
        true = probabilities[np.arange(len(classes)), classes] / probabilities.sum(axis=1)
    else:
        labels, probabilities = checked(y, scores)
        _check_probabilities(probabilities)
        true = np.where(labels == 1, probabilities, 1 - probabilities)
    smallest = np.finfo(probabilities.dtype).eps
    return float(-np.log(np.clip(true.astype(np.float64), smallest, 1 - smallest)).mean())


def brier_loss(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the mean squared difference between probability and outcome, 0 to 1."""
    labels, probabilities = checked(y, scores)
    _check_probabilities(probabilities)
    return float(np.mean((probabilities.astype(np.float64) - labels) ** 2))


def accuracy(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the share of rows whose most probable class is the true one; for two classes the threshold is 0.5."""
    if np.ndim(scores) == 2:
        classes, probabilities = _checked_classes(y, scores)
        return float((probabilities.argmax(axis=1) == classes).mean())
    labels, probabilities = checked(y, scores)
    _check_probabilities(probabilities)
    return float(((probabilities > 0.5) == labels).mean())


def reliability_bins(
    y: NDArray[Any], probabilities: NDArray[Any], bins: int
) -> tuple[Vector, Vector, NDArray[np.intp]]:
    """Return mean probability, share of positives and number of rows of bins of equal size, at most one per row.

    Equal probabilities may be in two bins; each of their rows then counts as the share of positives among all of them,
    so that the bins do not depend on the order of the rows.

    >>> reliability_bins(np.array([0, 0, 1, 1]), np.array([0.5, 0.5, 0.5, 0.5]), 2)
    (array([0.5, 0.5]), array([0.5, 0.5]), array([2, 2]))
    """
    tied = np.unique(probabilities, return_inverse=True)[1]
    positive = (np.bincount(tied, y) / np.bincount(tied))[tied]
    parts = np.array_split(np.argsort(tied, kind="stable"), min(bins, len(tied)))
    means = np.array([probabilities[part].mean(dtype=np.float64) for part in parts])
    return means, np.array([positive[part].mean() for part in parts]), np.array([len(part) for part in parts])


def _check_probabilities(values: NDArray[Any]) -> None:
    wrong = ~((values >= 0) & (values <= 1))
    if not wrong.any():
        return
    rows = np.flatnonzero(wrong if wrong.ndim == 1 else wrong.any(axis=1))
    if np.isnan(values[rows[0]]).any():
        raise nan_error(values if values.ndim == 1 else values.sum(axis=1))
    raise PredictionError(
        f"Row {rows[0]} has the value {values[rows[0]]}; this metric needs probabilities in [0, 1], but {len(rows)} of "
        f"{len(values)} rows have other values. Use a ranking metric (auc), or convert logits "
        "x to probabilities, 1 / (1 + exp(-x))."
    )


def _checked_classes(y: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    probabilities = as_floats(scores)
    target = np.asarray(y)
    classes = target.astype(np.intp)
    if classes.shape != probabilities.shape[:1] or not len(classes):
        raise PredictionError(
            f"Expected a row of probabilities for each label; found {probabilities.shape} for {classes.shape}."
        )
    wrong = (classes != target) | (classes < 0) | (classes >= probabilities.shape[1])
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise PredictionError(
            f"The label of row {row} is {target[row : row + 1].tolist()[0]!r}; expected a class index from 0 to "
            f"{probabilities.shape[1] - 1}, since the scores have {probabilities.shape[1]} columns."
        )
    _check_probabilities(probabilities)
    empty = np.flatnonzero(probabilities.sum(axis=1) == 0)
    if len(empty):
        raise PredictionError(f"All probabilities of row {empty[0]} are 0; expected them to sum to 1.")
    return classes, probabilities
