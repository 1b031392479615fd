"""Metrics for predictions of a real target."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.metrics.inputs import as_floats, nan_error


def rmse(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the root mean squared error, in the unit of the target."""
    target, values = np.asarray(y, np.float64), as_floats(scores)
    if target.shape != values.shape or not target.size:
        raise PredictionError(f"Expected one prediction per target; found {values.shape} for {target.shape}.")
    if np.isnan(values).any():
        raise nan_error(values)
    return float(np.sqrt(np.mean((values - target) ** 2)))
