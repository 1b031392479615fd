"""The ledger over SQLite and over a real PostgreSQL."""

import contextlib
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from oof.errors import ConfigError, StoreError, SubmissionError
from submissions.entry import Entry
from submissions.ledger import VERSION, Ledger, new_key

DATA = Path(__file__).parents[1] / "data"
PROVENANCE = {"version": 1, "members": {"a": {"weight": 0.75, "fingerprint": "f0"}, "b": {"weight": 0.25}}}


def entry(competition: str = "c", **fields: Any) -> Entry:
    now = datetime.now(UTC)
    facts: dict[str, Any] = {"status": "prepared", "created": now, "updated": now} | fields
    return Entry(key=new_key(), competition=competition, **facts)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.sqlite"
    made: Callable[[], str] = request.getfixturevalue("new_postgres_url")
    return made()


def _add_many(url: str, count: int) -> None:
    ledger = Ledger(url)
    for _ in range(count):
        added = ledger.add(entry())
        ledger.update(added.key, status="pending")


_HOLDER = """
import sys, time
from submissions.ledger import Ledger
with Ledger(sys.argv[1]).exclusive("c", 10):
    print("held", flush=True)
    time.sleep(60)
"""


@contextlib.contextmanager
def holder(url: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the submission lock of competition c."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


class TestLedger:
    """A ledger in each kind of database."""

    def test_an_entry_is_read_back_unchanged(self, url: str) -> None:
        given = entry(
            status="complete",
            who="älice",
            kind="kernel",
            origin="elsewhere",
            file_name="x-1.csv",
            path="work/submissions/x-1.csv",
            sha256="ab" * 32,
            bytes=2**40,
            rows=240,
            message="naïve “blend” 🙂",
            blend="b7",
            score=0.123456789012345678,
            nested_score=0.9,
            provenance=PROVENANCE,
            git_commit="c0ffee",
            git_dirty=True,
            dfens_version="0.1.0",
            config_sha256="cd" * 32,
            kernel="alice/notebook",
            kernel_version=7,
            ref=2**33,
            submitted=datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=UTC),
            public_score=0.91,
            private_score=0.0,
            error="none",
        )
        ledger = Ledger(url)
        assert ledger.add(given) == given
        assert Ledger(url).list() == [given]
        assert given.weights == {"a": 0.75, "b": 0.25}

    def test_times_are_returned_in_utc(self, url: str) -> None:
        local = datetime(2026, 1, 1, 0, 30).astimezone()
        Ledger(url).add(entry(created=local))
        (found,) = Ledger(url).list()
        assert found.created == local
        assert found.created.utcoffset() == timedelta(0)

    def test_update_changes_only_the_given_fields(self, url: str) -> None:
        ledger = Ledger(url)
        first, second = ledger.add(entry()), ledger.add(entry())
        changed = ledger.update(first.key, status="pending", ref=5)
        assert (changed.status, changed.ref) == ("pending", 5)
        assert changed.updated > first.updated
        assert ledger.get(5) == changed
        assert ledger.get(second.key) == second
        with pytest.raises(StoreError, match="has no entry"):
            ledger.update("none", status="failed")
        with pytest.raises(TypeError, match="no field stauts"):
            ledger.update(first.key, stauts="failed")

    def test_get_takes_ref_and_shortened_key(self, url: str) -> None:
        ledger = Ledger(url)
        kept = ledger.add(entry(ref=123))
        assert ledger.get("123") == ledger.get(kept.key[:8]) == kept
        with pytest.raises(SubmissionError, match="no submission '999'; the latest are 123"):
            ledger.get("999")

    def test_the_same_bytes_are_found_unless_they_failed(self, url: str) -> None:
        ledger = Ledger(url)
        sent, _, _ = (
            ledger.add(entry(sha256="aa", status="pending")),
            ledger.add(entry(sha256="aa", status="failed")),
            ledger.add(entry("other", sha256="aa", status="pending")),
        )
        assert ledger.find_sha("c", "aa") == [sent]

    def test_a_competition_is_the_same_in_upper_and_lower_case(self, url: str) -> None:
        ledger = Ledger(url)
        sent = ledger.add(entry(sha256="aa", status="pending", ref=1))
        assert ledger.find_sha("C", "aa") == [sent]
        with pytest.raises(SubmissionError, match="Submission 1 is already in the ledger"):
            ledger.add(entry("C", ref=1))

    def test_a_ref_is_unique(self, url: str) -> None:
        ledger = Ledger(url)
        ledger.add(entry(ref=1))
        ledger.add(entry("other", ref=1))
        ledger.add(entry())
        ledger.add(entry())
        with pytest.raises(SubmissionError, match="Submission 1 is already in the ledger"):
            ledger.add(entry(ref=1))
        assert len(ledger.list("c")) == 3

    def test_many_processes_write_at_once(self, url: str) -> None:
        Ledger(url)
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_add_many, args=(url, 5)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert [found.status for found in Ledger(url).list()] == ["pending"] * 20

    def test_many_processes_create_the_tables_at_once(self, url: str) -> None:
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_add_many, args=(url, 1)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert len(Ledger(url).list()) == 4

    def test_the_submission_lock_is_exclusive_and_released_when_its_process_dies(self, url: str) -> None:
        ledger = Ledger(url)
        waits: list[float] = []
        with holder(url) as process:
            with (
                pytest.raises(SubmissionError, match=r"Another dfens submit has been using .* for more than 0.3 s"),
                ledger.exclusive("c", 0.3, lambda: waits.append(time.monotonic())),
            ):
                pass
            assert len(waits) == 1
            os.kill(process.pid, signal.SIGKILL)
            with ledger.exclusive("c", 5):
                pass
        with ledger.exclusive("c", 0.1):
            pass

    def test_a_newer_ledger_is_refused(self, url: str) -> None:
        Ledger(url).add(entry())
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE dfens_ledger SET version = 99"))
        engine.dispose()
        with pytest.raises(StoreError, match=rf"has version 99; this dfens supports up to {VERSION}. Upgrade dfens"):
            Ledger(url)

    def test_a_table_of_another_program_is_not_touched(self, url: str) -> None:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE submissions (x BIGINT)"))
        engine.dispose()
        with pytest.raises(StoreError, match="has a table 'submissions' that does not belong to dfens"):
            Ledger(url)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_ledgers_of_every_version_are_read(version: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    shutil.copy(DATA / f"ledger_v{version}.sqlite", path)
    first, second = Ledger(path).list("multi-ffdi")
    assert (first.ref, first.status, first.public_score, first.blend) == (1000, "complete", 0.91234, "b7")
    assert first.members == {"tiny": {"weight": 1.0, "fingerprint": "f0"}}
    assert first.submitted == datetime(2026, 11, 20, 10, 0, 0, 500000, tzinfo=UTC)
    assert (first.git_dirty, first.rows, first.kind, first.origin) == (False, 240, "file", "dfens")
    assert (second.status, second.ref, second.error) == ("failed", None, "400")
    assert Ledger(path).update(second.key, kernel="a/b", origin="elsewhere").kernel == "a/b"


def test_sqlite_is_in_wal_mode_and_syncs_each_step(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ledger._writing() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2


def test_a_file_that_is_not_a_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"no database at all, " * 100)
    with pytest.raises(
        StoreError, match=r"ledger.sqlite cannot be used: file is not a database.*dfens submissions sync"
    ):
        Ledger(path)


def test_a_file_in_place_of_the_ledgers_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "submissions").write_text("")
    with pytest.raises(StoreError, match=r"cannot be used: .*/submissions is a file where a folder is expected"):
        Ledger(tmp_path / "submissions" / "ledger.sqlite").add(entry())


