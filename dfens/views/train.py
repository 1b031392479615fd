"""Trained folds as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.train import TrainResult


def show_training(found: "TrainResult") -> "Iterator[FittedTable | str]":
    """Show the AUC of each fold, by seed where there are several, and the next command."""
    rows: dict[str, dict[str, Any]] = {}
    for fold in found.folds:
        name = f"{fold.model} seed {fold.seed}" if fold.seed else fold.model
        if not fold.refit:
            rows.setdefault(name, {"model": name})[f"fold_{fold.fold}"] = fold.auc
    for row in rows.values():
        scores = [value for name, value in row.items() if name != "model"]
        row["mean"] = sum(scores) / len(scores)
    names = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name.startswith("fold")]
    yield make_table(list(rows.values()), title="AUC on the held-out rows", decimals=4, optional=names)
    for name, weight in found.refit_weights.items():
        yield refit_note(name, weight, trained=any(fold.refit and fold.model == name for fold in found.folds))
    trained = len(found.folds) - found.skipped
    folds = "1 fold" if trained == 1 else f"{trained} folds"
    yield f"{folds} trained, {found.skipped} skipped, since they were trained before."
    yield f"Next: {found.next}"


def refit_note(name: str, weight: float, *, trained: bool = True) -> str:
    """Say what the scores of a model with a refit are scores of."""
    if not trained:
        return f"{name}: the refit on all rows is trained once all folds are; its scores are those of the fold models."
    share = "are those" if weight == 1 else f"contain a share of {weight:.0%}"
    return f"{name}: its test predictions {share} of a refit on all rows; its scores are those of the fold models."
