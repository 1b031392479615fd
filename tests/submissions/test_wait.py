"""Waiting for the score, and importing submissions made elsewhere."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from submissions.entry import Entry
from submissions.kaggle.client import KaggleError
from submissions.sync import Synced, sync
from submissions.wait import wait_for_score
from tests.support.kaggle_server import SLUG, KaggleServer
from tests.support.submissions import Desk, make_table


def waited(desk: Desk) -> Entry:
    entry = desk.ledger.list()[-1]
    with desk.client() as client:
        return wait_for_score(desk.ledger, client, entry)


def synced(desk: Desk) -> Synced:
    with desk.client() as client:
        return sync(desk.ledger, client)


def test_pending_then_complete(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.polls_until_scored = 4
    desk.submit()
    entry = waited(desk)
    assert (entry.status, entry.public_score, entry.private_score, entry.error) == ("complete", 0.91234, None, "")
    assert kaggle.submissions[0].polls == 5
    assert desk.ledger.list() == [entry]


def test_an_error_of_kaggles_scorer_is_reported(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.final_status = "ERROR"
    desk.submit()
    entry = waited(desk)
    assert (entry.status, entry.public_score) == ("error", None)
    assert entry.error == "Evaluation Exception: Submission must have 240 rows"


def test_the_wait_ends_in_time(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path, wait_limit_s=0.5)
    kaggle.polls_until_scored = 10_000
    desk.submit()
    started = time.monotonic()
    assert waited(desk).status == "pending"
    assert time.monotonic() - started < 300


def test_pauses_grow(kaggle: KaggleServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(kaggle, tmp_path, poll_first_s=2.0, poll_longest_s=5.0, wait_limit_s=3600)
    kaggle.polls_until_scored = 5
    desk.submit()
    pauses: list[float] = []
    monkeypatch.setattr("submissions.wait.time.sleep", pauses.append)
    assert waited(desk).status == "complete"
    assert pauses == [2.0, 3.0, 4.5, 5.0]


def test_a_temporary_network_failure_is_waited_out(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path, retries=0)
    desk.submit()
    kaggle.fail("GetSubmission", drop=True, times=2)
    kaggle.fail("GetSubmission", status=503, times=2)
    assert waited(desk).status == "complete"
    desk.submit(make_table(value=0.25))
    kaggle.fail("GetSubmission", status=401, message="Unauthenticated")
    with pytest.raises(KaggleError, match="were used but rejected"):
        waited(desk)
    assert desk.states() == ["complete", "pending"]


def test_sync_imports_submissions_made_elsewhere(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    when = datetime(2026, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
    kaggle.add("web.csv", "by hand", "0.75", private_score="0.5", date=when, who="bob")
    desk.submit()
    kaggle.submissions[1].status, kaggle.submissions[1].public_score = "COMPLETE", "0.8"
    found = synced(desk)
    (new,), (changed,) = found.new, found.changed
    assert found.total == 2
    assert (new.ref, new.origin, new.who, new.file_name, new.message) == (
        1000,
        "elsewhere",
        "bob",
        "web.csv",
        "by hand",
    )
    assert (new.status, new.public_score, new.private_score) == ("complete", 0.75, 0.5)
    assert new.created == new.submitted == when
    assert (changed.ref, changed.public_score, changed.origin) == (1001, 0.8, "dfens")
    again = synced(desk)
    assert (again.new, again.changed, again.total) == ((), (), 2)


def test_sync_reconciles_attempts_in_doubt(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.fail("CreateSubmission", drop=True, after=True)
    kaggle.fail("ListSubmissions", status=500, times=99)
    with pytest.raises(KaggleError):
        desk.submit()
    kaggle.faults.clear()
    found = synced(desk)
    assert [entry.ref for entry in found.changed] == [1000]
    assert found.new == ()
    assert desk.states() == ["pending"]


def test_sync_corrects_an_entry_marked_as_failed_too_early(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    entry = desk.submit().entry
    desk.ledger.update(entry.key, status="failed", ref=None)
    found = synced(desk)
    assert found.new == ()
    assert desk.ledger.list()[0].ref == 1000
    assert desk.states() == ["pending"]


def test_sync_of_a_new_ledger_does_not_use_up_the_allowance(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for number in range(5):
        kaggle.add(f"{number}.csv", score="0.5", date=yesterday)
    kaggle.used_today = 0
    synced(desk)
    assert desk.submit().entry.ref == 1005


def test_a_failed_sync_does_not_change_the_ledger(kaggle: KaggleServer, tmp_path: Path) -> None:
    desk = Desk(kaggle, tmp_path)
    kaggle.add("web.csv", score="0.75")
    kaggle.fail("ListSubmissions", status=403, message="You must accept this competition's rules")
    with pytest.raises(KaggleError, match=f"competitions/{SLUG}/rules"):
        synced(desk)
    assert desk.ledger.list() == []
