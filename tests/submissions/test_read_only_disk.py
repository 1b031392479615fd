"""A disk or server that is read-only has its own remedy, at whatever step it turns read-only."""

import errno
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from oof.errors import DfensError, StoreError
from submissions.database import sqlite
from submissions.database.sqlite import FileLock, SqliteDatabase
from submissions.kaggle.errors import ErrorContext, Failure, explain, read_reason
from submissions.ledger import Ledger
from submissions.reconcile import NotRecordedError
from submissions.upload import AlreadySentError, new_entry
from tests.support.rights import on_read_only_disk
from tests.support.virtual_project import Project

REMEDY = r"Its disk is read-only: mount it with write access\."


def turn_read_only(patch: pytest.MonkeyPatch) -> None:
    """Let SQLite open the ledger without write access, and the system report a read-only disk."""
    report = os.statvfs

    def read_only(path: Any) -> os.statvfs_result:
        values = list(report(path))
        values[8] |= os.ST_RDONLY  # f_flag
        return os.statvfs_result(values)

    patch.setattr(os, "statvfs", read_only)
    patch.setattr(
        sqlite,
        "_connect_to_write",
        lambda path: sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None),
    )


@pytest.mark.parametrize(
    ("transition", "error", "told", "made"),
    [
        ("upload", DfensError, rf"readonly database\. {REMEDY} Nothing was submitted\.", 0),
        ("create", DfensError, rf"readonly database\. {REMEDY} Nothing was submitted\.", 0),
        ("confirm", NotRecordedError, rf"as 1000, but .* readonly database\. {REMEDY} It IS on Kaggle", 1),
    ],
)
def test_a_disk_that_turns_read_only_while_submitting_leads_to_one_submission(
    transition: str, error: type[DfensError], told: str, made: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(tmp_path)
    move = Ledger.move

    def turning(self: Ledger, entry: Any, step: str, *args: Any, **changes: Any) -> Any:
        if step == transition:
            turn_read_only(patch)
        return move(self, entry, step, *args, **changes)

    with monkeypatch.context() as patch:
        project._desk._plain_move = lambda *args, **changes: turning(project.ledger, *args, **changes)
        with pytest.raises(error, match=told):
            project.submit()
    assert len(project.kaggle.submissions) == made
    project._desk._plain_move = lambda *args, **changes: move(project.ledger, *args, **changes)
    assert project.submit().entry.ref == 1000
    with pytest.raises(AlreadySentError):
        project.submit()
    assert len(project.kaggle.submissions) == 1
    project.check_reconciled()
    project.close()


def test_a_ledger_on_a_read_only_disk_can_be_read_and_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path).exclusive("tiny", 1.0):
        pass
    (tmp_path / "ledger.sqlite.lock").unlink()

    def use() -> None:
        assert Ledger(path).list() == []
        for write in (lambda: Ledger(path).exclusive("tiny", 1.0).__enter__(), FileLock(SqliteDatabase(path)).acquire):
            with pytest.raises(StoreError, match=f"ledger.sqlite cannot be used: .*{REMEDY}"):
                write()

    on_read_only_disk(tmp_path, use)


def test_a_read_only_server_is_reported_as_such(new_postgres_url: Callable[[], str]) -> None:
    url = new_postgres_url()
    ledger, entry = Ledger(url), new_entry("tiny")
    ledger.add(entry)
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{make_url(url).database}" SET default_transaction_read_only = on')
    assert [item.key for item in Ledger(url).list()] == [entry.key]
    with pytest.raises(StoreError, match="in a read-only transaction. The server is read-only, such as a standby"):
        Ledger(url).update(entry.key, message="changed")


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EROFS, "Mount this disk with write access"),
        (errno.ENOSPC, "Free space on this disk"),
        (errno.EACCES, "Correct what is named"),
    ],
)
def test_an_error_of_the_disk_in_the_client_has_one_remedy(number: int, remedy: str) -> None:
    failure = Failure("system", text=f"/tmp/a: {os.strerror(number)}", errno=number)
    context = ErrorContext("submitting to x", "x", ["token"], [], None, [], datetime.now(UTC))
    said = explain(read_reason(failure), context)
    assert f"this machine, not at Kaggle (/tmp/a: {os.strerror(number)}). {remedy}" in said
