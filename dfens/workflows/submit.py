"""Submit a checked table or a notebook's output once, and wait for its score."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dfens import __version__
from dfens.workflows.draft import Draft, git_state, message_fields
from dfens.workflows.ledger import cv_of, open_ledger
from dfens.workflows.provenance import VERSION
from dfens.workflows.submissions import open_client
from dfens.workspace.paths import Workspace
from oof.errors import SubmissionError
from oof.files import file_sha256
from oof.metrics import metric_by_name
from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError
from submissions.leaderboard import LeaderboardRank, rank_score, read_leaderboard
from submissions.ledger import Ledger
from submissions.message import make_message
from submissions.upload import AlreadySent, Submitted, new_entry, submit_kernel, submit_table
from submissions.wait import wait_for_score

SCORED, REFUSED_BY_KAGGLE, STILL_PENDING = 0, 3, 4


@dataclass(frozen=True)
class PublicScore:
    """A public score beside what it may be compared with; None where that is not known."""

    score: float
    best_before: float | None
    cv: float | None
    rank: int | None
    teams: int | None


@dataclass(frozen=True)
class SubmitResult:
    """What became of a submission.

    found: why nothing was sent now; empty where it was. left_today: submissions that Kaggle still allows, where known.
    waited: whether the score was waited for. note: why there is no score after the wait.
    """

    entry: Entry
    found: str
    left_today: int | None
    waited: bool = False
    note: str = ""
    public: PublicScore | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of `dfens submit`."""
        if self.entry.status == "error" or self.entry.error:
            return REFUSED_BY_KAGGLE
        return STILL_PENDING if self.waited and self.entry.status == "pending" else SCORED

    @property
    def sentences(self) -> list[str]:
        """What was sent, before its score is known."""
        entry = self.entry
        left = "" if self.left_today is None else f"; {self.left_today} more today"
        lines = [f"Submitted {entry.file_name} to {entry.competition} as {entry.name}{left}."]
        if self.found:
            lines = [f"{self.found} It is {entry.name} ({entry.file_name}); nothing was sent now."]
        if entry.error and entry.status != "error":
            lines.append(
                f"Warning: {entry.error} Its score will be wrong; look at it on Kaggle before you send it --again."
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """The entry's facts at the top level."""
        ranked = {} if self.public is None else {"rank": self.public.rank, "teams": self.public.teams}
        return vars(self.entry) | {"left_today": self.left_today, "note": self.note} | ranked


def send_table(
    workspace: Workspace, draft: Draft, *, again: bool = False, wait: bool = False, progress: Progress = SILENT
) -> SubmitResult:
    """Submit a checked table, and wait for its score where asked."""
    entry = _entry_of(
        workspace,
        draft.message,
        draft.facts,
        blend=draft.blend,
        file_name=f"{draft.name}.csv",
        score=draft.score,
        nested_score=draft.nested_score,
    )
    ledger = open_ledger(workspace)
    with open_client(workspace, progress) as client:
        made = _made(
            wait,
            submit_table,
            ledger,
            client,
            draft.table,
            entry,
            root=workspace.root,
            folder=workspace.sent_dir(),
            again=again,
            per_day=workspace.config.competition.submissions_per_day,
            progress=progress,
        )
        return _followed(workspace, ledger, client, made, wait, progress)


def send_kernel(
    workspace: Workspace,
    kernel: str,
    version: int,
    file_name: str,
    message: str | None,
    *,
    again: bool = False,
    wait: bool = False,
    progress: Progress = SILENT,
) -> SubmitResult:
    """Submit the output of a notebook's version."""
    facts = {"version": VERSION, "source": "kernel", "name": f"{kernel} version {version}"}
    fields = message_fields(workspace, kernel, None, None, None, facts)
    text = make_message(message or f"{kernel} version {version}", fields)
    entry = _entry_of(workspace, text, facts, kernel=kernel, kernel_version=version, file_name=file_name)
    ledger = open_ledger(workspace)
    per_day = workspace.config.competition.submissions_per_day
    with open_client(workspace, progress) as client:
        made = _made(wait, submit_kernel, ledger, client, entry, again=again, per_day=per_day, progress=progress)
        return _followed(workspace, ledger, client, made, wait, progress)


def _entry_of(workspace: Workspace, message: str, facts: Mapping[str, Any], **fields: Any) -> Entry:
    """Return a new entry with everything that says where a submission comes from."""
    commit, dirty = git_state(workspace.root)
    config = workspace.config_path
    return new_entry(
        workspace.config.competition.slug,
        message=message,
        provenance=facts,
        who=os.environ.get("USER", ""),
        git_commit=commit,
        git_dirty=dirty,
        dfens_version=__version__,
        config_sha256=file_sha256(config) if config.exists() else "",
        **fields,
    )


def _made(wait: bool, submit: Callable[..., Submitted], *args: Any, **more: Any) -> Submitted:
    """Submit; with --wait, what was sent before and has no score yet is waited for, as after an interrupted wait."""
    try:
        return submit(*args, **more)
    except AlreadySent as err:
        if not wait or err.entry.status != "pending":
            raise
        return Submitted(err.entry, None, "The same was sent before and has no score yet.")


def _followed(
    workspace: Workspace, ledger: Ledger, client: KaggleClient, made: Submitted, wait: bool, progress: Progress
) -> SubmitResult:
    """Return what became of a submission, after its score where asked."""
    left = None if made.limits is None else made.limits.allowed_now - 1
    result = SubmitResult(made.entry, made.found, left)
    if not wait:
        return result
    for line in result.sentences:
        progress.note(line)
    entry, note = _waited(workspace, ledger, client, made.entry, progress)
    public = None
    if entry.status == "complete" and entry.public_score is not None:
        public = _public_score(workspace, ledger, client, entry)
    return SubmitResult(entry, made.found, left, waited=True, note=note, public=public)


def _waited(
    workspace: Workspace, ledger: Ledger, client: KaggleClient, entry: Entry, progress: Progress
) -> tuple[Entry, str]:
    try:
        entry = wait_for_score(ledger, client, entry, progress)
    except KaggleError as err:
        return ledger.get(entry.key), f"It is submitted, but the score could not be asked for. {err}"
    if entry.status == "pending":
        limit = workspace.config.submissions.wait_limit_s
        return entry, f"Still pending after {limit:g} s. Later: the same command, or dfens submissions sync."
    return entry, ""


def _public_score(workspace: Workspace, ledger: Ledger, client: KaggleClient, entry: Entry) -> PublicScore:
    """Compare a public score with the best so far, with the CV, and with the leaderboard where that can be had."""
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
        cv_of(entry),
        None if rank is None else rank.rank,
        None if rank is None else rank.teams,
    )


def _rank(workspace: Workspace, client: KaggleClient, entry: Entry) -> LeaderboardRank | None:
    metric = metric_by_name(workspace.config.competition.metric)
    path = workspace.leaderboard_path()
    try:
        client.leaderboard(path)
        return rank_score(
            read_leaderboard(path),
            entry.public_score or 0.0,
            own_team=client.submission(entry.ref or 0).team,
            higher_is_better=metric.higher_is_better,
        )
    except SubmissionError:
        return None
