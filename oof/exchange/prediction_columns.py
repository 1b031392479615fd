"""Find the prediction columns of a table, one for each model."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.exchange.columns import OPPOSITES, Columns
from oof.exchange.id_column import base_name, joined

_NAME = re.compile(
    r"(^|[^a-z])(preds?|predictions?|prob|probs|proba|probas|probability|oof|scores?|logits?|p|y_?hat)([^a-z]|$)"
)
_CLASS = re.compile(r"(?:^|(?<=[^a-z0-9])|(?<=[a-z])(?=\d))([a-z]+(?:-fide)?|\d+)\]?$")
_TOLERANCE = 2e-3  # tolerance of a sum of 1 for probabilities rounded to three digits


def is_prediction_name(name: str) -> bool:
    """Return whether a column has a usual name for predictions: `pred`, `oof`, `lr_prob`, …"""
    return bool(_NAME.search(base_name(name)))


def find_predictions(columns: Columns, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the prediction columns among numeric columns, and notes on what was left out.

    Of two columns with the probabilities of both classes, that of class 1 is used; hard labels that
    duplicate another column are left out. Then the columns with usual names are used if no other column
    contains fractions, or all columns if none has a usual name and all contain fractions.

    Raises:
        PredictionError: if this is ambiguous, naming the columns and --prediction-column.
    """
    names, notes = _without_class_zero(columns, names)
    names, more = _without_hard_labels(columns, names)
    notes += more
    called = [name for name in names if is_prediction_name(name)]
    fractions = [name for name in names if columns.is_fraction(name)]
    found: Sequence[str] = ()
    if called and set(fractions) <= set(called):
        found = called
    elif not called and (fractions == names or len(names) == 1):
        found = names
    if not found:
        raise PredictionError(_question(columns, names))
    ignored = [name for name in names if name not in found]
    return tuple(found), (*notes, *([f"not used: {', '.join(ignored)}"] if ignored else []))


def _question(columns: Columns, names: Sequence[str]) -> str:
    found = (
        f"Candidates are {', '.join(names)}" if names else f"None of {', '.join(columns.names)} looks like predictions"
    )
    return (
        f"{columns.path}: which column contains the predictions? {found}. Name it with --prediction-column (several "
        f"times for several models)."
    )


def complements(columns: Columns, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return disjoint pairs of columns that sum to 1 in every row; needs at least 3 rows."""
    able = [name for name in names if columns.is_fraction(name)]
    if len(able) < 2 or columns.length(able[0]) < 3:
        return []
    rows = np.linspace(0, columns.length(able[0]) - 1, 16).astype(int)  # a few rows first: there may be 1,000 columns
    drawn = np.stack([columns.numbers(name)[rows] for name in able])  # (columns, 16)
    partners: dict[str, list[str]] = {name: [] for name in able}
    for i, name in enumerate(able[:-1]):
        sums = drawn[i] + drawn[i + 1 :]
        near = ((np.abs(sums - 1) < _TOLERANCE) | np.isnan(sums)).all(axis=1)
        for j in (i + 1 + np.flatnonzero(near)).tolist():
            if _sum_to_1(columns.numbers(name), columns.numbers(able[j])):
                partners[name].append(able[j])
                partners[able[j]].append(name)
    pairs = [(name, found[0]) for name, found in partners.items() if len(found) == 1 and partners[found[0]] == [name]]
    return [(a, b) for a, b in pairs if able.index(a) < able.index(b)]


def _sum_to_1(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Return whether two columns are probabilities of opposite classes, empty in the same rows and not constant."""
    known = ~np.isnan(a)
    if not known.any() or (known == np.isnan(b)).any():
        return False
    return bool(a[known].min() < a[known].max() and np.abs(a[known] + b[known] - 1).max() < _TOLERANCE)


def _without_class_zero(columns: Columns, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Leave out the probability of class 0 if that of class 1 is present, too."""
    left, notes = list(names), []
    for pair in complements(columns, names):
        classes = [_class_of(name) for name in pair]
        if all(":" in name for name in pair) and "" in classes:
            continue  # two models with these names
        if sorted(classes, key=str) != ["0", "1"]:
            raise PredictionError(
                f"{columns.path}: {joined(pair)} sum to 1 in every row, so they are the probabilities of both classes. "
                f"Name the column of class 1 (fake) with --prediction-column."
            )
        zero, one = (pair[classes.index(label)] for label in ("0", "1"))
        left.remove(zero)
        notes.append(f"{joined(pair)} sum to 1: '{one}', the probability of class 1, is used")
    return left, notes


def _class_of(name: str) -> str:
    """Return the class, "0" or "1", that the last word or digit of a name indicates, else ""."""
    found = _CLASS.search(name.lower().strip())
    return str(OPPOSITES.get(found[1], "")) if found else ""


def _without_hard_labels(columns: Columns, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Leave out prediction columns of 0 and 1 that are another column thresholded."""
    fractions = [name for name in names if columns.is_fraction(name)]
    left, notes = list(names), []
    for name in names:
        if ":" in name or not (is_prediction_name(name) and columns.is_binary(name)):
            continue
        labels = columns.numbers(name)
        for other in fractions:
            values = columns.numbers(other)
            if (np.isnan(labels) == np.isnan(values)).all() and values[labels == 0].max() < values[labels == 1].min():
                left.remove(name)
                notes.append(f"not used: {name} ('{other}' as hard labels)")
                break
    return left, notes
