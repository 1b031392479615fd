"""The result of the demo as text."""

import dataclasses
import shlex
from collections.abc import Iterator

from dfens.views.tables import FittedTable, make_table
from dfens.workflows.demo import DemoResult


def show_demo(found: DemoResult) -> Iterator[FittedTable | str]:
    """Show the scores next to the true ones."""
    rows = [dataclasses.asdict(score) for score in found.scores]
    yield ""
    yield make_table(
        rows, title="Scores, and the true test scores that only the demo knows", decimals=4, bold=len(rows) - 1
    )
    yield "oof auc of the blend: on the rows on which its weights were fitted; nested auc: on rows they have not seen."
    if found.by_forgery:
        kinds = [{"model": score.model, **score.auc_by_forgery} for score in found.by_forgery]
        yield ""
        yield make_table(kinds, title="Test AUC by kind of forgery", decimals=4, bold=len(kinds) - 1)
    yield f"Submission file: {found.submission}"
    yield f"Done in {found.seconds:.0f} s. Next: dfens -C {shlex.quote(str(found.folder))} status"
