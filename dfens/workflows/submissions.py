"""List, refresh, compare and rebuild submissions."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfens.workflows.ledger import (
    find_entry,
    label_of,
    open_ledger,
    read_entries,
    rebuild_entry,
    sample_submission,
    table_of,
)
from dfens.workspace.paths import Workspace
from oof.errors import SubmissionError
from oof.metrics import metric_by_name
from oof.progress import SILENT, Progress
from submissions.compare import Difference, compare
from submissions.correlation import CvLbCorrelation, correlate
from submissions.entry import Entry
from submissions.kaggle.client import KaggleClient
from submissions.plots import plot_correlation, plot_history
from submissions.sync import Synced, sync


@dataclass(frozen=True)
class SubmissionList:
    """All entries of the ledger, oldest first, and how well CV and public scores agree."""

    metric: str
    submissions: tuple[Entry, ...]
    cv_lb_correlation: CvLbCorrelation
    plots: tuple[Path, ...]


@dataclass(frozen=True)
class SubmissionDiff:
    """The difference between two submissions; first and second are their labels."""

    first: str
    second: str
    difference: Difference

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the difference at the top level."""
        return {"first": self.first, "second": self.second} | asdict(self.difference)


@dataclass(frozen=True)
class RebuiltFile:
    """A rebuilt submission file with the same bytes; source is what it was made from."""

    ref: int | None
    path: Path
    sha256: str
    rows: int
    source: str


def open_client(workspace: Workspace, progress: Progress = SILENT) -> KaggleClient:
    """Open the Kaggle client for the competition in dfens.toml."""
    config = workspace.config
    return KaggleClient(config.competition.slug, config.submissions, os.environ, progress)


def list_submissions(workspace: Workspace, *, plot: bool = False) -> SubmissionList:
    """Read the ledger; with `plot`, also draw CV against public score and the history."""
    metric = metric_by_name(workspace.config.competition.metric)
    entries = read_entries(workspace)
    cv = [entry.cv_by(metric.name) for entry in entries]
    public = [entry.own_public_score for entry in entries]
    found = correlate(cv, public, higher_is_better=metric.higher_is_better, chance=metric.chance)
    plots: tuple[Path, ...] = ()
    if plot:
        labels = [label_of(entry) for entry in entries]
        plots = (
            plot_correlation(workspace.submission_plot("cv_and_public"), labels, cv, public, found),
            plot_history(workspace.submission_plot("history"), cv, public),
        )
    return SubmissionList(metric.name, tuple(entries), found, plots)


def sync_ledger(workspace: Workspace, progress: Progress = SILENT) -> Synced:
    """Read Kaggle's list of the team's submissions into the ledger."""
    ledger = open_ledger(workspace)
    with open_client(workspace, progress) as client:
        return sync(ledger, client, progress)


def show_submission(workspace: Workspace, ref: str) -> Entry:
    """Return the entry of a ref, a file name or a blend's name."""
    return find_entry(read_entries(workspace), ref)


def diff_submissions(workspace: Workspace, first: str, second: str, *, moves: int = 10) -> SubmissionDiff:
    """Compare two submissions, each a ref, a name in the ledger, or a CSV file."""
    entries, sample = read_entries(workspace), sample_submission(workspace)
    metric = metric_by_name(workspace.config.competition.metric)
    store = workspace.predictions
    (label_a, a, entry_a), (label_b, b, entry_b) = (
        table_of(workspace, wanted, entries, sample) for wanted in (first, second)
    )
    cv_a, cv_b = (
        entry.cv_by(metric.name) if entry is not None and metric.is_auc else None for entry in (entry_a, entry_b)
    )
    difference = compare(
        (a.ids, a.predictions),
        (b.ids, b.predictions),
        most_moves=moves,
        scores=(cv_a, cv_b),
        positive_share=float(store.folds.target.mean()) if store.has_folds() else None,
    )
    return SubmissionDiff(label_a, label_b, difference)


def rebuild_file(workspace: Workspace, ref: str, *, out: Path | None = None, force: bool = False) -> RebuiltFile:
    """Rebuild a submitted file from the store and write it.

    Raises:
        SubmissionError: if what it was made from has changed. ConfigError: if `out` exists, unless `force`.
    """
    entry = find_entry(read_entries(workspace), ref)
    path = workspace.rebuilt_path(entry.file_name) if out is None else workspace.resolve_output(out, force=force)
    found = rebuild_entry(workspace, entry, sample_submission(workspace))
    if found.table is None:
        kept = (
            f" A copy of the submitted file is stored: {entry.path}." if (workspace.root / entry.path).is_file() else ""
        )
        raise SubmissionError(
            f"The file of submission {label_of(entry)} cannot be rebuilt. {' '.join(found.changes)} Restore what has "
            f"changed (replaced files are in work/oof/archive and work/ensemble/archive), then try again.{kept}"
        )
    found.table.write(path)
    return RebuiltFile(entry.ref, path, found.table.sha256, found.table.rows, found.source)
