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

Targets = NDArray[np.int8] | NDArray[np.float32]
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
    settings: LinearSettings,
    train: Matrix,
    y: Targets,
    valid: Matrix,
    test: Matrix,
    *,
    weight: NDArray[np.float32] | None = None,
) -> LinearFold:
    """Fit on the rows of the other folds; predict those of this fold and the test rows.

    Args:
        settings: classifier and seed.
        train, valid, test: features, shape (n_rows, n_features) each; test may have no rows.
        y, weight: (n_train,) as in `fit_classifier`.

    Raises:
        TrainingError: as in `fit_classifier`.
    """
    predict = fit_classifier(settings, train, y, weight)
    details = {
        "classifier": settings.classifier,
        "features": int(train.shape[1]),
        "rows_fitted": min(len(y), _MOST_ROWS[settings.classifier]),
    }
    return LinearFold(predict(valid), predict(test), details)


def fit_classifier(
    settings: LinearSettings, train: Matrix, y: Targets, weight: NDArray[np.float32] | None = None
) -> Callable[[Matrix], NDArray[np.float32]]:
    """Return a function from features (n_rows, n_features) to probabilities of fake (n_rows,).

    The result is deterministic. With more than 50,000 training rows (5,000 for the support vector machine), an evenly
    drawn sample of that size is fitted, since a baseline should not take an hour.

    Args:
        settings: classifier and seed.
        train: (n_train, n_features).
        y: (n_train,) 0 or 1; a row with a label in between counts as a real and as a fake, weighted by its shares.
        weight: (n_train,) weight of each row; None: equal weights.

    Raises:
        TrainingError: if there is only one class, a single row of a class for the support vector machine, or features
            are not finite.
    """
    if weight is not None or ((y > 0) & (y < 1)).any():
        train, y, weight = _halved(train, y, weight)
    y = y.astype(np.int8)
    if len(np.unique(y)) < 2:
        raise TrainingError(f"All {len(y)} training labels are {y[:1]}: both classes are needed. Run dfens check.")
    if not np.isfinite(train).all():
        raise TrainingError("Features are not finite; an image may have no content. Run dfens check --decode.")
    fitted = np.arange(len(y))
    most = _MOST_ROWS[settings.classifier]
    if len(y) > most:
        fitted = np.sort(np.random.default_rng(settings.seed).choice(len(y), most, replace=False))
    model = _make_classifier(settings, int(np.bincount(y[fitted], minlength=2).min()))
    # weights in float64: the calibration of scikit-learn 1.5 takes no others
    chosen = None if weight is None else weight[fitted].astype(np.float64)
    model.fit(train[fitted], y[fitted], **_weight_arguments(model, chosen))

    def predict(rows: Matrix) -> NDArray[np.float32]:
        if not len(rows):
            return np.zeros(0, np.float32)
        return np.asarray(model.predict_proba(rows)[:, 1], np.float32)

    return predict


def _make_classifier(settings: LinearSettings, fewest: int) -> Any:
    """Return the classifier before its fit; fewest: number of rows of the rarer class."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if settings.classifier == "extra_trees":
        return ExtraTreesClassifier(500, random_state=settings.seed)
    if settings.classifier == "logistic":
        # strength of the penalty: out-of-fold AUC on 560 photos was 0.886 for C of 0.01 to 0.1, 0.850 for 0.001
        return make_pipeline(StandardScaler(), LogisticRegression(C=0.02, max_iter=5000))
    if fewest < 2:
        raise TrainingError(f'{fewest} training rows of one class: classifier = "svm" needs 2 of each.')
    # Platt's probabilities from decision values of held-out rows; on 560 photos, C of 3 to 30 made no difference
    return make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(C=10), ensemble=False, cv=min(5, fewest)))


def _halved(
    train: Matrix, y: Targets, weight: NDArray[np.float32] | None
) -> tuple[Matrix, NDArray[np.int8], NDArray[np.float32]]:
    """Return rows with labels 0 and 1 only; a row with a label in between occurs twice, as a real and as a fake."""
    weight = np.ones(len(y), np.float32) if weight is None else weight
    fakes, reals = np.flatnonzero(y > 0), np.flatnonzero(y < 1)
    rows = np.concatenate([fakes, reals])
    labels = np.repeat(np.array([1, 0], np.int8), [len(fakes), len(reals)])
    shares = np.concatenate([y[fakes], 1 - y[reals]]).astype(np.float32)
    return train[rows], labels, weight[rows] * shares


def _weight_arguments(model: Any, weight: NDArray[np.float64] | None) -> dict[str, NDArray[np.float64]]:
    """Return the arguments that pass the weights of rows to each step of a classifier."""
    if weight is None:
        return {}
    steps = getattr(model, "named_steps", None)
    return {"sample_weight": weight} if steps is None else {f"{name}__sample_weight": weight for name in steps}
