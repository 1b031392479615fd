"""What became of a submission whose answer never came: Kaggle's own list tells."""

import time
from datetime import UTC, datetime, timedelta

from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError, KaggleSubmission
from submissions.ledger import Ledger

MARGIN = timedelta(days=1)  # between this machine's clock and Kaggle's
_FIRST_LOOK_S, _LONGEST_LOOK_S = 1.0, 8.0
_TOKEN = 12


def token_of(key: str) -> str:
    """What stands in the file name (or a notebook submission's message), unlike that of any other submission."""
    return key[:_TOKEN]


def matches(entry: Entry, remote: KaggleSubmission) -> bool:
    """Whether a submission on Kaggle is the one of an entry."""
    token = token_of(entry.key)
    return entry.ref == remote.ref or token in remote.file_name or token in remote.description


def record(ledger: Ledger, entry: Entry, remote: KaggleSubmission) -> Entry:
    """Write what Kaggle says of a submission into its entry; nothing where it says nothing new."""
    found = {
        "ref": remote.ref,
        "status": remote.status,
        "submitted": remote.date or entry.submitted,
        "public_score": remote.public_score,
        "private_score": remote.private_score,
        "error": remote.error if remote.status == "error" else truncation(entry, remote),
        "who": entry.who or remote.who,
    }
    changes = {name: value for name, value in found.items() if getattr(entry, name) != value}
    return ledger.update(entry.key, **changes) if changes else entry


def truncation(entry: Entry, remote: KaggleSubmission) -> str:
    """What is wrong where Kaggle has fewer bytes than were sent, else nothing."""
    if entry.bytes and remote.bytes and remote.bytes < entry.bytes and entry.kind == "file":
        return f"Kaggle has {remote.bytes} of the {entry.bytes} bytes that were sent: the upload was cut."
    return ""


def reconcile(ledger: Ledger, client: KaggleClient, progress: Progress = SILENT) -> list[Entry]:
    """Find out about every entry whose process died or whose answer was lost; to be called in `Ledger.exclusive`.

    Returns:
        Those entries, each on Kaggle or failed by now.

    Raises:
        KaggleError: Kaggle can't be asked; the entries stay as they are.
    """
    reconciled = []
    for entry in ledger.in_doubt(client.competition):
        if entry.status == "creating":
            progress.note(
                f"An earlier submission ({entry.file_name}) had no answer; asking Kaggle whether it was made."
            )
            reconciled.append(reconcile_entry(ledger, client, entry, progress))
        else:
            reconciled.append(
                ledger.update(entry.key, status="failed", error="interrupted before anything was submitted")
            )
    return reconciled


def reconcile_entry(
    ledger: Ledger, client: KaggleClient, entry: Entry, progress: Progress = SILENT, why: str = ""
) -> Entry:
    """Look for an entry in Kaggle's list until `settle_s` after it was sent; it is on Kaggle then, or failed.

    A request that was on its way when its sender died may be carried out a little later, so that
    its absence counts only after a while.

    Args:
        why: what went wrong, for the entry's error.
    """
    sent = min(entry.updated, datetime.now(UTC))
    deadline = sent + timedelta(seconds=client.settings.settle_s)
    pause = _FIRST_LOOK_S
    with progress.task("looking for it in Kaggle's list", unit="look") as task:
        while True:
            last = datetime.now(UTC) >= deadline
            for remote in client.submissions(since=entry.created - MARGIN):
                if matches(entry, remote):
                    return record(ledger, entry, remote)
            if last:
                break
            task.advance()
            time.sleep(max(0.0, min(pause, (deadline - datetime.now(UTC)).total_seconds())))
            pause = min(2 * pause, _LONGEST_LOOK_S)
    return ledger.update(entry.key, status="failed", error=why or "no answer, and it is not in Kaggle's list")


def in_doubt_note(error: KaggleError) -> str:
    """What to say where Kaggle could not even be asked what became of a submission."""
    return (
        f"{error} Whether the submission was made is not known; the ledger keeps it as open, and the next dfens submit "
        f"or dfens submissions sync finds out before anything else is sent."
    )
