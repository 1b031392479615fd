"""Variance and covariance of AUCs by DeLong's method, exact, in O(n log n), also for rows in groups.

DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver
operating characteristic curves, Biometrics 1988; Sun and Xu, Fast implementation of DeLong's
algorithm, IEEE Signal Processing Letters 2014; Obuchowski, Nonparametric analysis of clustered
ROC curve data, Biometrics 1997 (rows in groups).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.arrays import Vector
from oof.errors import PredictionError
from oof.metrics.inputs import checked, nan_error


def placements(y: NDArray[Any], scores: NDArray[Any]) -> Vector:
    """Return for each positive the share of negatives below it, and for each negative the share of positives above it.

    The mean over the positives is the AUC, and so is the mean over the negatives; their
    variances determine the variance of the AUC.

    Returns:
        Shape (n_rows,), 0 to 1, ties counted half.
    """
    from oof.metrics import interval_kernel

    labels, values = checked(y, scores)
    if np.isnan(values).any():
        raise nan_error(values)
    if not 0 < labels.sum() < len(labels):
        raise PredictionError(f"AUC needs both classes; all {len(labels)} labels are {labels[0]}.")
    out = np.empty(len(labels))
    interval_kernel.placements(labels, values, np.argsort(values), out)
    return out


def auc_covariance(
    y: NDArray[Any], columns: Sequence[NDArray[Any]], groups: NDArray[Any] | None = None
) -> tuple[Vector, Vector]:
    """Return the AUCs of models on the same rows and their covariance matrix.

    Args:
        y: (n_rows,) 0 or 1.
        columns: the scores of each model, (n_rows,) each, without NaN.
        groups: (n_rows,) of any type; rows of one group are dependent (clips of one source,
            photos of one patient), which increases the variance.

    Returns:
        AUCs, shape (n_models,), and covariance, shape (n_models, n_models), which is NaN if
        a class has fewer than two rows (or there are fewer than two groups).
    """
    positive = np.asarray(y) == 1
    placed = np.stack([placements(y, column) for column in columns])  # (models, rows)
    aucs = placed[:, positive].mean(axis=1)
    if groups is None:
        parts = [placed[:, positive], placed[:, ~positive]]
        if min(part.shape[1] for part in parts) < 2:
            return aucs, np.full((len(aucs), len(aucs)), np.nan)
        return aucs, sum((np.atleast_2d(np.cov(part)) / part.shape[1] for part in parts), np.zeros(1))
    found, codes = np.unique(np.asarray(groups), return_inverse=True)
    off_mean = placed - aucs[:, None]
    # the influence of a group on the AUC is that of its positives plus that of its negatives, so that
    # one sum gives both variances and the covariance in Obuchowski's formula
    share = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum())
    influence = np.stack([np.bincount(codes, weights=row * share, minlength=len(found)) for row in off_mean])
    if len(found) < 2:
        return aucs, np.full((len(aucs), len(aucs)), np.nan)
    return aucs, influence @ influence.T * len(found) / (len(found) - 1)
