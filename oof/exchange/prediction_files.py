"""Read a file of predictions made elsewhere: ids, models, target and folds."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError, examples
from oof.exchange.column_roles import ColumnChoice, Roles, assign_roles
from oof.exchange.columns import Columns
from oof.exchange.table_files import read_columns
from oof.ids import Ids, as_ids
from oof.missing import is_missing

_PART = r"(oof|test|train|preds?|predictions?|submission)"  # also several: `lr_oof_preds`
_AFFIX = re.compile(rf"(^({_PART}[_.-]+)+)|(([_.-]+{_PART})+$)", re.I)


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """The content of one file, in its own row order.

    ids: (n,) text. predictions: by model, (n,) float64, NaN for no prediction.
    target: (n,) float64 or None. folds: by model, (n,) float64; empty if the file has none.
    groups: (n,) text or None. ungrouped: number of rows without a value in the column of groups, each its own group.
    notes: roles that were detected from values, and columns left out.
    """

    path: Path
    ids: Ids
    predictions: Mapping[str, NDArray[np.float64]]
    target: NDArray[np.float64] | None
    folds: Mapping[str, NDArray[np.float64]]
    groups: Ids | None
    roles: Roles
    notes: tuple[str, ...]
    ungrouped: int = 0


def read_predictions(
    path: Path,
    choice: ColumnChoice | None = None,
    *,
    name: str | None = None,
    known_ids: Ids | None = None,
    for_test: bool = False,
) -> PredictionFile:
    """Read one file of predictions; each prediction column is one model.

    Args:
        path: CSV, Parquet, Feather or NPZ (`oof.exchange.table_files`).
        choice: columns named by the user; the others are assigned by `assign_roles`.
        name: name of the model; default: the file's name without `oof_`, `_test_preds` and the like, or for
            several prediction columns the columns' names.
        known_ids: ids of the training (or test) rows, which help to find the id column.
        for_test: whether the file contains test predictions.

    Raises:
        PredictionError: if the file cannot be read, ids are duplicate, or the role of a column is ambiguous.
    """
    columns = read_columns(path)
    roles = assign_roles(columns, choice, known_ids=known_ids, for_test=for_test)
    notes = [*roles.notes]
    if columns.is_typed_number(roles.id):
        notes.append(f"ids are numbers in column '{roles.id}'; their digits are used as text")
    names = model_names(path, roles.predictions, name)
    ids = as_ids(columns.text(roles.id), str(path))
    groups, ungrouped = _groups(columns, roles.group, ids)
    target = _target(columns, roles.target)
    if target is not None and np.isnan(target).any():
        notes.append(
            f"{int(np.isnan(target).sum())} of {len(target)} values of the target '{roles.target}' are missing (empty, "
            f"NA, …) and are not compared"
        )
    return PredictionFile(
        path,
        ids,
        {model: columns.numbers(column) for model, column in zip(names, roles.predictions, strict=True)},
        target,
        _folds_by_model(columns, roles, names),
        groups,
        roles,
        tuple(notes),
        ungrouped,
    )


def read_fold_table(path: Path, choice: ColumnChoice | None = None) -> PredictionFile:
    """Read only ids, target, folds and groups, for a store without folds; columns as in `read_predictions`."""
    columns = read_columns(path)
    choice = replace(choice or ColumnChoice(), predictions=())
    roles = assign_roles(columns, choice, with_predictions=False)
    ids = as_ids(columns.text(roles.id), str(path))
    groups, ungrouped = _groups(columns, roles.group, ids)
    return PredictionFile(
        path,
        ids,
        {},
        _target(columns, roles.target),
        {column: columns.folds(column) for column in roles.folds},
        groups,
        roles,
        (),
        ungrouped,
    )


def _target(columns: Columns, name: str | None) -> NDArray[np.float64] | None:
    if name is None:
        return None
    labels = columns.labels(name)
    # the error of `numbers` names the invalid labels
    return columns.numbers(name, "--target-column") if labels is None else labels


def _groups(columns: Columns, name: str | None, ids: Ids) -> tuple[Ids | None, int]:
    """Return the group of each row, and the number of rows without a value, each of which is its own group."""
    if name is None:
        return None, 0
    values = columns.text(name, "--group-column")
    missing = [value is None or is_missing(value) for value in values]
    groups = [f"row {id_}" if is_absent else value for value, id_, is_absent in zip(values, ids, missing, strict=True)]
    return np.array(groups, object), sum(missing)


def model_names(path: Path, predictions: Sequence[str], name: str | None = None) -> list[str]:
    """Return the names of the models of some prediction columns.

    A labelled column (`oof:convnext`) is the model of its label. A single other column is named `name`, or after the
    file; several are named after the columns, and those of an unlabelled matrix are numbered.

    Raises:
        PredictionError: if several columns would get the same model name.
    """
    stem = re.sub(r"\.(gz|zip)$", "", path.name, flags=re.IGNORECASE).rsplit(".", 1)[0]
    stem = _AFFIX.sub("", stem) or stem
    if len(predictions) == 1 and (name or ":" not in predictions[0]):
        return [name or _as_name(stem)]
    parts = []
    for column in predictions:
        label = _label(column)
        numbered = ":" not in column and label.isdecimal()  # a column of a matrix without names
        prefix = f"{name or stem}." if numbered else f"{name}." if name else ""
        parts.append(_as_name(prefix + label))
    doubled = sorted(part for part, count in Counter(parts).items() if count > 1)
    if doubled:
        raise PredictionError(
            f"{path}: several prediction columns would become the same model {examples(doubled)}. "
            f"Choose one with --prediction-column."
        )
    return parts


def _as_name(text: str) -> str:
    """Return a valid model name derived from the name of a file or column."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "model"


def _folds_by_model(columns: Columns, roles: Roles, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return the fold column of each model: the only one, or the one with the model's label."""
    if len(roles.folds) == 1:
        return dict.fromkeys(names, columns.folds(roles.folds[0]))
    by_label = {_label(column): column for column in roles.folds}
    labels = map(_label, roles.predictions)
    return {
        name: columns.folds(by_label[label]) for name, label in zip(names, labels, strict=True) if label in by_label
    }


def _label(column: str) -> str:
    """Return the label of a column of a matrix, `lr` of `oof:lr` and `0` of `oof[0]`, else the whole name."""
    numbered = re.fullmatch(r".*\[(\d+)\]", column)
    return numbered[1] if numbered else column.split(":", 1)[-1]
