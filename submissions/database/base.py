"""The contract between the ledger and a database."""

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from oof.errors import StoreError, SubmissionError


class LockLostError(SubmissionError):
    """The right to submit was lost while it was in use; the transition was not made."""


class LedgerDamagedError(StoreError):
    """The ledger's file is not a database, or is corrupt."""


class SubmitLock(Protocol):
    """The right to submit to one competition, held by one process at a time.

    A holder that dies gives it up: the operating system frees a file lock, the server frees an advisory lock.
    """

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that hold the lock too; a child process that inherits them holds it until it ends."""
        ...

    @property
    def outlives_sender(self) -> bool:
        """Whether the lock, once free, proves that the client of the last holder has ended."""
        ...

    def acquire(self) -> bool:
        """Try to take the lock, without waiting."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """Begin a write transaction in which the lock is surely held.

        Raises:
            LockLostError: it is not held any more.
        """
        ...

    def release(self) -> None:
        """Give the lock up; never raises."""
        ...


class Database(Protocol):
    """One database. All methods may be called from many processes at once.

    Errors of the database become `StoreError` with one remedy for each cause.
    """

    where: str
    """The address to show, without a password."""

    def exists(self) -> bool:
        """Whether there is anything to read."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Begin a read transaction; needs no right to write."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """Begin a write transaction; on disk when the block ends well."""
        ...

    def lock(self, competition: str) -> SubmitLock:
        """The right to submit to a competition, not taken yet."""
        ...
