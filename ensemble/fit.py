"""Fit a blend with a nested score: the function that most callers need."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.binary import fit_binary
from ensemble.general import fit_general
from ensemble.importance_weighting import fit_importance_weighted
from ensemble.prepare import BlendData, check_features, check_shapes, content_order, make_folds_of, numeric_target
from ensemble.result import BlendResult
from ensemble.settings import BlendOptions, check_seed
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
    methods: Sequence[str] = (),
    features: NDArray[Any] | None = None,
    test: NDArray[Any] | None = None,
    importance_weighting: bool = False,
    progress: Progress = SILENT,
) -> BlendResult:
    """Fit a blend of out-of-fold predictions, with a nested score.

    Args:
        oof: (n_rows, n_models) float, NaN for no prediction. For several
            classes, (n_rows, n_models, n_classes) probabilities.
        y: (n_rows,) 0 or 1; the class index; or a real target for a metric of values (rmse).
        folds: (n_rows,) the fold of each row, of any type; None creates 5 stratified folds.
        groups: (n_rows,) rows of one group share a fold and are treated as dependent in intervals.
        optimize: name of a metric (oof.metrics), or a function (y, scores) -> float, higher is better; "none"
            fits no weights and returns the plain average of the transform (auto: of probabilities), scored by AUC.
        transform: transform of the predictions before weighting; auto chooses by nested scores.
        seed: seed of the folds, if they are created, and of everything random.
        names: names of the models, for messages.
        max_members: maximum number of models with a weight.
        prune: whether to drop models that the blend does not need.
        calibrate: none, platt, isotonic or beta: calibration method, fitted to nested predictions.
        methods: additional blending methods to try: ridge, boosted. Like every method they get the share that their
            nested scores justify.
        features: (n_rows, n_features) numbers that describe each row (size, JPEG quality, blur; NaN if unknown), used
            by "boosted"; `predict` then requires those of the new rows.
        test: test predictions of the same models, as for `predict`; members
            whose test predictions look broken cause a warning.
        importance_weighting: whether to weight rows by their density among the test rows if that helps out of fold;
            needs `test`, binary predictions, and one more fit per fold.
        progress: callback for progress.

    Returns:
        The blend. The same input and seed give the same numbers on one machine.

    Raises:
        BlendError: if shapes do not match, there is only one class, a model has no predictions, or a
            transform or an option is not possible with these data.

    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(400) % 2
    >>> oof = 1 / (1 + np.exp(-(y[:, None] - 0.5 + rng.normal(size=(400, 3)))))
    >>> result = fit_blend(oof, y)
    >>> bool(result.nested_score < result.score), round(float(result.weights.sum()), 6)
    (True, 1.0)
    """
    oof, y = np.asarray(oof), numeric_target(np.asarray(y))
    found_names = check_shapes(oof, y, names)
    check_seed("", seed, BlendError)
    options = BlendOptions(
        metric=metric_by_name("auc" if optimize == "none" else optimize),
        transform=transform,
        average_only=optimize == "none",
        max_members=max_members,
        prune=prune,
        calibrate=calibrate,
        methods=tuple(methods),
    )
    binary = oof.ndim == 2 and bool(np.isin(y, (0, 1)).all())
    general = not binary and (oof.ndim == 3 or options.metric.kind == "value")
    _check_options(options, general=general, weighting=importance_weighting, has_test=test is not None)
    fold = make_folds_of(y, folds, groups, seed, stratify=binary or oof.ndim == 3)
    grouped = None if groups is None else np.asarray(groups)
    row_features = check_features(features, len(y), options)
    data = BlendData(oof, y, fold, grouped, found_names, seed, folds is not None, row_features)
    order = content_order(data)  # rounding errors, random draws and choices must not depend on the order of the input
    data = data.rows(order)
    # BLAS threads wait for each other in busy loops, which costs more than they save on a shared machine
    with threadpool_limits(1, user_api="blas"):
        if general:
            result = fit_general(data, options, progress)
        else:
            result = fit_binary(data, options, progress)
            if importance_weighting and test is not None:
                result = fit_importance_weighted(data, options, result, test, progress)
    back = np.argsort(order)
    result = replace(result, oof=result.oof[back], nested_oof=result.nested_oof[back])
    if test is None or oof.ndim == 3:
        return result
    shifts = zip(found_names, model_shifts(oof, test), strict=True)
    warnings = [f"'{name}': {reason}" for name, shift in shifts for reason in shift.reasons]
    return replace(result, warnings=(*result.warnings, *warnings))


def _check_options(options: BlendOptions, *, general: bool, weighting: bool, has_test: bool) -> None:
    """Raise BlendError for options that are not possible with these data."""
    if options.average_only:
        if general:
            raise BlendError('optimize = "none" averages predictions of binary labels only. Choose a metric.')
        fitted = {
            "max_members": options.max_members is not None,
            "prune": options.prune,
            "methods": bool(options.methods),
            "importance_weighting": weighting,
        }
        unused = [name for name, wanted in fitted.items() if wanted]
        if unused:
            raise BlendError(
                f'optimize = "none" fits no weights, so it cannot be combined with {", ".join(unused)}. Leave that '
                f"out, in [blend] of dfens.toml too, or choose a metric."
            )
    if weighting and (general or not has_test):
        raise BlendError("Importance weighting needs test predictions and binary labels.")
    if general:
        asked = {
            "transform": options.transform != "auto",
            "max_members": options.max_members is not None,
            "prune": options.prune,
            "calibrate": options.calibrate != "none",
            "methods": bool(options.methods),
        }
        unsupported = [name for name, wanted in asked.items() if wanted]
        if unsupported:
            raise BlendError(f"{', '.join(unsupported)}: supported only for binary predictions. Leave it out.")
