"""Prepare batches in processes, for training on a GPU.

Threads share one interpreter lock. On a CPU that does not matter, since a step of training takes long; on a GPU, the
thread that starts its work waits for the threads that decode, which halved the speed of training.
"""

import contextlib
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
from trainers.runtime.memory import free_memory

K = TypeVar("K")
V = TypeVar("V")

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


class ProcessLoader(Generic[K, V]):
    """Prepares batches in processes, which are forked here and last until `close`.

    The processes write into memory that they share with this one, so that batches need not be sent. It is anonymous,
    since the shared memory of containers (/dev/shm) is often limited to 64 MB.

    Args:
        make: fills a tensor with the batch of a key, and returns what else belongs to it; called in the processes,
            which have the state of this process at the time of the fork.
        shape: shape of a batch, uint8.
        processes: number of processes.
    """

    def __init__(self, make: Callable[[K, Tensor], V], shape: tuple[int, ...], processes: int) -> None:
        cv2.setNumThreads(1)  # a fork hangs if OpenCV has a pool of threads; each process has one thread anyway
        self._ahead = _AHEAD * processes
        # one place more than there are batches in preparation, for the one in use
        memory = torch.frombuffer(mmap.mmap(-1, (self._ahead + 1) * int(np.prod(shape))), dtype=torch.uint8)
        self._places = memory.view(self._ahead + 1, *shape)
        self._running: deque[Future[Any]] = deque()
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(processes, context, _begin, (make, self._places, os.getpid()))
        with warnings.catch_warnings():  # Python warns about forks of processes with threads
            warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
            self._pool.submit(os.getpid).result()  # forks all of them now, from this thread

    def batches(self, keys: Sequence[K]) -> Iterator[tuple[Tensor, V]]:
        """Yield the batches of all keys, in the same order.

        The tensor of a batch may only be used until the next one is requested.

        Raises:
            TrainingError: if the system ended a process. Errors of `make` are raised at their batch.
        """
        self._stop()  # what an abandoned pass has started writes into the same places
        done = 0
        for at, key in enumerate(keys):
            with _ended_process_is_named():
                self._running.append(self._pool.submit(_run, at % len(self._places), key))
            if len(self._running) > self._ahead:
                yield self._places[done % len(self._places)], self._result()
                done += 1
        while self._running:
            yield self._places[done % len(self._places)], self._result()
            done += 1

    def _result(self) -> Any:
        with _ended_process_is_named():
            return self._running.popleft().result()

    def _stop(self) -> None:
        """Wait for what is being prepared, and discard it."""
        wait([future for future in self._running if not future.cancel()])
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
_make: Callable[[Any, Tensor], Any]
_shared: Tensor


def _begin(make: Callable[[Any, Tensor], Any], places: Tensor, parent: int) -> None:
    """Prepare a process, which ends when its parent ends it or no longer exists."""
    global _make, _shared
    _make, _shared = make, places
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


def _run(place: int, key: Any) -> Any:
    return _make(key, _shared[place])
