"""A project folder with a ledger and a model of Kaggle in virtual time, for tests with thousands of faults."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from oof.errors import StoreError
from submissions.database import sqlite
from submissions.database.sqlite import FileLock, SqliteDatabase
from submissions.ledger import Ledger
from submissions.sync import sync
from submissions.upload import Submitted, Submitter, new_entry
from tests.support.interleaving import VirtualTime
from tests.support.kaggle_model import ModelClient, ModelKaggle, Plan
from tests.support.submissions import make_table


class Desk:
    """A process in the project folder; others may run before each of its calls and transitions."""

    def __init__(self, project: "Project", plan: Plan | None = None) -> None:
        self.project = project
        self.client = ModelClient(project.kaggle, plan)
        self.ledger = Ledger(project.folder / "ledger.sqlite")
        self.locks: list[FileLock] = []
        self._plain_move = self.ledger.move
        database = cast(SqliteDatabase, self.ledger._database)
        self._plain_lock, self._plain_writing = database.lock, database.writing
        self._writes_left: int | None = None
        self._shares_lock = False
        self.ledger.move = self._move  # type: ignore[method-assign]
        database.lock, database.writing = self._lock, self._writing  # type: ignore[method-assign]

    def submit(self, value: float = 0.5, **options: Any) -> Submitted:
        """Submit the table with a value."""
        submitter = Submitter(ledger=self.ledger, client=cast(Any, self.client), **options)
        entry = new_entry("model", blend="b7", message="b7")
        folder = self.project.folder / "sent"
        return submitter.submit_table(make_table(value=value), entry, root=self.project.folder, folder=folder)

    def sync(self) -> None:
        """Read Kaggle's list into the ledger."""
        sync(self.ledger, cast(Any, self.client))

    def fill_disk_after(self, writes: int) -> None:
        """Set the number of further writes of the ledger that succeed."""
        self._writes_left = writes

    def share_lock(self) -> None:
        """Acquire the lock although another process has it, as on a network drive with a lock for each machine."""
        self._shares_lock = True

    def free_locks(self) -> None:
        """Release the locks that the process held when it was killed, as the system does."""
        for lock in self.locks:
            with contextlib.suppress(OSError):
                if os.fstat(lock._descriptor).st_ino == lock._path.stat().st_ino:
                    os.close(lock._descriptor)
        self.locks.clear()

    def _move(self, *args: Any, **more: Any) -> Any:
        self.project.time.pause()
        return self._plain_move(*args, **more)

    def _lock(self, competition: str) -> FileLock:
        lock = self._plain_lock(competition)
        if self._shares_lock:
            lock._path.touch()
            lock._descriptor = os.open(lock._path, os.O_RDWR)
            lock.acquire = lambda: True  # type: ignore[method-assign]
        self.locks.append(lock)
        return lock

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Any]:
        if self._writes_left is not None:
            if self._writes_left <= 0:
                raise StoreError("Its disk is full.")
            self._writes_left -= 1
        with self._plain_writing() as connection:
            yield connection


class Project:
    """A folder, Kaggle, and virtual time in every module that waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.time = VirtualTime()
        self.kaggle = ModelKaggle(self.time)
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(sqlite, "_connect_to_write", _without_sync)  # not needed for killed processes
        self._patch.setattr("oof.files.os.fsync", lambda descriptor: None)
        self._patch.setattr("submissions.ledger._LOOK_S", 10.0)
        for module in ("upload", "reconcile", "ledger"):
            self._patch.setattr(f"submissions.{module}.time", self.time)
        self._desk = Desk(self)
        self.ledger = self._desk.ledger

    def submit(self, value: float = 0.5, **options: Any) -> Submitted:
        """Submit in a separate process."""
        self._desk.client = ModelClient(self.kaggle)
        return self._desk.submit(value, **options)

    def sync(self) -> None:
        """Synchronize in a separate process."""
        Desk(self, Plan()).sync()

    def end_process(self) -> None:
        """Release the locks of the process that was killed in `submit`."""
        self._desk.free_locks()

    def close(self) -> None:
        """Restore the module `time`."""
        self._patch.undo()

    def check_reconciled(self) -> None:
        """Check that every entry has a final state that agrees with Kaggle."""
        assert self.ledger.in_doubt("model") == []
        on_kaggle = {item.ref: item.file_name for item in self.kaggle.submissions}
        recorded = {e.ref: e.file_name for e in self.ledger.list("model") if e.on_server}
        assert recorded == on_kaggle


def _without_sync(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    return connection
