"""Tables of predictions made elsewhere, read column by column: CSV of any kind, Parquet, Feather, NPZ."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
from numpy.typing import NDArray

from oof.errors import PredictionError, examples

_DELIMITERS = ",\t;| "  # where a header holds equally many, the earlier counts
_NO_VALUE = pa.array(["", "nan", "na", "n/a", "null", "none", "<na>", "#n/a"])
_CSV_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_NAMES_OF_COLUMNS = ("models", "model", "model_names", "names", "columns")
ENDINGS = (*_CSV_ENDINGS, ".parquet", ".feather", ".arrow", ".npz")


class Columns:
    """The columns of one file; each is text or numbers when it is asked for.

    From a CSV every value is the text in the file, so that ids stay what they are to the letter.
    """

    def __init__(self, path: Path, columns: Mapping[str, Any], *, comma_decimals: bool = False) -> None:
        self.path = path
        self._columns = {name: _plain(column) for name, column in columns.items()}
        self._comma_decimals = comma_decimals
        self._numbers: dict[str, NDArray[np.float64] | None] = {}

    @property
    def names(self) -> list[str]:
        return list(self._columns)

    def length(self, name: str) -> int:
        """Rows of one column; columns of an NPZ may differ in length."""
        return len(self._columns[name])

    def text(self, name: str) -> NDArray[np.object_]:
        """A column as text; whole numbers of a typed file become their digits.

        Raises:
            PredictionError: if the column holds fractions or anything else that has no one text.
        """
        column = self._columns[name]
        if pa.types.is_integer(column.type):
            column = column.cast(pa.string())
        if not _is_text(column.type):
            raise PredictionError(
                f"{self.path}: column '{name}' is of type {column.type} and cannot be ids. "
                f"Write ids as text, or name the id column with --id-column."
            )
        values: NDArray[np.object_] = np.array(column.to_pylist(), dtype=object)
        return values

    def is_typed_number(self, name: str) -> bool:
        """Whether the file itself says that a column holds whole numbers (Parquet, Feather, NPZ; never CSV)."""
        return bool(pa.types.is_integer(self._columns[name].type))

    def may_be_ids(self, name: str) -> bool:
        """Whether a column is text or whole numbers."""
        return (_is_text(self._columns[name].type) or self.is_typed_number(name)) and not self.is_fraction(name)

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as float64, NaN where it is empty or says so.

        Raises:
            PredictionError: naming the first row that is no number.
        """
        values = self._as_numbers(name)
        if values is None:
            wrong = [value for value in self._columns[name].to_pylist() if not _is_number(value)]
            raise PredictionError(
                f"{self.path}: column '{name}' holds {len(wrong)} values that are no numbers: "
                f"{examples([repr(value) for value in wrong])}. Choose another column with --prediction-column."
            )
        return values

    def is_number(self, name: str) -> bool:
        """Whether every value of a column is a number or empty."""
        return self._as_numbers(name) is not None

    def is_fraction(self, name: str) -> bool:
        """Whether a column holds numbers that are not all whole."""
        values = self._as_numbers(name)
        if values is None:
            return False
        with np.errstate(invalid="ignore"):
            return bool((values[np.isfinite(values)] % 1 != 0).any())

    def _as_numbers(self, name: str) -> NDArray[np.float64] | None:
        if name not in self._numbers:
            self._numbers[name] = _numbers(self._columns[name], self._comma_decimals)
        return self._numbers[name]


