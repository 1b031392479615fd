"""Folds as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.folds import NewFolds


def fold_notes(found: "NewFolds") -> Iterator[str]:
    """Describe what was moved to the archive."""
    yield from (f"Moved to {path}" for path in found.moved)
    if found.moved_test is not None:
        yield (
            f"The rows to predict have changed: the earlier test predictions are in {found.moved_test}. "
            f"dfens train predicts the new rows with the stored weights."
        )


def show_folds(found: "NewFolds") -> "Iterator[FittedTable | str]":
    """Show rows and balance of each fold."""
    yield make_table(found.folds, title=f"Folds of {found.rows} rows", percent=["positive_share"])
    if found.sealed:
        yield (
            f"{found.sealed} more rows are sealed: nothing is trained on them or scored with them until dfens unseal "
            f"scores one blend on them."
        )
    if found.note is not None:
        yield f"{found.note}."
    yield ", ".join(f"{key} {value}" for key, value in found.how.items())
    yield f"Written to {found.path}"
    yield f"Next: {found.next}"
