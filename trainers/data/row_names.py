"""Find the rows that a text names: by id, or by the name of their file, in any spelling."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.file_index import ENDINGS, normal_form

_AROUND = " \t\r\n\"'`[](){}<>;,\u00a0\u200b\u200c\u200d\u2060\ufeff"  # quotes, brackets and invisible characters
_ENDING = re.compile(r"\.([a-z][a-z0-9]{1,4}|(?<=\d\.)0)$")
_MEDIA_ENDINGS = tuple(ending for endings in ENDINGS.values() for ending in endings)
_MOST = 100  # a name that more rows share, such as that of the first frame of every clip, names none of them
_SEPARATORS = (re.compile(r"[;,|&+]"), re.compile(r"[;,|&+\s]+"), re.compile(r"_"))
_Key = Callable[[str], str]
_ANY_SEPARATOR = re.compile(r"[;,|&+\s_]")


def plain_name(text: str) -> str:
    """Return a name without quotes, brackets, case, `./`, repeated or trailing slashes, and the query of a URL.

    >>> plain_name("['./Real//A.MP4']")
    'real/a.mp4'
    """
    name = normal_form(text.strip(_AROUND)).casefold()
    if "\\" in name or "/" in name or "?" in name:
        parts = name.replace("\\", "/").partition("?")[0].split("/")
        name = "/".join(part for part in parts if part not in ("", "."))
    return name


class _Index:
    """The rows of each key, in ascending order.

    Args:
        keys: (n_names,) keys of names; "" for a name without a key.
        rows: (n_names,) the row of each name, ascending.
    """

    def __init__(self, keys: list[str], rows: list[int]) -> None:
        # most keys have one row, and a list for each of them would take long
        self._first = dict(zip(reversed(keys), reversed(rows), strict=True))
        self._several: dict[str, list[int]] = {}
        for key, row in zip(keys, rows, strict=True) if len(self._first) < len(keys) else ():
            if row != self._first[key]:
                several = self._several.setdefault(key, [self._first[key]])
                if several[-1] != row:
                    several.append(row)
        self._first.pop("", None)

    def rows_of(self, key: str) -> list[int]:
        if key not in self._first:
            return []
        return self._several.get(key) or [self._first[key]]


class RowNames:
    """Names of rows: ids, and files with or without folder and ending.

    Args:
        ids: (n_rows,) unique ids.
        target: (n_rows,) 0 or 1.
        paths: (n_rows,) paths of the files.
    """

    def __init__(self, ids: NDArray[np.object_], target: NDArray[Any], paths: NDArray[np.object_]) -> None:
        self._row_of_id = {id_: row for row, id_ in enumerate(ids.tolist())}
        self._is_real = (np.asarray(target) == 0).tolist()
        self._names: list[str] = []
        self._rows: list[int] = []  # the row of each name
        for row, (id_, path) in enumerate(zip(ids.tolist(), paths.tolist(), strict=True)):
            for name in (path,) if path.endswith(f"/{id_}") else (id_, path):
                self._names.append(plain_name(name))
                self._rows.append(row)
        self._indices: dict[tuple[_Key, int], _Index] = {}
        self._named_by_part: dict[str, list[int]] = {}  # `person` is a part of `person 1`, `person 2`, ...

    def _index(self, key: _Key, folders: int = 0) -> _Index:
        """Return the rows of each key below so many folders of their paths."""
        if (key, folders) not in self._indices:
            keys = [_below(name, key(name), folders) if folders else key(name) for name in self._names]
            self._indices[key, folders] = _Index(keys, self._rows)
        return self._indices[key, folders]

    def rows_of(self, text: str) -> list[int]:
        """Return the rows that a text names; several if it names several, or if a name does not tell them apart.

        Of rows with the same file name in different folders, those count whose folders also match; of these, reals, if
        there are any, since fakes are made from reals. A name that more than 100 of them share names none.
        """
        found = self._named(text)
        if found or _ANY_SEPARATOR.search(text) is None:
            return found
        any_part, *all_parts = _SEPARATORS
        several = any_part.split(text)
        rows = {row for part in several for row in self._named_part(part)} if len(several) > 1 else set()
        inside = text.strip(_AROUND)
        for separator in [] if rows else all_parts:
            parts = separator.split(inside)
            if len(parts) > 1 and all(map(self._named_part, parts)):
                return sorted({row for part in parts for row in self._named_part(part)})
        return sorted(rows)

    def _named_part(self, text: str) -> list[int]:
        if text not in self._named_by_part:
            self._named_by_part[text] = self._named(text)
        return self._named_by_part[text]

    def _named(self, text: str) -> list[int]:
        row = self._row_of_id.get(text, self._row_of_id.get(text.strip(), -1))
        if row >= 0:
            return [row]
        name = plain_name(text)
        for key in _TIERS if name else ():
            candidates = self._candidates(key, key(name))
            if candidates:
                return self._likely(self._nearest(candidates, name, key))
        return []

    def _nearest(self, candidates: list[int], name: str, key: _Key) -> list[int]:
        """Return the candidates whose last folders match those of the name, as many as tell them apart."""
        for folders in range(1, name.count("/") + 1) if len(candidates) > 1 else ():
            nearer = self._candidates(key, _below(name, key(name), folders), folders)
            candidates = nearer or candidates
            if not nearer or len(nearer) == 1:
                break
        return candidates

    def _candidates(self, key: _Key, text: str, folders: int = 0) -> list[int]:
        """Return the rows with this key; a stem is also the whole name of some files: `a.mp4` finds `a` and `a.avi`."""
        rows = self._index(key, folders).rows_of(text)
        files = self._index(_file, folders).rows_of(text) if key is _stem else []
        return sorted({*rows, *files}) if rows and files else rows or files

    def _likely(self, candidates: list[int]) -> list[int]:
        """Return the reals among rows of the same name, or all; none if they are too many to say anything."""
        reals = [row for row in candidates if self._is_real[row]]
        found = reals or candidates
        return found if len(found) <= _MOST else []


def without_ending(name: str) -> str:
    """Return a plain name without the ending of a file, or that of an integer that was read as a float."""
    return _ENDING.sub("", name) if "." in name else name


def without_media_ending(name: str) -> str:
    """Return a plain name without the ending of an image or clip: `person.one` and `person.two` stay different."""
    return without_ending(name) if name.endswith((*_MEDIA_ENDINGS, ".0")) else name


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(name: str) -> str:
    return without_ending(_file(name))


def _number(name: str) -> str:
    """Return a number without leading zeros; "" for other names."""
    stem = _stem(name)
    return (stem.lstrip("0") or "0") if stem.isdecimal() else ""


_TIERS: tuple[_Key, ...] = (_file, _stem, _number)  # what names are compared by, from strict to loose


def _below(name: str, key: str, folders: int) -> str:
    """Return the key of a name below so many of its last folders; "" without a key, or with fewer folders.

    >>> _below("d/real/a.png", "a", 1)
    'real/a'
    """
    if not folders:
        return key
    path = name.split("/")[:-1]
    return "/".join([*path[len(path) - folders :], key]) if key and len(path) >= folders else ""
