"""Which of many named files are there: one directory scan per folder, no question per file."""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOUND, MISSING, ESCAPES, AMBIGUOUS = 0, 1, 2, 3
_MEDIA = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".mp4", ".avi", ".mov", ".mkv", ".webm")
# an absolute path, a drive, a step upward, or a zero byte
_ESCAPE = r"^/|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x00|^\\"


class Listing:
    """The files of folders, scanned when first asked for, and which of them some row has named."""

    def __init__(self) -> None:
        self._files: dict[str, set[str]] = {}
        self._named: defaultdict[str, set[str]] = defaultdict(set)

    def files(self, folder: str) -> set[str]:
        """Names of the files in one folder (not below it); empty where there is no such folder."""
        if folder not in self._files:
            try:
                with os.scandir(folder) as entries:
                    self._files[folder] = {entry.name for entry in entries if entry.is_file()}
            except (FileNotFoundError, NotADirectoryError):
                self._files[folder] = set()
        return self._files[folder]

    def find(self, root: Path, names: NDArray[np.object_]) -> tuple[NDArray[np.object_], NDArray[np.int8]]:
        """Where the named files are, and whether they are there.

        A name without an ending matches the one file of that stem (`ISIC_0015719` finds
        `ISIC_0015719.jpg`), as many competitions write their ids.

        Args:
            root: folder that the names are relative to; they may name folders below it.
            names: (n_rows,) text.

        Returns:
            Paths as text and FOUND, MISSING, ESCAPES (the name leads out of `root`, or is empty) or
            AMBIGUOUS (several files of that stem), both of shape (n_rows,).
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        text = pa.array(names, pa.string())
        escapes = pc.match_substring_regex(text, _ESCAPE).to_numpy(zero_copy_only=False) | (names == "")
        state = np.where(escapes, ESCAPES, MISSING).astype(np.int8)
        paths = np.array([f"{root}/{name}" for name in names], object)
        for folder, rows in _by_folder(str(root), paths, np.flatnonzero(~escapes)).items():
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
        by_stem: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.files(folder):
            stem, ending = os.path.splitext(name)  # noqa: PTH122 — half a million names
            if ending.lower() in _MEDIA:
                by_stem[stem].append(name)
        for row in rows:
            matches = by_stem.get(paths[row][len(folder) + 1 :], [])
            if len(matches) == 1:
                paths[row] = f"{folder}/{matches[0]}"
                state[row] = FOUND
                self._named[folder].add(matches[0])
            elif matches:
                state[row] = AMBIGUOUS

    def unnamed(self, root: Path) -> list[str]:
        """Images and clips in `root` and the folders asked for below it that no row has named, sorted."""
        self.files(str(root))
        folders = [folder for folder in self._files if folder == str(root) or folder.startswith(f"{root}/")]
        return sorted(
            f"{folder}/{name}"
            for folder in folders
            for name in self._files[folder] - self._named[folder]
            if os.path.splitext(name)[1].lower() in _MEDIA and not name.startswith(".")  # noqa: PTH122
        )


def _by_folder(root: str, paths: NDArray[np.object_], rows: NDArray[np.intp]) -> dict[str, list[int]]:
    """Rows by the folder that their file is in."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows.tolist():
        groups[paths[row].rpartition("/")[0]].append(row)
    return groups
