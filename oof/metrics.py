"""Scores of predictions: one table of metrics for trainers, blends, the command line and the report."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from oof.errors import PredictionError


def roc_auc(y: NDArray[Any], scores: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative, ties counted half."""
    y = np.asarray(y)
    scores = np.asarray(scores, dtype=np.float64)
    if np.isnan(scores).any():
        raise PredictionError(f"Score of row {int(np.flatnonzero(np.isnan(scores))[0])} is NaN.")
    positives = int((y == 1).sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        raise PredictionError("AUC needs both classes.")
    ranks = rankdata(scores)
    return float((ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
