"""Read tables of predictions as named columns from CSV, Parquet, Feather and NPZ files."""

import contextlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
from numpy.typing import NDArray

from oof.errors import PredictionError
from oof.exchange.columns import Columns
from oof.exchange.csv_files import check_names, read_csv
from oof.exchange.id_column import is_id_name
from oof.native_sources import native_reader
from oof.packed import PACKED, UNPACK_ERRORS, ZIP, unpack

_CSV_ENDINGS = (".csv", ".tsv", ".txt", *PACKED)
_BINARY_ENDINGS = (".parquet", ".feather", ".arrow", ".npz")
_NAMES_OF_COLUMNS = ("models", "model", "model_names", "names", "columns")
KINDS = ".csv, .tsv, .txt (also .gz or .zip), .parquet, .feather, .arrow or .npz"


def read_columns(path: Path) -> Columns:
    """Read a table in any of the formats.

    Archives and binary formats are recognised by their content, whatever the file name; other files are read
    as CSV if the ending of their name says so, or that they are packed. CSV: see `oof.exchange.csv_files`; it may be
    gzipped, or in a ZIP archive of one file. NPZ: one-dimensional arrays are columns; an array (n_rows, k) is k
    columns, named `NAME:LABEL` if there is an array of k texts (`NAME_LABEL` if it is called `classes`), otherwise
    `NAME[0]` to `NAME[k-1]`; other arrays are only listed with their shapes, also an array (k, n_rows), which has a row
    instead of a column for each model.

    Raises:
        PredictionError: if the file is missing, empty, broken or in an unknown format.
    """
    name = path.name.lower()
    try:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
            raise PredictionError(f"{path} {found}. Give the path of a file of predictions ({KINDS}).")
        data = path.read_bytes()
        if data.startswith(ZIP) and _is_npz(data):
            return _npz_columns(path, data)
        data = unpack(data, path, PredictionError)
        if data.startswith(b"PAR1"):
            return _from_arrow(path, pa.parquet.read_table(native_reader(data)))
        if data.startswith((b"ARROW1", b"FEA1")):
            return _from_arrow(path, pa.feather.read_table(native_reader(data)))
        if name.endswith(_CSV_ENDINGS):
            return read_csv(data, path)
    except (pa.ArrowException, *UNPACK_ERRORS) as err:
        raise PredictionError(
            f"{path} cannot be read: {err}. Check that it is complete and has the format of its ending."
        ) from err
    if name.endswith(_BINARY_ENDINGS):
        with contextlib.suppress(pa.ArrowException):  # the format of a stream has no signature
            return _from_arrow(path, pa.ipc.open_stream(native_reader(data)).read_all())
        raise PredictionError(f"{path} cannot be read: it does not have the format of its ending. Save it again.")
    hint = " A pickle can run arbitrary code when it is read." if name.endswith((".pkl", ".pickle", ".npy")) else ""
    raise PredictionError(f"{path} has an unknown format.{hint} Write it as one of {KINDS}, with a column of ids.")


def _is_npz(data: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return all(name.endswith(".npy") for name in archive.namelist())


def _from_arrow(path: Path, table: Any) -> Columns:
    check_names(path, table.column_names, rows=len(table))
    return Columns(path, {name: table[name] for name in table.column_names})


def _npz_columns(path: Path, data: bytes) -> Columns:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            for name in stored.files:
                arrays[name] = np.asarray(stored[name])
    except ValueError as err:
        if "pickle" not in str(err):
            raise OSError(str(err)) from err
        raise PredictionError(
            f"{path} contains an array of Python objects, which is a pickle and could run arbitrary code. Save text as "
            f"np.array(ids, dtype=str) and numbers as float32."
        ) from err
    columns: dict[str, Any] = {}
    shapes = {}
    for name, array in arrays.items():
        if array.dtype.kind == "S":
            arrays[name] = _as_text(path, name, array)
        elif array.dtype.kind in "cV":
            raise PredictionError(
                f"{path}: '{name}' has the type {array.dtype}. Expected an array of text or of real numbers for each "
                f"column: save '{name}' in this way, or leave it out."
            )
    for name, array in arrays.items():
        if array.ndim == 1:
            columns[name] = _arrow(array)
        elif array.ndim > 2 or _lies_across(array, arrays):
            shapes[name] = array.shape
        elif array.ndim == 2:
            for label, column in zip(_labels(name, array, arrays), array.T, strict=True):
                columns[label] = _arrow(np.ascontiguousarray(column))
    check_names(path, [*columns, *(shapes if columns else ())], rows=max(map(len, columns.values()), default=0))
    return Columns(path, columns, arrays=shapes)


def _lies_across(array: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether an array (k, n) has as many columns, instead of rows, as there are ids."""
    ids = {
        name: len(other)
        for name, other in arrays.items()
        if other.ndim == 1 and name not in _NAMES_OF_COLUMNS and (is_id_name(name) or other.dtype.kind == "U")
    }
    by_row = [length for name, length in ids.items() if is_id_name(name)]
    return (
        array.ndim == 2 and len(array) < array.shape[1] and array.shape[1] in ids.values() and len(array) not in by_row
    )


def _arrow(array: NDArray[Any]) -> Any:
    if array.dtype.kind == "U":
        return pa.array(array.tolist())
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:  # long double, which Arrow lacks
        array = array.astype(np.float64)
    return pa.array(array.astype(array.dtype.newbyteorder("="), copy=False))


def _as_text(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.str_]:
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as err:
        raise PredictionError(f"{path}: the text in '{name}' is not UTF-8 ({err}). Save it with dtype=str.") from err


def _labels(name: str, array: NDArray[Any], arrays: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return names for the columns of a matrix, with labels from an array of texts of that length if there is one."""
    for key, texts in arrays.items():
        labels_it = texts.dtype.kind == "U" and texts.shape == (array.shape[1],)
        may_be_ids = labels_it and len(texts) == len(array) and key not in _NAMES_OF_COLUMNS
        if labels_it and not may_be_ids:
            sign = "_" if key.lower().startswith(("class", "label")) else ":"  # names of classes are no names of models
            return [f"{name}{sign}{text}" for text in texts]
    return [name] if array.shape[1] == 1 else [f"{name}[{index}]" for index in range(array.shape[1])]
