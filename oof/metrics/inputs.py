"""Check labels and scores; errors name the first invalid row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError


def as_labels(y: NDArray[Any]) -> NDArray[np.uint8]:
    """Return y as contiguous uint8 of 0 and 1; raise PredictionError naming the first row with another value."""
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
            f"The label of row {row} is {y[row : row + 1].tolist()[0]!r}; expected 0 or 1 in all {len(y)} rows. "
            f"Score multi-class or real targets with log_loss, accuracy or rmse."
        )
    return labels


def as_floats(scores: NDArray[Any]) -> NDArray[np.float32 | np.float64]:
    """Return scores as contiguous float32 (from float32 and float16, exactly) or float64 (from all other types)."""
    scores = np.asarray(scores)
    narrow = scores.dtype in (np.float32, np.float16)
    return np.ascontiguousarray(scores, np.float32 if narrow else np.float64)


def checked(y: NDArray[Any], scores: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float32 | np.float64]]:
    """Return labels and scores, checked to be one-dimensional, equally long and not empty; NaN is allowed."""
    labels, values = as_labels(y), as_floats(scores)
    if labels.ndim != 1 or labels.shape != values.shape or not len(labels):
        raise PredictionError(
            f"Expected one-dimensional labels and scores of equal length, at least 1; "
            f"found labels of shape {labels.shape} and scores of shape {values.shape}."
        )
    return labels, values


def nan_error(values: NDArray[Any]) -> PredictionError:
    """Return the error for scores that contain NaN."""
    rows = np.flatnonzero(np.isnan(values))
    return PredictionError(
        f"The score of row {rows[0]} is NaN ({len(rows)} of {len(values)} are). A metric needs a number for each row: "
        f"leave out the rows that the model has not predicted, or check whether its training diverged."
    )
