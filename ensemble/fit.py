"""From OOF predictions to a blend with an honest score: the one function that most callers need."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ensemble.binary import fit_binary, fit_table, simpler_blends
from ensemble.general import fit_general
from ensemble.importance_weighting import fit_importance_weighted
from ensemble.prepare import check_shapes, make_folds_of
from ensemble.result import BlendResult
from ensemble.settings import TRANSFORMS
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
    test: NDArray[Any] | None = None,
    importance_weighting: bool = False,
    progress: Progress = SILENT,
) -> BlendResult:
    """Fit a blend of out-of-fold predictions and score it honestly.

    Args:
        oof: (n_rows, n_models) float; NaN where a model has no prediction for a row. Of several
            classes (n_rows, n_models, n_classes) probabilities.
        y: (n_rows,) 0 or 1; the class number; or a real target where the metric is of values (rmse).
        folds: (n_rows,) the fold of each row, of any kind; None makes 5, stratified.
        groups: (n_rows,) rows of one group share a fold, and count as dependent in intervals.
        optimize: name of a metric (oof.metrics), or a function (y, scores) -> float, higher is better; "none"
            fits no weights and gives the plain average of the transform (auto: of probabilities), scored by AUC.
        transform: what is done to predictions before they are weighed; auto chooses by nested scores.
        seed: of folds that are made.
        names: of the models, for messages.
        max_members: most models with a weight.
        test: predictions of the same models for the rows to predict, as for `predict`; where given, members
            whose test predictions look broken are warned of.
        importance_weighting: weigh rows by how likely they are among the test rows, where that pays out of fold; needs
            `test` and binary predictions, and a fit more for each fold.
        progress: where to tell how far the work is.

    Returns:
        The blend. The same input and seed give the same numbers on one machine.

    Raises:
        BlendError: shapes that do not fit, one class only, a model without predictions, a
            transform that these predictions do not allow, or `importance_weighting` where it cannot be done.

    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(400) % 2
    >>> oof = 1 / (1 + np.exp(-(y[:, None] - 0.5 + rng.normal(size=(400, 3)))))
    >>> result = fit_blend(oof, y)
    >>> bool(result.nested_score < result.score), round(float(result.weights.sum()), 6)
    (True, 1.0)
    """
    oof, y = np.asarray(oof), np.asarray(y)
    found_names = check_shapes(oof, y, names)
    if transform not in TRANSFORMS:
        raise BlendError(f"transform = {transform!r} is unknown. Use {', '.join(TRANSFORMS)}.")
    if max_members is not None and max_members < 1:
        raise BlendError(f"max_members = {max_members}: at least 1 is needed.")
    plain = optimize == "none"
    metric = metric_by_name("auc" if plain else optimize)
    binary = oof.ndim == 2 and bool(np.isin(y, (0, 1)).all())
    fold = make_folds_of(y, folds, groups, seed, stratify=binary or oof.ndim == 3)
    general = not binary and (oof.ndim == 3 or metric.kind == "value")
    if plain and (general or importance_weighting or max_members is not None):
        raise BlendError('optimize = "none" averages binary predictions as they are; leave other options out.')
    if importance_weighting and (general or test is None):
        raise BlendError("Weighting toward the test set needs test predictions, and labels of two classes.")
    # BLAS threads wait for each other in busy loops, which on a shared machine costs more than they save
    with threadpool_limits(1, user_api="blas"):
        if general:
            result = fit_general(oof, y, fold, groups, metric, found_names, progress)
        else:
            settings = (metric, transform, max_members)
            table = fit_table(oof, y, fold, found_names, seed)
            result = fit_binary(
                table, oof, y, groups, *settings, progress, by_fold_model=folds is not None, plain=plain
            )
            if importance_weighting and test is not None:

                def fit(rows: NDArray[np.intp]) -> BlendResult:
                    part = fit_table(oof[rows], y[rows], fold[rows], found_names, seed)
                    drawn = None if groups is None else np.asarray(groups)[rows]
                    return fit_binary(part, oof[rows], y[rows], drawn, *settings, SILENT, by_fold_model=False)

                others = simpler_blends(table)
                result = fit_importance_weighted(fit, result, oof, y, fold, groups, metric, test, others, progress)
    if test is None or oof.ndim == 3:
        return result
    return replace(result, warnings=(*result.warnings, *_shift_warnings(oof, test, found_names)))


def _shift_warnings(oof: NDArray[Any], test: NDArray[Any], names: tuple[str, ...]) -> list[str]:
    """Sentences on models whose test predictions are far from their OOF predictions."""
    from ensemble.shift import model_shifts

    shifts = model_shifts(oof, test)
    return [f"'{name}': {reason}" for name, found in zip(names, shifts, strict=True) for reason in found.reasons]
