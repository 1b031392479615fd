"""Classifiers of scikit-learn on handcrafted features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import TrainingError
from oof.progress import SILENT, Progress
from trainers.features.handcrafted import Matrix, file_features
from trainers.kinds.linear.settings import LinearSettings

_MOST_ROWS = {"logistic": 50_000, "svm": 5_000, "extra_trees": 50_000}  # seconds to minutes


@dataclass(frozen=True)
class LinearFold:
    """Predictions of one fold model.

    oof: (n_valid,) float32, probability of fake. test: (n_test,) float32. details: description of the fit.
    """

    oof: NDArray[np.float32]
    test: NDArray[np.float32]
    details: dict[str, Any]


def linear_features(
    settings: LinearSettings, paths: Sequence[str], *, threads: int = 1, progress: Progress = SILENT
) -> Matrix:
    """Return the features of image files for `fit_linear_fold`, shape (n_files, n_features).

    They do not depend on labels or folds, so one matrix is used for all folds. They are pixels, radial spectrum
    and noise residuals, as in `trainers.features.handcrafted`.
    """
    return file_features(paths, size=settings.image_size, decode=settings.decode, threads=threads, progress=progress)


def fit_linear_fold(
    settings: LinearSettings, train: Matrix, y: NDArray[np.int8], valid: Matrix, test: Matrix
) -> LinearFold:
    """Fit on the rows of the other folds; predict those of this fold and the test rows.

    Args:
        settings: classifier and seed.
        train, valid, test: features, shape (n_rows, n_features) each; test may have no rows.
        y: (n_train,) 0 or 1.

    Raises:
        TrainingError: as in `fit_classifier`.
    """
    predict = fit_classifier(settings, train, y)
    details = {
        "classifier": settings.classifier,
        "features": int(train.shape[1]),
        "rows_fitted": min(len(y), _MOST_ROWS[settings.classifier]),
    }
    return LinearFold(predict(valid), predict(test), details)


def fit_classifier(
    settings: LinearSettings, train: Matrix, y: NDArray[np.int8]
) -> Callable[[Matrix], NDArray[np.float32]]:
    """Return a function from features (n_rows, n_features) to probabilities of fake (n_rows,).

    The result is deterministic. With more than 50,000 training rows (5,000 for the support vector machine), an evenly
    drawn sample of that size is fitted, since a baseline should not take an hour.

    Raises:
        TrainingError: if there is only one class, a single row of a class for the support vector machine, or features
            are not finite.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if len(np.unique(y)) < 2:
        raise TrainingError(f"All {len(y)} training labels are {y[:1]}: both classes are needed. Run dfens check.")
    if not np.isfinite(train).all():
        raise TrainingError("Features are not finite; an image may have no content. Run dfens check --decode.")
    fitted = np.arange(len(y))
    most = _MOST_ROWS[settings.classifier]
    if len(y) > most:
        fitted = np.sort(np.random.default_rng(settings.seed).choice(len(y), most, replace=False))
    if settings.classifier == "logistic":
        # strength of the penalty: out-of-fold AUC on 560 photos was 0.886 for C of 0.01 to 0.1, 0.850 for 0.001
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=5000))
    elif settings.classifier == "svm":
        fewest = int(np.bincount(y[fitted], minlength=2).min())
        if fewest < 2:
            raise TrainingError(f'{fewest} training rows of one class: classifier = "svm" needs 2 of each.')
        # Platt's probabilities from decision values of held-out rows; on 560 photos, C of 3 to 30 made no difference
        svm = CalibratedClassifierCV(SVC(C=10), ensemble=False, cv=min(5, fewest))
        model = make_pipeline(StandardScaler(), svm)
    else:
        model = ExtraTreesClassifier(500, random_state=settings.seed)
    model.fit(train[fitted], y[fitted])

    def predict(rows: Matrix) -> NDArray[np.float32]:
        if not len(rows):
            return np.zeros(0, np.float32)
        return np.asarray(model.predict_proba(rows)[:, 1], np.float32)

    return predict
