"""Batches prepared by processes: order, errors, processes that die, memory."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from oof.errors import DataError, TrainingError
from trainers.media import process_loader
from trainers.media.process_loader import ProcessLoader, process_count


def fill(key: int, batch: Tensor) -> str:
    """Fill a batch with its key."""
    batch[:] = key
    return f"key {key}"


def test_batches_arrive_in_order_in_every_pass() -> None:
    loader = ProcessLoader(fill, (4, 3), 2)
    for keys in (range(30), range(100, 107), [], [5]):
        found = [(int(batch.float().mean()), value) for batch, value in loader.batches(keys)]
        assert found == [(key, f"key {key}") for key in keys]


def test_a_pass_can_be_abandoned() -> None:
    loader = ProcessLoader(fill, (4, 3), 2)
    for _, (batch, value) in zip(range(3), loader.batches(range(30)), strict=False):
        assert f"key {int(batch[0, 0])}" == value
    assert [int(batch[0, 0]) for batch, _ in loader.batches(range(50, 60))] == list(range(50, 60))


def test_an_error_is_raised_at_its_batch_with_its_own_message() -> None:
    def broken(key: int, batch: Tensor) -> None:
        if key == 2:
            raise DataError("c.jpg is empty (0 bytes)")

    found = ProcessLoader(broken, (1,), 2).batches(range(5))
    next(found)
    next(found)
    with pytest.raises(DataError, match=r"^c\.jpg is empty \(0 bytes\)$"):
        next(found)


def test_a_process_ended_by_the_system_is_reported() -> None:
    def killed(key: int, batch: Tensor) -> None:
        if key == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"ended by the system .*memory was full\. Set smaller batches"):
        list(ProcessLoader(killed, (1,), 2).batches(range(5)))


def test_the_processes_end_with_their_loader() -> None:
    loader = ProcessLoader(fill, (4, 3), 3)
    before = set(multiprocessing.active_children())
    assert len(list(loader.batches(range(4)))) == 4
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 3
    del loader
    gc.collect()
    assert not started & set(multiprocessing.active_children())


def free(count: int) -> Callable[[], int]:
    return lambda: count


def test_the_number_of_processes_is_limited_by_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_loader, "free_memory", free(10**9))
    assert process_count(16, 10**6) == 16
    assert process_count(16, 10**7) == 5  # two batches each in a tenth of the memory
    assert process_count(16, 10**8) == 0
    assert process_count(1, 10**6) == 0


def test_systems_without_fork_and_worker_processes_use_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_loader, "free_memory", free(10**9))
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert process_count(4, 1) == 0
    monkeypatch.undo()
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert process_count(4, 1) == 0


def test_the_memory_of_batches_is_shared() -> None:
    """A batch is filled by another process, and seen here without being sent."""

    def process(key: int, batch: Tensor) -> int:
        return os.getpid()

    loader = ProcessLoader(process, (4,), 2)
    assert all(pid != os.getpid() for _, pid in loader.batches(range(3)))
    assert loader._places.dtype == torch.uint8
