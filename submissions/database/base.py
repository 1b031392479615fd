"""The contract between the ledger and a database."""

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from oof.errors import StoreError, SubmissionError

RESTORE = (
    "Restore it from a backup; without one, move it away and run dfens submissions sync, which imports what Kaggle has."
)


class LockLostError(SubmissionError):
    """The submit lock was lost while in use; the transition was not made."""


class LedgerDamagedError(StoreError):
    """The ledger's file is not a database, or is corrupt."""


class SubmitLock(Protocol):
    """The lock for submitting to one competition, held by one process at a time.

    If the holder dies, the operating system releases a file lock, and the server an advisory lock.
    """

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return file descriptors that share the lock; a child process that inherits them holds it until it exits."""
        ...

    def acquire(self) -> bool:
        """Try to acquire the lock, without waiting."""
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """Begin a write transaction in which the lock is guaranteed to be held.

        Raises:
            LockLostError: if it is not held any more.
        """
        ...

    def release(self) -> None:
        """Release the lock; never raises."""
        ...


class Database(Protocol):
    """A database. All methods may be called concurrently from many processes.

    Errors of the database are converted to `StoreError` with advice for each cause.
    """

    where: str
    """The address to show, without a password."""

    def exists(self) -> bool:
        """Return whether there is anything to read."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """Begin a read transaction; needs no write permission."""
        ...

    def writing(self) -> AbstractContextManager[Connection]:
        """Begin a write transaction, which is on disk when the block succeeds."""
        ...

    def lock(self, competition: str) -> SubmitLock:
        """Return the submit lock of a competition, not yet acquired."""
        ...
