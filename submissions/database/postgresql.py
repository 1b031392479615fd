"""A ledger on a PostgreSQL server, for a team; its lock is an advisory lock of a session."""

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from hashlib import sha256

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from oof.errors import ConfigError, StoreError
from submissions.database.base import LockLostError
from submissions.redaction import Redactor

_CONNECT_S = 15
_ANSWER_S = 15.0  # limit of one transaction, after which an unresponsive server or connection is abandoned
_UNLOCK_S = 5.0
_LIMITS = {
    "connect_timeout": _CONNECT_S,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "options": f"-c statement_timeout={1000 * int(_ANSWER_S)} -c lock_timeout={1000 * int(_ANSWER_S)}",
}
_CHECK_SERVER = "Check that the server is running and can be reached, and check the URL in [submissions] ledger."
# by SQLSTATE, see appendix A of PostgreSQL's manual
_REMEDIES = {
    "25006": "The server is read-only, such as a standby: set [submissions] ledger to the primary server.",
    "42501": "Grant this user the right to create and write tables in the database.",
    "53100": "The server's disk is full: free space on it.",
}
# its messages about connections that break while closing are not for the terminal: the error is raised too
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


class PostgresDatabase:
    """A database on a server; every call has a time limit.

    Args:
        url: URL of the server; a password in it is never shown.

    Raises:
        ConfigError: if its driver is not installed.
    """

    def __init__(self, url: URL) -> None:
        self.where = URL.create(url.drivername, url.username, None, url.host, url.port, url.database).render_as_string()
        secrets = [url.password or "", *(str(value) for name, value in url.query.items() if "password" in name)]
        self._redactor = Redactor(secrets)
        # options in the URL take precedence: some servers, such as poolers, refuse start-up options
        limits = {name: value for name, value in _LIMITS.items() if name not in url.query}
        try:
            self._engine: Engine = create_engine(url, poolclass=NullPool, connect_args=limits)
        except (ImportError, NoSuchModuleError) as err:
            raise ConfigError(
                f"[submissions] ledger = {self.where!r} needs a driver that is not installed ({err}). "
                f"Run pip install 'dfens[postgres]' and write the URL as postgresql+psycopg://…"
            ) from err
        except (TypeError, ValueError, SQLAlchemyError) as err:
            raise ConfigError(
                f"[submissions] ledger = {self.where!r} cannot be read ({self._redactor.redact(str(err))})."
            ) from None

    def exists(self) -> bool:
        """Return True, since only the server knows."""
        return True

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a transaction."""
        with self.explained(), self._engine.connect() as connection, limited(connection), connection.begin():
            yield connection

    writing = reading

    def lock(self, competition: str) -> "AdvisoryLock":
        """Return the lock of a competition, which uses a separate session."""
        return AdvisoryLock(self, competition)

    def connect(self) -> Connection:
        """Return a connection that stays open."""
        with self.explained():
            return self._engine.connect()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Convert database errors into a StoreError without secrets."""
        try:
            yield
        except SQLAlchemyError as err:
            cause = err.orig if isinstance(err, DBAPIError) else err
            reason = " ".join(str(cause).split()).rstrip(".?")
            remedy = _REMEDIES.get(getattr(cause, "sqlstate", None) or "", _CHECK_SERVER)
            raise StoreError(
                f"The ledger {self.where} cannot be used: {self._redactor.redact(reason)}. {remedy}"
            ) from None  # the cause contains the URL with its password


class AdvisoryLock:
    """An advisory lock of the session that `acquire` opens.

    The lock is held by the session, not by this process: a server restart, a pooler or a firewall may end the session
    unnoticed. Therefore a fenced transaction runs in the same session and asks the server whether it has the lock.
    """

    descriptors: tuple[int, ...] = ()

    def __init__(self, database: PostgresDatabase, competition: str) -> None:
        self._database = database
        self._number = int.from_bytes(sha256(f"dfens {competition.lower()}".encode()).digest()[:8], "big", signed=True)
        self._connection: Connection | None = None

    def acquire(self) -> bool:
        """Try to acquire the lock."""
        if self._connection is None:
            self._connection = self._database.connect()
        connection = self._connection
        with self._database.explained(), limited(connection), connection.begin():
            taken = connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": self._number})
            return bool(taken.scalar_one())

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Begin a transaction in the session that holds the lock."""
        connection = self._connection
        if connection is None:
            raise LockLostError("The submit lock is not held.")
        try:
            with self._database.explained(), limited(connection), connection.begin():
                if not connection.execute(_HELD, {"n": self._number}).scalar_one():
                    raise LockLostError(
                        f"The ledger {self._database.where} reports that this dfens submit no longer holds the "
                        f"submit lock, as happens with a pooler that shares sessions. Connect to the server directly."
                    )
                yield connection
        except StoreError as err:
            raise LockLostError(f"The session that held the submit lock was lost. {err}") from err

    def release(self) -> None:
        """Release the lock and close the session."""
        if self._connection is None:
            return
        with contextlib.suppress(Exception), limited(self._connection, _UNLOCK_S), self._connection.begin():
            self._connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": self._number})
        with contextlib.suppress(Exception):
            self._connection.invalidate()  # closing would contact the server again
        with contextlib.suppress(Exception):
            self._connection.close()
        self._connection = None


# pg_locks shows a 64-bit number as two halves
_HELD = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() "
    "AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = :n"
)


@contextlib.contextmanager
def limited(connection: Connection, limit_s: float = _ANSWER_S) -> Iterator[None]:
    """Close the connection if the block takes longer than `limit_s`, so that whatever waits for it fails at once.

    The server's own limits do not help if the connection is silent: a statement that never arrives is not subject to
    statement_timeout, and a proxy on this machine acknowledges every packet.
    """
    with contextlib.closing(socket.socket(fileno=os.dup(connection.connection.driver_connection.fileno()))) as link:  # type: ignore[union-attr]
        timer = threading.Timer(limit_s, _hang_up, [link])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _hang_up(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
