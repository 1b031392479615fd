"""Read values from many files in threads, with a cache that is also written during the scan, so that it resumes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from oof.errors import StoreError
from oof.files import read_parquet, write_parquet
from oof.progress import SILENT, Progress
from trainers.media.image_info import in_threads

_AT_ONCE = 1000  # files between two updates of the progress
_PARTS_SAVED = 20  # of these, after which the values are stored


@dataclass(frozen=True)
class FileScan:
    """What is read from each file.

    kind, version: of the cache file. title: of the progress bar. columns: names of the values. dtype: their type.
    read: function from the path of a file to its values, (n_columns,), or None if it cannot be read.
    """

    kind: str
    version: int
    title: str
    columns: tuple[str, ...]
    dtype: type[np.generic]
    read: Callable[[str], NDArray[Any] | None]


def scan_files(
    scan: FileScan,
    paths: Sequence[str],
    *,
    root: Path,
    cache: Path | None = None,
    threads: int = 1,
    progress: Progress = SILENT,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return values of files, each read once until it changes.

    Args:
        scan: what is read.
        paths: paths of the files.
        root: the data folder, to which paths in the cache are relative.
        cache: Parquet file of earlier values; a file whose size or time has changed is read again. It is also written
            now and then during the scan, so that a killed run resumes.
        threads: number of threads.
        progress: receives progress by file.

    Returns:
        Values, shape (n_files, n_columns), 0 for files that cannot be read, and whether each file could be read, shape
        (n_files,).
    """
    names = pd.Index([path.removeprefix(f"{root}/") for path in paths])
    stamps = np.array([_stamp(path) for path in paths], np.int64).reshape(-1, 2)
    values = np.zeros((len(paths), len(scan.columns)), scan.dtype)
    known = np.zeros(len(paths), bool)
    old = None if cache is None else _read_cache(scan, cache)
    if old is not None:
        at = old.index.get_indexer(names)
        known = (at >= 0) & (old[["size", "mtime_ns"]].to_numpy(np.int64)[at] == stamps).all(axis=1)
        values[known] = old[list(scan.columns)].to_numpy(scan.dtype)[at[known]]
    new = np.flatnonzero(~known)
    if not len(new):
        return values, known
    parts = np.array_split(new, -(-len(new) // _AT_ONCE))
    with progress.task(scan.title, total=len(new), unit="file") as task:
        for number, part in enumerate(parts, 1):
            made = in_threads(scan.read, [paths[row] for row in part.tolist()], threads, SILENT, "")
            for row, value in zip(part, made, strict=True):
                if value is not None:
                    values[row] = value
                    known[row] = True
            task.advance(len(part))
            if cache is not None and (number % _PARTS_SAVED == 0 or number == len(parts)):
                table = pd.DataFrame({"file": names[known], "size": stamps[known, 0], "mtime_ns": stamps[known, 1]})
                table[list(scan.columns)] = values[known]
                _write_cache(scan, cache, old, table.drop_duplicates("file"))
    return values, known


def _write_cache(scan: FileScan, cache: Path, old: pd.DataFrame | None, table: pd.DataFrame) -> None:
    """Write the values of files, and the older ones of other files."""
    if old is not None:
        kept = old[~old.index.isin(table["file"])].reset_index()
        table = pd.concat([kept, table], ignore_index=True)
    write_parquet(cache, table, {"version": scan.version, "kind": scan.kind})


def _stamp(path: str) -> tuple[int, int]:
    try:
        facts = Path(path).stat()
    except OSError:
        return -1, -1
    return facts.st_size, facts.st_mtime_ns


def _read_cache(scan: FileScan, cache: Path) -> pd.DataFrame | None:
    """Return earlier values by file; None if there are none, or the cache is damaged or of another scan or version."""
    types: dict[str, Any] = {"file": str, "size": np.int64, "mtime_ns": np.int64} | dict.fromkeys(
        scan.columns, scan.dtype
    )
    try:
        table, header = read_parquet(cache, *types)
        table = table[[*types]].astype(types).drop_duplicates("file").set_index("file")
    except (FileNotFoundError, StoreError, TypeError, ValueError):
        return None
    is_own = (header.get("kind"), header.get("version")) == (scan.kind, scan.version)
    return table if is_own and len(table) else None
