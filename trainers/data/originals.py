"""Groups named by a column: a fake that names the real it was made of shares that real's group."""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# how tables write that a row was made of no other one
_NONE = frozenset(("", "-1", "-1.0", "nan", "none", "null", "na", "n/a", "<na>", "-"))
_MOSTLY = 0.9

Texts = NDArray[np.object_]


@dataclass(frozen=True)
class ColumnGroups:
    """Groups of rows from a column.

    names: (n_rows,) text. originals: number of rows that other rows name as what they were made of, 0 where the
    column does not name rows. made_of_them: number of rows that name one of them. unknown: number of rows that name
    an original which is no training row; those of one original share a group all the same.
    """

    names: Texts
    originals: int = 0
    made_of_them: int = 0
    unknown: int = 0

    @property
    def note(self) -> str | None:
        """One sentence for people on what the column meant; None where it holds plain groups."""
        if not self.originals:
            return None
        more = f"; {self.unknown} name an original that is not among the rows" if self.unknown else ""
        return f"{self.made_of_them} rows share the group of the {self.originals} rows that they were made of{more}"


def column_groups(values: Texts, ids: Texts, target: NDArray[Any], paths: Texts) -> ColumnGroups:
    """Return the group of each row from a column of group names, or of names of originals.

    DFDC's `original` names the real that each fake was made of, and is empty, -1 or the own name for a real. Where a
    column is of that kind, a real joins the group of its fakes, through several steps if a fake was made of a fake.
    Else equal values are a group, and a row with an empty value is a group of its own.

    Args:
        values: (n_rows,) text of the column.
        ids: (n_rows,) of the rows.
        target: (n_rows,) 0 or 1.
        paths: (n_rows,) of their files, which originals may be named by too.

    Returns:
        Groups, each named after its value, or after the first in order of its ids where rows are joined.
    """
    distinct, code = np.unique(values.astype(str), return_inverse=True)
    row_of_value = _rows_named([text.strip() for text in distinct.tolist()], ids, paths)
    named = row_of_value[code]  # (n_rows,) the row that each row names, -1 for none
    rows = np.arange(len(values))
    is_none = np.array([text.strip().lower() in _NONE for text in distinct.tolist()])[code]
    points = (named >= 0) & (named != rows) & ~is_none
    if not _are_originals(points, named, is_none, target):
        empty = np.array([text.strip() == "" for text in distinct.tolist()])[code]
        return ColumnGroups(np.where(empty, _alone(ids), values))
    value = np.where(is_none, -1, code)
    label = _components(len(values), len(distinct), points, named, value)
    return ColumnGroups(
        _first_id(label, ids),
        originals=len(set(named[points].tolist())),
        made_of_them=int(points.sum()),
        unknown=int((~is_none & (named < 0)).sum()),
    )


def _alone(ids: Texts) -> Texts:
    return np.array([f"row {id_}" for id_ in ids], object)


def _are_originals(points: NDArray[np.bool_], named: NDArray[np.intp], is_none: Any, target: NDArray[Any]) -> bool:
    """Whether values name rows by intent, and do not merely look like ids, as small numbers would.

    Then fakes name reals, and most reals that are named have no other group.
    """
    if not points.any():
        return False
    roots = named[points]
    at_end = ~points[roots]
    return bool(
        at_end.mean() >= 0.5
        and (is_none | (named == np.arange(len(named))))[roots[at_end]].mean() >= _MOSTLY
        and (target[points] == 1).mean() >= _MOSTLY
        and (target[roots[at_end]] == 0).mean() >= _MOSTLY
    )


def _rows_named(names: Sequence[str], ids: Texts, paths: Texts) -> NDArray[np.intp]:
    """The row of each name: by id, or by file name with or without its ending where just one row has it."""
    by_id = {id_: row for row, id_ in enumerate(ids.tolist())}
    by_file: dict[str, int] = {}
    for row, path in enumerate(paths.tolist()):
        for name in dict.fromkeys(_file_names(path)):
            by_file[name] = row if name not in by_file else -1
    found = np.full(len(names), -1, np.intp)
    for at, name in enumerate(names):
        candidates = [by_id.get(name, -1), *(by_file.get(file, -1) for file in _file_names(name))]
        found[at] = next((row for row in candidates if row >= 0), -1)
    return found


def _file_names(path: str) -> tuple[str, str]:
    name = posixpath.basename(path.replace("\\", "/"))
    return name, os.path.splitext(name)[0]  # noqa: PTH122


def _components(n_rows: int, n_values: int, points: Any, named: NDArray[np.intp], value: NDArray[Any]) -> NDArray[Any]:
    """Number of the set that each row belongs to: rows of one value, and rows that name each other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    has_value = np.flatnonzero(value >= 0)
    start = np.r_[np.flatnonzero(points), has_value]
    end = np.r_[named[points], n_rows + value[has_value]]
    size = n_rows + n_values
    edges = coo_array((np.ones(len(start), np.int8), (start, end)), (size, size))
    _, label = connected_components(edges, directed=False)
    return np.asarray(label[:n_rows])


def _first_id(label: NDArray[Any], ids: Texts) -> Texts:
    """The set of each row, named after the first of its ids in order of text, whatever the order of the rows."""
    order = np.argsort(ids.astype(str), kind="stable")
    _, first, of = np.unique(label[order], return_index=True, return_inverse=True)
    names: Texts = np.empty(len(ids), object)
    names[order] = ids[order][first[of]]
    return names
