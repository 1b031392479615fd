"""The ledger brought up to what Kaggle knows, with what was submitted on its web page or by team mates."""

from dataclasses import dataclass

from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient
from submissions.ledger import Ledger
from submissions.reconcile import entry_of, matches, reconcile, record


@dataclass(frozen=True)
class Synced:
    """new: entries made elsewhere that the ledger did not have. changed: entries with news. total: on Kaggle."""

    new: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    total: int


def sync(ledger: Ledger, client: KaggleClient, progress: Progress = SILENT) -> Synced:
    """Read Kaggle's list of the team's submissions into the ledger; reconcile what was left in doubt.

    Raises:
        KaggleError: Kaggle cannot be asked; the ledger stays as it is.
    """
    new, changed = [], []
    waiting = "A dfens submit is at work; waiting for it."
    with ledger.exclusive(client.competition, client.settings.lock_limit_s, lambda: progress.note(waiting)) as lock:
        changed += reconcile(ledger, client, lock, progress)
        remotes = client.submissions()
        entries = ledger.list(client.competition)
        by_ref = {entry.ref: entry for entry in entries if entry.ref}
        without = [entry for entry in entries if not entry.ref]
        for remote in sorted(remotes, key=lambda remote: remote.ref):
            entry = by_ref.get(remote.ref) or next((entry for entry in without if matches(entry, remote)), None)
            if entry is None:
                new.append(ledger.add(entry_of(client.competition, remote)))
                continue
            if entry in without:
                without.remove(entry)  # a copy of its name on Kaggle is another submission
            now = record(ledger, entry, remote)
            if now != entry:
                changed.append(now)
    return Synced(tuple(new), tuple(changed), len(remotes))
