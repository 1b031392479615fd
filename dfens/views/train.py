"""Trained folds as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.train import TrainResult


def show_training(found: "TrainResult") -> "Iterator[FittedTable | str]":
    """Show the AUC of each fold and the next command."""
    rows: dict[str, dict[str, Any]] = {}
    for fold in found.folds:
        rows.setdefault(fold.model, {"model": fold.model})[f"fold_{fold.fold}"] = fold.auc
    for row in rows.values():
        scores = [value for name, value in row.items() if name != "model"]
        row["mean"] = sum(scores) / len(scores)
    names = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if name.startswith("fold")]
    yield make_table(list(rows.values()), title="AUC on the held-out rows", decimals=4, optional=names)
    yield f"{len(found.folds) - found.skipped} folds trained, {found.skipped} skipped, since they were trained before."
    yield f"Next: {found.next}"
