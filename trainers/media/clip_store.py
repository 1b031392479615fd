"""Extracted features of clips on disk: records of many clips in a few files, looked up by path or by content."""

import contextlib
import hashlib
import json
import mmap
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from oof.errors import DISK_FULL, DataError, StoreError
from oof.files import file_lock, file_sha256, write_json, write_parquet
from oof.progress import SILENT, Progress
from trainers.media.clip_record import ClipRecord
from trainers.media.stored_files import file_table, locate_files, read_tables, remove_leftovers, shard_sizes
from trainers.runtime.signals import StopRequest

FORMAT_VERSION = 1
_SHARD_BYTES = 256 << 20
_SHARD_S = 30.0  # maximum work lost if the process is killed
_AHEAD = 4  # clips started per thread
_COLUMNS: dict[str, type] = {
    "path": str, "size": np.int64, "mtime_ns": np.int64, "sha256": str,
    "shard": str, "offset": np.int64, "n_bytes": np.int64, "reason": str,
}  # fmt: skip
_LEAST_FREE = 1 << 30  # bytes of disk space that are left free


@dataclass(frozen=True)
class ClipFailure:
    """A clip that could not be read, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class StoreSummary:
    """Number of the given clips in the store. n_bytes: size of everything stored with these settings."""

    clips: int
    stored: int
    missing: int
    n_bytes: int
    failures: tuple[ClipFailure, ...] = field(default=())


class ClipStore:
    """Records of clips read with the same settings.

        folder/
        └── 3f9c0a1b2c/             a fingerprint of the settings
            ├── recipe.json         the settings as JSON
            ├── 5d1c….bin           concatenated records of clips, each the bytes of a safetensors file
            └── 5d1c….parquet       clips: path, size, mtime_ns, sha256, shard, offset, n_bytes, reason

    A clip is identified by path, size and modification time; a clip that was moved or copied is found by the SHA-256 of
    its bytes and not decoded again. A clip that cannot be read has a row with the reason and no record. A shard becomes
    visible when its table is in place, so a process may be killed at any time and loses at most half a minute of work.
    One process writes while others wait; readers need no lock.

    Args:
        folder: parent folder of all stores.
        recipe: settings that the records depend on, as JSON values.
        root: paths below it are stored relative to it, so that the folder can be moved together with its data.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any], root: Path = Path()) -> None:
        self.recipe = {"version": FORMAT_VERSION, **recipe}
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()
        self.folder = folder / digest[:10]
        self._prefix = f"{root.resolve()}{os.sep}"

    # ---- writing ------------------------------------------------------------

    def make(
        self,
        paths: Sequence[str],
        extract: Callable[[str], bytes],
        *,
        threads: int = 1,
        retry: bool = False,
        progress: Progress = SILENT,
    ) -> StoreSummary:
        """Read and store the missing clips; a run that was stopped or killed resumes where it left off.

        Args:
            paths: paths of the clips.
            extract: returns the record of a clip, or raises DataError; called from several threads.
            threads: number of clips read in parallel.
            retry: whether to retry clips that could not be read before.
            progress: receives clips per second.

        Raises:
            KeyboardInterrupt, Stopped: on Ctrl-C or SIGTERM, after the clips read so far have been stored.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / ".lock", progress), StopRequest() as request:
            write_json(self.folder / "recipe.json", self.recipe)
            index = self._index()
            remove_leftovers(self.folder, ".bin", index)
            located = self._locate(paths, threads, index)
            known = (located["offset"] >= 0) | ((located["reason"] != "") & (not retry))
            work = located[~known & (located["size"] >= 0)].drop_duplicates("path")
            writer = _Writer(self, index)
            pool = ThreadPoolExecutor(threads, thread_name_prefix="extract")
            try:
                with progress.task("extract", total=len(work), unit="clip") as task:
                    started = time.monotonic()
                    jobs = work[["path", "size", "mtime_ns"]].itertuples(index=False, name=None)
                    results = _side_by_side(pool, jobs, writer.known, extract, _AHEAD * threads)
                    for done, (row, found) in enumerate(results, 1):
                        writer.add(row, found)
                        task.advance(1, speed=f"{done / (time.monotonic() - started):.1f} clips/s")
                        if request.is_requested:
                            break
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                writer.commit()
            if request.is_requested:
                request.stop()
        return self.summary(paths, threads)

    # ---- reading ------------------------------------------------------------

    def summary(self, paths: Sequence[str], threads: int = 1) -> StoreSummary:
        """Return how many of the given clips are stored, and those that cannot be read."""
        located = self._locate(paths, threads, self._index())
        failed = located[(located["offset"] < 0) & (located["reason"] != "")]
        missing_files = located[located["size"] < 0]
        failures = [ClipFailure(path, reason) for path, reason in zip(failed["path"], failed["reason"], strict=True)]
        failures += [ClipFailure(path, "file is missing") for path in missing_files["path"]]
        stored = int((located["offset"] >= 0).sum())
        size = sum(shard_sizes(self.folder, ".bin").values())
        return StoreSummary(len(located), stored, len(located) - stored - len(failures), size, tuple(failures))

    def view(self, paths: Sequence[str], threads: int = 1) -> "ClipView":
        """Return the records of the given clips, in the same order."""
        return ClipView(self.folder, self._locate(paths, threads, self._index()))

    def _index(self) -> pd.DataFrame:
        """Return all rows of the tables whose shards are complete."""
        index = read_tables(self.folder, _COLUMNS, "dfens extract")
        sizes = shard_sizes(self.folder, ".bin")
        ends = index["offset"] + index["n_bytes"]
        whole = index[(index["offset"] < 0) | (ends <= index["shard"].map(sizes).fillna(-1).astype(np.int64))]
        # tables have random names, and the last entry of a file counts: its record, if any try succeeded
        return whole.sort_values("offset", kind="stable")

    def _locate(self, paths: Sequence[str], threads: int, index: pd.DataFrame) -> pd.DataFrame:
        """Return one row per file, in order; offset -1 without a record, reason "" without a failure."""
        located = locate_files(file_table(paths, threads), index, self._prefix)
        for name, empty in (("offset", -1), ("n_bytes", 0)):
            located[name] = located[name].fillna(empty).astype(np.int64)
        for name in ("shard", "reason"):
            located[name] = located[name].fillna("").astype(str)
        return located

    def short(self, path: str) -> str:
        """Return a path as stored in the tables."""
        return str(path).removeprefix(self._prefix)


class ClipView:
    """Records of a list of clips; any number of threads may read at once."""

    def __init__(self, folder: Path, located: pd.DataFrame) -> None:
        self.paths: list[str] = located["path"].tolist()
        self.reasons: list[str] = located["reason"].tolist()
        self._shard: list[str] = located["shard"].tolist()
        self._offset: list[int] = located["offset"].tolist()
        self._n_bytes: list[int] = located["n_bytes"].tolist()
        self._open = lru_cache(256)(lambda shard: _mapped(folder / f"{shard}.bin"))

    def __len__(self) -> int:
        return len(self.paths)

    def record(self, row: int) -> ClipRecord | None:
        """Return the record of a clip, or None (`reasons` has the reason if reading it was attempted).

        Raises:
            StoreError: if the record was removed since then.
        """
        start = self._offset[row]
        if start < 0:
            return None
        try:
            shard = self._open(self._shard[row])
        except FileNotFoundError as err:
            raise StoreError(
                f"The extracted features of {self.paths[row]} were removed while they were in use (dfens extract "
                f"--remove). Run the same command again: it extracts them again and resumes."
            ) from err
        return ClipRecord(shard[start : start + self._n_bytes[row]], self.paths[row])

    @property
    def absent(self) -> list[int]:
        """Return the rows without a record."""
        return [row for row, offset in enumerate(self._offset) if offset < 0]


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


_Row = tuple[str, int, int]  # path, size, modification time
_Found = tuple[str, "bytes | str | None"]  # SHA-256; record, reason of failure, or None if already stored


def _side_by_side(
    pool: ThreadPoolExecutor,
    jobs: Iterator[_Row],
    known: Callable[[str], bool],
    extract: Callable[[str], bytes],
    ahead: int,
) -> Iterator[tuple[_Row, _Found]]:
    """Yield results as they finish; a bounded number of clips is in flight, so that records do not fill the memory."""

    def one(path: str) -> _Found:
        digest = ""
        try:
            digest = file_sha256(Path(path))
            return digest, None if known(digest) else extract(path)
        except (DataError, OSError) as err:
            return digest, str(err)

    running: dict[Future[_Found], _Row] = {}
    for row in jobs:
        running[pool.submit(one, row[0])] = row
        while len(running) >= ahead:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()


class _Writer:
    """Writer that appends records to an incomplete shard and commits it when it is large or old enough."""

    def __init__(self, store: ClipStore, index: pd.DataFrame) -> None:
        self._store = store
        with_record = index[index["offset"] >= 0]
        self._places: dict[str, tuple[str, int, int]] = {
            digest: (shard, offset, n_bytes)
            for digest, shard, offset, n_bytes in zip(
                with_record["sha256"], with_record["shard"], with_record["offset"], with_record["n_bytes"], strict=True
            )
        }
        self._begin()

    def _begin(self) -> None:
        self._name = secrets.token_hex(10)
        self._part = self._store.folder / f".{self._name}.bin.part"
        self._rows: list[tuple[str, int, int, str, str, int, int, str]] = []
        self._size, self._since = 0, time.monotonic()

    def known(self, digest: str) -> bool:
        """Return whether a record of the same bytes is already stored."""
        return digest in self._places

    def add(self, row: _Row, found: _Found) -> None:
        """Add the outcome of one clip."""
        path, size, changed = row
        digest, value = found
        if isinstance(value, str):
            reason = value.removeprefix(f"{path} ")
            self._rows.append((self._store.short(path), size, changed, digest, "", -1, 0, reason))
        else:
            if value is not None and digest not in self._places:
                self._append(value)
                self._places[digest] = (self._name, self._size - len(value), len(value))
            self._rows.append((self._store.short(path), size, changed, digest, *self._places[digest], ""))
        if self._size >= _SHARD_BYTES or time.monotonic() - self._since > _SHARD_S:
            self.commit()

    def _append(self, data: bytes) -> None:
        free = shutil.disk_usage(self._store.folder).free
        if free < _LEAST_FREE + len(data):
            raise DataError(
                f"The disk of {self._store.folder} has {free / 1e9:.1f} GB left. Free space there, or make that folder "
                f"a link to a larger disk, and run dfens extract again: it resumes where it stopped."
            )
        try:
            with self._part.open("ab") as file:
                file.write(data)
        except OSError as err:  # also a full quota, which the free space does not show
            if err.errno not in DISK_FULL:
                raise
            with contextlib.suppress(FileNotFoundError):  # not even created
                os.truncate(self._part, self._size)  # leaves space for the table of the clips read so far
            raise DataError(
                f"The disk of {self._store.folder} is full ({err.strerror}). Free space there, or make that folder a "
                f"link to a larger disk, and run dfens extract again: it resumes where it stopped."
            ) from err
        self._size += len(data)

    def commit(self) -> None:
        """Move the shard and then its table into place."""
        if self._rows:
            if self._size:
                with self._part.open("rb") as file:
                    os.fsync(file.fileno())
                self._part.replace(self._store.folder / f"{self._name}.bin")
            table = pd.DataFrame(self._rows, columns=[*_COLUMNS])
            write_parquet(self._store.folder / f"{self._name}.parquet", table, self._store.recipe)
        self._part.unlink(missing_ok=True)  # empty: the first record did not fit on the disk
        self._begin()
