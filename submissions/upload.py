"""Make one submission, at most once.

    lock -> reconcile what an earlier run left in doubt -> same bytes sent before? -> allowance left?
         -> ledger: prepared -> uploading -> (file uploaded) -> ledger: creating -> submit -> ledger: pending

Before `creating` nothing can have been submitted. From then on, only Kaggle's response (a number
above 0, or a clear refusal) or its list of submissions shows what happened. `submissions.states`
has the transitions.
"""

import contextlib
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oof.errors import ConfigError, DfensError, StoreError, SubmissionError, examples
from oof.files import atomic_path, file_sha256, remove_leftovers
from oof.progress import SILENT, Progress
from submissions.allowance import Allowance, check_allowance
from submissions.database.base import SubmitLock
from submissions.entry import Entry
from submissions.kaggle.client import LONGEST_PAUSE_S, KaggleClient, KaggleError, KaggleSubmission
from submissions.kaggle.errors import Reason
from submissions.ledger import Ledger, OvertakenError, new_key
from submissions.marks import in_mark, mark_of, token_of
from submissions.reconcile import (
    FIRST_LOOK_S,
    LONGEST_LOOK_S,
    NotRecordedError,
    entry_of,
    find_match,
    in_doubt_error,
    reconcile,
    reconcile_entry,
    record,
    taken_refs,
)
from submissions.table import SubmissionTable

Send = Callable[[Entry, Callable[[], None]], tuple[int, str]]


class AlreadySentError(SubmissionError):
    """The same bytes were submitted before, as `entry`."""

    def __init__(self, message: str, entry: Entry) -> None:
        super().__init__(message)
        self.entry = entry


@dataclass(frozen=True)
class Submitted:
    """The outcome of a submission.

    entry: the entry in the ledger. allowance: the allowance before this submission, None if nothing was sent now.
    found: the reason why nothing was sent now; empty if it was.
    """

    entry: Entry
    allowance: Allowance | None
    found: str = ""

    @property
    def left_today(self) -> int | None:
        """Return the number of submissions left today; None if nothing was sent now."""
        return None if self.allowance is None else self.allowance.left - 1


def new_entry(competition: str, **facts: Any) -> Entry:
    """Return a new entry for a submission; facts are fields of Entry."""
    now = datetime.now(UTC)
    return Entry(key=new_key(), created=now, updated=now, competition=competition, status="prepared", **facts)


