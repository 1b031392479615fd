"""What `dfens submit` does between the stores and Kaggle: the table, its provenance, the upload, the score."""

import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfens import __version__
from dfens.app import App
from dfens.workflows.ledger import column_settings, cv_of, entry_json, open_ledger, sample_submission
from dfens.workflows.provenance import VERSION, read_recipe
from oof.errors import SubmissionError, examples
from oof.files import file_sha256
from oof.metrics import metric_by_name
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient, KaggleError, Limits
from submissions.ledger import Ledger
from submissions.message import make_message
from submissions.table import SubmissionTable, build_table, validate_file

if TYPE_CHECKING:
    from submissions.upload import Submitted

SCORED, REFUSED_BY_KAGGLE, STILL_PENDING = 0, 3, 4


@dataclass(frozen=True, eq=False)
class Draft:
    """A checked table that could be submitted.

    name: of the blend, model or file. facts: provenance for the ledger. message: filled in.
    """

    name: str
    table: SubmissionTable
    message: str
    blend: str
    score: float | None
    nested_score: float | None
    facts: Mapping[str, Any]


def make_draft(app: App, name: str | None, file: Path | None, message: str | None, *, stale: bool = False) -> Draft:
    """Build the table of a blend or model (None: the newest blend), or check a file made elsewhere.

    Raises:
        SubmissionError: the table is not fit to be sent, or (unless `stale`) members of the blend have changed.
    """
    sample = sample_submission(app)
    if file is not None:
        file = file if file.is_file() else app.root / file  # what dfens prints is relative to the folder of dfens.toml
        table = validate_file(file, sample, **column_settings(app))
        facts: dict[str, Any] = {
            "version": VERSION,
            "source": "file",
            "name": file.name,
            "sample_sha256": file_sha256(sample),
        }
        blend, label, score, nested = "", file.stem, None, None
    else:
        recipe = read_recipe(app, name, sample)
        if not stale:
            _check_members(app, recipe.name)
        table = build_table(sample, recipe.ids, recipe.predictions, **column_settings(app))
        facts, blend, label = recipe.facts, recipe.name, recipe.name
        score, nested = recipe.score, recipe.nested_score
    text = make_message(message or app.config.submit.message, _fields(app, label, score, nested, table.rows, facts))
    return Draft(label, table, text, blend, score, nested, facts)


def _check_members(app: App, name: str) -> None:
    """A blend of predictions that were since replaced would waste a submission."""
    from dfens.workspace.members import changed_members
    from ensemble.blend_store import BlendStore

    blends = BlendStore(app.work / "ensemble")
    changed = changed_members(app.predictions, blends, name) if name in blends else []
    if changed:
        raise SubmissionError(
            f"The blend '{name}' was made of other predictions than the store holds now; changed or gone: "
            f"{examples(changed)}. Run dfens blend --name {name} with the options it had, or submit it so: --stale."
        )


def _fields(
    app: App, name: str, score: float | None, nested: float | None, rows: int | None, facts: Mapping[str, Any]
) -> dict[str, object]:
    """What a message may be filled with."""
    members = list(facts.get("member_order") or facts.get("members") or ())
    return {
        "blend": name,
        "score": score,
        "nested_score": nested,
        "metric": facts.get("metric", app.config.competition.metric),
        "method": facts.get("method"),
        "transform": facts.get("transform"),
        "members": "+".join(members) or None,
        "n_members": len(members) or None,
        "rows": rows,
        "competition": app.config.competition.slug,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "git": git_state(app.root)[0][:8] or None,
        "dfens": __version__,
    }


def dry_run(app: App, draft: Draft) -> None:
    """Write the table to work/submissions and tell what was checked; no credentials, no network."""
    table = draft.table
    mark = f"-{table.sha256[:8]}"
    path = app.work / "submissions" / f"{draft.name.removesuffix(mark)}{mark}.csv"
    table.write(path)
    header = table.data.split(b"\n", 1)[0].decode("utf-8-sig").rstrip("\r")
    low, high = float(table.predictions.min()), float(table.predictions.max())
    checks = [
        f"ids: the {table.rows} of the sample submission, each once",
        f"values of '{table.column}': {low:.6g} to {high:.6g}, no NaN, not constant",
    ]
    sent = _sent_before(app, table.sha256)
    if sent:
        checks.append(sent)
    following = f"dfens submit {draft.blend}" if draft.blend else f"dfens submit --file {_shown(app, path)}"
    app.emit(
        {
            "path": path,
            "rows": table.rows,
            "header": header,
            "sha256": table.sha256,
            "message": draft.message,
            "checks": checks,
            "notes": list(table.notes),
            "next": following,
        },
        "\n".join(
            [
                f"{path}",
                f"{table.rows} rows, header {header}",
                *(f"Checked {check}" for check in checks),
                *(f"Note: {note}" for note in table.notes),
                f"Message: {draft.message}",
                f"Nothing was sent. Next: {following}",
            ]
        ),
    )


