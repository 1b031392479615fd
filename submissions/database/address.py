"""Open the database given by the setting [submissions] ledger; ambiguous addresses are errors."""

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from oof.errors import ConfigError
from submissions.database.base import Database
from submissions.database.postgresql import PostgresDatabase
from submissions.database.sqlite import SqliteDatabase

_EXPECTED = "Expected a path, sqlite:///path, or postgresql+psycopg://user@host/database."
# postgresql:/me@host, postgres:me@host, me@host/db, host=… dbname=…: mistyped URLs, which may contain a password
_LIKE_ADDRESS = re.compile(
    r"(?i)^[a-z][a-z0-9+.-]+:|^(postgres|postgresql|sqlite|mysql)\b[^.]|@|\b(host|user|dbname)\s*="
)


def open_database(address: str | Path, folder: Path) -> Database:
    """Return the database of an address.

    Args:
        address: a path, or a URL for SQLite or PostgreSQL. `~` is the home folder.
        folder: base of relative paths, also in a URL; the folder of dfens.toml.

    Raises:
        ConfigError: if the address is neither. The message does not repeat it, since it may contain a password.
    """
    if isinstance(address, Path):
        return SqliteDatabase(_resolved(str(address), folder))
    if "://" not in address:
        if _LIKE_ADDRESS.search(address):
            raise ConfigError(
                f"[submissions] ledger looks like a database URL, but has no '://'. {_EXPECTED} "
                f"If it is the path of a file, write it as sqlite:///path."
            )
        return SqliteDatabase(_resolved(address, folder))
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # both messages contain the address
        raise ConfigError(f"[submissions] ledger is not a valid path or URL. {_EXPECTED}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return SqliteDatabase(_resolved(_sqlite_path(url), folder))
    if url.get_backend_name() == "postgresql":
        if _has_unescaped_password(address):
            raise ConfigError(
                "[submissions] ledger has several '@': in a password, write '@' as %40, '/' as %2F, '?' as %3F and '%' "
                "as %25, or keep the password in ~/.pgpass."
            )
        return PostgresDatabase(url)
    raise ConfigError(f"[submissions] ledger: {url.drivername} is not supported. {_EXPECTED}")


def _has_unescaped_password(address: str) -> bool:
    """Return whether a part of a password may be taken for the host, the database or an option, which are shown."""
    place, _, options = address.partition("://")[2].partition("?")
    return place.count("@") > 1 or any("@" in option and "=" not in option for option in options.split("&"))


def _sqlite_path(url: URL) -> str:
    path = url.database or ""
    if path in ("", ":memory:") or path.startswith("file:") or url.query:
        raise ConfigError(
            "[submissions] ledger names no file: a ledger in memory would be lost, and options after '?' are not "
            "supported. Write sqlite:///path."
        )
    return path


def _resolved(path: str, folder: Path) -> Path:
    """Return the canonical path of a file: relative to `folder`, with `~` expanded and links resolved."""
    if not path or "\0" in path:
        raise ConfigError("[submissions] ledger is not a path: it is empty or contains a NUL character.")
    try:
        return (folder / Path(path).expanduser()).resolve()
    except (RuntimeError, OSError) as err:  # ~ without a home folder, a loop of links
        raise ConfigError(f"[submissions] ledger = {path!r} cannot be resolved ({err}). Write a full path.") from err
