"""Check the input of a fit and build its table: labels, folds, imputed members, and warnings on suspicious members."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.auc import auc_of_classes
from ensemble.settings import BlendOptions
from ensemble.table import BinaryTable, sort_rows
from ensemble.transforms import Columns, Imputation, fill_missing, fit_transforms
from oof.errors import BlendError, examples

FOLDS = 5
LARGEST = 1e15  # the sum of the squares of a hundred million predictions still fits into float32


@dataclass(frozen=True, eq=False)
class BlendData:
    """The rows that a blend is fitted to.

    oof: (n_rows, n_models[, n_classes]). y: (n_rows,). fold: (n_rows,) 0..k-1. groups: (n_rows,) or None.
    names: names of the models. seed: seed of everything random.
    own_folds: whether the folds are those of the models that predicted the rows.
    features: (n_rows, n_features) of the rows, or None.
    """

    oof: NDArray[Any]
    y: NDArray[Any]
    fold: NDArray[np.int32]
    groups: NDArray[Any] | None
    names: tuple[str, ...]
    seed: int
    own_folds: bool
    features: NDArray[np.float32] | None = None

    def rows(self, chosen: NDArray[np.intp]) -> "BlendData":
        """Return some or all of the rows in another order."""
        groups, features = (None if part is None else part[chosen] for part in (self.groups, self.features))
        return replace(
            self, oof=self.oof[chosen], y=self.y[chosen], fold=self.fold[chosen], groups=groups, features=features
        )

    def drawn(self, chosen: NDArray[np.intp]) -> "BlendData":
        """Return rows with repetitions; copies of a row are dependent, as rows of a group."""
        found = self.rows(chosen)
        return replace(found, groups=chosen if self.groups is None else found.groups, own_folds=False)


def numeric_target(y: NDArray[Any]) -> NDArray[Any]:
    """Return the target as an array of numbers.

    Raises:
        BlendError: if it contains text, NaN or infinite values, or values beyond 1e15.
    """
    y = np.array(y.tolist()) if y.dtype == object else y
    if not np.issubdtype(y.dtype, np.number) and y.dtype != bool:
        raise BlendError(f"y must contain numbers; its dtype is {y.dtype}. Encode two classes as 0 and 1.")
    wrong = np.flatnonzero(~np.isfinite(y))
    if len(wrong):
        raise BlendError(
            f"y is NaN or infinite in {len(wrong)} of {len(y)} rows, first in row {wrong[0]}. Leave out rows without a "
            f"target."
        )
    if y.size and float(np.abs(y).max()) > LARGEST:
        raise BlendError(f"y has values beyond {LARGEST:g}, whose errors cannot be summed. Divide y by a constant.")
    return y


def check_shapes(oof: NDArray[Any], y: NDArray[Any], names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of the models after checking that oof and y match.

    Raises:
        BlendError: if shapes do not match, or a model has no predictions, infinite ones or ones beyond 1e15,
            naming it.
    """
    if oof.ndim not in (2, 3) or y.shape != (len(oof),) or not oof.size:
        raise BlendError(
            f"Expected oof of shape (n_rows, n_models), or (n_rows, n_models, n_classes), and y of shape (n_rows,); "
            f"got {oof.shape} and {y.shape}."
        )
    if not np.issubdtype(oof.dtype, np.number) and oof.dtype != bool:
        raise BlendError(f"oof must contain numbers; its dtype is {oof.dtype}. Read the predictions as floats.")
    count = oof.shape[1]
    found = tuple(names) if names is not None else tuple(f"model{index}" for index in range(count))
    if len(found) != count or len(set(found)) != count:
        raise BlendError(f"{count} models need {count} different names; got {len(found)}: {examples(list(found))}.")
    per_model = oof.reshape(len(oof), count, -1)
    empty = [name for index, name in enumerate(found) if np.isnan(per_model[:, index]).all()]
    if empty:
        raise BlendError(f"These models have no predictions: {examples(empty)}. Leave them out.")
    infinite = [name for index, name in enumerate(found) if np.isinf(per_model[:, index]).any()]
    if infinite:
        raise BlendError(
            f"These models have infinite predictions: {examples(infinite)}. Check for a division by zero "
            f"or an overflow of float16, and predict again."
        )
    large = [name for index, name in enumerate(found) if float(np.nanmax(np.abs(per_model[:, index]))) > LARGEST]
    if large:
        raise BlendError(
            f"These models have predictions beyond {LARGEST:g}: {examples(large)}. Divide them by a constant, also the "
            f"test predictions, or check for a diverged training."
        )
    return found


