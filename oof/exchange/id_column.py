"""Find the id column of a table, by name or by values, and only if exactly one column fits."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import PredictionError, examples
from oof.exchange.columns import Columns
from oof.ids import Ids

_NAMES = frozenset(
    "id ids id_code uid uuid guid row_id image_id imageid image_ids img_id imgid img_name imgname image_name imagename "
    "image images img imgs image_path img_path filename filenames file_name file fname filepath file_path file_id path "
    "paths video_name videoname video_id video videos video_path clip clips clip_id clip_name audio_id audio name key "
    "sample_id sample".split()
)
# names that pandas and people use for row numbers, which are not ids
_ROW_NUMBER = re.compile(
    r"(|unnamed: ?\d+|level_\d+|__index_level_\d+__|index|idx|row|rows|rank|n|no|nr|num|number|i|#|"
    r"row_?(no|nr|num|number|index|idx)|rownum)"
)


def base_name(name: str) -> str:
    """Return a column's name in lower case without its label: `fold:lr` and `fold[0]` become `fold`."""
    return re.split(r"[:\[]", name.lower(), maxsplit=1)[0].strip()


def is_id_name(name: str) -> bool:
    """Return whether a column has a usual name for ids."""
    return _without_part(name) in _NAMES


def _without_part(name: str) -> str:
    """Return a column's name without its label and a part before it: `test_id` becomes `id`."""
    return re.sub(r"^(test|train|oof)_", "", base_name(name))


def is_row_number(columns: Columns, name: str) -> bool:
    """Return whether a column has a usual name for row numbers and counts the rows of the file from 0 or 1."""
    if not _ROW_NUMBER.fullmatch(name.lower().strip()):
        return False
    values = columns.text(name) if columns.may_be_ids(name) else np.empty(0, object)
    return len(values) > 0 and any(list(values) == [str(i + first) for i in range(len(values))] for first in (0, 1))


def find_id(columns: Columns, names: Sequence[str], known_ids: Ids | None) -> tuple[str, tuple[str, ...]]:
    """Return the name of the id column, and notes on how it was found.

    With known ids: the column with a usual name that contains only known ids, each once; otherwise the
    only other such column; otherwise, in the same order, a column of which more than half of the values
    are known. Without known ids, or if nothing matches: the only column with a usual name, or the
    only text column. A column that counts the rows and has a usual name for row numbers never qualifies, and text with
    fractions (`12.5`) only if it is called `id` or all of it are known ids.

    Raises:
        PredictionError: if no column or several columns qualify, naming them and --id-column.
    """
    able = [name for name in names if _may_be_ids(columns, name, known_ids) and not is_row_number(columns, name)]
    text = {name: pd.Index(columns.text(name)) for name in able}
    unique = [name for name in able if text[name].is_unique]
    named = [name for name in able if is_id_name(name)]
    if known_ids is not None:
        known = pd.Index(known_ids)
        share = {name: float(text[name].isin(known).mean()) for name in unique}
        for least in (1.0, 0.5):
            matching = [name for name in unique if share[name] >= 1.0 or share[name] > least]
            for pool in (_called(matching, named), _others(matching, named)):
                if pool := _distinct(pool, text):
                    return _only(columns, pool), _notes(pool[0], named)
    if len(named) == 1:
        return named[0], ()
    pool = _distinct(_called(unique, named), text)
    if exact := [name for name in pool if base_name(name) in ("id", "ids")][:1]:
        return exact[0], ()
    pool = pool or _distinct(_others([name for name in unique if not columns.is_number(name)], named), text)
    if not pool and (unable := [name for name in names if is_id_name(name) and name not in able]):
        columns.text(unable[0])  # its error states the type of the column
    return _only(columns, pool), _notes(pool[0], named)


def are_text_ids(columns: Columns, name: str) -> bool:
    """Return whether a column of text is called `id`, so that fractions in it (`12.5`) are ids too."""
    return columns.is_text(name) and _without_part(name) in ("id", "ids")


def _may_be_ids(columns: Columns, name: str, known_ids: Ids | None) -> bool:
    if columns.may_be_ids(name) or are_text_ids(columns, name):
        return True
    return known_ids is not None and columns.is_text(name) and bool(pd.Index(columns.text(name)).isin(known_ids).all())


def _called(names: Sequence[str], named: Sequence[str]) -> list[str]:
    return [name for name in names if name in named]


def _others(names: Sequence[str], named: Sequence[str]) -> list[str]:
    """Return the names that are not usual for ids; those of row numbers only if there are no others."""
    others = [name for name in names if name not in named]
    return [name for name in others if not _ROW_NUMBER.fullmatch(name.lower().strip())] or others


def _distinct(names: Sequence[str], text: Mapping[str, Any]) -> list[str]:
    """Return the names of columns that do not equal an earlier column."""
    found: list[str] = []
    for name in names:
        if not any(len(text[name]) == len(text[other]) and text[name].equals(text[other]) for other in found):
            found.append(name)
    return found


def _notes(name: str, named: Sequence[str]) -> tuple[str, ...]:
    return () if name in named else (f"ids are taken from column '{name}'",)


def _only(columns: Columns, pool: Sequence[str]) -> str:
    if len(pool) == 1:
        return pool[0]
    could = f"; {' and '.join(pool)} could be" if pool else ""
    raise PredictionError(
        f"{columns.path}: which column contains the ids? Its columns are {examples(columns.names, 20)}{could}. "
        f"Name it with --id-column."
    )


def joined(values: Sequence[str] | NDArray[np.object_]) -> str:
    """Return names in quotes, for a message."""
    return " and ".join(f"'{value}'" for value in values)
