"""The files behind stored images and clips, identified by path, size and modification time."""

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from oof.errors import DataError, StoreError
from oof.files import read_parquet
from trainers.runtime.locks import all_locks

_KEY = ["short", "size", "mtime_ns"]


def file_table(paths: Sequence[str], threads: int) -> pd.DataFrame:
    """Return path, size and modification time of each file, in order; -1 for a missing file."""

    def facts(path: str) -> tuple[int, int]:
        try:
            found = os.stat(path)  # noqa: PTH116 (called for 500,000 files)
            return found.st_size, found.st_mtime_ns
        except OSError:
            return -1, -1

    with ThreadPoolExecutor(threads) as pool:
        values = np.array(list(pool.map(facts, paths)), np.int64).reshape(-1, 2)
    return pd.DataFrame({"path": list(map(str, paths)), "size": values[:, 0], "mtime_ns": values[:, 1]})


def read_tables(folder: Path, types: Mapping[str, type], again: str) -> pd.DataFrame:
    """Return the rows of all tables of stored files in a folder.

    Args:
        folder: folder of the tables, which may not exist yet.
        types: type of each column.
        again: the command that stores files again.

    Raises:
        StoreError: if a table is damaged or was replaced by another file, naming it and the remedy.
    """
    tables = [pd.DataFrame({name: np.empty(0, object) for name in types}).astype(types)]
    for path in sorted(folder.glob("*.parquet")):
        try:
            tables.append(read_parquet(path, *types)[0][[*types]].astype(types))
        except FileNotFoundError:  # a link to a file that does not exist, or removed at the same time
            continue
        except (StoreError, TypeError, ValueError) as err:
            if getattr(err.__cause__, "errno", None) is not None:  # it may be intact: the message names the obstacle
                raise
            raise StoreError(
                f"{path} was truncated or overwritten. Move it away, then run {again}: it stores what the table lists "
                f"again."
            ) from err
    return pd.concat(tables, ignore_index=True)


def shard_sizes(folder: Path, suffix: str) -> dict[str, int]:
    """Return the bytes of each shard with a suffix, by its name; a link to a file that does not exist is left out."""
    return {path.stem: path.stat().st_size for path in folder.glob(f"*{suffix}") if path.exists()}


def locate_files(files: pd.DataFrame, index: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """Return one row per file, in order, with the columns of the index, which are missing for unknown files.

    Args:
        files: as `file_table` returns it. index: stored files, their paths without the prefix; the last entry counts.
        prefix: folder from which paths are stored.
    """
    short = files.assign(short=[path.removeprefix(prefix) for path in files["path"]])
    known = index.drop(columns="sha256").rename(columns={"path": "short"}).drop_duplicates(_KEY, keep="last")
    return short.merge(known, how="left", on=_KEY)


def remove_leftovers(folder: Path, suffix: str, index: pd.DataFrame) -> None:
    """Remove leftovers of a killed process: incomplete files, and shards with this suffix that are in no table."""
    named = {f"{shard}{suffix}" for shard in index["shard"].unique()}
    for path in folder.iterdir():
        if path.suffix == ".part" or (path.suffix == suffix and path.name not in named):
            path.unlink()


def remove_store(folder: Path) -> None:
    """Remove a folder of stored files with its lock.

    Raises:
        DataError: if another process is writing to it, whose work would be lost.
    """

    def in_use(place: Path) -> DataError:
        return DataError(
            f"Another process is writing to {place}. Wait for it, or stop it, then run the same command again."
        )

    with all_locks(folder, in_use):
        shutil.rmtree(folder)
