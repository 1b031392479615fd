"""Extracted features of clips on disk: records of many clips in few files, found by path or by content."""

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
from typing import TYPE_CHECKING, Any

import numpy as np

from oof.errors import DataError
from oof.files import file_lock, file_sha256, read_parquet, write_json, write_parquet
from oof.progress import SILENT, Progress
from trainers.media.clip_record import ClipRecord
from trainers.runtime.signals import StopRequest

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1
_SHARD_BYTES = 256 << 20
_SHARD_S = 30.0  # what a kill loses at most
_AHEAD = 4  # clips begun for each thread
_COLUMNS = ["path", "size", "mtime_ns", "sha256", "shard", "offset", "n_bytes", "reason"]
_LEAST_FREE = 1 << 30  # bytes of disk that are left alone


@dataclass(frozen=True)
class ClipFailure:
    """A clip that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class StoreSummary:
    """How many of some clips are in the store. n_bytes: of everything that is stored with these settings."""

    clips: int
    stored: int
    missing: int
    n_bytes: int
    failures: tuple[ClipFailure, ...] = field(default=())


class ClipStore:
    """Records of clips that were read with the same settings.

        folder/
        └── 3f9c0a1b2c/             a fingerprint of the settings
            ├── recipe.json         the settings in words
            ├── 5d1c….bin           records of clips one after the other, each as the bytes of a safetensors file
            └── 5d1c….parquet       clips: path, size, mtime_ns, sha256, shard, offset, n_bytes, reason

    A clip is known by path, size and time of change; one that was moved or copied is found by the SHA-256 of its
    bytes and not decoded again. A clip that cannot be read has a row with its reason and no record. A shard counts
    once its table is in place, so a process may be killed at any moment and loses the clips of half a minute. One
    process writes and the others wait; readers need no lock.

    Args:
        folder: of all stores.
        recipe: the settings that the records depend on, as JSON values.
        root: paths under it are kept relative to it, so that the folder may move with its data.
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
        """Read and store the clips that are missing; a run that was stopped or killed resumes where it was.

        Args:
            paths: of the clips.
            extract: returns the record of a clip, or raises DataError; called from several threads.
            threads: clips read side by side.
            retry: read again what could not be read before.
            progress: gets clips per second.

        Raises:
            KeyboardInterrupt, Stopped: Ctrl-C or SIGTERM; what was read is stored.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / ".lock"), StopRequest() as request:
            write_json(self.folder / "recipe.json", self.recipe)
            index = self._index()
            self._sweep(index)
            located = self._locate(_files(paths, threads), index)
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
                        if request.heard:
                            break
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                writer.commit()
            if request.heard:
                request.stop()
        return self.summary(paths, threads)

    def _sweep(self, index: "pd.DataFrame") -> None:
        """Remove what a killed process left: half-written files, and shards that no table names."""
        named = {f"{shard}.bin" for shard in index["shard"].unique()}
        for path in self.folder.iterdir():
            if path.suffix == ".part" or (path.suffix == ".bin" and path.name not in named):
                path.unlink()

    # ---- reading ------------------------------------------------------------

    def summary(self, paths: Sequence[str], threads: int = 1) -> StoreSummary:
        """Count what is there of some clips, and list those that cannot be read."""
        located = self._locate(_files(paths, threads), self._index())
        failed = located[(located["offset"] < 0) & (located["reason"] != "")]
        missing_files = located[located["size"] < 0]
        failures = [ClipFailure(path, reason) for path, reason in zip(failed["path"], failed["reason"], strict=True)]
        failures += [ClipFailure(path, "file is missing") for path in missing_files["path"]]
        stored = int((located["offset"] >= 0).sum())
        size = sum(path.stat().st_size for path in self.folder.glob("*.bin")) if self.folder.exists() else 0
        return StoreSummary(len(located), stored, len(located) - stored - len(failures), size, tuple(failures))

    def view(self, paths: Sequence[str], threads: int = 1) -> "ClipView":
        """Return the records of some clips, in their order."""
        return ClipView(self.folder, self._locate(_files(paths, threads), self._index()))

    def _index(self) -> "pd.DataFrame":
        """All rows of the tables whose shards are whole."""
        import pandas as pd

        tables = [read_parquet(path)[0] for path in sorted(self.folder.glob("*.parquet"))]
        if not tables:
            empty = pd.DataFrame({name: pd.Series([], dtype=object) for name in _COLUMNS})
            return empty.astype({"size": np.int64, "mtime_ns": np.int64, "offset": np.int64, "n_bytes": np.int64})
        index = pd.concat(tables, ignore_index=True)
        sizes = {path.stem: path.stat().st_size for path in self.folder.glob("*.bin")}
        ends = index["offset"] + index["n_bytes"]
        return index[(index["offset"] < 0) | (ends <= index["shard"].map(sizes).fillna(-1))]

    def _locate(self, files: "pd.DataFrame", index: "pd.DataFrame") -> "pd.DataFrame":
        """The rows of files, in their order; offset -1 without a record, reason "" without a failure."""
        known = index.drop(columns="sha256").drop_duplicates(["path", "size", "mtime_ns"], keep="last")
        short = files.assign(short=[self.short(path) for path in files["path"]])
        joined = short.merge(known.rename(columns={"path": "short"}), how="left", on=["short", "size", "mtime_ns"])
        for name, empty in (("offset", -1), ("n_bytes", 0)):
            joined[name] = joined[name].fillna(empty).astype(np.int64)
        for name in ("shard", "reason"):
            joined[name] = joined[name].fillna("").astype(str)
        return joined

    def short(self, path: str) -> str:
        """The path as tables keep it."""
        return str(path).removeprefix(self._prefix)


class ClipView:
    """Records of a list of clips; any number of threads may read at once."""

    def __init__(self, folder: Path, located: "pd.DataFrame") -> None:
        self.paths: list[str] = located["path"].tolist()
        self.reasons: list[str] = located["reason"].tolist()
        self._shard: list[str] = located["shard"].tolist()
        self._offset: list[int] = located["offset"].tolist()
        self._n_bytes: list[int] = located["n_bytes"].tolist()
        self._open = lru_cache(256)(lambda shard: _mapped(folder / f"{shard}.bin"))

    def __len__(self) -> int:
        return len(self.paths)

    def record(self, row: int) -> ClipRecord | None:
        """The record of a clip; None where there is none (`reasons` says why, where it was tried)."""
        start = self._offset[row]
        if start < 0:
            return None
        return ClipRecord(self._open(self._shard[row])[start : start + self._n_bytes[row]], self.paths[row])

    @property
    def absent(self) -> list[int]:
        """Rows without a record."""
        return [row for row, offset in enumerate(self._offset) if offset < 0]


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


_Row = tuple[str, int, int]  # path, size, time of change
_Found = tuple[str, "bytes | str | None"]  # SHA-256; record, reason of failure, or None where the content is known


def _side_by_side(
    pool: ThreadPoolExecutor,
    jobs: Iterator[_Row],
    known: Callable[[str], bool],
    extract: Callable[[str], bytes],
    ahead: int,
) -> Iterator[tuple[_Row, _Found]]:
    """Results as they come; a limited number of clips is begun ahead, so that records do not pile up in memory."""

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
    """Appends records to a half-written shard and commits it when it is large or old enough."""

    def __init__(self, store: ClipStore, index: "pd.DataFrame") -> None:
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
        """Whether a record of the same bytes is there already."""
        return digest in self._places

    def add(self, row: _Row, found: _Found) -> None:
        """Note the outcome for one clip."""
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
                f"a link to a larger disk, and run dfens extract again: it resumes where it was."
            )
        with self._part.open("ab") as file:
            file.write(data)
        self._size += len(data)

    def commit(self) -> None:
        """Put the shard and then its table in place."""
        import pandas as pd

        if self._rows:
            if self._size:
                with self._part.open("rb") as file:
                    os.fsync(file.fileno())
                self._part.replace(self._store.folder / f"{self._name}.bin")
            table = pd.DataFrame(self._rows, columns=_COLUMNS)
            write_parquet(self._store.folder / f"{self._name}.parquet", table, self._store.recipe)
        self._begin()


def _files(paths: Sequence[str], threads: int) -> "pd.DataFrame":
    """Path, size and time of change of each file, in that order; -1 for one that is missing."""
    import pandas as pd

    def facts(path: str) -> tuple[int, int]:
        try:
            found = os.stat(path)  # noqa: PTH116 (a quarter of a million of them)
            return found.st_size, found.st_mtime_ns
        except OSError:
            return -1, -1

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(facts, paths))
    values = np.array(found, np.int64).reshape(-1, 2)
    return pd.DataFrame({"path": list(map(str, paths)), "size": values[:, 0], "mtime_ns": values[:, 1]})
