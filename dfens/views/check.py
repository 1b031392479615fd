"""A data check as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.leaks import LeakTable
from dfens.views.tables import make_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dfens.workflows.check import DataCheck
    from trainers.data.check import PartCounts
    from trainers.data.check_clips import ClipCounts

_NAMED_IN_MESSAGE = 5  # number of items in a problem's message; the full list is in a file


def show_check(found: "DataCheck", *, all_leaks: bool = False) -> "Iterator[RenderableType]":
    """Show counts, problems, leaks (all properties, or those that separate the classes), and what to do next."""
    report = found.report
    yield make_table(
        [_part_row(part) for part in report.parts],
        percent=["fake_share"],
        decimals=1,
        optional=["fake_share", "unreadable", "MB", "decoded", "sizes"],
    )
    clips = [(part.part, part.clips) for part in report.parts if part.clips is not None]
    if clips:
        yield make_table(
            [_clips_row(name, counts) for name, counts in clips],
            decimals=1,
            optional=["rotated", "frame_rates", "formats", "longest_s", "shortest_s"],
        )
    if report.leaks is not None and (all_leaks or report.leaks.leaks):
        yield LeakTable(report.leaks, with_clean=all_leaks)
    for problem in report.problems:
        where = report.lists.get(f"{problem.part}-{problem.kind}")
        more = f" All: {where}" if where is not None and len(problem.items) > _NAMED_IN_MESSAGE else ""
        yield f"{'Error' if problem.is_error else 'Warning'}: {problem.found} {problem.remedy}{more}"
    yield from (f"Warning: {change}" for change in found.changes)
    yield from (f"Warning: {broken}" for broken in found.rules)
    yield from (f"Note: {note}" for note in report.notes)
    if report.left_out:
        yield f"Left out of training: {len(report.left_out)} rows, listed in {report.lists['left-out']}"
    if found.next is None:
        yield "Training would go wrong: correct the errors, then run dfens check again."
    else:
        yield f"Next: {found.next}"


def _clips_row(part: str, counts: "ClipCounts") -> dict[str, object]:
    return {
        "part": part,
        "minutes": counts.seconds / 60,
        "shortest_s": counts.shortest_s,
        "longest_s": counts.longest_s,
        "without_sound": counts.without_sound,
        "silent": counts.silent,
        "rotated": counts.rotated,
        "formats": ", ".join(f"{name}: {count}" for name, count in counts.formats.items()),
        "frame_rates": ", ".join(f"{rate}/s: {count}" for rate, count in counts.frame_rates.items()),
    }


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
