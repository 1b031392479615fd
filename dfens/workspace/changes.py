"""Changes that affect several packages of a workspace: replaced folds, and changed data."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from oof.errors import DataError, examples
from oof.files import archive
from oof.predictions import train_command
from trainers.data.groups import column_groups_of
from trainers.kinds.records import read_history
from trainers.runtime.locks import nobody_works_in
from trainers.runtime.provenance import files_fingerprint

if TYPE_CHECKING:
    from dfens.workspace.paths import Workspace
    from trainers.data.competition import Competition

_KEPT = ("archive", "cache", "clips")  # archives, and data read from media, which do not depend on folds


def archive_dependents(workspace: "Workspace") -> list[Path]:
    """Move checkpoints and blends of replaced folds into the archive of their package; return their new paths."""
    archive_dir = workspace.trainers_dir / "archive"
    moved = [archive(path, archive_dir) for path in _dependents(workspace.trainers_dir)]
    return [*moved, *workspace.blends.archive_all()]


@contextlib.contextmanager
def nobody_trains(workspace: "Workspace", instead: str) -> Iterator[None]:
    """Hold the locks of all models, so that no training of earlier rows continues after the rows were replaced.

    Raises:
        TrainingError: if a process is training a model; `instead` is the end of its message.
    """
    with contextlib.ExitStack() as stack:
        for path in _dependents(workspace.trainers_dir):
            stack.enter_context(nobody_works_in(path, instead))
        yield


def _dependents(folder: Path) -> list[Path]:
    """Return the folders of models, which depend on the folds."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path.is_dir() and path.name not in _KEPT and not path.name.startswith(".")]


def unchanged_competition(workspace: "Workspace") -> "Competition":
    """Return the competition for training, with the sealed rows set apart.

    Raises:
        DataError: if labels, groups or test rows have changed since the folds were made.
    """
    competition = workspace.whole_competition()
    changes = changes_since_folds(workspace, competition)
    if changes:
        raise DataError(" ".join(changes))
    return competition.set_apart(workspace.sealed_ids())


def changes_since_folds(workspace: "Workspace", competition: "Competition") -> list[str]:
    """Return how labels, groups and the list of test rows have changed since the folds were made; empty if unchanged.

    Models are trained on the rows and labels stored with the folds, so a corrected label has no effect
    until the folds are assigned again.

    Args:
        workspace: of the folds. competition: with the sealed rows among the training rows.
    """
    store = workspace.predictions
    if not store.has_folds():
        return []
    found = []
    then = pd.Series(store.folds.target, store.folds.ids)
    sealed = store.sealed_rows()
    if sealed is not None:
        then = pd.concat([then, pd.Series(sealed.target, sealed.ids)])
    now = pd.Series(competition.train["target"].to_numpy(), competition.train["id"].to_numpy(object))
    both = then.index.intersection(now.index)
    changed = both[then[both].to_numpy() != now[both].to_numpy()]
    parts = _named("new", now.index.difference(then.index)) + _named("gone", then.index.difference(now.index))
    parts += _named("labelled otherwise", changed)
    if parts:
        found.append(
            f"The training rows differ from those of the folds: {'; '.join(parts)}. Restore them, or run dfens folds "
            f"--force, which moves trained models to the archive, and train again."
        )
    else:
        found += _split_groups(workspace, competition)
    if store.test_ids_path.exists():
        before, after = pd.Index(store.test_ids), pd.Index(competition.test["id"].to_numpy(object))
        parts = _named("new", after.difference(before)) + _named("gone", before.difference(after))
        if parts:
            found.append(
                f"The rows to predict differ from those that the models predicted: {'; '.join(parts)}. Run dfens "
                f"folds, then dfens train, which predicts them with the stored weights."
            )
    return found


def _split_groups(workspace: "Workspace", competition: "Competition") -> list[str]:
    """Return a sentence if folds that were made with other groups split the present groups; otherwise nothing."""
    how, train = workspace.config.folds.group, competition.train
    is_named = how.startswith("column:")
    if (how if is_named else "group") not in train:
        return []
    store = workspace.predictions
    place = pd.Series(store.folds.fold, store.folds.ids)
    place = pd.concat([place, pd.Series(-1, pd.Index(store.sealed_ids, dtype=object))])
    groups = column_groups_of(competition, how).names
    spread = place[train["id"].to_numpy(object)].groupby(groups).nunique()
    split = spread.index[spread > 1].tolist()
    if not split:
        return []
    setting = f'[folds] group = "{how}"' if is_named else f'[data] group = "{competition.group_column}"'
    return [
        f"{len(split)} of {len(spread)} groups of {setting} are split between folds or sealed rows, so validation rows "
        f"leak into training: {examples(split, 3)}. The folds were made with other groups: run dfens folds --force, "
        f"which moves trained models to the archive, and train again, or remove the setting."
    ]


def files_changed_since_training(workspace: "Workspace", competition: "Competition") -> list[str]:
    """Report folds that were trained with files whose names or sizes have changed since.

    A fold with a different number of files is not reported: in this case rows were added or removed, which
    `changes_since_folds` lists.
    """
    paths = competition.paths
    if not all(Path(path).exists() for path in paths):  # a missing file, which the check lists
        return []
    now = files_fingerprint(paths)
    changed = []
    for name in workspace.predictions.names():
        folds: list[str] = []
        details: dict[str, Any] = {}
        for fold in range(workspace.predictions.folds.k):
            path = workspace.history_path(name, fold)
            history = read_history(path) or {}
            then = history.get("data") or {}
            if then.get("files") == now["files"] and then != now:
                folds.append(str(fold))
                details = history
        if folds:
            changed.append(
                f"Names or sizes of files have changed since fold {examples(folds)} of '{name}' was trained. "
                f"Restore them, or train that model again ({train_command(name, details, '--force')})."
            )
    return changed


def _named(what: str, ids: "pd.Index[str]") -> list[str]:
    names = np.asarray(ids, object).tolist()
    return [f"{len(names)} {what} ({examples(names, 3)})"] if names else []
