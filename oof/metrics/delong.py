"""Variance and covariance of AUCs after DeLong, exact and in O(n log n), also for rows in groups.

DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated receiver
operating characteristic curves, Biometrics 1988; Sun and Xu, Fast implementation of DeLong's
algorithm, IEEE Signal Processing Letters 2014; Obuchowski, Nonparametric analysis of clustered
ROC curve data, Biometrics 1997 (rows in groups).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.metrics.inputs import checked, nan_error

Vector = NDArray[np.float64]


def placements(y: NDArray[Any], scores: NDArray[Any]) -> Vector:
    """How each row fares: a positive's share of negatives below it, a negative's share of positives above it.

    The mean over the positives is the AUC, and so is the mean over the negatives; how much
    they scatter is how sure the AUC is.

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
    """The AUCs of some models on the same rows, and the covariance matrix of these AUCs.

    Args:
        y: (n_rows,) 0 or 1.
        columns: the scores of each model, (n_rows,) each, without NaN.
        groups: (n_rows,) of any kind; rows of one group are not independent of each other (clips
            of one source, photos of one patient) and together count for less.

    Returns:
        AUCs, shape (n_models,), and covariance, shape (n_models, n_models); NaN in the
        covariance where a class has fewer than two rows (or there are fewer than two groups).
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
    # the influence of a group on the AUC: its positives' and its negatives' together, so that both
    # variances and their covariance of Obuchowski's formula come out of one sum
    share = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum())
    influence = np.stack([np.bincount(codes, weights=row * share, minlength=len(found)) for row in off_mean])
    if len(found) < 2:
        return aucs, np.full((len(aucs), len(aucs)), np.nan)
    return aucs, influence @ influence.T * len(found) / (len(found) - 1)
