"""The out-of-fold score of a quick baseline, to judge folds before any network is trained."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oof.progress import SILENT, Progress
from trainers.features.handcrafted import Matrix
from trainers.kinds.linear.classifier import fit_linear_fold, linear_features
from trainers.kinds.linear.settings import LinearSettings


def baseline_features(paths: Sequence[str], *, threads: int = 1, progress: Progress = SILENT) -> Matrix:
    """Return the features of image files for `baseline_oof`, shape (n_files, n_features)."""
    return linear_features(LinearSettings(), paths, threads=threads, progress=progress)


def baseline_oof(features: Matrix, target: NDArray[np.int8], fold: NDArray[np.int16]) -> NDArray[np.float64]:
    """Predict each row by a logistic regression that has seen the other folds, shape (n_rows,).

    Args:
        features: (n_rows, n_features). target: (n_rows,) 0 or 1. fold: (n_rows,) 0 to k - 1.
    """
    found = np.empty(len(target))
    for held_out in (fold == index for index in range(int(fold.max()) + 1)):
        seen = features[~held_out]
        found[held_out] = fit_linear_fold(
            LinearSettings(), seen, target[~held_out], features[held_out], features[:0]
        ).oof
    return found
