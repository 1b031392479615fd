"""Find the rows that a text names: by id, or by the name of their file, in any spelling."""

import re
from collections import defaultdict
from collections.abc import Callable
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.file_index import ENDINGS, normal_form

_AROUND = " \t\r\n\"'`[](){}<>;,\u00a0\u200b\u200c\u200d\u2060\ufeff"  # quotes, brackets and invisible characters
_ENDING = re.compile(r"\.([a-z][a-z0-9]{1,4}|(?<=\d\.)0)$")
_MEDIA_ENDINGS = tuple(ending for endings in ENDINGS.values() for ending in endings)
_MOST = 100  # a name that more rows share, such as that of the first frame of every clip, names none of them
_Key = Callable[[str], str]
_SEPARATORS = (re.compile(r"[;,|&+]"), re.compile(r"[;,|&+\s]+"), re.compile(r"_"))


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
        self._names = [
            (plain_name(path),) if path.endswith(f"/{id_}") else (plain_name(id_), plain_name(path))
            for id_, path in zip(ids.tolist(), paths.tolist(), strict=True)
        ]
        # from strict to loose: name of the file, without its ending, without leading zeros
        self._tiers: tuple[tuple[_Key, _Key], ...] = ((_file, _file), (_stem, _file), (_number, _number))
        self._indices: dict[tuple[int, int], dict[str, list[int]]] = {}

    def _index(self, tier: int, folders: int = 0) -> dict[str, list[int]]:
        """Return the rows of each key of a tier, below so many folders of their paths.

        The second kind of key finds `a.mp4` by `a.mp4.avi`.
        """
        if (tier, folders) not in self._indices:
            found: defaultdict[str, list[int]] = defaultdict(list)
            for row, names in enumerate(self._names):
                for key in {_below(name, key(name), folders) for name in names for key in self._tiers[tier]}:
                    if key:
                        found[key].append(row)
            self._indices[tier, folders] = dict(found)
        return self._indices[tier, folders]

    def rows_of(self, text: str) -> list[int]:
        """Return the rows that a text names; several if it names several, or if a name does not tell them apart.

        Of rows with the same file name in different folders, those count whose folders also match; of these, reals, if
        there are any, since fakes are made from reals. A name that more than 100 of them share names none.
        """
        found = self._named(text)
        if found:
            return found
        any_part, *all_parts = _SEPARATORS
        several = any_part.split(text)
        rows = {row for part in several for row in self._named(part)} if len(several) > 1 else set()
        for separator in [] if rows else all_parts:
            parts = separator.split(text.strip(_AROUND))
            named = list(takewhile(bool, map(self._named, parts))) if len(parts) > 1 else []
            if named and len(named) == len(parts):
                return sorted({row for part in named for row in part})
        return sorted(rows)

    def _named(self, text: str) -> list[int]:
        row = self._row_of_id.get(text, self._row_of_id.get(text.strip(), -1))
        name = plain_name(text)
        if row >= 0 or not name:
            return [row] if row >= 0 else []
        for tier, (key, _) in enumerate(self._tiers):
            candidates = self._index(tier).get(key(name), [])
            for folders in range(1, name.count("/") + 1) if len(candidates) > 1 else ():
                nearer = self._index(tier, folders).get(_below(name, key(name), folders))
                candidates = nearer or candidates
                if not nearer or len(nearer) == 1:
                    break
            if candidates:
                return self._likely(candidates)
        return []

    def _likely(self, candidates: list[int]) -> list[int]:
        """Return the reals among rows of the same name, or all; none if they are too many to say anything."""
        reals = [row for row in candidates if self._is_real[row]]
        found = reals or candidates
        return found if len(found) <= _MOST else []


def without_ending(name: str) -> str:
    """Return a plain name without the ending of a file, or that of an integer that was read as a float."""
    return _ENDING.sub("", name)


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


def _below(name: str, key: str, folders: int) -> str:
    """Return the key of a name below so many of its last folders; "" without a key, or with fewer folders.

    >>> _below("d/real/a.png", "a", 1)
    'real/a'
    """
    path = name.split("/")[:-1] if folders else []
    return "/".join([*path[len(path) - folders :], key]) if key and len(path) >= folders else ""
