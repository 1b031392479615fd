"""Find the prediction columns of a table, one for each model."""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from oof.errors import PredictionError, examples
from oof.exchange.columns import Columns
from oof.exchange.id_column import base_name, joined
from oof.labels import LABEL_OF_WORD

_NAME = re.compile(
    r"(^|[^a-z])(preds?|predicted|predictions?|prob|probs|proba|probas|probability|oof|scores?|logits?|p|y_?hat)([^a-z]|$)"
)
_TARGET_NAMES = frozenset(
    "target targets label labels y y_true y_train true truth ground_truth gt is_fake fake class".split()
)
# a word of a name, also in camel case; not the "no" before a number
_WORD = re.compile(r"(?!(?i:no)[^A-Za-z0-9]?\d)(?:[A-Z]+(?![a-z])|[A-Z]?[a-z]+)|\d+")
# words that say what a number is, and not of which class
_OUTPUT_WORDS = frozenset(
    "pred preds predicted prediction predictions prob probs proba probas probability probabilities oof test score "
    "scores logit logits p hat yhat confidence conf likelihood rate percent pct mean avg average fold seed".split()
)
# names of class 0 besides those that are valid labels: a wrong refusal costs an option, a wrong guess inverts a model
_REAL_WORDS = (
    "authentic authenticity original originals pristine human natural live liveness legit legitimate realness "
    "genuineness unaltered unmanipulated untouched nonfake notfake"
).split()
_CLASS_OF_WORD = {**dict.fromkeys(_REAL_WORDS, 0), **LABEL_OF_WORD}
_NEGATIONS = frozenset("no non not minus".split())
_AVERAGES = frozenset("mean avg average median".split())
# words for numbers that accompany a prediction; the second kind are also parts of names of models
_SPREADS = frozenset("std stdev stddev variance uncertainty entropy count counts".split())
_ALSO_SPREADS = frozenset("sd se sem var n num err error ci low high lower upper quantile".split())
# not `pred_0` or `0`, as pandas numbers the only column of an array
_NUMBER_OF_CLASS_ZERO = re.compile(r"(^|[^a-z])(class|label|p|probs?|probas?|probability)[^a-z0-9]?0([^0-9]|$)")
_NUMBERED = re.compile(r"([^:]*?)\[?(\d+)\]?")  # a column of a matrix, or of a fold; not that of a named model
_OPTION = "--prediction-column (--test-column for test predictions)"
_MOST_FOLDS = 20  # numbers beyond are those of networks (resnet50) or dates
_MOST_CLASSES = 100  # a table of more columns is one of models
_TOLERANCE = 2e-3  # tolerance of a sum of 1 for probabilities rounded to three digits
_TOLERANCE_BY_NAME = 1.1e-2  # the same for two digits, for columns named after the classes 0 and 1


def is_prediction_name(name: str) -> bool:
    """Return whether a column has a usual name for predictions: `pred`, `oof`, `lr_prob`, …"""
    return bool(_NAME.search(base_name(name)))


def numbered_part(name: str) -> str | None:
    """Return what precedes the number of a fold in a name, such as `net_fold` for `net_fold3`; None without one."""
    found = _NUMBERED.fullmatch(name)
    return found[1] if found and int(found[2]) <= _MOST_FOLDS else None


def is_target_name(name: str) -> bool:
    """Return whether a column has a usual name for targets, also with `train_` before it."""
    return base_name(name).removeprefix("train_") in _TARGET_NAMES


def is_class_zero(name: str) -> bool:
    """Return whether a name ends in a word for class 0, or in words for both: `real_prob`, `real_vs_fake`."""
    return 0 in _classes_in_words(name)


def class_of_only_column(name: str) -> str:
    """Return what the only column of predictions is named after if not class 1: "both classes" or "class 0 (real)".

    The name says so in words, or by a number (`prob_0`); an empty string otherwise.
    """
    if is_class_zero(name):
        return "both classes" if 1 in _classes_in_words(name) else "class 0 (real)"
    return "class 0 (real)" if _NUMBER_OF_CLASS_ZERO.search(name.lower()) else ""


