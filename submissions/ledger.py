"""The ledger: every submission and every attempt, in SQLite or PostgreSQL, safe for many processes at once.

A ledger is one table (`submissions.migrations`). By default it is the file
work/submissions/ledger.sqlite; a team shares one by URL. An entry is written before anything is
sent and committed to disk at each step, so that after `kill -9` or a power cut the next run knows
what may have happened. The steps are defined in `submissions.states`.
"""

import builtins
import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Double,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    types,
    update,
)
from sqlalchemy.engine import Dialect

from oof.errors import StoreError, SubmissionError
from submissions.database.address import open_database
from submissions.database.base import RESTORE, LedgerDamagedError, SubmitLock
from submissions.entry import Entry, check_provenance
from submissions.migrations import STEPS, migrate, read_version
from submissions.states import IN_DOUBT, TRANSITIONS, Status

VERSION = len(STEPS)
_LOOK_S = 0.1
_ENTRY = TypeAdapter(Entry)  # SQLite stores values of any type in any column


class _Utc(types.TypeDecorator[datetime]):
    """A time with time zone, stored as UTC without one, since SQLite does not support time zones."""

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
    """Return a key for a new entry."""
    return uuid.uuid4().hex


class OvertakenError(SubmissionError):
    """An entry is not in the state required by a transition, since another process has changed it to `current`."""

    def __init__(self, message: str, current: Entry) -> None:
        super().__init__(message)
        self.current = current


