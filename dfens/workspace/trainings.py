"""What trainings have recorded about themselves in their history.json."""

from collections.abc import Sequence
from typing import Any

from dfens.workspace.paths import Workspace
from trainers.kinds.records import read_history


def fold_histories(workspace: Workspace, model: str, folds: Sequence[int], seed: int = 0) -> dict[int, dict[str, Any]]:
    """Return fold -> history.json of those trainings of one seed that have finished; empty for imported models.

    Raises:
        StoreError: if a file is damaged.
    """
    found = {fold: read_history(workspace.history_path(model, fold, seed)) for fold in folds}
    return {fold: history for fold, history in found.items() if history is not None}


def repeat_histories(workspace: Workspace, model: str, folds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the history.json of all finished trainings of further seeds, and of the refits on all rows.

    Raises:
        StoreError: if a file is damaged.
    """
    found: list[dict[str, Any]] = []
    for seed in range(workspace.seed_count(model)):
        if seed:
            found += fold_histories(workspace, model, folds, seed).values()
        refit = read_history(workspace.refit_history_path(model, seed))
        if refit is not None:
            found.append(refit)
    return found


def network_parameters(workspace: Workspace, model: str, folds: Sequence[int]) -> int:
    """Return the number of parameters of a model: those of one network, times the number of its seeds.

    The networks of the folds count once, since a refit on all rows can replace them. Imported models and those that are
    not networks have none.

    Raises:
        StoreError: if a history.json is damaged.
    """
    histories = fold_histories(workspace, model, folds).values()
    return max((int(item.get("parameters") or 0) for item in histories), default=0) * workspace.seed_count(model)
