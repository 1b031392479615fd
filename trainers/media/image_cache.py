"""Resized images on disk, created once by `dfens cache`: exact pixels in memory-mapped shards."""

import hashlib
import json
import mmap
import os
import shutil
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import PIL
import simplejpeg
from numpy.typing import NDArray

from oof.errors import DataError, StoreError
from oof.files import atomic_path, file_lock, write_json, write_parquet
from oof.progress import SILENT, Progress, Task
from trainers.media.arrays import Image, Images
from trainers.media.image import decode_at, load_image, read_bytes
from trainers.media.settings import Decode
from trainers.media.stored_files import file_table, locate_files, read_tables, remove_leftovers, shard_sizes

FORMAT_VERSION = 1
_SHARD_BYTES = 1 << 29  # kept in memory while a shard is created, and lost if the process is killed
_MOST_OPEN = 256  # shards; each mapped file uses a file descriptor, and a process may have 1,024 of them
_CHECKSUMS = ".crc32"  # suffix of the file with the checksums of a shard
_HEADER_BYTES = 128  # header of a shard in the .npy format
_SHARE_OF_DISK = 0.95  # fraction of the free space that may be used
_COMPARED = 8  # images that are decoded again for comparison before a cache is used
_COLUMNS: dict[str, type] = {
    "path": str, "size": np.int64, "mtime_ns": np.int64, "sha256": str, "shard": str, "position": np.int64,
}  # fmt: skip


@dataclass(frozen=True)
class CachePlan:
    """The expected size of a cache.

    images: number of requested files. missing: number of those not yet cached. bytes_needed: size of the missing ones
    (less if some files are identical). bytes_free: free space on the disk. bytes_made: size of the existing cache.
    """

    images: int
    missing: int
    bytes_needed: int
    bytes_free: int
    bytes_made: int


