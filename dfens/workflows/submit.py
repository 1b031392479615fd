"""Submit a checked table or a notebook's output once, and wait for its score."""

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dfens import __version__
from dfens.workflows.draft import Draft, DryRun, dry_run, make_draft, message_fields
from dfens.workflows.leaderboard import fetch_leaderboard
from dfens.workflows.ledger import open_ledger
from dfens.workflows.provenance import VERSION
from dfens.workflows.submissions import open_client
from dfens.workspace.paths import Workspace
from oof.errors import DfensError, SubmissionError
from oof.files import file_sha256
from oof.git import git_state
from oof.metrics import metric_by_name
from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.kaggle.credentials import find_secrets
from submissions.leaderboard import LeaderboardRank, rank_score
from submissions.ledger import Ledger
from submissions.message import make_message
from submissions.reconcile import NotRecordedError
from submissions.upload import AlreadySentError, Submitted, Submitter, new_entry
from submissions.wait import wait_for_score

SCORED, REFUSED_BY_KAGGLE, STILL_PENDING, NOT_RECORDED = 0, 3, 4, 5

__all__ = ["NOT_RECORDED", "NotRecordedError", "SubmitRequest", "SubmitResult", "submit"]


@dataclass(frozen=True)
class PublicScore:
    """A public score and the values to compare it with; None if unknown."""

    score: float
    best_before: float | None
    cv: float | None
    rank: int | None
    teams: int | None


