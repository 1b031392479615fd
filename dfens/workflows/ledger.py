"""The entries of the ledger, and the file behind each of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfens.workflows.provenance import members_now, stored_sources
from dfens.workspace.paths import Workspace
from dfens.workspace.row_features import changed_features
from oof.errors import SubmissionError, examples
from oof.files import file_sha256
from oof.paths import resolve_path
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


def label_of(entry: Entry) -> str:
    """Return a short, unique name."""
    return f"{entry.name} {entry.blend or entry.file_name}".strip()


def find_entry(entries: Sequence[Entry], wanted: str) -> Entry:
    """Return the entry for a ref, the digits of a key, a file name, or a blend's name.

    If there are several, the newest submission is returned; a failed attempt only if there is no submission.

    Raises:
        SubmissionError: if there is none, listing the existing ones.
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
        f"The ledger has no submission '{wanted}'; it {f'has {examples(names, 8)}' if names else 'is empty'}. "
        f"Give a ref, a file name or a blend's name, or run dfens submissions sync for those made elsewhere."
    )


def column_settings(workspace: Workspace) -> dict[str, Any]:
    """Return the column settings of the submission table from [submissions].

    The id column of [data] is that of the sample submission, too, if it has one of this name, as when rows are read.
    """
    settings, data = workspace.config.submissions, workspace.config.data
    return {
        "id_column": settings.id_column,
        "default_id": data.id if data.layout == "table" else "",
        "prediction_column": settings.prediction_column,
        "lowest": settings.lowest,
        "highest": settings.highest,
    }


def sample_submission(workspace: Workspace) -> Path:
    """Return the path of the competition's sample submission.

    Raises:
        SubmissionError: if the data has none, or it is missing.
    """
    settings = workspace.config.data
    named = settings.sample_submission or (settings.test if settings.layout == "table" else "")
    if named:
        path = resolve_path(settings.root, named)  # avoids searching for every image
        if not path.is_file():
            how = "Correct [data] sample_submission in dfens.toml (relative to root), or run dfens download."
            if not workspace.config_path.exists():
                how = "Run dfens init --recipe table, and put the competition's sample_submission.csv into data/."
            raise SubmissionError(
                f"The sample submission {path} is missing: header, order and ids of a submission are taken from it. "
                f"{how}"
            )
        return path
    sample = workspace.whole_competition().sample_submission
    if sample is None:
        raise SubmissionError(
            "This competition's data has no sample submission. Set [data] sample_submission = 'FILE.csv'."
        )
    return sample


def rebuild_entry(workspace: Workspace, entry: Entry, sample: Path) -> Rebuilt:
    """Rebuild the file of an entry from the store, or report what has changed.

    A table made elsewhere cannot be rebuilt; it is read from the stored copy of what was sent.
    """
    source = entry.provenance.get("source")
    if source not in ("blend", "model"):
        kept = _kept_table(workspace, entry, sample)
        if kept is None:
            raise SubmissionError(
                f"Submission {label_of(entry)} was not made from a stored blend or model (source: "
                f"{source or entry.origin}), and there is no copy of its file, so it cannot be rebuilt."
            )
        return Rebuilt(kept, f"the copy of what was sent ({entry.path})")
    facts = {"dfens_version": entry.dfens_version, **entry.provenance}
    found = rebuild(
        facts,
        entry.sha256,
        sample,
        stored_sources(workspace, facts),
        members_now(workspace, facts),
        **column_settings(workspace),
    )
    changed = changed_features(workspace, facts) if found.table is None else []
    return replace(found, changes=(*found.changes, *(f"The {item} has changed since." for item in changed)))


def table_of(
    workspace: Workspace, wanted: str, entries: Sequence[Entry], sample: Path
) -> tuple[str, SubmissionTable, Entry | None]:
    """Return the table for a path, a ref or a name: label, table, and the entry if it is in the ledger.

    Raises:
        SubmissionError: if it is neither a file nor an entry, or the file of the entry is missing and cannot be
            rebuilt.
    """
    path = workspace.resolve(wanted)
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
            f"There is no copy of the file of {label_of(entry)}, and it cannot be rebuilt: {' '.join(rebuilt.changes)}"
        )
    return label_of(entry), rebuilt.table, entry


def _kept_table(workspace: Workspace, entry: Entry, sample: Path) -> SubmissionTable | None:
    """Return the stored copy of the file that was sent, if it is unchanged."""
    path = workspace.root / entry.path
    if not entry.path or not path.is_file() or file_sha256(path) != entry.sha256:
        return None
    return validate_file(path, sample, **column_settings(workspace))
