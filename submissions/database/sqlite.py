"""A ledger in one SQLite file, for the processes of one machine; its lock is a file beside it."""

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy import event as events
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from oof.errors import StoreError
from submissions.database.base import LedgerDamagedError, LockLostError

_BUSY_S = 60.0
_FULL_BYTES = 1 << 20  # a disk with less free than this is full, whatever SQLite calls the error
_NO_FILE_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class SqliteDatabase:
    """A file in WAL mode; each commit is synchronised to disk. Keep it off network drives.

    PATH           the ledger
    PATH.lock      held by the process that submits; empty
    PATH-wal, PATH-shm   of SQLite, while the file is open

    Args:
        path: resolved, so that two names of one file share one lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        self._writer = _engine(lambda: _connect_to_write(path), "BEGIN IMMEDIATE")
        self._reader = _engine(lambda: _connect_to_read(path), "BEGIN")

    def exists(self) -> bool:
        """Whether there is a file."""
        with self._explained():
            return self.path.exists() and (self.path.is_dir() or self.path.stat().st_size > 0)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a read transaction; a file that may not be written can be read."""
        with self._explained(), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Begin a write transaction, making the file if there is none."""
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_nlink > 1:
                raise StoreError(
                    f"The ledger {self.where} has several hard links, so two programs could write it unseen by each "
                    f"other. Keep one of its names (ls -i, find -samefile), or link it with ln -s."
                )
            with self._writer.connect() as connection, connection.begin():
                yield connection

    def lock(self, competition: str) -> "FileLock":
        """One lock for the whole file: competitions that share a ledger wait for each other."""
        return FileLock(self)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as err:
            raise self._error(err.orig if isinstance(err.orig, Exception) else err) from err
        except (sqlite3.Error, SQLAlchemyError, OSError) as err:
            raise self._error(err) from err

    def _error(self, err: Exception) -> StoreError:
        """The error in words, with what helps in this very case."""
        reason = err.strerror if isinstance(err, OSError) and err.strerror else " ".join(str(err).split())
        name = getattr(err, "sqlite_errorname", "") or ""
        head = f"The ledger {self.where} cannot be used: {reason.rstrip('.?')}."
        number = err.errno if isinstance(err, OSError) else 0
        if name in ("SQLITE_NOTADB",) or name.startswith("SQLITE_CORRUPT"):
            return LedgerDamagedError(
                f"{head} The file was cut or is not a ledger. Restore it from a backup; without one, move it away and "
                f"run dfens submissions sync, which lists again what Kaggle has."
            )
        is_full = name == "SQLITE_FULL" or number in (errno.ENOSPC, errno.EDQUOT)
        if is_full or (name.startswith("SQLITE_IOERR") and self._full()):
            return StoreError(f"{head} Its disk is full. Free space, then run the same command again.")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(f"{head} Another program has been writing to it for {_BUSY_S:g} s. End it, or wait.")
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")) or number:
            return StoreError(
                f"{head} The user who runs dfens must be able to write the file, {self.path.name}.lock and the folder "
                f"{self.path.parent}: correct their owner or rights. PostgreSQL needs no such rights."
            )
        if name.startswith("SQLITE_IOERR"):
            return StoreError(f"{head} Check the disk; SQLite does not work on most network drives.")
        return StoreError(head)

    def _full(self) -> bool:
        with contextlib.suppress(OSError):
            return shutil.disk_usage(self.path.parent).free < _FULL_BYTES
        return False


class FileLock:
    """A lock on the file PATH.lock, shared with child processes by its descriptor."""

    outlives_sender = True  # a client that still runs holds the descriptor, and the lock with it

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._path = database.path.with_name(database.path.name + ".lock")
        self._descriptor = -1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The locked file."""
        return (self._descriptor,)

    def acquire(self) -> bool:
        """Try to lock the file that has the name now."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = _open_lock(self._path)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError as err:
            self.release()
            if err.errno in _NO_FILE_LOCKS:
                raise StoreError(
                    f"The file system of {self._path} cannot lock files ({err.strerror}). Keep the ledger on a local "
                    f"disk, or in PostgreSQL ([submissions] ledger)."
                ) from err
            raise StoreError(
                f"{self._path} cannot be opened for locking ({err.strerror}). Correct the owner or rights of it and "
                f"of its folder."
            ) from err
        if not self._is_current():
            self.release()
            return False  # the file was replaced between the two calls
        return True

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a write transaction, if the locked file is still the one that others would lock."""
        with self._database.writing() as connection:
            if not self._is_current():
                raise LockLostError(
                    f"{self._path} was removed or replaced while dfens was at work, so another dfens submit may have "
                    f"begun. Never remove that file."
                )
            yield connection

    def release(self) -> None:
        """Close the file, which frees the lock unless a child process still holds it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _is_current(self) -> bool:
        try:
            held, there = os.fstat(self._descriptor), self._path.stat()
        except OSError:
            return False
        return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # of a team mate: it can be locked all the same


def _engine(connect: "object", begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    # the driver would begin and end transactions at its own will; a read that becomes a write fails at once where
    # another writes, while BEGIN IMMEDIATE waits its turn
    events.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _connect_to_write(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # in WAL the default may lose the last step in a power cut
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection for reading: without the right to write, the log that WAL needs may not be makeable."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    address = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise  # what the log holds would be missing
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    return connection
