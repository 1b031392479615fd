"""Batches prepared by processes: order, errors, processes that die, memory."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor

from oof.errors import DataError, TrainingError
from trainers.media import process_loader
from trainers.media.process_loader import ProcessLoader, process_count

ROOT = Path(__file__).parents[2]


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

    loader = ProcessLoader(broken, (1,), 2)
    found = loader.batches(range(5))
    next(found)
    next(found)
    with pytest.raises(DataError, match=r"^c\.jpg is empty \(0 bytes\)$"):
        next(found)
    loader.close()


def test_an_unexpected_error_keeps_its_type() -> None:
    def broken(key: int, batch: Tensor) -> None:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="^size mismatch$"):
        list(ProcessLoader(broken, (1,), 2).batches(range(5)))


def test_a_process_ended_by_the_system_is_reported() -> None:
    def killed(key: int, batch: Tensor) -> None:
        if key == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"ended by the system, usually because the memory was full\. Set smaller"):
        list(ProcessLoader(killed, (1,), 2).batches(range(5)))


def test_a_process_ended_between_two_batches_is_reported() -> None:
    loader = ProcessLoader(fill, (1,), 2)
    found = loader.batches(range(1000))
    next(found)
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    with pytest.raises(TrainingError, match="ended by the system"):
        list(found)


def test_the_processes_end_when_their_loader_is_closed() -> None:
    before = set(multiprocessing.active_children())
    loader = ProcessLoader(fill, (4, 3), 3)
    assert len(list(loader.batches(range(4)))) == 4
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 3
    loader.close()
    assert not started & set(multiprocessing.active_children())


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_stop_request_to_all_processes_does_not_end_those_that_prepare_batches() -> None:
    def ask(key: int, batch: Tensor) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return key

    loader = ProcessLoader(ask, (1,), 2)
    assert [value for _, value in loader.batches(range(6))] == list(range(6))
    loader.close()


PARENT = """
import multiprocessing, sys, time

from trainers.media.process_loader import ProcessLoader


def fill(key, batch):
    return key


loader = ProcessLoader(fill, (4,), 2)
next(loader.batches(range(1000)))
print(*(process.pid for process in multiprocessing.active_children()), flush=True)
time.sleep(3600)
"""


def test_the_processes_end_if_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.kill()
    psutil.wait_procs(children)  # without a limit: the suite has one


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
