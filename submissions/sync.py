"""The ledger brought up to what Kaggle knows, with what was submitted on its web page or by team mates."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from oof.progress import SILENT, Progress
from submissions.entry import Entry, Status
from submissions.kaggle.client import KaggleClient, KaggleSubmission
from submissions.ledger import Ledger, new_key
from submissions.reconcile import matches, reconcile, record


@dataclass(frozen=True)
class Synced:
    """new: entries made elsewhere that the ledger did not have. changed: entries with news. total: on Kaggle."""

    new: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    total: int


def sync(ledger: Ledger, client: KaggleClient, progress: Progress = SILENT) -> Synced:
    """Read Kaggle's list of the team's submissions into the ledger; reconciles what was left in doubt.

    Raises:
        KaggleError: Kaggle can't be asked; the ledger stays as it is.
    """
    new, changed = [], []
    waiting = "A dfens submit is at work; waiting for it."
    with ledger.exclusive(client.competition, client.settings.lock_limit_s, lambda: progress.note(waiting)):
        changed += reconcile(ledger, client, progress)
        remotes = client.submissions()
        entries = ledger.list(client.competition)
        by_ref = {entry.ref: entry for entry in entries if entry.ref}
        without = [entry for entry in entries if not entry.ref]
        for remote in sorted(remotes, key=lambda remote: remote.ref):
            entry = by_ref.get(remote.ref) or next((entry for entry in without if matches(entry, remote)), None)
            if entry is None:
                new.append(ledger.add(_elsewhere(client.competition, remote)))
                continue
            now = record(ledger, entry, remote)
            if now != entry:
                changed.append(now)
    return Synced(tuple(new), tuple(changed), len(remotes))


def _elsewhere(competition: str, remote: KaggleSubmission) -> Entry:
    now = datetime.now(UTC)
    return Entry(
        key=new_key(),
        created=remote.date or now,
        updated=now,
        competition=competition,
        status=cast(Status, remote.status),
        origin="elsewhere",
        who=remote.who,
        file_name=remote.file_name,
        bytes=remote.bytes,
        message=remote.description,
        ref=remote.ref,
        submitted=remote.date,
        public_score=remote.public_score,
        private_score=remote.private_score,
        error=remote.error,
    )
