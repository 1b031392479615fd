"""The choice of the final submissions as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dfens.views.tables import FittedTable, make_table

if TYPE_CHECKING:
    from dfens.workflows.finals import FinalsChoice
    from submissions.finals.select import Selection

_PAIRS_SHOWN = 10


def show_finals(found: "FinalsChoice") -> "Iterator[FittedTable | str]":
    """Show candidates, pairs and the recommendation."""
    selection = found.selection
    yield _candidate_table(selection)
    yield _pair_table(selection)
    best = selection.best
    yield f"Recommended: {best.first}  and  {best.second}."
    yield (
        f"Simulated: {selection.draws} test sets, {found.public_share:.0%} public, {selection.positive_share:.1%} "
        f"positive. According to the public scores, the test rows have {1 + selection.shift_variance:.1f} "
        f"times the variance of another training set."
    )
    if {best.first, best.second} == set(selection.baseline):
        yield "This is also the pair of best public score and best CV."
    else:
        yield (
            f"It beats the pair of best public score and best CV with probability {best.beats:.0%} "
            f"(equal {best.even:.0%}); expected gain {best.gain:+.5f}, simulation error {best.gain_error:.5f}."
        )
    rivals = [
        pair for pair in selection.pairs[1:] if abs(pair.gain - best.gain) < 2 * max(best.gain_error, pair.gain_error)
    ]
    if rivals:
        yield (
            f"{len(rivals)} other pairs are within twice the simulation error: --draws {10 * selection.draws} "
            f"separates them."
        )
    yield f"Select them on Kaggle's web page, which dfens cannot do for you: {found.link}"
    yield from map(str, found.plots)


def _candidate_table(selection: "Selection") -> FittedTable:
    rows = [
        {
            "submission": item.name,
            "CV": item.cv,
            "public": item.public,
            "private, expected": item.private,
            "±": item.private_deviation,
            "best of all": item.best_share,
        }
        for item in sorted(selection.candidates, key=lambda item: -item.private)
    ]
    return make_table(rows, title="Candidates", percent=["best of all"], optional=["±", "CV"])


def _pair_table(selection: "Selection") -> FittedTable:
    pairs = list(selection.pairs[:_PAIRS_SHOWN])
    base = next(pair for pair in selection.pairs if {pair.first, pair.second} == set(selection.baseline))
    if base not in pairs:
        pairs.append(base)
    rows = [
        {
            "pair": f"{pair.first}  +  {pair.second}",
            "best of two, expected": pair.expected,
            "simulation error": pair.error,
            "gain": pair.gain,
            "gain error": pair.gain_error,
            "better": pair.beats,
            "equal": pair.even,
        }
        for pair in pairs
    ]
    title = f"Pairs, against best public + best CV ({'  +  '.join(selection.baseline)})"
    return make_table(
        rows,
        title=title,
        percent=["better", "equal"],
        bold=0,
        optional=["gain", "better", "gain error", "equal", "simulation error"],
    )
