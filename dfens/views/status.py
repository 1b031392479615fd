"""The status of a project as text."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from dfens.values import duration
from dfens.views.blend import rows_of_scores
from dfens.views.tables import FittedTable, make_table
from dfens.workflows.progress import RunningWork, TimeLeft
from dfens.workflows.status import BlendStatus, Status, SubmissionStatus
from ensemble.summary import SCORE_OF


def show_status(found: Status) -> Iterator[FittedTable | str]:
    """Show what is running, models, blends, submissions, and the next command."""
    yield from (_running_line(work) for work in found.running)
    if found.models:
        rows = [{_renamed(key, found.metric): value for key, value in vars(row).items()} for row in found.models]
        yield make_table(rows, title="Models", optional=["kind", "rows"])
    if found.blends:
        yield from _show_blends(found.blends)
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


def _show_blends(blends: Sequence[BlendStatus]) -> Iterator[FittedTable | str]:
    """Show a table whose headings name the rows of the scores, and the blends for which no weights were fitted."""
    plain = [blend for blend in blends if blend.score_of != SCORE_OF]
    heading = "score_on_all_rows" if plain else "score_on_the_rows_fitted"
    rows = []
    for blend in blends:
        row: dict[str, Any] = dataclasses.asdict(blend)
        del row["score_of"], row["nested_score_of"]
        rows.append({heading if column == "score" else column: value for column, value in row.items()})
    yield make_table(rows, title="Blends", optional=["metric"])
    yield from (rows_of_scores(blend.blend, blend.score_of, blend.nested_score_of) for blend in plain)


def _renamed(column: str, metric: str) -> str:
    return f"OOF_{metric}" if column == "oof_score" else column
