"""Find the rows that a text names: by id, or by the name of their file, in any spelling."""

import re
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.file_index import ENDINGS, normal_form

_AROUND = " \t\r\n\"'`[](){}<>;,\u00a0\u200b\u200c\u200d\u2060\ufeff"  # quotes, brackets and invisible characters
_ENDING = re.compile(r"\.([a-z][a-z0-9]{1,4}|(?<=\d\.)0)$")
_MEDIA_ENDINGS = tuple(ending for endings in ENDINGS.values() for ending in endings)
_MOST = 100  # a name that more rows share, such as that of the first frame of every clip, names none of them
_SEPARATORS = (re.compile(r"[;,|&+]"), re.compile(r"[;,|&+\s]+"), re.compile(r"_"))
_FILE, _STEM = 0, 1  # positions in the keys of a name
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
            if key and row != self._first[key]:
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
        self._indices: dict[tuple[int, int], _Index] = {}
        self._named_by_part: dict[str, list[int]] = {}  # `person` is a part of `person 1`, `person 2`, ...

    @cached_property
    def _keys(self) -> tuple[list[str], list[str], list[str]]:
        """The keys of all names by tier, as `_keys_of` returns them for one."""
        files = [_file(name) for name in self._names]
        stems = [without_ending(file) for file in files]
        return files, stems, [_number(stem) for stem in stems]

    @cached_property
    def _every_key(self) -> set[str]:
        """The keys of all tiers: most texts name no row, and one look-up tells."""
        found = set[str]().union(*self._keys)
        found.discard("")
        return found

    def _index(self, tier: int, folders: int) -> _Index:
        """Return the rows of each key below so many folders of their paths."""
        if (tier, folders) not in self._indices:
            keys = self._keys[tier]
            if folders:
                keys = [_below(name, key, folders) for name, key in zip(self._names, keys, strict=True)]
            self._indices[tier, folders] = _Index(keys, self._rows)
        return self._indices[tier, folders]

    def rows_of(self, text: str) -> list[int]:
        """Return the rows that a text names; several if it names several, or if a name does not tell them apart.

        Of rows with the same file name in different folders, those count whose folders also match; of these, reals, if
        there are any, since fakes are made from reals. A name that more than 100 of them share names none.
        """
        found = self._named(text)
        if found or _ANY_SEPARATOR.search(text) is None:
            return found
        any_part, *all_parts = _SEPARATORS
        several = any_part.split(text) if any_part.search(text) else ()
        rows = {row for part in several for row in self._named_part(part)}
        inside = text.strip(_AROUND)
        for separator in [] if rows else all_parts:
            parts = separator.split(inside) if separator.search(inside) else ()
            if parts and all(map(self._named_part, parts)):
                return sorted({row for part in parts for row in self._named_part(part)})
        return sorted(rows)

    def _named_part(self, text: str) -> list[int]:
        if text not in self._named_by_part:
            self._named_by_part[text] = self._named(text)
        return self._named_by_part[text]

    def _named(self, text: str) -> list[int]:
        for id_ in dict.fromkeys((text, text.strip())):
            if id_ in self._row_of_id:
                return [self._row_of_id[id_]]
        name = plain_name(text)
        keys = _keys_of(name)
        if self._every_key.isdisjoint(keys):
            return []
        for tier, key in enumerate(keys):
            candidates = self._candidates(tier, key)
            if candidates:
                return self._likely(self._nearest(candidates, name, tier, key))
        return []

    def _nearest(self, candidates: list[int], name: str, tier: int, key: str) -> list[int]:
        """Return the candidates whose last folders match those of the name, as many as tell them apart."""
        for folders in range(1, name.count("/") + 1) if len(candidates) > 1 else ():
            nearer = self._candidates(tier, _below(name, key, folders), folders)
            candidates = nearer or candidates
            if not nearer or len(nearer) == 1:
                break
        return candidates

    def _candidates(self, tier: int, key: str, folders: int = 0) -> list[int]:
        """Return the rows with this key; a stem is also the whole name of some files: `a.mp4` finds `a` and `a.avi`."""
        rows = self._index(tier, folders).rows_of(key)
        files = self._index(_FILE, folders).rows_of(key) if tier == _STEM else []
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


def _keys_of(name: str) -> tuple[str, str, str]:
    """Return what plain names are compared by, from strict to loose: file name, stem, number without leading zeros.

    >>> _keys_of("real/007.png"), _keys_of("a.png")
    (('007.png', '007', '7'), ('a.png', 'a', ''))
    """
    file = _file(name)
    stem = without_ending(file)
    return file, stem, _number(stem)


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _number(stem: str) -> str:
    return (stem.lstrip("0") or "0") if stem.isdecimal() else ""


def _below(name: str, key: str, folders: int) -> str:
    """Return the key of a name below so many of its last folders; "" without a key, or with fewer folders.

    >>> _below("d/real/a.png", "a", 1)
    'real/a'
    """
    if not folders:
        return key
    path = name.split("/")[:-1]
    return "/".join([*path[len(path) - folders :], key]) if key and len(path) >= folders else ""
