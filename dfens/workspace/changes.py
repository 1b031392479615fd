"""What concerns several packages of a workspace: what depends on replaced folds, and how the data has changed."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from oof.errors import examples
from oof.files import archive, read_json
from trainers.runtime.provenance import files_fingerprint

if TYPE_CHECKING:
    from dfens.workspace.paths import Workspace
    from oof.store import PredictionStore
    from trainers.data.competition import Competition

_KEPT = ("archive", "cache", "clips")  # earlier things, and what is read from media, which no fold changes


def archive_dependents(work: Path) -> list[Path]:
    """Move checkpoints and blends of replaced folds into the archive of their package; return their new paths."""
    moved = []
    for folder in (work / "trainers", work / "ensemble"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_dir() and path.name not in _KEPT and not path.name.startswith("."):
                moved.append(archive(path, folder / "archive"))
    return moved


def changes_since_folds(store: "PredictionStore", competition: "Competition") -> list[str]:
    """What the label file and the list of test rows say otherwise than when the folds were made; empty if nothing.

    Models are trained on the rows and labels of the folds, so a corrected label changes nothing
    until the folds are made again.

    Args:
        store: of the folds. competition: with the sealed rows among the training rows.
    """
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
            f"The training rows are not those of the folds: {'; '.join(parts)}. Restore them, or run dfens folds "
            f"--force, which moves what was trained to the archive, and train again."
        )
    if store.test_ids_path.exists():
        before, after = pd.Index(store.test_ids), pd.Index(competition.test["id"].to_numpy(object))
        parts = _named("new", after.difference(before)) + _named("gone", before.difference(after))
        if parts:
            found.append(
                f"The rows to predict are not those that the models predicted: {'; '.join(parts)}. Run dfens folds, "
                f"then dfens train, which predicts them with the weights that are there."
            )
    return found


def files_changed_since_training(workspace: "Workspace", competition: "Competition") -> list[str]:
    """Report folds that were trained with files of other names or sizes than those that are there now.

    A fold whose number of files differs is not reported: then rows were added or removed, which
    `changes_since_folds` lists by name.
    """
    paths = competition.paths
    if not all(Path(path).exists() for path in paths):  # a missing file, which the check reports by name
        return []
    now = files_fingerprint(paths)
    changed = []
    for name in workspace.predictions.names():
        folds = []
        for fold in range(workspace.predictions.folds.k):
            path = workspace.history_path(name, fold)
            then = read_json(path).get("data") if path.is_file() else None
            if isinstance(then, dict) and then.get("files") == now["files"] and then != now:
                folds.append(str(fold))
        if folds:
            changed.append(
                f"The files have other names or sizes than when fold {examples(folds)} of '{name}' was trained. "
                f"Restore them, or train that model again (dfens train --model {name} --force)."
            )
    return changed


def _named(what: str, ids: "pd.Index[str]") -> list[str]:
    names = np.asarray(ids, object).tolist()
    return [f"{len(names)} {what} ({examples(names, 3)})"] if names else []
