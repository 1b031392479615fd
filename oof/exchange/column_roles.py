"""Which column of a table is what: ids, target, fold, predictions; given by name or told from names and values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.exchange.table_files import Columns
from oof.ids import Ids

_ID_NAMES = (
    "id ids row_id image_id img_id img_name image_name image img filename file_name file video_name video_id video "
    "clip name path key uuid sample_id index"
).split()
_TARGET_NAMES = "target targets label labels y y_true true truth gt is_fake fake class".split()
_FOLD_NAMES = "fold kfold folds fold_id fold_index cv_fold cv k_fold".split()
_GROUP_NAMES = "group groups group_id".split()
_PREDICTION = re.compile(
    r"(^|[^a-z])(preds?|predictions?|prob|probs|proba|probability|oof|scores?|logits?|p)([^a-z]|$)"
)


@dataclass(frozen=True)
class Roles:
    """Column names by what they hold; folds has one name, or one for each prediction column."""

    id: str
    predictions: tuple[str, ...]
    target: str | None
    folds: tuple[str, ...]
    group: str | None
    notes: tuple[str, ...]


def assign_roles(
    columns: Columns,
    *,
    id_column: str | None = None,
    prediction_columns: Sequence[str] = (),
    target_column: str | None = None,
    fold_column: str | None = None,
    group_column: str | None = None,
    known_ids: Ids | None = None,
    for_test: bool = False,
    with_predictions: bool = True,
) -> Roles:
    """Tell the columns of a file of predictions apart.

    What is given by name is taken. Ids else: the column that holds known ids, else the one of a
    usual name, else the only text column. Predictions else: columns called so (`pred`, `oof`,
    `prob`, …, also as a part: `lr_pred`), else every column of fractions. More than one prediction
    column means as many models.

    Args:
        columns: of the file.
        id_column, prediction_columns, target_column, fold_column, group_column: names, where the user gave them.
        known_ids: of the training rows or test rows, where they are known.
        for_test: whether the file is one of test predictions; in an NPZ that holds both kinds,
            arrays whose name begins with `test` are these.
        with_predictions: False for a file that need not hold any.

    Raises:
        PredictionError: a name that the file lacks, or columns that could be either; all are listed.
    """
    without_target = target_column == "none" and "none" not in columns.names
    target_column = None if without_target else target_column
    _check_given(columns, [id_column, target_column, fold_column, group_column, *prediction_columns])
    names = _of_part(columns, for_test)
    id_name = id_column or _find_id(columns, names, known_ids)
    rows = columns.length(id_name)
    names = [name for name in names if name != id_name and columns.length(name) == rows]
    folds = (fold_column,) if fold_column else tuple(name for name in names if _base(name) in _FOLD_NAMES)
    taken = {*folds, *prediction_columns}
    group = group_column or next((name for name in names if _base(name) in _GROUP_NAMES and name not in taken), None)
    taken.add(group or "")
    target = target_column
    if target is None and not without_target:
        target = _find_target(columns, [name for name in names if name not in taken])
    taken.add(target or "")
    notes = [] if target_column or target is None or _base(target) in _TARGET_NAMES else [f"'{target}' taken as target"]
    rest = [name for name in names if name not in taken and columns.is_number(name)]
    if not with_predictions:
        return Roles(id_name, (), target, folds, group, ())
    predictions = tuple(prediction_columns) or _find_predictions(columns, rest)
    ignored = [name for name in rest if name not in predictions]
    if ignored and not prediction_columns:
        notes.append(f"not used: {', '.join(ignored)}")
    return Roles(id_name, predictions, target, folds, group, tuple(notes))


def _base(name: str) -> str:
    """Lower case, without the column of a matrix behind it: `fold:lr` is a `fold`."""
    return name.lower().split(":")[0].strip()


def _of_part(columns: Columns, for_test: bool) -> list[str]:
    """In a file whose columns differ in length (an NPZ of both parts), those of the part asked for."""
    if len({columns.length(name) for name in columns.names}) == 1:
        return columns.names
    return [name for name in columns.names if _base(name).startswith("test") == for_test]


def _check_given(columns: Columns, given: Sequence[str | None]) -> None:
    for name in given:
        if name is not None and name not in columns.names:
            raise PredictionError(f"{columns.path} has no column '{name}'; it has {', '.join(columns.names)}.")


def _find_id(columns: Columns, names: Sequence[str], known_ids: Ids | None) -> str:
    texts = [name for name in names if columns.may_be_ids(name)]
    if known_ids is not None:
        known = pd.Index(known_ids)
        for name in texts:
            if pd.Index(columns.text(name)).isin(known).mean() > 0.5:
                return name
    for usual in (*_ID_NAMES, *(f"test_{name}" for name in _ID_NAMES)):
        for name in texts:
            if _base(name) == usual:
                return name
    texts = [name for name in texts if not columns.is_number(name) and pd.Index(columns.text(name)).is_unique]
    if len(texts) == 1:
        return texts[0]
    raise PredictionError(
        f"{columns.path}: which column holds the ids? Its columns are {', '.join(columns.names)}. "
        f"Name it with --id-column."
    )


def _find_target(columns: Columns, names: Sequence[str]) -> str | None:
    for usual in _TARGET_NAMES:
        for name in names:
            if _base(name) == usual and columns.is_number(name):
                return name
    binary = [
        name
        for name in names
        if not _PREDICTION.search(name.lower()) and columns.is_number(name) and _is_binary(columns.numbers(name))
    ]
    return binary[0] if len(binary) == 1 else None


def _is_binary(values: NDArray[np.float64]) -> bool:
    return set(np.unique(values).tolist()) == {0.0, 1.0}


def _find_predictions(columns: Columns, rest: Sequence[str]) -> tuple[str, ...]:
    called = [name for name in rest if _PREDICTION.search(name.lower())]
    fractions = [name for name in rest if columns.is_fraction(name)]
    if len(called) == 1 or (called and set(fractions) <= set(called)):
        return tuple(called)
    if not called and fractions and len(fractions) == len(rest):
        return tuple(fractions)
    if not called and len(rest) == 1:
        return tuple(rest)
    found = f"it could be any of {', '.join(rest)}" if rest else f"none of {', '.join(columns.names)} looks like it"
    raise PredictionError(
        f"{columns.path}: which column holds the predictions? {found[0].upper()}{found[1:]}. Name it with "
        f"--prediction-column (several times for several models)."
    )
