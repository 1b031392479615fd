"""Choose the two final submissions: candidates from ledger and store, and the simulation."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfens.report.inputs import ChosenFinals
from dfens.report.ledger import public_scores
from dfens.workflows.ledger import label_of, read_entries
from dfens.workflows.provenance import submitted_oof
from dfens.workflows.stored_results import read_finals, save_finals
from dfens.workspace.paths import Workspace
from oof.errors import DfensError, SubmissionError, examples
from oof.metrics import metric_by_name
from oof.progress import SILENT, Progress
from submissions.entry import Entry
from submissions.finals.select import Candidate, LeaderboardSplit, Selection, select_pair
from submissions.finals.simulate import LabelledRows
from submissions.plots import plot_selection
from submissions.table import values_fingerprint


@dataclass(frozen=True)
class FinalsChoice:
    """The simulated pairs of submissions, and the link for selecting the recommended one.

    left_out: scored submissions that could not be simulated, and why. public_share: public share of the test rows.
    """

    selection: Selection
    public_share: float
    left_out: tuple[str, ...]
    link: str
    plots: tuple[Path, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the fields of the selection at the top level."""
        own = {"best": self.selection.best, "left_out": self.left_out, "link": self.link, "plots": self.plots}
        return dataclasses.asdict(self.selection) | own


def choose_finals(
    workspace: Workspace,
    *,
    public_share: float | None = None,
    positive_share: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    plot: bool = False,
    progress: Progress = SILENT,
) -> FinalsChoice:
    """Simulate private scores of all pairs of scored submissions, and recommend one pair.

    `public_share` is by default that of [submissions], `positive_share` that of the training rows.
    """
    config, store = workspace.config, workspace.predictions
    public_share = public_share or config.submissions.public_share
    folds = store.folds
    entries = read_entries(workspace)
    candidates, left_out = gather_candidates(workspace, entries)
    covered = np.ones(len(folds.ids), dtype=bool)
    for candidate in candidates:
        covered &= ~np.isnan(candidate.oof)
    found = select_pair(
        [dataclasses.replace(item, oof=item.oof[covered]) for item in candidates],
        LabelledRows(folds.target[covered], None if folds.groups is None else folds.groups[covered]),
        LeaderboardSplit(len(store.test_ids), public_share, positive_share),
        metric=metric_by_name(config.competition.metric),
        draws=draws,
        rng=np.random.default_rng(seed),
        progress=progress,
    )
    plots = (plot_selection(workspace.submission_plot("finals"), found),) if plot else ()
    best = found.best
    save_finals(
        workspace,
        ChosenFinals(
            pair=(best.first, best.second),
            expected=best.expected,
            gain=best.gain,
            beats=best.beats,
            candidates=tuple(item.name for item in candidates),
            public_scores=public_scores(entries),
            oof={item.name: values_fingerprint(folds.ids, item.oof) for item in candidates},
        ),
    )
    link = f"https://www.kaggle.com/competitions/{config.competition.slug}/submissions"
    return FinalsChoice(found, public_share, tuple(left_out), link, plots)


def current_finals(workspace: Workspace, entries: Sequence[Entry]) -> ChosenFinals | None:
    """Return the pair that was recommended last; None as in `read_finals`, and if OOF predictions were replaced since.

    Args:
        entries: the ledger. A model may have been imported again, with other OOF predictions, under the same name.
    """
    found = read_finals(workspace)
    if found is None:
        return None
    for entry in entries:
        now = _oof_fingerprint(workspace, entry) if label_of(entry) in found.oof else None
        if now is not None and now != found.oof[label_of(entry)]:
            return None
    return found


def _oof_fingerprint(workspace: Workspace, entry: Entry) -> str | None:
    """Return the fingerprint of the OOF predictions of what was submitted; None if they cannot be read."""
    try:
        oof = submitted_oof(workspace, entry.provenance)
    except DfensError:
        return None
    return None if oof is None else values_fingerprint(workspace.predictions.folds.ids, oof)


def gather_candidates(workspace: Workspace, entries: Sequence[Entry]) -> tuple[list[Candidate], list[str]]:
    """Return scored submissions with their OOF predictions, each file once, and a line for each that was left out."""
    found: dict[str, Candidate] = {}
    left_out = []
    for entry in entries:
        if entry.public_score is None or entry.sha256 in found:
            continue
        if entry.error:
            left_out.append(f"Left out: {label_of(entry)}. {entry.error}")
            continue
        oof = submitted_oof(workspace, entry.provenance)
        if oof is None:
            left_out.append(
                f"Left out: {label_of(entry)} (public {entry.public_score:.5f}; its OOF predictions are not stored)."
            )
        else:
            found[entry.sha256] = Candidate(label_of(entry), oof, entry.public_score)
    if len(found) < 2:
        names = examples([item.name for item in found.values()]) or "none"
        left = "".join(f" {text}" for text in left_out)
        raise SubmissionError(
            f"Choosing the finals needs at least two scored submissions with OOF predictions in the store; there are "
            f"{names}.{left} Run dfens submissions sync to update scores, or submit another blend."
        )
    return list(found.values()), left_out
