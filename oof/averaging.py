"""Combine the predictions of one model: average several seeds, and map a refit to the scale of the fold models."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import rankdata

from oof.errors import PredictionError

_NEAREST = 2.0**-24  # least distance from 0 and 1: half a float32 step below 1, so that a stored 1 has logit 16.6


def mean_of_logits(parts: NDArray[Any], weights: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """Return the mean of probabilities on the logit scale, used for several trainings of one model.

    Confident predictions have more influence than in a mean of probabilities, as in the networks themselves, whose last
    layer sums logits.

    Args:
        parts: (n_parts, n_rows) probabilities; NaN in any part makes the mean NaN.
        weights: (n_parts,) weights that sum to 1; None: all equal.

    Returns:
        Probabilities, shape (n_rows,). A single part is returned bit for bit.

    Raises:
        PredictionError: if values are outside of 0 to 1 and have no logit.

    >>> mean_of_logits(np.array([[0.5, 0.9], [0.5, 0.1]]))
    array([0.5, 0.5], dtype=float32)
    """
    parts = np.asarray(parts)
    if len(parts) == 1:
        return np.asarray(parts[0], np.float32)
    outside = (parts < 0) | (parts > 1)
    if outside.any():
        raise PredictionError(
            f"Predictions from {np.nanmin(parts):g} to {np.nanmax(parts):g} are not probabilities, so they cannot be "
            f"averaged as logits. Set seeds = 1 and refit = false for this model."
        )
    logits = logit(np.clip(parts.astype(np.float64), _NEAREST, 1 - _NEAREST))
    return np.asarray(expit(np.average(logits, axis=0, weights=weights)), np.float32)


def on_scale_of(values: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float32]:
    """Map predictions to the distribution of reference predictions of the same rows, keeping their order.

    The row with rank r gets the reference value of rank r; ties get a common value interpolated between their ranks.

    Args:
        values: (n_rows,) predictions. reference: (n_rows,) predictions of the same rows, on the target scale.

    >>> on_scale_of(np.array([5.0, 1.0, 3.0]), np.array([0.1, 0.2, 0.9]))
    array([0.9, 0.1, 0.2], dtype=float32)
    """
    ranks = rankdata(values) - 1  # from 0, ties averaged
    return np.asarray(np.interp(ranks, np.arange(len(ranks)), np.sort(reference)), np.float32)