def check_features(features: NDArray[Any] | None, rows: int, options: BlendOptions) -> NDArray[np.float32] | None:
    """Return features of the rows as float32, (n_rows, n_features).

    Raises:
        BlendError: another shape, text or infinity, or no method that reads features.
    """
    if features is None:
        return None
    found = np.asarray(features)
    if found.ndim != 2 or len(found) != rows or not found.shape[1]:
        raise BlendError(f"Expected features of shape ({rows}, n_features), one row each; got {found.shape}.")
    if not (np.issubdtype(found.dtype, np.number) or found.dtype == bool):
        raise BlendError(f"features must be numeric; their dtype is {found.dtype}. Encode categories as numbers.")
    if "boosted" not in options.methods:
        raise BlendError('No method uses features: add methods=["boosted"], or leave features out.')
    values = found.astype(np.float32)
    if np.isinf(values).any():
        raise BlendError("features contain infinite values. Use NaN for unknown values.")
    return values


def make_folds_of(
    y: NDArray[Any], folds: NDArray[Any] | None, groups: NDArray[Any] | None, seed: int, *, stratify: bool = True
) -> NDArray[np.int32]:
    """Return the fold of each row as 0..k-1, either the given folds or at most five new ones; groups are never split.

    Raises:
        BlendError: if the length is wrong, rows have no fold or group, or the given folds split a group.
    """
    for what, values in (("folds", folds), ("groups", groups)):
        if values is None:
            continue
        if np.shape(values) != (len(y),):
            raise BlendError(f"Expected {what} of shape ({len(y)},), one per row; got {np.shape(values)}.")
        missing = np.flatnonzero(pd.isna(np.asarray(values)))  # np.unique would take them as one value
        if len(missing):
            raise BlendError(
                f"{what} is missing (NaN or None) in {len(missing)} of {len(y)} rows, first in row {missing[0]}. Give "
                f"each row a value; a row that belongs to no other has a group of its own."
            )
    members = None if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if folds is not None:
        fold = np.unique(np.asarray(folds), return_inverse=True)[1].astype(np.int32)
        if members is not None:
            _refuse_split_groups(fold, members, np.asarray(groups))
        return fold
    rng = np.random.default_rng(seed)
    fold = np.empty(len(y), np.int32)
    if members is not None:
        count = int(members.max()) + 1
        # largest groups first, each to the fold with the fewest rows
        order = rng.permutation(count)
        sizes = np.bincount(members)
        held = np.zeros(min(FOLDS, count))
        of_group = np.empty(count, np.int32)
        for group in order[np.argsort(-sizes[order], kind="stable")]:
            of_group[group] = int(np.argmin(held))
            held[of_group[group]] += sizes[group]
        return np.asarray(of_group[members])
    strata = np.unique(y, return_inverse=True)[1] if stratify else np.zeros(len(y), np.intp)
    dealt = 0
    for stratum in range(int(strata.max()) + 1):
        rows = rng.permutation(np.flatnonzero(strata == stratum))
        fold[rows] = (dealt + np.arange(len(rows))) % min(FOLDS, len(y))
        dealt += len(rows)
    return fold


