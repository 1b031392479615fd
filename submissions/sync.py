"""Update the ledger from Kaggle, including submissions made on its web page or by team mates."""

from dataclasses import dataclass

from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient
from submissions.ledger import Ledger
from submissions.reconcile import entry_of, matches, reconcile, record


@dataclass(frozen=True)
class Synced:
    """The outcome of a synchronisation.

    new: imported entries made elsewhere. changed: updated entries. total: number of submissions on Kaggle.
    """

    new: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    total: int


def sync(ledger: Ledger, client: KaggleClient, progress: Progress = SILENT) -> Synced:
    """Read Kaggle's list of the team's submissions into the ledger; reconcile entries in doubt.

    Raises:
        KaggleError: if Kaggle cannot be reached; the ledger is unchanged.
    """
    new, changed = [], []
    waiting = "A dfens submit is running; waiting for it."
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
                without.remove(entry)  # another submission on Kaggle with the same name is not its own
            now = record(ledger, entry, remote)
            if now != entry:
                changed.append(now)
    return Synced(tuple(new), tuple(changed), len(remotes))
