"""Groupings of rows as text."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.groups import Groupings


def grouping_notes(found: "Groupings") -> Iterator[str]:
    """List the groupings for which there are no folds."""
    yield from (f"{item.group}: {item.problem}" for item in found.groupings if item.problem)


def show_groupings(found: "Groupings") -> "Iterator[FittedTable | str]":
    """Show the groups and the baseline's score for each grouping."""
    rows = [dataclasses.asdict(item) for item in found.groupings]
    for row in rows:
        del row["problem"]
    yield make_table(
        rows,
        title="Out-of-fold AUC of the linear baseline for each grouping",
        decimals=4,
        optional=["rows_not_alone", "largest"],
    )
    yield (
        "Near-duplicates in different folds, or kinds of images on both sides, inflate scores: choose "
        "with [folds] group."
    )
    yield "Next: dfens folds"
