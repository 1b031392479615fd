"""Decoded images for training and prediction: kept in memory where they fit, read in threads where not."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from oof.progress import SILENT, Progress
from trainers.decode import load_image
from trainers.settings import Decode

Images = NDArray[np.uint8]
_SHARE_OF_MEMORY = 0.3  # of what is free, for all images of one competition at one size


class ImageBank:
    """Rows of images at one edge, decoded once and kept as uint8 where they fit into memory.

    Threads decode, since OpenCV leaves the interpreter free; nothing is copied between processes.
    """

    def __init__(self, paths: Sequence[str], edge: int, decode: Decode, workers: int) -> None:
        self.paths = list(paths)
        self.edge = edge
        self.decode = decode
        self.pool = ThreadPoolExecutor(max_workers=max(1, workers))
        fits = len(self.paths) * edge * edge * 3 < _SHARE_OF_MEMORY * psutil.virtual_memory().available
        self._kept: Images | None = np.empty((len(self.paths), edge, edge, 3), np.uint8) if fits else None
        self._known = np.zeros(len(self.paths), bool)

    def fill(self, title: str, progress: Progress = SILENT) -> None:
        """Decode everything now, where it is kept at all."""
        if self._kept is None or self._known.all():
            return
        with progress.task(title, total=len(self.paths), unit="image") as task:
            for rows in np.array_split(np.arange(len(self.paths)), max(1, len(self.paths) // 256)):
                self.take(rows)
                task.advance(len(rows))

    def take(self, rows: NDArray[np.intp]) -> Images:
        """Images of some rows, shape (len(rows), edge, edge, 3), RGB."""
        if self._kept is None:
            return np.stack(list(self.pool.map(self._read, rows.tolist())))
        wanted = rows[~self._known[rows]]
        for row, image in zip(wanted, self.pool.map(self._read, wanted.tolist()), strict=True):
            self._kept[row] = image
        self._known[wanted] = True
        return self._kept[rows]

    def _read(self, row: int) -> Images:
        return load_image(Path(self.paths[row]), self.edge, self.decode)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that a fold uses: ids and targets of the bank's images at `positions`."""

    bank: ImageBank
    positions: NDArray[np.intp]
    ids: NDArray[np.object_]
    target: NDArray[np.int8]