def sent_name(name: str, key: str) -> str:
    """Return the file name on Kaggle: the name with a unique part."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-.')[:60] or 'submission'}-{token_of(key)}.csv"


@dataclass
class _Gate:
    """Called when the file is uploaded; when it returns, Kaggle is asked to create the submission."""

    ledger: Ledger
    entry: Entry
    lock: SubmitLock
    asked: bool = False

    def __call__(self) -> None:
        self.ledger.move(self.entry, "create", "creating", self.lock)
        self.asked = True


@dataclass(frozen=True, kw_only=True)
class Submitter:
    """Submits to one competition, under one ledger.

    again: whether to send although the same bytes are already on Kaggle.
    per_day: your own limit of submissions per UTC day; None for Kaggle's limit alone.
    """

    ledger: Ledger
    client: KaggleClient
    again: bool = False
    per_day: int | None = None
    progress: Progress = SILENT

    def submit_table(self, table: SubmissionTable, entry: Entry, *, root: Path, folder: Path) -> Submitted:
        """Upload a checked table and submit it.

        Args:
            entry: from `new_entry`, with message and provenance; fields that depend on the table are filled in here.
            root: base of the path in the ledger. folder: folder for the table as it was sent.

        Raises:
            AlreadySentError: if the same bytes were sent before. NotRecordedError: if it is on Kaggle, but the ledger
                could not be written. SubmissionError, StoreError, KaggleError: if it was not submitted, or the message
                says that this is unknown. In each case the ledger contains what is known.
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
            def check_and_go() -> None:
                if not path.is_file() or file_sha256(path) != entry.sha256:
                    raise SubmissionError(f"{path} was changed while it was being uploaded.")
                on_uploaded()

            return self.client.submit(path, entry.message, check_and_go)

        def keep() -> None:
            remove_leftovers(folder)
            with atomic_path(path) as part:
                part.write_bytes(table.data)

        with self._turn() as lock:
            _adopt_kept_copies(self.ledger, self.client, entry, folder, self.progress)
            return self._submit(lock, entry, send, keep)

    def submit_kernel(self, entry: Entry) -> Submitted:
        """Submit the output file of a notebook version; `entry` has kernel, kernel_version and file_name.

        A unique suffix of its message identifies it on Kaggle. The same version and file are sent once. Errors as
        in `submit_table`.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+", entry.kernel):
            raise ConfigError(f"--kernel {entry.kernel!r}: expected OWNER/SLUG, as in the notebook's URL on Kaggle.")
        sha256 = _kernel_sha256(replace(entry, kernel=entry.kernel.lower()))
        as_typed = _kernel_sha256(entry)  # by which earlier versions of dfens recognised it
        message = f"{entry.message} {mark_of(entry.key, sha256)}".strip()
        entry = replace(entry, kind="kernel", message=message, path="", sha256=sha256)

        def send(entry: Entry, on_uploaded: Callable[[], None]) -> tuple[int, str]:
            return self.client.submit_kernel(
                entry.kernel, entry.kernel_version or 0, entry.file_name, entry.message, on_uploaded
            )

        with self._turn() as lock:
            _adopt_kernels(self.ledger, self.client, entry, as_typed)
            return self._submit(lock, entry, send, lambda: None)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[SubmitLock]:
        """Hold the submit lock; the client's process shares a file lock, which is therefore held during an upload."""
        client = self.client
        limit_s = client.settings.lock_limit_s
        waiting = "Another dfens submit is running; waiting for it."
        with self.ledger.exclusive(client.competition, limit_s, lambda: self.progress.note(waiting)) as lock:
            client.process.kill()
            client.process.held = lock.descriptors
            try:
                yield lock
            finally:
                client.process.kill()  # it holds the lock too
                client.process.held = ()

    def _submit(self, lock: SubmitLock, entry: Entry, send: Send, keep: Callable[[], None]) -> Submitted:
        earlier = self._sent_earlier(lock, entry.sha256)
        if earlier is not None:
            return earlier
        allowance = check_allowance(self.ledger, self.client, self.per_day)
        keep()
        entry = self.ledger.add(replace(entry, who=str(self.client.whoami().get("user") or "")))
        return Submitted(self._send(lock, entry, send), allowance)

    # ---- before -------------------------------------------------------------

    def _sent_earlier(self, lock: SubmitLock, sha256: str) -> Submitted | None:
        """Reconcile entries in doubt; return a result if Kaggle has these bytes already, so that nothing is sent."""
        ledger, client = self.ledger, self.client
        try:
            reconciled = reconcile(ledger, client, lock, self.progress)
        except KaggleError as err:
            raise in_doubt_error(err, err.reason) from err
        for entry in reconciled:
            if entry.on_server and entry.sha256 == sha256:
                return Submitted(entry, None, "An interrupted run had already submitted it.")
        late = self._came_late(sha256)
        if late is not None:
            return Submitted(late, None, "A run that seemed to have failed had already submitted it.")
        copies = ledger.find_sha(client.competition, sha256)
        if copies and (not self.again or copies[-1].in_doubt):
            raise _already_sent(copies[-1])
        return None

    def _came_late(self, sha256: str) -> Entry | None:
        """Return a failed entry with these bytes, if Kaggle has processed it since."""
        failed = [
            entry
            for entry in self.ledger.list(self.client.competition, ("failed",))
            if entry.sha256 == sha256 and entry.ref is None
        ]
        remotes = self.client.submissions() if failed else []
        for entry in failed:
            remote = find_match(entry, remotes, taken_refs(self.ledger, entry))
            if remote is not None:
                return record(self.ledger, entry, remote)
        return None

    # ---- sending ------------------------------------------------------------

    def _send(self, lock: SubmitLock, entry: Entry, send: Send) -> Entry:
        """Send an entry of the ledger; return it as it is on Kaggle."""
        settings = self.client.settings
        pause, transition = settings.retry_first_s, "upload"
        for attempt in range(settings.retries + 1):
            gate = _Gate(self.ledger, entry, lock)
            try:
                entry = self.ledger.move(entry, transition, "uploading", lock, error="")
                ref, said = send(entry, gate)
            except KaggleError as err:
                if gate.asked and not err.reason.certain:
                    return self._look_up(lock, entry, err)
                wait = _pause_before_retry(err.reason, attempt, settings.retries, pause)
                if wait is None:
                    self._fail(entry, err)
                    raise
                self.progress.note(
                    f"Nothing is submitted yet ({err.reason.said or err.reason.kind}); trying again in {wait:.0f} s."
                )
                time.sleep(wait)
                made = self._made_after_all(entry, err) if gate.asked else None
                if made is not None:
                    return made
                pause, transition = 2 * pause, "retry"
            # an error of the ledger, the lock or the file: Kaggle was not asked, and the client is killed
            except DfensError as err:
                self._fail(entry, err)
                raise SubmissionError(f"{err} Nothing was submitted.") from err
            else:
                if ref > 0:
                    return self._received(entry, ref)
                return self._look_up(lock, entry, _no_number(self.client, said))
        raise RuntimeError("the last attempt returns or raises")

    def _made_after_all(self, entry: Entry, error: KaggleError) -> Entry | None:
        """Return the entry if Kaggle has it although the response was 429, which a proxy may send on its own."""
        try:
            remote = find_match(entry, self.client.submissions(), taken_refs(self.ledger, entry))
        except KaggleError as err:
            raise in_doubt_error(err, error.reason) from err
        return None if remote is None else record(self.ledger, entry, remote)

    def _fail(self, entry: Entry, error: DfensError) -> None:
        """Record that nothing was submitted; if the ledger cannot be written now, the next run records it."""
        with contextlib.suppress(StoreError, OvertakenError):
            try:
                self.ledger.move(entry, "abandon", "failed", error=str(error))
            except OvertakenError as err:
                if err.current.status != "creating":
                    raise
                self.ledger.move(entry, "refuse", "failed", error=str(error))

    def _received(self, entry: Entry, ref: int) -> Entry:
        """Record Kaggle's number, which no error may hide from here on, then the state of the submission on Kaggle.

        If fewer bytes arrived than were sent, the entry's `error` says so.
        """
        try:
            entry = self.ledger.move(entry, "confirm", "pending", ref=ref, submitted=datetime.now(UTC))
        except Exception as err:
            raise NotRecordedError(self.client.competition, ref, err) from err
        with contextlib.suppress(DfensError):  # it is submitted; the next sync or wait updates it
            entry = record(self.ledger, entry, self.client.submission(ref))
        return entry

    def _look_up(self, lock: SubmitLock, entry: Entry, error: KaggleError) -> Entry:
        """Look up an entry after an inconclusive response; return it if it is in Kaggle's list within `list_lag_s`."""
        self.progress.note(f"{_inconclusive(error.reason)}; checking its list of submissions.")
        patience_s = self.client.settings.list_lag_s  # the client has exited or responded, so it sends nothing more
        try:
            entry = reconcile_entry(self.ledger, self.client, lock, entry, patience_s, self.progress, str(error))
        except OvertakenError as err:
            entry = err.current
        except NotRecordedError:
            raise
        except (SubmissionError, StoreError) as err:
            raise in_doubt_error(err, error.reason) from error
        if entry.on_server:
            return entry
        raise KaggleError(f"{error} Kaggle's list shows that nothing was submitted.", error.reason) from error


