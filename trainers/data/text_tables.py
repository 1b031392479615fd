"""Read tables as text without any conversion: `00012` stays `00012`, `1e5` stays `1e5`."""

import codecs
import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError, examples
from oof.packed import PACKED, UNPACK_ERRORS, unpack
from oof.text_format import find_delimiter, other_format

if TYPE_CHECKING:
    import pandas as pd

_PARQUET = b"PAR1"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_READ_ERRORS = (*UNPACK_ERRORS, ValueError, KeyError)
_BLANK_LINES = re.compile(r"\A(?:[ \t]*(?:\r\n|\r|\n))+")
_FIRST_LINE = re.compile(rb"[^\r\n]*")
_LINE_ENDS = re.compile(r"[\r\n]+")


def read_text_table(path: Path, what: str, *, key: str = "filename") -> "pd.DataFrame":
    """Return the rows of a CSV, Parquet or JSON file, every value as text.

    The format is recognised by the content, not by the name: CSV with commas, semicolons or tabs and any line
    ends; Parquet; JSON as a list of records or as an object of records by file name, like DFDC's `metadata.json`.
    Each may be zipped or gzipped. A byte order mark, quotes and empty lines are allowed.

    Args:
        path: path of the file. If it is missing and `PATH.zip` or `PATH.gz` exists, that one is read.
        what: purpose of the file, for messages.
        key: name of the column for the keys of a JSON object.

    Returns:
        The rows; `attrs["format"]` is "JSON", "Parquet", or "CSV in UTF-8".

    Raises:
        DataError: if the file is missing, empty, damaged or not such a table, or has duplicate column names.
    """
    import pandas as pd
    import pyarrow as pa

    from oof.exchange.csv_files import uneven_line

    path = _existing(path, what)
    kind = "CSV in UTF-8"
    try:
        data = unpack(path.read_bytes(), path, DataError)
        kind = "Parquet" if data[:4] == _PARQUET else kind
        text = "" if kind == "Parquet" else data.decode("utf-16" if data.startswith(_UTF_16) else "utf-8-sig")
        if (other := other_format(text)) == "JSON":
            kind = other
            columns = _json_columns(text, path, key)
        elif other is not None:
            raise DataError(
                f"The {what} {path} contains {other}. Expected a table as CSV, Parquet or JSON: get it again, or save "
                f"it again in one of these formats."
            )
        else:
            table = _read_parquet(data) if kind == "Parquet" else _read_csv(text, path)
            names = [name.strip() for name in table.column_names]
            duplicate = sorted(name for name, count in Counter(names).items() if count > 1)
            if duplicate:
                raise DataError(
                    f"The {what} {path} has two columns named {examples(duplicate)}. Give each column a unique name."
                )
            columns = {
                name: column.to_numpy(zero_copy_only=False) for name, column in zip(names, table.columns, strict=True)
            }
    except (*_READ_ERRORS, pa.ArrowException) as err:
        if uneven := uneven_line(err):
            raise DataError(f"The {what} {path}: {uneven}") from err
        reason = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
        raise DataError(
            f"The {what} {path} cannot be read as {kind}: {reason}. Get it again, or save it again in that format."
        ) from err
    frame = pd.DataFrame(columns, dtype=object)
    frame.attrs["format"] = kind
    if not len(frame):
        raise DataError(f"The {what} {path} has no rows, only the columns {examples(list(frame.columns))}.")
    return frame


def _existing(path: Path, what: str) -> Path:
    """Return the file, or its compressed version."""
    for candidate in (path, *(path.with_name(path.name + ending) for ending in PACKED)):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"The {what} {path} is missing. Correct [data] in dfens.toml (its paths are relative to root), or run "
        f"dfens download."
    )


def _read_csv(text: str, path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    from oof.native_sources import native_reader

    text = text[blank.end() :] if (blank := _BLANK_LINES.match(text)) else text
    if not text.strip():
        raise DataError(
            f"{path} is empty. Expected a header line such as img_name,target, and one line per row. Get it again."
        )
    delimiter = find_delimiter(text, ",;\t", path, DataError)
    data = text.encode()
    header = _FIRST_LINE.match(data)
    assert header is not None
    # a header longer than a block would not be read
    read = csv.ReadOptions(block_size=max(1 << 20, len(header[0]) + 2))
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in data)
    with csv.open_csv(native_reader(data), read_options=read, parse_options=parse) as reader:
        names = reader.schema.names
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return csv.read_csv(native_reader(data), read_options=read, parse_options=parse, convert_options=convert)


def _read_parquet(data: bytes) -> Any:
    import pyarrow as pa
    from pyarrow import parquet

    from oof.native_sources import native_reader

    table = parquet.read_table(native_reader(data))
    columns = [_as_text(table[name]) for name in table.column_names]
    return pa.table(columns, names=table.column_names)


def _as_text(column: Any) -> Any:
    """Return a column of Parquet as text; nulls for one that has no text form, such as lists or the bytes of images."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_nested(column.type):
        try:
            return pc.fill_null(column.cast(pa.string()), "")
        except pa.ArrowInvalid:  # bytes that are not UTF-8
            pass
    return pa.nulls(len(column), pa.string())


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as a list of pairs, so that duplicate keys are not lost."""


def _json_columns(text: str, path: Path, key: str) -> dict[str, list[str]]:
    """Return the columns of a JSON file: records in a list, one per line, or by key in one object."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_float=str, parse_int=str, parse_constant=str)
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError:
        lines = [line for line in _LINE_ENDS.split(text) if line.strip()]  # splitlines would split within strings
        if len(lines) < 2:
            raise
        value = [decoder.decode(line) for line in lines]
    except RecursionError as err:
        raise ValueError("nested too deeply") from err
    if isinstance(value, _Pairs):
        records = [
            _Pairs([(key, name), *(item if isinstance(item, _Pairs) else [("label", item)])]) for name, item in value
        ]
    else:
        records = [item for item in value if isinstance(item, _Pairs)] if isinstance(value, list) else []
        if not records or len(records) != len(value):
            raise DataError(
                f"{path} is JSON with an unknown structure. Expected an object of records by file name, such as "
                f'{{"a.mp4": {{"label": "FAKE"}}}}, or a list of records.'
            )
    names = dict.fromkeys(name for record in records for name, _ in record)
    rows = [dict(record) for record in records]
    return {name: [_json_text(row.get(name)) for row in rows] for name in names}


def _json_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value)


def take_column(table: "pd.DataFrame", name: str, path: Path, setting: str) -> NDArray[np.object_]:
    """Return one column of a table, shape (n_rows,).

    Raises:
        DataError: if there is no such column, listing the existing ones, or it has values without a text form.
    """
    if name not in table:
        raise DataError(
            f"{path} has no column '{name}'; found {examples([repr(str(column)) for column in table.columns])}. "
            f"Correct the header line, or name the correct column ({setting})."
        )
    column: NDArray[np.object_] = table[name].to_numpy(object)
    if len(column) and column[0] is None:
        raise DataError(
            f"{path}: column '{name}' contains lists, records or bytes that are not text; expected text or numbers. "
            f"Save it as text, or name the correct column ({setting})."
        )
    return column
