"""The rows that a fold is trained on: labelled rows of the other folds, and test rows with pseudo-labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import TrainingError
from trainers.kinds.base import ModelContext

_TEST_ID = "test:"  # prefix of the ids of test rows, so that they cannot be mistaken for training rows


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The rows that one fold is trained on.

    table: id, path, and the other columns of the training table, which are missing for test rows.
    target: (n_rows,) float32, 0 or 1, or a probability for pseudo-labels.
    weight: (n_rows,) float32 with mean 1, weight of each row in the loss; None: all equal.
    """

    table: pd.DataFrame
    target: NDArray[np.float32]
    weight: NDArray[np.float32] | None = None


def training_rows(context: ModelContext[Any], fold: int) -> TrainingRows:
    """Return the rows to train on: all except those of the fold, and the test rows with pseudo-labels, if any.

    Raises:
        TrainingError: as in `labelled_rows` and `fold_weights`; also if no pseudo-label is confident enough, or if they
            are combined with `reals_only`.
    """
    rows = labelled_rows(context, fold)
    table = context.train[rows].reset_index(drop=True)
    target = table["target"].to_numpy(np.float32)
    weight = fold_weights(context, getattr(context.settings, "weight_column", ""), rows)
    if context.pseudo is None:
        return TrainingRows(table, target, weight)
    if _reals_only(context):
        raise TrainingError(
            f"Model '{context.name}': reals_only = true excludes fakes, but pseudo-labels would add some. "
            f"Leave this model out with --model, or set reals_only = false."
        )
    labels, settings = context.pseudo
    chosen = labels.chosen(fold, settings)
    test = context.test.iloc[chosen].assign(id=lambda found: _TEST_ID + found["id"])
    label = labels.probabilities[fold, chosen].astype(np.float32)
    labelled = np.ones(len(table), np.float32) if weight is None else weight
    weights = np.concatenate([labelled, np.full(len(chosen), settings.weight, np.float32)])
    joined = pd.concat([table, test.assign(target=label)], ignore_index=True)
    return TrainingRows(joined, np.concatenate([target, label]), weights / weights.mean())


def row_count(context: ModelContext[Any], fold: int) -> int:
    """Return the number of `training_rows`."""
    test_rows = 0 if context.pseudo is None else len(context.pseudo[0].chosen(fold, context.pseudo[1]))
    return int(labelled_rows(context, fold).sum()) + test_rows


def labelled_rows(context: ModelContext[Any], fold: int) -> NDArray[np.bool_]:
    """Return a mask of the labelled rows that a fold is trained on, (n_rows,): the other folds, or only their reals.

    Raises:
        TrainingError: if there are no such rows.
    """
    rows: NDArray[np.bool_] = context.folds.fold != fold
    if _reals_only(context):
        rows &= context.folds.target == 0
        if not rows.any():
            raise TrainingError(
                f"Model '{context.name}': reals_only = true, but there are no reals outside fold {fold}. Set it "
                f"to false, or assign the reals to several folds (dfens folds)."
            )
    return rows


def fold_weights(context: ModelContext[Any], name: str, rows: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Return the weights of the training rows of a fold from a column; None without a column.

    Weights have mean 1 over all rows of the training table, or with `reals_only` over the reals, whose weights may be
    on a different scale.

    Raises:
        TrainingError: as in `row_weights`, or if the weights of all these rows, or of all those of a class, are 0.
    """
    weight = row_weights(context, name)
    if weight is None:
        return None
    weight = weight[rows]
    if not _reals_only(context):
        makes_fakes = any(getattr(context.settings, setting, 0) for setting in ("self_blend", "sound_slip"))
        for label, what in enumerate(("reals",) if makes_fakes else ("reals", "fakes")):
            if not weight[context.folds.target[rows] == label].sum():
                raise TrainingError(
                    f"Model '{context.name}': weight_column = {name!r} is 0 for all {what} that a fold is trained on, "
                    f"so there is nothing to tell apart. Give some of them a weight, or leave the setting out."
                )
        return weight
    if not weight.sum():
        raise TrainingError(
            f"Model '{context.name}': reals_only = true, but weight_column = {name!r} is 0 for all reals that a "
            f"fold is trained on. Leave one of these settings out."
        )
    scaled: NDArray[np.float32] = weight / weight.mean()
    return scaled


def row_weights(context: ModelContext[Any], name: str) -> NDArray[np.float32] | None:
    """Return the weight of each training row in the loss, from a column, scaled to mean 1; None without a column.

    Raises:
        TrainingError: if the column is missing or contains anything but non-negative numbers.
    """
    if not name:
        return None
    column = context.column(context.train, name, "weight_column")
    try:
        weight = column.to_numpy(dtype=np.float32)
    except ValueError as err:
        raise TrainingError(f"weight_column = {name!r} contains non-numeric values: {err}.") from err
    if not (np.isfinite(weight).all() and weight.min() >= 0 and weight.sum() > 0):
        raise TrainingError(
            f"weight_column = {name!r} must contain non-negative numbers, not all 0, and no empty values."
        )
    scaled: NDArray[np.float32] = weight / weight.mean()
    return scaled


def _reals_only(context: ModelContext[Any]) -> bool:
    """Return whether fakes are excluded from training; not every kind has this setting."""
    return bool(getattr(context.settings, "reals_only", False))
