"""Read a table of features that the user gives for the rows of a blend: ids and columns of numbers."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import BlendError, PredictionError, examples
from oof.exchange.columns import Columns
from oof.exchange.id_column import find_id, is_row_number
from oof.exchange.table_files import read_columns
from oof.ids import Ids, as_ids, spelling_note

_INDEX = re.compile(r"|unnamed: ?\d+|(__index_)?level_\d+(__)?|index")
Parts = Mapping[str, Ids]  # "training", "test" or "sealed" -> ids


def read_feature_table(path: Path, parts: Parts) -> dict[str, NDArray[np.float32]]:
    """Return the columns of a table, joined by id; rows with other ids are ignored.

    Args:
        path: CSV, Parquet and the other formats of `oof.exchange.table_files`.
        parts: ids of the rows.

    Returns:
        By column, the values of all rows, one part after another; NaN for empty values.

    Raises:
        PredictionError: if the file cannot be read, or its ids are duplicate or not text.
        BlendError: if there is no row for an id, or a column has values other than numbers, or yes and no.
    """
    if not path.is_file():
        raise BlendError(
            f"There is no table of features {path}. Expected a file (.csv, .parquet) with a column of ids."
        )
    ids = np.concatenate(list(parts.values()))
    if (twice := pd.Index(ids).duplicated()).any():
        raise BlendError(
            f"{path}: {int(twice.sum())} ids belong both to a training and to a test row: "
            f"{examples(list(ids[twice]))}. A table of features needs different ids."
        )
    columns = read_columns(path)
    try:
        id_name, _ = find_id(columns, columns.names, ids)
    except PredictionError as err:
        raise BlendError(f"{path}: no column contains the ids of the rows. Expected a column id, with text.") from err
    known = as_ids(columns.text(id_name), str(path))
    at = pd.Index(known).get_indexer(pd.Index(ids))
    _refuse_missing(path, parts, known, at)
    values = _numeric(columns, [name for name in columns.names if name != id_name and not _is_index(columns, name)])
    with np.errstate(over="ignore"):  # too large for float32: refused below
        found = {name: column[at].astype(np.float32) for name, column in values.items()}
    infinite = [name for name, values in found.items() if np.isinf(values).any()]
    if infinite:
        raise BlendError(
            f"{path}: infinite values in column {', '.join(infinite)} (or above 3.4e38). Leave unknown values empty."
        )
    return found


def _refuse_missing(path: Path, parts: Parts, known: Ids, at: NDArray[np.intp]) -> None:
    begin, lacking, missing = 0, list[str](), list[str]()
    for part, ids in parts.items():
        absent = list(ids[at[begin : begin + len(ids)] < 0])
        begin += len(ids)
        if absent:
            lacking.append(f"{len(absent)} of {len(ids)} {part} rows ({examples(absent, 3)})")
            missing += absent
    if lacking:
        raise BlendError(
            f"{path} lacks {' and '.join(lacking)}. {spelling_note(missing, known)}Add them; leave unknown values "
            f"empty."
        )


def _is_index(columns: Columns, name: str) -> bool:
    """Return whether a column numbers the rows, or is the index of a data frame that was shuffled or filtered.

    Such an index tells where a row was in an earlier table, in which reals often come first.
    """
    if is_row_number(columns, name):
        return True
    if not _INDEX.fullmatch(name.lower().strip()) or not columns.is_number(name) or columns.is_fraction(name):
        return False
    return pd.Index(columns.numbers(name)).is_unique


def _numeric(columns: Columns, names: list[str]) -> dict[str, NDArray[np.float64]]:
    """Return the columns as numbers; words such as yes and no, or True and False, are 1 and 0."""
    found = {name: columns.labels(name) for name in names}
    texts = [name for name, values in found.items() if values is None]
    if texts:
        raise BlendError(
            f"{columns.path}: column {', '.join(texts)} is not numeric. Encode categories as numbers, or remove it."
        )
    if not names:
        raise BlendError(f"{columns.path} has no column of numbers next to the ids.")
    return {name: values for name, values in found.items() if values is not None}
