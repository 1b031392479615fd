"""The ledger: every submission and every attempt, in SQLite or PostgreSQL, safe for many processes at once.

A ledger is one table (`submissions.migrations`). By default it is the file
work/submissions/ledger.sqlite (WAL; keep it off network drives); a team shares one by URL.
An entry is written before anything is sent and committed to disk at each step, so that after
`kill -9` or a power cut the next run knows what may have happened.
"""

import builtins
import contextlib
import dataclasses
import fcntl
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256 as sha256_of
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    select,
    text,
    types,
    update,
)
from sqlalchemy import event as events
from sqlalchemy.engine import URL, Connection, Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from oof.errors import ConfigError, StoreError, SubmissionError
from submissions.entry import IN_DOUBT, Entry, Status
from submissions.migrations import STEPS, migrate

_BUSY_S = 60
_CONNECT_S = 15
_LOOK_S = 0.1


class _Utc(types.TypeDecorator[datetime]):
    """A time with its zone, stored as UTC without one, since SQLite knows no zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


_REAL, _TIMES = {"score", "nested_score", "public_score", "private_score"}, {"created", "updated", "submitted"}
_WHOLE = {"bytes", "rows", "ref", "kernel_version"}


def _column(name: str) -> Column[Any]:
    if name == "key":
        return Column(name, String, primary_key=True)
    if name in _TIMES:
        return Column(name, _Utc)
    if name in _REAL:
        return Column(name, Double)
    if name in _WHOLE:
        return Column(name, BigInteger)
    if name == "provenance":
        return Column(name, JSON)
    return Column(name, Boolean if name == "git_dirty" else String)


_FIELDS = tuple(field.name for field in dataclasses.fields(Entry))
_TABLE = Table("submissions", MetaData(), *(_column(name) for name in _FIELDS))


def new_key() -> str:
    """A key for a new entry."""
    return uuid.uuid4().hex


class Ledger:
    """The ledger at a path (SQLite) or URL (SQLite, PostgreSQL); its tables are made or brought up to date at once.

    All methods may be called from many processes. Each change is one transaction, on disk when the
    method returns.

    Raises:
        ConfigError: a URL that is none, or whose driver is not installed.
        StoreError: a file that is no ledger, a server that can't be reached, a ledger of a newer dfens.
    """

    def __init__(self, url: str | Path) -> None:
        self._url = _parsed(url)
        self.where = self._url.render_as_string(hide_password=True)
        """The address, without password."""
        self._path = Path(self._url.database) if self._sqlite and self._url.database else None
        if self._path is not None:
            self.where = str(self._path)
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._engine = self._make_engine()
        with self._transaction(write=True) as connection:
            migrate(connection, self.where)

    @property
    def _sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _make_engine(self) -> Engine:
        if not self._sqlite:
            try:
                return create_engine(self._url, poolclass=NullPool, connect_args={"connect_timeout": _CONNECT_S})
            except (ImportError, NoSuchModuleError) as err:
                raise ConfigError(
                    f"[submissions] ledger = {self.where!r} needs a driver that is not installed ({err}). "
                    f"Run pip install 'dfens[postgres]' and write the address as postgresql+psycopg://…"
                ) from err
        engine = create_engine(self._url, poolclass=NullPool, connect_args={"timeout": _BUSY_S})
        events.listen(engine, "connect", _sqlite_connect)
        events.listen(engine, "begin", _sqlite_begin)
        return engine

    @contextlib.contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        with (
            self._told(),
            self._engine.connect().execution_options(dfens_write=write) as connection,
            connection.begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn the database's errors into dfens' own."""
        try:
            yield
        except DatabaseError as err:
            raise StoreError(
                f"The ledger {self.where} cannot be used: {' '.join(str(err.orig).split()).rstrip('.?')}. "
                + (
                    "If the file was cut or is no ledger, move it away; dfens submissions sync fills a new one "
                    "with what Kaggle knows."
                    if self._sqlite
                    else "Check that the server runs, and the address in [submissions] ledger."
                )
            ) from err
        except SQLAlchemyError as err:
            raise StoreError(f"The ledger {self.where} cannot be used: {err}.") from err

    # ---- entries ------------------------------------------------------------

    def add(self, entry: Entry) -> Entry:
        """Write a new entry."""
        with self._transaction(write=True) as connection:
            connection.execute(insert(_TABLE).values(_row(entry)))
        return entry

    def update(self, key: str, **changes: Any) -> Entry:
        """Change fields of an entry, and its time `updated`; the entry as it is now.

        Raises:
            StoreError: no such entry.
        """
        unknown = set(changes) - set(_FIELDS) | {"key"} & set(changes)
        if unknown:
            raise TypeError(f"An entry has no field {', '.join(sorted(unknown))} to change.")
        changes = {"updated": datetime.now(UTC), **changes}
        with self._transaction(write=True) as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.key == key).values(changes))
            row = connection.execute(select(_TABLE).where(_TABLE.c.key == key)).one_or_none()
        if row is None:
            raise StoreError(f"The ledger {self.where} has no entry {key}. Run dfens submissions list.")
        return _entry(row)

    def get(self, name: str | int, competition: str | None = None) -> Entry:
        """The entry of a ref (Kaggle's number) or of a key, which may be shortened to 6 digits or more.

        Raises:
            SubmissionError: none, or several.
        """
        wanted = str(name).strip().lower()
        found = [entry for entry in self.list(competition) if str(entry.ref or "") == wanted]
        if not found and len(wanted) >= 6:
            found = [entry for entry in self.list(competition) if entry.key.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(entry.name for entry in self.list(competition)[-5:])
        raise SubmissionError(
            f"The ledger has {len(found) or 'no'} submission {wanted!r}; the last ones are {known or 'none'}. "
            f"Run dfens submissions list, or dfens submissions sync for what was submitted elsewhere."
        )

    def list(self, competition: str | None = None, status: Sequence[Status] | None = None) -> builtins.list[Entry]:
        """Entries, oldest first."""
        query = select(_TABLE).order_by(_TABLE.c.created, _TABLE.c.key)
        if competition is not None:
            query = query.where(_TABLE.c.competition == competition)
        if status is not None:
            query = query.where(_TABLE.c.status.in_(status))
        with self._transaction(write=False) as connection:
            return [_entry(row) for row in connection.execute(query)]

    def find_sha(self, competition: str, sha256: str) -> builtins.list[Entry]:
        """Entries of these bytes that are on Kaggle, or may be."""
        return [entry for entry in self.list(competition) if entry.sha256 == sha256 and entry.status != "failed"]

    def in_doubt(self, competition: str) -> builtins.list[Entry]:
        """Entries of which it is not known yet whether Kaggle has them."""
        return self.list(competition, IN_DOUBT)

    # ---- one at a time ------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(
        self, competition: str, limit_s: float, on_wait: Callable[[], None] | None = None
    ) -> Iterator[tuple[int, ...]]:
        """Hold the right to submit to a competition; others wait, and a dead holder's right is free at once.

        Within it the allowance that Kaggle tells is this process's alone, and an entry in doubt is
        that of a process that died. SQLite: a lock on the file LEDGER.lock; PostgreSQL: an advisory
        lock of a session.

        Args:
            limit_s: how long to wait for another holder, seconds.
            on_wait: called once when the right is not free at once.

        Yields:
            File descriptors that hold the lock too; given to a child process, they keep the right until it ends.

        Raises:
            SubmissionError: another process holds it for longer than `limit_s`.
        """
        with contextlib.ExitStack() as stack:
            take, held = self._lock(competition, stack)
            deadline = time.monotonic() + limit_s
            waited = False
            while not take():
                if not waited and on_wait is not None:
                    on_wait()
                waited = True
                if time.monotonic() > deadline:
                    raise SubmissionError(
                        f"Another dfens submit has been at work on {self.where} for more than {limit_s:g} s. "
                        f"Wait for it or end it, then run the same command again."
                    )
                time.sleep(_LOOK_S)
            yield held

    def _lock(self, competition: str, stack: contextlib.ExitStack) -> tuple[Callable[[], bool], tuple[int, ...]]:
        if self._path is not None:
            file = stack.enter_context(self._path.with_name(self._path.name + ".lock").open("a"))
            return lambda: _flock(file.fileno()), (file.fileno(),)
        with self._told():
            connection = stack.enter_context(self._engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
        number = int.from_bytes(sha256_of(f"dfens {competition}".encode()).digest()[:8], "big", signed=True)
        stack.callback(lambda: _unlock(connection, number))

        def take() -> bool:
            with self._told():
                return bool(connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": number}).scalar_one())

        return take, ()


def _parsed(url: str | Path) -> URL:
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(url))
    try:
        found = make_url(url)
        if found.get_backend_name() in ("sqlite", "postgresql"):
            return found
        problem = f"{found.get_backend_name()} is not known"
    except ArgumentError as err:
        problem = str(err)
    raise ConfigError(
        f"[submissions] ledger is no address that dfens can use ({problem}). "
        f"Expected a path, sqlite:///path, or postgresql+psycopg://user@host/database."
    )


def _sqlite_connect(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # the driver would begin and end transactions at its own will
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # in WAL the default may lose the last step in a power cut
    cursor.close()


def _sqlite_begin(connection: Connection) -> None:
    # a read that becomes a write fails at once where another writes; to begin as a writer waits its turn
    write = connection.get_execution_options().get("dfens_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(connection: Connection, number: int) -> None:
    with contextlib.suppress(SQLAlchemyError):  # a connection that is gone holds nothing
        connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": number})


def _row(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _FIELDS} | {"provenance": dict(entry.provenance)}


def _entry(row: Any) -> Entry:
    return Entry(**cast(dict[str, Any], row._mapping))


VERSION = len(STEPS)