def test_a_truncated_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    for _ in range(30):
        ledger.add(entry(message="x" * 2000))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2)
    with pytest.raises(StoreError, match="cannot be used: database disk image is malformed"):
        Ledger(path).list()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE dfens_ledger SET version = 'two'",
        "DELETE FROM dfens_ledger",
        "UPDATE submissions SET created = 'yesterday'",
        "UPDATE submissions SET provenance = '{\"version\"'",
        "UPDATE submissions SET provenance = '[1]'",
        'UPDATE submissions SET provenance = \'{"members": {"m": 3}}\'',
        "UPDATE submissions SET provenance = '{\"member_order\": 3}'",
        "UPDATE submissions SET file_name = x'00ff'",
        "UPDATE submissions SET status = 'lost'",
        "UPDATE submissions SET public_score = 'high'",
        "ALTER TABLE submissions DROP COLUMN error",
    ],
)
def test_a_ledger_changed_by_another_program_is_named(statement: str, tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite").add(entry())
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(StoreError, match="ledger.sqlite .*Restore it from a backup"):
        Ledger(tmp_path / "ledger.sqlite").list()


def test_a_folder_in_place_of_the_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(StoreError, match="ledger.sqlite is a folder: move it away"):
        Ledger(tmp_path / "ledger.sqlite")


@pytest.mark.parametrize("ending", [".lock", "-wal", "-journal"])
def test_a_folder_in_place_of_a_file_next_to_the_ledger_is_named(ending: str, tmp_path: Path) -> None:
    blocking = tmp_path / f"ledger.sqlite{ending}"
    blocking.mkdir()
    with (
        pytest.raises(StoreError, match=f"ledger.sqlite{ending} is a folder, and not a file: move it away"),
        Ledger(tmp_path / "ledger.sqlite").exclusive("multi-ffdi", 1),
    ):
        pass


def test_a_pipe_or_a_long_name_is_not_an_error_of_the_disk_or_of_permissions(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="pipe is a device, pipe or socket, and not a file"):
        Ledger(tmp_path / "pipe").add(entry())
    with pytest.raises(StoreError, match="is too long: choose a shorter one"):
        Ledger(tmp_path / ("x" * 250)).add(entry())


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add(entry())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(StoreError, match="Its disk is full: free space on it"):
            ledger.add(entry())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(ledger.list()) == 1


def test_wrong_addresses_are_reported_without_password(tmp_path: Path) -> None:
    for wrong, message in (
        ("mysql://u:secretpw@h/d", "mysql is not supported"),
        ("postgresql+nodriver://u:secretpw@h/d", "needs a driver"),
        ("://", "not a valid path or URL"),
        ("postgresql://u:first@secretpw@h/d", "write '@' as %40"),
        ("postgresql://u:first@secretpw/more@h/d", "write '@' as %40"),
        ("postgresql://u:first@secretpw?more@h/d", "'\\?' as %3F"),
    ):
        with pytest.raises(ConfigError, match=message) as caught:
            Ledger(wrong)
        assert "secretpw" not in str(caught.value)


def test_an_unreachable_server_is_named_without_password() -> None:
    with pytest.raises(StoreError, match="Check that the server is running") as caught:
        Ledger("postgresql+psycopg://u:secretpw@127.0.0.1:1/d")
    assert "secretpw" not in str(caught.value)
    assert "u@127.0.0.1:1/d" in str(caught.value)
