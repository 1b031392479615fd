"""One submission, made at most once.

    lock -> reconcile what an earlier run left in doubt -> same bytes sent before? -> allowance left?
         -> ledger: prepared -> uploading -> (file is up) -> ledger: creating -> submit -> ledger: pending

Up to `creating` nothing can have been submitted. From there on only Kaggle's answer (a number
above 0, or a clear refusal) or its list of submissions tells what happened.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from oof.errors import ConfigError, SubmissionError
from oof.files import atomic_path
from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import LONGEST_PAUSE_S, KaggleClient, KaggleError, Limits
from submissions.kaggle.errors import Reason, reset_time
from submissions.ledger import Ledger, new_key
from submissions.reconcile import MARGIN, in_doubt_note, matches, reconcile, reconcile_entry, record, token_of
from submissions.table import SubmissionTable

_SITE = "https://www.kaggle.com/competitions"
_LATE = timedelta(days=1)  # how long Kaggle is asked about a failed attempt before the same bytes go out again
_LAG = timedelta(minutes=10)  # for Kaggle's count to show what was just submitted

Send = Callable[[Entry, Callable[[], None]], tuple[int, str]]


class AlreadySent(SubmissionError):
    """The same bytes were submitted before, as `entry`."""

    def __init__(self, message: str, entry: Entry) -> None:
        super().__init__(message)
        self.entry = entry


@dataclass(frozen=True)
class Submitted:
    """What came of it.

    entry: as the ledger has it. limits: before this submission, None where nothing was sent now.
    found: how it came about that nothing was sent now; empty where it was.
    """

    entry: Entry
    limits: Limits | None
    found: str = ""


def new_entry(competition: str, **facts: Any) -> Entry:
    """An entry of something to submit; facts are fields of Entry."""
    now = datetime.now(UTC)
    return Entry(key=new_key(), created=now, updated=now, competition=competition, status="prepared", **facts)


def sent_name(name: str, key: str) -> str:
    """The file name on Kaggle: the name, and what makes it unlike all others."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.')[:60] or 'submission'}-{token_of(key)}.csv"


def submit_table(
    ledger: Ledger,
    client: KaggleClient,
    table: SubmissionTable,
    entry: Entry,
    *,
    root: Path,
    folder: Path,
    again: bool = False,
    per_day: int | None = None,
    progress: Progress = SILENT,
) -> Submitted:
    """Upload a checked table and submit it.

    Args:
        entry: from `new_entry`, with message and provenance; what depends on the table is filled in here.
        root: what the path in the ledger is relative to. folder: where the table is kept as it was sent.
        again: send although the same bytes are on Kaggle already.
        per_day: a limit of one's own on the submissions of a UTC day; None for Kaggle's alone.

    Raises:
        AlreadySent: the same bytes were sent before. SubmissionError: no allowance is left. KaggleError otherwise.
            In each case the ledger tells what is known.
    """
    name = sent_name(entry.blend or Path(entry.file_name).stem, entry.key)
    path = folder / name
    entry = replace(
        entry,
        kind="file",
        file_name=name,
        path=str(path.relative_to(root)) if path.is_relative_to(root) else str(path),
        sha256=table.sha256,
        bytes=len(table.data),
        rows=table.rows,
    )

    def send(entry: Entry, on_uploaded: Callable[[], None]) -> tuple[int, str]:
        return client.submit(path, entry.message, on_uploaded)

    with _turn(ledger, client, progress):
        earlier = _reconcile(ledger, client, entry.sha256, again, progress)
        if earlier is not None:
            return earlier
        limits = _allowance(ledger, client, per_day)
        with atomic_path(path) as part:
            part.write_bytes(table.data)
        return Submitted(_send(ledger, client, entry, send, progress), limits)


