"""The columns of one table, converted to text, numbers or labels on request."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from oof.errors import PredictionError, examples
from oof.labels import parse_labels
from oof.missing import MISSING_TEXTS, is_missing

_NO_VALUE = pa.array(sorted(MISSING_TEXTS))
# a column without any value has the type null, and is empty numbers as in a CSV
_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
_OTHER_TEXT = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string_view, pa.types.is_binary_view)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)

_FOLD_LABEL = re.compile(r"(.*[^\W\d_].*?)([0-9]+)")  # the prefix contains a letter


class Columns:
    """The columns of one file; each is converted to text or numbers on request.

    From a CSV every value is the text in the file, so that ids are kept character for character.

    Args:
        path: path of the file, for messages.
        columns: by name, anything that pyarrow accepts as an array; an NPZ may have columns of different lengths.
        comma_decimals: whether numbers are written as `0,5`.
        header_is_text: whether the names come from a line of a text file, which could really be a row.
        arrays: shapes of the arrays of an NPZ that are not columns, by name.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, Any],
        *,
        comma_decimals: bool = False,
        header_is_text: bool = False,
        arrays: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.path = path
        self.arrays = dict(arrays or {})
        self.header_is_text = header_is_text
        self._columns = {name: _plain(column) for name, column in columns.items()}
        self._comma_decimals = comma_decimals
        self._numbers: dict[str, NDArray[np.float64] | None] = {}

    @property
    def names(self) -> list[str]:
        """Names in the order of the file."""
        return list(self._columns)

    def length(self, name: str) -> int:
        """Return the number of rows of one column."""
        return len(self._columns[name])

    def text(self, name: str, option: str = "--id-column") -> NDArray[np.object_]:
        """Return a column as text, shape (n,), None for empty values; whole numbers of a typed file become digits.

        Args:
            name: the column. option: the option of `dfens oof import` that chooses another one.

        Raises:
            PredictionError: if the column contains fractions or anything else without a unique text form.
        """
        column = self._columns[name]
        if pa.types.is_integer(column.type):
            column = column.cast(pa.string())
        if not _is_text(column.type):
            raise PredictionError(
                f"{self.path}: column '{name}' is of type {column.type}; expected text or whole numbers. "
                f"Save it as text, or name another column with {option}."
            )
        values: NDArray[np.object_] = np.array(column.to_pylist(), dtype=object)
        return values

    def is_typed_number(self, name: str) -> bool:
        """Return whether the file itself declares a column as whole numbers (Parquet, Feather, NPZ; never CSV)."""
        return bool(pa.types.is_integer(self._columns[name].type))

    def is_text(self, name: str) -> bool:
        """Return whether a column is text, as every column of a CSV is."""
        return _is_text(self._columns[name].type)

    def may_be_ids(self, name: str) -> bool:
        """Return whether a column is text or whole numbers."""
        return (self.is_text(name) or self.is_typed_number(name)) and not self.is_fraction(name)

    def numbers(self, name: str, option: str = "--prediction-column") -> NDArray[np.float64]:
        """Return a column as float64, shape (n,), NaN for empty values and texts such as `nan`.

        Args:
            name: the column. option: the option of `dfens oof import` that chooses another one.

        Raises:
            PredictionError: if values are not numbers, naming some.
        """
        values = self._as_numbers(name)
        if values is None:
            wrong = [value for value in self._columns[name].to_pylist() if not is_number_text(value)]
            raise PredictionError(
                f"{self.path}: {len(wrong)} of {len(self._columns[name])} values of column '{name}' are not numbers: "
                f"{examples([repr(value) for value in wrong])}. Correct them, or name another column with {option}."
                if wrong
                else f"{self.path}: column '{name}' has no values. Name another column with {option}."
            )
        return values

    def join(self, names: Sequence[str], joined: str) -> None:
        """Add a column with the only number of each row in some columns, NaN where all are empty."""
        values = np.stack([self.numbers(name) for name in names])  # (columns, rows)
        self._numbers[joined] = np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))
        self._columns[joined] = pa.array(self._numbers[joined])

    def labels(self, name: str) -> NDArray[np.float64] | None:
        """Return a column as labels, shape (n,): numbers as they are, text as `oof.labels.parse_labels` reads it.

        NaN for empty values; None if the column contains anything else.
        """
        values = self._as_numbers(name)
        column = self._columns[name]
        if values is not None or not _is_text(column.type):
            return values
        absent = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(column)), value_set=_NO_VALUE.cast(column.type))
        out = parse_labels(np.array(column.to_pylist(), object)).astype(np.float64)
        unknown = out < 0
        out[unknown] = np.nan
        return None if (unknown & ~absent.to_numpy(zero_copy_only=False)).any() else out

    def folds(self, name: str) -> NDArray[np.float64]:
        """Return a column of folds as numbers, shape (n,): numbers as they are, `fold_3` or `Fold 3` as 3.

        NaN for empty values.

        Raises:
            PredictionError: if values are neither numbers nor labels of one prefix and a number.
        """
        values = self._as_numbers(name)
        if values is not None:
            return values
        texts = [str(value) if value is not None else "" for value in self._columns[name].to_pylist()]
        labels = {text: None if is_missing(text) else _FOLD_LABEL.fullmatch(text.strip()) for text in set(texts)}
        found = [label for label in labels.values() if label is not None]
        wrong = [text for text, label in labels.items() if label is None and not is_missing(text)]
        prefixes = {label[1].casefold() for label in found}
        by_number = {int(label[2]): label[2] for label in found}
        if wrong or len(prefixes) != 1 or any(by_number[int(label[2])] != label[2] for label in found):
            shown = wrong or [label[0] for label in found]
            raise PredictionError(
                f"{self.path}: column '{name}' contains other values than folds: {examples(sorted(map(repr, shown)))}. "
                f"Expected numbers such as 0, or labels of one prefix and a number such as fold_0. Correct them, or "
                f"name another column with --fold-column."
            )
        return np.array([np.nan if (label := labels[text]) is None else float(label[2]) for text in texts])

    def is_number(self, name: str) -> bool:
        """Return whether every value of a column is a number or empty."""
        return self._as_numbers(name) is not None

    def has_numbers(self, name: str) -> bool:
        """Return whether some values of a text column are numbers."""
        return any(_NUMBER.fullmatch(str(value).strip()) for value in self._columns[name].to_pylist())

    def is_fraction(self, name: str) -> bool:
        """Return whether a column contains numbers that are not all integers."""
        values = self._as_numbers(name)
        if values is None:
            return False
        with np.errstate(invalid="ignore"):
            return bool((values[np.isfinite(values)] % 1 != 0).any())

    def is_binary(self, name: str) -> bool:
        """Return whether a column contains both 0 and 1 and otherwise only empty values."""
        values = self.labels(name)
        return values is not None and set(np.unique(values[~np.isnan(values)]).tolist()) == {0.0, 1.0}

    def has_two_classes(self, name: str) -> bool:
        """Return whether a column contains 0 and 1, or two different words of any kind, such as LABEL_0 and LABEL_1.

        A word such as NA may be missing, or the name of a class.
        """
        if self.is_number(name):
            return self.is_binary(name)
        words = set(self.text(name)) - {None, ""} if _is_text(self._columns[name].type) else set()
        return 2 in (len(words), len([word for word in words if not is_missing(word)]))

    def _as_numbers(self, name: str) -> NDArray[np.float64] | None:
        if name not in self._numbers:
            self._numbers[name] = _numbers(self._columns[name], self._comma_decimals)
        return self._numbers[name]


