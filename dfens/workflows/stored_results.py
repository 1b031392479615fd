"""Results of other commands shown in the report: written by the command, read back for the page.

work/reports/compare/modalities.json    dfens compare --modalities
work/reports/groups.json                dfens groups
work/reports/duplicates.parquet         dfens groups
work/submissions/finals.json            dfens submissions select
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dfens.report.clips import ModalityScore
from dfens.report.inputs import ChosenFinals, DuplicateSets, FoldGap
from dfens.values import json_value
from dfens.workspace.members import member_fingerprint
from dfens.workspace.paths import Workspace
from oof.errors import DfensError
from oof.files import read_json, read_parquet, write_json, write_parquet
from oof.folds import Folds
from oof.ids import Ids, ids_fingerprint, labels_fingerprint
from oof.typed import typed

_VERSION = 1
T = TypeVar("T")


def save_modalities(workspace: Workspace, models: Sequence[str], scores: Sequence[ModalityScore]) -> None:
    """Store the scores by modality, with the fingerprints of their predictions."""
    prints = {name: member_fingerprint(workspace.predictions, workspace.blends, name) for name in models}
    _write(workspace.modalities_path(), {"scores": json_value(scores), "fingerprints": prints})


def read_modalities(workspace: Workspace) -> tuple[tuple[ModalityScore, ...], tuple[str, ...]]:
    """Return the scores by modality, and the models whose predictions have changed since; empty before the command."""

    def parse(stored: Mapping[str, Any]) -> tuple[tuple[ModalityScore, ...], tuple[str, ...]]:
        scores = typed(tuple[ModalityScore, ...], stored["scores"])
        changed = tuple(
            name
            for name, fingerprint in stored["fingerprints"].items()
            if member_fingerprint(workspace.predictions, workspace.blends, name) != fingerprint
        )
        return scores, changed

    return _read(workspace.modalities_path(), parse) or ((), ())


def save_fold_gap(
    workspace: Workspace, random_auc: float | None, by_group: Mapping[str, float | None], labels: str
) -> None:
    """Store the baseline's AUC with random folds and with each grouping; None if there are no such folds.

    Args:
        labels: `labels_fingerprint` of the rows.
    """
    _write(workspace.groupings_path(), {"random": random_auc, "grouped": dict(by_group), "labels": labels})


def read_fold_gap(workspace: Workspace, folds: Folds) -> FoldGap | None:
    """Return the effect of random folds, for the grouping that lowers the baseline most.

    None before `dfens groups`, and if it ran on other rows or labels.
    """

    def parse(stored: Mapping[str, Any]) -> FoldGap | None:
        if stored.get("labels") != labels_fingerprint(folds.ids, folds.target):
            return None
        if stored["random"] is None:
            return None
        grouped = typed(dict[str, float | None], stored["grouped"])
        scored = {name: auc for name, auc in grouped.items() if auc is not None}
        worst = min(scored, key=lambda name: scored[name], default=None)
        return None if worst is None else FoldGap(typed(float, stored["random"]), worst, scored[worst])

    return _read(workspace.groupings_path(), parse)


def save_duplicates(workspace: Workspace, ids: Ids, groups: NDArray[np.object_], labels: str) -> None:
    """Store the sets of near-duplicates: id and set of each row that has any; `labels` as in `save_fold_gap`."""
    table = pd.DataFrame({"id": ids, "set": groups})
    table = table[table["set"].map(table["set"].value_counts()) > 1]
    write_parquet(workspace.duplicates_path(), table, {"version": _VERSION, "kind": "duplicates", "labels": labels})


def read_duplicates(workspace: Workspace, folds: Folds) -> DuplicateSets | None:
    """Return how many sets of near-duplicates are in several folds; None as in `read_fold_gap`."""
    try:
        table, header = read_parquet(workspace.duplicates_path(), "id", "set")
    except (FileNotFoundError, DfensError):
        return None
    if header.get("version") != _VERSION or header.get("labels") != labels_fingerprint(folds.ids, folds.target):
        return None
    fold = table["id"].map(pd.Series(folds.fold, index=folds.ids))
    by_set = fold.groupby(table["set"]).nunique()
    return DuplicateSets(len(by_set), int((by_set > 1).sum()))


def save_finals(workspace: Workspace, finals: ChosenFinals) -> None:
    """Store the recommended pair, and what it was simulated with."""
    _write(workspace.finals_path(), {"finals": json_value(finals), **_inputs_of_finals(workspace)})


def read_finals(workspace: Workspace) -> ChosenFinals | None:
    """Return the pair that the last simulation recommended; None before, and after other labels, folds or metric."""

    def parse(stored: Mapping[str, Any]) -> ChosenFinals | None:
        if any(stored[key] != now for key, now in _inputs_of_finals(workspace).items()):
            return None
        return typed(ChosenFinals, stored["finals"])

    return _read(workspace.finals_path(), parse)


def _inputs_of_finals(workspace: Workspace) -> dict[str, str]:
    """Return what the simulation depends on, apart from the public scores, which the report compares with the ledger.

    The fingerprint of the folds covers ids, labels and folds, and thereby whose out-of-fold predictions are simulated.
    """
    store = workspace.predictions
    return {
        "metric": workspace.config.competition.metric,
        "folds": store.folds.fingerprint,
        "test_ids": ids_fingerprint(store.test_ids),
    }


def _write(path: Path, value: Mapping[str, Any]) -> None:
    write_json(path, {"version": _VERSION, "made": datetime.now(UTC).isoformat(timespec="seconds"), **value})


def _read(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> T | None:
    """Return a stored result; None if there is none, or if it has another version, which the command replaces."""
    try:
        stored = read_json(path)
        return parse(stored) if stored["version"] == _VERSION else None
    except (FileNotFoundError, DfensError, KeyError, TypeError, ValueError, AttributeError):
        return None