def _refuse_split_groups(fold: NDArray[np.int32], members: NDArray[np.intp], groups: NDArray[Any]) -> None:
    count = int(members.max()) + 1
    low, high = np.full(count, np.iinfo(np.int32).max, np.int32), np.full(count, -1, np.int32)
    np.minimum.at(low, members, fold)
    np.maximum.at(high, members, fold)
    split = np.flatnonzero(low != high)
    if len(split):
        named = [str(groups[np.flatnonzero(members == group)[0]]) for group in split]
        raise BlendError(
            f"{len(split)} groups are in more than one fold: {examples(named)}. Their rows would be on both sides "
            f"of a nested score. Assign the folds by group (dfens folds), or leave `folds` out."
        )


def content_order(data: BlendData) -> NDArray[np.intp]:
    """Return an order of the rows, (n_rows,), that depends only on what they contain: that of a hash of all values."""
    key = np.zeros(len(data.y), np.uint64)
    features = () if data.features is None else data.features.T
    for column in (data.fold, data.y, *data.oof.reshape(len(key), -1).T, *features):
        key = key * np.uint64(31) + pd.util.hash_array(np.asarray(column, np.float64))
    return np.argsort(key)


def binary_table(data: BlendData, imputation: Imputation = "rank") -> BinaryTable:
    """Return the rows sorted by class and fold, with missing predictions imputed.

    Raises:
        BlendError: if there are labels other than 0 and 1, or only one class.
    """
    oof, y, fold = data.oof, data.y, data.fold
    labels = np.unique(y)
    if len(labels) != 2 or labels[0] != 0 or labels[1] != 1:
        raise BlendError(
            f"y must contain both 0 and 1 and nothing else; found "
            f"{examples([str(value) for value in labels.tolist()])}. For more classes or a real target, name a metric "
            f"such as log_loss or rmse."
        )
    order = sort_rows(y, fold)
    columns: Columns = np.empty((oof.shape[1], len(oof)), np.float32)
    for model in range(oof.shape[1]):
        columns[model] = oof[order, model]
    transforms = fit_transforms(columns, imputation)
    return BinaryTable(
        fill_missing(transforms, columns),
        y[order].astype(np.int8),
        fold[order],
        int(fold.max()) + 1,
        order,
        transforms,
        data.names,
        data.seed,
        None if data.features is None else np.ascontiguousarray(data.features[order].T),
    )


def single_aucs(oof: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Return each model's own AUC on the rows it covers, 0.5 if these have only one class."""
    positive = y == 1
    found = []
    for column in oof.T:
        present = ~np.isnan(column)
        found.append(auc_of_classes(column[present & ~positive], column[present & positive]))
    return np.array(found)


def odd_members(table: BinaryTable, aucs: NDArray[np.float64]) -> list[str]:
    """Return warnings about members that are constant, duplicate, inverted or too good to be true."""
    found = []
    rarer = min(table.positives, table.split)
    error = 0.5 / np.sqrt(max(rarer, 1))
    by_auc: dict[float, int] = {}
    for index, (name, column, auc) in enumerate(zip(table.names, table.columns, aucs, strict=True)):
        if column.min() == column.max():
            found.append(f"'{name}' predicts {column[0]:g} for every row; it adds nothing.")
            continue
        twin = by_auc.setdefault(float(auc), index)
        if twin != index and np.array_equal(column, table.columns[twin]):
            found.append(f"'{name}' is identical to '{table.names[twin]}'; leave one out.")
        if auc < 0.5 - 4 * error:
            found.append(f"'{name}' has an AUC of {auc:.4f}, below chance: its predictions may be inverted.")
        others = np.delete(aucs, index)
        if len(others) and auc > 0.5 and 1 - auc < 0.1 * (1 - others.max()) and auc - others.max() > 4 * error / 3:
            found.append(
                f"'{name}' has an AUC of {auc:.5f}, far above the next ({others.max():.5f}): it may have seen the rows "
                f"that it predicts. Check its folds before trusting the blend."
            )
    return found