class ImageCache:
    """Images of one size, read with one decoder.

        folder/
        └── 256px-area-3f9c0a1b2c/      size, decoder, and a fingerprint of the decoding library
            ├── recipe.json             the same as JSON
            ├── 5d1c….npy               pixels, (n_images, size, size, 3) uint8 RGB
            ├── 5d1c….crc32             checksum of each of these images, (n_images,) little-endian uint32
            └── 07be….parquet           files: path, size, mtime_ns, sha256, and the position of their pixels

    Pixels are stored uncompressed, so that training with the cache is bit-identical to training without it; lossy
    compression would add its own traces to those that detectors look for.

    A file is identified by path, size and modification time, without reading it; a file that was moved or touched is
    found by the SHA-256 of its bytes and not decoded again. Identical files share their pixels.
    A shard becomes visible when its table is in place, so a process may be killed at any time. One process writes while
    others wait; readers need no lock.

    Args:
        folder: parent folder of all caches.
        image_size: edge length in pixels.
        decode: decoder of the files.
        root: paths below it are stored relative to it, so that the folder can be moved together with its data.
    """

    def __init__(self, folder: Path, image_size: int, decode: Decode, root: Path = Path()) -> None:
        self.image_size = image_size
        self.decode: Decode = decode
        self.recipe = cache_recipe(image_size, decode)
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()
        self.folder = folder / f"{image_size}px-{decode}-{digest[:10]}"
        self._prefix = f"{root.resolve()}{os.sep}"

    @property
    def image_bytes(self) -> int:
        """Size of one image, in bytes."""
        return self.image_size * self.image_size * 3

    @property
    def exists(self) -> bool:
        """Whether the cache has been started."""
        return (self.folder / "recipe.json").exists()

    # ---- making -------------------------------------------------------------

    def plan(self, paths: Sequence[str], threads: int = 1) -> CachePlan:
        """Return what `make` would have to do for these files."""
        located = self._locate(paths, threads, self._index())
        missing = int((located["position"] < 0).sum())
        above = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        made = sum(shard_sizes(self.folder, ".npy").values())
        free = shutil.disk_usage(above).free
        return CachePlan(len(paths), missing, missing * self.image_bytes, free, made)

    def make(self, paths: Sequence[str], threads: int = 1, progress: Progress = SILENT) -> list[str]:
        """Decode and store the missing images; a run that was stopped resumes where it left off.

        Returns:
            A message for each file that cannot be read; such files are skipped.

        Raises:
            DataError: if the disk has too little free space, before anything is written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with file_lock(self.folder / ".lock", progress):
            plan = self.plan(paths, threads)
            if plan.bytes_needed > _SHARE_OF_DISK * plan.bytes_free:
                raise DataError(
                    f"{plan.missing:,} images of {self.image_size} px take {plan.bytes_needed / 1e9:.1f} GB, and "
                    f"{plan.bytes_free / 1e9:.1f} GB are free in {self.folder.parent}. Free space there, make that "
                    f"folder a link to a larger disk, or train without a cache: images are then decoded each epoch."
                )
            write_json(self.folder / "recipe.json", self.recipe)
            index = self._index()
            for suffix in (".npy", _CHECKSUMS):
                remove_leftovers(self.folder, suffix, index)
            located = self._locate(paths, threads, index)
            missing = located[located["position"] < 0].drop_duplicates("path")
            places = {
                digest: (shard, position)
                for digest, shard, position in zip(index["sha256"], index["shard"], index["position"], strict=True)
            }
            broken: list[str] = []
            per_shard = max(1, _SHARD_BYTES // self.image_bytes)
            title = f"cache {self.decode} at {self.image_size} px"
            pool = ThreadPoolExecutor(max(1, threads))
            try:
                with progress.task(title, total=len(missing), unit="image") as task:
                    for start in range(0, len(missing), per_shard):
                        broken += self._make_shard(missing.iloc[start : start + per_shard], places, pool, task)
            finally:
                pool.shutdown(cancel_futures=True)
            return broken

    def _make_shard(
        self, files: pd.DataFrame, places: dict[str, tuple[str, int]], pool: ThreadPoolExecutor, task: Task
    ) -> list[str]:
        """Read some files, store the pixels of those with new content, then the table of all of them."""
        new: dict[str, Image] = {}
        digests: list[str | None] = []
        broken: list[str] = []
        for found in pool.map(partial(self._read, known=places.keys()), files["path"]):
            if isinstance(found, DataError):
                broken.append(str(found))
                digests.append(None)
            else:
                digest, image = found
                if image is not None:
                    new.setdefault(digest, image)
                digests.append(digest)
            task.advance(1)
        shard = hashlib.sha256("".join(new).encode()).hexdigest()[:20]
        if new:
            with atomic_path(self.folder / f"{shard}{_CHECKSUMS}") as part:
                part.write_bytes(np.array([_checksum(image) for image in new.values()], "<u4").tobytes())
            with atomic_path(self.folder / f"{shard}.npy") as part, part.open("wb") as file:
                shape = (len(new), self.image_size, self.image_size, 3)
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                assert file.tell() == _HEADER_BYTES
                for image in new.values():
                    file.write(np.ascontiguousarray(image).data)
        places.update((digest, (shard, position)) for position, digest in enumerate(new))
        table = files.assign(sha256=pd.Series(digests, files.index, dtype=object))[
            ["path", "size", "mtime_ns", "sha256"]
        ].dropna()
        if len(table):
            where = [places[digest] for digest in table["sha256"]]
            table = table.assign(
                path=[self._short(path) for path in table["path"]],
                shard=[name for name, _ in where],
                position=np.array([position for _, position in where], np.int64),
            )
            name = hashlib.sha256(table.to_csv().encode()).hexdigest()[:20]
            write_parquet(self.folder / f"{name}.parquet", table, {"version": FORMAT_VERSION, **self.recipe})
        return broken

    def _read(self, path: str, known: Any) -> tuple[str, Image | None] | DataError:
        """Return the fingerprint of a file's bytes and its pixels unless already stored, or the error of reading it."""
        try:
            data = read_bytes(path)
            digest = hashlib.sha256(data).hexdigest()
            return digest, None if digest in known else decode_at(data, path, self.image_size, self.decode)
        except DataError as err:
            return err

    # ---- reading ------------------------------------------------------------

    def view(self, paths: Sequence[str], threads: int = 1) -> "CacheView | None":
        """Return the cached images of these files, or None if none of them is cached.

        Some are decoded again and compared, since OpenCV of the same version may be built with a different decoder.

        Raises:
            DataError: if they differ. StoreError: if one of them is damaged.
        """
        if not self.exists:
            return None
        located = self._locate(paths, threads, self._index())
        known = np.flatnonzero(located["position"] >= 0)
        if not len(known):
            return None
        shard, position = located["shard"].to_numpy(object), located["position"].to_numpy(np.int64)
        view = CacheView(self.folder, self.image_size, shard, position)
        for row in np.unique(known[np.linspace(0, len(known) - 1, _COMPARED).astype(int)]).tolist():
            kept = view.one(row)
            assert kept is not None
            if not np.array_equal(kept, load_image(paths[row], self.image_size, self.decode)):
                raise DataError(
                    f"{self.folder} has different pixels for {paths[row]} from those decoded now, since it was made by "
                    f"another build of OpenCV or Pillow. Run dfens cache --remove, then dfens cache."
                )
        return view

    def _index(self) -> pd.DataFrame:
        """Return all files listed in the tables whose shards are complete."""
        index = read_tables(self.folder, _COLUMNS, "dfens cache")
        sizes = shard_sizes(self.folder, ".npy")
        whole = [
            shard
            for shard, position in index.groupby("shard")["position"].max().to_dict().items()
            if sizes.get(str(shard), 0) >= _HEADER_BYTES + (position + 1) * self.image_bytes
        ]
        return index[index["shard"].isin(whole)]

    def _locate(self, paths: Sequence[str], threads: int, index: pd.DataFrame) -> pd.DataFrame:
        """Return shard and position of each file, in order; position -1 if it is not in the cache."""
        located = locate_files(file_table(paths, threads), index, self._prefix)
        located["position"] = located["position"].fillna(-1).astype(np.int64)
        return located

    def _short(self, path: str) -> str:
        return str(path).removeprefix(self._prefix)


