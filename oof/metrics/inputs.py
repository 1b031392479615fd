"""Checks of what is scored: labels, scores, and the errors that name the first wrong row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError


def as_labels(y: NDArray[Any]) -> NDArray[np.uint8]:
    """y as 0 and 1 in uint8, contiguous; PredictionError naming the first row with any other value."""
    y = np.asarray(y)
    if y.dtype in (np.bool_, np.uint8, np.int8):
        labels = np.ascontiguousarray(y).view(np.uint8)
        right = y.dtype == np.bool_ or labels.max(initial=0) <= 1
    else:
        positive = y == 1
        labels = np.ascontiguousarray(positive).view(np.uint8)
        right = bool((positive | (y == 0)).all())
    if not right:
        row = int(np.flatnonzero((y != 0) & (y != 1))[0])
        raise PredictionError(
            f"The label of row {row} is {y[row]!r}; expected 0 or 1 in all {len(y)} rows. "
            f"Score multi-class or real targets by log_loss, accuracy or rmse."
        )
    return labels


def as_floats(scores: NDArray[Any]) -> NDArray[np.float32 | np.float64]:
    """Scores as contiguous float32 (from float32 and float16, exactly) or float64 (from all else)."""
    scores = np.asarray(scores)
    narrow = scores.dtype in (np.float32, np.float16)
    return np.ascontiguousarray(scores, np.float32 if narrow else np.float64)


def checked(y: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float32 | np.float64]]:
    """Labels and scores of equal length, one dimension, at least one row, without NaN-free promise."""
    labels, values = as_labels(y), as_floats(scores)
    if labels.ndim != 1 or labels.shape != values.shape or not len(labels):
        raise PredictionError(
            f"Expected as many scores as labels, at least one, each in one dimension; "
            f"found labels of shape {labels.shape} and scores of shape {values.shape}."
        )
    return labels, values


def nan_error(values: NDArray[Any]) -> PredictionError:
    """The error for scores that hold a NaN."""
    rows = np.flatnonzero(np.isnan(values))
    return PredictionError(
        f"The score of row {rows[0]} is NaN ({len(rows)} of {len(values)} are). A score needs a number for each row: "
        f"leave out the rows that the model has not predicted, or look for a diverged training."
    )
