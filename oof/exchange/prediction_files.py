"""One file of predictions made elsewhere: its ids, models, target and folds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError, examples
from oof.exchange.column_roles import Roles, assign_roles
from oof.exchange.table_files import Columns, read_columns
from oof.ids import Ids, as_ids

_AFFIX = re.compile(r"(^(oof|test|train|preds?|submission)[_.-]+)|([_.-]+(oof|test|train|preds?|submission)$)", re.I)


@dataclass(frozen=True, kw_only=True)
class ColumnChoice:
    """Columns that the user named; None and () are told from names and values; target "none" means no target."""

    id: str | None = None
    predictions: tuple[str, ...] = ()
    target: str | None = None
    fold: str | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """What one file holds, in its own row order.

    ids: (n,) text. predictions: by model, (n,) float64, NaN where there is none.
    target: (n,) float64 or None. folds: by model, (n,) float64; empty where the file has none.
    groups: (n,) text or None. notes: what was guessed and left out.
    """

    path: Path
    ids: Ids
    predictions: Mapping[str, NDArray[np.float64]]
    target: NDArray[np.float64] | None
    folds: Mapping[str, NDArray[np.float64]]
    groups: Ids | None
    roles: Roles
    notes: tuple[str, ...]


def read_predictions(
    path: Path,
    choice: ColumnChoice | None = None,
    *,
    name: str | None = None,
    known_ids: Ids | None = None,
    for_test: bool = False,
) -> PredictionFile:
    """Read one file of predictions; one prediction column is one model, several are several.

    Args:
        path: CSV, Parquet, Feather or NPZ (`oof.exchange.table_files`).
        choice: columns by name, where they cannot be told.
        name: of the model; default the file's name without `oof_`, `_test` and the like, or for
            several prediction columns the columns' names.
        known_ids: ids of the training (or test) rows; they tell the id column.
        for_test: a file of test predictions.

    Raises:
        PredictionError: a file that cannot be read, doubled ids, columns that cannot be told apart.
    """
    choice = choice or ColumnChoice()
    columns = read_columns(path)
    roles = assign_roles(
        columns,
        id_column=choice.id,
        prediction_columns=choice.predictions,
        target_column=choice.target,
        fold_column=choice.fold,
        group_column=choice.group,
        known_ids=known_ids,
        for_test=for_test,
    )
    notes = [*roles.notes]
    if columns.is_typed_number(roles.id):
        notes.append(f"ids are numbers in column '{roles.id}'; their digits are taken as text")
    names = _model_names(path, roles.predictions, name)
    return PredictionFile(
        path,
        as_ids(columns.text(roles.id), str(path)),
        {model: columns.numbers(column) for model, column in zip(names, roles.predictions, strict=True)},
        columns.numbers(roles.target) if roles.target else None,
        _folds_by_model(columns, roles, names),
        columns.text(roles.group) if roles.group else None,
        roles,
        tuple(notes),
    )


def read_fold_table(path: Path, choice: ColumnChoice | None = None) -> PredictionFile:
    """Read ids, target, folds and groups alone, for a store that has no folds yet; columns as in `read_predictions`."""
    choice = choice or ColumnChoice()
    columns = read_columns(path)
    roles = assign_roles(
        columns,
        id_column=choice.id,
        target_column=choice.target,
        fold_column=choice.fold,
        group_column=choice.group,
        with_predictions=False,
    )
    return PredictionFile(
        path,
        as_ids(columns.text(roles.id), str(path)),
        {},
        columns.numbers(roles.target) if roles.target else None,
        {column: columns.numbers(column) for column in roles.folds},
        columns.text(roles.group) if roles.group else None,
        roles,
        (),
    )


def _model_names(path: Path, predictions: Sequence[str], name: str | None) -> list[str]:
    stem = path.name.removesuffix(".gz").rsplit(".", 1)[0]
    stem = _AFFIX.sub("", stem) or stem
    if len(predictions) == 1:
        return [name or _as_name(stem)]
    parts = [_as_name(column.split(":", 1)[-1]) for column in predictions]
    if any(part.isdigit() for part in parts):  # the columns of an unnamed matrix
        parts = [_as_name(f"{name or stem}.{part}") for part in parts]
    elif name:
        parts = [_as_name(f"{name}.{part}") for part in parts]
    doubled = sorted({part for part in parts if parts.count(part) > 1})
    if doubled:
        raise PredictionError(
            f"{path}: several prediction columns would become the model {examples(doubled)}. "
            f"Choose one with --prediction-column."
        )
    return parts


def _as_name(text: str) -> str:
    """A model name made of a file's or column's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


def _folds_by_model(columns: Columns, roles: Roles, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """The fold column of each model: the only one there is, or the one with the model's own label."""
    if len(roles.folds) == 1:
        return dict.fromkeys(names, columns.numbers(roles.folds[0]))
    by_label = {column.split(":", 1)[-1]: column for column in roles.folds}
    labels = [column.split(":", 1)[-1] for column in roles.predictions]
    return {
        name: columns.numbers(by_label[label])
        for name, label in zip(names, labels, strict=True)
        if label in by_label and ":" in by_label[label]
    }
