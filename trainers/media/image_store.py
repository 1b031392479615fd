"""Decoded images for training and prediction: as many as fit are kept in memory, the rest are read from files."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oof.progress import SILENT, Progress
from trainers.media.arrays import Image, Images
from trainers.media.image import load_image
from trainers.media.settings import DeviceDecode
from trainers.runtime.memory import free_memory

SHARE_OF_MEMORY = 0.3  # fraction of the free memory for all images of one competition at one size


class Cache(Protocol):
    """Resized images on disk (trainers/media/image_cache.py). found: number of the store's images in it."""

    found: int

    def one(self, row: int) -> Image | None:
        """Return the image at a position of the store, or None if it is not cached."""


class ImageStore:
    """Images of one size; as many as fit into memory, from the first on, are decoded once and kept as uint8.

    Thread-safe: any number of threads may read images at once.

    Args:
        paths: paths of the files.
        size: edge length in pixels.
        decode: decoder; "gpu" decodes whole batches elsewhere (trainers/media/loader.py).
        threads: number of decoding threads of `fill` and `take`.
        keep: whether to keep decoded images; None: as many of the first ones as fit into a share of the free memory, or
            none if all are cached. Other images are decoded each time, prefetched ahead of use.
        cache: source of resized images, used instead of the files for the images that it contains.
        share: fraction of the free memory that the images may use.

    kept: number of images that are kept, from the first on.
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
        """Description of where images are read from, for the records."""
        way = f"{self.decode} at {self.size} px"
        if self.kept:
            way += f", {self.kept} of {len(self.paths)} kept in memory"
        if self._cache is None:
            return f"files, {way}"
        return f"cache ({self._cache.found} of {len(self.paths)} images), {way}"

    def fill(self, title: str, progress: Progress = SILENT) -> None:
        """Decode the images that are kept."""
        missing = np.flatnonzero(~self._known)
        if not len(missing):
            return
        with progress.task(title, total=len(missing), unit="image") as task:
            for rows in np.array_split(missing, max(1, len(missing) // 256)):
                self.take(rows)
                task.advance(len(rows))

    def take(self, rows: NDArray[np.intp]) -> Images:
        """Return the images of some rows, shape (len(rows), size, size, 3), RGB."""
        found = np.empty((len(rows), self.size, self.size, 3), np.uint8)
        if len(rows):
            with ThreadPoolExecutor(self.threads) as pool:
                for place, image in enumerate(pool.map(self.__getitem__, rows.tolist())):
                    found[place] = image
        return found

    def __getitem__(self, row: int) -> Image:
        """Return one image, shape (size, size, 3), RGB, which must not be modified."""
        if row < self.kept and self._known[row]:
            kept: Image = self._kept[row]
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
    """The rows of a fold: ids and targets of the images at `positions`.

    target: (n_rows,) 0 or 1, or a probability for pseudo-labels.
    weight: (n_rows,) float32, weight of each row in the loss; None: all equal.
    originals: (n_rows,) id of the real image that a fake was made from, "" if unknown; None: unknown for all.
    """

    images: ImageStore
    positions: NDArray[np.intp]
    ids: NDArray[np.object_]
    target: NDArray[np.int8] | NDArray[np.float32]
    weight: NDArray[np.float32] | None = None
    originals: NDArray[np.object_] | None = None
