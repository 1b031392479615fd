"""A ledger in one SQLite file, for the processes of one machine; its lock is a file next to it."""

import contextlib
import errno
import fcntl
import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy import event as events
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from oof.errors import DISK_FULL, StoreError, write_remedy
from submissions.database.base import RESTORE, LedgerDamagedError, LockLostError

_BUSY_S = 60.0
_FULL_BYTES = 1 << 20  # a disk with less free space is considered full, whatever error SQLite reports
_NO_FILE_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class SqliteDatabase:
    """A file in WAL mode; each commit is synchronised to disk. Keep it off network drives.

    PATH           the ledger
    PATH.lock      empty; locked by the process that submits
    PATH-wal, PATH-shm   created by SQLite while the file is open

    Args:
        path: canonical path, so that two names of one file share one lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        self._writer = _engine(lambda: _connect_to_write(path), "BEGIN IMMEDIATE")
        self._reader = _engine(lambda: _connect_to_read(path), "BEGIN")

    def exists(self) -> bool:
        """Return whether the file exists."""
        with self._explained():
            return self.path.exists() and (self.path.is_dir() or self.path.stat().st_size > 0)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a read transaction; needs no write permission."""
        with self._explained(), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Begin a write transaction, creating the file if necessary."""
        with self._explained():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_nlink > 1:
                raise StoreError(
                    f"The ledger {self.where} has several hard links, so two programs could write it without noticing "
                    f"each other. Keep only one of its names (ls -i, find -samefile), or use symbolic links (ln -s)."
                )
            with self._writer.connect() as connection, connection.begin():
                yield connection

    def lock(self, competition: str) -> "FileLock":
        """Return the lock of the whole file: competitions that share a ledger wait for each other."""
        return FileLock(self)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DatabaseError as err:
            raise self.explain(err.orig if isinstance(err.orig, Exception) else err) from err
        except (sqlite3.Error, SQLAlchemyError, OSError) as err:
            raise self.explain(err) from err

    def explain(self, err: Exception) -> StoreError:
        """Return the error for a failed operation, with the remedy for its cause."""
        reason = err.strerror if isinstance(err, OSError) and err.strerror else " ".join(str(err).split())
        name = getattr(err, "sqlite_errorname", "") or ""
        head = f"The ledger {self.where} cannot be used: {reason.rstrip('.?')}."
        number = err.errno if isinstance(err, OSError) else 0
        if obstacle := self._obstacle():
            return StoreError(f"{head} {obstacle}")
        if name == "SQLITE_NOTADB" or name.startswith("SQLITE_CORRUPT"):
            return LedgerDamagedError(f"{head} The file is damaged or is not a ledger. {RESTORE}")
        is_full = name == "SQLITE_FULL" or number in DISK_FULL
        if is_full or (name.startswith("SQLITE_IOERR") and self._full()):
            return StoreError(f"{head} Its disk is full: free space on it.")
        is_refused = name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR"))
        if number == errno.EROFS or (is_refused and self._read_only()):
            return StoreError(f"{head} Its disk is read-only: mount it with write access.")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(f"{head} Another program has been writing to it for {_BUSY_S:g} s. Stop it, or wait.")
        is_denied = name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"))
        if is_denied or isinstance(err, PermissionError):
            return StoreError(
                f"{head} The user who runs dfens must be able to write the file, {self.path.name}.lock and the folder "
                f"{self.path.parent}: correct their owner or permissions. PostgreSQL does not need these."
            )
        if isinstance(err, OSError):
            return StoreError(f"{head} {write_remedy(self.path, err)}")
        if name.startswith("SQLITE_IOERR"):
            return StoreError(f"{head} Check the disk; SQLite does not work on most network drives.")
        if name == "SQLITE_ERROR":  # a column is missing, for example
            return LedgerDamagedError(f"{head} Another program has changed the file. {RESTORE}")
        return StoreError(head)

    def _obstacle(self) -> str:
        """Return what is wrong with a file of the ledger or its name; SQLite reports it as an error of the disk."""
        if self.path.is_dir():
            return f"{self.path} is a folder: move it away, or name a file in it."
        for ending in ("", ".lock", "-wal", "-shm", "-journal"):
            path = self.path.with_name(self.path.name + ending)
            try:
                mode = path.stat().st_mode
            except FileNotFoundError:
                continue
            except OSError as err:
                if err.errno == errno.ENAMETOOLONG:
                    return f"Its name, or that of {path.name[-20:]}, is too long: choose a shorter one."
                return ""
            if not stat.S_ISREG(mode):
                found = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
                return f"{path} is {found}, and not a file: move it away, or choose another name for the ledger."
        return ""

    def _full(self) -> bool:
        """Return whether the disk is full, or a quota or `ulimit -f` is reached, which SQLite does not report."""
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as file:
                file.write(bytes(_FULL_BYTES))
                file.flush()
        except OSError as err:
            return err.errno in DISK_FULL
        return False

    def _read_only(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(os.statvfs(self.path.parent).f_flag & os.ST_RDONLY)
        return False


class FileLock:
    """A lock on the file PATH.lock, shared with child processes through its descriptor."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._path = database.path.with_name(database.path.name + ".lock")
        self._descriptor = -1

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptor of the locked file."""
        return (self._descriptor,)

    def acquire(self) -> bool:
        """Try to lock the file that currently has this name."""
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
            raise self._database.explain(err) from err
        if not self._is_current():
            self.release()
            return False  # the file was replaced between the two calls
        return True

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a write transaction if the locked file is still the one that others would lock."""
        with self._database.writing() as connection:
            if not self._is_current():
                raise LockLostError(
                    f"{self._path} was removed or replaced while dfens was running, so another dfens submit may have "
                    f"started. Never remove this file."
                )
            yield connection

    def release(self) -> None:
        """Close the file, which releases the lock unless a child process still holds it."""
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
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a file owned by a team mate can still be locked


def _engine(connect: "object", begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    # by default the driver decides when transactions begin and end; a read transaction that becomes a write fails at
    # once if another process is writing, while BEGIN IMMEDIATE waits
    events.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _connect_to_write(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # with the default for WAL, the last step may be lost in a power cut
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection for reading; without write permission, the log file for WAL may not be creatable."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    address = f"file:{quote(os.fsencode(path))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise  # the content of the log would be missing
        connection = sqlite3.connect(f"{address}&immutable=1", uri=True, isolation_level=None)
    return connection
