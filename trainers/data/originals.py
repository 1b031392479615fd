"""Groups from a column: a fake shares the group of the real that it was made from, if the column names it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oof.errors import examples
from oof.missing import MISSING_TEXTS, is_missing
from trainers.data.row_names import RowNames, plain_name, without_ending, without_media_ending

# values that mean "no original", without brackets and quotes
_NONE = frozenset(
    [
        *MISSING_TEXTS,
        *("n.a.", "\\n", "?", "no", "false", "0"),
        *("unknown", "missing", "undefined", "real", "original", "self"),
    ]
)
_NONE_NUMBER = re.compile(r"-+|-1(\.0*)?")
_MOSTLY = 0.9
_NUMBER = re.compile(r"0|[1-9][0-9]*")  # with leading zeros it is a name: methods and the like are not padded
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
# words in the name of a column that decide whether it names originals, or kinds; the last of them counts
_NAMES_ORIGINALS = frozenset("original originals orig parent real pristine from of".split())
_NAMES_KINDS = frozenset(
    "method methods type types kind class category label generator model manipulation technique algorithm compression "
    "quality dataset split fold cluster camera device site age gender sex ethnicity race language year level".split()
)

NO_VALUE_REMEDY = "Name a column with values, or leave the setting out if no rows belong together."

Texts = NDArray[np.object_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ColumnGroups:
    """Groups of rows from a column.

    names: (n_rows,) text. originals: number of rows named as originals by other rows, 0 if the
    column does not name rows. made_of_them: number of rows that name one of them. unknown: number of fakes that name
    an original that is not a training row; rows with the same original still share a group.
    placeholder: an unusual value that was taken to mean "no original", if any.
    doubtful: name of a column whose numbers could also be ids of originals, if any.
    missing: number of rows without a value in a column of plain groups, each of them its own group. missing_as: how
    the column writes that, except for empty. column: its name.
    """

    names: Texts
    originals: int = 0
    made_of_them: int = 0
    unknown: int = 0
    placeholder: str = ""
    doubtful: str = ""
    missing: int = 0
    missing_as: tuple[str, ...] = ()
    column: str = ""

    @property
    def note(self) -> str | None:
        """Return a sentence on the interpretation of the column; None if it contains plain groups for all rows."""
        notes = []
        if self.doubtful:
            notes.append(
                f"The numbers in '{self.doubtful}' are taken as names of groups, although rows have these ids too; if "
                f"they are the rows that fakes were made from, call the column 'original'"
            )
        if self.missing:
            written = f" ({examples([repr(text) for text in self.missing_as])})" if self.missing_as else ""
            notes.append(
                f"{self.missing} of {len(self.names)} rows have no value in '{self.column}'{written}, so each of them "
                f"is its own group"
            )
        if not self.originals:
            return ". ".join(notes) or None
        more = f"; {self.unknown} name an original that is not among the rows" if self.unknown else ""
        if self.placeholder:
            more += f"; '{self.placeholder}' is taken to mean no original, since most reals have this value"
        return f"{self.made_of_them} rows share the group of the {self.originals} rows that they were made from{more}"


@dataclass(frozen=True, eq=False)
class _Column:
    """The distinct values of a column, and the rows that they name.

    code: (n_rows,) the value of each row. value, row: (n_links,) each value and a row that it names.
    names_row: (n_rows,) whether the value of a row names a row. points: (n_rows,) whether it names another row.
    means_none: (n_rows,) whether it is a word for "no original". is_none: (n_rows,) the same, unless it names a row.
    """

    texts: Sequence[str]
    code: NDArray[np.intp]
    value: NDArray[np.intp]
    row: NDArray[np.intp]
    names_row: Mask
    points: Mask
    means_none: Mask
    is_none: Mask

    @staticmethod
    def of(values: Texts, target: NDArray[Any], names: RowNames | None) -> "_Column":
        """Return a column with the rows that its values name; without names of rows, they name none."""
        distinct, code = np.unique(values.astype(str), return_inverse=True)
        named = [[] if names is None else names.rows_of(text) for text in distinct.tolist()]
        counts = np.array([len(rows) for rows in named], np.intp)
        value, row = np.repeat(np.arange(len(named)), counts), np.fromiter(_flat(named), np.intp, int(counts.sum()))
        own = np.zeros(len(values), np.intp)  # whether the value of a row names the row itself
        np.add.at(own, row, code[row] == value)
        means_none = np.array([_means_none(text) for text in distinct.tolist()])
        # a word such as 0 that most reals have means "no original", even if a row has this name
        is_real, none = np.asarray(target) == 0, means_none[code]
        reals = np.bincount(code[is_real], minlength=len(distinct))
        says_none = is_real & none & (reals > max(1, is_real.sum() / 2))[code]
        names_row, points = (counts[code] > 0) & ~says_none, (counts[code] > own) & ~says_none
        return _Column(distinct.tolist(), code, value, row, names_row, points, none, none & ~names_row)

    def share_of_links(self, mask: Mask) -> float:
        """Return the mean, over the rows that point, of the share of the rows they name for which a mask is true."""
        counts = np.bincount(self.value, minlength=len(self.texts))
        share = np.bincount(self.value, mask[self.row], minlength=len(self.texts)) / np.maximum(counts, 1)
        return float(share[self.code[self.points]].mean())


def column_groups(values: Texts, ids: Texts, target: NDArray[Any], paths: Texts, name: str = "") -> ColumnGroups:
    """Return the group of each row from a column of group names, or of names of originals.

    DFDC's `original` names the real from which each fake was made, and is empty, -1 or the row's own name for a real.
    For such a column, a real is grouped with its fakes, over several steps if a fake was made from a fake, and a fake
    of two originals with both. Otherwise equal values form a group, and a row without a value (empty, `nan`, `None`, …)
    is its own group.

    Whether values are originals is decided by the name of the column, if it contains a word such as `original` or
    `method`, and otherwise by the values. Small numbers that name few of the reals could also number methods or
    people: they are taken as groups, with a note.

    Args:
        values: (n_rows,) text of the column.
        ids: (n_rows,) ids of the rows.
        target: (n_rows,) 0 or 1.
        paths: (n_rows,) paths of their files, which may also be used to name originals.
        name: name of the column; "" if it is not known.

    Returns:
        Groups, each named after its value, or after the first of its sorted ids if rows are joined.
    """
    expected = _expects_originals(name)
    # looking for the rows that values name takes most of the time
    column = _Column.of(values, target, None if expected is False else RowNames(ids, target, paths))
    are_originals = expected is not False and _are_originals(column, target)
    if expected and not are_originals:  # the labels of some data sets are 1 for reals
        other = _Column.of(values, 1 - target, RowNames(ids, 1 - target, paths))
        if _are_originals(other, 1 - target):
            column, target, are_originals = other, 1 - target, True
    doubtful = are_originals and expected is None and _may_be_numbering(column, target)
    if not are_originals or doubtful:
        return _plain_groups(column, values, ids, target, name or "group", doubtful)
    placeholder = _placeholder(column, (target == 0) & ~column.names_row)
    is_none = column.is_none | (column.code == placeholder)
    return ColumnGroups(
        _first_id(_components(column, is_none), ids),
        originals=len(np.unique(column.row[np.isin(column.value, column.code[column.points])])),
        made_of_them=int(column.points.sum()),
        unknown=int((~is_none & ~column.names_row & (target == 1)).sum()),
        placeholder=column.texts[placeholder] if placeholder >= 0 else "",
    )


def names_originals(name: str) -> bool:
    """Return whether the name of a column states that it contains originals: `original`, `parent_id`."""
    return _expects_originals(name) is True


def no_value_found(groups: ColumnGroups) -> str:
    """Return a sentence on a column without any value."""
    return f"column '{groups.column}' has no value in any of the {groups.missing} training rows, so it groups nothing."


def _plain_groups(
    column: _Column, values: Texts, ids: Texts, target: NDArray[Any], name: str, doubtful: bool
) -> ColumnGroups:
    """Return the groups of equal values; arguments as in `column_groups`."""
    no_value = [is_missing(text) for text in column.texts]
    missing = np.array(no_value)[column.code]
    is_alone = missing
    if (column.means_none == (target == 0)).all():  # the originals of all fakes are not among the rows
        is_alone = column.means_none
    names = values.copy()
    names[is_alone] = [f"row {id_}" for id_ in ids[is_alone]]
    return ColumnGroups(
        names,
        doubtful=name if doubtful else "",
        missing=int(missing.sum()),
        missing_as=tuple(text for text, is_absent in zip(column.texts, no_value, strict=True) if is_absent and text),
        column=name,
    )


def _means_none(text: str) -> bool:
    name = plain_name(text)
    return name in _NONE or _NONE_NUMBER.fullmatch(name) is not None


def _flat(parts: Iterable[Sequence[int]]) -> Iterable[int]:
    return (item for part in parts for item in part)


def _placeholder(column: _Column, reals: Mask) -> int:
    """Return the value that most of the reals without an original have, unless it is a usual one; -1 for none."""
    if not reals.any():
        return -1
    counts = np.bincount(column.code[reals & ~column.is_none], minlength=len(column.texts))
    most = int(counts.argmax())
    return most if counts[most] > max(1, reals.sum() / 2) else -1


def _expects_originals(name: str) -> bool | None:
    """Return whether a column of this name contains originals (True) or kinds (False); None if it may be either.

    >>> _expects_originals("original_id"), _expects_originals("fakeMethod"), _expects_originals("video")
    (True, False, None)
    """
    words = [word.lower() for word in _WORD.findall(name)]
    known = [word for word in words if word in _NAMES_ORIGINALS | _NAMES_KINDS]
    return known[-1] in _NAMES_ORIGINALS if known else None


def _may_be_numbering(column: _Column, target: NDArray[Any]) -> bool:
    """Return whether values are numbers with hardly a gap that name fewer than half of the reals.

    Numbers of originals name all of the reals, or have the gaps of those without a fake.
    """
    names = [without_ending(plain_name(text)) for text in column.texts]
    is_number = np.array([_NUMBER.fullmatch(name) is not None for name in names])
    if is_number[column.code[column.points]].mean() < 0.5:
        return False
    pointing = np.unique(column.code[column.points])
    numbers = [int(names[code]) for code in pointing if is_number[code]]
    named = np.unique(column.row[np.isin(column.value, pointing)])
    return max(numbers) <= 2 * len(numbers) and bool((target[named] == 0).sum() < (target == 0).sum() / 2)


def _are_originals(column: _Column, target: NDArray[Any]) -> bool:
    """Return whether values deliberately name rows and do not merely look like ids, as small numbers might.

    Followed from row to row, they lead to reals, or to fakes whose original is not among the rows. In addition, either
    fakes name rows and reals do not, or they lead there in one step, to rows that belong to no other group.
    """
    points, is_real = column.points, target == 0
    is_end = ~points & (is_real | ~(column.is_none | column.names_row))
    if not points.any() or _leads_to(column, is_end) < _MOSTLY:
        return False
    if (~is_real[points]).mean() >= _MOSTLY and (points & is_real).sum() <= (1 - _MOSTLY) * is_real.sum():
        return True
    ends = column.row[~points[column.row] & np.isin(column.value, column.code[points])]
    no_other_group = (column.is_none | column.names_row)[ends]  # an end that names a row names itself
    return bool(column.share_of_links(~points) >= _MOSTLY and no_other_group.mean() >= _MOSTLY)


def _leads_to(column: _Column, ends: Mask) -> float:
    """Return the share of the rows that point whose values lead, from row to row, to one of the ends."""
    reached = ends
    while True:
        values = np.bincount(column.value, reached[column.row], minlength=len(column.texts)) > 0
        more = reached | (column.points & values[column.code])
        if (more == reached).all():
            return float(reached[column.points].mean())
        reached = more


def _components(column: _Column, is_none: Mask) -> NDArray[Any]:
    """Return the component of each row: rows with equal values, and rows that values name, are connected."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_rows, has_value = len(column.code), np.flatnonzero(~is_none)
    named = np.isin(np.arange(len(column.texts)), column.value).tolist()  # the rows that they name join their spellings
    names = [
        (is_named, text if is_named else without_media_ending(plain_name(text)))
        for is_named, text in zip(named, column.texts, strict=True)
    ]
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    spelling = np.array([number[name] for name in names], np.intp)
    start = np.r_[has_value, column.row]
    end = n_rows + spelling[np.r_[column.code[has_value], column.value]]
    size = n_rows + len(column.texts)
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