def submit_kernel(
    ledger: Ledger,
    client: KaggleClient,
    entry: Entry,
    *,
    again: bool = False,
    per_day: int | None = None,
    progress: Progress = SILENT,
) -> Submitted:
    """Submit the output file of a notebook's version; `entry` names kernel, kernel_version and file_name.

    Its message ends with a mark by which it is found again. The same version and file are sent once.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+", entry.kernel):
        raise ConfigError(f"--kernel {entry.kernel!r}: expected OWNER/SLUG, as in the notebook's address on Kaggle.")
    mark = f"[dfens {token_of(entry.key)}]"
    what = f"notebook {entry.kernel} version {entry.kernel_version} file {entry.file_name}"
    entry = replace(
        entry,
        kind="kernel",
        message=f"{entry.message} {mark}".strip(),
        path="",
        sha256=hashlib.sha256(what.encode()).hexdigest(),
    )

    def send(entry: Entry, on_uploaded: Callable[[], None]) -> tuple[int, str]:
        return client.submit_kernel(
            entry.kernel, entry.kernel_version or 0, entry.file_name, entry.message, on_uploaded
        )

    with _turn(ledger, client, progress):
        earlier = _reconcile(ledger, client, entry.sha256, again, progress)
        if earlier is not None:
            return earlier
        limits = _allowance(ledger, client, per_day)
        return Submitted(_send(ledger, client, entry, send, progress), limits)


@contextlib.contextmanager
def _turn(ledger: Ledger, client: KaggleClient, progress: Progress) -> Iterator[None]:
    """Be the only one that submits; the client's process shares the lock, so that it outlives no upload."""
    waiting = "Another dfens submit is at work; waiting for it."
    with ledger.exclusive(client.competition, client.settings.lock_limit_s, lambda: progress.note(waiting)) as held:
        client.process.kill()
        client.process.held = held
        try:
            yield
        finally:
            client.process.kill()  # it holds the lock too
            client.process.held = ()


def _reconcile(ledger: Ledger, client: KaggleClient, sha256: str, again: bool, progress: Progress) -> Submitted | None:
    """Reconcile what was left open; if that was this very file and it is on Kaggle, there is nothing to send."""
    try:
        reconciled = reconcile(ledger, client, progress)
    except KaggleError as err:
        raise KaggleError(in_doubt_note(err), err.reason) from err
    for entry in reconciled:
        if entry.on_server and entry.sha256 == sha256:
            return Submitted(entry, None, "An interrupted run had sent it, and Kaggle has it.")
    late = _came_late(ledger, client, sha256)
    if late is not None:
        return Submitted(late, None, "A run that was taken for failed had sent it, and Kaggle has it.")
    copies = ledger.find_sha(client.competition, sha256)
    if copies and not again:
        last = copies[-1]
        score = f", public score {last.public_score:g}" if last.public_score is not None else ""
        raise AlreadySent(
            f"The same {'bytes were' if last.kind == 'file' else 'notebook version was'} submitted on "
            f"{last.created:%Y-%m-%d %H:%M} UTC as {last.name} ({last.status}{score}), so this would use up one "
            f"for nothing new. See dfens submissions show {last.name}, or send it with --again.",
            last,
        )
    return None


def _came_late(ledger: Ledger, client: KaggleClient, sha256: str) -> Entry | None:
    """An entry of these bytes that failed of late, if Kaggle has carried it out since."""
    now = datetime.now(UTC)
    failed = [
        entry
        for entry in ledger.list(client.competition, ("failed",))
        if entry.sha256 == sha256 and now - entry.created < _LATE
    ]
    for remote in client.submissions(since=failed[0].created - MARGIN) if failed else ():
        for entry in failed:
            if matches(entry, remote):
                return record(ledger, entry, remote)
    return None


