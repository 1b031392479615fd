"""Create folds for a store without folds from the target and fold columns of imported files."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oof.errors import FoldError, PredictionError, examples
from oof.exchange.prediction_files import PredictionFile
from oof.folds import Folds, check_folds, make_folds


def source_of_folds(tables: Sequence[PredictionFile]) -> PredictionFile:
    """Return the table with the most rows that has a target, from which folds are read or made.

    Raises:
        PredictionError: if no table has a target.
    """
    with_target = [table for table in tables if table.target is not None]
    if not with_target:
        raise PredictionError(
            f"There are no folds yet, and no target column to make them from in "
            f"{examples([table.path.name for table in tables])}. Name it with --target-column, give --folds-from "
            f"FILE, or run dfens folds."
        )
    return max(with_target, key=lambda table: (len(table.ids), bool(table.folds)))


def folds_of(tables: Sequence[PredictionFile], *, k: int = 5, seed: int = 0) -> Folds:
    """Return folds from the target and fold column of the table with the most rows; assign them if it has none.

    Raises:
        PredictionError: if no table has a target, or it is not binary.
        FoldError: if its folds are not non-negative integers, or its column of groups has no value.
    """
    best = source_of_folds(tables)
    target = _binary_target(best)
    if best.ungrouped == len(best.ids):
        raise FoldError(
            f"{best.path}: column '{best.roles.group}' has no value in any of the {len(best.ids)} rows, so it groups "
            f"nothing. Remove it if no rows belong together, or name another column with --group-column."
        )
    source = {"source": best.path.name, "target_column": best.roles.target}
    if not best.folds:
        made = make_folds(best.ids, target, k=k, seed=seed, groups=best.groups, group=best.roles.group or "none")
        return Folds(made.ids, made.target, made.fold, made.groups, {**made.how, **source})
    fold = next((fold for fold in best.folds.values() if _are_folds(fold)), None)
    if fold is None:
        fold = next(iter(best.folds.values()))
        row = int(np.flatnonzero(~_is_fold(fold))[0])
        raise FoldError(
            f"{best.path}: fold {fold[row]:g} of id '{best.ids[row]}' is not a non-negative integer. "
            f"Correct the column, or name another file with --folds-from."
        )
    values, codes = np.unique(fold, return_inverse=True)
    column = best.roles.folds[0]
    how = {"method": "read from a file", "k": len(values), "fold_column": column, **source}
    folds = Folds(best.ids, target, codes.astype(np.int16), best.groups, how)
    remedy = f"Correct column '{column}' of {best.path}, or remove it: dfens then assigns folds."
    if len(values) < 2:
        raise FoldError(f"All {len(fold)} rows are in fold {values[0]:g}; expected at least 2 folds. {remedy}")
    check_folds(folds, remedy=remedy)
    return folds


def _binary_target(table: PredictionFile) -> NDArray[np.int8]:
    target = table.target
    assert target is not None
    wrong = ~np.isin(target, (0, 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise PredictionError(
            f"{table.path}: the target of id '{table.ids[row]}' is {target[row]:g}, and {int(wrong.sum())} of "
            f"{len(target)} are neither 0 nor 1. The store only supports binary targets; blend others with "
            f"dfens.fit_blend on arrays, or name another column with --target-column."
        )
    if len(np.unique(target)) == 1:
        raise PredictionError(
            f"{table.path}: all {len(target)} rows have the target {target[0]:g} in column '{table.roles.target}', but "
            f"both classes are needed. Name another column with --target-column, or another file with --folds-from."
        )
    return target.astype(np.int8)


def _is_fold(fold: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        whole: NDArray[np.bool_] = np.isfinite(fold) & (fold >= 0) & (fold % 1 == 0)
    return whole


def _are_folds(fold: NDArray[np.float64]) -> bool:
    return bool(_is_fold(fold).all())