def _shown(app: App, path: Path) -> str:
    return str(path.relative_to(app.root)) if path.is_relative_to(app.root) else str(path)


def _sent_before(app: App, sha256: str) -> str:
    """Whether the ledger has these bytes; a ledger that does not exist yet is not made for it."""
    if not app.config.submissions.ledger and not (app.work / "submissions" / "ledger.sqlite").exists():
        return ""
    copies = open_ledger(app).find_sha(app.config.competition.slug, sha256)
    return f"against the ledger: the same bytes were submitted as {copies[-1].name}" if copies else ""


def entry_of(app: App, message: str, facts: Mapping[str, Any], **fields: Any) -> Entry:
    """A new entry with all that tells where a submission comes from."""
    from submissions.upload import new_entry

    commit, dirty = git_state(app.root)
    return new_entry(
        app.config.competition.slug,
        message=message,
        provenance=facts,
        who=os.environ.get("USER", ""),
        git_commit=commit,
        git_dirty=dirty,
        dfens_version=__version__,
        config_sha256=file_sha256(app.config_path),
        **fields,
    )


def git_state(folder: Path) -> tuple[str, bool | None]:
    """The commit of a folder and whether files differ from it; ("", None) outside a repository."""
    try:
        commit, changed = (
            subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
            ).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return "", None
    return commit.strip(), bool(changed.strip())


def send_table(app: App, draft: Draft, *, again: bool, wait: bool) -> int:
    """Submit a checked table, and wait for its score where asked; the exit code."""
    from submissions.upload import submit_table

    entry = entry_of(
        app,
        draft.message,
        draft.facts,
        blend=draft.blend,
        file_name=f"{draft.name}.csv",
        score=draft.score,
        nested_score=draft.nested_score,
    )
    ledger = open_ledger(app)
    with _client(app) as client:
        done = _made(
            wait,
            submit_table,
            ledger,
            client,
            draft.table,
            entry,
            root=app.root,
            folder=app.work / "submissions" / "sent",
            again=again,
            per_day=app.config.competition.submissions_per_day,
            progress=app.progress,
        )
        return _tell(app, ledger, client, done.entry, done.limits, done.found, wait)


def send_kernel(
    app: App, kernel: str, version: int, file_name: str, message: str | None, *, again: bool, wait: bool
) -> int:
    """Submit the output of a notebook's version; the exit code."""
    from submissions.upload import submit_kernel

    facts = {"version": VERSION, "source": "kernel", "name": f"{kernel} version {version}"}
    text = make_message(message or f"{kernel} version {version}", _fields(app, kernel, None, None, None, facts))
    entry = entry_of(app, text, facts, kernel=kernel, kernel_version=version, file_name=file_name)
    ledger = open_ledger(app)
    with _client(app) as client:
        per_day = app.config.competition.submissions_per_day
        done = _made(wait, submit_kernel, ledger, client, entry, again=again, per_day=per_day, progress=app.progress)
        return _tell(app, ledger, client, done.entry, done.limits, done.found, wait)


def _made(wait: bool, submit: "Callable[..., Submitted]", *args: Any, **more: Any) -> "Submitted":
    """Submit; with --wait, what was sent before and has no score yet is waited for, as after an interrupted wait."""
    from submissions.upload import AlreadySent, Submitted

    try:
        return submit(*args, **more)
    except AlreadySent as err:
        if not wait or err.entry.status != "pending":
            raise
        return Submitted(err.entry, None, "The same was sent before and has no score yet.")


def _client(app: App) -> KaggleClient:
    return KaggleClient(app.config.competition.slug, app.config.submissions, os.environ, app.progress)