class Ledger:
    """The ledger at a path or URL; its table is created with the first entry, and migrated when it is opened.

    All methods may be called from many processes. Each change is one transaction, on disk when the method returns.
    Reading needs no write permission.

    Args:
        address: a path (SQLite) or a URL for SQLite or PostgreSQL.
        folder: base of relative paths.

    Raises:
        ConfigError: if the address is invalid, or its driver is not installed.
        StoreError: if a file is not a ledger, a server cannot be reached, or the ledger is of a newer dfens.
    """

    def __init__(self, address: str | Path, folder: Path = Path()) -> None:
        self._database = open_database(address, folder)
        self.where = self._database.where
        """The address to display, without a password."""
        self._version = self._read_version()
        if self._version is not None and self._version < VERSION:
            with self._writing():
                pass  # migrates it

    def _read_version(self) -> int | None:
        if not self._database.exists():
            return None
        with self._database.reading() as connection:
            return read_version(connection, self.where)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        current = self._version == VERSION and self._database.exists()
        with self._database.writing() as connection:
            if not current:
                migrate(connection, self.where)
            yield connection
        self._version = VERSION

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection | None]:
        """Yield a connection, or None if there is no table yet."""
        if self._version is None:
            self._version = self._read_version()
        if self._version is None or not self._database.exists():
            yield None
            return
        with self._database.reading() as connection:
            yield connection

    # ---- entries ------------------------------------------------------------

    def add(self, entry: Entry) -> Entry:
        """Write a new entry.

        Raises:
            SubmissionError: if another entry has the same Kaggle number.
        """
        with self._writing() as connection:
            _check_ref(connection, entry.key, entry.competition, entry.ref)
            connection.execute(insert(_TABLE).values(_row(entry)))
        return entry

    def move(
        self, entry: Entry, transition: str, target: Status, lock: SubmitLock | None = None, **changes: Any
    ) -> Entry:
        """Make one transition of `submissions.states.TRANSITIONS`; return the updated entry.

        Args:
            lock: the lock held by this process, required by a fenced transition.
            changes: further fields to change with the state.

        Raises:
            OvertakenError: if the entry is no longer in a state that the transition starts from.
            LockLostError: if the submit lock is not held any more; nothing was changed.
            StoreError: if the ledger cannot be written. A commit whose response was lost may have been made.
        """
        rule = TRANSITIONS[transition]
        if target not in rule.targets or (rule.fenced and lock is None):
            raise ValueError(f"'{transition}' cannot lead to '{target}' {'without a lock' if lock is None else ''}")
        values = {"updated": datetime.now(UTC), **changes, "status": target}
        with lock.transaction() if rule.fenced and lock is not None else self._writing() as connection:
            _check_ref(connection, entry.key, entry.competition, changes.get("ref"))
            where = (_TABLE.c.key == entry.key, _TABLE.c.status.in_(rule.sources))
            moved = connection.execute(update(_TABLE).where(*where).values(values)).rowcount
            row = connection.execute(select(_TABLE).where(_TABLE.c.key == entry.key)).one_or_none()
        current = self._found(row, entry.key)
        if moved != 1:
            raise OvertakenError(
                f"The entry {entry.name} is '{current.status}' in the ledger {self.where}, as changed by another "
                f"process; '{transition}' needs {' or '.join(rule.sources)}.",
                current,
            )
        return current

    def update(self, key: str, **changes: Any) -> Entry:
        """Change fields of an entry, and its time `updated`; return the updated entry.

        States change by `move`; setting one here is only for manual repairs.

        Raises:
            StoreError: if there is no such entry.
        """
        unknown = set(changes) - set(_FIELDS) | {"key"} & set(changes)
        if unknown:
            raise TypeError(f"An entry has no field {', '.join(sorted(unknown))} to change.")
        changes = {"updated": datetime.now(UTC), **changes}
        with self._writing() as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.key == key).values(changes))
            row = connection.execute(select(_TABLE).where(_TABLE.c.key == key)).one_or_none()
        return self._found(row, key)

    def _found(self, row: Any, key: str) -> Entry:
        if row is None:
            raise StoreError(f"The ledger {self.where} has no entry {key}. Run dfens submissions list.")
        return _entry(row)

    def get(self, name: str | int, competition: str | None = None) -> Entry:
        """Return the entry with a ref (Kaggle's number) or a key, which may be abbreviated to 6 or more digits.

        Raises:
            SubmissionError: if there is none, or more than one.
        """
        wanted = str(name).strip().lower()
        entries = self.list(competition)
        found = [entry for entry in entries if str(entry.ref or "") == wanted]
        if not found and len(wanted) >= 6:
            found = [entry for entry in entries if entry.key.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(entry.name for entry in entries[-5:])
        raise SubmissionError(
            f"The ledger has {len(found) or 'no'} submission {wanted!r}; the latest are {known or 'none'}. "
            f"Run dfens submissions list, or dfens submissions sync for what was submitted elsewhere."
        )

    def list(self, competition: str | None = None, status: Sequence[Status] | None = None) -> builtins.list[Entry]:
        """Return entries, oldest first."""
        query = select(_TABLE).order_by(_TABLE.c.created, _TABLE.c.key)
        if competition is not None:
            query = query.where(_is_of(competition))
        if status is not None:
            query = query.where(_TABLE.c.status.in_(status))
        with self._reading() as connection:
            try:
                return [] if connection is None else [_entry(row) for row in connection.execute(query)]
            except (TypeError, ValueError) as err:
                raise LedgerDamagedError(
                    f"The ledger {self.where} has an entry that cannot be read ({err}). Another program has changed "
                    f"it. {RESTORE}"
                ) from err

    def find_sha(self, competition: str, sha256: str) -> builtins.list[Entry]:
        """Return the entries with these bytes that are, or may be, on Kaggle."""
        return [entry for entry in self.list(competition) if entry.sha256 == sha256 and entry.status != "failed"]

    def in_doubt(self, competition: str) -> builtins.list[Entry]:
        """Return the entries of which it is unknown whether Kaggle has them."""
        return self.list(competition, IN_DOUBT)

    # ---- lock ---------------------------------------------------------------

    @contextlib.contextmanager
    def exclusive(
        self, competition: str, limit_s: float, on_wait: Callable[[], None] | None = None
    ) -> Iterator[SubmitLock]:
        """Hold the submit lock of a competition; others wait, and the lock of a dead process is released at once.

        Args:
            limit_s: maximum time to wait for another holder, seconds.
            on_wait: called once if the lock is not free immediately.

        Raises:
            SubmissionError: if another process holds it for longer than `limit_s`.
        """
        with self._writing():
            pass  # ensures that the table exists and is writable before anything else is done
        lock = self._database.lock(competition)
        deadline, waited = time.monotonic() + limit_s, False
        try:
            while not lock.acquire():
                if not waited and on_wait is not None:
                    on_wait()
                waited = True
                if time.monotonic() > deadline:
                    raise SubmissionError(
                        f"Another dfens submit has been using {self.where} for more than {limit_s:g} s. "
                        f"Wait for it or stop it, then run the same command again."
                    )
                time.sleep(_LOOK_S)
            yield lock
        finally:
            lock.release()


def _is_of(competition: str) -> ColumnElement[bool]:
    """Return the condition for the entries of a competition, whose name Kaggle accepts in upper and lower case."""
    return func.lower(_TABLE.c.competition) == competition.lower()


def _check_ref(connection: Connection, key: str, competition: str, ref: int | None) -> None:
    """Refuse a Kaggle number that another entry has, with a better message than the database would give."""
    if ref is None:
        return
    columns = _TABLE.c
    query = select(columns.key).where(_is_of(competition), columns.ref == ref, columns.key != key)
    other = connection.execute(query).scalar()
    if other is not None:
        raise SubmissionError(f"Submission {ref} is already in the ledger, as the entry {other[:12]}.")


def _row(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in _FIELDS} | {"provenance": dict(entry.provenance)}


def _entry(row: Any) -> Entry:
    try:
        entry = _ENTRY.validate_python(dict(row._mapping))
    except ValidationError as err:
        problem = err.errors()[0]
        raise ValueError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from err
    check_provenance(entry.provenance)
    return entry