@dataclass(frozen=True)
class SubmitResult:
    """The outcome of a submission.

    found: why nothing was sent now; empty if it was. left_today: number of submissions left
    today, by Kaggle's limit and that in dfens.toml; None if nothing was sent now.
    waited: whether dfens waited for the score. note: why there is no score after the wait.
    """

    entry: Entry
    found: str
    left_today: int | None
    waited: bool = False
    note: str = ""
    public: PublicScore | None = None

    @property
    def exit_code(self) -> int:
        """Return the exit code of `dfens submit`."""
        if self.entry.status == "error" or self.entry.error:
            return REFUSED_BY_KAGGLE
        return STILL_PENDING if self.waited and self.entry.status == "pending" else SCORED

    @property
    def sentences(self) -> list[str]:
        """Return sentences on what was sent, before its score is known."""
        entry = self.entry
        left = "" if self.left_today is None else f"; {self.left_today} left today"
        lines = [f"Submitted {entry.file_name} to {entry.competition} as {entry.name}{left}."]
        if self.found:
            lines = [f"{self.found} It is {entry.name} ({entry.file_name}); nothing was sent now."]
        if entry.error and entry.status != "error":
            lines.append(
                f"Warning: {entry.error} Its score will be wrong; check it on Kaggle before submitting it with --again."
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the entry at the top level."""
        ranked = {} if self.public is None else {"rank": self.public.rank, "teams": self.public.teams}
        return vars(self.entry) | {"left_today": self.left_today, "note": self.note} | ranked


@dataclass(frozen=True, kw_only=True)
class SubmitRequest:
    """What to submit, as given in the options of `dfens submit`.

    blend: name of a blend or model; None for the newest blend, unless `file` or `kernel` is given.
    file: a table made elsewhere; with `kernel` ("owner/slug"), the name of an output file of that notebook version.
    message: template of the message; None for that in dfens.toml. dry_run: only build and check the table.
    again: submit although the same bytes were submitted before. stale: submit a blend whose members have changed.
    wait: wait for the score.
    """

    blend: str | None = None
    file: str | None = None
    kernel: str | None = None
    kernel_version: int | None = None
    message: str | None = None
    dry_run: bool = False
    again: bool = False
    stale: bool = False
    wait: bool = False


def submit(workspace: Workspace, request: SubmitRequest, progress: Progress = SILENT) -> SubmitResult | DryRun:
    """Submit a checked table or a notebook's output once, and wait for its score if requested.

    Raises:
        NotRecordedError: if it is on Kaggle, but the ledger could not be written.
        DfensError: if it was not submitted, or the message says that this is unknown.
    """
    send: Callable[[Submitter], Submitted]
    if request.kernel is not None:
        send = _sender_of_kernel(workspace, request)
    else:
        draft = make_draft(workspace, request.blend, request.file, request.message, stale=request.stale)
        if request.dry_run:
            return dry_run(workspace, draft)
        for note in draft.table.notes:
            progress.note(f"Note: {note}")
        send = _sender_of_table(workspace, draft)
    per_day = workspace.config.competition.submissions_per_day
    ledger = open_ledger(workspace)
    with open_client(workspace, progress) as client:
        submitter = Submitter(ledger=ledger, client=client, again=request.again, per_day=per_day, progress=progress)
        made = _made(request.wait, lambda: send(submitter))
        return _followed(workspace, ledger, client, made, request.wait, progress)


def _sender_of_table(workspace: Workspace, draft: Draft) -> Callable[[Submitter], Submitted]:
    entry = _entry_of(
        workspace,
        draft.message,
        draft.facts,
        blend=draft.blend,
        file_name=f"{draft.name}.csv",
        score=draft.score,
        nested_score=draft.nested_score,
    )
    root, folder = workspace.root, workspace.sent_dir()
    return lambda submitter: submitter.submit_table(draft.table, entry, root=root, folder=folder)


def _sender_of_kernel(workspace: Workspace, request: SubmitRequest) -> Callable[[Submitter], Submitted]:
    kernel, version = request.kernel or "", request.kernel_version
    name = f"{kernel} version {version}"
    facts = {"version": VERSION, "source": "kernel", "name": name}
    fields = message_fields(workspace, kernel, None, None, None, facts)
    text = make_message(request.message or name, fields, find_secrets(os.environ))
    entry = _entry_of(workspace, text, facts, kernel=kernel, kernel_version=version, file_name=request.file or "")
    return lambda submitter: submitter.submit_kernel(entry)


def _entry_of(workspace: Workspace, message: str, facts: Mapping[str, Any], **fields: Any) -> Entry:
    """Return a new entry with the provenance of a submission."""
    state = git_state(workspace.root)
    config = workspace.config_path
    return new_entry(
        workspace.config.competition.slug,
        message=message,
        provenance=facts,
        git_commit=state.commit if state else "",
        git_dirty=state.dirty if state else None,
        dfens_version=__version__,
        config_sha256=file_sha256(config) if config.exists() else "",
        **fields,
    )


def _made(wait: bool, submit: Callable[[], Submitted]) -> Submitted:
    """Submit; with --wait, return an earlier submission of the same, which is waited for if it has no score yet."""
    try:
        return submit()
    except AlreadySentError as err:
        if not wait or not err.entry.on_server:
            raise
        what = "file" if err.entry.kind == "file" else "notebook version"
        state = " and has no score yet" if err.entry.status == "pending" else ""
        return Submitted(err.entry, None, f"The same {what} was sent before{state}.")


def _followed(
    workspace: Workspace, ledger: Ledger, client: KaggleClient, made: Submitted, wait: bool, progress: Progress
) -> SubmitResult:
    """Return the outcome of a submission, after waiting for its score if requested."""
    left = made.left_today
    result = SubmitResult(made.entry, made.found, left)
    if not wait:
        return result
    for line in result.sentences:
        progress.note(line)
    entry, note = _waited(workspace, ledger, client, made.entry, progress)
    public = None
    if entry.status == "complete" and entry.public_score is not None:
        metric = metric_by_name(workspace.config.competition.metric)
        public = PublicScore(entry.public_score, None, entry.cv_by(metric.name), None, None)
        with contextlib.suppress(DfensError, OSError):  # it is submitted and scored, even if the comparison fails
            public = _public_score(workspace, ledger, client, entry)
    return SubmitResult(entry, made.found, left, waited=True, note=note, public=public)


def _waited(
    workspace: Workspace, ledger: Ledger, client: KaggleClient, entry: Entry, progress: Progress
) -> tuple[Entry, str]:
    try:
        entry = wait_for_score(ledger, client, entry, progress)
    except KaggleError as err:
        return entry, f"It is submitted, but its score could not be queried. {err}"
    except DfensError as err:
        return entry, f"It is submitted, but its score could not be recorded. {err}"
    if entry.status == "pending":
        limit = workspace.config.submissions.wait_limit_s
        return entry, f"Still pending after {limit:g} s. Run the same command or dfens submissions sync later."
    return entry, ""


def _public_score(workspace: Workspace, ledger: Ledger, client: KaggleClient, entry: Entry) -> PublicScore:
    """Compare a public score with the best so far, with the CV, and with the leaderboard if available."""
    metric = metric_by_name(workspace.config.competition.metric)
    others = [
        other.public_score
        for other in ledger.list(entry.competition)
        if other.public_score is not None and other.key != entry.key
    ]
    rank = _rank(workspace, client, entry)
    return PublicScore(
        entry.public_score or 0.0,
        max(others, key=metric.gain, default=None),
        entry.cv_by(metric.name),
        None if rank is None else rank.rank,
        None if rank is None else rank.teams,
    )


def _rank(workspace: Workspace, client: KaggleClient, entry: Entry) -> LeaderboardRank | None:
    metric = metric_by_name(workspace.config.competition.metric)
    try:
        teams, team = fetch_leaderboard(workspace, client)
    except SubmissionError:
        return None
    return rank_score(teams, entry.public_score or 0.0, own_team=team, higher_is_better=metric.higher_is_better)