def _allowance(ledger: Ledger, client: KaggleClient, per_day: int | None) -> Limits:
    """Ask Kaggle what is allowed, and stop where nothing is."""
    limits = client.limits()
    now = datetime.now(UTC)
    own = [
        entry.submitted or entry.created
        for entry in ledger.list(client.competition, ("pending", "complete"))
        if (entry.submitted or entry.created).date() == now.date()
    ]
    unseen = max(0, min(len(own) - limits.today, sum(now - made < _LAG for made in own)))
    used = max(limits.today, len(own))
    if limits.allowed_now > unseen:
        if per_day is None or used < per_day:
            return limits
        raise SubmissionError(
            f"[competition] submissions_per_day = {per_day} are used up ({used} made today); the count starts again "
            f"{reset_time(now.astimezone())}. Kaggle allows {limits.allowed_now - unseen} more: raise it in dfens.toml "
            f"to use them. Nothing was sent."
        )
    link = f"{_SITE}/{client.competition}"
    if limits.limited_by_total:
        text = f"All {limits.total} submissions that {client.competition} allows are used up; see {link}/submissions."
    elif used == 0:
        text = (
            f"Kaggle allows no submission to {client.competition}: you are in no team there yet, or it takes none now. "
            f"Accept the rules at {link}/rules, or see {link} for its dates."
        )
    else:
        text = (
            f"Today's submissions to {client.competition} are used up ({used} made); the count "
            f"starts again {reset_time(now.astimezone())}."
        )
    raise SubmissionError(f"{text} Nothing was sent.")


def _send(ledger: Ledger, client: KaggleClient, entry: Entry, send: Send, progress: Progress) -> Entry:
    """Write an entry into the ledger and send it; the entry as it is on Kaggle.

    Raises:
        KaggleError: it is not on Kaggle (the ledger has it as failed), or that could not be found out.
    """
    entry = ledger.add(replace(entry, who=client.whoami().get("user") or entry.who))
    key, pause = entry.key, client.settings.retry_first_s

    def on_uploaded() -> None:
        ledger.update(key, status="creating")

    for attempt in range(client.settings.retries + 1):
        entry = ledger.update(key, status="uploading", error="")
        try:
            ref, said = send(entry, on_uploaded)
        except KaggleError as err:
            entry = ledger.get(key)
            reason = err.reason
            if entry.status == "creating" and not reason.certain:
                return _found_out(ledger, client, entry, err, progress)
            wait = reason.retry_after_s if reason.retry_after_s is not None else pause
            late = reason.kind == "timeout" and attempt >= 1
            if reason.retry and attempt < client.settings.retries and wait <= LONGEST_PAUSE_S and not late:
                progress.note(f"Nothing is submitted yet ({reason.said or reason.kind}); trying again in {wait:.0f} s.")
                time.sleep(wait)
                pause *= 2
                continue
            ledger.update(key, status="failed", error=str(err))
            raise
        if ref > 0:
            entry = ledger.update(key, status="pending", ref=ref, submitted=datetime.now(UTC))
            return _received(ledger, client, entry)
        return _found_out(ledger, client, ledger.get(key), _no_number(client, said), progress)
    raise AssertionError("the last attempt returns or raises")


def _found_out(ledger: Ledger, client: KaggleClient, entry: Entry, error: KaggleError, progress: Progress) -> Entry:
    """After an answer that tells nothing: the entry, if Kaggle's list has it."""
    progress.note("Kaggle's answer did not come; asking for its list of submissions.")
    try:
        entry = reconcile_entry(ledger, client, entry, progress, why=str(error))
    except KaggleError as err:
        raise KaggleError(in_doubt_note(err), err.reason) from error
    if entry.on_server:
        return entry
    raise KaggleError(f"{error} Kaggle's list shows that nothing was submitted.", error.reason) from error


def _no_number(client: KaggleClient, said: str) -> KaggleError:
    words = f" It said “{said}”." if said else ""
    return KaggleError(
        f"Submitting to {client.competition} failed: Kaggle gave no number for it.{words}", Reason("server", said, 200)
    )


def _received(ledger: Ledger, client: KaggleClient, entry: Entry) -> Entry:
    """The entry with what Kaggle says of it now; its `error` tells where fewer bytes arrived than were sent."""
    try:
        return record(ledger, entry, client.submission(entry.ref or 0))
    except KaggleError:
        return entry  # it is submitted; the next sync or wait asks again
