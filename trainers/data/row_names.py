"""Find the rows that a text names: by id, or by the name of their file, in any spelling."""

import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.data.file_index import normal_form

_AROUND = " \t\r\n\"'`[](){}<>;,\u00a0\u200b\u200c\u200d\u2060\ufeff"  # quotes, brackets and invisible characters
_ENDING = re.compile(r"\.([a-z][a-z0-9]{1,4}|(?<=\d\.)0)$")
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
        self._indices: list[dict[str, list[int]]] = []

    def _index(self, tier: int) -> dict[str, list[int]]:
        """Return the rows of each key of a tier; the second kind of key finds `a.mp4` by `a.mp4.avi`."""
        if tier == len(self._indices):
            first, second = self._tiers[tier]
            found: defaultdict[str, list[int]] = defaultdict(list)
            for row, names in enumerate(self._names):
                for name in {first(name) for name in names} | {second(name) for name in names}:
                    if name:
                        found[name].append(row)
            self._indices.append(dict(found))
        return self._indices[tier]

    def rows_of(self, text: str) -> list[int]:
        """Return the rows that a text names; several if it names several, or if a name does not tell them apart.

        Of rows with the same file name in different folders, those count whose folders also match; of these, reals, if
        there are any, since fakes are made from reals.
        """
        found = self._named(text)
        if found:
            return found
        any_part, *all_parts = _SEPARATORS
        rows = {row for part in any_part.split(text) for row in self._named(part)}
        for separator in [] if rows else all_parts:
            parts = [self._named(part) for part in separator.split(text.strip(_AROUND))]
            if len(parts) > 1 and all(parts):
                return sorted({row for part in parts for row in part})
        return sorted(rows)

    def _named(self, text: str) -> list[int]:
        row = self._row_of_id.get(text, self._row_of_id.get(text.strip(), -1))
        name = plain_name(text)
        if row >= 0 or not name:
            return [row] if row >= 0 else []
        tiers = enumerate(self._tiers)
        candidates = next((rows for tier, (key, _) in tiers if (rows := self._index(tier).get(key(name)))), [])
        if len(candidates) > 1:
            matching = [max(_common_folders(name, other) for other in self._names[row]) for row in candidates]
            candidates = [row for row, n in zip(candidates, matching, strict=True) if n == max(matching)]
        return [row for row in candidates if self._is_real[row]] or candidates


def without_ending(name: str) -> str:
    """Return a plain name without the ending of a file, or that of an integer that was read as a float."""
    return _ENDING.sub("", name)


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(name: str) -> str:
    return without_ending(_file(name))


def _number(name: str) -> str:
    """Return a number without leading zeros; "" for other names."""
    stem = _stem(name)
    return (stem.lstrip("0") or "0") if stem.isdecimal() else ""


def _common_folders(name: str, other: str) -> int:
    """Return the number of equal folders at the ends of two paths, not counting their files."""
    count = 0
    for one, two in zip(name.split("/")[-2::-1], other.split("/")[-2::-1], strict=False):
        if one != two:
            break
        count += 1
    return count
