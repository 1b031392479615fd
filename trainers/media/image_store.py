"""Decoded images for training and prediction: as many as fit are kept in memory, the others read from their files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oof.progress import SILENT, Progress
from trainers.media.image import load_image
from trainers.media.settings import DeviceDecode
from trainers.runtime.memory import free_memory

Images = NDArray[np.uint8]
SHARE_OF_MEMORY = 0.3  # of what is free, for all images of one competition at one size


class Cache(Protocol):
    """Resized images on disk, made before (trainers/media/image_cache.py). found: how many of the store's."""

    found: int

    def one(self, row: int) -> Images | None:
        """The image at a position of the store, or None where it is not there."""


class ImageStore:
    """Images of one size; as many of the first ones as fit into memory are decoded once and kept as uint8.

    Any number of threads may ask for images at once.

    Args:
        paths: of the files.
        size: pixels.
        decode: how they are read; by "gpu" not here but as whole batches (trainers/media/loader.py).
        threads: threads that `fill` and `take` decode with.
        keep: whether to keep decoded images; None: the first ones, as many as a share of the free memory can hold, or
            none if the cache holds them all. What is not kept is decoded each time, ahead of its use.
        cache: where resized images come from instead of the files, as far as it has them.
        share: of the free memory that the images may take.

    kept: how many of the images, from the first on, are kept.
    """

    def __init__(
        self,
        paths: Sequence[str],
        size: int,
        decode: DeviceDecode,
        threads: int,
        *,
        keep: bool | None = None,
        cache: Cache | None = None,
        share: float = SHARE_OF_MEMORY,
    ) -> None:
        self.paths = list(paths)
        self.size = size
        self.decode: DeviceDecode = decode
        self.threads = max(1, threads)
        self._cache = cache
        if keep is None and not (cache is not None and cache.found == len(self.paths)):
            self.kept = min(len(self.paths), int(share * free_memory() / self.image_bytes))
        else:
            self.kept = len(self.paths) if keep else 0
        if decode == "gpu":
            self.kept = 0
        self._kept: Images = np.empty((self.kept, size, size, 3), np.uint8)
        self._known = np.zeros(self.kept, bool)

    @property
    def image_bytes(self) -> int:
        """Bytes of one decoded image."""
        return self.size * self.size * 3

    @property
    def source(self) -> str:
        """Where images come from, for the record."""
        way = f"{self.decode} at {self.size} px"
        if self.kept:
            way += f", {self.kept} of {len(self.paths)} kept in memory"
        if self._cache is None:
            return f"files, {way}"
        return f"cache ({self._cache.found} of {len(self.paths)} images), {way}"

    def fill(self, title: str, progress: Progress = SILENT) -> None:
        """Decode what is kept now."""
        missing = np.flatnonzero(~self._known)
        if not len(missing):
            return
        with progress.task(title, total=len(missing), unit="image") as task:
            for rows in np.array_split(missing, max(1, len(missing) // 256)):
                self.take(rows)
                task.advance(len(rows))

    def take(self, rows: NDArray[np.intp]) -> Images:
        """Images of some rows, shape (len(rows), size, size, 3), RGB."""
        found = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        if len(rows):
            with ThreadPoolExecutor(self.threads) as pool:
                for place, image in enumerate(pool.map(self.__getitem__, rows.tolist())):
                    found[place] = image
        return found

    def __getitem__(self, row: int) -> Images:
        """One image, shape (size, size, 3), RGB; not to be written to."""
        if row < self.kept and self._known[row]:
            kept: Images = self._kept[row]
            return kept
        image = None if self._cache is None else self._cache.one(row)
        if image is None:
            assert self.decode != "gpu", "whole batches are decoded on the device"
            image = load_image(Path(self.paths[row]), self.size, self.decode)
        if row < self.kept:
            self._kept[row] = image
            self._known[row] = True
        return image


@dataclass(frozen=True, eq=False)
class Subset:
    """Rows that a fold uses: ids and targets of the images at `positions`.

    target: (n_rows,) 0 or 1, between for pseudo-labels.
    weight: (n_rows,) float32, what each row counts for in the loss; None: all alike.
    originals: (n_rows,) id of the real that a fake was made of, "" where unknown; None: unknown for all.
    """

    images: ImageStore
    positions: NDArray[np.intp]
    ids: NDArray[np.object_]
    target: NDArray[np.int8] | NDArray[np.float32]
    weight: NDArray[np.float32] | None = None
    originals: NDArray[np.object_] | None = None