def find_predictions(
    columns: Columns, names: Sequence[str], labels: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the prediction columns, and notes on what was left out.

    Of two columns with the probabilities of both classes, that of class 1 is used; hard labels that
    duplicate another column are left out. Then the columns with usual names are used if no other column
    contains fractions, or all columns if none has a usual name and all contain fractions.

    Args:
        columns: columns of the file.
        names: candidates, in the order of the file.
        labels: further columns, which may be the classes that a column of confidences belongs to.

    Raises:
        PredictionError: if this is ambiguous, naming the columns and --prediction-column.
    """
    able = [name for name in names if columns.is_number(name) or (_is_called(name) and columns.is_binary(name))]
    left, notes = _without_class_zero(columns, able)
    left, more = _without_hard_labels(columns, left)
    notes += more
    _check_confidence(columns, left, [*names, *labels])
    called = [name for name in left if _is_called(name)]
    fractions = [name for name in left if columns.is_fraction(name)]
    found: Sequence[str] = ()
    if called and set(fractions) <= set(called):
        found = called
    elif not called and (fractions == left or len(left) == 1):
        found = left
        if len(left) == 1:
            notes.append(f"predictions are taken from column '{left[0]}'")
    for name in names:
        if is_prediction_name(name) and name not in able and (not found or columns.has_numbers(name)):
            columns.numbers(name)  # its error names the values that are not numbers
    if not found:
        raise PredictionError(_question(columns, left))
    ignored = [name for name in left if name not in found]
    if parts := _parts_of_one(columns, found):
        columns.join(found, parts)
        notes.append(f"{parts} have one value in each row together, so they are joined to one model")
        found = [parts]
    _check_classes(columns, found)
    _check_spreads(columns, found)
    return tuple(found), (*notes, *([f"not used: {', '.join(ignored)}"] if ignored else []))


def _parts_of_one(columns: Columns, names: Sequence[str]) -> str:
    """Return a name for the column that numbered columns are parts of, one for each fold; else "".

    The numbers must be small, as those of folds; folds that have not been trained may be missing or empty.

    Raises:
        PredictionError: if there are two and all values are at least 0.5, so that they may be confidences.
    """
    numbered = [_NUMBERED.fullmatch(name) for name in names]
    prefixes = {found[1] for found in numbered if found}
    if len(names) < 2 or not all(numbered) or len(prefixes) > 1:
        return ""
    folds = {int(found[2]) for found in numbered if found}
    values = np.stack([columns.numbers(name) for name in names])  # (columns, rows)
    counts = (~np.isnan(values)).sum(axis=0)
    if max(folds) > _MOST_FOLDS or len(folds) < len(names) or counts.max() > 1 or (~np.isnan(values)).all(axis=1).any():
        return ""
    if folds == {0, 1} and np.nanmin(values) >= 0.5:
        raise PredictionError(
            f"{columns.path}: {joined(names)} have one value in each row together, at least 0.5: they may be the "
            f"confidences in both classes. Save the probability of class 1 (fake) as one column, or name both with "
            f"{_OPTION} if they are models."
        )
    return f"'{names[0]}' to '{names[-1]}'"


def _is_called(name: str) -> bool:
    """Return whether a column has a usual name for predictions, or that of the target, as in a submission."""
    return is_prediction_name(name) or is_target_name(name) or name.startswith("test:")


def _question(columns: Columns, names: Sequence[str]) -> str:
    found = (
        f"Candidates are {examples(names, 20)}"
        if names
        else f"None of {examples(columns.names, 20)} looks like predictions"
    )
    return (
        f"{columns.path}: which column contains the predictions? {found}. Name it with {_OPTION}, several "
        f"times for several models."
    )


def _check_confidence(columns: Columns, names: Sequence[str], others: Sequence[str]) -> None:
    """Check that no column is the confidence in a predicted class, which is high for both classes.

    Raises:
        PredictionError: if one is between 0.5 and 1 and is next to a column of classes.
    """
    classes = [name for name in others if _is_predicted_class(name) and columns.has_two_classes(name)]
    for name in names:
        values = columns.numbers(name) if columns.is_fraction(name) and ":" not in name else np.empty(0)
        if classes and len(values) and 0.5 <= np.nanmin(values) < np.nanmax(values) <= 1:
            raise PredictionError(
                f"{columns.path}: '{name}' is between 0.5 and 1 and may be the confidence in the class in "
                f"'{classes[0]}'. Expected the probability of class 1 (fake): save 1 - confidence for rows of class 0. "
                f"If '{name}' already is that probability, confirm it with {_OPTION}."
            )


def _is_predicted_class(name: str) -> bool:
    return is_prediction_name(name) or base_name(name) in ("label", "labels", "class")


def _check_classes(columns: Columns, found: Sequence[str]) -> None:
    """Check that the columns are not outputs for class 0, or for both classes.

    Raises:
        PredictionError: if their names state these classes, or three or more columns sum to 1 in every row.
    """
    plain = [name for name in found if ":" not in name]
    if 2 < len(plain) <= _MOST_CLASSES and _are_softmax(columns, plain):
        raise PredictionError(
            f"{columns.path}: {examples(plain)} sum to 1 in every row, so they are the probabilities of {len(plain)} "
            f"classes. Name the column of class 1 (fake) with {_OPTION}, or save the sum of all fake classes."
        )
    classes = sorted(map(_class_of, plain))
    zero = [name for name in plain if is_class_zero(name)]
    if classes == ["0", "1"] and (zero or _are_logits(columns, plain)):
        raise PredictionError(
            f"{columns.path}: {joined(plain)} do not sum to 1. If they are the outputs for both classes, save the "
            f"probability of class 1 (fake) as one column, such as softmax(logits)[:, 1]; if they are two models, "
            f"name both with {_OPTION}."
        )
    zero += plain if len(plain) == 1 and class_of_only_column(plain[0]) else []
    if zero:
        what = class_of_only_column(zero[0])
        raise PredictionError(
            f"{columns.path}: column '{zero[0]}' is named after {what}. Expected predictions that are higher "
            f"for class 1 (fake): save 1 - probability under another name. If '{zero[0]}' already is higher for "
            f"fakes, confirm it with {_OPTION}."
        )


def _check_spreads(columns: Columns, found: Sequence[str]) -> None:
    """Check that no column is a spread, a bound or a count that accompanies predictions: `pred_std`, `n_preds`.

    Raises:
        PredictionError: if a name says so, or names of two columns differ only in such a word.
    """
    words = {name: {word.lower() for word in _WORD.findall(name)} for name in found if ":" not in name}
    spreads = _SPREADS | _ALSO_SPREADS
    stems = {name: {word.rstrip("s") for word in all_ - spreads - _AVERAGES} for name, all_ in words.items()}
    others = [stems[name] for name, all_ in words.items() if not all_ & spreads]
    odd = [name for name, all_ in words.items() if all_ & _SPREADS or (all_ & spreads and stems[name] in others)]
    if odd:
        raise PredictionError(
            f"{columns.path}: {examples(odd)} may be a spread, a bound or a count and not the predictions of a model. "
            f"Candidates are {examples(found, 20)}. Name the column of predictions with {_OPTION}, several times for "
            f"several models."
        )


def _are_softmax(columns: Columns, names: Sequence[str]) -> bool:
    """Return whether columns sum to 1 in every row."""
    first, *others = (columns.numbers(name) for name in names)
    return _sum_to_1(first, np.sum(others, axis=0))


def _are_logits(columns: Columns, names: Sequence[str]) -> bool:
    """Return whether columns named or numbered as outputs contain values outside of 0 to 1."""
    are_outputs = all("[" in name or name.isdecimal() or is_prediction_name(name) for name in names)
    values = np.stack([columns.numbers(name) for name in names])  # (2, rows)
    return are_outputs and bool(np.nanmin(values) < 0 or np.nanmax(values) > 1)


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
        near = ((np.abs(sums - 1) < _TOLERANCE_BY_NAME) | np.isnan(sums)).all(axis=1)
        for j in (i + 1 + np.flatnonzero(near)).tolist():
            are_named = {_class_of(name), _class_of(able[j])} == {"0", "1"}
            most = _TOLERANCE_BY_NAME if are_named else _TOLERANCE
            if _sum_to_1(columns.numbers(name), columns.numbers(able[j]), most):
                partners[name].append(able[j])
                partners[able[j]].append(name)
    pairs = [(name, found[0]) for name, found in partners.items() if len(found) == 1 and partners[found[0]] == [name]]
    return [(a, b) for a, b in pairs if able.index(a) < able.index(b)]


def _sum_to_1(a: NDArray[np.float64], b: NDArray[np.float64], tolerance: float = _TOLERANCE) -> bool:
    """Return whether two columns are probabilities of opposite classes, empty in the same rows and not constant."""
    known = ~np.isnan(a)
    if not known.any() or (known == np.isnan(b)).any():
        return False
    return bool(a[known].min() < a[known].max() and np.abs(a[known] + b[known] - 1).max() < tolerance)


def _without_class_zero(columns: Columns, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Leave out the probability of class 0 if that of class 1 is present, too."""
    left, notes = list(names), []
    for pair in complements(columns, names):
        classes = [_class_of(name) for name in pair]
        if all(":" in name for name in pair) and "" in classes:
            continue  # two models with these names
        in_words = {bool(_classes_in_words(name)) for name in pair}  # `neg_prob` and `y_pred_1` may be of other kinds
        if sorted(classes) != ["0", "1"] or len(in_words) > 1:
            raise PredictionError(
                f"{columns.path}: {joined(pair)} sum to 1 in every row, so they are the probabilities of both classes. "
                f"Name the column of class 1 (fake) with {_OPTION}."
            )
        zero, one = (pair[classes.index(label)] for label in ("0", "1"))
        left.remove(zero)
        notes.append(f"{joined(pair)} sum to 1: '{one}', the probability of class 1, is used")
    return left, notes


def _class_of(name: str) -> str:
    """Return the class, "0" or "1", that the last word or digit of a name indicates, else ""."""
    if in_words := _classes_in_words(name):
        return str(in_words[-1])
    words = _WORD.findall(name)
    return words[-1] if words and words[-1] in ("0", "1") else ""


def _classes_in_words(name: str) -> list[int]:
    """Return the classes, 0 or 1, that the words of a name indicate if the last one does; no number, `prob` or `mean`.

    Words before the last may be those of a network or a data set (`real_esrgan_prob`).
    """
    words = _WORD.findall(re.sub(r"bona[^a-z0-9]?fide", "bonafide", name, flags=re.IGNORECASE))
    words = [word.lower() for word in words if not word.isdecimal() and word.lower() not in _OUTPUT_WORDS]
    if not words or words[-1] not in _CLASS_OF_WORD:
        return []
    return [
        _CLASS_OF_WORD[word] ^ (before in _NEGATIONS)
        for before, word in pairwise(["", *words])
        if word in _CLASS_OF_WORD
    ]


def _without_hard_labels(columns: Columns, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Leave out prediction columns of 0 and 1 that are another column thresholded."""
    fractions = [name for name in names if columns.is_fraction(name)]
    left, notes = list(names), []
    for name in names:
        if ":" in name or not (is_prediction_name(name) and columns.is_binary(name)):
            continue
        if other := thresholded(columns, name, fractions):
            left.remove(name)
            notes.append(f"not used: {name} ('{other}' as hard labels)")
    return left, notes


def thresholded(columns: Columns, name: str, others: Sequence[str]) -> str | None:
    """Return the first of some columns of fractions that gives the labels of a column by a threshold, or None."""
    labels = columns.labels(name)
    assert labels is not None  # as it is binary
    for other in others:
        values = columns.numbers(other)
        if (np.isnan(labels) == np.isnan(values)).all() and values[labels == 0].max() < values[labels == 1].min():
            return other
    return None