def _plain(column: Any) -> Any:
    """One chunk, no dictionary, bytes as text."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_binary(column.type) else column


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return str(value).strip().lower() in _NO_VALUE.to_pylist()
    return True


def _numbers(column: Any, comma_decimals: bool) -> NDArray[np.float64] | None:
    kind = column.type
    if _is_text(kind):
        column = pc.utf8_trim_whitespace(column)
        absent = pc.is_in(pc.utf8_lower(column), value_set=_NO_VALUE.cast(kind))
        column = pc.if_else(absent, pa.scalar(None, kind), column)
        if comma_decimals:
            column = pc.replace_substring(column, ",", ".")
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return None
    try:
        column = column.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    values: NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=True)
    return values


def read_columns(path: Path) -> Columns:
    """Read a table of any of the formats, told by the end of its name.

    CSV: delimiter `,` `;` tab `|` or space, found from the header; UTF-8 with or without byte
    order mark; any line ends; quoted fields; gzip. NPZ: arrays of one dimension are columns;
    an array (n_rows, k) is k columns, named by an array of k texts where there is one.

    Raises:
        PredictionError: a missing, empty, broken or unknown file, saying what is wrong with it.
    """
    name = path.name.lower()
    if not path.is_file():
        raise PredictionError(f"{path} is not there. Give the path of a file of predictions ({', '.join(ENDINGS)}).")
    try:
        if name.endswith(_CSV_ENDINGS):
            return _read_csv(path)
        if name.endswith(".parquet"):
            return _from_arrow(path, pa.parquet.read_table(path))
        if name.endswith((".feather", ".arrow")):
            return _from_arrow(path, pa.feather.read_table(path))
        if name.endswith(".npz"):
            return Columns(path, _npz_columns(path))
    except (pa.ArrowException, OSError, EOFError) as err:
        raise PredictionError(
            f"{path} cannot be read: {err}. Check that it is whole and of the kind that its name says."
        ) from err
    hint = " A pickle can run any code when it is read." if name.endswith((".pkl", ".pickle", ".npy")) else ""
    raise PredictionError(
        f"{path} is of no known kind.{hint} Write it as one of {', '.join(ENDINGS)}, with a column of ids."
    )


def _read_csv(path: Path) -> Columns:
    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(1 << 16)
    if not head.strip():
        raise PredictionError(f"{path} is empty. Expected a header line and one line for each row.")
    try:
        line = head.decode("utf-8-sig", errors="strict" if len(head) < 1 << 16 else "ignore")
    except UnicodeDecodeError as err:
        raise PredictionError(f"{path} is not UTF-8 text ({err}). Save it as UTF-8.") from err
    first = line.splitlines()[0]
    unquoted = first
    for part in first.split('"')[1::2]:
        unquoted = unquoted.replace(f'"{part}"', "")
    counts = Counter(unquoted)
    delimiter = max(_DELIMITERS, key=lambda sign: (sign != " " and counts[sign], counts[sign]))
    names = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    _check_names(path, names)
    with pa.input_stream(str(path), compression="detect") as stream:
        table = pa.csv.read_csv(
            stream,
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values='"' in line),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    # a row index that pandas wrote has no name
    return Columns(path, {name: table[name] for name in names if name.strip()}, comma_decimals=delimiter == ";")


def _check_names(path: Path, names: list[str]) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise PredictionError(f"{path}: these columns stand more than once in the header: {examples(doubled)}.")
    if len([name for name in names if name.strip()]) < 2:
        raise PredictionError(
            f"{path} has only the column {names[0]!r}. Expected ids and predictions, between commas, semicolons, tabs, "
            f"'|' or spaces, under a header."
        )


def _from_arrow(path: Path, table: Any) -> Columns:
    _check_names(path, table.column_names)
    return Columns(path, {name: table[name] for name in table.column_names if not name.startswith("__index_level_")})


def _npz_columns(path: Path) -> dict[str, Any]:
    import zipfile

    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            for name in stored.files:
                arrays[name] = stored[name]
    except ValueError as err:
        raise PredictionError(
            f"{path} holds an array of Python objects, which is a pickle and could run any code. Save text as "
            f"np.array(ids, dtype=str) and numbers as float32."
        ) from err
    except zipfile.BadZipFile as err:
        raise PredictionError(f"{path} is no whole NPZ file ({err}). Copy it again.") from err
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
        if array.ndim == 1:
            columns[name] = pa.array(array.tolist() if array.dtype.kind == "U" else array)
        elif array.ndim == 2:
            for label, column in zip(_labels(name, array, arrays), array.T, strict=True):
                columns[label] = pa.array(np.ascontiguousarray(column))
    return columns


def _labels(name: str, array: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Names for the columns of a matrix: those of an array of texts of that length, behind the matrix's own name."""
    for key, texts in arrays.items():
        may_be_ids = len(texts) == len(array) and key not in _NAMES_OF_COLUMNS
        if texts.dtype.kind == "U" and texts.shape == (array.shape[1],) and not may_be_ids:
            return [f"{name}:{text}" for text in texts]
    return [f"{name}:{index}" for index in range(array.shape[1])]
