"""Prepare batches in processes, for a device that the interpreter lock would keep waiting.

Threads share one interpreter lock. On a CPU that does not matter, since a step of training takes long; on a GPU, the
thread that starts its work would wait for the threads that decode (measured: 0.45 of the speed without them; with
processes, 0.8).
"""

import contextlib
import mmap
import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from oof.errors import DfensError, TrainingError
from trainers.runtime.memory import free_memory

K = TypeVar("K")
V = TypeVar("V")

_AHEAD = 2  # batches that each process prepares ahead
_SHARE_OF_MEMORY = 0.1  # fraction of the free memory for these batches


def process_count(threads: int, batch_bytes: int) -> int:
    """Return how many processes may prepare batches instead of so many threads; 0 if they cannot be used.

    They use a share of the free memory at most. Some systems cannot fork them, and neither can a worker process.
    """
    if "fork" not in multiprocessing.get_all_start_methods() or multiprocessing.current_process().daemon:
        return 0
    able = min(threads, int(_SHARE_OF_MEMORY * free_memory() / (_AHEAD * max(1, batch_bytes))))
    return able if able > 1 else 0


class ProcessLoader(Generic[K, V]):
    """Prepares batches in processes, which are forked for the first batch and last as long as this object.

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
        # one place more than there are batches in preparation, for the one in use
        places = _AHEAD * processes + 1
        memory = torch.frombuffer(mmap.mmap(-1, places * int(np.prod(shape))), dtype=torch.uint8)
        self._places = memory.view(places, *shape)
        self._keys = _Keys(places)
        with _without_warnings():
            self._loader: DataLoader[Any] = DataLoader(
                _Batches(make, self._places), batch_size=None, sampler=self._keys, num_workers=processes,
                collate_fn=_unchanged, prefetch_factor=_AHEAD, persistent_workers=True, multiprocessing_context="fork",
            )  # fmt: skip

    def batches(self, keys: Sequence[K]) -> Iterator[tuple[Tensor, V]]:
        """Start on the batches of all keys; return an iterator over them, in the same order.

        The tensor of a batch may only be used until the next one is requested.

        Raises:
            DfensError: an error of `make`, at its batch.
            TrainingError: if the system ended a process.
        """
        self._keys.keys = keys
        with _without_warnings():
            started = iter(self._loader)
        found = self._results(started)
        return ((self._places[at % len(self._places)], value) for at, value in enumerate(found))

    @staticmethod
    def _results(started: Iterator[Any]) -> Iterator[Any]:
        while True:
            try:
                found = next(started)
            except StopIteration:
                return
            except RuntimeError as err:
                if "DataLoader worker" not in str(err):
                    raise
                raise TrainingError(
                    f"A process that decodes images was ended by the system ({err}), usually because the memory was "
                    f"full. Set smaller batches, or fewer decoding threads (--threads)."
                ) from err
            if isinstance(found, DfensError):
                raise found
            yield found


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress torch's warning about more processes than cores (the user's choice), and Python's about forks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*suggested max number of worker")
        warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning)
        yield


class _Keys(Sampler[Any]):
    """The keys of the batches of one pass, each with the place in memory for its batch."""

    def __init__(self, places: int) -> None:
        self._places = places
        self.keys: Sequence[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return ((at % self._places, key) for at, key in enumerate(self.keys))

    def __len__(self) -> int:
        return len(self.keys)


class _Batches(Dataset[Any]):
    """What `make` returns for a key, or the error that it raised, which the loader would turn into a traceback."""

    def __init__(self, make: Callable[[Any, Tensor], Any], places: Tensor) -> None:
        self._make, self._places = make, places

    def __getitem__(self, item: Any) -> Any:
        place, key = item
        try:
            return self._make(key, self._places[place])
        except DfensError as err:
            return err


def _unchanged(value: V) -> V:
    return value
