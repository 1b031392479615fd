"""The migrations of the ledger; each step changes the tables of the previous version and is never edited.

A new step is a new function at the end of `STEPS`, with a ledger of the old version added to tests/data.
"""

from collections.abc import Callable

from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import Dialect

from oof.errors import StoreError
from submissions.database.base import RESTORE, LedgerDamagedError

_ONE_AT_A_TIME = 0x64666E73  # PostgreSQL advisory lock, "dfns"


def _types(dialect: Dialect) -> dict[str, str]:
    if dialect.name == "postgresql":
        return {"time": "TIMESTAMP", "json": "JSON", "real": "DOUBLE PRECISION", "bool": "BOOLEAN"}
    return {"time": "DATETIME", "json": "JSON", "real": "REAL", "bool": "BOOLEAN"}


def _step_1(connection: Connection) -> None:
    """Create the first version: files submitted by dfens."""
    connection.execute(
        text(
            """
            CREATE TABLE submissions (
                key VARCHAR(32) PRIMARY KEY,
                created {time} NOT NULL,
                updated {time} NOT NULL,
                competition TEXT NOT NULL,
                status VARCHAR(16) NOT NULL,
                who TEXT NOT NULL,
                file_name TEXT NOT NULL,
                path TEXT NOT NULL,
                sha256 VARCHAR(64) NOT NULL,
                bytes BIGINT,
                rows BIGINT,
                message TEXT NOT NULL,
                blend TEXT NOT NULL,
                score {real},
                nested_score {real},
                provenance {json} NOT NULL,
                git_commit VARCHAR(64) NOT NULL,
                git_dirty {bool},
                dfens_version TEXT NOT NULL,
                config_sha256 VARCHAR(64) NOT NULL,
                ref BIGINT,
                submitted {time},
                public_score {real},
                private_score {real},
                error TEXT NOT NULL
            )
            """.format(**_types(connection.dialect))
        )
    )
    connection.execute(text("CREATE INDEX submissions_by_sha256 ON submissions (competition, sha256)"))
    connection.execute(text("CREATE UNIQUE INDEX submissions_by_ref ON submissions (competition, ref)"))


def _step_2(connection: Connection) -> None:
    """Add notebook submissions, and submissions made elsewhere."""
    for column in (
        "kind VARCHAR(16) NOT NULL DEFAULT 'file'",
        "origin VARCHAR(16) NOT NULL DEFAULT 'dfens'",
        "kernel TEXT NOT NULL DEFAULT ''",
        "kernel_version BIGINT",
    ):
        connection.execute(text(f"ALTER TABLE submissions ADD COLUMN {column}"))


STEPS: tuple[Callable[[Connection], None], ...] = (_step_1, _step_2)


def read_version(connection: Connection, where: str) -> int | None:
    """Return the version of the tables, or None if there are none; raises as `migrate`."""
    tables = inspect(connection).get_table_names()
    if "dfens_ledger" in tables:
        return _checked_version(connection, where)
    _refuse_other_tables(tables, where)
    return None


def migrate(connection: Connection, where: str, upto: int = len(STEPS)) -> None:
    """Migrate the tables to version `upto`, in the caller's write transaction.

    Raises:
        StoreError: if the ledger is of a newer dfens, or the database contains other tables.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ONE_AT_A_TIME})
    tables = inspect(connection).get_table_names()
    if "dfens_ledger" not in tables:
        _refuse_other_tables(tables, where)
        connection.execute(text("CREATE TABLE dfens_ledger (version BIGINT NOT NULL)"))
        connection.execute(text("INSERT INTO dfens_ledger (version) VALUES (0)"))
    version = _checked_version(connection, where)
    for step in STEPS[version:upto]:
        step(connection)
        version += 1
        connection.execute(text("UPDATE dfens_ledger SET version = :version"), {"version": version})


def _checked_version(connection: Connection, where: str) -> int:
    version = connection.execute(text("SELECT version FROM dfens_ledger")).scalar()
    if not isinstance(version, int):
        raise LedgerDamagedError(f"The ledger {where} does not contain its version. {RESTORE}")
    if version > len(STEPS):
        raise StoreError(
            f"The ledger {where} has version {version}; this dfens supports up to {len(STEPS)}. "
            f"Upgrade dfens to the version that your team uses."
        )
    return version


def _refuse_other_tables(tables: list[str], where: str) -> None:
    if "submissions" in tables:
        raise StoreError(
            f"{where} has a table 'submissions' that does not belong to dfens. Use a separate database for the ledger "
            f"([submissions] ledger)."
        )
