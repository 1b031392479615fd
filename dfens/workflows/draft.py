"""Prepare the checked table of a submission with its provenance, before anything is sent."""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from dfens import __version__
from dfens.workflows.ledger import column_settings, open_ledger, sample_submission
from dfens.workflows.provenance import VERSION, read_recipe
from dfens.workspace.members import again_command, changed_inputs, check_readable
from dfens.workspace.paths import Workspace
from oof.errors import SubmissionError, examples
from oof.exchange.prediction_columns import class_of_only_column
from oof.git import git_state
from submissions.delimited import first_line
from submissions.entry import Entry
from submissions.kaggle.credentials import find_secrets
from submissions.message import make_message
from submissions.table import SubmissionTable, build_table, validate_file

_LONGEST_STEM = 200  # bytes of a file name without the hash and ending; file systems allow 255 in all


@dataclass(frozen=True, eq=False)
class Draft:
    """A checked table that could be submitted.

    name: name of the blend, model or file. facts: provenance for the ledger. message: filled-in message.
    """

    name: str
    table: SubmissionTable
    message: str
    blend: str
    score: float | None
    nested_score: float | None
    facts: Mapping[str, Any]


def make_draft(
    workspace: Workspace, name: str | None, file: str | None, message: str | None, *, stale: bool = False
) -> Draft:
    """Build the table of a blend or model (None: the newest blend), or check a file made elsewhere.

    Raises:
        SubmissionError: if the table is invalid, or (unless `stale`) members of the blend have changed.
    """
    sample = sample_submission(workspace)
    if file is not None:
        path = workspace.resolve(file)
        table = validate_file(path, sample, **column_settings(workspace))
        facts: dict[str, Any] = {"version": VERSION, "source": "file", "name": path.name}
        blend, label, score, nested = "", path.stem, None, None
    else:
        recipe = read_recipe(workspace, name)
        if not stale:
            _check_members(workspace, recipe.name)
        table = build_table(sample, recipe.ids, recipe.predictions, **column_settings(workspace))
        _check_column(workspace, table.column, sample)
        facts, blend, label = recipe.facts, recipe.name, recipe.name
        score, nested = recipe.score, recipe.nested_score
    facts = {**facts, "sample_sha256": table.sample_sha256}
    fields = message_fields(workspace, label, score, nested, table.rows, facts)
    text = make_message(message or workspace.config.submit.message, fields, find_secrets(os.environ))
    return Draft(label, table, text, blend, score, nested, facts)


def _check_column(workspace: Workspace, column: str, sample: Path) -> None:
    """Raise SubmissionError if the column is named after class 0: the submission would be inverted.

    A column that is named in dfens.toml, or that has the name of the labels in training, is accepted.
    """
    config = workspace.config
    labels = config.data.target if config.data.layout == "table" else ""
    what = class_of_only_column(column)
    if what and column not in (config.submissions.prediction_column, labels):
        raise SubmissionError(
            f"The prediction column '{column}' of the sample submission {sample} is named after {what}. dfens writes "
            f"predictions that are higher for class 1 (fake). If the competition expects these, confirm the column "
            f"with [submissions] prediction_column = {json.dumps(column, ensure_ascii=False)}; otherwise write a "
            f"table of 1 - prediction and submit it with --file."
        )


def _check_members(workspace: Workspace, name: str) -> None:
    """Raise SubmissionError if members or features of a blend have changed: it would waste a submission."""
    blends = workspace.blends
    changed = changed_inputs(workspace, name) if name in blends else []
    if changed:
        check_readable(workspace, changed)
        what = "The predictions in the store have changed since the blend"
        if all(item.startswith("feature ") for item in changed):
            what = "The features have changed since the blend"
        raise SubmissionError(
            f"{what} '{name}' was made; changed or missing: "
            f"{examples(changed)}. Run {again_command(workspace, name, workspace.config.blend)}, or submit it as it "
            f"is with --stale."
        )


def message_fields(
    workspace: Workspace,
    name: str,
    score: float | None,
    nested: float | None,
    rows: int | None,
    facts: Mapping[str, Any],
) -> dict[str, object]:
    """Return the values of the fields of a message template, `submissions.message.FIELDS`."""
    members = list(facts.get("member_order") or facts.get("members") or ())
    return {
        "blend": name,
        "score": score,
        "nested_score": nested,
        "metric": workspace.config.competition.metric,
        "method": facts.get("method"),
        "transform": facts.get("transform"),
        "members": "+".join(members) or None,
        "n_members": len(members) or None,
        "rows": rows,
        "competition": workspace.config.competition.slug,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "git": state.commit[:8] if (state := git_state(workspace.root)) else None,
        "dfens": __version__,
    }


@dataclass(frozen=True)
class DryRun:
    """A checked table written to work/submissions; nothing was sent.

    checks: what was checked, with the numbers found. notes: what was changed to match the sample. next: the command
    that submits it, or shows it if it is on Kaggle already.
    """

    path: Path
    rows: int
    header: str
    sha256: str
    message: str
    checks: tuple[str, ...]
    notes: tuple[str, ...]
    next: str
    exit_code: ClassVar[int] = 0


def dry_run(workspace: Workspace, draft: Draft) -> DryRun:
    """Write the table and describe what was checked; needs neither credentials nor network."""
    table = draft.table
    mark = f"-{table.sha256[:8]}"
    stem = draft.name.removesuffix(mark).encode()[:_LONGEST_STEM].decode(errors="ignore")
    path = workspace.table_path(f"{stem}{mark}")
    table.write(path)
    low, high = float(table.predictions.min()), float(table.predictions.max())
    checks = [
        f"ids: the {table.rows} of the sample submission, each once",
        f"values of '{table.column}': {low:.6g} to {high:.6g}, no NaN, not constant",
    ]
    sent = _sent_before(workspace, table.sha256)
    if sent is not None:
        checks.append(f"against the ledger: the same bytes were submitted as {sent.name}")
    what = draft.blend or f"--file {shlex.quote(workspace.shown(path))}"
    command = f"dfens submit {what}"
    if not workspace.config.competition.slug:
        command = f"set [competition] slug in dfens.toml, then {command}"
    if sent is not None and sent.on_server:  # `dfens submit` would refuse it
        command = f"dfens submissions show {sent.name}"
    return DryRun(
        path,
        table.rows,
        first_line(table.data.decode("utf-8-sig")),
        table.sha256,
        draft.message,
        tuple(checks),
        tuple(table.notes),
        command,
    )


def _sent_before(workspace: Workspace, sha256: str) -> Entry | None:
    """Return the last entry with these bytes, None without one; a ledger on a server is not queried."""
    if "://" in workspace.config.submissions.ledger:
        return None
    copies = open_ledger(workspace).find_sha(workspace.config.competition.slug, sha256)
    return copies[-1] if copies else None
