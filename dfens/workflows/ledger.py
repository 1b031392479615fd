"""The ledger for people: rows with CV beside public score, and the file behind each row."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dfens.app import App
from dfens.views.tables import make_table
from dfens.workflows.provenance import members_now, stored_sources
from oof.errors import SubmissionError, examples
from oof.files import file_sha256
from oof.metrics import Metric
from submissions.correlation import CvLbCorrelation
from submissions.entry import Entry
from submissions.ledger import Ledger
from submissions.rebuild import Rebuilt, rebuild
from submissions.table import SubmissionTable, validate_file

if TYPE_CHECKING:
    from dfens.views.tables import FittedTable as Table


def open_ledger(app: App) -> Ledger:
    """The ledger of the workspace, or the team's by [submissions] ledger."""
    return Ledger(app.config.submissions.ledger or app.work / "submissions" / "ledger.sqlite")


def read_entries(app: App) -> list[Entry]:
    """All submissions and attempts of this competition, oldest first."""
    return open_ledger(app).list(app.config.competition.slug)


def cv_of(entry: Entry) -> float | None:
    """What to hold against the public score: the nested score of a blend, the OOF score of a model."""
    return entry.score if entry.nested_score is None else entry.nested_score


def label_of(entry: Entry) -> str:
    """Short name, unique."""
    return f"{entry.name} {entry.blend or entry.file_name}".strip()


def entry_json(entry: Entry) -> dict[str, Any]:
    """All of an entry as values."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in dataclasses.asdict(entry).items()
    }


def list_table(entries: Sequence[Entry], metric: Metric) -> "Table":
    """The table of `dfens submissions list`; the best public score stands out."""
    sign = metric.gain(1.0)
    frame = pd.DataFrame(
        {
            "when, UTC": [f"{entry.submitted or entry.created:%Y-%m-%d %H:%M}" for entry in entries],
            "ref": [entry.name for entry in entries],
            "file": [entry.file_name or "–" for entry in entries],
            "blend": [entry.blend or "–" for entry in entries],
            f"OOF_{metric.name}": _numbers([entry.score for entry in entries]),
            f"nested_{metric.name}": _numbers([entry.nested_score for entry in entries]),
            "public": _numbers([entry.public_score for entry in entries]),
            "private": _numbers([entry.private_score for entry in entries]),
            "status": [entry.status for entry in entries],
        }
    )
    gains = {place: sign * entry.public_score for place, entry in enumerate(entries) if entry.public_score is not None}
    return make_table(frame, title="Submissions", bold=max(gains, key=gains.__getitem__, default=None))


def show_tables(entry: Entry) -> "list[Table]":
    """The tables of `dfens submissions show`: facts, then members."""
    facts = {name: value for name, value in entry_json(entry).items() if name != "provenance"}
    facts |= {name: value for name, value in entry.provenance.items() if not isinstance(value, dict | list)}
    known = {name: str(value) for name, value in facts.items() if value not in (None, "")}
    tables = [
        make_table(pd.DataFrame({"": list(known), "value": list(known.values())}), title=f"Submission {entry.name}")
    ]
    if entry.members:
        frame = pd.DataFrame(
            {
                "member": list(entry.members),
                "weight": [float(facts.get("weight") or 0.0) for facts in entry.members.values()],
                "fingerprint": [str(facts.get("fingerprint") or "–")[:16] for facts in entry.members.values()],
            }
        )
        tables.append(make_table(frame.sort_values("weight", ascending=False, kind="stable"), title="Members"))
    return tables


def correlation_lines(found: CvLbCorrelation, entries: Sequence[Entry]) -> list[str]:
    """CV against public score, in sentences."""
    lines = []
    if not math.isnan(found.slope):
        lines.append(
            f"CV and public score of {found.count} submissions: rank correlation {found.rank_correlation:.2f}; "
            f"public = {found.intercept:.5f} + {found.slope:.3f} x CV, scatter {found.spread:.5f}; "
            f"median of public less CV {found.gap:+.5f}."
        )
    lines.append(found.verdict)
    lines += [
        f"{label_of(entry)} ({entry.status}): {entry.error}" for entry in entries if entry.on_server and entry.error
    ]
    for item in found.outliers:
        entry = entries[item.position]
        lines.append(
            f"Off the line: {label_of(entry)} (CV {cv_of(entry):.5f}, public {entry.public_score:.5f}, "
            f"{item.residual:+.5f} from the line): {item.meaning}"
        )
    return lines


def find_entry(entries: Sequence[Entry], wanted: str) -> Entry:
    """The entry of a ref, the digits of a key, a file name, or a blend's name (its newest submission).

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
            return found[-1]
    names = [entry.name for entry in reversed(entries)]
    raise SubmissionError(
        f"The ledger has no submission '{wanted}'; it has {examples(names, 8) or 'none'}. "
        f"Give a ref, a file name or a blend's name, or run dfens submissions sync for those made elsewhere."
    )


