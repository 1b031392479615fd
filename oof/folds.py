"""Assign training rows to folds: stratified, grouped, deterministic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from oof.errors import FoldError, examples
from oof.ids import Ids, as_ids, text_fingerprint


@dataclass(frozen=True, eq=False)
class Folds:
    """The training rows with target and fold; every OOF array is in this row order.

    ids: (n_rows,) text. target: (n_rows,) 0 or 1. fold: (n_rows,) 0..k-1.
    groups: (n_rows,) text or None; rows of one group share a fold.
    how: how the folds were made (method, k, seed, group, library version).
    """

    ids: Ids
    target: NDArray[np.int8]
    fold: NDArray[np.int16]
    groups: Ids | None = None
    how: Mapping[str, Any] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Return the number of folds."""
        return int(self.fold.max()) + 1

    @property
    def refit(self) -> int:
        """The fold number of a training on all rows: k, a fold without rows."""
        return self.k

    @cached_property
    def fingerprint(self) -> str:
        """Return the fingerprint of ids, targets and folds, which does not depend on the row order."""
        rows = zip(self.ids, self.target, self.fold, strict=True)
        return text_fingerprint(sorted(f"{id_}\t{target}\t{fold}" for id_, target, fold in rows))

    def rows(self, fold: int) -> NDArray[np.intp]:
        """Return the positions of the rows of one fold."""
        if not 0 <= fold < self.k:
            raise FoldError(f"Fold {fold} does not exist: these folds are 0 to {self.k - 1}.")
        return np.flatnonzero(self.fold == fold)


def make_folds(
    ids: Ids, target: NDArray[Any], *, k: int, seed: int, groups: Ids | None = None, group: str = "none"
) -> Folds:
    """Assign each row to one of k folds with the same class balance, whole groups together.

    The result depends on the set of rows and the seed, not on the row order.
    Rows are sorted by id, then split by scikit-learn's StratifiedKFold, or by
    StratifiedGroupKFold if there are groups, both shuffled with the seed.

    Args:
        ids: (n_rows,) unique text.
        target: (n_rows,) 0 or 1.
        k: number of folds, at least 2.
        seed: seed of the shuffle.
        groups: (n_rows,) text; rows of one group share a fold.
        group: how the groups were defined, recorded with the folds.

    Raises:
        FoldError: if there is only one class, a class has fewer rows (or there are fewer groups)
            than folds, or a fold would lack one of the classes.
    """
    ids = as_ids(ids, "training ids")
    target = _checked_target(target, k)
    order = np.argsort(ids.astype(str), kind="stable")
    fold = np.full(len(ids), -1, np.int16)
    y = target[order]
    if groups is None:
        splits = StratifiedKFold(k, shuffle=True, random_state=seed).split(order, y)
    else:
        groups = np.asarray(groups, dtype=object)
        found = len(set(groups))
        if found < k:
            raise FoldError(
                f"{k} folds need at least {k} groups, and '{group}' has {found}. Lower [folds] k, or choose "
                f"other groups with [folds] group in dfens.toml."
            )
        splits = StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(order, y, groups[order])
    for index, (_, held_out) in enumerate(splits):
        fold[order[held_out]] = index
    method = "StratifiedKFold" if groups is None else "StratifiedGroupKFold"
    how = {"method": method, "k": k, "seed": seed, "group": group, "scikit_learn": sklearn.__version__}
    folds = Folds(ids, target, fold, groups, how)
    check_folds(folds)
    return folds


def _checked_target(target: NDArray[Any], k: int) -> NDArray[np.int8]:
    """Return the target as int8; raise FoldError if it is not binary, or a class has fewer than k rows."""
    target = np.asarray(target)
    wrong = sorted({str(value) for value in target if value not in (0, 1)})
    if wrong:
        raise FoldError(f"Targets must be 0 (real) or 1 (fake); found {examples(wrong)}.")
    if k < 2:
        raise FoldError(f"k = {k}: at least 2 folds are needed. Set [folds] k in dfens.toml.")
    counts = np.bincount(target.astype(int), minlength=2)
    if counts.min() == 0:
        raise FoldError(
            f"All {len(target)} targets are {int(counts.argmax())}, but AUC needs both classes. Check the label file."
        )
    if counts.min() < k:
        rarer = int(counts.argmin())
        raise FoldError(
            f"{k} folds need at least {k} rows of each class; class {rarer} has {counts[rarer]} of {len(target)} "
            f"rows. {f'Lower [folds] k to {counts[rarer]}, or add' if counts[rarer] > 1 else 'Add'} rows."
        )
    return target.astype(np.int8)


def check_folds(folds: Folds, *, remedy: str = "") -> None:
    """Check that each row is in one fold, groups are not split, and every fold has both classes.

    Args:
        folds: of the training rows. remedy: what to do if they are wrong; default: make others with dfens folds.

    Raises:
        FoldError: naming the fold or group that is wrong.
    """
    if (folds.fold < 0).any():
        row = int(np.flatnonzero(folds.fold < 0)[0])
        raise FoldError(f"Row '{folds.ids[row]}' has no fold. Run dfens folds --force.")
    for index in range(folds.k):
        classes = set(folds.target[folds.fold == index].tolist())
        if classes != {0, 1}:
            uneven = (
                f"The groups are too few or too uneven for {folds.k} folds{_largest_group(folds)}: lower [folds] k, "
                f"try another [folds] seed, or other groups."
            )
            what = f"only class {classes.pop()}" if classes else "no rows"
            raise FoldError(f"Fold {index} has {what}, but AUC needs both classes. {remedy or uneven}")
    if folds.groups is not None:
        spread = pd.Series(folds.fold).groupby(folds.groups).nunique()
        split = [str(name) for name in spread.index[spread > 1]]
        if split:
            raise FoldError(
                f"{len(split)} groups are in more than one fold, so validation rows leak into training: "
                f"{examples(split)}. {remedy or 'Run dfens folds --force.'}"
            )


def _largest_group(folds: Folds) -> str:
    """Return a remark on the largest group if the groups are too uneven."""
    if folds.groups is None:
        return ""
    name, rows = next(iter(pd.Series(folds.groups).value_counts().items()))
    inside = folds.groups == name
    whole = [label for label in (0, 1) if not (folds.target[~inside] == label).any()]
    words = "".join(f", including all of class {label}" for label in whole)
    return f" (the largest, '{name}', has {rows} of {len(folds.ids)} rows{words})"


def fold_table(folds: Folds) -> pd.DataFrame:
    """Return the number of rows, positives and share of positives of each fold, for display."""
    frame = pd.DataFrame({"fold": folds.fold, "target": folds.target})
    table = frame.groupby("fold")["target"].agg(rows="size", positive="sum").reset_index()
    table["positive_share"] = table["positive"] / table["rows"]
    if folds.groups is not None:
        table["groups"] = pd.Series(folds.groups).groupby(folds.fold).nunique().to_numpy()
    return table
