"""Groups from a column: a fake shares the group of the real that it was made from, if the column names it."""

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# values that mean "no original"
_NONE = frozenset(("", "-1", "-1.0", "nan", "none", "null", "na", "n/a", "<na>", "-"))
_MOSTLY = 0.9

Texts = NDArray[np.object_]


@dataclass(frozen=True)
class ColumnGroups:
    """Groups of rows from a column.

    names: (n_rows,) text. originals: number of rows named as originals by other rows, 0 if the
    column does not name rows. made_of_them: number of rows that name one of them. unknown: number of rows that name
    an original that is not a training row; rows with the same original still share a group.
    """

    names: Texts
    originals: int = 0
    made_of_them: int = 0
    unknown: int = 0

    @property
    def note(self) -> str | None:
        """Return a sentence on the interpretation of the column; None if it contains plain groups."""
        if not self.originals:
            return None
        more = f"; {self.unknown} name an original that is not among the rows" if self.unknown else ""
        return f"{self.made_of_them} rows share the group of the {self.originals} rows that they were made from{more}"


def column_groups(values: Texts, ids: Texts, target: NDArray[Any], paths: Texts) -> ColumnGroups:
    """Return the group of each row from a column of group names, or of names of originals.

    DFDC's `original` names the real from which each fake was made, and is empty, -1 or the row's own name for a real.
    For such a column, a real is grouped with its fakes, over several steps if a fake was made from a fake.
    Otherwise equal values form a group, and a row with an empty value is its own group.

    Args:
        values: (n_rows,) text of the column.
        ids: (n_rows,) ids of the rows.
        target: (n_rows,) 0 or 1.
        paths: (n_rows,) paths of their files, which may also be used to name originals.

    Returns:
        Groups, each named after its value, or after the first of its sorted ids if rows are joined.
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
    """Return whether values deliberately name rows and do not merely look like ids, as small numbers might.

    In that case fakes name reals, and most reals that are named have no other group.
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
    """Return the row of each name: by id, or by file name with or without ending if it is unique."""
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
    """Return the component of each row: rows with equal values, and rows that name each other, are connected."""
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
    """Return the group of each row, named after the first of its sorted ids, independent of the row order."""
    order = np.argsort(ids.astype(str), kind="stable")
    _, first, of = np.unique(label[order], return_index=True, return_inverse=True)
    names: Texts = np.empty(len(ids), object)
    names[order] = ids[order][first[of]]
    return names