def column_settings(app: App) -> dict[str, Any]:
    """Settings of the submission table, from [submissions]."""
    settings = app.config.submissions
    return {
        "id_column": settings.id_column,
        "prediction_column": settings.prediction_column,
        "lowest": settings.lowest,
        "highest": settings.highest,
    }


def sample_submission(app: App) -> Path:
    """The sample submission of the competition.

    Raises:
        SubmissionError: if the data has none, or it is not where dfens.toml says.
    """
    settings = app.config.data
    named = settings.sample_submission or (settings.test if settings.layout == "table" else None)
    if named is not None:
        path = settings.root / named  # no need to look for every image
        if not path.is_file():
            how = "" if app.config_path.exists() else "Run dfens init --recipe table, then name it there. "
            raise SubmissionError(
                f"The sample submission {path} is missing: header, order and ids of a submission are taken from it. "
                f"{how}Correct [data] sample_submission in dfens.toml (relative to root), or run dfens download."
            )
        return path
    sample = app.competition().sample_submission
    if sample is None:
        raise SubmissionError(
            "This competition's data has no sample submission. Name it: [data] sample_submission = 'FILE.csv'."
        )
    return sample


def rebuild_entry(app: App, entry: Entry, sample: Path) -> Rebuilt:
    """Make the file of an entry again from the store, or tell what has changed.

    A table that was made elsewhere has nothing to be made of; it is read from the copy that was sent.
    """
    source = entry.provenance.get("source")
    if source not in ("blend", "model"):
        kept = _kept_table(app, entry, sample)
        if kept is None:
            raise SubmissionError(
                f"Submission {label_of(entry)} was not made of a stored blend or model (source: "
                f"{source or entry.origin}), and no copy of its file is kept, so there is nothing to make it of."
            )
        return Rebuilt(kept, f"the copy of what was sent ({entry.path})")
    facts = {"dfens_version": entry.dfens_version, **entry.provenance}
    return rebuild(
        facts, entry.sha256, sample, stored_sources(app, facts), members_now(app, facts), **column_settings(app)
    )


def table_of(
    app: App, wanted: str, entries: Sequence[Entry], sample: Path
) -> tuple[str, SubmissionTable, Entry | None]:
    """The predictions behind a path, a ref or a name: label, table, and the entry where the ledger has it.

    Raises:
        SubmissionError: neither a file nor an entry; or an entry whose file is gone and can't be made again.
    """
    path = app.root / wanted
    if path.is_file():
        digest = file_sha256(path)
        known = next((entry for entry in reversed(entries) if entry.sha256 == digest), None)
        return wanted, validate_file(path, sample, **column_settings(app)), known
    entry = find_entry(entries, wanted)
    kept = _kept_table(app, entry, sample)
    if kept is not None:
        return label_of(entry), kept, entry
    rebuilt = rebuild_entry(app, entry, sample)
    if rebuilt.table is None:
        raise SubmissionError(
            f"The file of {label_of(entry)} is not kept and can't be made again: {' '.join(rebuilt.changes)}"
        )
    return label_of(entry), rebuilt.table, entry


def _kept_table(app: App, entry: Entry, sample: Path) -> SubmissionTable | None:
    """The copy of the file that was sent, where it still has its bytes."""
    path = app.root / entry.path
    if not entry.path or not path.is_file() or file_sha256(path) != entry.sha256:
        return None
    return validate_file(path, sample, **column_settings(app))


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]
