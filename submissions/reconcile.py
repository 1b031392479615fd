"""Determine the outcome of submissions without a response from Kaggle's own list."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from oof.errors import DfensError, StoreError, SubmissionError
from oof.progress import SILENT, Progress
from submissions.database.base import SubmitLock
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError, KaggleSubmission
from submissions.kaggle.errors import Reason
from submissions.ledger import Ledger, OvertakenError, new_key
from submissions.marks import in_mark, token_of
from submissions.states import Status

FIRST_LOOK_S, LONGEST_LOOK_S = 1.0, 8.0


class NotRecordedError(SubmissionError):
    """A submission is on Kaggle as `ref`, but the ledger could not be written."""

    def __init__(self, competition: str, ref: int, error: Exception) -> None:
        super().__init__(
            f"Submitted to {competition} as {ref}, but the ledger could not record it: {error} It IS on Kaggle: do not "
            f"send it again. When the ledger can be written, dfens submissions sync records it."
        )
        self.ref = ref


class InDoubtError(KaggleError):
    """It is unknown whether a submission was made; the ledger keeps it in doubt."""


def matches(entry: Entry, remote: KaggleSubmission) -> bool:
    """Return whether a submission on Kaggle belongs to an entry.

    A file is identified by its name alone, since a message may mention any other submission.
    """
    if entry.ref is not None:
        return entry.ref == remote.ref
    if entry.kind == "kernel":
        return in_mark(remote.description)[0] == token_of(entry.key)
    return remote.file_name.endswith(f"-{token_of(entry.key)}.csv")


def find_match(entry: Entry, remotes: Sequence[KaggleSubmission], taken: set[int]) -> KaggleSubmission | None:
    """Return the submission of an entry, ignoring numbers that belong to other entries."""
    return next((remote for remote in remotes if remote.ref not in taken and matches(entry, remote)), None)


def taken_refs(ledger: Ledger, entry: Entry) -> set[int]:
    """Return the Kaggle numbers of other entries."""
    return {other.ref for other in ledger.list(entry.competition) if other.ref is not None and other.key != entry.key}


def record(ledger: Ledger, entry: Entry, remote: KaggleSubmission) -> Entry:
    """Update an entry from Kaggle's data about its submission, if anything is new.

    Raises:
        NotRecordedError: if the entry was in doubt and is on Kaggle, but the ledger cannot be written.
    """
    found: dict[str, Any] = {
        "ref": remote.ref,
        "status": remote.status,
        "submitted": remote.date or entry.submitted,
        "public_score": remote.public_score,
        "private_score": remote.private_score,
        "error": remote.error if remote.status == "error" else truncation(entry, remote),
        "who": entry.who or remote.who,
    }
    changes = {name: value for name, value in found.items() if getattr(entry, name) != value}
    if not changes:
        return entry
    status: Status = changes.pop("status", entry.status)
    try:
        return ledger.move(entry, "confirm", status, **changes)
    except StoreError as err:
        if entry.on_server:
            raise
        raise NotRecordedError(entry.competition, remote.ref, err) from err


def truncation(entry: Entry, remote: KaggleSubmission) -> str:
    """Return a message if Kaggle has fewer bytes than were sent, otherwise an empty string."""
    if entry.bytes and remote.bytes and remote.bytes < entry.bytes and entry.kind == "file":
        return f"Kaggle has {remote.bytes} of the {entry.bytes} bytes that were sent: the upload was truncated."
    return ""


def reconcile(ledger: Ledger, client: KaggleClient, lock: SubmitLock, progress: Progress = SILENT) -> list[Entry]:
    """Determine the outcome of every entry whose process died or whose response was lost.

    An entry missing from Kaggle's list counts as not submitted only `call_limit_s` plus `list_lag_s` after the first
    check, by this machine's monotonic clock, since the time of the request may come from another machine's clock. A
    free lock does not prove that the client of the dead process has exited (a lost PostgreSQL session, a deleted lock
    file), but no client waits for its response longer than `call_limit_s`.

    Args:
        lock: the lock held by this process, so that no other process works on these entries.

    Returns:
        Those entries, each now on Kaggle or failed, or still in doubt if another account sent it.

    Raises:
        KaggleError: if Kaggle cannot be reached; the entries are unchanged.
    """
    settings = client.settings
    patience_s = settings.call_limit_s + settings.list_lag_s
    reconciled = []
    for entry in ledger.in_doubt(client.competition):
        try:
            if entry.status == "creating":
                progress.note(
                    f"An earlier submission ({entry.file_name}) had no response; asking Kaggle whether it was made."
                )
                reconciled.append(reconcile_entry(ledger, client, lock, entry, patience_s, progress))
            else:
                error = "interrupted before anything was submitted"
                reconciled.append(ledger.move(entry, "abandon", "failed", error=error))
        except OvertakenError as err:  # its process is alive without the lock and cannot continue
            reconciled.append(err.current)
    return reconciled


def reconcile_entry(
    ledger: Ledger,
    client: KaggleClient,
    lock: SubmitLock,
    entry: Entry,
    patience_s: float,
    progress: Progress = SILENT,
    why: str = "",
) -> Entry:
    """Look for an entry in Kaggle's list for up to `patience_s`, and record that it is on Kaggle or failed.

    A request whose response was lost may be processed a little later, so an entry counts as missing only
    after a while.

    Args:
        why: what went wrong, for the entry's error.

    Returns:
        The entry; still `creating` if this account cannot see the submissions of the account that sent it.
    """
    deadline = time.monotonic() + patience_s
    pause = FIRST_LOOK_S
    with progress.task("looking for it in Kaggle's list", unit="check") as task:
        while True:
            rest = deadline - time.monotonic()
            remotes = client.submissions()
            found = find_match(entry, remotes, taken_refs(ledger, entry))
            if found is not None:
                return record(ledger, entry, found)
            if rest <= 0:
                break
            task.advance()
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(2 * pause, LONGEST_LOOK_S)
    if _sent_by_another_team(client, entry, remotes):
        progress.note(
            f"{entry.file_name} was sent as {entry.who}, whose submissions these credentials do not show. It stays in "
            f"doubt; run dfens submissions sync with the credentials of {entry.who}."
        )
        return entry
    return ledger.move(entry, "miss", "failed", lock, error=why or "no response, and it is not in Kaggle's list")


def _sent_by_another_team(client: KaggleClient, entry: Entry, remotes: Sequence[KaggleSubmission]) -> bool:
    """Return whether the list belongs to another account and has no submission of the entry's sender."""
    user = str(client.whoami().get("user") or "")
    return bool(entry.who and user and user != entry.who and all(remote.who != entry.who for remote in remotes))


def in_doubt_error(err: DfensError, reason: Reason) -> InDoubtError:
    """Return the error for a submission whose outcome could not be determined."""
    return InDoubtError(
        f"{err} It is unknown whether the submission was made; the ledger keeps it in doubt, and the next dfens submit "
        f"or dfens submissions sync resolves this before anything else is sent.",
        reason,
    )


def entry_of(competition: str, remote: KaggleSubmission) -> Entry:
    """Return a new entry for a submission that is not in the ledger."""
    now = datetime.now(UTC)
    return Entry(
        key=new_key(),
        created=remote.date or now,
        updated=now,
        competition=competition,
        status=remote.status,
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
