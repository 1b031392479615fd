"""The entries of the ledger, and the file behind each of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dfens.workflows.provenance import members_now, stored_sources
from dfens.workspace.paths import Workspace
from oof.errors import SubmissionError, examples
from oof.files import file_sha256
from submissions.entry import Entry
from submissions.ledger import Ledger
from submissions.rebuild import Rebuilt, rebuild
from submissions.table import SubmissionTable, validate_file


def open_ledger(workspace: Workspace) -> Ledger:
    """Open the ledger of the workspace, or the team's of [submissions] ledger."""
    return Ledger(workspace.config.submissions.ledger or workspace.ledger_path(), workspace.root)


def read_entries(workspace: Workspace) -> list[Entry]:
    """Return all submissions and attempts of this competition, oldest first."""
    return open_ledger(workspace).list(workspace.config.competition.slug)


def cv_of(entry: Entry) -> float | None:
    """Return the score to compare with the public one: the nested score of a blend, the OOF score of a model."""
    return entry.score if entry.nested_score is None else entry.nested_score


def label_of(entry: Entry) -> str:
    """Return a short name that is unique."""
    return f"{entry.name} {entry.blend or entry.file_name}".strip()


def find_entry(entries: Sequence[Entry], wanted: str) -> Entry:
    """Return the entry of a ref, the digits of a key, a file name, or a blend's name.

    Of several, the newest submission counts; an attempt that failed only where there is no submission.

    Raises:
        SubmissionError: if there is none, with what there is.
    """
    tests: list[Callable[[Entry], bool]] = [
        lambda entry: str(entry.ref or "") == wanted,
        lambda entry: entry.file_name == wanted,
        lambda entry: entry.blend == wanted,
        lambda entry: len(wanted) >= 6 and entry.key.startswith(wanted.lower()),
    ]
    for test in tests:
        found = [entry for entry in entries if test(entry)]
        if found:
            return next((entry for entry in reversed(found) if entry.status != "failed"), found[-1])
    names = [entry.name for entry in reversed(entries)]
    raise SubmissionError(
        f"The ledger has no submission '{wanted}'; it has {examples(names, 8) or 'none'}. "
        f"Give a ref, a file name or a blend's name, or run dfens submissions sync for those made elsewhere."
    )


def column_settings(workspace: Workspace) -> dict[str, Any]:
    """Settings of the submission table, from [submissions]."""
    settings, data = workspace.config.submissions, workspace.config.data
    # the name of the id column that the data has, unless it is the default, which need not be meant
    named = data.id if data.layout == "table" and data.id != "id" else ""
    return {
        "id_column": settings.id_column or named,
        "prediction_column": settings.prediction_column,
        "lowest": settings.lowest,
        "highest": settings.highest,
    }


def sample_submission(workspace: Workspace) -> Path:
    """The sample submission of the competition.

    Raises:
        SubmissionError: if the data has none, or it is not where dfens.toml says.
    """
    settings = workspace.config.data
    named = settings.sample_submission or (settings.test if settings.layout == "table" else None)
    if named is not None:
        path = settings.root / named  # no need to look for every image
        if not path.is_file():
            how = "" if workspace.config_path.exists() else "Run dfens init --recipe table, then name it there. "
            raise SubmissionError(
                f"The sample submission {path} is missing: header, order and ids of a submission are taken from it. "
                f"{how}Correct [data] sample_submission in dfens.toml (relative to root), or run dfens download."
            )
        return path
    sample = workspace.whole_competition().sample_submission
    if sample is None:
        raise SubmissionError(
            "This competition's data has no sample submission. Name it: [data] sample_submission = 'FILE.csv'."
        )
    return sample


def rebuild_entry(workspace: Workspace, entry: Entry, sample: Path) -> Rebuilt:
    """Make the file of an entry again from the store, or tell what has changed.

    A table that was made elsewhere has nothing to be made of; it is read from the copy that was sent.
    """
    source = entry.provenance.get("source")
    if source not in ("blend", "model"):
        kept = _kept_table(workspace, entry, sample)
        if kept is None:
            raise SubmissionError(
                f"Submission {label_of(entry)} was not made of a stored blend or model (source: "
                f"{source or entry.origin}), and no copy of its file is kept, so there is nothing to make it of."
            )
        return Rebuilt(kept, f"the copy of what was sent ({entry.path})")
    facts = {"dfens_version": entry.dfens_version, **entry.provenance}
    return rebuild(
        facts,
        entry.sha256,
        sample,
        stored_sources(workspace, facts),
        members_now(workspace, facts),
        **column_settings(workspace),
    )


def table_of(
    workspace: Workspace, wanted: str, entries: Sequence[Entry], sample: Path
) -> tuple[str, SubmissionTable, Entry | None]:
    """The predictions behind a path, a ref or a name: label, table, and the entry where the ledger has it.

    Raises:
        SubmissionError: neither a file nor an entry; or an entry whose file is gone and can't be made again.
    """
    path = workspace.root / wanted
    if path.is_file():
        digest = file_sha256(path)
        known = next((entry for entry in reversed(entries) if entry.sha256 == digest), None)
        return wanted, validate_file(path, sample, **column_settings(workspace)), known
    entry = find_entry(entries, wanted)
    kept = _kept_table(workspace, entry, sample)
    if kept is not None:
        return label_of(entry), kept, entry
    rebuilt = rebuild_entry(workspace, entry, sample)
    if rebuilt.table is None:
        raise SubmissionError(
            f"The file of {label_of(entry)} is not kept and can't be made again: {' '.join(rebuilt.changes)}"
        )
    return label_of(entry), rebuilt.table, entry


def _kept_table(workspace: Workspace, entry: Entry, sample: Path) -> SubmissionTable | None:
    """The copy of the file that was sent, where it still has its bytes."""
    path = workspace.root / entry.path
    if not entry.path or not path.is_file() or file_sha256(path) != entry.sha256:
        return None
    return validate_file(path, sample, **column_settings(workspace))
