"""Check which of many files exist, with one directory scan per folder instead of a system call per file."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from oof.errors import DataError

Media = Literal["images", "clips"]

FOUND, MISSING, ESCAPES, AMBIGUOUS = 0, 1, 2, 3
ENDINGS: Mapping[Media, tuple[str, ...]] = {
    "images": tuple(".jpg .jpeg .jpe .jfif .jp2 .png .webp .avif .heic .bmp .gif .tif .tiff .ppm .pgm .tga".split()),
    "clips": tuple(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .wmv .flv .3gp".split()),
}
# an absolute path, a drive, a step upward, or a zero byte
_ESCAPE = r"^/|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x00|^\\"
_DETOUR = r"//|(^|/)\./"  # redundant parts of a path


class FileIndex:
    """The files in folders, scanned on first use, and which of them belong to a row.

    Args:
        media: kind of files; files of the other kind are not candidates for a name without an ending.
    """

    def __init__(self, media: Media = "images") -> None:
        self._endings = ENDINGS[media]
        self._files: dict[str, set[str]] = {}
        self._named: defaultdict[str, set[str]] = defaultdict(set)

    def files(self, folder: str) -> set[str]:
        """Return the names of the files in one folder (not in subfolders); empty if there is no such folder.

        Raises:
            DataError: if the folder cannot be read.
        """
        if folder not in self._files:
            try:
                with os.scandir(folder) as entries:
                    self._files[folder] = {entry.name for entry in entries if entry.is_file()}
            except (FileNotFoundError, NotADirectoryError):
                self._files[folder] = set()
            except (OSError, ValueError) as err:  # no read permission, a loop of links, a name that is too long
                raise DataError(
                    f"The folder {folder} cannot be read: {getattr(err, 'strerror', None) or err}. Correct its "
                    f"permissions, or the names in the label file."
                ) from err
        return self._files[folder]

    def find(self, root: Path, names: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int8]]:
        """Return the paths of the named files, and whether they exist.

        A name matches the file with that name, also if the label file has `./a.jpg`, `b//a.jpg`, or accented
        letters in another Unicode form. A name without an ending, as many competitions use for ids, matches the only
        file with that stem (`ISIC_0015719` finds `ISIC_0015719.jpg`).

        Args:
            root: folder to which the names are relative; they may include subfolders.
            names: (n_rows,) text.

        Returns:
            Paths as text and FOUND, MISSING, ESCAPES (the name leads out of `root`, or is empty) or
            AMBIGUOUS (several files with that stem), both of shape (n_rows,).
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        text = pa.array(names, pa.string())
        escapes = pc.match_substring_regex(text, _ESCAPE).to_numpy(zero_copy_only=False) | (names == "")
        detours = pc.match_substring_regex(text, _DETOUR).to_numpy(zero_copy_only=False) & ~escapes
        if detours.any():
            names = names.copy()
            names[detours] = [os.path.normpath(name) for name in names[detours]]
        state = np.where(escapes, ESCAPES, MISSING).astype(np.int8)
        paths = np.array([f"{root}/{name}" for name in names], object)
        for folder, rows in _by_folder(paths, np.flatnonzero(~escapes)).items():
            found = self.files(folder)
            named = self._named[folder]
            left = []
            skip = len(folder) + 1
            for row in rows:
                name = paths[row][skip:]
                if name in found:
                    state[row] = FOUND
                    named.add(name)
                else:
                    left.append(row)
            if left and found:
                self._match_stems(folder, left, paths, state)
        return paths, state

    def _match_stems(self, folder: str, rows: list[int], paths: NDArray[np.object_], state: NDArray[np.int8]) -> None:
        """Match names by their Unicode normal form, with the ending or without it."""
        by_name: defaultdict[str, list[str]] = defaultdict(list)
        for file in self.files(folder):
            name = normal_form(file)
            by_name[name].append(file)
            stem, ending = os.path.splitext(name)  # noqa: PTH122 — half a million names
            if ending.lower() in self._endings:
                by_name[stem].append(file)
        for row in rows:
            matches = by_name.get(normal_form(paths[row][len(folder) + 1 :]), [])
            if len(matches) == 1:
                paths[row] = f"{folder}/{matches[0]}"
                state[row] = FOUND
                self._named[folder].add(matches[0])
            elif matches:
                state[row] = AMBIGUOUS

    def mark_named(self, root: Path, files: list[str]) -> None:
        """Mark files, relative to `root`, as belonging to a row."""
        for file in files:
            folder, _, name = f"{root}/{file}".rpartition("/")
            self._named[folder].add(name)

    def unnamed(self, root: Path) -> list[str]:
        """Return the sorted media files without a row in `root` and in the subfolders used so far."""
        self.files(str(root))
        folders = [folder for folder in self._files if folder == str(root) or folder.startswith(f"{root}/")]
        return sorted(
            printable(f"{folder}/{name}")
            for folder in folders
            for name in self._files[folder] - self._named[folder]
            if os.path.splitext(name)[1].lower() in self._endings and not name.startswith(".")  # noqa: PTH122
        )

    def below(self, root: Path) -> Iterator[str]:
        """Yield all media files in a folder and its subfolders, relative to it, sorted by name."""
        for folder, folders, files in os.walk(root):
            folders.sort()
            inside = os.path.relpath(folder, root)
            for name in sorted(files):
                if os.path.splitext(name)[1].lower() in self._endings:  # noqa: PTH122
                    yield name if inside == "." else f"{inside}/{name}"


def normal_form(name: str) -> str:
    """Return a name in the Unicode form that most systems write (NFC): `é` as one character."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def printable(name: str) -> str:
    """Return a file name with undecodable bytes replaced, so that it can be printed and written."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")


def media_of(names: NDArray[np.object_], folder: Path) -> Media:
    """Return whether rows name images or clips, by their endings, or else by the files in their folder."""
    counts = _count_endings(names.tolist())
    if not any(counts.values()):
        try:
            with os.scandir(folder) as entries:
                counts = _count_endings([entry.name for entry in entries])
        except OSError:
            pass  # reported when the files are searched
    return "clips" if counts["clips"] > 0 == counts["images"] or counts["clips"] > 10 * counts["images"] else "images"


def _count_endings(names: list[str]) -> dict[Media, int]:
    endings = [os.path.splitext(name)[1].lower() for name in names]  # noqa: PTH122
    return {media: sum(ending in known for ending in endings) for media, known in ENDINGS.items()}


def _by_folder(paths: NDArray[np.object_], rows: NDArray[np.intp]) -> dict[str, list[int]]:
    """Return rows by the folder of their file."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows.tolist():
        groups[paths[row].rpartition("/")[0]].append(row)
    return groups
