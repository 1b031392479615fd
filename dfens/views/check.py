"""A data check as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.check import DataCheck
    from trainers.data.check import PartCounts

_NAMED_IN_MESSAGE = 5  # a problem's message names so many items; the full list is in a file


def show_check(found: "DataCheck") -> "Iterator[FittedTable | str]":
    """Show counts, problems, and what to do next."""
    report = found.report
    yield make_table(
        [_part_row(part) for part in report.parts],
        percent=["fake_share"],
        decimals=1,
        optional=["fake_share", "unreadable", "MB", "decoded", "sizes"],
    )
    for problem in report.problems:
        where = report.lists.get(f"{problem.part}-{problem.kind}")
        more = f" All: {where}" if where is not None and len(problem.items) > _NAMED_IN_MESSAGE else ""
        yield f"{'Error' if problem.is_error else 'Warning'}: {problem.found} {problem.remedy}{more}"
    yield from (f"Warning: {change}" for change in found.changes)
    yield from (f"Note: {note}" for note in report.notes)
    if report.left_out:
        yield f"Left out of training: {len(report.left_out)} rows, listed in {report.lists['left-out']}"
    if found.next is None:
        yield "Training would go wrong: correct the errors, then run dfens check again."
    else:
        yield f"Next: {found.next}"


def _part_row(part: "PartCounts") -> dict[str, object]:
    sizes = ", ".join(f"{size}: {count}" for size, count in part.sizes.items())
    further = part.distinct_sizes - len(part.sizes)
    return {
        "part": part.part,
        "rows": part.rows,
        "real": part.real,
        "fake": part.fake,
        "fake_share": None if part.fake is None else part.fake / max(1, part.rows),
        "MB": part.files_mb,
        "decoded": part.decoded,
        "unreadable": part.unreadable,
        "sizes": f"{sizes} and {further} more" if further > 0 else sizes,
    }
