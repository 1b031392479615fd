"""From OOF predictions to a blend with a nested score: the one function that most callers need."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.binary import fit_binary
from ensemble.general import fit_general
from ensemble.importance_weighting import fit_importance_weighted
from ensemble.prepare import BlendData, check_shapes, make_folds_of
from ensemble.result import BlendResult
from ensemble.settings import BlendOptions
from ensemble.shift import model_shifts
from oof.errors import BlendError
from oof.metrics import Metric, metric_by_name
from oof.progress import SILENT, Progress

__all__ = ["BlendResult", "fit_blend"]


def fit_blend(
    oof: NDArray[Any],
    y: NDArray[Any],
    *,
    folds: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
    optimize: str | Callable[..., float] | Metric = "auc",
    transform: str = "auto",
    seed: int = 0,
    names: Sequence[str] | None = None,
    max_members: int | None = None,
    prune: bool = False,
    calibrate: str = "none",
    test: NDArray[Any] | None = None,
    importance_weighting: bool = False,
    progress: Progress = SILENT,
) -> BlendResult:
    """Fit a blend of out-of-fold predictions, with a nested score.

    Args:
        oof: (n_rows, n_models) float; NaN where a model has no prediction for a row. Of several
            classes (n_rows, n_models, n_classes) probabilities.
        y: (n_rows,) 0 or 1; the class number; or a real target where the metric is of values (rmse).
        folds: (n_rows,) the fold of each row, of any kind; None makes 5, stratified.
        groups: (n_rows,) rows of one group share a fold, and count as dependent in intervals.
        optimize: name of a metric (oof.metrics), or a function (y, scores) -> float, higher is better; "none"
            fits no weights and gives the plain average of the transform (auto: of probabilities), scored by AUC.
        transform: transform of predictions before they are weighted; auto chooses by nested scores.
        seed: of folds that are made, and of what is drawn.
        names: of the models, for messages.
        max_members: largest number of models with a weight.
        prune: drop models that the blend does not need.
        calibrate: none, platt, isotonic or beta: how predictions are made probabilities, by nested predictions.
        test: predictions of the same models for the rows to predict, as for `predict`; members
            whose test predictions look broken cause a warning.
        importance_weighting: weight rows by how likely they are among the test rows, where that pays out of fold; needs
            `test` and binary predictions, and a fit more for each fold.
        progress: callback for the progress.

    Returns:
        The blend. The same input and seed give the same numbers on one machine.

    Raises:
        BlendError: shapes that do not match, one class only, a model without predictions, a
            transform that these predictions do not allow, or an option that these data do not allow.

    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(400) % 2
    >>> oof = 1 / (1 + np.exp(-(y[:, None] - 0.5 + rng.normal(size=(400, 3)))))
    >>> result = fit_blend(oof, y)
    >>> bool(result.nested_score < result.score), round(float(result.weights.sum()), 6)
    (True, 1.0)
    """
    oof, y = np.asarray(oof), np.asarray(y)
    found_names = check_shapes(oof, y, names)
    options = BlendOptions(
        metric=metric_by_name("auc" if optimize == "none" else optimize),
        transform=transform,
        average_only=optimize == "none",
        max_members=max_members,
        prune=prune,
        calibrate=calibrate,
    )
    binary = oof.ndim == 2 and bool(np.isin(y, (0, 1)).all())
    general = not binary and (oof.ndim == 3 or options.metric.kind == "value")
    _check_options(options, general=general, weighting=importance_weighting, has_test=test is not None)
    fold = make_folds_of(y, folds, groups, seed, stratify=binary or oof.ndim == 3)
    grouped = None if groups is None else np.asarray(groups)
    data = BlendData(oof, y, fold, grouped, found_names, seed, own_folds=folds is not None)
    # BLAS threads wait for each other in busy loops, which on a shared machine costs more than they save
    with threadpool_limits(1, user_api="blas"):
        if general:
            result = fit_general(data, options, progress)
        else:
            result = fit_binary(data, options, progress)
            if importance_weighting and test is not None:
                result = fit_importance_weighted(data, options, result, test, progress)
    if test is None or oof.ndim == 3:
        return result
    shifts = zip(found_names, model_shifts(oof, test), strict=True)
    warnings = [f"'{name}': {reason}" for name, shift in shifts for reason in shift.reasons]
    return replace(result, warnings=(*result.warnings, *warnings))


def _check_options(options: BlendOptions, *, general: bool, weighting: bool, has_test: bool) -> None:
    """Refuse options that these data do not allow."""
    if options.average_only and (general or weighting or options.selects):
        raise BlendError('optimize = "none" averages binary predictions as they are; leave other options out.')
    if weighting and (general or not has_test):
        raise BlendError("Importance weighting needs test predictions, and labels of two classes.")
    if general:
        asked = {
            "max_members": options.max_members is not None,
            "prune": options.prune,
            "calibrate": options.calibrate != "none",
        }
        unsupported = [name for name, wanted in asked.items() if wanted]
        if unsupported:
            raise BlendError(f"{', '.join(unsupported)}: supported for binary predictions alone. Leave it out.")