def _tell(
    app: App, ledger: Ledger, client: KaggleClient, entry: Entry, limits: Limits | None, found: str, wait: bool
) -> int:
    """Print what came of a submission, after its score where asked; the exit code."""
    left = "" if limits is None else f"; {limits.allowed_now - 1} more today"
    lines = [f"Submitted {entry.file_name} to {entry.competition} as {entry.name}{left}."]
    if found:
        lines = [f"{found} It is {entry.name} ({entry.file_name}); nothing was sent now."]
    if entry.error and entry.status != "error":
        lines.append(
            f"Warning: {entry.error} Its score will be wrong; look at it on Kaggle before you send it --again."
        )
    rank = None
    if wait:
        for line in lines:
            app.say(line)
        lines = []
        entry, note = _waited(app, ledger, client, entry)
        lines += [note] if note else []
        if entry.status == "complete":
            rank = _rank(app, client, entry)
            lines.append(_score_line(app, ledger, entry, rank))
    if entry.status == "error":
        lines.append(
            f"Kaggle can't score it: {entry.error or 'no reason given'}. See dfens submissions show {entry.name}."
        )
    lines.append(
        "Next: dfens submissions list" if wait else "Next: dfens submissions sync, or dfens submit --wait next time"
    )
    app.emit(
        entry_json(entry) | {"left_today": None if limits is None else limits.allowed_now - 1} | (rank or {}),
        *lines,
    )
    if entry.status == "error" or entry.error:
        return REFUSED_BY_KAGGLE
    return STILL_PENDING if wait and entry.status == "pending" else SCORED


def _waited(app: App, ledger: Ledger, client: KaggleClient, entry: Entry) -> tuple[Entry, str]:
    from submissions.wait import wait_for_score

    try:
        entry = wait_for_score(ledger, client, entry, app.progress)
    except KaggleError as err:
        return ledger.get(entry.key), f"It is submitted, but the score could not be asked for. {err}"
    if entry.status == "pending":
        limit = app.config.submissions.wait_limit_s
        return entry, f"Still pending after {limit:g} s. Later: the same command, or dfens submissions sync."
    return entry, ""


def _rank(app: App, client: KaggleClient, entry: Entry) -> dict[str, Any] | None:
    """Where the score would stand on the public leaderboard; None where that can't be had."""
    from submissions.leaderboard import rank_score, read_leaderboard

    if entry.public_score is None:
        return None
    path = app.work / "submissions" / "leaderboard.zip"
    metric = metric_by_name(app.config.competition.metric)
    try:
        client.leaderboard(path)
        found = rank_score(
            read_leaderboard(path),
            entry.public_score,
            own_team=client.submission(entry.ref or 0).team,
            higher_is_better=metric.higher_is_better,
        )
    except SubmissionError:
        return None
    return {"rank": found.rank, "teams": found.teams}


def _score_line(app: App, ledger: Ledger, entry: Entry, rank: Mapping[str, Any] | None) -> str:
    if entry.public_score is None:
        return "It is scored; Kaggle shows no public score here."
    metric = metric_by_name(app.config.competition.metric)
    others = [
        other.public_score
        for other in ledger.list(entry.competition)
        if other.public_score is not None and other.key != entry.key
    ]
    parts = [f"Public score {entry.public_score:g}"]
    if others:
        best = max(others) if metric.higher_is_better else min(others)
        parts.append(f"{entry.public_score - best:+.5f} against the best so far ({best:g})")
    cv = cv_of(entry)
    if cv is not None:
        parts.append(f"CV {cv:.5f} ({entry.public_score - cv:+.5f})")
    if rank:
        parts.append(f"would rank {rank['rank']} of {rank['teams']} on the public leaderboard")
    return "; ".join(parts) + "."


def sync_ledger(app: App) -> None:
    """Bring in what Kaggle knows, and print what is new."""
    from submissions.sync import sync

    ledger = open_ledger(app)
    with _client(app) as client:
        found = sync(ledger, client, app.progress)
    lines = [f"{found.total} submissions on Kaggle: {len(found.new)} new here, {len(found.changed)} with news."]
    for title, entries in (("New", found.new), ("News", found.changed)):
        for entry in entries:
            score = "" if entry.public_score is None else f", public score {entry.public_score:g}"
            lines.append(f"{title}: {entry.name} {entry.file_name} ({entry.status}{score}) {entry.error}".rstrip())
    app.emit(
        {
            "total": found.total,
            "new": [entry_json(entry) for entry in found.new],
            "changed": [entry_json(entry) for entry in found.changed],
        },
        *lines,
    )
