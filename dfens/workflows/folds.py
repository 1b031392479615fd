"""Assign the training rows to folds."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfens.workflows.status import next_command
from dfens.workspace.changes import archive_dependents, nobody_trains
from dfens.workspace.paths import Workspace
from oof.folds import fold_table, make_folds
from oof.ids import Ids
from oof.progress import SILENT, Progress
from oof.sealed import SealedRows, choose_sealed
from trainers.data.groups import derive_groups, unused_originals


@dataclass(frozen=True)
class NewFolds:
    """The stored folds.

    how: k, seed, group. folds: rows, positives and their share by fold. moved: archived models and blends of replaced
    folds. moved_test: archived test predictions, if the rows to predict have changed. note: interpretation of a
    column of originals. sealed: number of sealed rows.
    """

    path: Path
    how: Mapping[str, Any]
    folds: tuple[Mapping[str, Any], ...]
    rows: int
    test_rows: int
    fingerprint: str
    moved: tuple[Path, ...]
    moved_test: Path | None
    next: str
    note: str | None = None
    sealed: int = 0


def assign_folds(
    workspace: Workspace,
    *,
    k: int | None = None,
    seed: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> NewFolds:
    """Assign folds with the settings in dfens.toml (`k` and `seed` override them) and store them with the test ids."""
    settings, store = workspace.config.folds, workspace.predictions
    competition = workspace.whole_competition()
    derived = derive_groups(
        competition, settings.group, work_dir=workspace.trainers_dir, progress=progress, seed=settings.seed
    )
    notes = (None if derived is None else derived.note, unused_originals(competition, settings.group))
    seed = settings.seed if seed is None else seed
    groups = None if derived is None else derived.names
    rows = _Rows(competition.train["id"].to_numpy(object), competition.train["target"].to_numpy(), groups)
    rows, sealed = _set_apart(rows, settings.sealed, seed)
    folds = make_folds(
        rows.ids,
        rows.target,
        k=k or settings.k,
        seed=seed,
        groups=rows.groups,
        group=settings.group if settings.group != "none" or groups is None else "data",
    )
    if sealed is not None:
        folds = replace(folds, how={**folds.how, "sealed": settings.sealed})
    test_ids = competition.test["id"].to_numpy(object)
    instead = "keep the folds and the rows to predict as they are"
    with contextlib.nullcontext() if store.has_rows(folds, sealed, test_ids) else nobody_trains(workspace, instead):
        others: list[Path] = []
        archived = store.save_folds(
            folds, sealed=sealed, force=force, archive_others=lambda: others.extend(archive_dependents(workspace))
        )
        moved_test = store.save_test_ids(test_ids)
    return NewFolds(
        store.folds_path,
        dict(folds.how),
        tuple({str(key): value for key, value in row.items()} for row in fold_table(folds).to_dict("records")),
        len(folds.ids),
        len(competition.test),
        folds.fingerprint,
        () if archived is None else (archived, *others),
        moved_test,
        next_command(workspace),
        ". ".join(filter(None, notes)) or None,
        0 if sealed is None else len(sealed.ids),
    )


class _Rows(NamedTuple):
    """Training rows with labels and groups."""

    ids: Ids
    target: NDArray[Any]
    groups: Ids | None

    def only(self, chosen: NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.ids[chosen], self.target[chosen], None if self.groups is None else self.groups[chosen])


def _set_apart(rows: _Rows, share: float, seed: int) -> tuple[_Rows, SealedRows | None]:
    """Return the rows to fold, and those to seal."""
    if not share:
        return rows, None
    inside = choose_sealed(rows.ids, rows.target, share, seed=seed, groups=rows.groups)
    sealed = rows.only(inside)
    return rows.only(~inside), SealedRows(sealed.ids, sealed.target.astype(np.int8), sealed.groups)