class CacheView:
    """The cached images of a list of files; any number of threads may read at once.

    Pixels are memory-mapped, so that the kernel keeps the pages in use, and as many others as fit into memory, once for
    all processes of the machine. The checksum of an image is verified when it is first read (0.08 ms for 256 px), here
    or in a process forked from this one; caches of earlier versions have none.
    """

    def __init__(self, folder: Path, size: int, shard: NDArray[np.object_], position: NDArray[np.int64]) -> None:
        names, self._shard = np.unique(np.where(position < 0, "", shard).astype(str), return_inverse=True)
        self._position = position
        self.found = int((position >= 0).sum())
        self._verified = np.frombuffer(mmap.mmap(-1, len(position)), np.uint8)  # shared with processes forked later
        self._open = lru_cache(_MOST_OPEN)(lambda number: _mapped(folder / f"{names[number]}.npy", size))

    def one(self, row: int) -> Image | None:
        """Return the image of a file, (size, size, 3), which must not be modified; None if it is not in the cache.

        Raises:
            StoreError: if it is damaged.
        """
        position = int(self._position[row])
        if position < 0:
            return None
        try:
            shard = self._open(int(self._shard[row]))
        except FileNotFoundError:  # removed since then by dfens cache --remove
            return None
        image: Image = shard.images[position]
        if not self._verified[row]:
            if position < len(shard.checksums) and _checksum(image) != shard.checksums[position]:
                raise StoreError(
                    f"{shard.path} is damaged: the pixels of an image have changed since they were stored. Run dfens "
                    f"cache --remove, then dfens cache."
                )
            self._verified[row] = 1
        return image


@dataclass(frozen=True, eq=False)
class _Shard:
    """A memory-mapped shard: images (n_images, size, size, 3), and a checksum of each, or none."""

    path: Path
    images: Images
    checksums: NDArray[np.uint32]


def _mapped(path: Path, size: int) -> _Shard:
    """Return a shard; its header, which may be damaged, is not needed."""
    count = (path.stat().st_size - _HEADER_BYTES) // (size * size * 3)
    images = np.asarray(np.memmap(path, np.uint8, "r", _HEADER_BYTES, (count, size, size, 3)))
    try:
        stored = path.with_suffix(_CHECKSUMS).read_bytes()
    except OSError:
        stored = b""
    return _Shard(path, images, np.frombuffer(stored, "<u4", len(stored) // 4))


def _checksum(image: Image) -> int:
    return zlib.crc32(np.ascontiguousarray(image).data)


def cache_recipe(image_size: int, decode: Decode) -> dict[str, Any]:
    """Return everything that the pixels of a cache depend on, apart from the files."""
    return {
        "version": FORMAT_VERSION,
        "image_size": image_size,
        "decode": decode,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
    }