def _plain(column: Any) -> Any:
    """Return a column as one chunk, without dictionary or run-end encoding, and bytes and views as plain text.

    Few functions of pyarrow accept views of text, which Polars writes to Feather files.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = pa.DictionaryArray.from_arrays(column.indices, _plain(column.dictionary)).dictionary_decode()
    if pa.types.is_run_end_encoded(column.type):
        column = _plain(pc.run_end_decode(column))
    if any(is_kind(column.type) for is_kind in _OTHER_TEXT):
        with contextlib.suppress(pa.ArrowInvalid):  # bytes that are not UTF-8 stay bytes, which no role accepts
            column = column.cast(pa.large_string())
    return column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number_text(value: object) -> bool:
    """Return whether a text is a number or a missing value (`nan`, `null`, …)."""
    text = str(value)
    return bool(_NUMBER.fullmatch(text.strip())) or is_missing(text)


def _numbers(column: Any, comma_decimals: bool) -> NDArray[np.float64] | None:
    kind = column.type
    if _is_text(kind):
        column = pc.utf8_trim_whitespace(column)
        absent = pc.is_in(pc.utf8_lower(column), value_set=_NO_VALUE.cast(kind))
        column = pc.if_else(absent, pa.scalar(None, kind), column)
        if comma_decimals:
            column = pc.replace_substring(column, ",", ".")
    elif not any(is_kind(kind) for is_kind in _NUMERIC):
        return None
    try:
        column = column.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=True)
    return values
