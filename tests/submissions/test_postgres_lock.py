"""A shared ledger whose lock is lost during a submission, ended by the server or by a dead connection."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from oof.errors import SubmissionError
from submissions.database import postgresql
from submissions.upload import AlreadySentError
from tests.support.kaggle_server import KaggleServer
from tests.support.submissions import Desk, make_table

URLs = Callable[[], str]


class Proxy:
    """A proxy to a PostgreSQL server that can stop forwarding, without closing any connection."""

    def __init__(self, url: str) -> None:
        self._path = f"{make_url(url).query['host']}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql+psycopg://dfens@127.0.0.1:{self._listener.getsockname()[1]}/{make_url(url).database}"
        self._silent: list[threading.Event] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        """Discard everything that existing connections send from now on; new ones work."""
        for event in self._silent:
            event.set()

    def close(self) -> None:
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                self._open += [client, server]
                self._silent.append(threading.Event())
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pass_on, args=(source, target, self._silent[-1]), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, silent: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if not silent.is_set():
                target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(new_postgres_url: URLs) -> Iterator[Proxy]:
    found = Proxy(new_postgres_url())
    yield found
    found.close()


def when_asked_to(kaggle: KaggleServer, method: str, action: Callable[[], object]) -> None:
    """Call `action` when the server receives its first call of a method, before it answers."""
    answer, waiting = kaggle.answer, [action]

    def watched(name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name == method and waiting:
            waiting.pop()()
        return answer(name, body)

    kaggle.answer = watched  # type: ignore[method-assign, assignment]


def desk(kaggle: KaggleServer, folder: Path, url: str) -> Desk:
    folder.mkdir()
    return Desk(kaggle, folder, url)


def end_lock_sessions(url: str) -> int:
    """Simulate a restarted server, a pooler, or a firewall that drops idle connections."""
    import psycopg

    found = make_url(url)
    with psycopg.connect(f"host={found.query['host']} user=dfens dbname={found.database}", autocommit=True) as admin:
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        (count,) = admin.execute(query).fetchone() or (0,)
        return int(count)


@pytest.mark.parametrize("another_is_at_work", [True, False])
def test_a_lock_ended_by_the_server_stops_the_run_before_the_upload(
    another_is_at_work: bool, new_postgres_url: URLs, kaggle: KaggleServer, tmp_path: Path
) -> None:
    url = new_postgres_url()
    first, second = desk(kaggle, tmp_path / "a", url), desk(kaggle, tmp_path / "b", url)

    def lose() -> None:
        assert end_lock_sessions(url) == 1
        if another_is_at_work:
            assert second.submit().entry.ref == 1000

    when_asked_to(kaggle, "StartSubmissionUpload", lose)
    with pytest.raises(SubmissionError, match=r"submit lock was lost.*Nothing was submitted"):
        first.submit()
    assert len(kaggle.submissions) == (1 if another_is_at_work else 0)
    assert first.states() == (["failed", "pending"] if another_is_at_work else ["failed"])
    if another_is_at_work:
        with pytest.raises(AlreadySentError, match="as 1000"):
            first.submit()
    else:
        assert first.submit().entry.ref == 1000
    assert len(kaggle.submissions) == 1


def test_a_session_without_the_lock_makes_no_fenced_transition(
    new_postgres_url: URLs, kaggle: KaggleServer, tmp_path: Path
) -> None:
    """A pooler may pass the session of one program to another."""
    first = desk(kaggle, tmp_path / "a", new_postgres_url())
    locks: list[postgresql.AdvisoryLock] = []
    plain = first.ledger._database.lock

    def lock(competition: str) -> Any:
        locks.append(plain(competition))  # type: ignore[arg-type]
        return locks[-1]

    first.ledger._database.lock = lock  # type: ignore[method-assign]

    def forget() -> None:
        connection = locks[0]._connection
        assert connection is not None
        with connection.begin():
            connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")

    when_asked_to(kaggle, "StartSubmissionUpload", forget)
    with pytest.raises(SubmissionError, match=r"no longer holds .* Nothing was submitted"):
        first.submit()
    assert kaggle.submissions == []
    assert first.states() == ["failed"]


def test_a_lock_on_a_dead_connection_stops_the_run_before_the_upload(
    proxy: Proxy, kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk(kaggle, tmp_path / "a", proxy.url)
    limited = postgresql.limited

    def fall_silent() -> None:
        monkeypatch.setattr(postgresql, "limited", lambda connection, limit_s=0: limited(connection, 3.0))
        proxy.fall_silent()

    when_asked_to(kaggle, "StartSubmissionUpload", fall_silent)
    with pytest.raises(SubmissionError, match=r"submit lock was lost.*Nothing was submitted"):
        first.submit()
    monkeypatch.undo()
    assert kaggle.submissions == []
    assert first.submit().entry.ref == 1000
    assert first.states() == ["failed", "pending"]


def test_a_dead_connection_after_the_upload_causes_no_delay(
    proxy: Proxy, kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_UNLOCK_S", 0.5)
    first = desk(kaggle, tmp_path / "a", proxy.url)
    when_asked_to(kaggle, "CreateSubmission", proxy.fall_silent)
    entry = first.submit(make_table(value=0.25)).entry
    assert (entry.ref, entry.status) == (1000, "pending")
    assert first.states() == ["pending"]
    assert first.submit().entry.ref == 1001
