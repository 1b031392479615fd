"""Batches prepared by processes: order, errors, processes that die, memory."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from oof.errors import DataError, TrainingError
from trainers.media import process_loader
from trainers.media.arrays import Rows
from trainers.media.process_loader import ProcessLoader, process_count

ROOT = Path(__file__).parents[2]


def fill(epoch: int, rows: Rows, batch: Tensor) -> list[str]:
    """Fill each row of a batch with its number."""
    batch[:] = torch.from_numpy(rows)[:, None]
    return [f"{epoch}: {row}" for row in rows]


def plan(steps: int, size: int = 4) -> list[Rows]:
    """Return the rows of steps; the last row of the last step is left out."""
    return [np.arange(step * size, (step + 1) * size - (step == steps - 1)) for step in range(steps)]


def test_batches_arrive_in_order_in_every_pass() -> None:
    loader = ProcessLoader(fill, (4, 3), 2)
    for epoch, steps in enumerate((30, 7, 0, 1)):
        found = [(batch[:, 0].tolist(), values) for batch, values in loader.batches(epoch, plan(steps))]
        assert found == [(rows.tolist(), [f"{epoch}: {row}" for row in rows]) for rows in plan(steps)]


def test_all_processes_share_the_first_batches() -> None:
    """Else a pass would begin with a wait for one process that prepares a whole batch."""
    loader = ProcessLoader(lambda epoch, rows, batch: [len(rows)] * len(rows), (7,), 3)
    parts = [values for _, values in loader.batches(0, plan(5, 7))]
    assert parts == [[2, 2, 2, 2, 3, 3, 3]] * 3 + [[7] * 7, [6] * 6]


def test_a_pass_can_be_abandoned() -> None:
    loader = ProcessLoader(fill, (4, 3), 2)
    for _, rows, (batch, _) in zip(range(3), plan(30), loader.batches(0, plan(30)), strict=False):
        assert batch[:, 0].tolist() == rows.tolist()
    assert [batch[:, 0].tolist() for batch, _ in loader.batches(1, plan(9))] == [rows.tolist() for rows in plan(9)]


def test_an_error_is_raised_at_its_batch_with_its_own_message() -> None:
    def broken(epoch: int, rows: Rows, batch: Tensor) -> list[None]:
        if 9 in rows:
            raise DataError("c.jpg is empty (0 bytes)")
        return [None] * len(rows)

    loader = ProcessLoader(broken, (4,), 2)
    found = loader.batches(0, plan(5))
    next(found)
    next(found)
    with pytest.raises(DataError, match=r"^c\.jpg is empty \(0 bytes\)$"):
        next(found)
    loader.close()


def test_after_an_error_no_part_of_a_batch_is_still_written() -> None:
    """The places of an abandoned pass are used again by the next one."""

    def slow(epoch: int, rows: Rows, batch: Tensor) -> list[None]:
        if epoch == 0 and 0 in rows:
            raise DataError("a.jpg is empty (0 bytes)")
        time.sleep(0.5 if epoch == 0 else 0)
        batch[:] = 10 + epoch
        return [None] * len(rows)

    loader = ProcessLoader(slow, (4,), 2)
    with pytest.raises(DataError):
        next(loader.batches(0, plan(1)))
    list(loader.batches(1, plan(1)))
    loader.close()
    assert loader._places[0].tolist() == [11, 11, 11, 0]


def test_an_unexpected_error_keeps_its_type() -> None:
    def broken(epoch: int, rows: Rows, batch: Tensor) -> list[None]:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="^size mismatch$"):
        list(ProcessLoader(broken, (4,), 2).batches(0, plan(5)))


def test_a_process_ended_by_the_system_is_reported() -> None:
    def killed(epoch: int, rows: Rows, batch: Tensor) -> list[None]:
        if 9 in rows:
            os.kill(os.getpid(), signal.SIGKILL)
        return [None] * len(rows)

    with pytest.raises(TrainingError, match=r"ended by the system, usually because the memory was full\. Set smaller"):
        list(ProcessLoader(killed, (4,), 2).batches(0, plan(5)))


def test_a_process_ended_between_two_batches_is_reported() -> None:
    loader = ProcessLoader(fill, (4, 1), 2)
    found = loader.batches(0, plan(1000))
    next(found)
    for process in multiprocessing.active_children():
        process.kill()
        process.join()
    with pytest.raises(TrainingError, match="ended by the system"):
        list(found)


def test_the_processes_end_when_their_loader_is_closed() -> None:
    before = set(multiprocessing.active_children())
    loader = ProcessLoader(fill, (4, 3), 3)
    assert len(list(loader.batches(0, plan(4)))) == 4
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 3
    loader.close()
    assert not started & set(multiprocessing.active_children())


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_stop_request_to_all_processes_does_not_end_those_that_prepare_batches() -> None:
    def ask(epoch: int, rows: Rows, batch: Tensor) -> list[int]:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return [int(row) for row in rows]

    loader = ProcessLoader(ask, (4,), 2)
    assert [values for _, values in loader.batches(0, plan(6))] == [rows.tolist() for rows in plan(6)]
    loader.close()


PARENT = """
import multiprocessing, sys, time

import numpy as np

from trainers.media.process_loader import ProcessLoader


def fill(epoch, rows, batch):
    return rows.tolist()


loader = ProcessLoader(fill, (4,), 2)
next(loader.batches(0, [np.arange(4)] * 1000))
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

    def process(epoch: int, rows: Rows, batch: Tensor) -> list[int]:
        return [os.getpid()] * len(rows)

    loader = ProcessLoader(process, (4,), 2)
    assert all(os.getpid() not in pids for _, pids in loader.batches(0, plan(3)))
    assert loader._places.dtype == torch.uint8
