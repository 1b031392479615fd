"""The table of transitions and their fencing: a lost lock, an entry changed by another run, the diagram in the docs."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from oof.errors import StoreError
from submissions.database.base import LockLostError
from submissions.entry import Entry
from submissions.ledger import Ledger, OvertakenError, new_key
from submissions.states import IN_DOUBT, ON_SERVER, TRANSITIONS, Status

DOCS = Path(__file__).parents[2] / "docs" / "submissions.md"
STATES: tuple[Status, ...] = ("prepared", "uploading", "creating", "failed", "pending", "complete", "error")


def entry(status: Status) -> Entry:
    now = datetime.now(UTC)
    return Entry(key=new_key(), created=now, updated=now, competition="c", status=status)


def test_every_state_is_in_doubt_or_final() -> None:
    assert set(STATES) == {*IN_DOUBT, *ON_SERVER, "failed"}
    ends = {target for rule in TRANSITIONS.values() for target in rule.targets if target not in IN_DOUBT}
    for state in IN_DOUBT:
        reached = {state}
        for _ in STATES:
            reached |= {t for rule in TRANSITIONS.values() if reached & set(rule.sources) for t in rule.targets}
        assert reached >= ends, state


def test_no_transition_leads_from_a_final_state_back_to_sending() -> None:
    for rule in TRANSITIONS.values():
        if set(rule.targets) & set(IN_DOUBT):
            assert set(rule.sources) <= set(IN_DOUBT)
            assert rule.fenced


def test_the_docs_draw_this_table() -> None:
    drawn = set(re.findall(r"^ {4}(\w+) --> (\w+): (\w+)", DOCS.read_text(), re.MULTILINE))
    table = {
        (source, target, name)
        for name, rule in TRANSITIONS.items()
        for source in rule.sources
        for target in rule.targets
    }
    assert drawn == table


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_starts_only_from_its_states(name: str, tmp_path: Path) -> None:
    rule = TRANSITIONS[name]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with ledger.exclusive("c", 1) as lock:
        for state in STATES:
            added = ledger.add(entry(state))
            if state in rule.sources:
                moved = ledger.move(added, name, rule.targets[0], lock)
                assert moved.status == rule.targets[0]
                continue
            with pytest.raises(OvertakenError, match=f"is '{state}' in the ledger") as caught:
                ledger.move(added, name, rule.targets[0], lock)
            assert caught.value.current.status == state
            assert ledger.get(added.key).status == state


@pytest.mark.parametrize("name", [name for name, rule in TRANSITIONS.items() if rule.fenced])
def test_a_fenced_transition_is_not_made_when_the_lock_is_lost(name: str, tmp_path: Path) -> None:
    rule = TRANSITIONS[name]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    added = ledger.add(entry(rule.sources[0]))
    with pytest.raises(ValueError, match="without a lock"):
        ledger.move(added, name, rule.targets[0])
    with ledger.exclusive("c", 1) as lock:
        (tmp_path / "ledger.sqlite.lock").unlink()
        another_run = ledger.exclusive("c", 1)
        with another_run, pytest.raises(LockLostError, match="was removed or replaced"):
            ledger.move(added, name, rule.targets[0], lock)
    assert ledger.get(added.key).status == rule.sources[0]


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_on_a_full_disk_is_made_completely_or_not_at_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = TRANSITIONS[name]
    ledger = Ledger(tmp_path / "ledger.sqlite")
    added = ledger.add(entry(rule.sources[0]))
    plain = ledger._database._writer.pool._creator  # type: ignore[attr-defined]

    def full(*_: object) -> object:
        connection = plain()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    with ledger.exclusive("c", 1) as lock:
        monkeypatch.setattr(ledger._database._writer.pool, "_creator", full)  # type: ignore[attr-defined]
        with pytest.raises(StoreError, match=r"Its disk is full: free space|The session"):
            ledger.move(added, name, rule.targets[0], lock, error="x" * 100_000)
        monkeypatch.setattr(ledger._database._writer.pool, "_creator", plain)  # type: ignore[attr-defined]
    assert ledger.get(added.key).status == rule.sources[0]
