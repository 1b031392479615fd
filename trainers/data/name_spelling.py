"""Explain how file names in a label file differ from the files that they probably refer to."""

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oof.errors import examples
from trainers.data.file_index import normal_form


@dataclass(frozen=True)
class Misspelling:
    """A name without a file, and the file that it may refer to.

    name: name in the label file. file: path relative to the folder, the first of several. differences: what is spelled
    differently.
    """

    name: str
    file: str
    differences: tuple[str, ...]


def find_misspellings(names: Iterable[str], files: Iterable[str]) -> list[Misspelling]:
    """Return the names that match files except for spaces, slashes, folders, case, leading zeros or the ending.

    Of several matches, only those with exactly this name in different folders count. A file of the same path as the
    name is a link to a file that does not exist, which is not a question of spelling.

    Args:
        names: names without a file.
        files: all media files in the folder and its subfolders, relative to it.
    """
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        by_key[_loose(file)].append(file)
    found = []
    for name in names:
        matches = by_key.get(_loose(name), [])
        if len(matches) > 1:  # the ending or the case may make it unique
            exact = [file for file in matches if posixpath.basename(file) == _basename(name)]
            matches = exact or matches
            if len(exact) > 1:
                found.append(Misspelling(name, exact[0], ("the folder of the file, in several of which it exists",)))
        if len(matches) == 1 and matches[0] != name:
            found.append(Misspelling(name, matches[0], _differences(name, matches[0])))
    return found


def describe(found: Sequence[Misspelling]) -> str:
    """Return one sentence per kind of difference, with an example of each."""
    by_kind: defaultdict[str, list[Misspelling]] = defaultdict(list)
    for one in found:
        by_kind[" and ".join(one.differences)].append(one)
    lines = []
    for kind, ones in sorted(by_kind.items(), key=lambda item: -len(item[1])):
        first = ones[0]
        lines.append(f"{len(ones)} match a file except for {kind} ('{first.name}' and '{first.file}')")
    folders = sorted({posixpath.dirname(one.file) for one in found} - {""})
    where = f" The files are in {examples([f'{folder}/' for folder in folders], 3)}." if folders else ""
    return "; ".join(lines[:3]) + "." + where


def _loose(name: str) -> str:
    """Return a name without spaces, folders, case, leading zeros and ending."""
    return os.path.splitext(_basename(name))[0].casefold().lstrip("0")  # noqa: PTH122


def _basename(name: str) -> str:
    return normal_form(posixpath.basename(name.strip().replace("\\", "/"))).strip()


def _differences(name: str, file: str) -> tuple[str, ...]:
    found = []
    plain = name.strip()
    if plain != name:
        found.append("spaces around the name")
    if "\\" in plain:
        found.append("'\\' instead of '/'")
    plain = posixpath.normpath(normal_form(plain.replace("\\", "/")))
    folder, inside = posixpath.dirname(plain), posixpath.dirname(normal_form(file))
    if folder != inside:
        found.append(f"the leading folder {folder}/" if not inside else "the folder of the file")
    stem, ending = os.path.splitext(posixpath.basename(plain))  # noqa: PTH122
    real_stem, real_ending = os.path.splitext(posixpath.basename(normal_form(file)))  # noqa: PTH122
    if stem != real_stem and stem.lstrip("0") == real_stem.lstrip("0"):
        found.append("leading zeros")
    elif stem != real_stem or (ending != real_ending and ending.lower() == real_ending.lower()):
        found.append("upper and lower case")
    elif ending and ending != real_ending:
        found.append(f"the ending ({ending} instead of {real_ending})")
    return tuple(found) or ("its spelling",)
