"""What became of a submission whose answer never came: Kaggle's own list says."""

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
from submissions.states import Status

_FIRST_LOOK_S, _LONGEST_LOOK_S = 1.0, 8.0
_TOKEN = 12


class NotRecordedError(SubmissionError):
    """A submission is on Kaggle, as `ref`, and the ledger could not be written."""

    def __init__(self, competition: str, ref: int, error: Exception) -> None:
        super().__init__(
            f"Submitted to {competition} as {ref}, but the ledger could not record it: {error} It IS on Kaggle: do not "
            f"send it again. When the ledger can be written, dfens submissions sync records it."
        )
        self.ref = ref


class InDoubtError(KaggleError):
    """It is not known whether a submission was made; the ledger keeps it in doubt."""


def token_of(key: str) -> str:
    """Return what the file name (or a notebook submission's message) contains, unlike that of any other submission."""
    return key[:_TOKEN]


def mark_of(key: str) -> str:
    """Return what the message of a notebook's submission ends with."""
    return f"[dfens {token_of(key)}]"


def matches(entry: Entry, remote: KaggleSubmission) -> bool:
    """Whether a submission on Kaggle is the one of an entry.

    A file is known by its name alone: a message may name any other submission.
    """
    if entry.ref is not None:
        return entry.ref == remote.ref
    if entry.kind == "kernel":
        return remote.description.rstrip().endswith(mark_of(entry.key))
    return remote.file_name.endswith(f"-{token_of(entry.key)}.csv")


def find_match(entry: Entry, remotes: Sequence[KaggleSubmission], taken: set[int]) -> KaggleSubmission | None:
    """Return the submission of an entry, passing over the numbers that belong to other entries."""
    return next((remote for remote in remotes if remote.ref not in taken and matches(entry, remote)), None)


def taken_refs(ledger: Ledger, entry: Entry) -> set[int]:
    """Return the numbers of Kaggle that other entries have."""
    return {other.ref for other in ledger.list(entry.competition) if other.ref is not None and other.key != entry.key}


def record(ledger: Ledger, entry: Entry, remote: KaggleSubmission) -> Entry:
    """Write what Kaggle says of a submission into its entry; nothing where it says nothing new.

    Raises:
        NotRecordedError: the entry was in doubt, it is on Kaggle, and the ledger cannot be written.
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
    """Return what is wrong where Kaggle has fewer bytes than were sent, else nothing."""
    if entry.bytes and remote.bytes and remote.bytes < entry.bytes and entry.kind == "file":
        return f"Kaggle has {remote.bytes} of the {entry.bytes} bytes that were sent: the upload was cut."
    return ""


def reconcile(ledger: Ledger, client: KaggleClient, lock: SubmitLock, progress: Progress = SILENT) -> list[Entry]:
    """Find out about every entry whose process died or whose answer was lost.

    Its absence from Kaggle's list counts only after `settle_s` from the first look, by this machine's monotonic
    clock: when the request was sent is known by a clock that may be another machine's. Where the lock does not prove
    that the client of the dead process has ended, one more `call_limit_s` is waited, in which it may still send.

    Args:
        lock: held by this process, so that no other one is at work on these entries.

    Returns:
        Those entries; each on Kaggle or failed by now, or still in doubt where another account sent it.

    Raises:
        KaggleError: Kaggle cannot be asked; the entries stay as they are.
    """
    settings = client.settings
    patience_s = settings.settle_s + (0.0 if lock.outlives_sender else settings.call_limit_s)
    reconciled = []
    for entry in ledger.in_doubt(client.competition):
        try:
            if entry.status == "creating":
                progress.note(
                    f"An earlier submission ({entry.file_name}) had no answer; asking Kaggle whether it was made."
                )
                reconciled.append(reconcile_entry(ledger, client, lock, entry, patience_s, progress))
            else:
                error = "interrupted before anything was submitted"
                reconciled.append(ledger.move(entry, "abandon", "failed", error=error))
        except OvertakenError as err:  # its process is alive without the lock, and goes no further than this
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
    """Look for an entry in Kaggle's list until `patience_s` is over; it is on Kaggle then, or failed.

    A request that was on its way when its answer was lost may be carried out a little later, so that its absence
    counts only after a while.

    Args:
        why: what went wrong, for the entry's error.

    Returns:
        The entry; still `creating` where this account cannot see the submissions of the one that sent it.
    """
    deadline = time.monotonic() + patience_s
    pause = _FIRST_LOOK_S
    with progress.task("looking for it in Kaggle's list", unit="look") as task:
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
            pause = min(2 * pause, _LONGEST_LOOK_S)
    if _sent_by_another_team(client, entry, remotes):
        progress.note(
            f"{entry.file_name} was sent as {entry.who}, whose submissions these credentials do not show. It stays in "
            f"doubt; run dfens submissions sync with the credentials of {entry.who}."
        )
        return entry
    return ledger.move(entry, "miss", "failed", lock, error=why or "no answer, and it is not in Kaggle's list")


def _sent_by_another_team(client: KaggleClient, entry: Entry, remotes: Sequence[KaggleSubmission]) -> bool:
    """Whether the list is one in which the entry could not be: of another account, with nothing of its sender's."""
    user = str(client.whoami().get("user") or "")
    return bool(entry.who and user and user != entry.who and all(remote.who != entry.who for remote in remotes))


def in_doubt_error(err: DfensError, reason: Reason) -> InDoubtError:
    """Return the error to raise where it could not be found out what became of a submission."""
    return InDoubtError(
        f"{err} Whether the submission was made is not known; the ledger keeps it in doubt, and the next dfens submit "
        f"or dfens submissions sync finds out before anything else is sent.",
        reason,
    )


def entry_of(competition: str, remote: KaggleSubmission) -> Entry:
    """Return a new entry of a submission that the ledger did not have."""
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
