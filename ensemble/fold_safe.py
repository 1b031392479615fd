"""Blended test predictions by fold: those for fold f come from models and weights that have not seen its rows."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.align import Alignment
from ensemble.fit import fit_blend
from ensemble.predictor import BinaryPredictor
from ensemble.settings import BlendSettings
from ensemble.transforms import fit_distribution
from oof.errors import BlendError
from oof.progress import SILENT, Progress


def predict_without_fold(
    oof: NDArray[Any],
    y: NDArray[Any],
    fold: NDArray[Any],
    test: NDArray[Any],
    settings: BlendSettings,
    *,
    groups: NDArray[Any] | None = None,
    features: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Return probabilities of the test rows for each fold, from a blend that has not seen the fold.

    For fold f, the weights (and transforms, selection, calibration) are fitted only to the rows of the other folds and
    applied only to the test predictions of the fold-f models, which were not trained on the rows of fold f, whereas the
    models of all other folds were. So no label of fold f is used in training or fitting. One dependence remains, as in
    every nested score: the OOF predictions that the weights are fitted to come from models of other folds, which have
    seen fold f; only the few weights can transmit it (benchmarks/pseudo.py --noise measures how much).

    Args:
        oof: (n_rows, n_models), without gaps. y: (n_rows,) 0 or 1. fold: (n_rows,) 0..k-1.
        test: (k, n_test, n_models), part f predicted by the models of fold f.
        settings: settings of the blend; Platt's calibration is used if they have none, since labels are probabilities.
        groups: (n_rows,) or None, as in `fit_blend`.
        features: (n_rows, n_features) and (n_test, n_features), for settings with features; otherwise None.
        progress: receives an update for each fold.

    Returns:
        Probabilities, shape (k, n_test).

    Raises:
        BlendError: if shapes do not match, or the rows of the other folds do not allow a fit.
    """
    k = int(fold.max()) + 1
    if test.ndim != 3 or len(test) != k:
        raise BlendError(
            f"Test predictions of shape {test.shape} are not separate for the {k} fold models. The models behind a "
            f"mean have seen the rows of every fold."
        )
    found = np.empty(test.shape[:2], np.float32)
    with progress.task("blends without each fold", total=k, unit="fold") as task:
        for index in range(k):
            found[index] = _predict_one(oof, y, fold, groups, test[index], index, settings, features)
            task.advance()
    return found


def _predict_one(
    oof: NDArray[Any],
    y: NDArray[Any],
    fold: NDArray[Any],
    groups: NDArray[Any] | None,
    test: NDArray[Any],
    index: int,
    settings: BlendSettings,
    features: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> NDArray[np.float64]:
    """Return the probabilities of the test rows from a blend without one fold, (n_test,)."""
    others = fold != index
    of_test = None if features is None else features[1]
    result = fit_blend(
        oof[others],
        y[others],
        folds=fold[others] if len(np.unique(fold[others])) > 1 else None,  # k = 2 leaves one fold, which is split again
        groups=None if groups is None else groups[others],
        optimize=settings.optimize,
        transform=settings.transform,
        seed=settings.seed,
        max_members=settings.max_members,
        prune=settings.prune,
        calibrate="platt" if settings.calibrate == "none" else settings.calibrate,
        methods=settings.methods,
        features=None if features is None else features[0][others],
        test=test if settings.importance_weighting else None,
        importance_weighting=settings.importance_weighting,
    )
    predictor = result.predictor
    if not isinstance(predictor, BinaryPredictor):
        raise BlendError("Pseudo-labels need labels of two classes, 0 and 1.")
    if predictor.alignment is None:
        return predictor.predict(test, features=of_test)
    # fold models drift: map those of this fold to the common scale by their own predictions, without using labels
    scale = tuple(fit_distribution(column) for column in np.ascontiguousarray(oof[~others].T, dtype=np.float32))
    return replace(predictor, alignment=Alignment((scale,))).predict(test, 0, features=of_test)
