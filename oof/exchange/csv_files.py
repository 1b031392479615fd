"""Read CSV files of any dialect as text: delimiter, quotes, line ends and encoding are detected."""

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from oof.errors import PredictionError, examples
from oof.exchange.columns import Columns, is_number_text
from oof.native_sources import native_reader
from oof.text_format import find_delimiter, other_format

_DELIMITERS = ",\t;| "
_BLANK_LINES = re.compile(r"\A(?:[ \t]*(?:\r\n|\r|\n))+")
_UNEVEN = re.compile(r"Expected (\d+) columns, got (\d+): (.*)")
_HEAD = 1 << 22  # maximum length of the header, characters
_BLOCK = 1 << 24  # bytes; a row must fit into one block of pyarrow's reader
_BOMS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}


def read_csv(data: bytes, path: Path) -> Columns:
    """Read a CSV from its bytes; every value is the text in the file, without the quotes around it.

    The delimiter `,` `;` tab `|` or space is detected from the header; UTF-8 or UTF-16 with byte order mark; any
    line ends; quoted fields; blank lines before the header.

    Args:
        data: the file's content, unpacked.
        path: the file, for messages.

    Raises:
        PredictionError: if the file is empty, not text, or has no header with two columns or no row.
    """
    text = _decoded(path, data)
    text = text[blank.end() :] if (blank := _BLANK_LINES.match(text)) else text
    if not text.strip():
        raise PredictionError(f"{path} is empty. Expected a header line and one line per row.")
    if (other := other_format(text)) is not None:
        raise PredictionError(
            f"{path} contains {other} instead of a CSV. Save the predictions as a table with a column of ids, such as "
            f"pandas.DataFrame(...).to_csv('predictions.csv', index=False), and name that file."
        )
    if "\n" not in text:
        text = text.replace("\r", "\n") + "\n"  # a header without line end would not be read
    delimiter = find_delimiter(text, _DELIMITERS, path, PredictionError)
    try:
        width = len(next(csv.reader(io.StringIO(text[:_HEAD], newline=""), delimiter=delimiter)))
    except csv.Error as err:
        raise PredictionError(
            f"{path} has no readable header ({err}). Expected names separated by delimiters."
        ) from err
    try:
        table = pa.csv.read_csv(
            native_reader(text.encode()),
            read_options=pa.csv.ReadOptions(autogenerate_column_names=True, block_size=_BLOCK),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values='"' in text),
            convert_options=pa.csv.ConvertOptions(column_types={f"f{i}": pa.string() for i in range(width)}),
        )
    except pa.ArrowInvalid as err:
        if uneven := uneven_line(err):
            raise PredictionError(f"{path}: {uneven}") from err
        raise
    # the header is the first row as the same parser reads it; pandas writes a row index without a name
    found = [column[0].as_py().strip() for column in table.columns]
    names = [name or f"Unnamed: {position}" for position, name in enumerate(found)]
    check_names(path, names, rows=len(table) - 1)
    body = {name: column.slice(1) for name, column in zip(names, table.columns, strict=True)}
    return Columns(path, body, comma_decimals=delimiter != ",", header_is_text=True)


def uneven_line(err: Exception) -> str | None:
    """Return a message if pyarrow has found a line with too many or too few values, else None."""
    found = _UNEVEN.search(str(err))
    return found and (
        f"the line `{found[3][:100]}` has {found[2]} values, but the first line has {found[1]}. Expected a header with "
        f"one name for each column (also for a column of row numbers), and no lines above it, such as comments, or "
        f"below the last row. The file may also be incomplete."
    )


def check_names(path: Path, names: list[str], *, rows: int) -> None:
    """Check that a table has rows and at least two columns with different names.

    Raises:
        PredictionError: if it has not.
    """
    duplicate = [name for name, count in Counter(names).items() if count > 1]
    if any(is_number_text(name) for name in duplicate):
        raise PredictionError(not_a_header(path, names))
    if duplicate:
        raise PredictionError(
            f"{path}: these columns appear more than once in the header: {examples(duplicate)}. Give each column a "
            f"unique name."
        )
    if len(names) < 2:
        raise PredictionError(
            f"{path} has only the column {names[0] if names else ''!r}. Expected columns of ids and predictions, "
            f"separated by commas, semicolons, tabs, '|' or spaces; in an NPZ, arrays of one or two dimensions."
        )
    if not rows:
        raise PredictionError(f"{path} has a header but no rows. Expected one line per row.")


def not_a_header(path: Path, names: list[str]) -> str:
    """Return the message for a file whose first line is a row."""
    return (
        f"{path}: the first line `{','.join(names[:5])}` looks like a row, not a header. Write a header line such as "
        f"`id,pred` above it."
    )


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in _BOMS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as err:
        raise PredictionError(f"{path} is not UTF-8 text ({err}). Save it as UTF-8.") from err
