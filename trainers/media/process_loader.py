"""Prepare batches in processes, for training on a GPU.

Threads share one interpreter lock. On a CPU that does not matter, since a step of training takes long; on a GPU, the
thread that starts its work waits for the threads that decode, which halved the speed of training.
"""

import contextlib
import itertools
import mmap
import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from oof.errors import TrainingError
from trainers.media.arrays import Rows
from trainers.runtime.memory import free_memory

V = TypeVar("V")
# epoch, some rows of a step, their part of the batch, which is to be filled -> what else belongs to each row
Fill = Callable[[int, Rows, Tensor], list[V]]

_AHEAD = 2  # batches that each process prepares ahead
_SHARE_OF_MEMORY = 0.1  # fraction of the free memory for these batches
_PARENT_CHECK_S = 1.0


def process_count(threads: int, batch_bytes: int) -> int:
    """Return how many processes may prepare batches instead of so many threads; 0 if they cannot be used.

    They use a share of the free memory at most. Some systems cannot fork them, and neither can a worker process.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or multiprocessing.current_process().daemon:
        return 0
    able = min(threads, int(_SHARE_OF_MEMORY * free_memory() / (_AHEAD * max(1, batch_bytes))))
    return able if able > 1 else 0


class ProcessLoader(Generic[V]):
    """Prepares batches in processes, which are forked here and last until `close`.

    The processes write into memory that they share with this one, so that batches need not be sent. It is anonymous,
    since the shared memory of containers (/dev/shm) is often limited to 64 MB.

    Args:
        fill: fills a part of a batch; called in the processes, which have the state of this process at the time of the
            fork.
        shape: shape of the largest batch, uint8.
        processes: number of processes.
    """

    def __init__(self, fill: Fill[V], shape: tuple[int, ...], processes: int) -> None:
        cv2.setNumThreads(1)  # a fork hangs if OpenCV has a pool of threads; each process has one thread anyway
        self._processes = processes
        self._ahead = _AHEAD * processes
        # one place more than there are batches in preparation, for the one in use
        memory = torch.frombuffer(mmap.mmap(-1, (self._ahead + 1) * int(np.prod(shape))), dtype=torch.uint8)
        self._places = memory.view(self._ahead + 1, *shape)
        self._running: deque[list[Future[list[V]]]] = deque()  # the parts of each batch
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(processes, context, _prepare, (fill, self._places, os.getpid()))
        with warnings.catch_warnings():  # Python warns about forks of processes with threads
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            self._pool.submit(os.getpid).result()  # forks all of them now, from this thread

    def batches(self, epoch: int, plan: Sequence[Rows]) -> Iterator[tuple[Tensor, list[V]]]:
        """Yield the batch of each step, with what else belongs to its rows.

        Each process prepares a whole batch, except for the first ones, which all processes share, so that a pass does
        not begin with a wait for a whole batch. A batch may only be used until the next one is requested.

        Raises:
            TrainingError: if the system ended a process. Errors of `fill` are raised at their batch.
        """
        self._stop()  # what an abandoned pass has started writes into the same places
        done = 0
        for at, rows in enumerate(plan):
            self._running.append(self._begin(at, epoch, rows))
            if len(self._running) > self._ahead:
                yield self._result(done)
                done += 1
        while self._running:
            yield self._result(done)
            done += 1

    def _begin(self, at: int, epoch: int, rows: Rows) -> list[Future[list[V]]]:
        count = self._processes if at < self._processes else 1
        edges = np.linspace(0, len(rows), min(count, len(rows)) + 1).astype(int).tolist()
        parts = [slice(start, end) for start, end in itertools.pairwise(edges)]
        with _ended_process_is_named():
            return [self._pool.submit(_run, at % len(self._places), part, epoch, rows[part]) for part in parts]

    def _result(self, at: int) -> tuple[Tensor, list[V]]:
        with _ended_process_is_named():
            values = [value for part in self._running[0] for value in part.result()]
        self._running.popleft()
        return self._places[at % len(self._places)][: len(values)], values

    def _stop(self) -> None:
        """Wait for what is being prepared, and discard it."""
        wait([part for parts in self._running for part in parts if not part.cancel()])
        self._running.clear()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _ended_process_is_named() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as err:
        raise TrainingError(
            "A process that decodes images was ended by the system, usually because the memory was full. Set smaller "
            "batches, or fewer decoding processes (--threads). Progress is kept up to the last checkpoint."
        ) from err


# in the processes only
_fill: Fill[Any]
_shared: Tensor


def _prepare(fill: Fill[Any], places: Tensor, parent: int) -> None:
    """Prepare a process, which ends when its parent ends it or no longer exists."""
    global _fill, _shared
    _fill, _shared = fill, places
    torch.set_num_threads(1)  # the threads of the parent do not exist here
    # a stop request to all processes of a group is for the parent, which still needs batches to end a step
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _run(place: int, part: slice, epoch: int, rows: Rows) -> list[Any]:
    return _fill(epoch, rows, _shared[place][part])
