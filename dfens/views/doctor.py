"""What a machine can do, as a table."""

from collections.abc import Iterator

from dfens.views.tables import FittedTable, make_table
from dfens.workflows.doctor import Machine


def show_machine(found: Machine) -> Iterator[FittedTable]:
    """List the facts."""
    yield make_table([{"what": what, "found": fact} for what, fact in found.facts.items()])
