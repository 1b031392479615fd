"""The status of a project as text."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from dfens.values import duration
from dfens.views.tables import FittedTable, make_table
from dfens.workflows.progress import RunningWork, TimeLeft
from dfens.workflows.status import BlendStatus, Status, SubmissionStatus


def show_status(found: Status) -> Iterator[FittedTable | str]:
    """Show what is running, models, blends, submissions, and the next command."""
    yield from (_running_line(work) for work in found.running)
    if found.models:
        rows = [{_renamed(key, found.metric): value for key, value in vars(row).items()} for row in found.models]
        yield make_table(rows, title="Models", optional=["kind", "rows"])
    if found.blends:
        yield make_table([_blend_row(row) for row in found.blends], title="Blends", optional=["metric"])
    yield from found.facts
    if found.left is not None and found.models:
        yield _left_line(found.left)
    if found.submissions is not None:
        yield _submission_line(found.submissions)
    yield f"Next: {found.next}"


def _running_line(work: RunningWork) -> str:
    name = f"{work.model} seed {work.seed}" if work.seed else work.model
    what = f"predicting test rows by {name}"
    if work.fold is not None:
        what = f"training {name} {'refit' if work.refit else f'fold {work.fold}'}"
    left = "" if work.left_s is None else f", about {duration(work.left_s)} left"
    return f"Now: {what}, for {duration(work.elapsed_s)}{left}"


def _left_line(left: TimeLeft) -> str:
    known = left.folds - left.unknown
    text = f"{left.folds} folds are not trained yet"
    if known:
        text += f"; about {duration(left.seconds)} for {'them' if not left.unknown else f'{known} of them'}"
    return text + ", estimated from those that are." if known else text + "."


def _submission_line(found: SubmissionStatus) -> str:
    limit = "" if found.per_day is None else f" of {found.per_day}"
    text = f"{found.made} submissions, {found.today}{limit} today"
    if found.pending:
        text += f", {found.pending} without a score yet (dfens submissions sync)"
    if found.best_public is not None:
        text += f"; best public score {found.best_public:.5f} ({found.best})"
    return text + "."


def _blend_row(blend: BlendStatus) -> dict[str, Any]:
    """Return a row of the table, whose headings name the rows of the scores."""
    row = dataclasses.asdict(blend)
    del row["score_of"], row["nested_score_of"]
    return {"score_on_the_rows_fitted" if column == "score" else column: value for column, value in row.items()}


def _renamed(column: str, metric: str) -> str:
    return f"OOF_{metric}" if column == "oof_score" else column
