"""Label files and tables of ids, read as text to the letter: `00012` stays `00012`, `1e5` stays `1e5`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError, examples

if TYPE_CHECKING:
    import pandas as pd

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "False": 0, "True": 1, "false": 0, "true": 1}


def read_text_table(path: Path, what: str) -> "pd.DataFrame":
    """Read a CSV (any name; comma, semicolon or tab) or Parquet file, every value as text.

    A byte order mark, CRLF, quotes and empty lines do no harm.

    Args:
        path: of the file; `.parquet` is Parquet, everything else CSV with a header line.
        what: what it is for, for messages.

    Raises:
        DataError: a missing, empty, broken or not UTF-8 file, naming it; doubled column names.
    """
    import pandas as pd
    import pyarrow as pa

    if not path.is_file():
        raise DataError(
            f"The {what} {path} is missing. Correct [data] in dfens.toml (its paths are relative to root), or run "
            f"dfens download."
        )
    try:
        table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as err:
        raise DataError(
            f"The {what} {path} cannot be read as {'Parquet' if path.suffix == '.parquet' else 'CSV in UTF-8'}: "
            f"{str(err).splitlines()[0].rstrip('.')}. Get it again, or save it anew."
        ) from err
    names = [name.strip() for name in table.column_names]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise DataError(f"The {what} {path} has two columns named {examples(doubled)}. Give each a name of its own.")
    if not table.num_rows:
        raise DataError(f"The {what} {path} has no rows, only the columns {examples(names)}. Get it again.")
    columns = {name: column.to_numpy(zero_copy_only=False) for name, column in zip(names, table.columns, strict=True)}
    return pd.DataFrame(columns, dtype=object)


def _read_csv(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    with path.open("rb") as file:
        head = file.readline(1 << 16)
    if not head.strip():
        raise DataError(
            f"{path} is empty. Expected a header line such as img_name,target, and a line for each row. Get it again."
        )
    header = head.decode("utf-8-sig")
    delimiter = max(",;\t", key=header.count)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=False)
    with csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    return csv.read_csv(path, parse_options=parse, convert_options=convert)


def _read_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    table = parquet.read_table(path)
    columns = []
    for field in table.schema:
        column = table[field.name]
        if pa.types.is_dictionary(field.type):
            column = column.cast(field.type.value_type)
        nested = pa.types.is_nested(field.type) or pa.types.is_binary(field.type)
        columns.append(pa.nulls(len(column), pa.string()) if nested else pc.fill_null(column.cast(pa.string()), ""))
    return pa.table(columns, names=table.column_names)


def take_column(table: "pd.DataFrame", name: str, path: Path, setting: str) -> NDArray[np.object_]:
    """One column of a table, shape (n_rows,).

    Raises:
        DataError: if there is none of that name, naming those there are.
    """
    if name not in table:
        raise DataError(
            f"{path} has no column '{name}'; found {examples([repr(str(column)) for column in table.columns])}. "
            f"Correct the header line, or name the right column ({setting})."
        )
    column: NDArray[np.object_] = table[name].to_numpy(object)
    return column


def parse_labels(texts: NDArray[np.object_]) -> NDArray[np.int8]:
    """Turn label texts into 0 (real), 1 (fake), or -1 for anything else; shape (n_rows,).

    >>> parse_labels(np.array(["0", " 1", "1.0", "2", ""], object))
    array([ 0,  1,  1, -1, -1], dtype=int8)
    """
    return np.array([_LABELS.get(text.strip(), -1) for text in texts], np.int8)
