"""Assign the columns of a table to roles (ids, target, fold, group, predictions), by options, names and values."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from oof.errors import PredictionError, examples
from oof.exchange.columns import Columns, is_number_text
from oof.exchange.csv_files import not_a_header
from oof.exchange.id_column import are_text_ids, base_name, find_id, is_id_name, is_row_number, joined
from oof.exchange.prediction_columns import (
    complements,
    find_predictions,
    is_class_zero,
    is_prediction_name,
    is_target_name,
    thresholded,
)
from oof.ids import Ids
from oof.labels import KNOWN_LABELS

_FOLD_NAMES = frozenset("fold kfold folds fold_id fold_index cv_fold cv k_fold".split())
_GROUP_NAMES = frozenset("group groups group_id".split())


@dataclass(frozen=True, kw_only=True)
class ColumnChoice:
    """Columns named by the user; None and () are detected from names and values; target "none" means no target."""

    id: str | None = None
    predictions: tuple[str, ...] = ()
    target: str | None = None
    fold: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Roles:
    """Column names by role; `folds` has one name, or one for each prediction column.

    tests: columns of test predictions in a file that was read for its OOF predictions. has_test_ids: whether it
    contains the ids of the test rows, too.
    """

    id: str
    predictions: tuple[str, ...]
    target: str | None
    folds: tuple[str, ...]
    group: str | None
    notes: tuple[str, ...]
    tests: tuple[str, ...] = ()
    has_test_ids: bool = False


def assign_roles(
    columns: Columns,
    choice: ColumnChoice | None = None,
    *,
    known_ids: Ids | None = None,
    for_test: bool = False,
    with_predictions: bool = True,
) -> Roles:
    """Return the role of each column.

    Columns named by the user are used as given. The others are detected from their names first, then from
    their values, and only if exactly one answer fits: `find_id`, `_find_target`, `find_predictions`.
    Several prediction columns are several models.

    Args:
        columns: columns of the file.
        choice: columns named by the user.
        known_ids: ids of the training rows or test rows, if known.
        for_test: whether to look for test predictions; in an NPZ with both, these are the arrays whose
            name begins with `test`.
        with_predictions: False for a file that need not contain any.

    Raises:
        PredictionError: if a named column is missing, or several columns could have a role, listing them.
    """
    choice = choice or ColumnChoice()
    no_target = choice.target == "none" and "none" not in columns.names
    asked = [choice.id, None if no_target else choice.target, choice.fold, choice.group, *choice.predictions]
    _check_named(columns, asked)
    _check_header(columns, known_ids)
    names = columns.names if choice.predictions and choice.id else _of_part(columns, for_test)
    id_name, notes = (choice.id, ()) if choice.id else find_id(columns, names, known_ids)
    rows = columns.length(id_name)
    names = [name for name in names if name != id_name and columns.length(name) == rows]
    folds = (choice.fold,) if choice.fold else _find_folds(columns, names, choice.predictions)
    group = choice.group or _find_group(columns, [name for name in names if name not in (*folds, *choice.predictions)])
    taken = {*folds, *choice.predictions, group}
    left = [name for name in names if name not in taken and not is_row_number(columns, name)]
    target = None if no_target else choice.target or _find_target(columns, left, choice.predictions, for_test)
    if target and not choice.target and not is_target_name(target):
        notes = (*notes, f"'{target}' is used as target")
    if not with_predictions:
        return Roles(id_name, (), target, folds, group, ())
    if no_target or (for_test and choice.target is None):  # labels that are not compared are no predictions either
        target, left = None, _without_labels(columns, left, for_test=for_test)
    rest = [name for name in left if name != target]
    labels = [name for name in names if name not in rest]
    if not choice.predictions:
        _check_shapes(columns, rest, for_test)
    predictions, more = (choice.predictions, ()) if choice.predictions else find_predictions(columns, rest, labels)
    tests = [] if for_test else _tests_left_out(columns, {id_name, *taken, target, *predictions})
    test_ids = _has_test_ids(columns, _test_columns(columns))
    return Roles(id_name, predictions, target, folds, group, (*notes, *more), tuple(tests), test_ids)


def _check_named(columns: Columns, asked: Sequence[str | None]) -> None:
    for name in asked:
        if name in columns.arrays:
            raise PredictionError(_wrong_shape(columns, [name]))
        if name is not None and name not in columns.names:
            raise PredictionError(f"{columns.path} has no column '{name}'; it has {examples(columns.names, 20)}.")


def _check_shapes(columns: Columns, names: Sequence[str], for_test: bool) -> None:
    """Check that the predictions are not an array that cannot be read as columns.

    Raises:
        PredictionError: if none of some columns has a usual name for predictions, but the file contains such an array.
    """
    tests = [name for name in columns.arrays if _is_of_test(name)]
    others = [name for name in columns.arrays if name not in tests]
    arrays = (tests or others) if for_test else others
    called = (is_prediction_name(name) or is_target_name(name) or _is_of_test(name) for name in names)
    if arrays and not any(called):
        raise PredictionError(_wrong_shape(columns, arrays))


def _wrong_shape(columns: Columns, names: Sequence[str]) -> str:
    """Return the message for arrays that are not columns."""
    found = " and ".join(f"'{name}' has shape {columns.arrays[name]}" for name in names)
    remedies = []
    for name in names:
        if len(columns.arrays[name]) == 2:
            of_folds = (
                f"{name}.mean(axis=0) if they are fold models or seeds of one model"
                if _is_of_test(name)
                else f"{name}.mean(axis=0) if they are seeds of one model (of fold models, save for each row only the "
                f"prediction by the one that was trained without it)"
            )
            remedies.append(f" It has a row for each model: save {of_folds}, or {name}.T if they are different models.")
    return (
        f"{columns.path}: {found}. Expected one value for each row, (n_rows,), or one column for each model, "
        f"(n_rows, n_models).{''.join(remedies)}"
    )


def _is_of_test(name: str) -> bool:
    return base_name(name).startswith(("test", "sub"))


def _check_header(columns: Columns, known_ids: Ids | None) -> None:
    """Check that the first line of a text file is a header and not a row.

    Raises:
        PredictionError: if its fields are values of their columns: numbers above numbers, an id above ids.
    """
    names = columns.names
    if not columns.header_is_text or any(not is_number_text(name) and columns.is_number(name) for name in names):
        return
    numbers = [name for name in names if columns.is_number(name)]
    known = set() if known_ids is None else set(known_ids)
    # `image,0,1` is the header of an array's columns; a fraction, or an integer above fractions, is a value
    is_row = any(not name.isdecimal() or not columns.is_fraction(name) for name in numbers) or any(
        name in known or _shape(name) in _shapes(columns, name) for name in names if name not in numbers
    )
    if numbers and is_row:
        raise PredictionError(not_a_header(columns.path, names))


def _shape(text: str) -> str:
    return re.sub(r"\d+", "0", text.lower())


def _shapes(columns: Columns, name: str) -> set[str]:
    """Return the values of a column with every number replaced by 0: `a12.jpg` becomes `a0.jpg`."""
    found = {_shape(value) for value in columns.text(name)[:1000]} if columns.may_be_ids(name) else set()
    return {shape for shape in found if "0" in shape}


def _test_columns(columns: Columns) -> list[str]:
    """Return the columns called `test…`, and those called `sub…` of another length than all others."""
    tests = [name for name in columns.names if base_name(name).startswith("test")]
    others = {columns.length(name) for name in columns.names if not base_name(name).startswith(("test", "sub"))}
    return [
        name
        for name in columns.names
        if name in tests or (base_name(name).startswith("sub") and columns.length(name) not in others and others)
    ]


def _has_test_ids(columns: Columns, tests: Sequence[str]) -> bool:
    """Return whether test columns contain ids: by name or, if they are as long as no other column, as text."""
    others = {columns.length(name) for name in columns.names if name not in tests}
    return any(
        is_id_name(name)
        or base_name(name) in ("test", "test_ids")
        or (columns.length(name) not in others and not columns.is_number(name))
        for name in tests
        if ":" not in name and columns.may_be_ids(name)  # test:NAME is a model, also if it predicts only 0 and 1
    )


def _tests_left_out(columns: Columns, used: Set[str | None]) -> list[str]:
    """Return the columns of test predictions that are not used for anything."""
    tests = _test_columns(columns)
    found = [name for name in tests if columns.is_number(name) and not is_id_name(name) and not is_target_name(name)]
    return [name for name in [*found, *filter(_is_of_test, columns.arrays)] if name not in used]


def _of_part(columns: Columns, for_test: bool) -> list[str]:
    """Return the columns of the requested part of a file with both OOF and test predictions."""
    tests = _test_columns(columns)
    others = [name for name in columns.names if name not in tests]
    if not tests or not others:
        return columns.names
    apart = len({columns.length(name) for name in columns.names}) > 1
    has_ids = _has_test_ids(columns, tests)
    if has_ids or (apart and not for_test):
        return tests if for_test else others
    oof = [name for name in others if columns.is_fraction(name) and not are_text_ids(columns, name)]
    if not oof or not any(columns.is_fraction(name) for name in tests):
        return columns.names
    if for_test:
        raise PredictionError(
            f"{columns.path} contains OOF predictions ({', '.join(oof[:5])}) and test predictions "
            f"({', '.join(tests[:5])}), but ids of only one of them. Save the ids of the test rows, too, as test_id."
        )
    return others


def _find_folds(columns: Columns, names: Sequence[str], predictions: Sequence[str]) -> tuple[str, ...]:
    """Return the fold columns: a single one, or one for each model."""
    found = [name for name in names if base_name(name) in _FOLD_NAMES and name not in predictions]
    found = [name for name in found if base_name(name) != "cv" or not columns.is_fraction(name)]
    if len(found) > 1 and all(base_name(name) != name.lower().strip() for name in found):
        return tuple(found)
    return tuple(_the_only(columns, found, "fold", "folds"))


def _find_group(columns: Columns, names: Sequence[str]) -> str | None:
    return next(iter(_the_only(columns, [n for n in names if base_name(n) in _GROUP_NAMES], "group", "groups")), None)


def _find_target(columns: Columns, names: Sequence[str], predictions: Sequence[str], for_test: bool) -> str | None:
    """Return the target column: one with a usual name and labels, else the only column of 0 and 1 with another name.

    A column with a usual name that contains fractions is a target only if there are other predictions; alone it is
    the prediction, as in a submission.
    """
    pairs = {name for pair in complements(columns, names) for name in pair}
    called = [name for name in names if is_target_name(name) and name not in pairs]
    labels = [name for name in called if columns.labels(name) is not None and not columns.is_fraction(name)]
    if labels:
        return _the_only(columns, labels, "target", "target")[0]
    if for_test:
        return None
    unreadable = [name for name in called if columns.labels(name) is None]
    if unreadable:
        values = list(dict.fromkeys(map(repr, columns.text(unreadable[0], "--target-column"))))
        raise PredictionError(
            f"{columns.path}: column '{unreadable[0]}' is called like a target, but contains other values than labels: "
            f"{examples(values)}. Valid labels are {KNOWN_LABELS}. Name the target with --target-column, or give "
            f"--target-column none."
        )
    others = [name for name in names if name not in called and (columns.is_fraction(name) or is_prediction_name(name))]
    if called and (predictions or any(columns.is_number(name) for name in others)):
        return _the_only(columns, called, "target", "target")[0]
    binary = [
        name
        for name in names
        if columns.is_binary(name) and not is_prediction_name(name) and name not in pairs and not is_class_zero(name)
    ]
    if len(binary) != 1:
        return None
    # hard labels of a prediction in the file are not the target
    fractions = [name for name in names if columns.is_fraction(name)]
    return None if thresholded(columns, binary[0], fractions) else binary[0]


def _without_labels(columns: Columns, names: Sequence[str], *, for_test: bool) -> list[str]:
    """Return the columns without one of labels or of a template; in a test file, unless nothing else is a prediction.

    A target column with different fractions is the prediction, as in a submission.
    """
    left = [name for name in names if not is_target_name(name) or _varies(columns, name)]
    return left if not for_test or any(columns.is_number(name) for name in left) else list(names)


def _varies(columns: Columns, name: str) -> bool:
    """Return whether a column contains fractions that are not all equal."""
    return columns.is_fraction(name) and bool(np.ptp(columns.numbers(name)) != 0)


def _the_only(columns: Columns, found: Sequence[str], option: str, what: str) -> list[str]:
    """Return the first of some columns with identical content.

    Raises:
        PredictionError: if they differ.
    """
    for other in found[1:]:
        if not _same(columns, found[0], other):
            raise PredictionError(
                f"{columns.path}: which column contains the {what}? {joined(found)} differ. Name it with "
                f"--{option}-column."
            )
    return list(found[:1])


def _same(columns: Columns, a: str, b: str) -> bool:
    first, second = columns.labels(a), columns.labels(b)
    if first is None or second is None:
        return first is second and bool((columns.text(a) == columns.text(b)).all())
    return np.array_equal(first, second, equal_nan=True)