def _inconclusive(reason: Reason) -> str:
    """Return how Kaggle answered the request for a submission, if its answer does not show whether it was made."""
    if reason.status >= 400:
        return f"Kaggle answered with status {reason.status}"
    if reason.status or reason.kind == "malformed":
        return "Kaggle's answer does not show whether the submission was made"
    return (
        "Kaggle did not answer in time" if reason.kind == "timeout" else "The connection ended before Kaggle's answer"
    )


def _pause_before_retry(reason: Reason, attempt: int, retries: int, pause: float) -> float | None:
    """Return the pause before the next attempt, or None if there is none."""
    wait = reason.retry_after_s if reason.retry_after_s is not None else pause
    late = reason.kind == "timeout" and attempt >= 1
    return wait if reason.retry and attempt < retries and wait <= LONGEST_PAUSE_S and not late else None


def _already_sent(last: Entry) -> AlreadySentError:
    if last.in_doubt:
        return AlreadySentError(
            f"It is unknown whether the same bytes were submitted as {last.file_name}, by {last.who}. Run dfens "
            f"submissions sync with the credentials of {last.who}, then the same command again.",
            last,
        )
    score = f", public score {last.public_score:g}" if last.public_score is not None else ""
    return AlreadySentError(
        f"The same {'bytes were' if last.kind == 'file' else 'notebook version was'} submitted on "
        f"{last.created:%Y-%m-%d %H:%M} UTC as {last.name} ({last.status}{score}), so this would waste a "
        f"submission. See dfens submissions show {last.name}, or send it with --again.",
        last,
    )


