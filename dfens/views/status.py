"""The status of a project as text."""

import dataclasses
from collections.abc import Iterator

from dfens.views.tables import FittedTable, make_table
from dfens.workflows.status import Status


def show_status(found: Status) -> Iterator[FittedTable | str]:
    """Show models, blends, facts and the next command."""
    if found.models:
        rows = [{_renamed(key, found.metric): value for key, value in vars(row).items()} for row in found.models]
        yield make_table(rows, title="Models", optional=["kind", "rows"])
    if found.blends:
        yield make_table([dataclasses.asdict(row) for row in found.blends], title="Blends", optional=["metric"])
    yield from found.facts
    yield f"Next: {found.next}"


def _renamed(column: str, metric: str) -> str:
    return f"OOF_{metric}" if column == "oof_score" else column
