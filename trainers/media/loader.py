"""Prefetch batches in threads: OpenCV releases the interpreter lock, so no processes need to copy images."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oof.errors import TrainingError
from trainers.media.arrays import Image, Rows
from trainers.media.image import read_bytes
from trainers.media.image_gpu import decode_on_device
from trainers.media.image_store import Subset
from trainers.runtime.device_thread import DeviceThread

T = TypeVar("T")
R = TypeVar("R")
MakeRow = Callable[[int], Image]  # index into the rows -> image


class Loader:
    """Prepare uint8 batches in `threads` threads while others are used.

    On CUDA, batches are in pinned memory, from which they are copied to the device while it computes.
    """

    def __init__(self, threads: int, *, pin: bool = False) -> None:
        self._threads = max(1, threads)
        if self._threads > 1:
            cv2.setNumThreads(1)  # otherwise OpenCV wakes threads on all cores for each image
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        self._pin = pin
        self._decoder: DeviceThread | None = None

    def batches(self, plan: Iterable[Rows], shape: tuple[int, ...], make_row: MakeRow) -> Iterator[Tensor]:
        """Yield for each set of rows the images from `make_row`, (len(rows), *shape), uint8, in the same order.

        Two batches are prefetched. An error of `make_row` is raised at its batch.
        """
        return ahead(plan, lambda rows: self._begin(rows, shape, make_row), 2)

    def _begin(self, rows: Rows, shape: tuple[int, ...], make_row: MakeRow) -> Callable[[], Tensor]:
        batch = torch.empty((len(rows), *shape), dtype=torch.uint8, pin_memory=self._pin)
        images = batch.numpy()

        def fill(part: NDArray[np.intp]) -> None:
            for place in part:
                images[place] = make_row(int(rows[place]))

        # parts smaller than a thread's share, so that one slow image does not delay the batch
        parts = np.array_split(
            np.arange(len(rows)),
            min(len(rows), 1 if self._threads == 1 else max(self._threads, min(2 * self._threads, 16))),
        )
        futures: list[Future[None]] = [self._pool.submit(fill, part) for part in parts]

        def wait() -> Tensor:
            for future in futures:
                future.result()
            return batch

        return wait

    def rows(self, plan: Iterable[Rows], rows: Subset, device: torch.device) -> Iterator[Tensor]:
        """Yield for each set of rows their images, (len(rows), size, size, 3), uint8, decoded as set in their store.

        Raises:
            TrainingError: if `decode = "gpu"` is used without a CUDA device.
        """
        store = rows.images
        if store.decode != "gpu":
            return self.batches(plan, (store.size, store.size, 3), plain_row(rows))
        if device.type != "cuda":
            raise TrainingError(
                'decode = "gpu" needs a CUDA device, but this machine has none (see dfens doctor). Set decode = '
                '"area"; a model trained with one decoder should not predict with the other.'
            )
        return ahead(plan, lambda part: self._begin_on_device(part, rows, device), 2)

    def _begin_on_device(self, rowset: Rows, rows: Subset, device: torch.device) -> Callable[[], Tensor]:
        paths = [rows.images.paths[row] for row in rows.positions[rowset]]
        files = [self._pool.submit(read_bytes, path) for path in paths]

        def decode() -> tuple[Tensor, None]:
            return decode_on_device([file.result() for file in files], paths, rows.images.size, device), None

        if self._decoder is None:  # one thread: nvJPEG decodes a whole batch at once
            self._decoder = DeviceThread(device, "nvjpeg")
        decoded = self._decoder.begin(decode)
        return lambda: decoded()[0]

    def close(self) -> None:
        """Stop the threads; unfinished batches are discarded."""
        if self._decoder is not None:
            self._decoder.close()
        self._pool.shutdown(wait=True, cancel_futures=True)


def ahead(items: Iterable[T], begin: Callable[[T], Callable[[], R]], count: int) -> Iterator[R]:
    """Start `count` items before waiting for the first, and keep this number running."""
    started: deque[Callable[[], R]] = deque()
    for item in items:
        started.append(begin(item))
        if len(started) > count:
            yield started.popleft()()
    while started:
        yield started.popleft()()


def batch_plan(count: int, size: int) -> list[Rows]:
    """Return the indices 0 to count - 1 in order, in batches of at most `size`."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def plain_row(rows: Subset) -> MakeRow:
    """Return a function that returns the unchanged image of a row."""
    positions = rows.positions
    return lambda row: rows.images[int(positions[row])]