def _kernel_sha256(entry: Entry) -> str:
    """Return the hash that identifies a notebook version and its file, in place of the bytes, which are on Kaggle."""
    what = f"notebook {entry.kernel} version {entry.kernel_version} file {entry.file_name}"
    return hashlib.sha256(what.encode()).hexdigest()


def _adopt_kernels(ledger: Ledger, client: KaggleClient, entry: Entry, as_typed: str) -> None:
    """Record earlier submissions of this notebook version that the ledger, which may be new, does not know as such.

    Args:
        as_typed: hash by which earlier versions of dfens recognised it, which distinguished upper and lower case.
    """
    same = (entry.kernel.lower(), entry.kernel_version, entry.file_name)
    for other in ledger.list(entry.competition):
        if (other.kernel.lower(), other.kernel_version, other.file_name) == same and other.sha256 != entry.sha256:
            ledger.update(other.key, sha256=entry.sha256)
    if ledger.find_sha(entry.competition, entry.sha256):
        return
    facts = {name: getattr(entry, name) for name in ("kind", "sha256", "kernel", "kernel_version")}
    for remote in client.submissions():
        if in_mark(remote.description)[1] in (in_mark(entry.message)[1], in_mark(mark_of(entry.key, as_typed))[1]):
            _adopt(ledger, entry, remote, **facts)


def _adopt_kept_copies(
    ledger: Ledger, client: KaggleClient, entry: Entry, folder: Path, progress: Progress = SILENT
) -> None:
    """Record earlier submissions of these bytes from this folder that are not in the ledger, which may be new.

    A copy that Kaggle does not list either may belong to a request whose response was lost, so it is looked for as
    long as in `reconcile`.
    """
    known = {other.file_name for other in ledger.list(entry.competition) if other.sha256}
    copies = {
        path.name
        for path in folder.glob("*.csv")
        if path.name not in known
        and path.is_file()
        and path.stat().st_size == entry.bytes
        and file_sha256(path) == entry.sha256
    }
    if not copies:
        return
    progress.note(f"The ledger does not know {examples(sorted(copies), 3)}; asking Kaggle whether it was submitted.")
    deadline, pause = time.monotonic() + client.settings.call_limit_s + client.settings.list_lag_s, FIRST_LOOK_S
    while copies:
        rest = deadline - time.monotonic()
        for remote in client.submissions():
            if remote.file_name in copies:
                _adopt(ledger, entry, remote, sha256=entry.sha256, bytes=entry.bytes, rows=entry.rows)
                copies.remove(remote.file_name)
        if rest <= 0:
            return
        if copies:
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(2 * pause, LONGEST_LOOK_S)


def _adopt(ledger: Ledger, entry: Entry, remote: KaggleSubmission, **facts: Any) -> None:
    """Add facts to the entry of a submission on Kaggle, which sync imported without them, or add the entry."""
    other = next((one for one in ledger.list(entry.competition) if one.ref == remote.ref), None)
    if other is not None:
        ledger.update(other.key, **facts)
    else:
        ledger.add(replace(entry_of(entry.competition, remote), origin="dfens", **facts))


def _no_number(client: KaggleClient, said: str) -> KaggleError:
    words = f" It said “{said}”." if said else ""
    return KaggleError(
        f"Submitting to {client.competition} failed: Kaggle returned no number for it.{words}",
        Reason("server", said, 200),
    )
